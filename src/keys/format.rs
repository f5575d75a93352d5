//! The text of a key: `<prefix>_<30 random base62 characters><6 base62 characters of CRC-32>`.
//!
//! Enters: a prefix and randomness. Leaves: a [`KeySecret`]; or, for a presented text, whether it can be a key at all.
//! The layout is GitHub's: a double click selects the whole of it, secret scanners recognize it, and the checksum
//! tells a typo from a revoked key. It proves nothing: anybody can compute a CRC.
//!
//! Invariant: the random part is uniform over base62^30, which is 178 bits.

use std::fmt;
use std::str::FromStr;

use zeroize::Zeroizing;

use super::random::{Random, RandomError};

/// In the order of their values, so that a padding `0` is a leading zero.
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const RANDOM_CHARS: usize = 30;
/// 62^6 is more than 2^32, so six characters hold every CRC-32.
const CHECKSUM_CHARS: usize = 6;
/// How much of a key is shown to tell it from others. It is a part of the checksum, which costs a guesser at most
/// 24 of the 178 bits.
const SUFFIX_CHARS: usize = 4;
const MAX_PREFIX_CHARS: usize = 32;
/// What stands where a key stood.
const HIDDEN: &str = "[key]";

/// What stands before the random part, such as `kw_live`: `[a-z0-9_]`, 1 to 32 characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPrefix(Box<str>);

impl KeyPrefix {
    /// Accepts `[a-z0-9_]{1,32}`.
    pub fn new(text: &str) -> Result<Self, InvalidPrefix> {
        if Self::is_prefix(text) { Ok(Self(text.into())) } else { Err(InvalidPrefix) }
    }

    fn is_prefix(text: &str) -> bool {
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
        (1..=MAX_PREFIX_CHARS).contains(&text.len()) && text.bytes().all(allowed)
    }

    /// Whether `text` begins as a key of this prefix does.
    pub fn begins(&self, text: &str) -> bool {
        text.strip_prefix(self.as_str()).is_some_and(|rest| rest.starts_with('_'))
    }

    /// The prefix without the underscore that follows it in a key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `kw_live`: not `k_live`, which collides with Kinde's keys and, as a substring, with Stripe's.
impl Default for KeyPrefix {
    fn default() -> Self {
        Self("kw_live".into())
    }
}

impl FromStr for KeyPrefix {
    type Err = InvalidPrefix;

    fn from_str(text: &str) -> Result<Self, InvalidPrefix> {
        Self::new(text)
    }
}

impl fmt::Display for KeyPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text cannot be a key prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidPrefix;

impl fmt::Display for InvalidPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a key prefix is 1 to {MAX_PREFIX_CHARS} characters of a-z, 0-9 and _")
    }
}

impl std::error::Error for InvalidPrefix {}

/// A whole key, for the one moment in which it may be shown: wiped when dropped, never shown by `Debug`.
pub struct KeySecret(Zeroizing<String>);

impl KeySecret {
    /// Makes a new key.
    pub fn generate(prefix: &KeyPrefix, random: &mut dyn Random) -> Result<Self, RandomError> {
        let length = prefix.as_str().len() + 1 + RANDOM_CHARS + CHECKSUM_CHARS;
        // The whole capacity at once: a string that grew would leave unwiped copies behind.
        let mut text = Zeroizing::new(String::with_capacity(length));
        text.push_str(prefix.as_str());
        text.push('_');
        push_base62(&mut text, RANDOM_CHARS, random)?;
        let checksum = checksum(text.as_bytes());
        text.extend(checksum.iter().map(|&byte| char::from(byte)));
        Ok(Self(text))
    }

    /// A key that somebody else has made; `None` for a text that is none of ours.
    pub fn read(text: &str) -> Option<Self> {
        looks_valid(text).then(|| Self(Zeroizing::new(text.to_owned())))
    }

    /// The key itself; the name makes each use stand out in review.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The last characters, which a record keeps to tell keys apart.
    pub(super) fn suffix(&self) -> &str {
        &self.0[self.0.len() - SUFFIX_CHARS..]
    }
}

impl fmt::Debug for KeySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeySecret(…)")
    }
}

/// `text` with `[key]` in place of every key of ours, for what is written down and was chosen by a client: some put
/// their key into a path, where it is no credential.
pub fn hide_keys(mut text: String) -> String {
    let mut from = 0;
    while let Some(at) = text.get(from..).and_then(|rest| rest.find('_')).map(|at| from + at) {
        let end = at + 1 + RANDOM_CHARS + CHECKSUM_CHARS;
        let starts = at.saturating_sub(MAX_PREFIX_CHARS)..at;
        let key = starts.into_iter().find(|&start| text.get(start..end).is_some_and(looks_valid));
        from = match key {
            Some(start) => {
                text.replace_range(start..end, HIDDEN);
                start + HIDDEN.len()
            }
            None => at + 1,
        };
    }
    text
}

/// Whether `text` has the shape of our keys, under whichever prefix, and a checksum that fits. Such a text is worth a
/// lookup, no more. Any prefix, because keys that were made under an earlier one stay valid.
pub fn looks_valid(text: &str) -> bool {
    // Base62 has no underscore, so the last one ends the prefix, which may have several.
    text.rsplit_once('_').is_some_and(|(prefix, tail)| {
        KeyPrefix::is_prefix(prefix)
            && tail.len() == RANDOM_CHARS + CHECKSUM_CHARS
            && tail.bytes().all(|byte| byte.is_ascii_alphanumeric())
            && text.as_bytes()[text.len() - CHECKSUM_CHARS..]
                == checksum(&text.as_bytes()[..text.len() - CHECKSUM_CHARS])
    })
}

/// How a key is shown after its creation: `prefix…last4`.
pub(super) fn hint(prefix: &str, suffix: &str) -> String {
    format!("{prefix}…{suffix}")
}

fn checksum(body: &[u8]) -> [u8; CHECKSUM_CHARS] {
    let mut value = crc32fast::hash(body);
    let mut text = [0; CHECKSUM_CHARS];
    for place in text.iter_mut().rev() {
        *place = BASE62[(value % 62) as usize];
        value /= 62;
    }
    text
}

/// Appends `count` uniform base62 characters.
fn push_base62(text: &mut String, count: usize, random: &mut dyn Random) -> Result<(), RandomError> {
    /// The largest multiple of 62 in a byte; what lies above it is drawn again, for `% 62` alone would favor the
    /// first eight characters.
    const FAIR: u8 = 248;
    /// One byte in 32 is drawn again; a working source needs a second round about once in 10^15 keys.
    const ROUNDS: usize = 16;

    let end = text.len() + count;
    let mut bytes = Zeroizing::new([0_u8; 2 * RANDOM_CHARS]);
    for _ in 0..ROUNDS {
        random.fill(&mut *bytes)?;
        for &byte in bytes.iter().filter(|&&byte| byte < FAIR) {
            if text.len() == end {
                break;
            }
            text.push(char::from(BASE62[usize::from(byte % 62)]));
        }
        if text.len() == end {
            return Ok(());
        }
    }
    Err(RandomError::Stuck)
}

#[cfg(test)]
mod tests;
