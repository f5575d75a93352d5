//! Rules with actions of their own in one list.
//!
//! Held against the regex crate rule by rule: what blocks reads the text as it came and as it leaves, what is replaced
//! is replaced as if nothing else stood there, and what observes is counted and changes nothing.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use regex::bytes::Regex;

use super::{
    Outcome, deliver, demand, expect,
    reader::{Texts, read},
    shown,
    writer::{self, Framing, Shape, case},
};
use crate::scan::{
    Action, BinaryParts, Inspection, Rule, RuleSet, StreamFormat, StreamRules, StreamStop, TextFormat, Verdict,
    body::MARKER,
    inspect,
    testing::{Random, SETS, prove, seed, union},
};

const CASES: u32 = 100_000;

/// Rules, each with an action, and what the regex crate makes of those of each kind.
struct Mixed {
    rules: Vec<(Rule, Action)>,
    mode: Action,
    compiled: Arc<RuleSet>,
    block: Option<Regex>,
    redact: Option<Regex>,
    acting: Option<Regex>,
    /// By rule.
    each: Vec<Regex>,
}

impl std::fmt::Debug for Mixed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.rules.iter().map(|(rule, action)| (&rule.pattern, action))).finish()
    }
}

impl Mixed {
    fn new(rules: Vec<(Rule, Action)>) -> Self {
        let of = |wanted: &[Action]| {
            let some: Vec<Rule> =
                rules.iter().filter(|(_, action)| wanted.contains(action)).map(|(rule, _)| rule.clone()).collect();
            (!some.is_empty()).then(|| union(&some))
        };
        let redact = of(&[Action::Redact]);
        let mode = if redact.is_some() { Action::Redact } else { Action::Block };
        Self {
            mode,
            compiled: Arc::new(RuleSet::compile_each(rules.clone(), mode).unwrap()),
            block: of(&[Action::Block]),
            acting: of(&[Action::Block, Action::Redact]),
            redact,
            each: rules.iter().map(|(rule, _)| union(std::slice::from_ref(rule))).collect(),
            rules,
        }
    }

    fn asked(&self) -> StreamRules {
        let rules = Arc::clone(&self.compiled);
        StreamRules { rules, action: self.mode, max_chars: None, max_body_chars: None, house: None }
    }

    fn blocks(&self, text: &[u8]) -> bool {
        self.block.as_ref().is_some_and(|regex| regex.is_match(text))
    }

    fn acts(&self, text: &[u8]) -> bool {
        self.acting.as_ref().is_some_and(|regex| regex.is_match(text))
    }

    fn replaced(&self, text: &[u8]) -> Vec<u8> {
        match &self.redact {
            Some(regex) => regex.replace_all(text, MARKER.as_bytes()).into_owned(),
            None => text.to_vec(),
        }
    }

    /// The most of a text that may leave: up to the first byte of a match that blocks, with what is cut out before it.
    fn before_block(&self, text: &[u8]) -> Vec<u8> {
        let end = self.block.as_ref().and_then(|regex| regex.find(text)).map_or(text.len(), |found| found.start());
        let cuts = self.redact.iter().flat_map(|regex| regex.find_iter(text)).map(|found| found.range());
        let (mut out, mut from) = (Vec::new(), 0);
        for cut in cuts.take_while(|cut| cut.end <= end) {
            out.extend_from_slice(&text[from..cut.start]);
            out.extend_from_slice(MARKER.as_bytes());
            from = cut.end;
        }
        out.extend_from_slice(&text[from..end]);
        out
    }

    /// Whether exactly those rules that observe were counted that match some text.
    fn counts(&self, outcome: &Outcome, texts: &[&[u8]]) -> Result<(), String> {
        for (rule, (_, action)) in self.rules.iter().enumerate() {
            if *action == Action::Observe {
                let matches = texts.iter().any(|text| self.each[rule].is_match(text));
                expect("whether a rule was counted", outcome.hits.iter().any(|hit| hit.0 == rule), matches)?;
            }
        }
        Ok(())
    }

    fn cuts_characters(&self) -> bool {
        self.rules.iter().any(|(rule, _)| rule.pattern.contains("\\x"))
    }
}

static MIXED: LazyLock<Vec<Mixed>> = LazyLock::new(|| {
    let random = &mut Random::new(seed());
    let actions = [Action::Block, Action::Redact, Action::Observe];
    let mixed = |rules: &[Rule], random: &mut Random| {
        Mixed::new(rules.iter().map(|rule| (rule.clone(), *random.pick(&actions))).collect())
    };
    SETS.iter().filter(|set| set.rules.len() > 1).map(|set| mixed(&set.rules, random)).collect()
});

/// Sends a body byte by byte, and once more cut by chance, and demands that nobody can tell.
fn in_two_ways(mixed: &Mixed, format: StreamFormat, body: &[u8], cuts: &[usize]) -> Result<Outcome, String> {
    let by_bytes = deliver(&mixed.asked(), format, body.chunks(1));
    let cut = deliver(&mixed.asked(), format, crate::scan::testing::chunks(body, cuts).into_iter());
    expect("what left of a body in chunks", shown(&cut.out), shown(&by_bytes.out))?;
    expect("the verdict of a body in chunks", (cut.stop, cut.chars), (by_bytes.stop, by_bytes.chars))?;
    // What observes reads all that came, and more comes at once in larger chunks.
    let acting = |outcome: &Outcome| -> Vec<(usize, u64)> {
        let seen = |&(rule, _): &(usize, u64)| outcome.stop.is_none() || mixed.rules[rule].1 != Action::Observe;
        outcome.hits.iter().copied().filter(seen).collect()
    };
    expect("the hits of a body in chunks", acting(&cut), acting(&by_bytes))?;
    Ok(by_bytes)
}

