//! The escapes of a JSON string.

use crate::scan::text::json::unescaped;

/// An escape, or one byte that begins none.
///
/// What an escape means is [`unescaped`]'s to say; only where it ends is found here.
pub(super) fn unit(bytes: &[u8], ends: bool, out: &mut Vec<u8>) -> Option<usize> {
    let len = match length(bytes) {
        Some(len) => len,
        None if ends => whole(bytes),
        None => return None,
    };
    out.extend_from_slice(&unescaped(&bytes[..len]));
    Some(len)
}

/// How long the unit is, if that is certain.
fn length(bytes: &[u8]) -> Option<usize> {
    if *bytes.first()? != b'\\' {
        return Some(1);
    }
    match bytes.get(1)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => return Some(2),
        b'u' => {}
        _ => return Some(1),
    }
    if digits(&bytes[2..])? < 4 {
        return Some(1);
    }
    if !is_surrogate(&bytes[2..6], b"89abAB") {
        return Some(6);
    }
    // A low surrogate may follow.
    if *bytes.get(6)? != b'\\' || *bytes.get(7)? != b'u' || digits(&bytes[8..])? < 4 {
        return Some(6);
    }
    Some(if is_surrogate(&bytes[8..12], b"cdefCDEF") { 12 } else { 6 })
}

/// The length of the unit in a text that ends behind `bytes`.
fn whole(bytes: &[u8]) -> usize {
    if bytes.len() >= 6 { 6 } else { 1 }
}

/// How many of the next four bytes are hexadecimal digits, if that is certain.
fn digits(bytes: &[u8]) -> Option<usize> {
    let count = bytes.iter().take(4).take_while(|byte| byte.is_ascii_hexdigit()).count();
    (count == 4 || count < bytes.len()).then_some(count)
}

fn is_surrogate(digits: &[u8], second: &[u8]) -> bool {
    matches!(digits[0], b'd' | b'D') && second.contains(&digits[1])
}
