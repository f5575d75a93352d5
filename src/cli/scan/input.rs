//! The input in the pieces in which the scanner is to see it.

use std::io::{self, Read};
use std::str::FromStr;

/// How the input is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    /// Pieces of this length, the last one perhaps shorter.
    Fixed(usize),
    /// Pieces of 1 to [`LONGEST_RANDOM`] bytes, drawn from this seed.
    Random(u64),
}

/// What is read at once where nothing else is asked.
const READ: usize = 64 << 10;

/// The longest piece that can be asked for: more is memory that no connection delivers at once.
const LONGEST: usize = 16 << 20;

/// Long enough for several events, short enough to cut most of them.
const LONGEST_RANDOM: u64 = 64;

impl FromStr for Chunk {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(seed) = text.strip_prefix("random:") {
            return seed.parse().map(Self::Random).map_err(|_| format!("`{seed}` is no seed: write random:1"));
        }
        match text.parse() {
            Ok(length) if (1..=LONGEST).contains(&length) => Ok(Self::Fixed(length)),
            _ => Err(format!("write a number of bytes from 1 to {LONGEST}, or random:SEED")),
        }
    }
}

/// Lengths of pieces, one after another.
#[derive(Clone, Copy)]
enum Lengths {
    /// Whatever one read brings.
    AsRead,
    Fixed(usize),
    Random(u64),
}

impl Lengths {
    fn new(chunk: Option<Chunk>) -> Self {
        match chunk {
            None => Self::AsRead,
            Some(Chunk::Fixed(length)) => Self::Fixed(length),
            Some(Chunk::Random(seed)) => Self::Random(seed),
        }
    }

    /// The length of the next piece, if it is prescribed.
    fn next(&mut self) -> Option<usize> {
        match self {
            Self::AsRead => None,
            Self::Fixed(length) => Some(*length),
            Self::Random(state) => {
                // SplitMix64: any seed is as good as another, zero too.
                *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
                let mut mixed = *state;
                mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
                mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
                Some(1 + ((mixed ^ (mixed >> 31)) % LONGEST_RANDOM) as usize)
            }
        }
    }
}

/// Reads pieces.
pub(super) struct Chunks<'a> {
    from: &'a mut dyn Read,
    lengths: Lengths,
    start: Lengths,
}

impl<'a> Chunks<'a> {
    pub(super) fn new(from: &'a mut dyn Read, chunk: Option<Chunk>) -> Self {
        let lengths = Lengths::new(chunk);
        Self { from, lengths, start: lengths }
    }

    /// Reads the next piece into `into`, in place of what was there. False at the end of the input.
    pub(super) fn next(&mut self, into: &mut Vec<u8>) -> io::Result<bool> {
        let wanted = self.lengths.next();
        into.resize(wanted.unwrap_or(READ), 0);
        let mut filled = 0;
        while filled < into.len() {
            match self.from.read(&mut into[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            if wanted.is_none() {
                break;
            }
        }
        into.truncate(filled);
        Ok(filled > 0)
    }

    /// Cuts the pieces read so far, all in `bytes`, once more as they were cut.
    pub(super) fn again<'b>(&self, mut bytes: &'b [u8]) -> impl Iterator<Item = &'b [u8]> + use<'b> {
        let mut lengths = self.start;
        std::iter::from_fn(move || {
            let length = lengths.next().unwrap_or(bytes.len()).min(bytes.len());
            let (piece, rest) = bytes.split_at(length);
            bytes = rest;
            (!piece.is_empty()).then_some(piece)
        })
    }
}
