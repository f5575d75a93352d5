//! Peppers: secrets outside the store, without which its digests are worthless to a thief.
//!
//! Enters: the configured peppers, the present one first. Leaves: the [`Candidates`] under which a presented key could
//! be stored. A pepper is told by its [`Scheme`], which the store keeps beside each digest; so a pepper that is missing
//! or wrong is noticed, and never mistaken for keys that are.

use std::fmt;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::digest::Digest;
use crate::policy::SecretString;

/// The shortest pepper: 128 bits even if it is written in hex.
const MIN_BYTES: usize = 32;

/// What a pepper's public id is computed over.
const ID_OF: &[u8] = b"keyward pepper id v1";

/// More peppers than any rotation needs; each costs every uncached verification a digest.
const MAX_PEPPERS: usize = 8;

/// How a digest was computed: `hmac-sha256` without a pepper, `hmac-sha256:ID` with one; for imported keys `sha256`, and
/// `sha256+hmac-sha256:ID` for that hash under a pepper.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scheme(Arc<str>);

impl Scheme {
    /// Under no pepper.
    pub(super) fn plain() -> Self {
        Self("hmac-sha256".into())
    }

    /// The plain SHA-256 of a key that was made elsewhere.
    pub(super) fn imported() -> Self {
        Self("sha256".into())
    }

    pub(super) fn stored(text: &str) -> Self {
        Self(text.into())
    }

    /// The name as the store keeps it; safe to show.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is what `keys import` stores. By its scheme alone a verifier knows that texts of any form are keys.
    pub(super) fn is_imported(&self) -> bool {
        self.0.strip_prefix("sha256").is_some_and(|rest| rest.is_empty() || rest.starts_with('+'))
    }
}

#[derive(Clone)]
struct Pepper {
    scheme: Scheme,
    /// Of imported keys.
    imported: Scheme,
    mac: Hmac<Sha256>,
}

/// The configured peppers. New keys are stored under the first; the others still verify.
#[derive(Clone, Default)]
pub struct Peppers(Arc<[Pepper]>);

impl Peppers {
    /// `secrets` with the present one first; none at all is allowed.
    pub fn new(secrets: &[SecretString]) -> Result<Self, InvalidPepper> {
        if secrets.len() > MAX_PEPPERS {
            return Err(InvalidPepper::TooMany);
        }
        let mut peppers: Vec<Pepper> = Vec::with_capacity(secrets.len());
        for secret in secrets {
            let bytes = secret.expose().as_bytes();
            if bytes.len() < MIN_BYTES {
                return Err(InvalidPepper::TooShort);
            }
            #[allow(clippy::expect_used, reason = "HMAC takes keys of any length (RFC 2104 §2)")]
            let mac = Hmac::<Sha256>::new_from_slice(bytes).expect("HMAC takes keys of any length");
            let mut id = mac.clone();
            id.update(ID_OF);
            let id: String = id.finalize().into_bytes().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
            let scheme = Scheme(format!("hmac-sha256:{id}").into());
            if peppers.iter().any(|known| known.scheme == scheme) {
                return Err(InvalidPepper::Twice);
            }
            let imported = Scheme(format!("{}+{}", Scheme::imported().as_str(), scheme.as_str()).into());
            peppers.push(Pepper { scheme, imported, mac });
        }
        Ok(Self(peppers.into()))
    }

    /// The scheme of new keys.
    pub fn current(&self) -> Scheme {
        self.0.first().map_or_else(Scheme::plain, |pepper| pepper.scheme.clone())
    }

    /// The digest of a new key.
    pub(super) fn digest(&self, key: &str) -> (Scheme, Digest) {
        match self.0.first() {
            Some(pepper) => (pepper.scheme.clone(), pepper.digest(key.as_bytes())),
            None => (Scheme::plain(), Digest::of(key)),
        }
    }

    /// Every digest under which `key` may be stored, the present scheme first. Costs microseconds and no lookup.
    pub fn candidates(&self, key: &str) -> Candidates {
        let mut list: Vec<_> =
            self.0.iter().map(|pepper| (pepper.scheme.clone(), pepper.digest(key.as_bytes()))).collect();
        list.push((Scheme::plain(), Digest::of(key)));
        let imported = list.len();
        list.extend(self.imported(&Digest::sha256(key)));
        Candidates { list, imported }
    }

