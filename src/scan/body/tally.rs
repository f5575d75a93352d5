//! What is known of one body while it is read, and the report that it becomes.

use super::{Inspection, Report, RuleHit, Verdict};
use crate::scan::rule::Action;

/// Hits and lengths of one body while it is read.
pub(super) struct Tally {
    /// By rule.
    pub(super) counts: Vec<u64>,
    pub(super) chars: u64,
    pub(super) longest: u64,
    pub(super) binary: u64,
}

impl Tally {
    pub(super) fn new(what: &Inspection<'_>) -> Self {
        Self { counts: vec![0; what.rules.rule_ids().len()], chars: 0, longest: 0, binary: 0 }
    }

    /// Adds what was found in one part of the body.
    pub(super) fn add(&mut self, part: &Report) {
        for hit in &part.hits {
            self.counts[hit.rule] += hit.count;
        }
        self.chars += part.chars;
        self.longest = self.longest.max(part.longest);
    }

    pub(super) fn join(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
        self.chars += other.chars;
        self.longest = self.longest.max(other.longest);
    }

    pub(super) fn length(&mut self, chars: u64) {
        self.chars += chars;
        self.longest = self.longest.max(chars);
    }

    pub(super) fn too_long(&self, what: &Inspection<'_>) -> bool {
        what.max_chars.is_some_and(|max| self.longest > max) || what.max_body_chars.is_some_and(|max| self.chars > max)
    }

    pub(super) fn hits(&self) -> Vec<RuleHit> {
        let all = self.counts.iter().enumerate();
        all.filter(|&(_, &count)| count > 0).map(|(rule, &count)| RuleHit { rule, count }).collect()
    }

    /// The report on a body that no action rewrote.
    pub(super) fn without_rewriting(self, what: &Inspection<'_>, blocked: bool) -> Report {
        let verdict = if blocked {
            Verdict::Blocked
        } else if what.action == Action::Observe {
            match self.too_long(what) || self.counts.iter().any(|&count| count > 0) {
                true => Verdict::Observed,
                false => Verdict::Clean,
            }
        } else {
            self.or_too_long(what, Verdict::Clean)
        };
        self.report(what, verdict)
    }

    /// The verdict on a body that the rules let pass.
    pub(super) fn or_too_long(&self, what: &Inspection<'_>, verdict: Verdict) -> Verdict {
        if self.too_long(what) { Verdict::TooLong } else { verdict }
    }

    pub(super) fn report(self, what: &Inspection<'_>, verdict: Verdict) -> Report {
        Report {
            verdict,
            hits: self.hits(),
            chars: self.chars,
            longest: self.longest,
            too_long: self.too_long(what),
            binary: self.binary,
        }
    }

    /// Adds the hits of rules that `hits` lacks: the same match, read in two ways, is
    /// one.
    pub(super) fn add_missing_to(&self, hits: &mut Vec<RuleHit>) {
        for hit in self.hits() {
            if hits.iter().all(|known| known.rule != hit.rule) {
                hits.push(hit);
            }
        }
        hits.sort_by_key(|hit| hit.rule);
    }
}
