//! Strings that stand alone.

use super::super::{
    super::{
        rule::Action,
        view::{Blocker, Counter},
    },
    StreamRules, StreamStop, Tally,
};

/// Scans strings one by one.
pub(super) enum Alone {
    None,
    First(Blocker),
    Count(Counter),
}

impl Alone {
    pub(super) fn new(rules: &StreamRules) -> Self {
        let readings = rules.rules.to_block();
        match rules.action {
            _ if !rules.rules.acts() => Self::None,
            Action::Observe => Self::Count(Counter::new(readings)),
            _ => Self::First(Blocker::untracked(readings)),
        }
    }

    /// Hits by rule, where they are only counted.
    pub(super) fn counts(&self) -> &[u64] {
        match self {
            Self::Count(scanner) => scanner.counts(),
            Self::None | Self::First(_) => &[],
        }
    }

    /// Whether a rule matches in this string, and is not only counted.
    pub(super) fn scan(&mut self, rules: &StreamRules, text: &[u8], tally: &mut Tally) -> bool {
        let readings = rules.rules.to_block();
        match self {
            Self::None => false,
            Self::Count(scanner) => {
                scanner.next_text(readings);
                scanner.feed_each(readings, text, |hit| tally.counts.place(hit));
                scanner.finish_each(readings, |hit| tally.counts.place(hit));
                false
            }
            Self::First(scanner) => {
                scanner.reset(readings);
                scanner.feed(readings, text);
                scanner.finish(readings);
                // What is redacted is counted where it is cut.
                if let (Some(hit), true) = (scanner.hit(), rules.action != Action::Redact) {
                    tally.counts.add(hit);
                }
                scanner.hit().is_some()
            }
        }
    }

    /// The end that [`scan`](Self::scan) has found in a string that nothing can be cut out of.
    pub(super) fn refused(&self, rules: &StreamRules, tally: &mut Tally) -> StreamStop {
        if let (Alone::First(scanner), Action::Redact) = (self, rules.action)
            && let Some(hit) = scanner.hit()
        {
            tally.counts.add(hit);
        }
        StreamStop::Blocked
    }
}
