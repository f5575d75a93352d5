//! Bodies that are scanned while they are sent, against the verdict on the whole and against all matches.

use std::sync::Arc;

use bytes::Bytes;
use proptest::{collection::vec, prelude::*, sample::select};

use super::*;
use crate::scan::{
    TextFormat, Verdict, inspect, preset,
    rule::Rule,
    testing::{Set, all_matches, chunks, config, cuts, sets},
};

/// What texts of documents are written as; some of it is no JSON in some places, and some would be a match only if
/// it were decoded, or if it were not.
const PIECES: &[&str] = &[
    "Q",
    "X",
    "Z",
    "QX",
    "XZ",
    "W",
    " ",
    "\\n",
    "\\u0051",
    "\\u0058",
    "\\u005a",
    "\\\\u0051",
    "\\ud83d\\ude00",
    "\\ud83d",
    "é",
    "😀",
    "\\/",
    "\\\"",
    "\",\"",
    "\":\"",
    "\",\"k\":\"",
    "{\"",
    "\"}",
    "[\"",
    "\"]",
    "},{",
    "1",
    "\n",
    "\t",
    "\\x",
];

const WRAPS: &[(&str, &str)] = &[
    ("{\"a\":\"", "\"}"),
    ("[\"", "\"]"),
    ("\"", "\""),
    (" [[\"", "\"], 7]\n \n"),
    ("{\"a\":{\"", "\":1}}"),
    ("", ""),
    ("{\"a\":\"", "\"} x"),
    ("{\"a\":\"", "\"}\0"),
    ("\u{feff}[\"", "\"]"),
    ("-1", ""),
];

fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let text = vec(select(PIECES.to_vec()), 0..12).prop_map(|pieces| pieces.concat());
    (text, select(WRAPS.to_vec())).prop_map(|(text, (before, behind))| format!("{before}{text}{behind}").into_bytes())
}

fn text_format(format: PassageFormat) -> TextFormat {
    match format {
        PassageFormat::Json => TextFormat::Json,
        PassageFormat::Text => TextFormat::Text,
    }
}

fn formats() -> impl Strategy<Value = PassageFormat> {
    select(vec![PassageFormat::Json, PassageFormat::Text])
}

/// The verdict, and the frontier after each chunk.
fn scan(rules: &StreamRules, format: PassageFormat, chunks: &[&[u8]]) -> (Passage, Vec<u64>) {
    let mut passage = Passage::new(rules.clone(), format);
    let mut frontiers = Vec::new();
    for chunk in chunks {
        passage.feed(chunk);
        if passage.stop().is_none() {
            frontiers.push(passage.frontier());
        }
    }
    passage.finish();
    (passage, frontiers)
}

fn agrees(report: &crate::scan::Report, stop: Option<PassageStop>) -> bool {
    match (&report.verdict, stop) {
        (Verdict::Clean | Verdict::Observed, None) => true,
        (Verdict::Blocked, Some(PassageStop::Blocked)) => true,
        (Verdict::TooLong, Some(PassageStop::TooLong)) => true,
        (Verdict::Malformed(crate::scan::body::Malformed::Json(one)), Some(PassageStop::Malformed(other))) => {
            *one == other
        }
        (Verdict::Unscannable(one), Some(PassageStop::Unscannable(other))) => *one == other,
        // Several reasons: what comes first in the body, and not first in the list.
        (Verdict::Unscannable(_), Some(PassageStop::Blocked | PassageStop::TooLong)) => true,
        // The text that matches or is too long may be the one that has no end, of which the other says nothing.
        (Verdict::Malformed(_), Some(PassageStop::Blocked | PassageStop::TooLong)) => true,
        (_, Some(PassageStop::TooLong)) => report.too_long,
        (Verdict::TooLong, Some(PassageStop::Blocked)) => true,
        _ => false,
    }
}

/// Where the strings of a document stand, decoded, and what each byte of them was written as.
fn strings(document: &[u8]) -> Vec<(Vec<u8>, Vec<std::ops::Range<usize>>)> {
    #[derive(Default)]
    struct All(Vec<(Vec<u8>, Vec<std::ops::Range<usize>>)>);
    impl Sink for All {
        fn begin(&mut self, _: Role, _: u64) {
            self.0.push(Default::default());
        }
        fn run(&mut self, run: Run<'_>) {
            let (text, places) = self.0.last_mut().expect("a string has begun");
            for at in 0..run.text.len() {
                let raw = run.raw as usize;
                let linear = run.raw_len as usize == run.text.len();
                places.push(if linear { raw + at..raw + at + 1 } else { raw..raw + run.raw_len as usize });
            }
            text.extend_from_slice(run.text);
        }
        fn end(&mut self, _: u64) {}
    }
    let mut all = All::default();
    let _ = Lexer::new().feed(document, &mut all);
    all.0
}

