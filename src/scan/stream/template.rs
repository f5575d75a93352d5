//! The frame before, as a template for the next one.
//!
//! The events of an answer are alike: the same names in the same order, the same ids, and a few values that change.
//! A frame that was read whole enters, with what was found out about each of its strings; of the next frame, the
//! places leave where it differs. All else of it is byte for byte what has been scanned already, so that it need
//! not be read again.

use std::ops::Range;

use super::super::text::json::plain_len;
use super::document::{Document, Label, Leaf, Mark, Scalar, mark};

/// The longest payload that is kept.
const MAX_PAYLOAD: usize = 2 << 10;

/// The most values of a frame that may change.
const MAX_HOLES: usize = 24;

/// A frame in which nothing was found.
#[derive(Debug, Default)]
pub(super) struct Template {
    payload: Vec<u8>,
    /// In the order of the payload.
    holes: Vec<Hole>,
    /// Bytes of strings that pass unread and do not change.
    pub opaque: u64,
    /// The frame is none that another one could be compared with.
    refused: bool,
}

/// A value that may be another one in the next frame.
#[derive(Clone, Copy, Debug)]
struct Hole {
    /// In the payload of the template: of a string, what stands between its quotes.
    start: u16,
    end: u16,
    value: Value,
}

/// What the value of a hole is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// A piece of the text of this channel.
    Piece(u16),
    /// A text of its own; whether it is named like an id.
    Alone { id: bool },
    /// A number that tells no texts apart.
    Number,
    /// The number of the event.
    Sequence,
}

/// What stands in a hole of the next frame.
#[derive(Clone, Debug)]
pub(super) struct Filled {
    pub value: Value,
    /// In its payload.
    pub raw: Range<usize>,
    /// As it was in the template.
    pub same: bool,
}

impl Template {
    /// Forgets the frame.
    pub(super) fn clear(&mut self) {
        self.refused = false;
        self.payload.clear();
        self.holes.clear();
        self.opaque = 0;
    }

    /// A string of the frame that is read. Whether it may be another one in the next.
    pub(super) fn string(&mut self, document: &Document, leaf: &Leaf, value: Value) -> bool {
        let may_change = document.name(&leaf.label).and_then(mark).is_none();
        if may_change {
            self.hole(&leaf.raw, value);
        } else if matches!(value, Value::Piece(_)) {
            // It tells texts apart and is one itself, which has to be read each time.
            self.refused = true;
        }
        may_change
    }

    /// The numbers of the frame that is read.
    pub(super) fn scalars(&mut self, document: &Document) {
        for Scalar { parent, label, text, raw } in &document.scalars {
            let value = match (label, document.name(label).and_then(mark)) {
                (Label::Key(_), None) => Value::Number,
                (_, Some(Mark::SequenceNumber)) if *parent == Some(0) => Value::Sequence,
                _ => continue,
            };
            if is_integer(&document.text[text.clone()]) {
                self.hole(&(*raw..raw + text.len()), value);
            }
        }
    }

    fn hole(&mut self, raw: &Range<usize>, value: Value) {
        match (u16::try_from(raw.start), u16::try_from(raw.end)) {
            (Ok(start), Ok(end)) if self.holes.len() < MAX_HOLES => {
                if self.holes.len() == self.holes.capacity() {
                    // A stream keeps them as long as it lasts.
                    self.holes.reserve_exact(4);
                }
                self.holes.push(Hole { start, end, value });
            }
            _ => self.refused = true,
        }
    }

    /// Takes the frame whose values were told since [`clear`](Self::clear).
    pub(super) fn set(&mut self, payload: &[u8]) {
        if payload.len() > MAX_PAYLOAD || self.refused {
            return self.clear();
        }
        self.holes.sort_unstable_by_key(|hole| hole.start);
        if self.payload.capacity() < payload.len() {
            // Room for values that are somewhat longer, and no more.
            self.payload.reserve_exact(payload.len().next_multiple_of(64));
        }
        self.payload.extend_from_slice(payload);
    }

    /// Finds what stands in the holes. False if the payload is not the template with other values: then it must be
    /// read as if there was none.
    pub(super) fn fill(&self, payload: &[u8], filled: &mut Vec<Filled>) -> bool {
        filled.clear();
        if self.payload.is_empty() {
            return false;
        }
        let (mut at, mut done) = (0, 0);
        for hole in &self.holes {
            let literal = &self.payload[done..hole.start as usize];
            let Some(rest) = payload.get(at..).and_then(|rest| rest.strip_prefix(literal)) else { return false };
            let len = match hole.value {
                // What the template goes on with is a quote, and no plain byte is.
                Value::Piece(_) | Value::Alone { .. } => plain_len(rest),
                Value::Number | Value::Sequence => rest.iter().take_while(|byte| byte.is_ascii_digit()).count(),
            };
            let text = &rest[..len];
            let same = text == &self.payload[hole.start as usize..hole.end as usize];
            let valid = same
                || match hole.value {
                    Value::Piece(_) | Value::Alone { .. } => std::str::from_utf8(text).is_ok(),
                    Value::Number | Value::Sequence => is_integer(text),
                };
            if !valid {
                return false;
            }
            at += literal.len();
            filled.push(Filled { value: hole.value, raw: at..at + len, same });
            at += len;
            done = hole.end as usize;
        }
        payload[at..] == self.payload[done..]
    }
}

/// Whether this is a number, written as an integer without a sign.
fn is_integer(text: &[u8]) -> bool {
    match text {
        [b'0'] => true,
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}
