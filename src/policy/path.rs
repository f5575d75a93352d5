//! The one canonical form of a path, and the patterns that are matched against it.
//!
//! What is matched is, byte for byte, what the service receives, so there is no second parser to disagree with.

use std::borrow::Cow;
use std::fmt;

/// Why a request path is refused. The policy is one for every route: a spelling that servers are known to read
/// differently is not guessed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadPath {
    /// Not in origin form (RFC 9112 §3.2.1).
    NotAbsolute,
    /// `%` without two hexadecimal digits.
    InvalidEscape,
    /// `%2e`, `%2f`, `%5c`, `%00` or another escaped control character.
    RefusedEscape,
    /// `\`, which some servers read as `/`.
    Backslash,
    /// `//`.
    EmptySegment,
    /// `/..;x/`: a dot segment to servers that cut off path parameters.
    DotSegmentParameter,
}

impl fmt::Display for BadPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAbsolute => "the request target is not an absolute path",
            Self::InvalidEscape => "invalid percent escape",
            Self::RefusedEscape => "escaped dot, slash, backslash or control character",
            Self::Backslash => "backslash",
            Self::EmptySegment => "empty path segment",
            Self::DotSegmentParameter => "dot segment with a parameter",
        })
    }
}

impl std::error::Error for BadPath {}

/// Brings a path (without query) into its canonical form, or says why it has none.
///
/// Dot segments are resolved (RFC 3986 §5.2.4). An escape of a character that may stand for itself in a path is
/// decoded, any other is kept in upper case, and a raw character that may not stand there is escaped: two paths
/// which a service would decode to the same text have the same canonical form. The result is borrowed when the
/// path was canonical already, which is the normal case.
pub fn canonical_path(path: &str) -> Result<Cow<'_, str>, BadPath> {
    if !path.starts_with('/') {
        return Err(BadPath::NotAbsolute);
    }
    if is_canonical(path.as_bytes()) {
        return Ok(Cow::Borrowed(path));
    }
    let mut out = String::with_capacity(path.len() + 8);
    let mut segments = path[1..].split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "" if !last => return Err(BadPath::EmptySegment),
            "." | ".." => {
                if segment == ".." {
                    out.truncate(out.rfind('/').unwrap_or(0));
                }
                if last {
                    out.push('/');
                }
            }
            _ if segment.starts_with(".;") || segment.starts_with("..;") => return Err(BadPath::DotSegmentParameter),
            _ => {
                out.push('/');
                push_segment(&mut out, segment)?;
            }
        }
    }
    Ok(Cow::Owned(out))
}

fn is_canonical(path: &[u8]) -> bool {
    let mut previous = 0;
    for &byte in path {
        let special = match byte {
            b'/' => previous == b'/',
            b'.' => previous == b'/',
            _ => !is_pchar(byte),
        };
        if special {
            return false;
        }
        previous = byte;
    }
    true
}

fn push_segment(out: &mut String, segment: &str) -> Result<(), BadPath> {
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        let (byte, escaped) = match byte {
            b'\\' => return Err(BadPath::Backslash),
            b'%' => (unescape(bytes.next(), bytes.next())?, true),
            _ => (byte, false),
        };
        if escaped && (matches!(byte, b'.' | b'/' | b'\\') || byte.is_ascii_control()) {
            return Err(BadPath::RefusedEscape);
        }
        if is_pchar(byte) {
            out.push(char::from(byte));
        } else {
            const HEX: &[u8; 16] = b"0123456789ABCDEF";
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    Ok(())
}

fn unescape(high: Option<u8>, low: Option<u8>) -> Result<u8, BadPath> {
    let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16)).ok_or(BadPath::InvalidEscape);
    // Two hexadecimal digits are at most 255.
    Ok((digit(high)? * 16 + digit(low)?) as u8)
}

/// `pchar` of RFC 3986 §3.3 without the escape.
fn is_pchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte)
}

/// A route's path: literal segments, `{param}` for one segment, and a final `/**` for everything below.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PathPattern {
    text: Box<str>,
    prefix: bool,
}

/// Why a path pattern is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PatternError {
    NotAbsolute,
    /// No request can match: its path is never in this form when it is matched.
    Unreachable {
        canonical: Option<String>,
    },
    BadParameter(String),
    WildcardNotLast,
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAbsolute => f.write_str("a path starts with `/`"),
            Self::Unreachable { canonical: Some(path) } => {
                write!(f, "no request can match this path: requests are matched in canonical form, here `{path}`")
            }
            Self::Unreachable { canonical: None } => {
                f.write_str("no request can match this path: such a spelling is refused before routing")
            }
            Self::BadParameter(segment) => {
                write!(
                    f,
                    "`{segment}`: a parameter is a whole segment `{{name}}` with a name of letters, digits and `_`"
                )
            }
            Self::WildcardNotLast => f.write_str("`**` stands only at the end, as `/**`"),
        }
    }
}

impl std::error::Error for PatternError {}

impl PathPattern {
    /// Parses the path of a route.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let (base, prefix) = match text.strip_suffix("/**") {
            Some(base) => (base, true),
            None => (text, false),
        };
        if !text.starts_with('/') {
            return Err(PatternError::NotAbsolute);
        }
        let mut literal = String::new();
        for segment in base.split('/').skip(1) {
            literal.push('/');
            if segment.contains("**") {
                return Err(PatternError::WildcardNotLast);
            }
            if segment.contains(['{', '}']) {
                literal.push_str(parameter(segment)?);
            } else {
                literal.push_str(segment);
            }
        }
        match canonical_path(if literal.is_empty() { "/" } else { &literal }) {
            Ok(path) if path == literal || literal.is_empty() => Ok(Self { text: text.into(), prefix }),
            Ok(path) => Err(PatternError::Unreachable { canonical: Some(path.into_owned()) }),
            Err(_) => Err(PatternError::Unreachable { canonical: None }),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The part before `/**`, or the whole path.
    pub(super) fn base(&self) -> &str {
        if self.prefix { &self.text[..self.text.len() - 3] } else { &self.text }
    }

    pub(super) fn is_prefix(&self) -> bool {
        self.prefix
    }
}

/// Checks `{name}` and returns the name, which stands in for any value.
fn parameter(segment: &str) -> Result<&str, PatternError> {
    segment
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
        .filter(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'))
        .ok_or_else(|| PatternError::BadParameter(segment.to_owned()))
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests;
