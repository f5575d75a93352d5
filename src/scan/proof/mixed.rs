//! Rules with actions and views of their own in one list.
//!
//! Held against the regex crate rule by rule: what blocks reads the text as it came and as it leaves, what is replaced
//! is replaced as if nothing else stood there, and what observes is counted and changes nothing.

use bytes::Bytes;

use super::{
    Outcome, deliver, demand, expect,
    reader::{Texts, read, read_one},
    rules::{Lists, Mixed, PLAIN, VIEWED},
    shown,
    writer::{Case, Framing, Shape, case_of, text},
};
use crate::scan::{
    Action, Joining, MessageKind, Messages, StreamFormat, StreamScanner, StreamStop, TextFormat, Verdict, inspect,
    testing::{Random, prove},
};

const CASES: u32 = 100_000;

/// Sends a body byte by byte, and once more cut by chance, and demands that nobody can tell.
fn in_two_ways(mixed: &Mixed, format: StreamFormat, body: &[u8], cuts: &[usize]) -> Result<Outcome, String> {
    let by_bytes = deliver(&mixed.asked(), format, body.chunks(1));
    let cut = deliver(&mixed.asked(), format, crate::scan::testing::chunks(body, cuts).into_iter());
    expect("what left of a body in chunks", shown(&cut.out), shown(&by_bytes.out))?;
    expect("the verdict of a body in chunks", (cut.stop, cut.chars), (by_bytes.stop, by_bytes.chars))?;
    // What observes reads all that came, and more comes at once in larger chunks.
    let acting = |outcome: &Outcome| -> Vec<(usize, u64)> {
        let seen = |&(rule, _): &(usize, u64)| outcome.stop.is_none() || mixed.action(rule) != Action::Observe;
        outcome.hits.iter().copied().filter(seen).collect()
    };
    expect("the hits of a body in chunks", acting(&cut), acting(&by_bytes))?;
    Ok(by_bytes)
}

fn texts_are_judged_rule_by_rule(of: Lists) {
    let make =
        |random: &mut Random, size| (random.pick(of.lists), text(of.words, random, size), super::lengths(random));
    prove(CASES, 24, make, |(mixed, text, cuts)| {
        let body = text.as_bytes();
        let outcome = in_two_ways(mixed, StreamFormat::Text, body, cuts)?;
        let replaced = mixed.replaced(body);
        let stops = mixed.blocks(body) || mixed.acts(&replaced);
        expect("the verdict", outcome.stop, stops.then_some(StreamStop::Blocked))?;
        if stops {
            let most = mixed.before_block(body);
            demand(most.starts_with(&outcome.out), || {
                format!("{:?} left, {:?} may", shown(&outcome.out), shown(&most))
            })?;
            return demand(outcome.out.len() <= mixed.before_anew(&replaced), || {
                format!("{:?} left of {:?}", shown(&outcome.out), shown(&replaced))
            });
        }
        expect("the text that left", shown(&outcome.out), shown(&replaced))?;
        mixed.counts(&outcome, [text].into_iter())
    });
}

#[test]
fn a_text_is_blocked_cut_and_observed_by_rules_of_one_list() {
    texts_are_judged_rule_by_rule(PLAIN);
}

#[test]
fn a_text_is_blocked_cut_and_observed_through_views() {
    texts_are_judged_rule_by_rule(VIEWED);
}

fn held_texts_are_judged_as_streamed_ones(of: Lists) {
    // Of what is held, escapes are read even where no view was asked for.
    let words: Vec<&str> = of.words.iter().filter(|word| !word.contains('\\')).copied().collect();
    let make = |random: &mut Random, size| (random.pick(of.lists), text(&words, random, size));
    prove(CASES, 24, make, |(mixed, text)| {
        if mixed.cuts_characters() {
            return Ok(());
        }
        let body = Bytes::copy_from_slice(text.as_bytes());
        let report = inspect(&body, TextFormat::Text, &mixed.inspection(mixed.mode));
        let replaced = mixed.replaced(&body);
        let all = mixed.matching(&body);
        let observed: Vec<usize> = all.iter().copied().filter(|&rule| mixed.action(rule) == Action::Observe).collect();
        let expected = match () {
            () if mixed.blocks(&body) || mixed.acts(&replaced) => Verdict::Blocked,
            () if replaced != body => Verdict::Rewritten(replaced.into()),
            () if !observed.is_empty() => Verdict::Observed,
            () => Verdict::Clean,
        };
        expect("the verdict", report.verdict, expected)?;
        let counted = report.hits.iter().map(|hit| hit.rule).filter(|&rule| mixed.action(rule) == Action::Observe);
        expect("the rules that were counted", counted.collect(), observed)?;
        // Run as `observe`, all of them only observe.
        let report = inspect(&body, TextFormat::Text, &mixed.inspection(Action::Observe));
        let found: Vec<usize> = report.hits.iter().map(|hit| hit.rule).collect();
        expect("the rules that were observed", found, all)?;
        demand(matches!(report.verdict, Verdict::Clean | Verdict::Observed), || format!("{:?}", report.verdict))
    });
}

