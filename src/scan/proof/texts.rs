//! Bodies that are one text, and bodies that are one JSON document.

use bytes::Bytes;
use serde_json::Value;

use super::{
    Sending, deliver_in_two_ways, demand, expect,
    reader::skeleton,
    shown,
    writer::{literal, text},
};
use crate::scan::{
    Action, Inspection, StreamFormat, StreamStop, TextFormat, Verdict,
    block::BlockScanner,
    body::MARKER,
    inspect,
    testing::{PIECES, Random, SETS, Set, prove},
};

const CASES: u32 = 100_000;

#[derive(Debug)]
pub(super) struct Case {
    set: &'static Set,
    body: String,
    pub sending: Sending,
}

pub(super) fn plain(random: &mut Random, size: usize) -> Case {
    Case { set: random.pick(&SETS), body: text(PIECES, random, size), sending: Sending::plain(random) }
}

/// A document of nested arrays and objects.
pub(super) fn document(random: &mut Random, size: usize) -> Case {
    let escapes = random.below(4);
    let inner = value(random, escapes, size, 3);
    let body = match random.below(3) {
        0 => format!("[{inner}]"),
        1 => format!(" {{\"k\" :\t{inner}}}\r\n"),
        _ => format!("\u{feff}{{\"k\":[null,{inner}]}}"),
    };
    Case { set: random.pick(&SETS), body, sending: Sending::plain(random) }
}

fn value(random: &mut Random, escapes: usize, size: usize, depth: usize) -> String {
    let gap = *random.pick(&["", " ", "\n", "\t\r\n"]);
    match random.below(if depth == 0 { 4 } else { 6 }) {
        0 => (*random.pick(&["0", "-1.5e3", "true", "null", "false"])).to_string(),
        1..4 => {
            let text = text(PIECES, random, size);
            literal(&text, escapes, random)
        }
        4 => {
            let items: Vec<_> = (0..random.below(3)).map(|_| value(random, escapes, size, depth - 1)).collect();
            format!("[{gap}{}{gap}]", items.join(&format!("{gap},")))
        }
        _ => {
            let members: Vec<_> = (0..random.below(3))
                .map(|i| {
                    // Two members of one name would be a document with two readings.
                    let name = if random.once_in(8) { text(PIECES, random, 2) } else { String::new() };
                    let name = literal(&format!("{i}{name}"), escapes, random);
                    format!("{name}{gap}:{}", value(random, escapes, size, depth - 1))
                })
                .collect();
            format!("{{{gap}{}}}", members.join(&format!(",{gap}")))
        }
    }
}

/// The names and the texts of a document, as `serde_json` reads them.
fn strings(value: &Value, names: &mut Vec<String>, texts: &mut Vec<String>) {
    match value {
        Value::String(text) => texts.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| strings(item, names, texts)),
        Value::Object(members) => {
            for (name, value) in members {
                names.push(name.clone());
                strings(value, names, texts);
            }
        }
        _ => {}
    }
}

fn read(body: &[u8]) -> Result<(Vec<String>, Vec<String>), String> {
    let (mut names, mut texts) = (Vec::new(), Vec::new());
    let body = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body);
    let value = serde_json::from_slice(body).map_err(|error| format!("{error} in {}", shown(body)))?;
    strings(&value, &mut names, &mut texts);
    Ok((names, texts))
}

/// No leak, minimal hold, clean is identity, cuts make no difference.
pub(super) fn leaves_what_begins_no_match(case: &Case) -> Result<(), String> {
    let body = case.body.as_bytes();
    let outcome = deliver_in_two_ways(&case.set.asked(Action::Block), StreamFormat::Text, body, &case.sending)?;
    let first = case.set.union.find(body);
    expect("the verdict", outcome.stop, first.map(|_| StreamStop::Blocked))?;
    demand(body.starts_with(&outcome.out), || format!("{:?} left", shown(&outcome.out)))?;
    match first {
        // The leftmost match is the one that begins first of all matches.
        Some(first) => demand(outcome.out.len() <= first.start(), || format!("{:?} left", shown(&outcome.out)))?,
        None => expect("a clean text", outcome.out.len(), body.len())?,
    }
    let program = case.set.compiled.block();
    let mut scanner = BlockScanner::new(program, u64::MAX);
    let blank = body.len() - body.trim_ascii_start().len();
    let mut read = 0;
    for (byte, left) in body.chunks(1).zip(outcome.left) {
        scanner.feed(program, byte);
        read += 1;
        // White space may be the start of a JSON document, which is withheld as a whole.
        let may_be_json = read <= blank;
        expect("the bytes that have left", left as u64, if may_be_json { 0 } else { scanner.frontier() })?;
    }
    Ok(())
}

