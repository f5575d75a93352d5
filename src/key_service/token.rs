//! Who may use the service, and for what.
//!
//! Enters: tokens of the configuration, as a secret or as its SHA-256; later what a request shows. Leaves: a [`Caller`].
//! A token is shown as it is, or, after `client_credentials`, as a JWT that ends within the hour. The JWT is signed with
//! a key derived from the secret, so it is worth as much as the secret to nobody who has not got it: neither its
//! SHA-256 nor the store is enough to make one, and every replica with the same configuration takes it.
//!
//! Invariant: a secret is not kept; its digest and the derived key are, and `Debug` shows neither.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64ct::{Base64UrlUnpadded, Encoding};
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::policy::SecretString;

/// Shorter secrets could be guessed.
const MIN_SECRET: usize = 32;

/// How long an issued token is good; Kinde's default.
pub(super) const LIFETIME: Duration = Duration::from_secs(3600);

/// What a token may be used for, by Kinde's names; `verify:api_keys` is ours, for who only verifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Read,
    Create,
    Update,
    Delete,
    Verify,
}

impl Scope {
    pub const ALL: [(&'static str, Self); 5] = [
        ("read:api_keys", Self::Read),
        ("create:api_keys", Self::Create),
        ("update:api_keys", Self::Update),
        ("delete:api_keys", Self::Delete),
        ("verify:api_keys", Self::Verify),
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read:api_keys",
            Self::Create => "create:api_keys",
            Self::Update => "update:api_keys",
            Self::Delete => "delete:api_keys",
            Self::Verify => "verify:api_keys",
        }
    }
}

/// A token that the configuration names.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminToken {
    name: Arc<str>,
    digest: [u8; 32],
    /// Absent where only the digest is configured: such a token is shown as it is.
    signing: Option<Zeroizing<[u8; 32]>>,
    scopes: Vec<Scope>,
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminToken").field("name", &self.name).field("scopes", &self.scopes).finish_non_exhaustive()
    }
}

/// A token cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidToken {
    TooShort,
    NotAWord,
    NotADigest,
}

impl fmt::Display for InvalidToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort => write!(
                f,
                "a token must have at least {MIN_SECRET} characters, or it could be guessed; \
                 `keyward keys token` makes one"
            ),
            Self::NotAWord => f.write_str("a token must be visible ASCII without spaces"),
            Self::NotADigest => {
                f.write_str("expected the SHA-256 of a token, 64 hex digits; `keyward keys token` shows it")
            }
        }
    }
}

impl std::error::Error for InvalidToken {}

/// The SHA-256 of a token in hex, as the configuration may have it.
pub fn token_digest(token: &str) -> String {
    Sha256::digest(token.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl AdminToken {
    pub fn of_secret(name: &str, secret: &SecretString, scopes: Vec<Scope>) -> Result<Self, InvalidToken> {
        let text = secret.expose();
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(InvalidToken::NotAWord);
        }
        if text.len() < MIN_SECRET {
            return Err(InvalidToken::TooShort);
        }
        let mut mac = keyed(text.as_bytes());
        mac.update(b"keyward key service access token v1");
        let signing = Zeroizing::new(mac.finalize().into_bytes().into());
        Ok(Self { name: name.into(), digest: Sha256::digest(text).into(), signing: Some(signing), scopes })
    }

    pub fn of_digest(name: &str, hex: &str, scopes: Vec<Scope>) -> Result<Self, InvalidToken> {
        let mut digest = [0; 32];
        if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(InvalidToken::NotADigest);
        }
        for (at, byte) in digest.iter_mut().enumerate() {
            let pair = hex.get(2 * at..2 * at + 2).ok_or(InvalidToken::NotADigest)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| InvalidToken::NotADigest)?;
        }
        Ok(Self { name: name.into(), digest, signing: None, scopes })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether both are the same token under two names.
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

/// Whoever made a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    pub name: Arc<str>,
    scopes: Vec<Scope>,
}

impl Caller {
    pub fn may(&self, any_of: &[Scope]) -> bool {
        any_of.iter().any(|scope| self.scopes.contains(scope))
    }
}

