//! Events and lines.

use std::collections::BTreeMap;

use super::{
    deliver, deliver_in_two_ways, demand, expect,
    reader::{Texts, read, skeleton},
    shown,
    writer::{Case, Framing, Key, Shape, case},
};
use crate::scan::{
    Action, StreamFormat, StreamScanner, StreamStop,
    block::BlockScanner,
    body::MARKER,
    testing::{Set, prove},
};

const CASES: u32 = 100_000;

/// Events of a stream at most.
pub(super) const SIZE: usize = 6;

fn format(framing: Framing) -> StreamFormat {
    match framing {
        Framing::Events => StreamFormat::Events,
        Framing::Lines => StreamFormat::Lines,
        Framing::Messages => panic!("a stream of messages has no bytes"),
    }
}

fn is_harmful(set: &Set, texts: &Texts) -> bool {
    let all = texts.joined.values().chain(&texts.alone).chain(&texts.comments);
    all.into_iter().any(|text| set.union.is_match(text.as_bytes()))
}

fn units(texts: &Texts) -> u64 {
    texts.joined.values().map(|text| text.encode_utf16().count() as u64).sum()
}

/// No leak, clean is identity, cuts make no difference.
pub(super) fn blocks_exactly(case: &Case) -> Result<(), String> {
    let stream = case.stream();
    let asked = case.set.asked(Action::Block);
    let outcome = deliver_in_two_ways(&asked, format(case.framing), &stream, &case.sending)?;
    let all = read(case.framing, case.shape, &stream)?;
    let harmful = is_harmful(case.set, &all);
    expect("the verdict", outcome.stop, harmful.then_some(StreamStop::Blocked))?;
    if !harmful {
        expect("a clean stream", shown(&outcome.out), shown(&stream))?;
    }
    demand(stream.starts_with(&outcome.out), || format!("{:?} is no part of the stream", shown(&outcome.out)))?;
    let left = read(case.framing, case.shape, &outcome.out)?;
    expect("the units", outcome.chars, units(&left))?;
    for (key, left) in &left.joined {
        // The leftmost match is the one that begins first of all matches.
        if let Some(first) = case.set.union.find(all.joined[key].as_bytes()) {
            demand(left.len() <= first.start(), || format!("{left:?} left, and {first:?} begins in it"))?;
        }
    }
    let whole = left.alone.iter().chain(&left.comments);
    demand(whole.into_iter().all(|text| !case.set.union.is_match(text.as_bytes())), || "a string left whole".into())
}

/// Minimal hold: after every event, all those have left that wait for nothing.
fn holds_no_longer_than_it_must(case: &Case) -> Result<(), String> {
    let asked = case.set.asked(Action::Block);
    let program = case.set.compiled.block();
    let mut scanner = StreamScanner::new(asked, format(case.framing), None);
    let mut texts = BTreeMap::<Key, (BlockScanner, u64)>::new();
    // Per frame: its length, and how far each of its texts must be decided.
    let mut waiting = Vec::<(usize, Vec<(Key, u64)>)>::new();
    let (mut out, mut left) = (Vec::new(), 0);
    for (i, event) in case.events.iter().enumerate() {
        scanner.feed(event.written_before.as_bytes(), &mut out);
        scanner.feed(event.written.as_bytes(), &mut out);
        let terminated = match case.framing {
            Framing::Events => i + 1 < case.events.len() || is_terminated(&event.written),
            Framing::Lines | Framing::Messages => event.written.ends_with('\n'),
        };
        if scanner.stop().is_some() {
            return Ok(());
        }
        waiting.push((event.written_before.len(), Vec::new()));
        if terminated {
            let mut ends = Vec::new();
            for (key, text) in &event.pieces {
                let (scanner, len) = texts.entry(*key).or_insert_with(|| (BlockScanner::new(program, u64::MAX), 0));
                scanner.feed(program, text.as_bytes());
                *len += text.len() as u64;
                ends.push((*key, *len));
            }
            waiting.push((event.written.len(), ends));
        }
        while let Some((len, ends)) = waiting.first() {
            if ends.iter().any(|(key, end)| *end > texts[key].0.frontier()) {
                break;
            }
            left += len;
            waiting.remove(0);
        }
        expect("the bytes that have left", out.len(), left)?;
    }
    Ok(())
}

fn is_terminated(event: &str) -> bool {
    let lines = event.replace("\r\n", "\n").replace('\r', "\n");
    lines.ends_with("\n\n")
}

