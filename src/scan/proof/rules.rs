//! Rules with actions and views of their own in one list, and what the regex crate makes of them.

use std::{
    ops::Range,
    sync::{Arc, LazyLock},
};

use regex::bytes::Regex;

use super::{Outcome, expect};
use crate::scan::{
    Action, BinaryParts, Inspection, Rule, RuleSet, StreamRules, View,
    body::MARKER,
    testing::{PIECES, Random, SETS, seed, union},
    view::tests::whole::{Whole, whole},
};

/// Some rules as the regex crate reads texts by them: as the texts are, and through each view.
struct Readers {
    raw: Regex,
    views: Vec<(View, Regex)>,
}

impl Readers {
    fn of(rules: &[Rule]) -> Option<Self> {
        let through = |view: View| {
            let some: Vec<Rule> = rules.iter().filter(|rule| rule.views.contains(&view)).cloned().collect();
            (!some.is_empty()).then(|| (view, union(&some)))
        };
        let views = View::NAMES.into_iter().filter_map(|(_, view)| through(view)).collect();
        (!rules.is_empty()).then(|| Self { raw: union(rules), views })
    }

    fn seen<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = (&'a Regex, Whole)> {
        self.views.iter().map(|(view, regex)| (regex, whole(*view, text)))
    }

    fn is_match(&self, text: &[u8]) -> bool {
        self.raw.is_match(text) || self.seen(text).any(|(regex, seen)| regex.is_match(&seen.text))
    }

    /// Where the first of all matches begins. The leftmost one is the one that begins first in its reading.
    fn first(&self, text: &[u8]) -> Option<usize> {
        let raw = self.raw.find(text).map(|found| found.start());
        let seen =
            self.seen(text).filter_map(|(regex, seen)| regex.find(&seen.text).map(|found| seen.mapped(found.range())));
        raw.into_iter().chain(seen.map(|found| found.start)).min()
    }

    /// What is cut out: the matches that `replace_all` replaces in each reading; those that overlap are one.
    fn cuts(&self, text: &[u8]) -> Vec<Range<usize>> {
        let mut all: Vec<_> = self.raw.find_iter(text).map(|found| found.range()).collect();
        for (regex, seen) in self.seen(text) {
            all.extend(regex.find_iter(&seen.text).map(|found| seen.mapped(found.range())));
        }
        all.sort_by_key(|cut| cut.start);
        let mut joined: Vec<Range<usize>> = Vec::new();
        for cut in all {
            match joined.last_mut() {
                Some(last) if cut.start < last.end => last.end = last.end.max(cut.end),
                _ => joined.push(cut),
            }
        }
        joined
    }
}

/// Rules, each with an action, and what the regex crate makes of those of each kind.
pub(super) struct Mixed {
    rules: Vec<(Rule, Action)>,
    /// The action of the texts that they are run on.
    pub mode: Action,
    compiled: Arc<RuleSet>,
    block: Option<Readers>,
    redact: Option<Readers>,
    acting: Option<Readers>,
    /// By rule.
    each: Vec<Readers>,
}

impl std::fmt::Debug for Mixed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rules = self.rules.iter().map(|(rule, action)| (&rule.pattern, action, &rule.views));
        f.debug_list().entries(rules).finish()
    }
}

impl Mixed {
    fn new(rules: Vec<(Rule, Action)>) -> Self {
        let of = |wanted: &[Action]| {
            let some = rules.iter().filter(|(_, action)| wanted.contains(action));
            Readers::of(&some.map(|(rule, _)| rule.clone()).collect::<Vec<_>>())
        };
        let redact = of(&[Action::Redact]);
        let mode = if redact.is_some() { Action::Redact } else { Action::Block };
        Self {
            mode,
            compiled: Arc::new(RuleSet::compile_each(rules.clone(), mode).unwrap()),
            block: of(&[Action::Block]),
            acting: of(&[Action::Block, Action::Redact]),
            redact,
            each: rules.iter().filter_map(|(rule, _)| Readers::of(std::slice::from_ref(rule))).collect(),
            rules,
        }
    }

    pub(super) fn asked(&self) -> StreamRules {
        let rules = Arc::clone(&self.compiled);
        StreamRules { rules, action: self.mode, max_chars: None, max_body_chars: None, house: None }
    }

