//! Where the texts of a body are.
//!
//! Bytes of a body enter; texts leave, as pieces with the place in the body that each
//! piece stands for. What a text means, and whether it may pass, is not known here.

pub mod charset;
pub mod json;
pub mod multipart;
pub mod parameters;
pub mod query;
pub mod sse;
pub mod utf8;

/// The length of a text in UTF-16 code units, which is what `length` counts in the
/// source document's language.
///
/// `text` is UTF-8, in which a lone surrogate of three bytes counts one unit, or any
/// whole number of characters of it. Of bytes that are no UTF-8, each that could begin a
/// character counts.
pub fn utf16_len(text: &[u8]) -> u64 {
    // Sums of bytes stay in a byte for blocks of this length, two units at most each.
    const BLOCK: usize = 96;
    text.chunks(BLOCK)
        .map(|block| {
            let units: u8 = block.iter().map(|&byte| u8::from(byte & 0xC0 != 0x80) + u8::from(byte >= 0xF0)).sum();
            u64::from(units)
        })
        .sum()
}

#[cfg(test)]
mod tests;
