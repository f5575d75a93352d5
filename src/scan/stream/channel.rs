//! One text that arrives in pieces, and how far it may leave.

use std::collections::VecDeque;

use super::super::{
    block::{Hit, Stop},
    body::MARKER,
    guard::GuardedScanner,
    rule::Action,
    ruleset::RuleSet,
    text::utf16_len,
    view::{Blocker, Counter},
};
use super::Counts;

/// The most text of one channel that is withheld for a candidate.
pub(super) const HOLD_TEXT: u64 = 16 << 10;

/// A text and its scanner.
pub(super) struct Channel {
    scanner: Scanner,
    /// Bytes of the text so far.
    pub len: u64,
    /// UTF-16 units of the text so far.
    pub units: u64,
    /// Matches to replace, in order, until all of their text has left.
    pub cuts: VecDeque<Hit>,
    /// Nothing follows any more.
    pub finished: bool,
    /// The frame, by number, that had the last piece.
    pub last_used: u64,
}

enum Scanner {
    None,
    Block(Blocker),
    Redact(Box<Redacting>),
    Count(Counter),
}

struct Redacting {
    scanner: GuardedScanner,
    /// For rules that block, where others are replaced: they read the text as it came.
    strict: Option<Blocker>,
}

impl Redacting {
    /// Reads more of the text, of which `at` bytes came before.
    fn feed(&mut self, rules: &RuleSet, text: &[u8], mut at: u64) {
        let (Some(scanner), Some(strict)) = (&mut self.strict, rules.strict()) else {
            return self.scanner.feed(rules.to_redact(), rules.to_block(), text);
        };
        let (readings, skip) = (rules.to_block(), rules.block().table().skip());
        let mut rest = text;
        // Both go on together: the one that stops says where the other is, and that must not depend on how much of the
        // text came at once. Where neither waits, they pass over what no rule can begin with.
        while !rest.is_empty() && scanner.stop().is_none() && self.scanner.stop().is_none() {
            let waits = scanner.frontier() < at || self.scanner.frontier() < at || !readings.views.is_empty();
            let step = if waits { 1 } else { skip.find(rest, 0, |_| true).max(1) };
            let (next, behind) = rest.split_at(step);
            scanner.feed(strict.to_block(), next);
            self.scanner.feed(rules.to_redact(), readings, next);
            (rest, at) = (behind, at + step as u64);
        }
    }
}

/// A channel must not go on: a rule matched, or a candidate outgrew its cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stopped;

impl Channel {
    pub(super) fn new(rules: &RuleSet, action: Action) -> Self {
        let scanner = match action {
            _ if !rules.acts() => Scanner::None,
            Action::Observe => Scanner::Count(Counter::new(rules.to_block())),
            Action::Redact => {
                let (redact, block) = (rules.to_redact(), rules.to_block());
                let scanner = GuardedScanner::new(redact, block, MARKER.as_bytes(), HOLD_TEXT);
                let strict = rules.strict().map(|strict| Blocker::new(strict.to_block(), HOLD_TEXT));
                Scanner::Redact(Box::new(Redacting { scanner, strict }))
            }
            // What cannot be done on a stream is refused before, and is no way around the rules here.
            Action::Block | Action::Sanitize => Scanner::Block(Blocker::new(rules.to_block(), HOLD_TEXT)),
        };
        Self { scanner, len: 0, units: 0, cuts: VecDeque::new(), finished: false, last_used: 0 }
    }

    /// Reads more of the text. `counts` are the hits by rule.
    pub(super) fn feed(&mut self, rules: &RuleSet, text: &[u8], counts: &mut Counts) -> Result<(), Stopped> {
        self.len += text.len() as u64;
        self.units += utf16_len(text);
        match &mut self.scanner {
            Scanner::None => {}
            Scanner::Block(scanner) => scanner.feed(rules.to_block(), text),
            Scanner::Redact(redacting) => redacting.feed(rules, text, self.len - text.len() as u64),
            Scanner::Count(scanner) => scanner.feed_each(rules.to_block(), text, |hit| counts.place(hit)),
        }
        self.decided(counts)
    }

    /// Ends the text.
    pub(super) fn finish(&mut self, rules: &RuleSet, counts: &mut Counts) -> Result<(), Stopped> {
        if std::mem::replace(&mut self.finished, true) {
            return Ok(());
        }
        match &mut self.scanner {
            Scanner::None => {}
            Scanner::Block(scanner) => scanner.finish(rules.to_block()),
            Scanner::Redact(redacting) => {
                if let (Some(scanner), Some(strict)) = (&mut redacting.strict, rules.strict()) {
                    scanner.finish(strict.to_block());
                }
                redacting.scanner.finish(rules.to_redact(), rules.to_block());
            }
            Scanner::Count(scanner) => scanner.finish_each(rules.to_block(), |hit| counts.place(hit)),
        }
        self.decided(counts)
    }

    /// The offset below which the text, with its cuts, may leave.
    pub(super) fn frontier(&self) -> u64 {
        match &self.scanner {
            Scanner::None | Scanner::Count(_) => self.len,
            Scanner::Block(scanner) => scanner.frontier(),
            Scanner::Redact(redacting) => match &redacting.strict {
                None => redacting.scanner.frontier(),
                Some(strict) => self.before_cuts(strict.frontier().min(redacting.scanner.frontier())),
            },
        }
    }

    /// This offset, or where the cut begins that it lies in: what is cut out leaves at once.
    fn before_cuts(&self, frontier: u64) -> u64 {
        let cut = self.cuts.iter().take_while(|cut| cut.start < frontier).find(|cut| frontier < cut.end);
        cut.map_or(frontier, |cut| cut.start)
    }

    /// Memory that the scanner needs to know where its views came from, in bytes.
    pub(super) fn memory(&self) -> usize {
        match &self.scanner {
            Scanner::None | Scanner::Count(_) => 0,
            Scanner::Block(scanner) => scanner.memory(),
            Scanner::Redact(redacting) => {
                redacting.scanner.memory() + redacting.strict.as_ref().map_or(0, Blocker::memory)
            }
        }
    }

    /// Whether nothing of the text is withheld or will be cut: what follows could be scanned as a new text.
    pub(super) fn is_idle(&self) -> bool {
        self.cuts.is_empty() && (self.finished || self.frontier() == self.len)
    }

    /// Hits of a scanner that stops for none.
    pub(super) fn observed(&self) -> &[u64] {
        match &self.scanner {
            Scanner::Count(scanner) => scanner.counts(),
            _ => &[],
        }
    }

    fn decided(&mut self, counts: &mut Counts) -> Result<(), Stopped> {
        let stop = match &mut self.scanner {
            Scanner::None | Scanner::Count(_) => None,
            Scanner::Block(scanner) => scanner.stop(),
            Scanner::Redact(redacting) => {
                let Redacting { scanner, strict } = &mut **redacting;
                while let Some(hit) = scanner.next_match() {
                    counts.add(hit);
                    self.cuts.push_back(hit);
                }
                strict.as_ref().and_then(Blocker::stop).or(scanner.stop())
            }
        };
        match stop {
            None => Ok(()),
            Some(stop) => {
                if let Stop::Hit(hit) = stop {
                    counts.add(hit);
                }
                Err(Stopped)
            }
        }
    }
}
