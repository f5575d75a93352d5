//! Finding matches in a stream while withholding as little of it as possible.
//!
//! Chunks of one text enter; after each, [`BlockScanner::frontier`] says how much of the
//! text may leave. Below the frontier lies no byte of any match, not even of one that
//! is yet incomplete; the byte at the frontier can still become the first of a match,
//! so no correct scanner could let more go. Neither the frontier nor the verdict
//! depends on how the text was cut. Scanners never keep the text itself.

use std::ops::ControlFlow;

use super::{
    occupied::Occupied,
    program::{DEAD, Program, State},
};

/// A match: which rule, and where, in bytes from the start of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Index of the rule in the program.
    pub rule: usize,
    /// Offset of the first byte.
    pub start: u64,
    /// Offset behind the last byte.
    pub end: u64,
}

/// Why a scanner refuses to let more of a text go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// A rule matched.
    Hit(Hit),
    /// A candidate grew beyond the cap without being decided. It counts as a match: to
    /// let it go would let a match longer than the cap leak.
    Cap,
}

/// Scans one text until the first match.
///
/// All calls on one scanner must be given the same program, one compiled with
/// [`Program::compile`].
pub struct BlockScanner {
    threads: Threads,
    cap: u64,
    stop: Option<Stop>,
}

impl BlockScanner {
    /// A scanner at the start of a text that withholds at most `cap` bytes.
    pub fn new(program: &Program, cap: u64) -> Self {
        Self { threads: Threads::new(program), cap, stop: None }
    }

    /// Goes back to the start of a new text, and keeps what was allocated.
    pub fn reset(&mut self, program: &Program) {
        self.threads.reset(program);
        self.stop = None;
    }

    /// Scans the next bytes of the text. Bytes after a stop are ignored.
    pub fn feed(&mut self, program: &Program, bytes: &[u8]) {
        if self.stop.is_some() {
            return;
        }
        let stop = &mut self.stop;
        let flow = self.threads.feed(program, bytes, self.cap, |rules, start, end| {
            *stop = first(rules, start, end);
            ControlFlow::Break(())
        });
        if flow.is_break() && stop.is_none() {
            *stop = Some(Stop::Cap);
        }
    }

    /// Ends the text: decides the matches that waited for its end. Afterwards all of it
    /// may leave, unless the scanner stopped.
    pub fn finish(&mut self, program: &Program) {
        if self.stop.is_some() {
            return;
        }
        let stop = &mut self.stop;
        let _ = self.threads.finish(program, |rules, start, end| {
            *stop = first(rules, start, end);
            ControlFlow::Break(())
        });
    }

    /// The offset below which bytes may leave. It never goes back, and stands still
    /// after a stop.
    pub fn frontier(&self) -> u64 {
        match self.stop {
            Some(Stop::Hit(hit)) => self.threads.frontier().min(hit.start),
            Some(Stop::Cap) | None => self.threads.frontier(),
        }
    }

    /// The match that stopped the scanner: of those that were certain first, the one
    /// that starts first, and of those, the rule that comes first.
    pub fn hit(&self) -> Option<Hit> {
        match self.stop {
            Some(Stop::Hit(hit)) => Some(hit),
            Some(Stop::Cap) | None => None,
        }
    }

    /// Why the scanner stopped, if it did.
    pub fn stop(&self) -> Option<Stop> {
        self.stop
    }
}

fn first(rules: &[u32], start: u64, end: u64) -> Option<Stop> {
    rules.iter().min().map(|&rule| Stop::Hit(Hit { rule: rule as usize, start, end }))
}

/// Counts matches and stops for none.
///
/// Counted are, for each rule, matches that do not overlap one already counted. Every
/// rule that matches anywhere is counted at least once. Where candidates of one rule
/// overlap each other, the count can be lower than the number of disjoint matches,
/// since only the candidate that started first is followed.
pub struct CountScanner {
    threads: Threads,
    /// By rule: the end of the last counted match in this text.
    ends: Vec<u64>,
    counts: Vec<u64>,
}

impl CountScanner {
    /// A scanner at the start of a text.
    pub fn new(program: &Program) -> Self {
        let rules = program.rule_ids().len();
        Self { threads: Threads::new(program), ends: vec![0; rules], counts: vec![0; rules] }
    }

    /// Goes to the start of the next text; the counts go on.
    pub fn next_text(&mut self, program: &Program) {
        self.threads.reset(program);
        self.ends.fill(0);
    }

    /// Scans the next bytes of the text.
    pub fn feed(&mut self, program: &Program, bytes: &[u8]) {
        self.feed_each(program, bytes, |_| {});
    }

    /// Scans the next bytes of the text and tells each match that is counted.
    pub fn feed_each(&mut self, program: &Program, bytes: &[u8], mut found: impl FnMut(Hit)) {
        let (ends, counts) = (&mut self.ends, &mut self.counts);
        let _ = self
            .threads
            .feed(program, bytes, u64::MAX, |rules, start, end| count(ends, counts, rules, start, end, &mut found));
    }

