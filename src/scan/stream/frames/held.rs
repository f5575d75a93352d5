//! A frame that was read, and the queue of those that may not leave yet.

use std::collections::VecDeque;
use std::ops::Range;

use super::super::{super::body::MARKER, document::Piece, messages::MessageKind};
use super::{Channels, place::raw_range};

/// A frame, and what of it is withheld.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub raw: Vec<u8>,
    pub segments: Vec<Segment>,
    /// Raw offsets, of the whole frame.
    pub pieces: Vec<Piece>,
    pub edits: Vec<Edit>,
    /// What spells a text as numbers.
    pub integers: Vec<Range<usize>>,
    pub units: u64,
    /// Of a message.
    pub kind: MessageKind,
}

/// A piece of a channel's text.
#[derive(Debug)]
pub(super) struct Segment {
    pub channel: usize,
    pub lo: u64,
    pub hi: u64,
    /// In [`Held::pieces`].
    pub pieces: Range<usize>,
}

/// Bytes to write in place of a range of the frame.
#[derive(Clone, Debug)]
pub(super) struct Edit {
    pub raw: Range<usize>,
    pub by: &'static str,
}

/// What waits, in order.
#[derive(Default)]
pub(super) struct Queue {
    held: VecDeque<Held>,
    memory: usize,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &Held> {
        self.held.iter()
    }

    /// Memory of all that waits, in bytes.
    pub(super) fn memory(&self) -> usize {
        self.memory
    }

    pub(super) fn push(&mut self, held: Held) {
        self.memory += held.memory();
        self.held.push_back(held);
    }

    /// Adds the second byte of a line end to the last frame; false if none waits.
    pub(super) fn line_feed(&mut self) -> bool {
        let Some(held) = self.held.back_mut() else { return false };
        held.raw.push(b'\n');
        self.memory += 1;
        true
    }

    /// The frame at the front, if it waits for nothing, with what is cut out of it.
    pub(super) fn released(&mut self, channels: &mut Channels) -> Option<Held> {
        let front = self.held.front()?;
        if front.segments.iter().any(|segment| segment.hi > channels.of(segment.channel).frontier()) {
            return None;
        }
        let mut held = self.held.pop_front()?;
        self.memory -= held.memory();
        held.cut(channels);
        Some(held)
    }
}

impl Held {
    pub(super) fn reset(&mut self) {
        self.raw.clear();
        self.segments.clear();
        self.pieces.clear();
        self.edits.clear();
        self.integers.clear();
        self.units = 0;
        self.kind = MessageKind::Text;
    }

    /// In bytes.
    fn memory(&self) -> usize {
        self.raw.len()
            + self.segments.len() * size_of::<Segment>()
            + self.pieces.len() * size_of::<Piece>()
            + self.integers.len() * size_of::<Range<usize>>()
    }

    /// Bytes that it has room for, whatever is in it.
    pub(super) fn capacity(&self) -> usize {
        self.raw.capacity()
            + self.segments.capacity() * size_of::<Segment>()
            + self.pieces.capacity() * size_of::<Piece>()
            + self.edits.capacity() * size_of::<Edit>()
            + self.integers.capacity() * size_of::<Range<usize>>()
    }

    /// Whether it is below all frontiers, with nothing cut out of it.
    pub(super) fn may_leave_untouched(&self, channels: &Channels) -> bool {
        self.edits.is_empty()
            && self.segments.iter().all(|segment| {
                let channel = channels.of(segment.channel);
                segment.hi <= channel.frontier() && channel.cuts.is_empty()
            })
    }

    /// Turns what is cut out of the texts into edits of this frame.
    fn cut(&mut self, channels: &mut Channels) {
        for Segment { channel, lo, hi, pieces } in &self.segments {
            let cuts = &mut channels.of_mut(*channel).cuts;
            if cuts.is_empty() {
                continue;
            }
            let pieces = &self.pieces[pieces.clone()];
            let text = text_of(pieces, &self.raw, (hi - lo) as usize);
            for cut in cuts.iter().take_while(|cut| cut.start < *hi) {
                let part = (cut.start.max(*lo) - lo) as u32..(cut.end.min(*hi) - lo) as u32;
                // The marker stands where the match begins.
                let by = if cut.start >= *lo { MARKER } else { "" };
                if let Some(raw) = raw_range(pieces, &text, part) {
                    self.edits.push(Edit { raw, by });
                }
            }
            while cuts.front().is_some_and(|cut| cut.end <= *hi) {
                cuts.pop_front();
            }
        }
    }

    pub(super) fn write(mut self, out: &mut Vec<u8>) {
        if !self.edits.is_empty() {
            let zeros = self.integers.drain(..).map(|raw| Edit { raw, by: "0" });
            self.edits.extend(zeros);
            self.edits.sort_by_key(|edit| edit.raw.start);
        }
        let mut copied = 0;
        for Edit { raw, by } in self.edits {
            // Two parts may touch the same character.
            if raw.start >= copied {
                out.extend_from_slice(&self.raw[copied..raw.start]);
                out.extend_from_slice(by.as_bytes());
                if by.is_empty() && self.raw.get(raw.end) == Some(&b' ') && begins_value(&self.raw[..raw.start]) {
                    // Readers drop one space behind the colon, and this one is part of the text.
                    out.push(b' ');
                }
            }
            copied = copied.max(raw.end);
        }
        out.extend_from_slice(&self.raw[copied..]);
    }
}

/// Whether a `data` field without a space behind its colon begins right behind this part of a frame.
fn begins_value(before: &[u8]) -> bool {
    before.strip_suffix(b"data:").is_some_and(|lines| matches!(lines, [] | [.., b'\r' | b'\n'] | [0xEF, 0xBB, 0xBF]))
}

/// The text of linear pieces as it stands in the frame; escapes are left out, since they are cut as a whole.
fn text_of(pieces: &[Piece], raw: &[u8], len: usize) -> Vec<u8> {
    let mut text = vec![0; len];
    for piece in pieces.iter().filter(|piece| piece.len == piece.raw_len) {
        let (at, from, len) = (piece.at as usize, piece.raw as usize, piece.len as usize);
        text[at..at + len].copy_from_slice(&raw[from..from + len]);
    }
    text
}
