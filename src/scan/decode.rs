//! Takes the content codings off a body (RFC 9110 §8.4), piece by piece.
//!
//! Coded bytes enter, cut anywhere; what they decode to leaves, at most [`STEP`] bytes at a time, so that a caller who
//! is slow to let go holds little and a small body that decodes to a large one is noticed on the way. What a piece
//! completes leaves with that piece: an event that was flushed by its encoder waits for nothing.
//!
//! Invariants: what a whole body decodes to does not depend on how it was cut (of a damaged one, more or less may have
//! left before the error); nothing that a stricter or a more lenient decoder
//! would read in another way is let through silently, because all of a body is decoded or an error ends it; nothing
//! panics, reads a clock or does I/O.
//!
//! | module | what it does |
//! |---|---|
//! | `codings` | reads `Content-Encoding` |
//! | `gzip` | members, their headers and checksums |
//! | `deflate` | zlib, and what is sent in its name without its frame |
//! | `brotli`, `zstd` | those codings, with bounded windows |

mod brotli;
mod codings;
mod deflate;
mod gzip;
mod zstd;

pub use codings::{Coding, Codings};

use brotli::Brotli;
use deflate::Deflate;
use gzip::Gzip;
use zstd::Zstd;

/// The most that is decoded at once, in bytes.
pub const STEP: usize = 16 << 10;

/// The largest window that a body may ask a decoder to keep, in bytes. RFC 9659 says so of `zstd`.
pub const MAX_WINDOW: usize = 8 << 20;

/// How much a body without a limit of its own may decode to before [`MAX_RATIO`] applies, in bytes.
const RATIO_FROM: u64 = 1 << 20;

/// The most that a byte may decode to, on average. Event streams, which repeat themselves, reach 60.
const MAX_RATIO: u64 = 200;

/// How much a body may decode to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// This many bytes, after each of the codings.
    Total(u64),
    /// Any number, if it is not a great multiple of what came.
    Ratio,
}

/// Why a body is not decoded any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// It is longer than [`Limit::Total`].
    TooLarge,
    /// It is not what its coding says, or asks for too much. The reason is for a log and a client.
    Undecodable(&'static str),
}

/// Whether there may be more without more input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fed {
    /// The input is used up, and everything that it says has left.
    Hungry,
    /// There may be more, or an error; call again before bringing more input.
    Full,
}

/// Decodes one body.
pub struct Decoder {
    /// Undoes the coding that was applied last, where there are two.
    outer: Option<Box<Outer>>,
    inner: Stage,
    failed: Option<DecodeError>,
}

/// The first of two stages, and what of it the second has not read.
struct Outer {
    stage: Stage,
    buffer: Vec<u8>,
    read: usize,
    fed: Result<Fed, DecodeError>,
}

/// One coding on its way off.
struct Stage {
    inflater: Inflater,
    limit: Limit,
    read: u64,
    written: u64,
}

enum Inflater {
    Gzip(Box<Gzip>),
    Deflate(Deflate),
    Brotli(Box<Brotli>),
    Zstd(Zstd),
}

/// What one call of an inflater did.
struct Progress {
    read: usize,
    written: usize,
}

impl Decoder {
    /// A decoder at the start of a body; `None` where nothing is coded.
    pub fn new(codings: Codings, limit: Limit) -> Option<Self> {
        let stage = |coding| Stage { inflater: Inflater::new(coding), limit, read: 0, written: 0 };
        let (first, second) = codings.applied()?;
        // The coding that was applied last is listed last, and comes off first.
        Some(match second {
            None => Self { outer: None, inner: stage(first), failed: None },
            Some(second) => {
                let outer = Outer { stage: stage(second), buffer: Vec::new(), read: 0, fed: Ok(Fed::Hungry) };
                Self { outer: Some(Box::new(outer)), inner: stage(first), failed: None }
            }
        })
    }

