//! The first match of a text in any of its readings, and the number of matches.

use std::{mem, sync::Arc};

use super::{Openers, Readings, View, Viewed, origin::Origin, transducer::Transducer};
use crate::scan::{
    block::{BlockScanner, CountScanner, Hit, Stop},
    program::Program,
    redact::RedactScanner,
};

/// The most stretches of a view that are remembered while a match is undecided. A text that needs more is full of
/// escapes inside of one candidate, and is refused as if the candidate had outgrown its cap.
const MAX_RUNS: usize = 1 << 16;

/// What finds matches in one reading.
pub(super) trait Scan {
    fn reset(&mut self, program: &Program);
    fn feed(&mut self, program: &Program, bytes: &[u8]);
    fn finish(&mut self, program: &Program);
    fn frontier(&self) -> u64;
    /// The next match that is decided, in offsets of the view.
    fn next_match(&mut self) -> Option<Hit>;
}

impl Scan for BlockScanner {
    fn reset(&mut self, program: &Program) {
        self.reset(program);
    }
    fn feed(&mut self, program: &Program, bytes: &[u8]) {
        self.feed(program, bytes);
    }
    fn finish(&mut self, program: &Program) {
        self.finish(program);
    }
    fn frontier(&self) -> u64 {
        self.frontier()
    }
    fn next_match(&mut self) -> Option<Hit> {
        None
    }
}

impl Scan for RedactScanner {
    fn reset(&mut self, program: &Program) {
        self.reset(program);
    }
    fn feed(&mut self, program: &Program, bytes: &[u8]) {
        self.feed(program, bytes);
    }
    fn finish(&mut self, program: &Program) {
        self.finish(program);
    }
    fn frontier(&self) -> u64 {
        self.frontier()
    }
    fn next_match(&mut self) -> Option<Hit> {
        self.next_match()
    }
}

/// A text through one view, and its scanner.
pub(super) struct Lane<S> {
    view: View,
    openers: Arc<Openers>,
    transducer: Transducer,
    pub(super) scanner: S,
    /// Left empty if nobody asks where a match is.
    origin: Origin,
    tracks: bool,
    /// Bytes of the text in whole units, and bytes of the view.
    read: u64,
    made: u64,
    /// The map would have outgrown what is kept of it.
    overflowed: bool,
}

impl<S: Scan> Lane<S> {
    pub(super) fn new(viewed: &Viewed, scanner: S, tracks: bool) -> Self {
        Self {
            view: viewed.view,
            openers: Arc::clone(&viewed.openers),
            transducer: Transducer::new(viewed.view),
            scanner,
            origin: Origin::default(),
            tracks,
            read: 0,
            made: 0,
            overflowed: false,
        }
    }

    pub(super) fn reset(&mut self, viewed: &Viewed) {
        self.transducer.reset();
        self.scanner.reset(&viewed.program);
        self.origin.clear();
        (self.read, self.made, self.overflowed) = (0, 0, false);
    }

    /// Reads the next bytes of the text. `found` gets the matches that are decided, in offsets of the text and with
    /// the index that their rule has among all.
    pub(super) fn feed(&mut self, viewed: &Viewed, bytes: &[u8], found: impl FnMut(Hit)) {
        self.advance(viewed, Some(bytes), found);
    }

    /// Ends the text.
    pub(super) fn finish(&mut self, viewed: &Viewed, mut found: impl FnMut(Hit)) {
        self.advance(viewed, None, &mut found);
        self.scanner.finish(&viewed.program);
        while let Some(hit) = self.scanner.next_match() {
            found(translated(&self.origin, viewed, hit, self.read));
        }
    }

