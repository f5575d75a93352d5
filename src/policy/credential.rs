//! Where a key may stand in a request, and a string that must not be shown.

use std::fmt;

use http::HeaderName;
use zeroize::Zeroizing;

/// One place where a caller may put an API key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// `Authorization: Bearer KEY` (RFC 6750 §2.1).
    Bearer,
    /// A header whose whole value is the key, such as `x-api-key`.
    Header(HeaderName),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bearer => f.write_str("bearer"),
            Self::Header(name) => f.write_str(name.as_str()),
        }
    }
}

/// A secret read from a file or the environment: wiped when dropped, never shown by `Debug`.
#[derive(Clone)]
pub struct SecretString(Zeroizing<String>);

impl SecretString {
    pub fn new(value: String) -> Self {
        Self(Zeroizing::new(value))
    }

    /// The secret itself; the name makes each use stand out in review.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretString(…)")
    }
}
