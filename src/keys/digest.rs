//! What is stored of a key instead of the key.
//!
//! Enters: the text of a key. Leaves: 32 bytes that find it again and do not reveal it.
//!
//! A key has 178 random bits, so a fast hash is enough: nobody can try them all, and a slow hash would let anybody
//! with junk keys burn our CPU. HMAC rather than a plain hash so that a secret pepper can take the key's place.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

/// The HMAC key while no pepper is configured. Not a secret: it keeps our digests apart from any other use of
/// SHA-256 over the same text. A change makes every stored key unknown.
const DOMAIN: &[u8] = b"keyward api key digest v1";

/// The digest of a key. Compared in constant time; `Debug` shows nothing.
#[derive(Clone, Copy)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of the whole text of a key, under no pepper.
    pub fn of(key: &str) -> Self {
        #[allow(clippy::expect_used, reason = "HMAC takes keys of any length (RFC 2104 §2)")]
        let mut mac = Hmac::<Sha256>::new_from_slice(DOMAIN).expect("HMAC takes keys of any length");
        mac.update(key.as_bytes());
        Self(mac.finalize().into_bytes().into())
    }

    /// The plain SHA-256 of the whole text, as lists of keys that were made elsewhere have it.
    pub(super) fn sha256(key: &str) -> Self {
        Self(Sha256::digest(key.as_bytes()).into())
    }

    /// Reads 64 hex digits of either case.
    pub(super) fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
        }
        Some(Self(bytes))
    }

    /// A digest as the store has it.
    pub(super) fn stored(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(super) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Digest {}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_do_not_change_between_releases() {
        // Computed by Python's `hmac`.
        let known = "5da55f33f7fd263ebcc64a23e63e94ccccf80e7a17a47265fbfd79564f60364d";
        let digest = Digest::of("kw_live_0123456789ABCDEFGHIJKLMNOPQRST19V1x7");
        let hex: String = digest.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, known);
    }

    #[test]
    fn equality_sees_every_byte() {
        let digest = Digest::of("a");
        assert_eq!(digest, Digest::of("a"));
        assert_ne!(digest, Digest::of("b"));
        for at in 0..32 {
            let mut bytes = *digest.as_bytes();
            bytes[at] ^= 1;
            assert_ne!(digest, Digest::stored(bytes), "byte {at}");
        }
    }

    #[test]
    fn imported_digests_are_the_usual_ones() {
        // `printf abc | sha256sum`
        let hex = "BA7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Digest::from_hex(hex), Some(Digest::sha256("abc")));
        for bad in ["", &hex[1..], &hex.replace('B', "g"), &format!("{hex}0"), &"é".repeat(32)] {
            assert_eq!(Digest::from_hex(bad), None, "{bad}");
        }
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Digest::of("a")), "Digest(…)");
    }
}
