//! Where randomness comes from: an argument, so that a test can decide every byte.

use std::fmt;

/// A source of random bytes.
pub trait Random {
    /// Overwrites all of `bytes`, or fails; a partly filled buffer must never be used.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), RandomError>;
}

/// The operating system's generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), RandomError> {
        getrandom::fill(bytes).map_err(RandomError::Unavailable)
    }
}

/// Why there is no randomness; no key is made without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RandomError {
    /// The operating system refused.
    Unavailable(getrandom::Error),
    /// The source repeats values that a working one gives about never.
    Stuck,
}

impl fmt::Display for RandomError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(error) => write!(f, "the system gave no random bytes: {error}"),
            Self::Stuck => f.write_str("the source of random bytes is broken"),
        }
    }
}

impl std::error::Error for RandomError {}

#[cfg(test)]
pub(super) mod testing {
    use super::{Random, RandomError};

    /// SplitMix64: the same bytes for the same seed.
    pub struct Seeded(pub u64);

    impl Random for Seeded {
        fn fill(&mut self, bytes: &mut [u8]) -> Result<(), RandomError> {
            for byte in bytes {
                self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                *byte = (mixed >> 56) as u8;
            }
            Ok(())
        }
    }

    /// Gives the listed bytes, then starts again.
    pub struct Cycle(pub Vec<u8>, pub usize);

    impl Random for Cycle {
        fn fill(&mut self, bytes: &mut [u8]) -> Result<(), RandomError> {
            for byte in bytes {
                *byte = self.0[self.1 % self.0.len()];
                self.1 += 1;
            }
            Ok(())
        }
    }

    /// Has no randomness to give.
    pub struct Empty;

    impl Random for Empty {
        fn fill(&mut self, _: &mut [u8]) -> Result<(), RandomError> {
            Err(RandomError::Unavailable(getrandom::Error::UNEXPECTED))
        }
    }
}