#[test]
fn a_held_text_is_judged_as_a_streamed_one() {
    held_texts_are_judged_as_streamed_ones(PLAIN);
}

#[test]
fn a_held_text_is_judged_as_a_streamed_one_through_views() {
    held_texts_are_judged_as_streamed_ones(VIEWED);
}

fn every(texts: &Texts) -> impl Iterator<Item = &String> + Clone {
    texts.joined.values().chain(&texts.alone).chain(&texts.comments)
}

/// What must have left of a stream, by what was sent and what was received.
fn judge(mixed: &Mixed, shape: Shape, all: &Texts, mut left: Texts, outcome: &Outcome) -> Result<(), String> {
    let replaced = |text: &String| shown(&mixed.replaced(text.as_bytes()));
    let mut expected = Texts {
        joined: all.joined.iter().map(|(key, text)| (*key, replaced(text))).collect(),
        alone: all.alone.iter().map(replaced).collect(),
        comments: all.comments.clone(),
        rest: all.rest.clone(),
    };
    let stops = every(all).any(|text| mixed.blocks(text.as_bytes()))
        || every(&expected).any(|text| mixed.acts(text.as_bytes()));
    expect("the verdict", outcome.stop, stops.then_some(StreamStop::Blocked))?;
    if stops {
        for (key, left) in &left.joined {
            let most = mixed.before_block(all.joined[key].as_bytes());
            demand(most.starts_with(left.as_bytes()), || format!("{left:?} left, {:?} may", shown(&most)))?;
        }
        return demand(left.alone.iter().all(|text| !mixed.acts(text.as_bytes())), || "a string left whole".into());
    }
    if shape == Shape::Plain {
        // A match that goes on over the end of a line takes what stands between the lines with it.
        let between = |comment: &String| comment != ": inside";
        expected.comments.retain(between);
        left.comments.retain(between);
    }
    expect("the texts that left", left, expected)?;
    mixed.counts(outcome, every(all))
}

fn streams_are_judged_rule_by_rule(of: Lists, framing: Framing) {
    let make = |random: &mut Random, size| (random.pick(of.lists), case_of(of.words, framing, random, size));
    prove(CASES, 6, make, |(mixed, case)| {
        if mixed.cuts_characters() {
            return Ok(());
        }
        let stream = case.stream();
        let format = if framing == Framing::Events { StreamFormat::Events } else { StreamFormat::Lines };
        let outcome = in_two_ways(mixed, format, &stream, &case.sending.cuts)?;
        let all = read(framing, case.shape, &stream)?;
        let left = read(framing, case.shape, &outcome.out)?;
        judge(mixed, case.shape, &all, left, &outcome)?;
        let acted = outcome.hits.iter().any(|hit| mixed.action(hit.0) != Action::Observe);
        demand(acted || outcome.out == stream, || "a stream that is only observed was changed".into())
    });
}

#[test]
fn events_are_blocked_cut_and_observed_by_rules_of_one_list() {
    streams_are_judged_rule_by_rule(PLAIN, Framing::Events);
}

#[test]
fn lines_are_blocked_cut_and_observed_by_rules_of_one_list() {
    streams_are_judged_rule_by_rule(PLAIN, Framing::Lines);
}

#[test]
fn events_are_blocked_cut_and_observed_through_views() {
    streams_are_judged_rule_by_rule(VIEWED, Framing::Events);
}

#[test]
fn lines_are_blocked_cut_and_observed_through_views() {
    streams_are_judged_rule_by_rule(VIEWED, Framing::Lines);
}

/// What nobody reads, and passes in its place.
const BINARY: &[u8] = b"\xFFQXZ";