/// A token that was issued.
pub(super) struct Issued {
    pub text: Zeroizing<String>,
    pub scope: String,
}

/// Why no token was issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotIssued {
    /// No such client, or not its secret.
    Client,
    /// Only the digest of this client's secret is known.
    DigestOnly,
    /// It asked for a scope that it has not got.
    Scope,
}

/// All tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens(Vec<AdminToken>);

#[derive(Deserialize)]
struct Claims {
    azp: String,
    exp: u64,
    scp: Vec<String>,
}

impl Tokens {
    pub fn new(tokens: Vec<AdminToken>) -> Self {
        Self(tokens)
    }

    /// Their names, each with its scopes.
    pub fn names(&self) -> impl Iterator<Item = (&str, &[Scope])> {
        self.0.iter().map(|token| (&*token.name, token.scopes.as_slice()))
    }

    /// Who shows `text`, if anybody we know.
    pub(super) fn caller(&self, text: &str, now: SystemTime) -> Option<Caller> {
        if let Some(token) = self.by_secret(text) {
            return Some(Caller { name: Arc::clone(&token.name), scopes: token.scopes.clone() });
        }
        self.issued_to(text, now)
    }

    /// Compares with every token, whichever fits: how long it takes says nothing.
    fn by_secret(&self, text: &str) -> Option<&AdminToken> {
        let digest: [u8; 32] = Sha256::digest(text.as_bytes()).into();
        self.0
            .iter()
            .fold(None, |found, token| if bool::from(token.digest.ct_eq(&digest)) { Some(token) } else { found })
    }

    fn issued_to(&self, text: &str, now: SystemTime) -> Option<Caller> {
        let (signed, signature) = text.rsplit_once('.')?;
        let claims = Base64UrlUnpadded::decode_vec(signed.split_once('.')?.1).ok()?;
        let claims: Claims = serde_json::from_slice(&claims).ok()?;
        // Nothing of the claims is believed before the signature under the key of whom they name.
        let token = self.0.iter().find(|token| *token.name == *claims.azp)?;
        let mut mac = keyed(token.signing.as_ref()?.as_slice());
        mac.update(signed.as_bytes());
        mac.verify_slice(&Base64UrlUnpadded::decode_vec(signature).ok()?).ok()?;
        if UNIX_EPOCH.checked_add(Duration::from_secs(claims.exp))? <= now {
            return None;
        }
        // A scope that was taken from the token since is gone.
        let scopes = token.scopes.iter().copied().filter(|scope| claims.scp.iter().any(|s| s == scope.as_str()));
        Some(Caller { name: Arc::clone(&token.name), scopes: scopes.collect() })
    }