    fn advance(&mut self, viewed: &Viewed, bytes: Option<&[u8]>, mut found: impl FnMut(Hit)) {
        let Self { transducer, scanner, origin, tracks, read, made, overflowed, .. } = self;
        let each = |unit: super::transducer::Unit<'_>| {
            let from = mem::replace(read, *read + unit.raw);
            if *tracks {
                origin.push(*made, unit.text.len() as u64, from..*read, unit.linear);
            }
            *made += unit.text.len() as u64;
            scanner.feed(&viewed.program, unit.text);
            while let Some(hit) = scanner.next_match() {
                found(translated(origin, viewed, hit, *read));
            }
            origin.trim(scanner.frontier());
            *overflowed |= origin.len() > MAX_RUNS;
        };
        match bytes {
            Some(bytes) => transducer.feed(bytes, each),
            None => transducer.finish(each),
        }
    }

    /// The offset of the text below which nothing can become a match of the view.
    pub(super) fn frontier(&self) -> u64 {
        // Behind the last unit stands one that is not complete, if any.
        self.origin
            .start(self.scanner.frontier())
            .unwrap_or_else(|| self.read + self.view.harmless(self.transducer.beginning(), &self.openers) as u64)
    }

    /// Whether more than `cap` bytes of the text are withheld, or could not be told apart any more.
    pub(super) fn exceeds(&self, cap: u64) -> bool {
        let held = self.read + self.transducer.undecided() - self.frontier();
        // A cap of nothing would refuse every first byte of a candidate.
        self.overflowed || held > cap.max(1)
    }

    /// A match of this view as one of the text.
    pub(super) fn translated(&self, viewed: &Viewed, hit: Hit) -> Hit {
        translated(&self.origin, viewed, hit, self.read)
    }

    pub(super) fn memory(&self) -> usize {
        self.origin.memory()
    }
}

fn translated(origin: &Origin, viewed: &Viewed, hit: Hit, read: u64) -> Hit {
    let start = origin.start(hit.start).unwrap_or(read);
    Hit { rule: viewed.rules[hit.rule], start, end: origin.end(hit.end).unwrap_or(read) }
}

/// A [`BlockScanner`] for every reading of a text. Without views it is that of the text, and no more.
///
/// Of a text that arrives in chunks, no byte of a match of any reading lies below the frontier, and neither the
/// frontier nor the verdict depends on the chunks.
pub struct Blocker {
    raw: BlockScanner,
    lanes: Box<[Lane<BlockScanner>]>,
    /// `None` where nobody asks for a frontier.
    cap: Option<u64>,
    /// Why a view stopped.
    stop: Option<Stop>,
}

impl Blocker {
    /// A scanner at the start of a text that withholds at most `cap` bytes.
    pub fn new<'a>(readings: impl Into<Readings<'a>>, cap: u64) -> Self {
        Self::with(readings.into(), Some(cap))
    }

    /// A scanner for a text that is in memory already. Frontiers, and the offsets of hits in views, mean nothing.
    pub fn untracked<'a>(readings: impl Into<Readings<'a>>) -> Self {
        Self::with(readings.into(), None)
    }

    fn with(readings: Readings<'_>, cap: Option<u64>) -> Self {
        let limit = cap.unwrap_or(u64::MAX);
        let lane = |viewed: &Viewed| Lane::new(viewed, BlockScanner::new(&viewed.program, limit), cap.is_some());
        Self {
            raw: BlockScanner::new(readings.raw, limit),
            lanes: readings.views.iter().map(lane).collect(),
            cap,
            stop: None,
        }
    }

    /// Goes back to the start of a new text, and keeps what was allocated.
    pub fn reset<'a>(&mut self, readings: impl Into<Readings<'a>>) {
        let readings = readings.into();
        self.raw.reset(readings.raw);
        self.lanes.iter_mut().zip(readings.views).for_each(|(lane, viewed)| lane.reset(viewed));
        self.stop = None;
    }

    /// Scans the next bytes of the text. Bytes after a stop are ignored.
    pub fn feed<'a>(&mut self, readings: impl Into<Readings<'a>>, bytes: &[u8]) {
        let readings = readings.into();
        if self.lanes.is_empty() {
            return self.raw.feed(readings.raw, bytes);
        }
        // All readings go on together: the one that stops says where the others are, and that must not depend on how
        // much of the text came at once.
        let step = if self.cap.is_some() { 1 } else { bytes.len().max(1) };
        for chunk in bytes.chunks(step) {
            if self.stop().is_some() {
                return;
            }
            self.raw.feed(readings.raw, chunk);
            for (lane, viewed) in self.lanes.iter_mut().zip(readings.views) {
                lane.feed(viewed, chunk, |_| {});
            }
            self.judge(readings);
        }
    }

    /// Ends the text: decides the matches that waited for its end. Afterwards all of it may leave, unless the scanner
    /// stopped.
    pub fn finish<'a>(&mut self, readings: impl Into<Readings<'a>>) {
        let readings = readings.into();
        if self.stop().is_some() {
            return;
        }
        self.raw.finish(readings.raw);
        for (lane, viewed) in self.lanes.iter_mut().zip(readings.views) {
            lane.finish(viewed, |_| {});
        }
        self.judge(readings);
    }

    fn judge(&mut self, readings: Readings<'_>) {
        for (lane, viewed) in self.lanes.iter().zip(readings.views) {
            let stop = match lane.scanner.stop() {
                Some(Stop::Hit(hit)) => Some(Stop::Hit(lane.translated(viewed, hit))),
                Some(Stop::Cap) => Some(Stop::Cap),
                None => self.cap.filter(|&cap| lane.exceeds(cap)).map(|_| Stop::Cap),
            };
            self.stop = self.stop.or(stop);
        }
    }

    /// The offset below which bytes may leave. It never goes back, and stands still after a stop.
    pub fn frontier(&self) -> u64 {
        self.lanes.iter().map(Lane::frontier).fold(self.raw.frontier(), u64::min)
    }

    /// The match that stopped the scanner, first of all that of the text as it is.
    pub fn hit(&self) -> Option<Hit> {
        match self.stop() {
            Some(Stop::Hit(hit)) => Some(hit),
            Some(Stop::Cap) | None => None,
        }
    }

    /// Why the scanner stopped, if it did.
    pub fn stop(&self) -> Option<Stop> {
        self.raw.stop().or(self.stop)
    }

    /// Memory that remembers where views came from, in bytes.
    pub fn memory(&self) -> usize {
        self.lanes.iter().map(Lane::memory).sum()
    }
}

