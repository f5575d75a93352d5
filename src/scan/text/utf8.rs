//! One character of a text that may be no UTF-8, and may not be there yet.

/// What a text begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Character {
    /// A character and its length in bytes.
    Some(char, usize),
    /// A byte that begins no character.
    None,
    /// The first bytes of a character, or nothing.
    Open,
}

/// The first character of `bytes`.
pub fn character(bytes: &[u8]) -> Character {
    let len = match bytes.first() {
        None => return Character::Open,
        Some(&byte @ 0..=0x7F) => return Character::Some(char::from(byte), 1),
        Some(0xC2..=0xDF) => 2,
        Some(0xE0..=0xEF) => 3,
        Some(0xF0..=0xF4) => 4,
        Some(_) => return Character::None,
    };
    match std::str::from_utf8(&bytes[..len.min(bytes.len())]) {
        Ok(text) => text.chars().next().map_or(Character::Open, |character| Character::Some(character, len)),
        Err(error) if error.error_len().is_none() => Character::Open,
        Err(_) => Character::None,
    }
}