#[test]
fn a_text_leaves_up_to_the_first_byte_that_may_begin_a_match() {
    prove(CASES, 24, plain, leaves_what_begins_no_match);
}

/// Redaction is `replace_all`.
pub(super) fn redacts_exactly(case: &Case) -> Result<(), String> {
    let body = case.body.as_bytes();
    let outcome = deliver_in_two_ways(&case.set.asked(Action::Redact), StreamFormat::Text, body, &case.sending)?;
    let replaced = case.set.union.replace_all(body, MARKER.as_bytes());
    let formed = case.set.union.find(&replaced);
    expect("the verdict", outcome.stop, formed.map(|_| StreamStop::Blocked))?;
    match formed {
        None => expect("the text that left", shown(&outcome.out), shown(&replaced)),
        Some(first) => demand(replaced[..first.start()].starts_with(&outcome.out), || {
            format!("{:?} left of {:?}", shown(&outcome.out), shown(&replaced))
        }),
    }
}

#[test]
fn a_text_is_redacted_as_replace_all_does() {
    prove(CASES, 24, plain, redacts_exactly);
}

#[test]
fn a_document_is_judged_by_the_strings_that_its_readers_get() {
    prove(CASES, 6, document, |case| {
        let body = Bytes::copy_from_slice(case.body.as_bytes());
        let (names, texts) = read(&body)?;
        let harmful = names.iter().chain(&texts).any(|text| case.set.union.is_match(text.as_bytes()));
        let inspection = |action| Inspection {
            rules: &case.set.compiled,
            action,
            max_chars: None,
            max_body_chars: None,
            binary_parts: crate::scan::BinaryParts::Pass,
        };
        let verdict = inspect(&body, TextFormat::Json, &inspection(Action::Block)).verdict;
        expect("the verdict", verdict, if harmful { Verdict::Blocked } else { Verdict::Clean })?;
        let verdict = inspect(&body, TextFormat::Json, &inspection(Action::Observe)).verdict;
        expect("the verdict", verdict, if harmful { Verdict::Observed } else { Verdict::Clean })?;
        if case.set.cuts_characters() {
            return Ok(());
        }

        let replaced = |text: &String| shown(&case.set.union.replace_all(text.as_bytes(), MARKER.as_bytes()));
        let expected: Vec<_> = texts.iter().map(replaced).collect();
        let blocked = names.iter().chain(&expected).any(|text| case.set.union.is_match(text.as_bytes()));
        match inspect(&body, TextFormat::Json, &inspection(Action::Redact)).verdict {
            Verdict::Blocked => demand(blocked, || "it could be redacted".into()),
            Verdict::Clean => demand(!harmful, || "it is not clean".into()),
            Verdict::Rewritten(body) => {
                expect("whether it is blocked", false, blocked)?;
                expect("the strings that left", read(&body)?, (names, expected))?;
                expect("all but the texts", shown(&skeleton(&body)), shown(&skeleton(case.body.as_bytes())))
            }
            other => Err(format!("{other:?}")),
        }
    });
}

/// Half a document is of no use.
pub(super) fn leaves_whole_or_not_at_all(case: &Case) -> Result<(), String> {
    let body = case.body.as_bytes();
    let outcome = deliver_in_two_ways(&case.set.asked(Action::Block), StreamFormat::Text, body, &case.sending)?;
    let (names, texts) = read(body)?;
    let strings = names.iter().chain(&texts).any(|text| case.set.union.is_match(text.as_bytes()));
    let harmful = strings || case.set.union.is_match(body);
    expect("the verdict", outcome.stop, harmful.then_some(StreamStop::Blocked))?;
    expect("what left", shown(&outcome.out), if harmful { String::new() } else { case.body.clone() })
}

#[test]
fn a_document_that_calls_itself_a_text_leaves_whole_or_not_at_all() {
    prove(CASES, 6, document, leaves_whole_or_not_at_all);
}
