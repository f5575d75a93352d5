//! What the service can check for itself: a short-lived signed statement about one request.
//!
//! Enters: keys from the configuration, and per request who called and what is about to be sent. Leaves: a JSON Web
//! Token (RFC 7519) in compact form (RFC 7515), signed with EdDSA (RFC 8037) or HS256, and the set of public keys
//! (RFC 7517) that verify it. Pure: the time arrives as an argument.
//!
//! Invariants: a secret key never leaves, and neither does a key that signs and verifies at once; an assertion that
//! does not name the body's digest says by that, under its signature, that the body was not known.

mod key;

pub use key::{Algorithm, BadKey, Key};

use std::time::{Duration, SystemTime};

use base64ct::{Base64UrlUnpadded, Encoding};
use http::{HeaderName, HeaderValue};
use serde::Serialize;
use sha2::{Digest, Sha256};

/// The compiled `assertion` section of an upstream or a route.
#[derive(Debug)]
pub struct Assertion {
    /// Of the identity class, so that a client's copy is dropped in every spelling.
    pub header: HeaderName,
    /// What signs. The key that was used before it is only published, never used.
    pub signer: Signer,
    /// How long an assertion is valid.
    pub ttl: Duration,
    pub issuer: Box<str>,
    pub audience: Box<str>,
}

/// A key with its name.
#[derive(Debug)]
pub struct Signer {
    key: Key,
    /// The protected header in base64url, with the dot behind it: the same for every request.
    protected: Box<str>,
}

/// What is said about one request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub key_id: &'a str,
    pub org_code: Option<&'a str>,
    pub user_id: Option<&'a str>,
    pub scopes: &'a [std::sync::Arc<str>],
    pub route: &'a str,
    pub method: &'a str,
    /// The path as it is sent, with the query.
    pub path: &'a str,
    pub request_id: &'a str,
    /// Never the same twice.
    pub token_id: &'a str,
    /// The body, where it is known before it is sent; an empty one is known.
    pub body: Option<&'a [u8]>,
}

/// The claims, in the order in which they are written.
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    iat: u64,
    exp: u64,
    jti: &'a str,
    key_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    org_code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<&'a str>,
    scopes: &'a [std::sync::Arc<str>],
    route: &'a str,
    method: &'a str,
    path: &'a str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_sha256: Option<String>,
}

impl Signer {
    /// `id` is what the token and the key set call the key.
    pub fn new(id: &str, key: Key) -> Self {
        #[derive(Serialize)]
        struct Protected<'a> {
            alg: &'a str,
            kid: &'a str,
            typ: &'a str,
        }
        let header = Protected { alg: key.algorithm().name(), kid: id, typ: "JWT" };
        Self { protected: format!("{}.", encoded(&header)).into(), key }
    }

    fn sign(&self, claims: &Claims<'_>) -> String {
        let mut token = format!("{}{}", self.protected, encoded(claims));
        let signature = self.key.sign(token.as_bytes());
        token.push('.');
        token.push_str(&signature);
        token
    }
}

impl Assertion {
    /// States, as of `now`, that Keyward has verified `request`.
    pub fn state(&self, request: &Request<'_>, now: SystemTime) -> HeaderValue {
        let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let token = self.signer.sign(&Claims {
            iss: &self.issuer,
            aud: &self.audience,
            iat: seconds,
            exp: seconds + self.ttl.as_secs(),
            jti: request.token_id,
            key_id: request.key_id,
            org_code: request.org_code,
            user_id: request.user_id,
            scopes: request.scopes,
            route: request.route,
            method: request.method,
            path: request.path,
            request_id: request.request_id,
            body_sha256: request.body.map(|body| Base64UrlUnpadded::encode_string(&Sha256::digest(body))),
        });
        // Base64url and dots are visible ASCII.
        let mut value = HeaderValue::try_from(token).unwrap_or_else(|_| HeaderValue::from_static("-"));
        value.set_sensitive(true);
        value
    }
}

/// The public half of every named key that has one, as a JWK set (RFC 7517 §5). A secret that also verifies is not
/// in it: whoever read it could sign.
pub fn key_set<'a>(keys: impl Iterator<Item = (&'a str, &'a Key)>) -> String {
    #[derive(Serialize)]
    struct Jwk<'a> {
        kty: &'static str,
        crv: &'static str,
        x: String,
        kid: &'a str,
        alg: &'static str,
        #[serde(rename = "use")]
        usage: &'static str,
    }
    #[derive(Serialize)]
    struct JwkSet<'a> {
        keys: Vec<Jwk<'a>>,
    }
    let public = |(kid, key): (&'a str, &'a Key)| {
        let x = key.public()?;
        Some(Jwk { kty: "OKP", crv: "Ed25519", x, kid, alg: Algorithm::EdDsa.name(), usage: "sig" })
    };
    // Texts always serialize.
    serde_json::to_string(&JwkSet { keys: keys.filter_map(public).collect() }).unwrap_or_default()
}

fn encoded(value: &impl Serialize) -> String {
    // Texts and numbers always serialize.
    Base64UrlUnpadded::encode_string(&serde_json::to_vec(value).unwrap_or_default())
}

#[cfg(test)]
mod tests;
