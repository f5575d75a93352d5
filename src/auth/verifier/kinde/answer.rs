//! What Kinde's answers mean. Pure.
//!
//! No field of its schemas is required, so every one may be missing or null, and unknown ones may come. What is
//! needed for an answer and is not there makes the answer unclear, which is no answer: an `Err`, with the reason.

use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;

use super::super::store::own_limit;
use super::moment;
use crate::keys::KeyLimit;
use crate::policy::{InvalidOwner, KeyTerms, Principal, SecretString};

/// The longest id and the longest scope: those of Kinde have less than a hundred bytes.
const LONGEST_WORD: usize = 256;

/// All scopes of a key together: common servers take a header line of 8 KiB.
const LONGEST_SCOPES: usize = 8000;

/// A key that Kinde calls valid.
#[derive(Debug)]
pub(super) struct Owner {
    key_id: String,
    org_code: Option<String>,
    user_id: Option<String>,
    scopes: Vec<String>,
    expires: Option<std::time::SystemTime>,
    terms: KeyTerms,
    /// The APIs that it is for, where the answer tells.
    pub(super) api_ids: Option<Vec<String>>,
}

impl Owner {
    pub(super) fn principal(&self) -> Result<Principal, InvalidOwner> {
        let (org, user) = (self.org_code.as_deref(), self.user_id.as_deref());
        let principal = Principal::new(&self.key_id, org, user, &self.scopes, self.expires)?;
        Ok(principal.under(self.terms.clone()))
    }
}

/// The fields of a verification that count. The dates of the last use are none of them.
#[derive(Deserialize)]
struct Verification {
    is_valid: Option<bool>,
    status: Option<String>,
    key_id: Option<String>,
    scopes: Option<Vec<String>>,
    org_code: Option<String>,
    user_id: Option<String>,
    // Announced, but in no schema yet.
    expires_on: Option<Value>,
    expires_at: Option<Value>,
    // What a key service of ours adds.
    api_ids: Option<Vec<String>>,
    allow_from: Option<Vec<String>>,
    limit: Option<OwnLimit>,
}

#[derive(Deserialize)]
struct OwnLimit {
    requests: u64,
    per_ms: u64,
}

/// What the key demands of each request. One that cannot be read must not become none.
fn terms(allow_from: Option<Vec<String>>, limit: Option<OwnLimit>) -> Result<KeyTerms, String> {
    let range = |text: &String| text.parse().map_err(|_| "`allow_from` has something else than networks".to_owned());
    let allow_from: Vec<IpNet> = allow_from.iter().flatten().map(range).collect::<Result<_, _>>()?;
    let limit = match limit {
        None => None,
        // As the store has them, so that the bucket's arithmetic holds.
        Some(OwnLimit { requests, per_ms }) => {
            let per = Duration::from_millis(per_ms);
            KeyLimit::new(requests, per).map_err(|_| "`limit` is no limit".to_owned())?;
            Some(own_limit(requests, per))
        }
    };
    Ok(KeyTerms::new(allow_from, limit, None))
}

