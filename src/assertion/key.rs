//! The keys that assertions are signed with.

use std::fmt;

use base64ct::{Base64, Base64Unpadded, Base64Url, Base64UrlUnpadded, Encoding};
use ed25519_dalek::pkcs8::DecodePrivateKey;
use ed25519_dalek::{Signer as _, SigningKey};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// How an assertion is signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// Ed25519: the service holds what verifies and cannot sign.
    #[default]
    EdDsa,
    /// HMAC-SHA-256: one secret on both sides.
    Hs256,
}

impl Algorithm {
    /// The name in a token's header (RFC 7518 §3.1, RFC 8037 §3.1).
    pub fn name(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Hs256 => "HS256",
        }
    }
}

/// A key that signs. `Debug` shows only of which kind it is.
#[derive(Clone)]
pub struct Key(Material);

#[derive(Clone)]
enum Material {
    EdDsa(Box<SigningKey>),
    /// The state after the secret was taken in, and a digest that tells two secrets apart.
    Hs256(Box<Hmac<Sha256>>, [u8; 32]),
}

/// Why a text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadKey {
    /// Neither PKCS#8 in PEM nor 32 bytes in base64.
    NotEd25519,
    /// RFC 7518 §3.2 wants a secret as long as the digest.
    ShortSecret,
}

impl fmt::Display for BadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotEd25519 => "is no Ed25519 private key: expected PKCS#8 in PEM, or 32 bytes in base64",
            Self::ShortSecret => "is too short for HS256: expected at least 32 characters",
        })
    }
}

/// The shortest secret for HS256.
const SHORTEST_SECRET: usize = 32;

impl Key {
    /// Reads the text of a secret. For `HS256` its bytes are the secret, as they are.
    ///
    /// # Errors
    /// Says what was expected and shows nothing of the text.
    pub fn read(algorithm: Algorithm, text: &str) -> Result<Self, BadKey> {
        match algorithm {
            Algorithm::EdDsa => {
                let key = if text.contains("-----BEGIN") {
                    SigningKey::from_pkcs8_pem(text.trim()).map_err(|_| BadKey::NotEd25519)?
                } else {
                    SigningKey::from_bytes(&*seed(text.trim()).ok_or(BadKey::NotEd25519)?)
                };
                Ok(Self(Material::EdDsa(Box::new(key))))
            }
            Algorithm::Hs256 => {
                let secret = text.as_bytes();
                if secret.len() < SHORTEST_SECRET {
                    return Err(BadKey::ShortSecret);
                }
                // HMAC takes a key of any length.
                let state = Hmac::<Sha256>::new_from_slice(secret).map_err(|_| BadKey::ShortSecret)?;
                Ok(Self(Material::Hs256(Box::new(state), Sha256::digest(secret).into())))
            }
        }
    }

    pub fn algorithm(&self) -> Algorithm {
        match &self.0 {
            Material::EdDsa(_) => Algorithm::EdDsa,
            Material::Hs256(..) => Algorithm::Hs256,
        }
    }

    /// The signature of `message` in base64url.
    pub(super) fn sign(&self, message: &[u8]) -> String {
        match &self.0 {
            Material::EdDsa(key) => Base64UrlUnpadded::encode_string(&key.sign(message).to_bytes()),
            Material::Hs256(state, _) => {
                let mut state = (**state).clone();
                state.update(message);
                Base64UrlUnpadded::encode_string(&state.finalize().into_bytes())
            }
        }
    }

    /// The public half in base64url, where there is one.
    pub(super) fn public(&self) -> Option<String> {
        match &self.0 {
            Material::EdDsa(key) => Some(Base64UrlUnpadded::encode_string(key.verifying_key().as_bytes())),
            Material::Hs256(..) => None,
        }
    }

    /// Whether two keys are the same one.
    pub fn is(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Material::EdDsa(one), Material::EdDsa(other)) => one.verifying_key() == other.verifying_key(),
            (Material::Hs256(_, one), Material::Hs256(_, other)) => one == other,
            _ => false,
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}, …)", self.algorithm().name())
    }
}

/// 32 bytes in base64 of any of its usual forms.
fn seed(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    let mut seed = Zeroizing::new([0; 32]);
    let forms = [Base64::decode, Base64Unpadded::decode, Base64Url::decode, Base64UrlUnpadded::decode];
    let read = forms.iter().any(|decode| decode(text, &mut *seed).is_ok_and(|bytes| bytes.len() == 32));
    read.then_some(seed)
}
