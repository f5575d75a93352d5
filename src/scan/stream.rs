//! Scanning a response while it is delivered.
//!
//! Bytes of a body enter, cut anywhere; the bytes that may leave now leave, and a [`StreamStop`] when nothing more
//! may. What leaves is what entered, byte for byte, but for matches that are cut out of the strings they stand in.
//! Nothing here waits, reads a clock, or ends a connection.
//!
//! Invariants: no byte of a match leaves, however the match is divided over events, escapes and chunks; what leaves
//! does not depend on the chunks; a frame leaves as soon as no string in it, and no frame before it, holds the first
//! bytes of what could become a match.
//!
//! | module | what it does |
//! |---|---|
//! | `frames` | events and lines: the queue of what is withheld |
//! | `messages` | messages of a WebSocket, each a frame |
//! | `text` | a body that is one text |
//! | `watch` | a JSON document that is only observed |
//! | `document` | a frame's JSON as strings with their places |
//! | `api` | which strings are pieces of one text |
//! | `house` | the same, as an operator describes a format of their own |
//! | `channel` | one such text and its scanner |
//! | `end` | how each API ends a stream early |

mod api;
mod channel;
mod document;
mod end;
mod frames;
mod house;
mod messages;
mod text;
mod watch;

use std::sync::Arc;

pub use end::{EndReason, Ending};
pub use house::{House, Path, Template};
pub use messages::{Joining, MessageKind, Messages};

use super::{
    block::Hit,
    body::{BinaryParts, Inspection, RuleHit},
    places::Places,
    rule::Action,
    ruleset::RuleSet,
    text::sse::Framing,
};
use frames::FrameScanner;
use text::TextScanner;
use watch::Watch;

/// The most of one stream that is withheld, in bytes.
pub const HOLD_WIRE: usize = 1 << 20;

/// What is asked of a stream.
#[derive(Clone, Debug)]
pub struct StreamRules {
    /// What to look for.
    pub rules: Arc<RuleSet>,
    /// What to do about it. [`Action::Sanitize`] is not for streams.
    pub action: Action,
    /// The longest text allowed, in UTF-16 units.
    pub max_chars: Option<u64>,
    /// The most allowed of all texts together, in UTF-16 units.
    pub max_body_chars: Option<u64>,
    /// The service's own format, where an operator describes it.
    pub house: Option<Arc<House>>,
}

impl StreamRules {
    fn observes(&self) -> bool {
        self.action == Action::Observe
    }

    fn inspection(&self) -> Inspection<'_> {
        Inspection {
            rules: &self.rules,
            action: self.action,
            max_chars: self.max_chars,
            max_body_chars: self.max_body_chars,
            // A stream has no parts.
            binary_parts: BinaryParts::Block,
        }
    }
}

/// How the body of a stream is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamFormat {
    /// `text/event-stream`.
    Events,
    /// A JSON document on each line.
    Lines,
    /// One text. If it may still become a JSON document it is withheld, to be read both ways.
    Text,
    /// One JSON document, which leaves as it comes. Only for [`Action::Observe`]: half a document is of no use, so that
    /// any other action needs all of it first.
    Document,
}

/// Whose events a route declares, which lets ids and signatures of that API be told from text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    /// Chat completions and responses.
    OpenAi,
    /// Messages.
    Anthropic,
}

/// Why nothing more of a stream may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamStop {
    /// A rule matched, or a candidate outgrew what may be withheld.
    Blocked,
    /// A text, or all of them together, are too long.
    TooLong,
    /// It cannot be read for certain, for this reason.
    Unscannable(&'static str),
}

/// What passed unread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unread {
    /// Bytes of strings that are named like ids and look like ids.
    pub opaque: u64,
    /// Bytes behind what could not be read, of a stream that is only observed.
    pub unscannable: u64,
}

/// Scans one stream.
pub struct StreamScanner {
    rules: StreamRules,
    wire: Wire,
    stop: Option<StreamStop>,
    tally: Tally,
}

enum Wire {
    Frames(Box<FrameScanner>),
    Text(Box<TextScanner>),
    Document(Box<Watch>),
}

/// What was found and let go so far.
struct Tally {
    counts: Counts,
    /// UTF-16 units of text that left.
    released: u64,
    unread: Unread,
}

/// Hits by rule and, where somebody asked, their places.
struct Counts {
    by_rule: Vec<u64>,
    places: Option<Box<Places>>,
}

impl Counts {
    /// Says which text the next hits are in.
    fn enter(&mut self, name: impl FnOnce(&mut String)) {
        if let Some(places) = &mut self.places {
            places.enter(name);
        }
    }

    fn add(&mut self, hit: Hit) {
        self.by_rule[hit.rule] += 1;
        self.place(hit);
    }

    /// Notes the place of a hit that is counted elsewhere.
    fn place(&mut self, hit: Hit) {
        if let Some(places) = &mut self.places {
            places.add(hit);
        }
    }
}

