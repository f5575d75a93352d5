//! Finding the key in a request, and taking it out.

use std::fmt;

use http::header::{self, HeaderMap, HeaderValue};
use zeroize::Zeroizing;

use crate::policy::Place;

/// A key as a client sent it. Wiped when dropped, never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyText(Zeroizing<String>);

impl KeyText {
    /// A text of our own making.
    pub(super) fn of(text: Zeroizing<String>) -> Self {
        Self(text)
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyText(…)")
    }
}

/// What the listed places of a request held.
#[derive(Debug, PartialEq, Eq)]
pub enum Credential {
    /// Nothing.
    Missing,
    /// Something that cannot be a key.
    Malformed,
    /// Two different keys: whoever added the second may not be whoever sent the first.
    Ambiguous,
    Key(KeyText),
}

/// Shorter and longer texts are no key of any known issuer.
const KEY_LENGTH: std::ops::RangeInclusive<usize> = 8..=512;

/// Takes the credential out of `headers`: every listed place is emptied, whatever it held, so that no key reaches
/// the service. An `Authorization` header with another scheme is not the listed place and stays.
pub fn take_credential(headers: &mut HeaderMap, places: &[Place]) -> Credential {
    let mut found = Credential::Missing;
    for place in places {
        let name = match place {
            Place::Bearer => header::AUTHORIZATION,
            Place::Header(name) => name.clone(),
        };
        let mut taken = false;
        for value in headers.get_all(&name) {
            let text = match place {
                Place::Bearer => match bearer(value) {
                    Some(text) => text,
                    None => continue,
                },
                Place::Header(_) => value.as_bytes(),
            };
            taken = true;
            found = match (found, key_text(text)) {
                (Credential::Missing, None) => Credential::Malformed,
                (found, None) => found,
                (Credential::Missing | Credential::Malformed, Some(key)) => Credential::Key(key),
                (Credential::Key(known), Some(key)) if known == key => Credential::Key(known),
                (Credential::Key(_) | Credential::Ambiguous, Some(_)) => Credential::Ambiguous,
            };
        }
        if taken {
            remove_taken(headers, place, &name);
        }
    }
    found
}

/// Removes the values that were read as credentials and keeps the service's own.
fn remove_taken(headers: &mut HeaderMap, place: &Place, name: &header::HeaderName) {
    let kept: Vec<HeaderValue> = match place {
        Place::Bearer => headers.get_all(name).iter().filter(|value| bearer(value).is_none()).cloned().collect(),
        Place::Header(_) => Vec::new(),
    };
    headers.remove(name);
    for value in kept {
        headers.append(name.clone(), value);
    }
}

/// The token of `Bearer TOKEN`; the scheme ignores case (RFC 9110 §11.1).
fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let text = value.as_bytes();
    let (scheme, rest) = text.split_at_checked(6)?;
    let separated = rest.first().is_none_or(|byte| matches!(byte, b' ' | b'\t'));
    (scheme.eq_ignore_ascii_case(b"bearer") && separated).then_some(rest)
}

fn key_text(text: &[u8]) -> Option<KeyText> {
    let text = text.trim_ascii();
    let shaped = KEY_LENGTH.contains(&text.len()) && text.iter().all(u8::is_ascii_graphic);
    let text = std::str::from_utf8(text).ok().filter(|_| shaped)?;
    Some(KeyText::of(Zeroizing::new(text.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(lines: &[(&'static str, &str)]) -> (Credential, Vec<String>) {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().expect("a header value"));
        }
        let places = [Place::Bearer, Place::Header("x-api-key".parse().expect("a name"))];
        let found = take_credential(&mut headers, &places);
        let left = headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().expect("text"))).collect();
        (found, left)
    }

    fn key(text: &str) -> Credential {
        Credential::Key(KeyText(Zeroizing::new(text.to_owned())))
    }

    #[test]
    fn a_key_is_found_in_either_place_and_removed() {
        assert_eq!(take(&[("authorization", "Bearer kw_12345678")]), (key("kw_12345678"), vec![]));
        assert_eq!(take(&[("authorization", "bEaReR   kw_12345678 ")]), (key("kw_12345678"), vec![]));
        assert_eq!(take(&[("x-api-key", "kw_12345678")]), (key("kw_12345678"), vec![]));
        let twice = [("x-api-key", "kw_12345678"), ("authorization", "Bearer kw_12345678")];
        assert_eq!(take(&twice), (key("kw_12345678"), vec![]));
    }

    #[test]
    fn two_different_keys_are_ambiguous_and_both_are_removed() {
        for lines in [
            [("x-api-key", "kw_12345678"), ("authorization", "Bearer kw_87654321")],
            [("x-api-key", "kw_12345678"), ("x-api-key", "kw_87654321")],
            [("authorization", "Bearer kw_12345678"), ("authorization", "Bearer kw_87654321")],
        ] {
            assert_eq!(take(&lines), (Credential::Ambiguous, vec![]));
        }
    }

    #[test]
    fn what_cannot_be_a_key_is_malformed_and_not_missing() {
        for value in ["Bearer", "Bearer ", "Bearer short", "Bearer two words", "Bearer caf\u{e9}-12345678"] {
            assert_eq!(take(&[("authorization", value)]).0, Credential::Malformed, "{value}");
        }
        assert_eq!(take(&[("x-api-key", &"k".repeat(513))]).0, Credential::Malformed);
        assert_eq!(take(&[("accept", "*/*")]).0, Credential::Missing);
    }

    #[test]
    fn another_scheme_is_the_services_own() {
        let (found, left) = take(&[("authorization", "Basic dXNlcjpwYXNz"), ("x-api-key", "kw_12345678")]);
        assert_eq!(found, key("kw_12345678"));
        assert_eq!(left, ["authorization: Basic dXNlcjpwYXNz"]);
        assert_eq!(take(&[("authorization", "Bearerkw_12345678")]).1.len(), 1);
    }
}
