//! What the tests of several modules share: rules that are hard to scan for, texts that
//! nearly match them, and a brute-force reading of both.

use std::{cell::RefCell, collections::HashMap, sync::Arc};

use proptest::{prelude::*, sample};
use regex::bytes::Regex;

use super::{program::*, rule::Rule};

/// Rules over a small alphabet. Among them: many threads at once, threads that meet in
/// one state, matches inside candidates, greedy and lazy ends, look-behind and
/// look-ahead, single bytes, and characters of several bytes.
pub const POOL: &[&str] = &[
    "abc",
    "b",
    "a(?:bc)?",
    "a.*c",
    "a.*?c",
    "aa*b|ab*c",
    "(?:ab)+",
    "[ab]{3}c",
    "a[abc]{4}b",
    "a(?:.{0,2}|b)c",
    "bca|ca|ab",
    "(?i)A\\s+b",
    "é+c?",
    "(?-u:[\\xA9b])c",
    "(?-u:[\\x80-\\xFF])",
    "(?-u:\\b)ab",
    "ab(?-u:\\b)",
    "(?-u:\\B)b(?-u:\\B)",
    "^ab",
    "ca$",
    "(?m)^b",
    "(?m)c$",
    "(?-u:\\b)a[^ ]*c(?-u:\\b)",
    "a(?:b|bc|bca)",
    "(?:a|ab)(?:c|bcd)?",
];

/// One to four rules of the pool.
pub fn rules() -> impl Strategy<Value = Vec<Rule>> {
    sample::subsequence(POOL.to_vec(), 1..=4)
        .prop_shuffle()
        .prop_map(|patterns| patterns.into_iter().enumerate().map(|(i, p)| Rule::new(format!("r{i}"), p)).collect())
}

/// Texts that are full of candidates.
pub fn text(max: usize) -> impl Strategy<Value = Vec<u8>> {
    let piece = sample::select(vec!["a", "a", "b", "b", "c", "c", " ", "\n", "é", "ab", "bc", "abc", "d"]);
    proptest::collection::vec(piece, 0..max).prop_map(|pieces| pieces.concat().into_bytes())
}

/// Where a text is cut, as the lengths of chunks; used round and round.
pub fn cuts() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(1..6usize, 1..6)
}

/// The chunks of `bytes`.
pub fn chunks<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut rest = bytes;
    let mut chunks = Vec::new();
    for &cut in cuts.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (chunk, behind) = rest.split_at(cut.min(rest.len()));
        chunks.push(chunk);
        rest = behind;
    }
    chunks
}

/// All rules of a set as one regular expression, the first preferred.
pub fn union(rules: &[Rule]) -> Regex {
    let alternatives: Vec<_> = rules.iter().map(|rule| format!("(?:{})", rule.pattern)).collect();
    Regex::new(&alternatives.join("|")).unwrap()
}

thread_local! {
    static WORDS: RefCell<HashMap<(String, usize, usize), Arc<Regex>>> = RefCell::default();
}

/// Whether `pattern` matches exactly `text[start..end]`, as a part of `text`.
pub fn is_match(pattern: &str, text: &[u8], start: usize, end: usize) -> bool {
    let key = (pattern.to_string(), start, text.len() - end);
    let regex = WORDS.with_borrow_mut(|words| {
        let regex = words.entry(key).or_insert_with_key(|(pattern, before, behind)| {
            let any = "(?s-u:.)";
            let whole = format!(r"\A{any}{{{before}}}(?:{pattern}){any}{{{behind}}}\z");
            // The anchors around the pattern must not change what its own mean.
            Arc::new(Regex::new(&whole).unwrap())
        });
        Arc::clone(regex)
    });
    regex.is_match(text)
}

/// Every match in `text`: rule, start, end.
pub fn all_matches(rules: &[Rule], text: &[u8]) -> Vec<(usize, usize, usize)> {
    let mut all = Vec::new();
    for (i, rule) in rules.iter().enumerate() {
        if !union(std::slice::from_ref(rule)).is_match(text) {
            continue;
        }
        for start in 0..text.len() {
            for end in start + 1..=text.len() {
                if is_match(&rule.pattern, text, start, end) {
                    all.push((i, start, end));
                }
            }
        }
    }
    all
}

/// A rule without look-ahead is certain at its last byte.
pub fn looks_ahead(rule: &Rule) -> bool {
    rule.pattern.ends_with('$') || rule.pattern.ends_with("\\b)") || rule.pattern.ends_with("\\B)")
}

/// Compiles for replacing.
pub fn for_redaction(rules: &[Rule]) -> Program {
    Program::compile_for(rules, Semantics::LeftmostFirst).unwrap()
}