/// Redaction is `replace_all` of every text, and touches nothing else.
pub(super) fn redacts_exactly(case: &Case) -> Result<(), String> {
    if case.set.cuts_characters() {
        // Single bytes are cut as the whole character, which `replace_all` does not.
        return Ok(());
    }
    let stream = case.stream();
    let asked = case.set.asked(Action::Redact);
    let outcome = deliver_in_two_ways(&asked, format(case.framing), &stream, &case.sending)?;
    let union = &case.set.union;
    let replaced = |text: &String| {
        String::from_utf8(union.replace_all(text.as_bytes(), MARKER.as_bytes()).into_owned()).expect("whole characters")
    };
    let all = read(case.framing, case.shape, &stream)?;
    let mut expected = Texts {
        joined: all.joined.iter().map(|(key, text)| (*key, replaced(text))).collect(),
        alone: all.alone.iter().map(replaced).collect(),
        comments: all.comments,
        rest: all.rest,
    };
    // A comment has no place for a marker, and a match that forms anew is not cut out.
    let stops = is_harmful(case.set, &expected);
    expect("the verdict", outcome.stop, stops.then_some(StreamStop::Blocked))?;
    let mut left = read(case.framing, case.shape, &outcome.out)?;
    if case.shape == Shape::Plain {
        // A match that goes on over the end of a line takes what stands between the lines with it.
        let between = |comment: &String| comment != ": inside";
        expected.comments.retain(between);
        left.comments.retain(between);
    }
    if stops {
        let begins = |(key, text): (&Key, &String)| expected.joined[key].starts_with(text);
        return demand(left.joined.iter().all(begins), || format!("{left:?} is not the beginning of {expected:?}"));
    }
    expect("the texts that left", &left, &expected)?;
    if case.shape != Shape::Plain {
        expect("all but the texts", shown(&skeleton(&outcome.out)), shown(&skeleton(&stream)))?;
    }
    let untouched = outcome.hits.is_empty();
    demand(!untouched || outcome.out == stream, || "a stream without hits was changed".into())
}

/// What is observed is the stream as it came, at once.
fn observes_without_a_trace(case: &Case) -> Result<(), String> {
    let stream = case.stream();
    let outcome = deliver(&case.set.asked(Action::Observe), format(case.framing), stream.chunks(1));
    expect("an observed stream", shown(&outcome.out), shown(&stream))?;
    demand(outcome.left.iter().enumerate().all(|(i, left)| *left == i + 1), || "a byte waited".into())?;
    let texts = read(case.framing, case.shape, &stream)?;
    for (rule, regex) in case.set.each.iter().enumerate() {
        let all = texts.joined.values().chain(&texts.alone).chain(&texts.comments);
        let matches = all.into_iter().any(|text| regex.is_match(text.as_bytes()));
        expect("whether a rule was counted", outcome.hits.iter().any(|hit| hit.0 == rule), matches)?;
    }
    Ok(())
}

#[test]
fn of_events_no_byte_of_a_match_leaves() {
    prove(CASES, SIZE, |random, size| case(Framing::Events, random, size), blocks_exactly);
}

#[test]
fn of_lines_no_byte_of_a_match_leaves() {
    prove(CASES, SIZE, |random, size| case(Framing::Lines, random, size), blocks_exactly);
}

#[test]
fn events_wait_only_for_what_may_become_a_match() {
    prove(CASES, SIZE, |random, size| case(Framing::Events, random, size), holds_no_longer_than_it_must);
}

#[test]
fn lines_wait_only_for_what_may_become_a_match() {
    prove(CASES, SIZE, |random, size| case(Framing::Lines, random, size), holds_no_longer_than_it_must);
}

#[test]
fn events_are_redacted_text_by_text() {
    prove(CASES, SIZE, |random, size| case(Framing::Events, random, size), redacts_exactly);
}

#[test]
fn lines_are_redacted_text_by_text() {
    prove(CASES, SIZE, |random, size| case(Framing::Lines, random, size), redacts_exactly);
}

#[test]
fn observed_streams_pass_as_they_came() {
    prove(CASES / 2, SIZE, |random, size| case(Framing::Events, random, size), observes_without_a_trace);
    prove(CASES / 2, SIZE, |random, size| case(Framing::Lines, random, size), observes_without_a_trace);
}
