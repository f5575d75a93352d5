//! `zstd` (RFC 8878), with a window of at most 8 MiB, which RFC 9659 demands of the coding.
//!
//! Frames may follow one another, and skippable ones stand between them; all of them are one text.

use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

use super::{MAX_WINDOW, Progress};

/// What a context takes before it has seen a frame, in bytes: its tables, and room for a block.
const STATE: usize = 160 << 10;

/// The coding `zstd`.
#[derive(Default)]
pub(super) struct Zstd {
    /// Made with the first byte, so that making it can fail.
    context: Option<DCtx<'static>>,
    /// A frame has ended, and no other has begun.
    ended: bool,
    /// The last step filled its output, so that there may be more.
    full: bool,
}

impl Zstd {
    pub(super) fn is_ended(&self) -> bool {
        self.ended
    }

    /// As the library counts it.
    pub(super) fn memory(&self) -> usize {
        size_of::<Self>() + self.context.as_ref().map_or(STATE, DCtx::sizeof)
    }

    pub(super) fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Progress, &'static str> {
        // The library takes repeated calls without progress for a mistake of its caller.
        if output.is_empty() || (input.is_empty() && !self.full) {
            return Ok(Progress { read: 0, written: 0 });
        }
        let context = match &mut self.context {
            Some(context) => context,
            None => self.context.insert(new_context().ok_or("there is no memory to decode zstd")?),
        };
        let mut from = InBuffer::around(input);
        let room = output.len();
        let mut to = OutBuffer::around(output);
        let hint = context.decompress_stream(&mut to, &mut from).map_err(|_| "the content is not valid zstd")?;
        let progress = Progress { read: from.pos(), written: to.pos() };
        self.full = progress.written == room;
        if progress.read > 0 || progress.written > 0 {
            self.ended = hint == 0;
        }
        Ok(progress)
    }
}

fn new_context() -> Option<DCtx<'static>> {
    let mut context = DCtx::try_create()?;
    context.set_parameter(DParameter::WindowLogMax(MAX_WINDOW.ilog2())).ok()?;
    Some(context)
}