    /// Ends the text.
    pub fn finish(&mut self, program: &Program) {
        self.finish_each(program, |_| {});
    }

    /// Ends the text and tells each match that is counted.
    pub fn finish_each(&mut self, program: &Program, mut found: impl FnMut(Hit)) {
        let (ends, counts) = (&mut self.ends, &mut self.counts);
        let _ = self.threads.finish(program, |rules, start, end| count(ends, counts, rules, start, end, &mut found));
    }

    /// How often each rule matched, by index, in all texts so far.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }
}

fn count(
    ends: &mut [u64],
    counts: &mut [u64],
    rules: &[u32],
    start: u64,
    end: u64,
    found: &mut impl FnMut(Hit),
) -> ControlFlow<()> {
    for &rule in rules {
        let rule = rule as usize;
        if start >= ends[rule] {
            ends[rule] = end;
            counts[rule] += 1;
            found(Hit { rule, start, end });
        }
    }
    ControlFlow::Continue(())
}

/// A candidate: a match that began at `start` and has brought the automaton to `state`.
#[derive(Clone, Copy)]
struct Thread {
    state: State,
    start: u64,
}

fn states(threads: &[Thread]) -> impl ExactSizeIterator<Item = State> + Clone {
    threads.iter().map(|thread| thread.state)
}

/// One thread for every byte where a match may have begun, in the order of their
/// starts, no two in one state.
struct Threads {
    list: Vec<Thread>,
    occupied: Occupied,
    /// Bytes read.
    at: u64,
    /// The kind of the next position, for look-behind.
    kind: u8,
    /// How many transitions were taken: the measure of work in tests.
    #[cfg(test)]
    steps: u64,
}

impl Threads {
    fn new(program: &Program) -> Self {
        Self {
            list: Vec::new(),
            occupied: Occupied::default(),
            at: 0,
            kind: program.table().kind_at_start(),
            #[cfg(test)]
            steps: 0,
        }
    }

    fn reset(&mut self, program: &Program) {
        self.list.clear();
        self.at = 0;
        self.kind = program.table().kind_at_start();
    }

    fn frontier(&self) -> u64 {
        self.list.first().map_or(self.at, |thread| thread.start)
    }

    /// Scans `bytes`. Breaks if `report` does, or if more than `cap` bytes would be held.
    #[inline]
    fn feed(
        &mut self,
        program: &Program,
        bytes: &[u8],
        cap: u64,
        mut report: impl FnMut(&[u32], u64, u64) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let table = program.table();
        let mut i = 0;
        while i < bytes.len() {
            if self.list.is_empty() {
                let found = table.next_start(self.kind, bytes, i, cap);
                if found > i {
                    self.at += (found - i) as u64;
                    self.kind = table.kind_after(bytes[found - 1]);
                    i = found;
                    continue;
                }
            }
            self.step(program, bytes[i], &mut report)?;
            i += 1;
            // A cap of nothing would refuse every first byte of a candidate.
            if self.at - self.frontier() > cap.max(1) {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    /// Moves every thread by one byte and starts a new one.
    ///
    /// If `report` breaks, the list holds the threads before the one that reported,
    /// which is all that the frontier needs.
    #[inline]
    fn step(
        &mut self,
        program: &Program,
        byte: u8,
        report: &mut impl FnMut(&[u32], u64, u64) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let table = program.table();
        let newborn = Thread { state: table.start(self.kind), start: self.at };
        self.kind = table.kind_after(byte);
        self.at += 1;
        self.list.push(newborn);
        let mut kept = 0;
        for i in 0..self.list.len() {
            let Thread { state, start } = self.list[i];
            let state = table.next(state, byte);
            #[cfg(test)]
            {
                self.steps += 1;
            }
            if state == DEAD {
                continue;
            }
            if table.reports(state) {
                let late = table.late(state);
                let now = table.now(state);
                let mut flow = ControlFlow::Continue(());
                if !late.is_empty() {
                    flow = report(late, start, self.at - 1);
                }
                if flow.is_continue() && !now.is_empty() {
                    flow = report(now, start, self.at);
                }
                if flow.is_break() {
                    self.list.truncate(kept);
                    return flow;
                }
            }
            if table.lives(state) && self.occupied.is_new(table, states(&self.list[..kept]), state) {
                self.list[kept] = Thread { state, start };
                kept += 1;
            }
        }
        self.list.truncate(kept);
        ControlFlow::Continue(())
    }

    /// Reports the matches that end with the text.
    fn finish(
        &mut self,
        program: &Program,
        mut report: impl FnMut(&[u32], u64, u64) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        for i in 0..self.list.len() {
            let Thread { state, start } = self.list[i];
            let rules = program.table().at_end(state);
            if !rules.is_empty() && report(rules, start, self.at).is_break() {
                self.list.truncate(i);
                return ControlFlow::Break(());
            }
        }
        self.list.clear();
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests;
