//! Compatibility forms and letter cases made one.
//!
//! NFKC changes a text only within *segments*: a segment begins at a character whose full decomposition begins with
//! one that neither combines with what stands before it nor moves in front of it (Unicode Standard Annex 15, 9), and
//! the normal form of a text is that of its segments, one after the other. So a segment is normalized as soon as the
//! first character of the next one is there, and the result is that of the whole text. The one exception is
//! deliberate: a segment of [`MAX_SEGMENT`] characters ends there, as in the stream-safe format of that annex, since
//! no language has longer ones.
//!
//! Case is then folded by character, by way of its upper case: that makes `ß` `ss` and every `σ` one, as case
//! folding does, and it also joins what a caller would join that changes the case itself, such as `ı` and `i`.

use unicode_normalization::{
    IsNormalized, UnicodeNormalization,
    char::{canonical_combining_class, decompose_compatible},
    is_nfc_quick,
};

use super::{
    super::text::utf8::{Character, character},
    Openers,
};

/// The most characters that are normalized together.
pub(super) const MAX_SEGMENT: usize = 32;

/// How many bytes at the start are ASCII that stays as it is, whatever follows.
pub(super) fn plain(bytes: &[u8]) -> usize {
    let changes = |byte: &u8| !byte.is_ascii() || byte.is_ascii_uppercase();
    match bytes.iter().position(changes) {
        // What follows may combine with the last one.
        Some(at) if bytes[at].is_ascii() => at,
        Some(at) => at.saturating_sub(1),
        None => bytes.len().saturating_sub(1),
    }
}

/// One segment, or one byte that is part of no character.
pub(super) fn unit(bytes: &[u8], ends: bool, out: &mut Vec<u8>) -> Option<usize> {
    let mut len = 0;
    let mut characters = 0;
    while characters < MAX_SEGMENT {
        match character(&bytes[len..]) {
            Character::Open if !ends => return None,
            Character::Some(next, size) if characters == 0 || !is_boundary(next) => {
                len += size;
                characters += 1;
            }
            _ => break,
        }
    }
    match std::str::from_utf8(&bytes[..len]) {
        Ok(segment) if len > 0 => {
            fold(segment, out);
            Some(len)
        }
        _ => {
            out.extend(bytes.first());
            Some(1)
        }
    }
}

/// How many bytes of an undecided segment may leave if no match is under way.
///
/// An ASCII character becomes itself in small letters or a character beyond ASCII, followed by more of those, whatever
/// combines with it: so if no match begins with any of these, none begins in its segment. Without this the last letter
/// of every event would wait for the next event. A character that is not complete may begin the next segment.
pub(super) fn harmless(undecided: &[u8], openers: &Openers) -> usize {
    match undecided.first() {
        Some(first) if first.is_ascii() && !openers.beyond_ascii => {
            let opens = openers.any[usize::from(first.to_ascii_lowercase())];
            let complete = undecided.utf8_chunks().next().map_or(0, |chunk| chunk.valid().len());
            if opens { 0 } else { complete }
        }
        _ => 0,
    }
}

/// Whether a segment begins at this character.
pub(super) fn is_boundary(character: char) -> bool {
    if character.is_ascii() {
        return true;
    }
    let mut first = None;
    decompose_compatible(character, |part| first = first.or(Some(part)));
    first.is_none_or(|first| {
        canonical_combining_class(first) == 0 && is_nfc_quick(std::iter::once(first)) == IsNormalized::Yes
    })
}

fn fold(segment: &str, out: &mut Vec<u8>) {
    let folded = segment.nfkc().flat_map(char::to_uppercase).flat_map(char::to_lowercase);
    for character in folded {
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    }
}