/// The lowest offset of any match of a document's strings.
fn first_match(set: &Set, body: &[u8]) -> Option<usize> {
    let in_string = |(text, places): &(Vec<u8>, Vec<std::ops::Range<usize>>)| {
        all_matches(&set.rules, text).into_iter().map(|(_, start, _)| places[start].start).min()
    };
    strings(body).iter().filter_map(in_string).min()
}

proptest! {
    #![proptest_config(config(3_000))]

    #[test]
    fn the_verdict_is_that_over_the_whole(
        set in sets(), body in bodies(), cuts in cuts(), format in formats(),
        max_chars in proptest::option::of(0..20u64), max_body_chars in proptest::option::of(0..30u64),
    ) {
        let rules = StreamRules { max_chars, max_body_chars, ..set.asked(Action::Block) };
        let (passage, _) = scan(&rules, format, &chunks(&body, &cuts));
        let report = inspect(&Bytes::from(body.clone()), text_format(format), &rules.inspection());
        prop_assert!(agrees(&report, passage.stop()), "{:?}\n{report:?}\n{:?}", passage.stop(), String::from_utf8_lossy(&body));
        if passage.stop().is_none() {
            prop_assert_eq!(passage.chars(), report.chars);
            prop_assert!(passage.hits().is_empty());
        }
    }

    #[test]
    fn observing_finds_what_is_found_in_the_whole(set in sets(), body in bodies(), cuts in cuts(), format in formats()) {
        let rules = set.asked(Action::Observe);
        let mut passage = Passage::new(rules.clone(), format);
        for chunk in chunks(&body, &cuts) {
            passage.feed(chunk);
            prop_assert_eq!(passage.frontier(), passage.fed());
        }
        passage.finish();
        let report = inspect(&Bytes::from(body.clone()), text_format(format), &rules.inspection());
        prop_assert!(agrees(&report, passage.stop()), "{:?}\n{report:?}", passage.stop());
        if passage.stop().is_none() {
            let rules = |hits: &[RuleHit]| hits.iter().map(|hit| hit.rule).collect::<Vec<_>>();
            prop_assert_eq!(rules(&passage.hits()), rules(&report.hits));
            prop_assert_eq!(passage.chars(), report.chars);
        }
    }

    #[test]
    fn no_byte_of_a_match_is_let_go_nor_the_end_of_a_document(set in sets(), body in bodies(), cuts in cuts(), format in formats()) {
        let rules = set.asked(Action::Block);
        let (passage, frontiers) = scan(&rules, format, &chunks(&body, &cuts));
        prop_assert!(frontiers.is_sorted(), "{frontiers:?}");
        let highest = frontiers.last().copied().unwrap_or(0) as usize;
        prop_assert!(highest <= body.len());
        let document = Lexer::new().feed(&body, &mut Nothing).is_ok();
        if document || format == PassageFormat::Json {
            let first = first_match(set, &body);
            prop_assert!(first.is_none_or(|first| highest <= first), "{highest} {first:?}");
        }
        if format == PassageFormat::Text && !body.contains(&0) {
            let first = all_matches(&set.rules, &body).into_iter().map(|(_, start, _)| start).min();
            prop_assert!(first.is_none_or(|first| highest <= first), "{highest} {first:?}");
        }
        if passage.stop().is_none() {
            // What was let go before the end is no document, unless what is one holds no text.
            let sent = &body[..highest];
            let mut lexer = Lexer::new();
            let whole = lexer.feed(sent, &mut Nothing).is_ok() && lexer.is_complete();
            let mut all = Lexer::new();
            let was_whole = all.feed(&body, &mut Nothing).is_ok() && all.finish().is_ok();
            prop_assert!(!(whole && was_whole), "{:?}", String::from_utf8_lossy(sent));
        }
    }

    #[test]
    fn the_frontier_does_not_depend_on_the_chunks(set in sets(), body in bodies(), cuts in cuts(), format in formats()) {
        let rules = set.asked(Action::Block);
        let mut fine = Passage::new(rules.clone(), format);
        let mut coarse = Passage::new(rules, format);
        for chunk in chunks(&body, &cuts) {
            chunk.iter().for_each(|byte| fine.feed(&[*byte]));
            coarse.feed(chunk);
            prop_assert_eq!(fine.stop().is_some(), coarse.stop().is_some());
            if fine.stop().is_some() {
                break;
            }
            prop_assert_eq!(fine.frontier(), coarse.frontier());
        }
    }
}