    pub(super) fn inspection(&self, action: Action) -> Inspection<'_> {
        let binary_parts = BinaryParts::Pass;
        Inspection { rules: &self.compiled, action, max_chars: None, max_body_chars: None, binary_parts }
    }

    /// Whether a rule matches that blocks.
    pub(super) fn blocks(&self, text: &[u8]) -> bool {
        self.block.as_ref().is_some_and(|readers| readers.is_match(text))
    }

    /// Whether a rule matches that does more than observe.
    pub(super) fn acts(&self, text: &[u8]) -> bool {
        self.acting.as_ref().is_some_and(|readers| readers.is_match(text))
    }

    /// Whether nothing of this text may leave whole: a match blocks, or forms anew where others are cut out.
    pub(super) fn stops(&self, text: &[u8]) -> bool {
        self.blocks(text) || self.acts(&self.replaced(text))
    }

    pub(super) fn replaced(&self, text: &[u8]) -> Vec<u8> {
        self.cut_until(text, text.len())
    }

    /// The most of a text that may leave: up to the first byte of a match that blocks, with what is cut out before it.
    pub(super) fn before_block(&self, text: &[u8]) -> Vec<u8> {
        let first = self.block.as_ref().and_then(|readers| readers.first(text));
        self.cut_until(text, first.unwrap_or(text.len()))
    }

    /// The most of a text that may leave once all cuts are made.
    pub(super) fn before_anew(&self, replaced: &[u8]) -> usize {
        self.acting.as_ref().and_then(|readers| readers.first(replaced)).unwrap_or(replaced.len())
    }

    fn cut_until(&self, text: &[u8], end: usize) -> Vec<u8> {
        let cuts = self.redact.iter().flat_map(|readers| readers.cuts(text));
        let (mut out, mut from) = (Vec::new(), 0);
        for cut in cuts.take_while(|cut| cut.end <= end) {
            out.extend_from_slice(&text[from..cut.start]);
            out.extend_from_slice(MARKER.as_bytes());
            from = cut.end;
        }
        out.extend_from_slice(&text[from..end]);
        out
    }

    /// The rules of which one reading matches.
    pub(super) fn matching(&self, text: &[u8]) -> Vec<usize> {
        (0..self.each.len()).filter(|&rule| self.each[rule].is_match(text)).collect()
    }

    pub(super) fn action(&self, rule: usize) -> Action {
        self.rules[rule].1
    }

    /// Whether exactly those rules that observe were counted that match some text.
    pub(super) fn counts<'a>(
        &self,
        outcome: &Outcome,
        texts: impl Iterator<Item = &'a String> + Clone,
    ) -> Result<(), String> {
        for (rule, (_, action)) in self.rules.iter().enumerate() {
            if *action == Action::Observe {
                let matches = texts.clone().any(|text| self.each[rule].is_match(text.as_bytes()));
                expect("whether a rule was counted", outcome.hits.iter().any(|hit| hit.0 == rule), matches)?;
            }
        }
        Ok(())
    }

    pub(super) fn cuts_characters(&self) -> bool {
        self.rules.iter().any(|(rule, _)| rule.pattern.contains("\\x"))
    }
}

/// Lists of rules, and the words of the texts that they are tried on.
pub(super) struct Lists {
    pub lists: &'static LazyLock<Vec<Mixed>>,
    pub words: &'static [&'static str],
}

/// Texts are read as they are.
pub(super) const PLAIN: Lists = Lists { lists: &MIXED, words: PIECES };

/// Some of the rules read texts through views too.
pub(super) const VIEWED: Lists = Lists { lists: &THROUGH_VIEWS, words: WORDS };

static MIXED: LazyLock<Vec<Mixed>> = LazyLock::new(|| {
    let random = &mut Random::new(seed());
    let several = SETS.iter().filter(|set| set.rules.len() > 1);
    several.map(|set| Mixed::new(set.rules.iter().map(|rule| (rule.clone(), action(random))).collect())).collect()
});

static THROUGH_VIEWS: LazyLock<Vec<Mixed>> = LazyLock::new(|| {
    let random = &mut Random::new(seed());
    let some = SETS.iter().step_by(2).filter(|set| !set.cuts_characters());
    some.map(|set| Mixed::new(set.rules.iter().map(|rule| (viewed(rule, random), action(random))).collect())).collect()
});

fn action(random: &mut Random) -> Action {
    *random.pick(&[Action::Block, Action::Redact, Action::Observe])
}

fn viewed(rule: &Rule, random: &mut Random) -> Rule {
    let mut views: Vec<View> = (0..random.below(3)).map(|_| random.pick(&View::NAMES).1).collect();
    if random.once_in(8) {
        views = View::NAMES.map(|(_, view)| view).to_vec();
    }
    let mut rule = rule.clone();
    if views.contains(&View::Fold) {
        // Small letters, of which no name of an API has one.
        let letters = [('W', "q"), ('Q', "q"), ('X', "w"), ('Z', "z")];
        rule.pattern = letters.iter().fold(rule.pattern, |pattern, (large, small)| pattern.replace(*large, small));
    }
    rule.also_through(views)
}

/// What texts are made of that some see more in than others.
const WORDS: &[&str] = &[
    "Q",
    "Q",
    "X",
    "X",
    "Z",
    "Z",
    "W",
    " ",
    "\n",
    "é",
    "😀",
    "QX",
    "XZ",
    "q",
    "w",
    "z",
    "qw",
    "\\u0051",
    "\\u0058",
    "\\u00",
    "\\",
    "\\n",
    "u",
    "%51",
    "%58",
    "%5",
    "%",
    "&#81;",
    "&#x58",
    "&#0000090;",
    "&amp;",
    "&",
    "\u{200b}",
    "\u{ad}",
    "\t",
    "Ｑ",
    "Ｗ",
    "ｚ",
    "e\u{301}",
    "\u{301}",
];
