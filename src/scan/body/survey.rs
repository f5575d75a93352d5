//! The first pass over a body: what is in it, and how long its texts are.
//!
//! Texts enter, whole or as the runs of a lexer; whether any rule hits, and where,
//! leaves. Nothing is copied and nothing is rewritten.

use super::{Inspection, Tally};
use crate::scan::{
    rule::Action,
    text::{
        json::{Role, Run, Sink},
        utf16_len,
    },
    view::{Blocker, Counter},
};

/// Scans the texts of one body.
pub(super) struct Survey<'a> {
    what: &'a Inspection<'a>,
    scanner: Scanner,
    tally: Tally,
    role: Role,
    /// UTF-16 units of the current text.
    units: u64,
    value_hit: bool,
    key_hit: bool,
}

/// What the rules and the action need.
enum Scanner {
    /// There are no rules.
    None,
    First(Blocker),
    Count(Counter),
}

impl<'a> Survey<'a> {
    pub(super) fn new(what: &'a Inspection<'a>) -> Self {
        let readings = what.rules.to_block();
        let scanner = match what.action {
            _ if what.rules.is_empty() => Scanner::None,
            Action::Observe => Scanner::Count(Counter::new(readings)),
            _ => Scanner::First(Blocker::untracked(readings)),
        };
        Self { what, scanner, tally: Tally::new(what), role: Role::Value, units: 0, value_hit: false, key_hit: false }
    }

    /// Whether a rule hit that is not only observed.
    pub(super) fn is_hit(&self) -> bool {
        self.value_hit || self.key_hit
    }

    /// Whether the rest of the body cannot change the verdict: a key cannot be rewritten
    /// without changing what the document means.
    pub(super) fn must_block(&self) -> bool {
        self.key_hit || (self.value_hit && !self.what.action.rewrites())
    }

    /// Scans a text whose length counts.
    pub(super) fn text(&mut self, text: &[u8]) {
        self.whole(Role::Value, text);
    }

    /// Scans a text whose length does not count.
    pub(super) fn unmeasured(&mut self, text: &[u8]) {
        self.whole(Role::Key, text);
    }

    pub(super) fn into_tally(mut self) -> Tally {
        if let Scanner::Count(scanner) = &self.scanner {
            self.tally.counts.copy_from_slice(scanner.counts());
        }
        self.tally
    }

    fn whole(&mut self, role: Role, text: &[u8]) {
        self.begin(role, 0);
        self.piece(text);
        self.end(0);
    }

    fn piece(&mut self, text: &[u8]) {
        if self.role == Role::Value {
            self.units += utf16_len(text);
        }
        let readings = self.what.rules.to_block();
        match &mut self.scanner {
            Scanner::None => {}
            Scanner::First(scanner) => scanner.feed(readings, text),
            Scanner::Count(scanner) => scanner.feed(readings, text),
        }
    }
}

impl Sink for Survey<'_> {
    fn begin(&mut self, role: Role, _: u64) {
        self.role = role;
        self.units = 0;
        let readings = self.what.rules.to_block();
        match &mut self.scanner {
            Scanner::None => {}
            Scanner::First(scanner) => scanner.reset(readings),
            Scanner::Count(scanner) => scanner.next_text(readings),
        }
    }

    fn run(&mut self, run: Run<'_>) {
        self.piece(run.text);
    }

    fn end(&mut self, _: u64) {
        if self.role == Role::Value {
            self.tally.length(self.units);
        }
        let readings = self.what.rules.to_block();
        match &mut self.scanner {
            Scanner::None => {}
            Scanner::First(scanner) => {
                scanner.finish(readings);
                let Some(hit) = scanner.hit() else { return };
                self.tally.counts[hit.rule] += 1;
                match self.role {
                    Role::Key => self.key_hit = true,
                    Role::Value => self.value_hit = true,
                }
            }
            Scanner::Count(scanner) => scanner.finish(readings),
        }
    }
}
