//! The texts of a query string, and of a form sent as `application/x-www-form-urlencoded`.
//!
//! The raw query enters, without its `?`; decoded names and values leave. An invalid
//! escape is kept as written, as the readers of the WHATWG URL standard do. Decoded
//! bytes may be no UTF-8. Nothing is ever rewritten or encoded here.

use std::borrow::Cow;

/// What a decoded text was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The name of a field.
    Name,
    /// The value of a field.
    Value,
    /// All of the query at once.
    Whole,
}

/// Decodes every text that a service could read from `query`, in order: of each field
/// its name and, if it has one, its value. Empty texts are left out.
///
/// A service may also read the query raw, as in `/search?free text`. Where a name
/// holds a byte that names of fields do not, the whole decoded query is the last text.
pub fn texts(query: &[u8], mut text: impl FnMut(Part, &[u8])) {
    let mut plain = true;
    for field in query.split(|&byte| byte == b'&') {
        let (name, value) = match memchr::memchr(b'=', field) {
            Some(at) => (&field[..at], &field[at + 1..]),
            None => (field, &[][..]),
        };
        let name = decode(name);
        plain &= name.iter().all(|&byte| is_name_byte(byte));
        for (part, decoded) in [(Part::Name, name), (Part::Value, decode(value))] {
            if !decoded.is_empty() {
                text(part, &decoded);
            }
        }
    }
    if !plain {
        text(Part::Whole, &decode(query));
    }
}

/// Decodes `%xx` to a byte and `+` to a space.
pub fn decode(raw: &[u8]) -> Cow<'_, [u8]> {
    decoded(raw, b' ')
}

/// Decodes `%xx` to a byte, and nothing else.
pub fn percent_decoded(raw: &[u8]) -> Cow<'_, [u8]> {
    decoded(raw, b'+')
}

fn decoded(raw: &[u8], plus: u8) -> Cow<'_, [u8]> {
    let Some(first) = memchr::memchr2(b'%', b'+', raw) else { return Cow::Borrowed(raw) };
    let mut decoded = Vec::with_capacity(raw.len());
    decoded.extend_from_slice(&raw[..first]);
    let mut rest = &raw[first..];
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        decoded.push(match (byte, behind) {
            (b'+', _) => plus,
            (b'%', [high, low, behind @ ..]) => match hex(*high).zip(hex(*low)) {
                Some((high, low)) => {
                    rest = behind;
                    high << 4 | low
                }
                None => b'%',
            },
            _ => byte,
        });
    }
    Cow::Owned(decoded)
}

fn hex(digit: u8) -> Option<u8> {
    // A hexadecimal digit is below 16.
    char::from(digit).to_digit(16).map(|value| value as u8)
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'[' | b']')
}

#[cfg(test)]
mod tests;
