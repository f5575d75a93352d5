//! `POST /oauth2/token`: `client_credentials` (RFC 6749 §4.4), which is how Kinde's SDKs get their token.
//!
//! A client is a token of the configuration: its name is the id, its text the secret. Errors have the shape of the RFC,
//! which is Kinde's here too.

use std::time::SystemTime;

use base64ct::{Base64, Encoding};
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;
use serde_json::json;
use zeroize::Zeroizing;

use super::body::{of_json, of_secret_json};
use super::form;
use super::token::{LIFETIME, NotIssued, Tokens};

/// A longer audience is nobody's.
const MAX_AUDIENCE: usize = 512;

/// Why there is no token (RFC 6749 §5.2).
#[derive(Debug)]
pub(super) struct Refused {
    code: &'static str,
    description: &'static str,
    /// Whether somebody has tried a secret that is none.
    pub is_guess: bool,
}

impl Refused {
    fn new(code: &'static str, description: &'static str) -> Self {
        Self { code, description, is_guess: false }
    }

    pub fn into_response(self) -> Response<Full<Bytes>> {
        let status = if self.code == "invalid_client" { StatusCode::UNAUTHORIZED } else { StatusCode::BAD_REQUEST };
        let mut response = of_json(status, &json!({"error": self.code, "error_description": self.description}));
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic"));
        }
        response
    }
}

#[derive(Default)]
struct Asked {
    grant_type: Zeroizing<String>,
    client_id: Zeroizing<String>,
    client_secret: Zeroizing<String>,
    scope: Zeroizing<String>,
    audience: Option<Zeroizing<String>>,
}

/// Answers a token request.
pub(super) fn issue(
    tokens: &Tokens,
    headers: &HeaderMap,
    body: &[u8],
    now: SystemTime,
) -> Result<Response<Full<Bytes>>, Refused> {
    let asked = read(headers, body)?;
    match asked.grant_type.as_str() {
        "client_credentials" => {}
        "" => return Err(Refused::new("invalid_request", "`grant_type` is missing")),
        _ => return Err(Refused::new("unsupported_grant_type", "only `client_credentials`")),
    }
    let audience = asked.audience.as_deref().map(String::as_str);
    if audience.is_some_and(|audience| audience.len() > MAX_AUDIENCE) {
        return Err(Refused::new("invalid_request", "`audience` is too long"));
    }
    let issued = tokens.issue(&asked.client_id, &asked.client_secret, &asked.scope, audience, now);
    let issued = issued.map_err(|why| match why {
        NotIssued::Client => {
            let description = "no client of this id has this secret";
            Refused { is_guess: true, ..Refused::new("invalid_client", description) }
        }
        NotIssued::DigestOnly => Refused::new(
            "unauthorized_client",
            "only the SHA-256 of this client's secret is configured: show the secret itself as a bearer token",
        ),
        NotIssued::Scope => Refused::new("invalid_scope", "the client has not got this scope"),
    })?;
    let start = r#"{"access_token":""#;
    // Neither part has a character that JSON escapes.
    let end = format!(r#"","token_type":"Bearer","expires_in":{},"scope":"{}"}}"#, LIFETIME.as_secs(), issued.scope);
    let mut body = Zeroizing::new(Vec::with_capacity(start.len() + issued.text.len() + end.len()));
    for part in [start, &issued.text, &end] {
        body.extend_from_slice(part.as_bytes());
    }
    Ok(of_secret_json(StatusCode::OK, body))
}

fn read(headers: &HeaderMap, body: &[u8]) -> Result<Asked, Refused> {
    let malformed = || Refused::new("invalid_request", "the body is no form");
    let pairs = std::str::from_utf8(body).ok().and_then(form::pairs).ok_or_else(malformed)?;
    let mut asked = Asked::default();
    let mut seen: Vec<String> = Vec::new();
    for (name, value) in pairs {
        if seen.contains(&name) {
            return Err(Refused::new("invalid_request", "a parameter stands there twice"));
        }
        match name.as_str() {
            "grant_type" => asked.grant_type = value,
            "client_id" => asked.client_id = value,
            "client_secret" => asked.client_secret = value,
            "scope" => asked.scope = value,
            "audience" => asked.audience = Some(value),
            // Unknown parameters mean nothing (RFC 6749 §3.2).
            _ => {}
        }
        seen.push(name);
    }
    if let Some((id, secret)) = basic(headers) {
        if !asked.client_secret.is_empty() {
            return Err(Refused::new("invalid_request", "the client shows its secret in two places"));
        }
        (asked.client_id, asked.client_secret) = (id, secret);
    }
    Ok(asked)
}

/// `Authorization: Basic` (RFC 6749 §2.3.1): id and secret are form-encoded before they are joined.
fn basic(headers: &HeaderMap) -> Option<(Zeroizing<String>, Zeroizing<String>)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let bytes = Zeroizing::new(Base64::decode_vec(rest.trim()).ok()?);
    let (id, secret) = std::str::from_utf8(&bytes).ok()?.split_once(':')?;
    Some((form::decode(id)?, form::decode(secret)?))
}