/// A [`CountScanner`] for every reading of a text.
///
/// The same match read in two ways is one: of each rule that reading counts which has the most matches.
pub struct Counter {
    raw: CountScanner,
    views: Box<[(Transducer, CountScanner)]>,
    /// By rule; used only if there are views.
    most: Vec<u64>,
}

impl Counter {
    /// A scanner at the start of a text.
    pub fn new<'a>(readings: impl Into<Readings<'a>>) -> Self {
        let readings = readings.into();
        let view = |viewed: &Viewed| (Transducer::new(viewed.view), CountScanner::new(&viewed.program));
        Self {
            raw: CountScanner::new(readings.raw),
            views: readings.views.iter().map(view).collect(),
            most: vec![0; readings.raw.rule_ids().len()],
        }
    }

    /// Goes to the start of the next text; the counts go on.
    pub fn next_text<'a>(&mut self, readings: impl Into<Readings<'a>>) {
        let readings = readings.into();
        self.raw.next_text(readings.raw);
        for ((transducer, scanner), viewed) in self.views.iter_mut().zip(readings.views) {
            transducer.reset();
            scanner.next_text(&viewed.program);
        }
    }

    /// Scans the next bytes of the text.
    pub fn feed<'a>(&mut self, readings: impl Into<Readings<'a>>, bytes: &[u8]) {
        self.feed_each(readings, bytes, |_| {});
    }

    /// Scans the next bytes of the text and tells each match that the text has as it is.
    pub fn feed_each<'a>(&mut self, readings: impl Into<Readings<'a>>, bytes: &[u8], found: impl FnMut(Hit)) {
        let readings = readings.into();
        self.raw.feed_each(readings.raw, bytes, found);
        for ((transducer, scanner), viewed) in self.views.iter_mut().zip(readings.views) {
            transducer.feed(bytes, |unit| scanner.feed(&viewed.program, unit.text));
        }
        self.compare(readings);
    }

    /// Ends the text.
    pub fn finish<'a>(&mut self, readings: impl Into<Readings<'a>>) {
        self.finish_each(readings, |_| {});
    }

    /// Ends the text and tells each match that the text has as it is.
    pub fn finish_each<'a>(&mut self, readings: impl Into<Readings<'a>>, found: impl FnMut(Hit)) {
        let readings = readings.into();
        self.raw.finish_each(readings.raw, found);
        for ((transducer, scanner), viewed) in self.views.iter_mut().zip(readings.views) {
            transducer.finish(|unit| scanner.feed(&viewed.program, unit.text));
            scanner.finish(&viewed.program);
        }
        self.compare(readings);
    }

    fn compare(&mut self, readings: Readings<'_>) {
        if self.views.is_empty() {
            return;
        }
        self.most.copy_from_slice(self.raw.counts());
        for ((_, scanner), viewed) in self.views.iter().zip(readings.views) {
            for (&rule, &count) in viewed.rules.iter().zip(scanner.counts()) {
                self.most[rule] = self.most[rule].max(count);
            }
        }
    }

    /// How often each rule matched, by index, in all texts so far.
    pub fn counts(&self) -> &[u64] {
        if self.views.is_empty() { self.raw.counts() } else { &self.most }
    }
}