#[test]
fn a_text_is_blocked_cut_and_observed_by_rules_of_one_list() {
    let make = |random: &mut Random, size| (random.pick(&MIXED), writer::text(random, size), super::lengths(random));
    prove(CASES, 24, make, |(mixed, text, cuts)| {
        let text = text.as_bytes();
        let outcome = in_two_ways(mixed, StreamFormat::Text, text, cuts)?;
        let replaced = mixed.replaced(text);
        let stops = mixed.blocks(text) || mixed.acts(&replaced);
        expect("the verdict", outcome.stop, stops.then_some(StreamStop::Blocked))?;
        if stops {
            let most = mixed.before_block(text);
            demand(most.starts_with(&outcome.out), || {
                format!("{:?} left, {:?} may", shown(&outcome.out), shown(&most))
            })?;
            let formed =
                mixed.acting.as_ref().and_then(|regex| regex.find(&replaced)).map_or(replaced.len(), |m| m.start());
            return demand(outcome.out.len() <= formed, || {
                format!("{:?} left of {:?}", shown(&outcome.out), shown(&replaced))
            });
        }
        expect("the text that left", shown(&outcome.out), shown(&replaced))?;
        mixed.counts(&outcome, &[text])
    });
}

#[test]
fn a_held_text_is_judged_as_a_streamed_one() {
    let make = |random: &mut Random, size| (random.pick(&MIXED), writer::text(random, size));
    prove(CASES, 24, make, |(mixed, text)| {
        if mixed.cuts_characters() {
            return Ok(());
        }
        let body = Bytes::copy_from_slice(text.as_bytes());
        let what = |action| Inspection {
            rules: &mixed.compiled,
            action,
            max_chars: None,
            max_body_chars: None,
            binary_parts: BinaryParts::Pass,
        };
        let report = inspect(&body, TextFormat::Text, &what(mixed.mode));
        let replaced = mixed.replaced(&body);
        let observed = (0..mixed.rules.len())
            .any(|rule| mixed.rules[rule].1 == Action::Observe && mixed.each[rule].is_match(&body));
        let expected = match () {
            () if mixed.blocks(&body) || mixed.acts(&replaced) => Verdict::Blocked,
            () if replaced != body => Verdict::Rewritten(replaced.into()),
            () if observed => Verdict::Observed,
            () => Verdict::Clean,
        };
        expect("the verdict", report.verdict, expected)?;
        for (rule, regex) in mixed.each.iter().enumerate().filter(|(rule, _)| mixed.rules[*rule].1 == Action::Observe) {
            let counted = report.hits.iter().any(|hit| hit.rule == rule);
            expect("whether a rule was counted", counted, regex.is_match(&body))?;
        }
        // Run as `observe`, all of them only observe.
        let report = inspect(&body, TextFormat::Text, &what(Action::Observe));
        let found: Vec<usize> = report.hits.iter().map(|hit| hit.rule).collect();
        let all: Vec<usize> = (0..mixed.each.len()).filter(|&rule| mixed.each[rule].is_match(&body)).collect();
        expect("the rules that were observed", found, all)?;
        demand(matches!(report.verdict, Verdict::Clean | Verdict::Observed), || format!("{:?}", report.verdict))
    });
}

#[test]
fn streams_are_blocked_cut_and_observed_by_rules_of_one_list() {
    for framing in [Framing::Events, Framing::Lines] {
        let make = |random: &mut Random, size| (random.pick(&MIXED), case(framing, random, size));
        prove(CASES / 2, 6, make, |(mixed, case)| {
            if mixed.cuts_characters() {
                return Ok(());
            }
            let stream = case.stream();
            let format = if framing == Framing::Events { StreamFormat::Events } else { StreamFormat::Lines };
            let outcome = in_two_ways(mixed, format, &stream, &case.sending.cuts)?;
            let all = read(framing, case.shape, &stream)?;
            let replaced = |text: &String| shown(&mixed.replaced(text.as_bytes()));
            let mut expected = Texts {
                joined: all.joined.iter().map(|(key, text)| (*key, replaced(text))).collect(),
                alone: all.alone.iter().map(replaced).collect(),
                comments: all.comments.clone(),
                rest: all.rest.clone(),
            };
            let every = |texts: &Texts| -> Vec<String> {
                texts.joined.values().chain(&texts.alone).chain(&texts.comments).cloned().collect()
            };
            let stops = every(&all).iter().any(|text| mixed.blocks(text.as_bytes()))
                || every(&expected).iter().any(|text| mixed.acts(text.as_bytes()));
            expect("the verdict", outcome.stop, stops.then_some(StreamStop::Blocked))?;
            let mut left = read(framing, case.shape, &outcome.out)?;
            if stops {
                for (key, left) in &left.joined {
                    let most = mixed.before_block(all.joined[key].as_bytes());
                    demand(most.starts_with(left.as_bytes()), || format!("{left:?} left, {:?} may", shown(&most)))?;
                }
                return Ok(());
            }
            if case.shape == Shape::Plain {
                // A match that goes on over the end of a line takes what stands between the lines with it.
                let between = |comment: &String| comment != ": inside";
                expected.comments.retain(between);
                left.comments.retain(between);
            }
            expect("the texts that left", &left, &expected)?;
            let acted = outcome.hits.iter().any(|hit| mixed.rules[hit.0].1 != Action::Observe);
            demand(acted || outcome.out == stream, || "a stream that is only observed was changed".into())?;
            let texts = every(&all);
            mixed.counts(&outcome, &texts.iter().map(|text| text.as_bytes()).collect::<Vec<_>>())
        });
    }
}
