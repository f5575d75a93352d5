//! `gzip` (RFC 1952): members one after another, each with its header, its checksum and its length.
//!
//! All members are one text, as RFC 1952 §2.2 says. What follows the last one and is no member is an error: some
//! readers skip it, others do not.

use crc32fast::Hasher;

use super::{Progress, deflate::Inflate};

const BROKEN: &str = "the content is not valid gzip";

/// Flags of a header (RFC 1952 §2.3.1).
const HAS_CHECKSUM: u8 = 1 << 1;
const HAS_EXTRA: u8 = 1 << 2;
const HAS_NAME: u8 = 1 << 3;
const HAS_COMMENT: u8 = 1 << 4;
const RESERVED: u8 = 0b1110_0000;

/// The coding `gzip`.
pub(super) struct Gzip {
    part: Part,
    inflate: Inflate,
    /// Of what the member has decoded to.
    checksum: Hasher,
    /// The same, modulo 2³².
    length: u32,
}

enum Part {
    Header(Header),
    Body,
    /// With the bytes of the trailer that have come.
    Trailer([u8; 8], usize),
    /// Behind a whole member: another one, or the end.
    Behind,
}

/// A header that has come in part.
#[derive(Default)]
struct Header {
    field: Field,
    flags: u8,
    checksum: Hasher,
}

/// What the next byte of a header is.
#[derive(Clone, Copy)]
enum Field {
    /// One of the ten bytes that each header has.
    Fixed(usize),
    ExtraLow,
    ExtraHigh(u8),
    Extra(u16),
    Name,
    Comment,
    ChecksumLow,
    ChecksumHigh(u8),
    End,
}

impl Default for Field {
    fn default() -> Self {
        Self::Fixed(0)
    }
}

impl Default for Gzip {
    fn default() -> Self {
        Self {
            part: Part::Header(Header::default()),
            inflate: Inflate::raw(BROKEN),
            checksum: Hasher::new(),
            length: 0,
        }
    }
}

impl Gzip {
    pub(super) fn is_ended(&self) -> bool {
        matches!(self.part, Part::Behind)
    }

    pub(super) fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Progress, &'static str> {
        let mut read = 0;
        loop {
            let rest = &input[read..];
            match &mut self.part {
                Part::Body => {
                    let inflated = self.inflate.step(rest, output)?;
                    let text = &output[..inflated.written];
                    self.checksum.update(text);
                    // What is lost is a multiple of 2³².
                    self.length = self.length.wrapping_add(text.len() as u32);
                    if self.inflate.is_ended() {
                        self.part = Part::Trailer([0; 8], 0);
                    }
                    return Ok(Progress { read: read + inflated.read, written: inflated.written });
                }
                _ if rest.is_empty() => return Ok(Progress { read, written: 0 }),
                Part::Header(header) => {
                    read += 1;
                    if header.take(rest[0])? {
                        self.part = Part::Body;
                    }
                }
                Part::Trailer(bytes, have) => {
                    read += 1;
                    bytes[*have] = rest[0];
                    *have += 1;
                    if *have == bytes.len() {
                        let whole = u64::from_le_bytes(*bytes);
                        self.close(whole)?;
                    }
                }
                Part::Behind => {
                    self.inflate.reset();
                    self.part = Part::Header(Header::default());
                }
            }
        }
    }

    /// Ends a member with its trailer: a checksum, and above it a length.
    fn close(&mut self, trailer: u64) -> Result<(), &'static str> {
        let checksum = std::mem::take(&mut self.checksum).finalize();
        let length = std::mem::take(&mut self.length);
        if trailer != u64::from(length) << 32 | u64::from(checksum) {
            return Err("the checksum of gzip content is wrong");
        }
        self.part = Part::Behind;
        Ok(())
    }
}

impl Header {
    /// Takes one byte; true if it was the last.
    fn take(&mut self, byte: u8) -> Result<bool, &'static str> {
        let is_fine = match self.field {
            Field::Fixed(0) => byte == 0x1F,
            Field::Fixed(1) => byte == 0x8B,
            Field::Fixed(2) => byte == 8,
            Field::Fixed(3) => byte & RESERVED == 0,
            Field::ChecksumHigh(low) => {
                u16::from_le_bytes([low, byte]) == (self.checksum.clone().finalize() & 0xFFFF) as u16
            }
            _ => true,
        };
        if !is_fine {
            return Err(BROKEN);
        }
        if let Field::Fixed(3) = self.field {
            self.flags = byte;
        }
        // The checksum is over all that stands before it.
        if !matches!(self.field, Field::ChecksumLow | Field::ChecksumHigh(_)) {
            self.checksum.update(&[byte]);
        }
        self.field = match self.field {
            Field::Fixed(9) => self.after(HAS_EXTRA),
            Field::Fixed(index) => Field::Fixed(index + 1),
            Field::ExtraLow => Field::ExtraHigh(byte),
            Field::ExtraHigh(low) => match u16::from_le_bytes([low, byte]) {
                0 => self.after(HAS_NAME),
                length => Field::Extra(length),
            },
            Field::Extra(1) => self.after(HAS_NAME),
            Field::Extra(left) => Field::Extra(left - 1),
            Field::Name if byte == 0 => self.after(HAS_COMMENT),
            Field::Comment if byte == 0 => self.after(HAS_CHECKSUM),
            Field::ChecksumLow => Field::ChecksumHigh(byte),
            Field::ChecksumHigh(_) => Field::End,
            field @ (Field::Name | Field::Comment | Field::End) => field,
        };
        Ok(matches!(self.field, Field::End))
    }

    /// The first field that this header has, of those from `first` on in their order.
    fn after(&self, first: u8) -> Field {
        let fields = [
            (HAS_EXTRA, Field::ExtraLow),
            (HAS_NAME, Field::Name),
            (HAS_COMMENT, Field::Comment),
            (HAS_CHECKSUM, Field::ChecksumLow),
        ];
        let rest = fields.iter().skip_while(|(flag, _)| *flag != first);
        rest.copied().find(|(flag, _)| self.flags & flag != 0).map_or(Field::End, |(_, field)| field)
    }
}
