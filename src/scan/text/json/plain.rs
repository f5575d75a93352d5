//! How far a string of a JSON document stands for itself.
//!
//! This is where nearly all bytes of a body are spent, so they are looked at in blocks
//! that compile to vector instructions, and the place is found by arithmetic on words.

const BLOCK: usize = 32;
const WORD: usize = size_of::<u64>();

/// The number of bytes before the first quote, backslash or control character.
#[inline]
pub(super) fn prefix(bytes: &[u8]) -> usize {
    let mut from = 0;
    // Short strings are the most common, and a word or two decides them.
    let (words, _) = bytes[..bytes.len().min(BLOCK)].as_chunks::<WORD>();
    for word in words {
        if let Some(at) = special(u64::from_le_bytes(*word)) {
            return from + at;
        }
        from += WORD;
    }
    if from == BLOCK {
        let (blocks, _) = bytes[from..].as_chunks::<BLOCK>();
        from += BLOCK * blocks.iter().take_while(|block| !any_special(block)).count();
    }
    let rest = &bytes[from..];
    let (words, _) = rest.as_chunks::<WORD>();
    for word in words {
        if let Some(at) = special(u64::from_le_bytes(*word)) {
            return from + at;
        }
        from += WORD;
    }
    let tail = &bytes[from..];
    from + tail.iter().position(|&byte| is_special(byte)).unwrap_or(tail.len())
}

fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

#[inline]
fn any_special(block: &[u8; BLOCK]) -> bool {
    block.iter().fold(false, |any, &byte| any | is_special(byte))
}

/// The index of the first special byte in a little-endian word.
///
/// Each test sets the top bit of the bytes it finds. It can also set that of bytes above
/// one it found, since borrows only travel upwards, so the lowest bit set is right.
#[inline]
fn special(word: u64) -> Option<usize> {
    const ONES: u64 = u64::MAX / 255;
    const TOPS: u64 = ONES << 7;
    let below = |word: u64, bound: u8| word.wrapping_sub(ONES * u64::from(bound)) & !word;
    let equal = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    let found = (below(word, 0x20) | equal(b'"') | equal(b'\\')) & TOPS;
    (found != 0).then(|| found.trailing_zeros() as usize / 8)
}
