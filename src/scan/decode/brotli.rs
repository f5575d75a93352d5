//! `br` (RFC 7932), with a window of at most [`MAX_WINDOW`].

use brotli_decompressor::{
    BrotliDecompressStream, BrotliResult, BrotliState, HuffmanCode, SliceWrapper, StandardAlloc,
};

use super::{MAX_WINDOW, Progress};

type State = BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>;

/// The coding `br`.
pub(super) struct Brotli {
    state: State,
    begun: bool,
    ended: bool,
}

impl Default for Brotli {
    fn default() -> Self {
        let alloc = StandardAlloc::default;
        Self { state: State::new_strict(alloc(), alloc(), alloc()), begun: false, ended: false }
    }
}

impl Brotli {
    pub(super) fn is_ended(&self) -> bool {
        self.ended
    }

    /// The window as it is now, which grows with the content, and the code tables.
    pub(super) fn memory(&self) -> usize {
        let state = &self.state;
        let codes = [&state.literal_hgroup, &state.insert_copy_hgroup, &state.distance_hgroup];
        let codes: usize = codes.iter().map(|group| group.codes.slice().len()).sum();
        let types = &state.block_type_length_state;
        let codes = codes + types.block_type_trees.slice().len() + types.block_len_trees.slice().len();
        size_of::<Self>() + state.ringbuffer.slice().len() + codes * size_of::<HuffmanCode>()
    }

    pub(super) fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Progress, &'static str> {
        if self.ended {
            return match input {
                [] => Ok(Progress { read: 0, written: 0 }),
                _ => Err("something follows the brotli content"),
            };
        }
        if let (false, Some(&first)) = (self.begun, input.first()) {
            self.begun = true;
            if window(first).is_none_or(|window| window > MAX_WINDOW) {
                return Err("the window of brotli content is larger than 8 MiB");
            }
        }
        let (mut left, mut read, mut room, mut written, mut total) = (input.len(), 0, output.len(), 0, 0);
        let result = BrotliDecompressStream(
            &mut left,
            &mut read,
            input,
            &mut room,
            &mut written,
            output,
            &mut total,
            &mut self.state,
        );
        match result {
            BrotliResult::ResultFailure => return Err("the content is not valid brotli"),
            BrotliResult::ResultSuccess => self.ended = true,
            BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => {}
        }
        Ok(Progress { read, written })
    }
}

/// The window that the first byte of a stream declares (RFC 7932 §9.1), in bytes; `None` for the mark of large windows,
/// which are no part of the coding.
fn window(first: u8) -> Option<usize> {
    let bits = match (first & 1, first >> 1 & 7, first >> 4 & 7) {
        (0, _, _) => 16,
        (_, 0, 0) => 17,
        (_, 0, 1) => return None,
        (_, 0, small) => 8 + small,
        (_, large, _) => 17 + large,
    };
    Some((1 << bits) - 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_as_the_rfc_lists_them() {
        // RFC 7932 §9.1, bits of WBITS from the right.
        for (first, bits) in [
            (0b0, 16),
            (0b000_0001, 17),
            (0b0011, 18),
            (0b0101, 19),
            (0b1101, 23),
            (0b1111, 24),
            (0b010_0001, 10),
            (0b011_0001, 11),
            (0b111_0001, 15),
        ] {
            assert_eq!(window(first), Some((1 << bits) - 16), "{first:b}");
        }
        assert_eq!(window(0b001_0001), None);
    }
}
