//! What the tests of several modules share: rules that are hard to scan for, texts that
//! nearly match them, and a brute-force reading of both.
//!
//! Every case is made from one seed, so that a run can be repeated: `KEYWARD_SEED` sets it, and a test that fails has
//! printed it. `KEYWARD_CASES` lowers the number of cases, for a quick look.

mod random;

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, LazyLock},
};

use proptest::{prelude::*, sample, test_runner::RngSeed};
use regex::bytes::Regex;

use super::{
    program::*,
    rule::{Action, Rule},
    ruleset::RuleSet,
    stream::StreamRules,
};

pub use random::{Random, cases, prove, seed};

/// A property's configuration: this many cases, the same ones in every run.
pub fn config(most: u32) -> ProptestConfig {
    // Shown if the test fails.
    eprintln!("to repeat: KEYWARD_SEED={}", seed());
    ProptestConfig {
        cases: cases(most),
        rng_seed: RngSeed::Fixed(seed()),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// Rules over a small alphabet. Among them: many threads at once, threads that meet in
/// one state, matches inside candidates, greedy and lazy ends, look-behind and
/// look-ahead, single bytes, and characters of several bytes. Each needs a character that no name of an API has.
pub const POOL: &[&str] = &[
    "QXZ",
    "X",
    "Q(?:XZ)?",
    "Q.*Z",
    "Q.*?Z",
    "QQ*X|QX*Z",
    "(?:QX)+",
    "[QX]{3}Z",
    "Q[QXZ]{4}X",
    "Q(?:.{0,2}|X)Z",
    "XZQ|ZQ|QX",
    "(?i)Q\\s+X",
    "é+Z?",
    "😀Z|[😀é]Q",
    "(?-u:[\\xA9X])Z",
    "(?-u:[\\x80-\\xFF])",
    "(?-u:\\b)QX",
    "QX(?-u:\\b)",
    "(?-u:\\B)X(?-u:\\B)",
    "^QX",
    "ZQ$",
    "(?m)^X",
    "(?m)Z$",
    "(?-u:\\b)Q[^ ]*Z(?-u:\\b)",
    "Q(?:X|XZ|XZQ)",
    "(?:Q|QX)(?:Z|XZW)?",
];

/// One to four rules of the pool, compiled once for all the cases that use them.
pub struct Set {
    pub rules: Vec<Rule>,
    pub compiled: Arc<RuleSet>,
    pub union: Regex,
    /// By rule.
    pub each: Vec<Regex>,
}

impl fmt::Debug for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.rules.iter().map(|rule| &rule.pattern)).finish()
    }
}

impl Set {
    fn new(patterns: &[&str]) -> Self {
        let rules: Vec<_> = patterns.iter().enumerate().map(|(i, p)| Rule::new(format!("r{i}"), *p)).collect();
        let each = rules.iter().map(|rule| union(std::slice::from_ref(rule))).collect();
        Self { compiled: Arc::new(RuleSet::compile(rules.clone()).unwrap()), union: union(&rules), each, rules }
    }

    /// Whether a rule is about single bytes, which no JSON string has.
    pub fn cuts_characters(&self) -> bool {
        self.rules.iter().any(|rule| rule.pattern.contains("\\x"))
    }

    /// As they are asked of a stream.
    pub fn asked(&self, action: Action) -> StreamRules {
        StreamRules { rules: Arc::clone(&self.compiled), action, max_chars: None, max_body_chars: None, house: None }
    }
}

/// Every rule alone, and some hundred lists of several, in orders of their own.
pub static SETS: LazyLock<Vec<Set>> = LazyLock::new(|| {
    let random = &mut Random::new(seed());
    let mut known = HashSet::new();
    let mut sets: Vec<Set> = POOL.iter().map(|pattern| Set::new(&[pattern])).collect();
    while sets.len() < 240 {
        let patterns: Vec<&str> = (0..2 + random.below(3)).map(|_| *random.pick(POOL)).collect();
        let different = patterns.iter().collect::<HashSet<_>>().len() == patterns.len();
        if different && known.insert(patterns.clone()) {
            sets.push(Set::new(&patterns));
        }
    }
    sets
});

/// One of the sets.
pub fn sets() -> impl Strategy<Value = &'static Set> {
    (0..SETS.len()).prop_map(|i| &SETS[i])
}

/// One to four rules of the pool over small letters, which no view changes.
pub fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let small = |pattern: &&str| {
        let letters = [('Q', "a"), ('X', "b"), ('Z', "c"), ('W', "d")];
        letters.iter().fold((*pattern).to_owned(), |pattern, (large, small)| pattern.replace(*large, small))
    };
    let pool: Vec<String> = POOL.iter().map(small).collect();
    sample::subsequence(pool, 1..=4)
        .prop_shuffle()
        .prop_map(|patterns| patterns.into_iter().enumerate().map(|(i, p)| Rule::new(format!("r{i}"), p)).collect())
}

/// Texts that are full of candidates.
pub fn text(max: usize) -> impl Strategy<Value = Vec<u8>> {
    let pieces = sample::select(PIECES.to_vec());
    proptest::collection::vec(pieces, 0..max).prop_map(|pieces| pieces.concat().into_bytes())
}

/// What texts are made of.
pub const PIECES: &[&str] = &["Q", "Q", "X", "X", "Z", "Z", " ", "\n", "é", "😀", "QX", "XZ", "QXZ", "W"];

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