struct Nothing;

impl Sink for Nothing {
    fn begin(&mut self, _: Role, _: u64) {}
    fn run(&mut self, _: Run<'_>) {}
    fn end(&mut self, _: u64) {}
}

fn html(views: &[View]) -> Arc<RuleSet> {
    let rules = preset("html").unwrap().into_iter().map(|rule| Rule { views: views.to_vec(), ..rule });
    Arc::new(RuleSet::compile(rules.collect::<Vec<_>>()).unwrap())
}

fn blocking(rules: &Arc<RuleSet>, format: PassageFormat) -> Passage {
    let rules = Arc::clone(rules);
    let asked = StreamRules { rules, action: Action::Block, max_chars: None, max_body_chars: None, house: None };
    Passage::new(asked, format)
}

fn fed(mut passage: Passage, body: &str) -> Passage {
    passage.feed(body.as_bytes());
    passage
}

#[test]
fn what_may_go_is_said_to_the_byte() {
    use PassageFormat::{Json, Text};
    let rules = html(&[]);
    for (format, body, frontier) in [
        (Json, r#"{"a": "hello"#, 12),
        (Json, r#"{"a": "hello <scr"#, 13),
        (Json, r#"{"a": "hello \u003cscr"#, 13),
        (Json, r#"{"a": "hello \u00"#, 13),
        (Json, r#"{"a": "<b>", "b"#, 15),
        (Json, r#"{"a": "b"}"#, 9),
        (Json, "{\"a\": [1]} \n", 9),
        (Json, r#""abc""#, 4),
        (Text, "hello <scr", 6),
        (Text, "hello \\u003cscr", 6),
        (Text, "hello world", 11),
        (Text, "{\"a\": \"b\"}", 9),
        (Text, "{\"a\": \"b\"} x", 12),
    ] {
        assert_eq!(fed(blocking(&rules, format), body).frontier(), frontier, "{body}");
    }
}

#[test]
fn the_end_of_a_text_decides_what_waited_for_it() {
    let rules = Arc::new(RuleSet::compile(vec![Rule::new("r", "<b$")]).unwrap());
    for (format, body, blocks) in [
        (PassageFormat::Json, r#"{"a": "x<b", "c": 1}"#, true),
        (PassageFormat::Json, r#"{"a": "x<bc", "<b ": ""}"#, false),
        (PassageFormat::Json, r#"{"x<b": 1}"#, true),
        (PassageFormat::Text, "x<b", true),
        (PassageFormat::Text, "x<b.", false),
    ] {
        let mut passage = fed(blocking(&rules, format), body);
        passage.finish();
        assert_eq!(passage.stop(), blocks.then_some(PassageStop::Blocked), "{body}");
    }
}

#[test]
fn a_view_holds_back_what_it_may_decode_to_a_match() {
    let passage = fed(blocking(&html(&[View::HtmlEntity]), PassageFormat::Json), r#"{"a": "hello &lt;scr"#);
    assert_eq!((passage.frontier(), passage.stop()), (13, None));
    let passage = fed(passage, "ipt>");
    assert_eq!(passage.stop(), Some(PassageStop::Blocked));
}

#[test]
fn a_long_candidate_is_no_reason_to_refuse() {
    let rules = Arc::new(RuleSet::compile(vec![Rule::new("r", "A[^<]*>")]).unwrap());
    let asked = StreamRules { rules, action: Action::Block, max_chars: None, max_body_chars: None, house: None };
    let mut passage = Passage::new(asked, PassageFormat::Json);
    passage.feed(b"{\"a\": \"xA");
    for _ in 0..100 {
        passage.feed(&[b'y'; 1000]);
        assert_eq!((passage.frontier(), passage.stop()), (8, None));
    }
    passage.feed(b"<\"");
    assert_eq!((passage.frontier(), passage.stop()), (passage.fed(), None));
    // A rule with a long reach costs nothing but the bytes that are held.
    assert!(passage.memory() < 4096);
}