    /// Issues a token to a client (RFC 6749 §4.4): `id` is the token's name and `secret` the token.
    pub(super) fn issue(
        &self,
        id: &str,
        secret: &str,
        scope: &str,
        audience: Option<&str>,
        now: SystemTime,
    ) -> Result<Issued, NotIssued> {
        let token = self.by_secret(secret).filter(|token| *token.name == *id).ok_or(NotIssued::Client)?;
        let signing = token.signing.as_ref().ok_or(NotIssued::DigestOnly)?;
        let asked: Vec<&str> = scope.split_ascii_whitespace().collect();
        if !asked.iter().all(|asked| token.scopes.iter().any(|scope| scope.as_str() == *asked)) {
            return Err(NotIssued::Scope);
        }
        let names = token.scopes.iter().map(|scope| scope.as_str());
        let granted: Vec<&str> = names.filter(|name| asked.is_empty() || asked.contains(name)).collect();
        let issued = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let claims = json!({
            "azp": id,
            "aud": audience.into_iter().collect::<Vec<_>>(),
            "iat": issued.as_secs(),
            "exp": (issued + LIFETIME).as_secs(),
            "gty": ["client_credentials"],
            "scope": granted.join(" "),
            "scp": granted,
        });
        let head = Base64UrlUnpadded::encode_string(br#"{"alg":"HS256","typ":"JWT"}"#);
        let signed = format!("{head}.{}", Base64UrlUnpadded::encode_string(claims.to_string().as_bytes()));
        let mut mac = keyed(signing.as_slice());
        mac.update(signed.as_bytes());
        let signature = Base64UrlUnpadded::encode_string(&mac.finalize().into_bytes());
        Ok(Issued { text: Zeroizing::new(format!("{signed}.{signature}")), scope: granted.join(" ") })
    }
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    #[allow(clippy::expect_used, reason = "HMAC takes keys of any length (RFC 2104 §2)")]
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn secret(text: &str) -> SecretString {
        SecretString::new(text.to_owned())
    }

    fn tokens() -> Tokens {
        let ci = AdminToken::of_secret("ci", &secret(SECRET), vec![Scope::Read, Scope::Create]).unwrap();
        let hashed = AdminToken::of_digest("hashed", &token_digest("another"), vec![Scope::Verify]).unwrap();
        Tokens::new(vec![ci, hashed])
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
    }

    #[test]
    fn a_token_is_known_by_its_text_alone() {
        let tokens = tokens();
        let caller = tokens.caller(SECRET, at(0)).unwrap();
        assert_eq!(&*caller.name, "ci");
        assert!(caller.may(&[Scope::Verify, Scope::Read]) && !caller.may(&[Scope::Delete]) && !caller.may(&[]));
        assert_eq!(&*tokens.caller("another", at(0)).unwrap().name, "hashed");
        for wrong in ["", "ci", &SECRET[1..], &token_digest(SECRET), "a.b.c", "..", "eyJ.eyJ."] {
            assert_eq!(tokens.caller(wrong, at(0)), None, "{wrong}");
        }
    }

    #[test]
    fn an_issued_token_ends_and_cannot_be_changed() {
        let tokens = tokens();
        let issued = tokens.issue("ci", SECRET, "", Some("https://a/api"), at(0)).unwrap().text;
        assert_eq!(&*tokens.caller(&issued, at(3599)).unwrap().name, "ci");
        assert_eq!(tokens.caller(&issued, at(3600)), None);
        for at_byte in 0..issued.len() {
            let mut bytes = issued.as_bytes().to_vec();
            bytes[at_byte] = if bytes[at_byte] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            // The last character of a signature has two bits that mean nothing.
            if changed != *issued {
                assert_eq!(tokens.caller(&changed, at(0)), None, "byte {at_byte}");
            }
        }
        // Another secret under the same name ends it.
        let other = AdminToken::of_secret("ci", &secret(&SECRET.replace('0', "9")), vec![Scope::Read]).unwrap();
        assert_eq!(Tokens::new(vec![other]).caller(&issued, at(0)), None);
    }

    #[test]
    fn a_token_is_issued_for_scopes_that_its_client_has() {
        let tokens = tokens();
        let narrow = tokens.issue("ci", SECRET, " read:api_keys ", None, at(0)).unwrap();
        assert_eq!(narrow.scope, "read:api_keys");
        assert!(!tokens.caller(&narrow.text, at(0)).unwrap().may(&[Scope::Create]));
        let refused = |id, secret, scope| tokens.issue(id, secret, scope, None, at(0)).err();
        assert_eq!(refused("ci", SECRET, "delete:api_keys"), Some(NotIssued::Scope));
        assert_eq!(refused("hashed", "another", ""), Some(NotIssued::DigestOnly));
        assert_eq!(refused("ci", "another", ""), Some(NotIssued::Client));
        assert_eq!(refused("hashed", SECRET, ""), Some(NotIssued::Client));
    }

    #[test]
    fn weak_tokens_are_refused() {
        let refused = |text: &str| AdminToken::of_secret("t", &secret(text), Vec::new()).err();
        assert_eq!(refused(&SECRET[1..]), Some(InvalidToken::TooShort));
        assert_eq!(refused(&format!("{SECRET} x")), Some(InvalidToken::NotAWord));
        assert_eq!(AdminToken::of_digest("t", SECRET, Vec::new()).err(), Some(InvalidToken::NotADigest));
        assert!(!format!("{:?}", tokens()).contains("digest"));
    }
}