/// Sends messages, each behind as many binary ones as `binary` says, and tells what left.
fn converse(mixed: &Mixed, joining: Joining, case: &Case) -> (Messages, Outcome) {
    let mut scanner = StreamScanner::of_messages(mixed.asked(), joining, None);
    let (mut out, mut left) = (Messages::default(), Vec::new());
    for event in &case.events {
        scanner.message(MessageKind::Text, event.written.as_bytes(), &mut out);
        scanner.message(MessageKind::Binary, BINARY, &mut out);
        left.push(out.iter().count());
    }
    scanner.end_messages(&mut out);
    let hits = scanner.hits().iter().map(|hit| (hit.rule, hit.count)).collect();
    let outcome = Outcome { out: Vec::new(), left, stop: scanner.stop(), hits, chars: scanner.chars() };
    (out, outcome)
}

/// The messages that left, without what nobody reads.
fn spoken(out: &Messages) -> Result<Vec<&str>, String> {
    let mut spoken = Vec::new();
    for (at, (kind, message)) in out.iter().enumerate() {
        match kind {
            MessageKind::Text => spoken.push(std::str::from_utf8(message).map_err(|_| "what left is no UTF-8")?),
            MessageKind::Binary => expect("a binary message", message, BINARY)?,
        }
        expect("the order of messages", kind == MessageKind::Binary, at % 2 == 1)?;
    }
    Ok(spoken)
}

fn messages_are_judged_rule_by_rule(of: Lists) {
    let make = |random: &mut Random, size| (random.pick(of.lists), case_of(of.words, Framing::Messages, random, size));
    prove(CASES, 6, make, |(mixed, case)| {
        if mixed.cuts_characters() {
            return Ok(());
        }
        let (out, outcome) = converse(mixed, Joining::Joined, case);
        let left = spoken(&out)?;
        let (mut all, mut received) = (Texts::default(), Texts::default());
        case.events.iter().try_for_each(|event| read_one(case.shape, &event.written, &mut all))?;
        left.iter().try_for_each(|message| read_one(case.shape, message, &mut received))?;
        judge(mixed, case.shape, &all, received, &outcome)?;
        let acted = outcome.hits.iter().any(|hit| mixed.action(hit.0) != Action::Observe);
        let same = case.events.iter().map(|event| &*event.written).eq(left);
        demand(acted || same, || "messages that are only observed were changed".into())
    });
}

#[test]
fn messages_are_blocked_cut_and_observed_by_rules_of_one_list() {
    messages_are_judged_rule_by_rule(PLAIN);
}

#[test]
fn messages_are_blocked_cut_and_observed_through_views() {
    messages_are_judged_rule_by_rule(VIEWED);
}

#[test]
fn where_no_message_is_part_of_another_each_leaves_at_once_by_its_own_texts() {
    for of in [PLAIN, VIEWED] {
        let make =
            |random: &mut Random, size| (random.pick(of.lists), case_of(of.words, Framing::Messages, random, size));
        prove(CASES / 2, 6, make, |(mixed, case)| {
            if mixed.cuts_characters() {
                return Ok(());
            }
            let (out, outcome) = converse(mixed, Joining::Whole, case);
            let left = spoken(&out)?;
            let mut leaving = Vec::new();
            for event in &case.events {
                let mut texts = Texts::default();
                read_one(case.shape, &event.written, &mut texts)?;
                // Of the pieces of one text there is one in a message.
                if every(&texts).any(|text| mixed.stops(text.as_bytes())) {
                    break;
                }
                leaving.push(texts);
            }
            expect("the messages that left", left.len(), leaving.len())?;
            expect("the verdict", outcome.stop, (left.len() < case.events.len()).then_some(StreamStop::Blocked))?;
            for (i, (message, all)) in left.iter().zip(&leaving).enumerate() {
                expect("whether a message waited", outcome.left[i] > 2 * i, true)?;
                let mut texts = Texts::default();
                read_one(case.shape, message, &mut texts)?;
                let replaced = |text: &String| shown(&mixed.replaced(text.as_bytes()));
                let expected: Vec<String> = every(all).map(replaced).collect();
                expect("the texts of a message", every(&texts).cloned().collect(), expected)?;
                expect("all but the texts", &texts.rest, &all.rest)?;
            }
            Ok(())
        });
    }
}