    /// Every digest under which a key may be stored that was imported by its hash, the present scheme first.
    pub(super) fn imported(&self, sha256: &Digest) -> impl Iterator<Item = (Scheme, Digest)> {
        let under = |pepper: &Pepper| (pepper.imported.clone(), pepper.digest(sha256.as_bytes()));
        self.0.iter().map(under).chain([(Scheme::imported(), *sha256)])
    }

    /// Whether a digest of this scheme needs no other pepper than that of new keys.
    pub(super) fn is_present(&self, scheme: &Scheme) -> bool {
        match self.0.first() {
            Some(pepper) => pepper.scheme == *scheme || pepper.imported == *scheme,
            None => *scheme == Scheme::plain() || *scheme == Scheme::imported(),
        }
    }

    /// Whether keys of this scheme can be verified.
    pub(super) fn knows(&self, scheme: &Scheme) -> bool {
        let is_under = |pepper: &Pepper| pepper.scheme == *scheme || pepper.imported == *scheme;
        *scheme == Scheme::plain() || *scheme == Scheme::imported() || self.0.iter().any(is_under)
    }
}

impl Pepper {
    /// Of a key's text, or of the 32 bytes of its hash, which no text of a key is as long as.
    fn digest(&self, bytes: &[u8]) -> Digest {
        let mut mac = self.mac.clone();
        mac.update(bytes);
        Digest::stored(mac.finalize().into_bytes().into())
    }
}

impl fmt::Debug for Peppers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|pepper| pepper.scheme.as_str())).finish()
    }
}

/// The digests under which one presented key may be stored.
#[derive(Clone, Debug)]
pub struct Candidates {
    list: Vec<(Scheme, Digest)>,
    /// Where those of an imported key begin.
    imported: usize,
}

impl Candidates {
    pub(super) fn iter(&self) -> impl Iterator<Item = &(Scheme, Digest)> {
        self.list.iter()
    }

    /// Under the present scheme.
    pub(super) fn current(&self) -> Option<&(Scheme, Digest)> {
        self.list.first()
    }

    /// Under the present scheme of imported keys.
    pub(super) fn current_imported(&self) -> Option<&(Scheme, Digest)> {
        self.list.get(self.imported)
    }
}

/// The configured peppers cannot be used. Holds none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidPepper {
    TooShort,
    Twice,
    TooMany,
}

impl fmt::Display for InvalidPepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort => {
                write!(f, "a pepper has at least {MIN_BYTES} characters; make one with `openssl rand -hex 32`")
            }
            Self::Twice => f.write_str("the same pepper is listed twice"),
            Self::TooMany => write!(f, "at most {MAX_PEPPERS} peppers can be listed"),
        }
    }
}

impl std::error::Error for InvalidPepper {}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(letter: char) -> SecretString {
        SecretString::new(letter.to_string().repeat(32))
    }

    #[test]
    fn the_first_pepper_makes_keys_and_all_of_them_find_keys() {
        let old = Peppers::new(&[secret('a')]).expect("a good pepper");
        let new = Peppers::new(&[secret('b'), secret('a')]).expect("good peppers");
        let (scheme, digest) = old.digest("k");
        assert_ne!(digest, Digest::of("k"), "a pepper counts");
        assert_ne!(new.digest("k").0, scheme);
        assert!(new.knows(&scheme) && !old.knows(&new.current()));
        let candidates = new.candidates("k");
        assert!(candidates.iter().any(|found| *found == (scheme.clone(), digest)));
        assert_eq!(candidates.current().expect("there is one").0, new.current());
        assert!(Peppers::default().knows(&Peppers::default().current()));
    }

    #[test]
    fn unusable_peppers_are_named_and_nothing_shows_them() {
        assert_eq!(Peppers::new(&[SecretString::new("short".into())]).err(), Some(InvalidPepper::TooShort));
        assert_eq!(Peppers::new(&[secret('a'), secret('a')]).err(), Some(InvalidPepper::Twice));
        let many: Vec<_> = "abcdefghi".chars().map(secret).collect();
        assert_eq!(Peppers::new(&many).err(), Some(InvalidPepper::TooMany));
        assert!(!format!("{:?}", Peppers::new(&[secret('q')])).contains("qq"));
    }
}
