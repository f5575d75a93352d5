//! Where the text of a frame stands in it.

use std::ops::Range;

use super::super::{super::text::sse::Frame, document::Piece};

pub(super) fn piece(at: usize, len: usize, raw: &Range<usize>) -> Piece {
    // Frames are far smaller than 4 GiB.
    Piece { at: at as u32, len: len as u32, raw: raw.start as u32, raw_len: raw.len() as u32 }
}

/// Where the bytes of a frame's payload stand in the frame.
pub(super) struct Place {
    /// The first line's, in the frame.
    first: usize,
    /// Of the lines behind it: where they begin in the payload and in the frame.
    lines: Vec<(usize, usize)>,
}

impl Place {
    pub(super) fn of(frame: &Frame) -> Self {
        let mut at = 0;
        let mut lines = Vec::new();
        for (i, line) in frame.data.iter().enumerate() {
            if i > 0 {
                lines.push((at, line.start));
            }
            // The line feed between them.
            at += line.len() + 1;
        }
        Self { first: frame.data.first().map_or(0, |line| line.start), lines }
    }

    /// The raw range of payload bytes that stand in one line.
    pub(super) fn raw(&self, start: usize, len: usize) -> Range<usize> {
        let line = self.lines.partition_point(|&(at, _)| at <= start);
        let (at, raw) = if line == 0 { (0, self.first) } else { self.lines[line - 1] };
        let raw = raw + (start - at);
        raw..raw + len
    }

    pub(super) fn piece(&self, of_payload: &Piece) -> Piece {
        let raw = self.raw(of_payload.raw as usize, of_payload.raw_len as usize);
        Piece { raw: raw.start as u32, ..*of_payload }
    }
}

/// The raw range of a part of a string, in whole characters. `raw` is where linear pieces can be read.
pub(super) fn raw_range(pieces: &[Piece], text: &[u8], part: Range<u32>) -> Option<Range<usize>> {
    // A text can have as many pieces as it has cuts, so that they are not gone through one by one.
    let first = pieces.partition_point(|piece| piece.at + piece.len <= part.start);
    let behind = pieces.partition_point(|piece| piece.at < part.end);
    let touched = pieces.get(first..behind)?;
    let (first, last) = (touched.first()?, touched.last()?);
    let continues = |at: u32| text.get(at as usize).is_some_and(|byte| byte & 0xC0 == 0x80);
    let is_linear = |piece: &Piece| piece.len == piece.raw_len;
    let mut start = part.start.max(first.at);
    while is_linear(first) && start > first.at && continues(start) {
        start -= 1;
    }
    let mut end = part.end.min(last.at + last.len);
    while is_linear(last) && end < last.at + last.len && continues(end) {
        end += 1;
    }
    let start = if is_linear(first) { first.raw + (start - first.at) } else { first.raw };
    let end = if is_linear(last) { last.raw + (end - last.at) } else { last.raw + last.raw_len };
    Some(start as usize..end as usize)
}
