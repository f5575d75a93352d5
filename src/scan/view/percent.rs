//! Percent escapes.

/// An escape, or one byte that begins none.
pub(super) fn unit(bytes: &[u8], ends: bool, out: &mut Vec<u8>) -> Option<usize> {
    match escape(bytes) {
        Escape::Byte(byte) => {
            out.push(byte);
            Some(3)
        }
        Escape::Character(unit) => {
            let character = char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER);
            out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            Some(6)
        }
        Escape::Open if !ends => None,
        Escape::None | Escape::Open => {
            out.extend(bytes.first());
            Some(1)
        }
    }
}

enum Escape {
    Byte(u8),
    /// A unit of UTF-16, as `escape` of JavaScript and some servers write it.
    Character(u32),
    /// What follows decides.
    Open,
    None,
}

fn escape(bytes: &[u8]) -> Escape {
    let Some((b'%', rest)) = bytes.split_first() else { return Escape::None };
    let (digits, wide) = match rest.split_first() {
        None => return Escape::Open,
        Some((b'u' | b'U', digits)) => (digits, true),
        Some(_) => (rest, false),
    };
    let len = if wide { 4 } else { 2 };
    let mut value = 0;
    for &digit in digits.iter().take(len) {
        let Some(digit) = char::from(digit).to_digit(16) else { return Escape::None };
        value = value * 16 + digit;
    }
    match (digits.len() < len, wide) {
        (true, _) => Escape::Open,
        (false, true) => Escape::Character(value),
        // Two digits are a byte.
        (false, false) => Escape::Byte(value as u8),
    }
}
