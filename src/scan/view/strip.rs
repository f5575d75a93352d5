//! Characters that nobody sees, and bytes that are no character.

use super::super::text::utf8::{Character, character};

/// Control and format characters, and all others that are ignored by default where they have no glyph, in order.
/// From the data of Unicode (general categories Cc and Cf; `Default_Ignorable_Code_Point`).
const INVISIBLE: &[(u32, u32)] = &[
    (0x0, 0x1F),
    (0x7F, 0x9F),
    (0xAD, 0xAD),
    (0x34F, 0x34F),
    (0x600, 0x605),
    (0x61C, 0x61C),
    (0x6DD, 0x6DD),
    (0x70F, 0x70F),
    (0x890, 0x891),
    (0x8E2, 0x8E2),
    (0x115F, 0x1160),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x200B, 0x200F),
    (0x202A, 0x202E),
    (0x2060, 0x206F),
    (0x3164, 0x3164),
    (0xFE00, 0xFE0F),
    (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0),
    (0xFFF0, 0xFFFB),
    (0x110BD, 0x110BD),
    (0x110CD, 0x110CD),
    (0x13430, 0x1343F),
    (0x1BCA0, 0x1BCA3),
    (0x1D173, 0x1D17A),
    (0xE0000, 0xE0FFF),
];

/// How many bytes at the start are visible ASCII.
pub(super) fn plain(bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| !matches!(byte, 0x20..=0x7E)).unwrap_or(bytes.len())
}

/// One character, or one byte that is part of none: a reader who ignores what it cannot decode does not see it either.
/// The lone half of a surrogate pair is three such bytes.
pub(super) fn unit(bytes: &[u8], ends: bool, out: &mut Vec<u8>) -> Option<usize> {
    match character(bytes) {
        Character::Open if !ends => None,
        Character::Open | Character::None => Some(1),
        Character::Some(character, len) => {
            if !is_invisible(character) {
                out.extend_from_slice(&bytes[..len]);
            }
            Some(len)
        }
    }
}

fn is_invisible(character: char) -> bool {
    let code = u32::from(character);
    let at = INVISIBLE.partition_point(|&(_, last)| last < code);
    INVISIBLE.get(at).is_some_and(|&(first, _)| first <= code)
}
