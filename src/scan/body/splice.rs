//! Writing a body anew without the matches in it.
//!
//! Ranges of the body, or of the texts in it, enter; the rewritten body leaves. All bytes
//! outside of the ranges are copied as they are.

use bytes::Bytes;

use super::ranges::Range;
use crate::scan::text::json::{Lexer, Role, Run, Sink};

/// The rewritten body so far.
pub(super) struct Output<'a> {
    body: &'a [u8],
    bytes: Vec<u8>,
    /// How far the body is copied or cut out.
    copied: usize,
}

impl<'a> Output<'a> {
    pub(super) fn new(body: &'a [u8]) -> Self {
        Self { body, bytes: Vec::with_capacity(body.len()), copied: 0 }
    }

    /// Replaces a range of the body, behind all that was replaced before.
    pub(super) fn replace(&mut self, cut: Range, by: &str) {
        self.bytes.extend_from_slice(&self.body[self.copied..cut.start]);
        self.bytes.extend_from_slice(by.as_bytes());
        self.copied = cut.end;
    }

    /// Replaces `cuts` of the text that the body has at `literal` as a JSON string, quotes
    /// included.
    ///
    /// A literal is a document of its own. Reading it once more tells where its
    /// characters stand, without remembering that of every text.
    pub(super) fn splice(&mut self, literal: Range, cuts: &[Range], marker: &str) {
        let (body, base) = (self.body, literal.start);
        let mut splice = Splice { cuts, marker, base, begun: None, out: self };
        // The lexer has accepted this literal before, so that it does not fail.
        let _ = Lexer::new().feed(&body[literal], &mut splice);
    }

    /// The rewritten body.
    pub(super) fn finish(mut self) -> Bytes {
        self.bytes.extend_from_slice(&self.body[self.copied..]);
        self.bytes.into()
    }
}

/// Cuts matches out of the literal that a text was written as.
struct Splice<'a, 'b> {
    /// The cuts that are left, in offsets of the text, each at the bounds of characters.
    cuts: &'a [Range],
    marker: &'a str,
    /// Where the literal begins in the body.
    base: usize,
    /// Where in the body the first of the cuts begins, once that is known.
    begun: Option<usize>,
    out: &'a mut Output<'b>,
}

impl Splice<'_, '_> {
    /// Every offset of the text below `behind` is at `raw(offset)` of the literal.
    fn place(&mut self, behind: usize, raw: impl Fn(usize) -> usize) {
        while let Some((cut, rest)) = self.cuts.split_first() {
            if self.begun.is_none() && cut.start < behind {
                self.begun = Some(self.base + raw(cut.start));
            }
            match self.begun {
                Some(start) if cut.end < behind => {
                    self.out.replace(start..self.base + raw(cut.end), self.marker);
                    self.begun = None;
                    self.cuts = rest;
                }
                _ => return,
            }
        }
    }
}

impl Sink for Splice<'_, '_> {
    fn begin(&mut self, _: Role, _: u64) {}

    fn run(&mut self, run: Run<'_>) {
        let (at, start) = (run.at as usize, run.raw as usize);
        // An escape is one character, so that only its own start can be asked for.
        self.place(at + run.text.len(), |offset| start + (offset - at));
    }

    fn end(&mut self, raw: u64) {
        // Only the end of the text is left.
        self.place(usize::MAX, |_| raw as usize);
    }
}
