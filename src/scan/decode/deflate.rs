//! `deflate`: the zlib format (RFC 1950), or what many send in its name, raw DEFLATE (RFC 1951).

use flate2::{Decompress, FlushDecompress, Status};

use super::Progress;

/// What an inflater keeps, in bytes: its window of 32 KiB, its tables of about 10 KiB, and the rest of its state.
pub(super) const STATE: usize = 44 << 10;

/// Inflates DEFLATE data, with the zlib frame around it or without.
pub(super) struct Inflate {
    inflate: Decompress,
    /// Checked by the inflater; its own frame is the caller's business.
    name: &'static str,
    ended: bool,
}

impl Inflate {
    pub(super) fn raw(name: &'static str) -> Self {
        Self { inflate: Decompress::new(false), name, ended: false }
    }

    fn zlib(name: &'static str) -> Self {
        Self { inflate: Decompress::new(true), name, ended: false }
    }

    pub(super) fn is_ended(&self) -> bool {
        self.ended
    }

    /// Begins anew, without a frame.
    pub(super) fn reset(&mut self) {
        self.inflate.reset(false);
        self.ended = false;
    }

    /// Reads nothing more once it has ended.
    pub(super) fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Progress, &'static str> {
        if self.ended {
            return Ok(Progress { read: 0, written: 0 });
        }
        let (read, written) = (self.inflate.total_in(), self.inflate.total_out());
        let status = self.inflate.decompress(input, output, FlushDecompress::None).map_err(|_| self.name)?;
        self.ended = status == Status::StreamEnd;
        // Neither is more than the length of a slice.
        Ok(Progress {
            read: (self.inflate.total_in() - read) as usize,
            written: (self.inflate.total_out() - written) as usize,
        })
    }
}

/// The coding `deflate`.
#[derive(Default)]
pub(super) struct Deflate {
    /// The first byte, while it alone has come.
    first: Option<u8>,
    inflate: Option<Inflate>,
}

const BROKEN: &str = "the content is not valid deflate";

impl Deflate {
    pub(super) fn is_ended(&self) -> bool {
        self.inflate.as_ref().is_some_and(Inflate::is_ended)
    }

    pub(super) fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Progress, &'static str> {
        if let Some(inflate) = &mut self.inflate {
            if inflate.is_ended() && !input.is_empty() {
                return Err("something follows the deflated content");
            }
            return inflate.step(input, output);
        }
        let (head, read) = match (self.first, input) {
            (_, []) => return Ok(Progress { read: 0, written: 0 }),
            (None, &[first]) => {
                self.first = Some(first);
                return Ok(Progress { read: 1, written: 0 });
            }
            (None, &[first, second, ..]) => ([first, second], 2),
            (Some(first), &[second, ..]) => ([first, second], 1),
        };
        let inflate = if is_zlib(head) { Inflate::zlib(BROKEN) } else { Inflate::raw(BROKEN) };
        // The shortest data of all has ten bits, so both bytes belong to it.
        let begun = self.inflate.insert(inflate).step(&head, output)?;
        match begun.read == head.len() {
            true => Ok(Progress { read, written: begun.written }),
            false => Err("something follows the deflated content"),
        }
    }
}

/// Whether this is the header of the zlib format (RFC 1950 §2.2). Raw data begins so only in a stored block whose
/// padding is not zero, which no encoder writes.
fn is_zlib(head: [u8; 2]) -> bool {
    let [method, _] = head;
    method & 0x0F == 8 && method >> 4 <= 7 && u16::from_be_bytes(head).is_multiple_of(31)
}
