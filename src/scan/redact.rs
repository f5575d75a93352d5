//! Replacing in a stream exactly what `Regex::replace_all` would replace in the whole.
//!
//! Chunks of one text enter; matches to replace and a frontier leave. A match is
//! handed out once no match that starts before it can swallow it any more. The scanner
//! never keeps the text and never writes one: [`Redactor`] does both for callers that
//! have no queue of their own.

use std::collections::VecDeque;

use super::{
    block::Hit,
    occupied::Occupied,
    program::{Program, State},
};

/// Finds the matches that `replace_all` would replace: leftmost, preferring the rule
/// that comes first, none overlapping another.
///
/// All calls on one scanner must be given the same program, one compiled with
/// [`Semantics::LeftmostFirst`](super::program::Semantics::LeftmostFirst).
pub struct RedactScanner {
    /// In the order of their starts, no two in one state.
    threads: Vec<Thread>,
    occupied: Occupied,
    /// Finished matches that a thread with an earlier start may still swallow, in the
    /// order of their starts. They stay out of the loop over bytes: many can wait.
    pending: VecDeque<Hit>,
    /// Matches that are certain, in order, until the caller takes them.
    done: VecDeque<Hit>,
    /// Bytes read.
    at: u64,
    kind: u8,
    cap: u64,
    capped: bool,
    /// How many transitions were taken: the measure of work in tests.
    #[cfg(test)]
    steps: u64,
}

#[derive(Clone, Copy)]
struct Thread {
    state: State,
    start: u64,
    /// The match that this thread has if it gets no longer one.
    found: Option<Found>,
}

#[derive(Clone, Copy, PartialEq)]
struct Found {
    rule: usize,
    end: u64,
}

fn states(threads: &[Thread]) -> impl ExactSizeIterator<Item = State> + Clone {
    threads.iter().map(|thread| thread.state)
}

impl RedactScanner {
    /// A scanner at the start of a text that withholds at most `cap` bytes.
    pub fn new(program: &Program, cap: u64) -> Self {
        Self {
            threads: Vec::new(),
            occupied: Occupied::default(),
            pending: VecDeque::new(),
            done: VecDeque::new(),
            at: 0,
            kind: program.table().kind_at_start(),
            cap,
            capped: false,
            #[cfg(test)]
            steps: 0,
        }
    }

    /// Goes back to the start of a new text, and keeps what was allocated.
    pub fn reset(&mut self, program: &Program) {
        self.threads.clear();
        self.pending.clear();
        self.done.clear();
        self.at = 0;
        self.kind = program.table().kind_at_start();
        self.capped = false;
    }

    /// Scans the next bytes of the text. Bytes after the cap was reached are ignored.
    pub fn feed(&mut self, program: &Program, bytes: &[u8]) {
        let table = program.table();
        let mut i = 0;
        while i < bytes.len() && !self.capped {
            if self.threads.is_empty() {
                let found = table.next_start(self.kind, bytes, i, self.cap);
                if found > i {
                    self.at += (found - i) as u64;
                    self.kind = table.kind_after(bytes[found - 1]);
                    i = found;
                    continue;
                }
            }
            self.step(program, bytes[i]);
            i += 1;
            self.capped = self.at - self.frontier() > self.cap.max(1);
        }
        self.commit();
    }

    /// Ends the text: decides everything that waited, so that all of it may leave,
    /// unless the cap was reached.
    pub fn finish(&mut self, program: &Program) {
        if self.capped {
            return;
        }
        let mut barrier = 0;
        for i in 0..self.threads.len() {
            let Thread { state, start, mut found } = self.threads[i];
            if start < barrier {
                break;
            }
            if let Some(&rule) = program.table().at_end(state).first() {
                found = Some(Found { rule: rule as usize, end: self.at });
                barrier = self.at;
                self.void_after(start);
            }
            self.settle(start, found);
        }
        self.threads.clear();
        self.commit();
    }

    /// The offset below which the text is decided. All matches that start below it have
    /// been handed out, and all of those end at or below it.
    pub fn frontier(&self) -> u64 {
        self.threads.first().map_or(self.at, |thread| thread.start)
    }

    /// The next match to replace, in order, each handed out once.
    pub fn next_match(&mut self) -> Option<Hit> {
        self.done.pop_front()
    }

    /// How many matches are found and not handed out: a candidate that starts before them
    /// may swallow them, or the caller has not taken them yet.
    pub fn waiting(&self) -> usize {
        self.pending.len() + self.done.len()
    }

