//! A view of a text that arrives in chunks.

use super::View;

/// What the next bytes of a text are in a view.
pub(super) struct Unit<'a> {
    /// The bytes of the view, perhaps none.
    pub text: &'a [u8],
    /// How many bytes of the text they stand for, all together unless `linear`.
    pub raw: u64,
    /// Each byte stands for one.
    pub linear: bool,
}

/// Turns a text into its view, unit by unit. Where units begin and end does not depend on the chunks.
pub(super) struct Transducer {
    view: View,
    /// The start of a unit that is not decided, without its padding: a few bytes, at most [`fold`](super::fold)'s
    /// longest segment.
    undecided: Vec<u8>,
    /// Bytes of padding that were left out of it.
    padding: u64,
    out: Vec<u8>,
}

impl Transducer {
    pub(super) fn new(view: View) -> Self {
        Self { view, undecided: Vec::new(), padding: 0, out: Vec::new() }
    }

    pub(super) fn reset(&mut self) {
        self.undecided.clear();
        self.padding = 0;
    }

    /// Bytes of the text that belong to no unit yet.
    pub(super) fn undecided(&self) -> u64 {
        self.undecided.len() as u64 + self.padding
    }

    /// The undecided unit so far, without its padding.
    pub(super) fn beginning(&self) -> &[u8] {
        &self.undecided
    }

    /// Reads the next bytes of the text.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(Unit<'_>)) {
        loop {
            if self.undecided.is_empty() {
                let (plain, rest) = bytes.split_at(self.view.plain(bytes));
                if !plain.is_empty() {
                    each(Unit { text: plain, raw: plain.len() as u64, linear: true });
                }
                bytes = rest;
            }
            let Some((&byte, rest)) = bytes.split_first() else { return };
            bytes = rest;
            self.undecided.push(byte);
            if self.view.is_padding(&self.undecided) {
                self.undecided.pop();
                self.padding += 1;
                continue;
            }
            self.decide(false, &mut each);
        }
    }

    /// Ends the text.
    pub(super) fn finish(&mut self, mut each: impl FnMut(Unit<'_>)) {
        self.decide(true, &mut each);
    }

    fn decide(&mut self, ends: bool, each: &mut impl FnMut(Unit<'_>)) {
        while !self.undecided.is_empty() {
            self.out.clear();
            let Some(len) = self.view.unit(&self.undecided, ends, &mut self.out) else { return };
            // Padding stands in the first unit: what follows it was not read before that was decided.
            let padding = std::mem::take(&mut self.padding);
            let same = self.out == self.undecided[..len] && padding == 0;
            let linear = same || (len == 1 && self.out.len() == 1);
            each(Unit { text: &self.out, raw: len as u64 + padding, linear });
            self.undecided.drain(..len);
        }
    }
}
