//! What the source document's functions make of 6,000 texts, as a file that three readings agree on: the rules read by
//! hand, JavaScript, and the preset `seed`.
//!
//! A line of `tests/vectors/seed.tsv` has six fields: the text, the sanitized text (`=` if it is the same), the
//! verdict on a request and on a response, and the two lengths in UTF-16 units. A text is JSON strings joined by `+`,
//! each perhaps repeated: `"ab"*3+"c"`.

mod generate;
mod notation;
mod rules;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use keyward::scan::{
    Action, Inspection, RuleSet, StreamFormat, StreamRules, StreamScanner, StreamStop, TextFormat, Verdict, inspect,
    preset,
};

use crate::harness::{report, repository};
use rules::{LONGEST_REQUEST, LONGEST_RESPONSE, expected};

fn file() -> PathBuf {
    repository().join("tests/vectors/seed.tsv")
}

fn generated() -> String {
    let mut lines = String::from("# text\tsanitized\trequest\tresponse\tlength\tsanitized length\n");
    for text in generate::texts() {
        let expected = expected(&text);
        let sanitized = match expected.sanitized == text {
            true => "=".to_owned(),
            false => notation::write(&expected.sanitized),
        };
        let (request, response) = (expected.request, expected.response);
        let (length, rest) = (text.len(), expected.sanitized.len());
        let text = notation::write(&text);
        writeln!(lines, "{text}\t{sanitized}\t{request}\t{response}\t{length}\t{rest}").expect("memory");
    }
    lines
}

/// `KEYWARD_WRITE_VECTORS=1 cargo test --test it vectors` writes the file anew.
#[test]
fn the_file_is_what_the_generator_writes() {
    let generated = generated();
    if std::env::var_os("KEYWARD_WRITE_VECTORS").is_some() {
        std::fs::write(file(), &generated).expect("the file can be written");
    }
    let written = std::fs::read_to_string(file()).expect("the file");
    let differs = written.lines().zip(generated.lines()).position(|(written, generated)| written != generated);
    assert_eq!(differs, None, "the first line that differs, counted from 0");
    assert_eq!(written.len(), generated.len());
}

#[test]
fn javascript_agrees() {
    let output = Command::new("node")
        .arg(repository().join("tests/vectors/check.mjs"))
        .arg(file())
        .output()
        .expect("run the tests by scripts/test.sh, which installs the node that this test needs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(said, "6000 texts: all fields agree\n");
    report(format_args!("vectors, read in JavaScript: {said}"));
}

/// One line of the file, its texts as UTF-16 units.
struct Case {
    number: usize,
    text: Vec<u16>,
    sanitized: Vec<u16>,
    request: String,
    response: String,
    lengths: [u64; 2],
}

fn cases() -> Vec<Case> {
    let file = std::fs::read_to_string(file()).expect("the file");
    let read = |(number, line): (usize, &str)| {
        let fields: Vec<&str> = line.split('\t').collect();
        let [text, sanitized, request, response, length, rest] = fields[..] else { panic!("line {number}: {line}") };
        let text = notation::read(text);
        Case {
            number,
            sanitized: if sanitized == "=" { text.clone() } else { notation::read(sanitized) },
            text,
            request: request.to_owned(),
            response: response.to_owned(),
            lengths: [length, rest].map(|length| length.parse().expect("a length")),
        }
    };
    file.lines().zip(1..).skip(1).map(|(line, number)| read((number, line))).collect()
}

#[test]
fn the_preset_agrees() {
    let rules = Arc::new(RuleSet::compile(preset("seed").expect("a preset")).expect("it compiles"));
    let inspection = |action, longest: usize| Inspection {
        rules: &rules,
        action,
        max_chars: Some(longest as u64),
        max_body_chars: None,
        binary_parts: keyward::scan::BinaryParts::Pass,
    };
    let cases = cases();
    let count = cases.len();
    assert!(count >= 5000, "{count}");
    for case in cases {
        let literal = notation::literal(&case.text);
        let body = Bytes::from(literal.clone());
        let at = format!("line {}", case.number);

        let report = inspect(&body, TextFormat::Json, &inspection(Action::Sanitize, LONGEST_REQUEST));
        let verdict = match report.verdict {
            Verdict::Clean => "clean",
            Verdict::Rewritten(rewritten) => {
                let rewritten = std::str::from_utf8(&rewritten).expect("JSON");
                assert_eq!(notation::read(rewritten), case.sanitized, "{at}");
                "sanitized"
            }
            Verdict::TooLong => "too_long",
            other => panic!("{at}: {other:?}"),
        };
        assert_eq!((verdict, report.longest), (case.request.as_str(), case.lengths[1]), "{at}");

        let report = inspect(&body, TextFormat::Json, &inspection(Action::Block, LONGEST_RESPONSE));
        let verdict = match report.verdict {
            Verdict::Clean => "clean",
            Verdict::Blocked => "blocked",
            Verdict::TooLong => "too_long",
            other => panic!("{at}: {other:?}"),
        };
        assert_eq!(verdict, case.response, "{at}");
        assert!(verdict == "blocked" || report.chars == case.lengths[0], "{at}");

        // A stream gives up on a candidate of more than 16 KiB, so only the short texts are the same there.
        if literal.len() < 10_000 {
            streamed(&rules, &literal, &case);
        }
    }
    report(format_args!("vectors, read by the preset: {count} texts: all fields agree\n"));
}

/// The text as an event of a response, cut into reads of three bytes.
fn streamed(rules: &Arc<RuleSet>, literal: &str, case: &Case) {
    let what = StreamRules {
        rules: Arc::clone(rules),
        action: Action::Block,
        max_chars: Some(50_000),
        max_body_chars: None,
        house: None,
    };
    let mut scanner = StreamScanner::new(what, StreamFormat::Events, None);
    let event = format!("data: {literal}\n\n");
    let mut out = Vec::new();
    event.as_bytes().chunks(3).for_each(|chunk| scanner.feed(chunk, &mut out));
    scanner.finish(&mut out);
    match case.response.as_str() {
        "clean" => assert_eq!((scanner.stop(), &out[..]), (None, event.as_bytes()), "line {}", case.number),
        _ => assert_eq!((scanner.stop(), &out[..]), (Some(StreamStop::Blocked), &b""[..]), "line {}", case.number),
    }
}