    /// Decodes from the front of `input`, which is shortened by what was read, and appends at most [`STEP`] bytes to
    /// `out`.
    ///
    /// # Errors
    /// If the body cannot be decoded from here on. What ended well before it, a member or a frame, has left by then.
    pub fn feed(&mut self, input: &mut &[u8], out: &mut Vec<u8>) -> Result<Fed, DecodeError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let start = out.len();
        out.resize(start + STEP, 0);
        let mut written = 0;
        let result = self.fill(input, &mut out[start..], &mut written);
        out.truncate(start + written);
        match result {
            Ok(()) if written < STEP => Ok(Fed::Hungry),
            Ok(()) => Ok(Fed::Full),
            Err(error) => {
                self.failed = Some(error);
                if written > 0 { Ok(Fed::Full) } else { Err(error) }
            }
        }
    }

    /// The body has ended.
    ///
    /// # Errors
    /// If it should not have. A body of no bytes at all has nothing to be decoded, and is well.
    pub fn finish(&self) -> Result<(), DecodeError> {
        let ended = |stage: &Stage| stage.read == 0 || stage.inflater.is_ended();
        match self.outer.as_ref().is_none_or(|outer| ended(&outer.stage)) && ended(&self.inner) {
            true => Ok(()),
            false => Err(DecodeError::Undecodable("the coded content breaks off")),
        }
    }

    /// Memory that this takes, in bytes: what the decoders say of themselves where they do, and what they are
    /// documented or seen to allocate elsewhere. Grows as a body shows what it needs.
    pub fn memory(&self) -> usize {
        let outer = self.outer.as_ref().map_or(0, |outer| outer.stage.inflater.memory() + outer.buffer.capacity());
        size_of::<Self>() + outer + self.inner.inflater.memory()
    }

    fn fill(&mut self, input: &mut &[u8], output: &mut [u8], written: &mut usize) -> Result<(), DecodeError> {
        let Some(outer) = &mut self.outer else { return self.inner.run(input, output, written) };
        loop {
            let mut between = &outer.buffer[outer.read..];
            self.inner.run(&mut between, output, written)?;
            outer.read = outer.buffer.len() - between.len();
            if *written == output.len() || (input.is_empty() && outer.fed? == Fed::Hungry) {
                return Ok(());
            }
            outer.refill(input)?;
        }
    }
}

impl Outer {
    /// Decodes more, once the second stage has read all. An error is for the next time: what came before it is read first.
    fn refill(&mut self, input: &mut &[u8]) -> Result<(), DecodeError> {
        self.fed?;
        self.buffer.resize(STEP, 0);
        self.read = 0;
        let mut written = 0;
        let result = self.stage.run(input, &mut self.buffer, &mut written);
        self.buffer.truncate(written);
        self.fed = result.map(|()| if written == STEP { Fed::Full } else { Fed::Hungry });
        Ok(())
    }
}

impl Stage {
    /// Decodes until `input` is used up or `output`, of which `written` bytes are, is full.
    fn run(&mut self, input: &mut &[u8], output: &mut [u8], written: &mut usize) -> Result<(), DecodeError> {
        loop {
            let progress = self.inflater.step(input, &mut output[*written..]).map_err(DecodeError::Undecodable)?;
            *input = &input[progress.read..];
            *written += progress.written;
            self.read += progress.read as u64;
            self.written += progress.written as u64;
            self.check()?;
            if input.is_empty() || *written == output.len() {
                return Ok(());
            }
            if progress.read == 0 && progress.written == 0 {
                return Err(DecodeError::Undecodable("the coded content leads nowhere"));
            }
        }
    }

    fn check(&self) -> Result<(), DecodeError> {
        match self.limit {
            Limit::Total(most) if self.written > most => Err(DecodeError::TooLarge),
            Limit::Ratio if self.written > RATIO_FROM && self.written / MAX_RATIO > self.read => {
                Err(DecodeError::Undecodable("the content decodes to more than 200 times its size"))
            }
            Limit::Total(_) | Limit::Ratio => Ok(()),
        }
    }
}

impl Inflater {
    fn new(coding: Coding) -> Self {
        match coding {
            Coding::Gzip => Self::Gzip(Box::default()),
            Coding::Deflate => Self::Deflate(Deflate::default()),
            Coding::Brotli => Self::Brotli(Box::default()),
            Coding::Zstd => Self::Zstd(Zstd::default()),
        }
    }

    /// Reads some of `input` and writes some of `output`. Does neither only if `input` is empty and everything that
    /// came before has left, or if `output` is empty.
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Progress, &'static str> {
        match self {
            Self::Gzip(gzip) => gzip.step(input, output),
            Self::Deflate(deflate) => deflate.step(input, output),
            Self::Brotli(brotli) => brotli.step(input, output),
            Self::Zstd(zstd) => zstd.step(input, output),
        }
    }

    /// Whether a body may end here.
    fn is_ended(&self) -> bool {
        match self {
            Self::Gzip(gzip) => gzip.is_ended(),
            Self::Deflate(deflate) => deflate.is_ended(),
            Self::Brotli(brotli) => brotli.is_ended(),
            Self::Zstd(zstd) => zstd.is_ended(),
        }
    }

    fn memory(&self) -> usize {
        match self {
            Self::Gzip(_) => size_of::<Gzip>() + deflate::STATE,
            Self::Deflate(_) => deflate::STATE,
            Self::Brotli(brotli) => brotli.memory(),
            Self::Zstd(zstd) => zstd.memory(),
        }
    }
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the text.
        f.debug_struct("Decoder").field("read", &self.inner.read).field("written", &self.inner.written).finish()
    }
}

#[cfg(test)]
mod tests;
