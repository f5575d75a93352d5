//! Where rules matched: for people and tests, not for the path of a request.
//!
//! Hits enter as scanners find them; a bounded list of [`Place`]s leaves. Nothing of a text is kept.

use std::sync::Arc;

use super::block::Hit;

/// Where a rule matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Index into [`RuleSet::rule_ids`](super::RuleSet::rule_ids).
    pub rule: usize,
    /// Offset of the first byte of the match, in the decoded text of its channel.
    pub start: u64,
    /// Offset behind its last byte.
    pub end: u64,
    /// Which text it was found in.
    pub channel: Arc<str>,
}

/// The most places that are listed. A stream without an end may have as many hits.
pub const MAX_PLACES: usize = 1000;

/// The first places that were found, in the order in which they became certain.
#[derive(Clone, Debug, Default)]
pub struct Places {
    list: Vec<Place>,
    total: u64,
    /// The text that is being scanned.
    channel: String,
}

impl Places {
    /// Says which text is scanned from now on.
    pub(super) fn enter(&mut self, name: impl FnOnce(&mut String)) {
        self.channel.clear();
        name(&mut self.channel);
    }

    pub(super) fn add(&mut self, hit: Hit) {
        self.total += 1;
        if self.list.len() == MAX_PLACES {
            return;
        }
        let channel = match self.list.last() {
            Some(last) if *last.channel == *self.channel => Arc::clone(&last.channel),
            _ => self.channel.as_str().into(),
        };
        self.list.push(Place { rule: hit.rule, start: hit.start, end: hit.end, channel });
    }

    /// The first [`MAX_PLACES`] of them.
    pub fn list(&self) -> &[Place] {
        &self.list
    }

    /// How many there were in all.
    pub fn total(&self) -> u64 {
        self.total
    }
}
