use proptest::prelude::*;
use regex::bytes::NoExpand;

use super::*;
use crate::scan::{
    presets::preset,
    rule::Rule,
    testing::{chunks, config, cuts, for_redaction, sets, text},
};

const MARKER: &[u8] = b"[removed]";

proptest! {
    #![proptest_config(config(100_000))]

    #[test]
    fn output_is_that_of_replace_all(set in sets(), text in text(24), cuts in cuts()) {
        let program = set.compiled.redact();
        let expected = set.union.replace_all(&text, NoExpand(MARKER));
        let mut redactor = Redactor::new(program, MARKER, u64::MAX);
        let mut out = Vec::new();
        for chunk in chunks(&text, &cuts) {
            redactor.feed(program, chunk, &mut out);
            prop_assert!(expected.starts_with(&out));
        }
        redactor.finish(program, &mut out);
        prop_assert_eq!(&out[..], &expected[..]);
    }

    #[test]
    fn matches_are_those_of_find_iter(set in sets(), text in text(24), cuts in cuts()) {
        let program = set.compiled.redact();
        let mut scanner = RedactScanner::new(program, u64::MAX);
        let mut by_bytes = RedactScanner::new(program, u64::MAX);
        let mut hits = Vec::new();
        let mut n = 0;
        for chunk in chunks(&text, &cuts) {
            scanner.feed(program, chunk);
            chunk.iter().for_each(|&byte| by_bytes.feed(program, &[byte]));
            n += chunk.len() as u64;
            prop_assert_eq!(scanner.frontier(), by_bytes.frontier());
            prop_assert!(scanner.frontier() <= n);
            while let Some(hit) = scanner.next_match() {
                prop_assert!(hit.end <= scanner.frontier());
                prop_assert_eq!(Some(hit), by_bytes.next_match());
                hits.push(hit);
            }
            prop_assert_eq!(None, by_bytes.next_match());
        }
        scanner.finish(program);
        hits.extend(std::iter::from_fn(|| scanner.next_match()));
        let expected: Vec<_> = set.union.find_iter(&text).map(|m| (m.start(), m.end())).collect();
        let found: Vec<_> = hits.iter().map(|hit| (hit.start as usize, hit.end as usize)).collect();
        prop_assert_eq!(found, expected);
        for hit in hits {
            let (start, end) = (hit.start as usize, hit.end as usize);
            let pattern = &set.rules[hit.rule].pattern;
            prop_assert!(crate::scan::testing::is_match(pattern, &text, start, end));
            // The first rule that matches there at all is the one that is reported.
            let begins = |regex: &regex::bytes::Regex| regex.find_at(&text, start).is_some_and(|m| m.start() == start);
            prop_assert_eq!(set.each.iter().position(begins), Some(hit.rule));
        }
    }
}

fn redact(patterns: &[&str], cap: u64, chunks: &[&str]) -> (String, bool) {
    let rules: Vec<_> = patterns.iter().map(|p| Rule::new(*p, *p)).collect();
    let program = for_redaction(&rules);
    let mut redactor = Redactor::new(&program, b"#", cap);
    let mut out = Vec::new();
    for chunk in chunks {
        redactor.feed(&program, chunk.as_bytes(), &mut out);
    }
    redactor.finish(&program, &mut out);
    (String::from_utf8(out).unwrap(), redactor.capped())
}

#[test]
fn the_rule_that_comes_first_is_preferred() {
    assert_eq!(redact(&["a|ab", "abc"], 99, &["xabcx"]).0, "x#bcx");
    assert_eq!(redact(&["abc", "a|ab"], 99, &["xab", "cx"]).0, "x#x");
}

#[test]
fn a_longer_candidate_swallows_finished_matches() {
    let rules = ["<.*>", "b"];
    assert_eq!(redact(&rules, 99, &["<b", "bb", ">b"]).0, "##");
    assert_eq!(redact(&rules, 99, &["<b", "bb"]).0, "<###");
}

#[test]
fn what_outgrows_the_cap_never_leaves() {
    assert_eq!(redact(&["<.*>"], 4, &["ab<cde", "fgh>ij"]), ("ab".into(), true));
    assert_eq!(redact(&["<.*>"], 4, &["ab<c>", "\nfghij"]), ("ab#\nfghij".into(), false));
}

#[test]
fn certain_text_leaves_at_once() {
    let program = for_redaction(&[Rule::new("r", "abc")]);
    let mut redactor = Redactor::new(&program, b"#", 99);
    let mut out = Vec::new();
    redactor.feed(&program, b"xyab", &mut out);
    assert_eq!(out, b"xy");
    redactor.feed(&program, b"c", &mut out);
    assert_eq!(out, b"xy#");
}

#[test]
fn work_grows_with_the_text_and_no_faster() {
    let program = for_redaction(&preset("seed").unwrap());
    let steps = |unit: &str, k: usize| {
        let mut scanner = RedactScanner::new(&program, u64::MAX);
        scanner.feed(&program, b"<script>");
        scanner.feed(&program, unit.repeat(k).as_bytes());
        scanner.steps
    };
    for unit in ["onx=", "<script", "on", "javascript:"] {
        let (one, two) = (steps(unit, 2000), steps(unit, 4000));
        assert!(two <= 2 * one + 100, "{unit}: {one}, then {two}");
    }
}