/// Reads the body of a 200: the key's owner, or `None` for a key that Kinde calls invalid.
pub(super) fn verdict(body: &[u8]) -> Result<Option<Owner>, String> {
    let answer: Verification = json(body)?;
    match (answer.is_valid, answer.status.as_deref()) {
        (Some(false), _) => return Ok(None),
        (Some(true), Some("active")) => {}
        // `inactive` and `revoked`, and whatever else is not active.
        (Some(true), Some(_)) => return Ok(None),
        (Some(true), None) => return Err("the key's `status` is missing".to_owned()),
        (None, _) => return Err("`is_valid` is missing".to_owned()),
    }
    let key_id = answer.key_id.filter(|id| !id.is_empty()).ok_or("`key_id` is missing")?;
    let scopes = answer.scopes.unwrap_or_default();
    let none = String::new();
    let owner = [("key_id", &key_id), ("org_code", answer.org_code.as_ref().unwrap_or(&none))];
    let owner = owner.into_iter().chain([("user_id", answer.user_id.as_ref().unwrap_or(&none))]);
    for (name, value) in owner.chain(scopes.iter().map(|scope| ("scopes", scope))) {
        is_word(name, value)?;
    }
    if scopes.iter().any(String::is_empty) {
        return Err("`scopes` has an empty one".to_owned());
    }
    if scopes.iter().map(|scope| scope.len() + 1).sum::<usize>() > LONGEST_SCOPES {
        return Err(format!("`scopes` are more than {LONGEST_SCOPES} bytes, which no header holds"));
    }
    // A date that cannot be read may have passed: it is not ignored.
    let mut expires = None;
    for (name, date) in [("expires_on", answer.expires_on), ("expires_at", answer.expires_at)] {
        let Some(date) = date else { continue };
        let date = date.as_str().and_then(moment::parse);
        let date = date.ok_or_else(|| format!("`{name}` of {} is no date that can be read", shown(&key_id)))?;
        expires = Some(expires.map_or(date, |earliest: std::time::SystemTime| earliest.min(date)));
    }
    let terms = terms(answer.allow_from, answer.limit)?;
    let (org_code, user_id, api_ids) = (answer.org_code, answer.user_id, answer.api_ids);
    Ok(Some(Owner { key_id, org_code, user_id, scopes, expires, terms, api_ids }))
}

/// What goes into headers, metrics of others and logs: each is one word of bounded length.
fn is_word(name: &str, value: &str) -> Result<(), String> {
    if value.len() > LONGEST_WORD {
        return Err(format!("`{name}` is longer than {LONGEST_WORD} bytes"));
    }
    // In a header, one scope with a space would be two.
    if !value.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("`{name}` is not visible ASCII without spaces"));
    }
    Ok(())
}

/// Whether an id can stand in a path as it is.
pub(super) fn is_plain(id: &str) -> bool {
    !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// An id for the log, if it is one.
fn shown(id: &str) -> &str {
    if is_plain(id) { id } else { "a key" }
}

/// A key in the list of active ones.
#[derive(Debug)]
pub(in crate::auth) struct Listed {
    pub(in crate::auth) id: String,
    /// The last four characters of the key itself.
    pub(in crate::auth) suffix: Option<String>,
}

/// Where the list goes on. Kinde's documents know two ways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::auth) enum Next {
    Token(String),
    After(String),
}

/// A page of the list of active keys, and where the next one begins.
pub(super) fn page(body: &[u8]) -> Result<(Vec<Listed>, Option<Next>), String> {
    #[derive(Deserialize)]
    struct Page {
        api_keys: Option<Vec<Row>>,
        has_more: Option<bool>,
        next_token: Option<String>,
    }
    #[derive(Deserialize)]
    struct Row {
        id: Option<String>,
        status: Option<String>,
        key_suffix: Option<String>,
    }
    let page: Page = json(body)?;
    let rows = page.api_keys.ok_or("`api_keys` is missing")?;
    let last = rows.last().and_then(|row| row.id.clone());
    let next = match (page.next_token.filter(|token| !token.is_empty()), page.has_more) {
        (Some(token), _) => Some(Next::Token(token)),
        (None, Some(true)) => Some(Next::After(last.ok_or("it has more, and does not say behind what")?)),
        (None, _) => None,
    };
    let mut keys = Vec::with_capacity(rows.len());
    for Row { id, status, key_suffix } in rows {
        let id = id.ok_or("a key without `id`")?;
        // The question asks for active ones only; whether that is heeded is not documented.
        if status.is_none_or(|status| status == "active") {
            keys.push(Listed { id, suffix: key_suffix });
        }
    }
    Ok((keys, next))
}

