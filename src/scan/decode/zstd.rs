//! `zstd` (RFC 8878), with a window of at most 8 MiB, which RFC 9659 demands of the coding.
//!
//! Frames may follow one another, and skippable ones stand between them; all of them are one text. A frame that says how
//! much it decodes to (§3.1.1.1.4) has to keep to it: the library checks that of a frame that is decoded at once, and not
//! always of one that comes in pieces, so that the verdict on a damaged one would depend on how it was cut.

use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

use super::{MAX_WINDOW, Progress};

/// What a context takes before it has seen a frame, in bytes: its tables, and room for a block.
const STATE: usize = 160 << 10;

const BROKEN: &str = "the content is not valid zstd";

/// The longest header of a frame (§3.1.1), with its magic number.
const MAX_HEADER: usize = 18;

/// The coding `zstd`.
#[derive(Default)]
pub(super) struct Zstd {
    /// Made with the first byte, so that making it can fail.
    context: Option<DCtx<'static>>,
    /// A frame has ended, and no other has begun.
    ended: bool,
    /// The last step filled its output, so that there may be more.
    full: bool,
    frame: Frame,
}

/// The frame that is being decoded.
#[derive(Default)]
struct Frame {
    header: [u8; MAX_HEADER],
    header_len: usize,
    /// What it says that it decodes to, if it says so; `None` outside while its header is being read.
    says: Option<Option<u64>>,
    written: u64,
}

impl Frame {
    /// Takes the next byte of the header.
    fn take(&mut self, byte: u8) -> Result<(), &'static str> {
        *self.header.get_mut(self.header_len).ok_or(BROKEN)? = byte;
        self.header_len += 1;
        self.says = zstd_safe::get_frame_content_size(&self.header[..self.header_len]).ok();
        Ok(())
    }

    fn check(&self) -> Result<(), &'static str> {
        match self.says {
            Some(Some(says)) if says != self.written => Err(BROKEN),
            _ => Ok(()),
        }
    }
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
        if self.ended && !input.is_empty() {
            self.frame = Frame::default();
        }
        // Byte by byte up to the end of a header. It also keeps the library from decoding a whole frame at once.
        let in_header = self.frame.says.is_none();
        let input = if in_header { &input[..input.len().min(1)] } else { input };
        let mut from = InBuffer::around(input);
        let room = output.len();
        let mut to = OutBuffer::around(output);
        let hint = context.decompress_stream(&mut to, &mut from).map_err(|_| BROKEN)?;
        let progress = Progress { read: from.pos(), written: to.pos() };
        self.full = progress.written == room;
        self.frame.written += progress.written as u64;
        if let (true, Some(&byte)) = (in_header, input[..progress.read].last()) {
            self.frame.take(byte)?;
        }
        if progress.read > 0 || progress.written > 0 {
            self.ended = hint == 0;
            if self.ended {
                self.frame.check()?;
            }
        }
        Ok(progress)
    }
}

fn new_context() -> Option<DCtx<'static>> {
    let mut context = DCtx::try_create()?;
    context.set_parameter(DParameter::WindowLogMax(MAX_WINDOW.ilog2())).ok()?;
    Some(context)
}