    /// Whether a candidate outgrew the cap. Nothing at or above the frontier may leave.
    pub fn capped(&self) -> bool {
        self.capped
    }

    fn step(&mut self, program: &Program, byte: u8) {
        let table = program.table();
        let newborn = Thread { state: table.start(self.kind), start: self.at, found: None };
        self.kind = table.kind_after(byte);
        self.at += 1;
        self.threads.push(newborn);
        let mut kept = 0;
        // A match found in this step voids the threads that start inside of it.
        let mut barrier = 0;
        for i in 0..self.threads.len() {
            let Thread { state, start, mut found } = self.threads[i];
            if start < barrier {
                continue;
            }
            let state = table.next(state, byte);
            #[cfg(test)]
            {
                self.steps += 1;
            }
            if table.reports(state) {
                let late = table.late(state).first().map(|&r| (r, self.at - 1));
                let now = table.now(state).first().map(|&r| (r, self.at));
                // The automaton only goes on past a match for the sake of a preferred
                // one, so what is reported later replaces what was found.
                for (rule, end) in late.into_iter().chain(now) {
                    let report = Some(Found { rule: rule as usize, end });
                    if found != report {
                        found = report;
                        barrier = end;
                        self.void_after(start);
                    }
                }
            }
            if table.lives(state) && self.occupied.is_new(table, states(&self.threads[..kept]), state) {
                self.threads[kept] = Thread { state, start, found };
                kept += 1;
            } else {
                self.settle(start, found);
            }
        }
        self.threads.truncate(kept);
    }

    /// Drops the finished matches behind `start`: a match that began there and was found
    /// in this step covers them all.
    fn void_after(&mut self, start: u64) {
        while self.pending.back().is_some_and(|hit| hit.start > start) {
            self.pending.pop_back();
        }
    }

    /// A thread ended; if it had found a match, this is now final, though it may still
    /// be swallowed.
    fn settle(&mut self, start: u64, found: Option<Found>) {
        if let Some(Found { rule, end }) = found {
            let place = self.pending.partition_point(|hit| hit.start < start);
            self.pending.insert(place, Hit { rule, start, end });
        }
    }

    /// Hands out the finished matches that no living thread precedes.
    fn commit(&mut self) {
        let frontier = self.frontier();
        let certain = self.pending.partition_point(|hit| hit.start < frontier);
        self.done.extend(self.pending.drain(..certain));
    }
}

/// A [`RedactScanner`] that keeps the text it withholds and writes the rewritten text.
pub struct Redactor {
    scanner: RedactScanner,
    marker: Box<[u8]>,
    /// The text from offset `base` on.
    held: Vec<u8>,
    base: u64,
}

impl Redactor {
    /// A redactor at the start of a text that writes `marker` for every match and
    /// withholds at most `cap` bytes.
    pub fn new(program: &Program, marker: &[u8], cap: u64) -> Self {
        Self { scanner: RedactScanner::new(program, cap), marker: marker.into(), held: Vec::new(), base: 0 }
    }

    /// Reads the next bytes of the text and appends to `out` what is decided.
    pub fn feed(&mut self, program: &Program, bytes: &[u8], out: &mut Vec<u8>) {
        self.held.extend_from_slice(bytes);
        self.scanner.feed(program, bytes);
        self.release(out);
    }

    /// Ends the text and appends the rest of it to `out`, unless the cap was reached.
    pub fn finish(&mut self, program: &Program, out: &mut Vec<u8>) {
        self.scanner.finish(program);
        self.release(out);
    }

    /// Whether a candidate outgrew the cap, so that the rest of the text must not leave.
    pub fn capped(&self) -> bool {
        self.scanner.capped()
    }

    fn release(&mut self, out: &mut Vec<u8>) {
        // Offsets handed out lie between `base` and the end of `held`.
        let index = |offset: u64, base: u64| (offset - base) as usize;
        let mut from = 0;
        while let Some(hit) = self.scanner.next_match() {
            out.extend_from_slice(&self.held[from..index(hit.start, self.base)]);
            out.extend_from_slice(&self.marker);
            from = index(hit.end, self.base);
        }
        let to = index(self.scanner.frontier(), self.base);
        out.extend_from_slice(&self.held[from..to]);
        self.held.drain(..to);
        self.base += to as u64;
    }
}

#[cfg(test)]
mod tests;