/// Whether a body is a JSON object, as all of Kinde's are, and not the page of something on the way.
pub(super) fn is_object(body: &[u8]) -> bool {
    matches!(serde_json::from_slice(body), Ok(Value::Object(_)))
}

/// The APIs that the key `key_id` is for.
pub(super) fn api_ids(body: &[u8], key_id: &str) -> Result<Vec<String>, String> {
    #[derive(Deserialize)]
    struct Got {
        api_key: Option<Key>,
    }
    #[derive(Deserialize)]
    struct Key {
        id: Option<String>,
        api_ids: Option<Vec<String>>,
    }
    let key = json::<Got>(body)?.api_key.ok_or("`api_key` is missing")?;
    if key.id.as_deref() != Some(key_id) {
        return Err("it is about another key".to_owned());
    }
    Ok(key.api_ids.unwrap_or_default())
}

/// A token as it was issued.
#[derive(Debug)]
pub(super) struct Issued {
    pub(super) text: SecretString,
    /// Until it ends.
    pub(super) lifetime: Duration,
}

/// The longest lifetime that is believed.
const LONGEST_LIFETIME: Duration = Duration::from_secs(30 * 86_400);

/// Reads the body of a token response (RFC 6749 §5.1). Kinde's documents disagree about the lifetime, so it is taken
/// from `expires_in`, or from the token itself; `wall` is now.
pub(super) fn issued(body: &[u8], wall: std::time::SystemTime) -> Result<Issued, String> {
    #[derive(Deserialize)]
    struct Response {
        access_token: Option<String>,
        token_type: Option<String>,
        expires_in: Option<u64>,
    }
    let response: Response = json(body)?;
    let text = SecretString::new(response.access_token.ok_or("`access_token` is missing")?);
    if response.token_type.is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
        return Err("the token is no bearer token".to_owned());
    }
    let graphic = text.expose().bytes().all(|byte| byte.is_ascii_graphic());
    if text.expose().is_empty() || !graphic {
        return Err("the token cannot stand in a header".to_owned());
    }
    let lifetime = match response.expires_in {
        Some(seconds) => Duration::from_secs(seconds),
        None => {
            let end = jwt_end(text.expose()).ok_or("the token's lifetime is not told")?;
            end.duration_since(wall).unwrap_or_default()
        }
    };
    if lifetime.is_zero() {
        return Err("the token has ended already".to_owned());
    }
    Ok(Issued { text, lifetime: lifetime.min(LONGEST_LIFETIME) })
}

/// The code of a token endpoint's refusal (RFC 6749 §5.2), if it is one that can be shown.
pub(super) fn refusal_code(body: &[u8]) -> Option<String> {
    let Ok(Value::Object(fields)) = serde_json::from_slice(body) else { return None };
    let code = fields.get("error")?.as_str()?;
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    ((1..=40).contains(&code.len()) && code.bytes().all(plain)).then(|| code.to_owned())
}

/// The `exp` of a JWT (RFC 7519 §4.1.4), unverified: it is our own token.
fn jwt_end(token: &str) -> Option<std::time::SystemTime> {
    #[derive(Deserialize)]
    struct Claims {
        exp: u64,
    }
    let mut parts = token.split('.');
    let (_, claims, _) = (parts.next()?, parts.next()?, parts.next()?);
    let claims: Claims = serde_json::from_slice(&base64url(claims)?).ok()?;
    std::time::UNIX_EPOCH.checked_add(Duration::from_secs(claims.exp))
}

/// Decodes base64url without padding (RFC 4648 §5).
fn base64url(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut held) = (0_u32, 0_u32);
    for byte in text.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held & 0xff) as u8);
            bits &= (1 << held) - 1;
        }
    }
    Some(bytes)
}

/// Parses without quoting what was parsed: an error of serde_json may show a value.
fn json<T: for<'a> Deserialize<'a>>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body)
        .map_err(|error| format!("its JSON is not as documented (line {} column {})", error.line(), error.column()))
}