impl StreamScanner {
    /// A scanner at the start of a stream.
    pub fn new(rules: StreamRules, format: StreamFormat, declared: Option<Vendor>) -> Self {
        let wire = match format {
            StreamFormat::Events => Wire::Frames(Box::new(FrameScanner::new(&rules, Framing::Events, declared))),
            StreamFormat::Lines => Wire::Frames(Box::new(FrameScanner::new(&rules, Framing::Lines, declared))),
            StreamFormat::Text => Wire::Text(Box::new(TextScanner::new(&rules))),
            StreamFormat::Document => Wire::Document(Box::new(Watch::new(&rules))),
        };
        let counts = Counts { by_rule: vec![0; rules.rules.rule_ids().len()], places: None };
        let tally = Tally { counts, released: 0, unread: Unread::default() };
        Self { rules, wire, stop: None, tally }
    }

    /// Notes from now on where rules match, which costs nothing while none does.
    pub fn with_places(mut self) -> Self {
        self.tally.counts.places = Some(Box::default());
        self
    }

    /// Where rules matched so far. The channel of a piece is the path that tells its text from others; its offsets
    /// count from the first piece on. That of any other string is its path, its offsets count from its start.
    ///
    /// `None` unless [`with_places`](Self::with_places) asked for them.
    pub fn places(&self) -> Option<&Places> {
        self.tally.counts.places.as_deref()
    }

    /// Scans the next bytes and appends to `out` what may leave. Nothing leaves after a stop.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.advance(Some(bytes), out);
    }

    /// Ends the stream and appends the rest of it to `out`, unless it stops.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.advance(None, out);
    }

    fn advance(&mut self, bytes: Option<&[u8]>, out: &mut Vec<u8>) {
        if self.rules.observes() {
            // What is only observed never waits, and goes on where it cannot be read.
            let bytes = bytes.unwrap_or_default();
            out.extend_from_slice(bytes);
            if self.stop.is_some() {
                self.tally.unread.unscannable += bytes.len() as u64;
                return;
            }
        }
        if self.stop.is_some() {
            return;
        }
        let (rules, tally) = (&self.rules, &mut self.tally);
        let result = match (&mut self.wire, bytes) {
            (Wire::Frames(frames), Some(bytes)) => frames.feed(rules, bytes, tally, out),
            (Wire::Frames(frames), None) => frames.finish(rules, tally, out),
            (Wire::Text(text), Some(bytes)) => text.feed(rules, bytes, tally, out),
            (Wire::Text(text), None) => text.finish(rules, tally, out),
            (Wire::Document(watch), Some(bytes)) => watch.feed(rules, bytes, tally),
            (Wire::Document(watch), None) => watch.finish(),
        };
        self.stop = result.err();
        if self.stop.is_some() && rules.observes() {
            self.tally.unread.unscannable += self.held() as u64;
        }
    }

    /// Why nothing more may leave; under [`Action::Observe`], why nothing more is read.
    pub fn stop(&self) -> Option<StreamStop> {
        self.stop
    }

    /// Memory that is held for what is withheld, in bytes, about.
    pub fn held(&self) -> usize {
        match &self.wire {
            Wire::Frames(frames) => frames.held(),
            Wire::Text(text) => text.held(),
            Wire::Document(_) => 0,
        }
    }

    /// Bytes of the stream that came and have neither left nor been cut out.
    pub fn withheld(&self) -> usize {
        match &self.wire {
            Wire::Frames(frames) => frames.withheld(),
            Wire::Text(text) => text.held(),
            Wire::Document(_) => 0,
        }
    }

    /// Length of the text that left, as it came, in UTF-16 units: that of the pieces where some strings are pieces.
    pub fn chars(&self) -> u64 {
        self.tally.released
    }

    /// The rules that matched so far, in the order of the rule set.
    pub fn hits(&self) -> Vec<RuleHit> {
        let mut counts = self.tally.counts.by_rule.clone();
        let observed = match &self.wire {
            Wire::Frames(frames) => frames.observed(),
            Wire::Text(text) => vec![text.observed()],
            Wire::Document(watch) => vec![watch.observed()],
        };
        for channel in observed {
            counts.iter_mut().zip(channel).for_each(|(count, more)| *count += more);
        }
        let all = counts.into_iter().enumerate();
        all.filter(|&(_, count)| count > 0).map(|(rule, count)| RuleHit { rule, count }).collect()
    }

    /// What passed unread so far.
    pub fn unread(&self) -> Unread {
        self.tally.unread
    }

    /// What ends the stream early in a way that its readers understand, in place of all that did not leave. `None`
    /// where only a broken connection says that a text is not whole.
    pub fn end(&self, ending: &Ending<'_>) -> Option<Vec<u8>> {
        match &self.wire {
            Wire::Frames(frames) => Some(frames.end(self.rules.house.as_deref(), ending)),
            Wire::Text(_) | Wire::Document(_) => None,
        }
    }
}

impl std::fmt::Debug for StreamScanner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the text.
        f.debug_struct("StreamScanner").field("stop", &self.stop).field("held", &self.held()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
