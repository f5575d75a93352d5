//! What is cut out of a text whose readings have matches that overlap.
//!
//! The matches of each reading are those that `replace_all` would replace in it. Those that share a byte of the text
//! are one cut, of all that they cover; cuts that only touch stay two.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::{Readings, Viewed, scanner::Lane};
use crate::scan::{block::Hit, redact::RedactScanner};

/// A [`RedactScanner`] for every reading of a text. Without views it is that of the text, and no more.
pub struct Replacer {
    raw: RedactScanner,
    lanes: Box<[Lane<RedactScanner>]>,
    cap: Option<u64>,
    /// Matches of all readings as (start, rule, end), that with the first start on top.
    found: BinaryHeap<Reverse<(u64, usize, u64)>>,
    /// The cut that later matches may still widen.
    open: Option<Hit>,
    /// Cuts that are certain, in order, until the caller takes them.
    done: VecDeque<Hit>,
    /// Bytes read.
    at: u64,
    frontier: u64,
    capped: bool,
}

impl Replacer {
    /// A scanner at the start of a text that withholds at most `cap` bytes, or with `None` of a text that is in memory
    /// already.
    pub fn new<'a>(readings: impl Into<Readings<'a>>, cap: Option<u64>) -> Self {
        let readings = readings.into();
        let limit = cap.unwrap_or(u64::MAX);
        let lane = |viewed: &Viewed| Lane::new(viewed, RedactScanner::new(&viewed.program, limit), true);
        Self {
            raw: RedactScanner::new(readings.raw, limit),
            lanes: readings.views.iter().map(lane).collect(),
            cap,
            found: BinaryHeap::new(),
            open: None,
            done: VecDeque::new(),
            at: 0,
            frontier: 0,
            capped: false,
        }
    }

    /// Scans the next bytes of the text. Bytes after the cap was reached are ignored.
    pub fn feed<'a>(&mut self, readings: impl Into<Readings<'a>>, bytes: &[u8]) {
        let readings = readings.into();
        if self.lanes.is_empty() {
            return self.raw.feed(readings.raw, bytes);
        }
        // Where the cap is reached must not depend on the chunks.
        let step = if self.cap.is_some() { 1 } else { bytes.len().max(1) };
        for chunk in bytes.chunks(step) {
            if self.capped() {
                return;
            }
            self.at += chunk.len() as u64;
            self.raw.feed(readings.raw, chunk);
            let found = &mut self.found;
            for (lane, viewed) in self.lanes.iter_mut().zip(readings.views) {
                lane.feed(viewed, chunk, |hit| found.push(Reverse((hit.start, hit.rule, hit.end))));
            }
            self.join();
        }
    }

    /// Ends the text: decides everything that waited, so that all of it may leave, unless the cap was reached.
    pub fn finish<'a>(&mut self, readings: impl Into<Readings<'a>>) {
        let readings = readings.into();
        if self.lanes.is_empty() {
            return self.raw.finish(readings.raw);
        }
        if self.capped() {
            return;
        }
        self.raw.finish(readings.raw);
        let found = &mut self.found;
        for (lane, viewed) in self.lanes.iter_mut().zip(readings.views) {
            lane.finish(viewed, |hit| found.push(Reverse((hit.start, hit.rule, hit.end))));
        }
        self.join();
    }

    /// Moves the frontier to where no reading withholds anything, and no cut is open.
    fn join(&mut self) {
        while let Some(hit) = self.raw.next_match() {
            self.found.push(Reverse((hit.start, hit.rule, hit.end)));
        }
        // All matches that start below this are known.
        let known = self.lanes.iter().map(Lane::frontier).fold(self.raw.frontier(), u64::min);
        self.frontier = known;
        loop {
            let next = self.found.peek().map(|&Reverse((start, rule, end))| Hit { rule, start, end });
            match (&mut self.open, next) {
                (Some(open), Some(next)) if next.start < open.end => {
                    open.end = open.end.max(next.end);
                    self.found.pop();
                }
                (Some(open), _) if open.end > known => {
                    self.frontier = open.start;
                    break;
                }
                (Some(_), _) => self.done.extend(self.open.take()),
                (None, Some(next)) if next.start < known => {
                    self.open = Some(next);
                    self.found.pop();
                }
                (None, _) => break,
            }
        }
        let limit = self.cap.unwrap_or(u64::MAX);
        let full = |lane: &Lane<RedactScanner>| lane.scanner.capped() || lane.exceeds(limit);
        self.capped = self.at - self.frontier > limit.max(1) || self.lanes.iter().any(full);
    }

    /// The offset below which the text is decided. All cuts that start below it have been handed out, and all of those
    /// end at or below it.
    pub fn frontier(&self) -> u64 {
        if self.lanes.is_empty() { self.raw.frontier() } else { self.frontier }
    }

    /// The next cut, in order, each handed out once. Its rule is that of the match that starts first.
    pub fn next_match(&mut self) -> Option<Hit> {
        if self.lanes.is_empty() { self.raw.next_match() } else { self.done.pop_front() }
    }

    /// How many matches are found and not handed out.
    pub fn waiting(&self) -> usize {
        let lanes: usize = self.lanes.iter().map(|lane| lane.scanner.waiting()).sum();
        self.raw.waiting() + lanes + self.found.len() + self.done.len()
    }

    /// Whether a candidate outgrew the cap. Nothing at or above the frontier may leave.
    pub fn capped(&self) -> bool {
        self.capped || self.raw.capped()
    }

    /// Memory that remembers where views came from, in bytes.
    pub fn memory(&self) -> usize {
        self.lanes.iter().map(Lane::memory).sum()
    }
}
