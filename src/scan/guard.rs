//! Redaction whose own output is scanned again.
//!
//! Replacing a match joins what stood on its two sides to the marker, and that can be a
//! new match: `<script` before a marker that begins with `[` is one. Text enters as for
//! [`redact`](super::redact); matches to replace and a frontier leave, both in offsets
//! of the text that entered. A match in the output is never repaired: that it re-formed
//! is the sign of an attack, and the scanner stops.

use std::collections::VecDeque;

use super::{
    block::{Hit, Stop},
    view::{Blocker, Readings, Replacer},
};

/// A [`Replacer`] followed by a [`Blocker`] of the same rules.
pub struct GuardedScanner {
    redact: Replacer,
    guard: Blocker,
    marker: Box<[u8]>,
    /// The text that the guard has not seen yet, from offset `seen` on.
    held: Vec<u8>,
    seen: u64,
    /// Matches that the guard has seen replaced and that may not leave yet.
    waiting: VecDeque<Hit>,
    /// Matches below the frontier, until the caller takes them.
    done: VecDeque<Hit>,
    /// The frontier in the text that entered, and the same place in the output.
    frontier: u64,
    frontier_out: u64,
}

impl GuardedScanner {
    /// A scanner at the start of a text for a caller that writes `marker` for every
    /// match. `redact` and `block` are what one list of rules reads by; `cap`
    /// bounds what either stage withholds.
    pub fn new(redact: Readings<'_>, block: Readings<'_>, marker: &[u8], cap: u64) -> Self {
        Self {
            redact: Replacer::new(redact, Some(cap)),
            guard: Blocker::new(block, cap),
            marker: marker.into(),
            held: Vec::new(),
            seen: 0,
            waiting: VecDeque::new(),
            done: VecDeque::new(),
            frontier: 0,
            frontier_out: 0,
        }
    }

    /// Scans the next bytes of the text. Bytes after a stop are ignored.
    pub fn feed(&mut self, redact: Readings<'_>, block: Readings<'_>, bytes: &[u8]) {
        if self.stop().is_some() {
            return;
        }
        let is_first = self.held.is_empty();
        self.redact.feed(redact, bytes);
        let read = self.seen + bytes.len() as u64;
        if is_first && self.redact.waiting() == 0 && self.redact.frontier() == read {
            // The ordinary case: nothing waits, so that nothing is copied.
            self.guard.feed(block, bytes);
            self.seen = read;
        } else {
            self.held.extend_from_slice(bytes);
            self.show_guard(block);
        }
        self.advance();
    }

    /// Ends the text. Afterwards all of it may leave, unless the scanner stopped.
    pub fn finish(&mut self, redact: Readings<'_>, block: Readings<'_>) {
        if self.stop().is_some() {
            return;
        }
        self.redact.finish(redact);
        self.show_guard(block);
        self.guard.finish(block);
        self.advance();
    }

    /// The offset below which the text, with its matches replaced, may leave.
    pub fn frontier(&self) -> u64 {
        self.frontier
    }

    /// The next match to replace below the frontier, in order, each handed out once.
    pub fn next_match(&mut self) -> Option<Hit> {
        self.done.pop_front()
    }

    /// Why the scanner stopped, if it did. The offsets of a hit are offsets of the
    /// output, where the match re-formed.
    pub fn stop(&self) -> Option<Stop> {
        self.guard.stop().or(self.redact.capped().then_some(Stop::Cap))
    }

    /// Memory that remembers where views came from, in bytes.
    pub fn memory(&self) -> usize {
        self.redact.memory() + self.guard.memory()
    }

    /// Feeds the guard what the redactor has decided.
    fn show_guard(&mut self, block: Readings<'_>) {
        // Offsets handed out lie between `seen` and the end of `held`.
        let index = |offset: u64, base: u64| (offset - base) as usize;
        let mut from = 0;
        while let Some(hit) = self.redact.next_match() {
            self.guard.feed(block, &self.held[from..index(hit.start, self.seen)]);
            self.guard.feed(block, &self.marker);
            from = index(hit.end, self.seen);
            self.waiting.push_back(hit);
        }
        let to = index(self.redact.frontier(), self.seen);
        self.guard.feed(block, &self.held[from..to]);
        self.held.drain(..to);
        self.seen += to as u64;
    }

    /// Moves the frontier to where the guard's own is.
    fn advance(&mut self) {
        let target = self.guard.frontier();
        while let Some(&hit) = self.waiting.front() {
            let marker = self.frontier_out + (hit.start - self.frontier);
            let behind = marker + self.marker.len() as u64;
            if target < behind {
                // The guard withholds part of the marker, or what stands before it.
                let to = target.min(marker);
                self.frontier += to - self.frontier_out;
                self.frontier_out = to;
                return;
            }
            self.frontier = hit.end;
            self.frontier_out = behind;
            self.waiting.pop_front();
            self.done.push_back(hit);
        }
        self.frontier += target - self.frontier_out;
        self.frontier_out = target;
    }
}

#[cfg(test)]
mod tests;
