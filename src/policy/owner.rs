//! Who a verified key belongs to.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use http::HeaderValue;

/// A verified caller. Made only from an answer of the verifier; immutable, shared by the cache.
#[derive(Clone, Debug)]
pub struct Principal {
    /// The key's public id; safe to log and to forward.
    pub key_id: Arc<str>,
    pub org_code: Option<Arc<str>>,
    pub user_id: Option<Arc<str>>,
    pub scopes: Arc<[Arc<str>]>,
    /// The moment from which the key is refused, whatever a cache says.
    pub expires: Option<SystemTime>,
    /// Header forms, made once: stamping a request must not parse or allocate.
    key_header: HeaderValue,
    org_header: Option<HeaderValue>,
    user_header: Option<HeaderValue>,
    scopes_header: HeaderValue,
}

impl Principal {
    /// Builds a principal whose every value can stand in a header. Empty owners count as absent.
    pub fn new(
        key_id: &str,
        org_code: Option<&str>,
        user_id: Option<&str>,
        scopes: &[String],
        expires: Option<SystemTime>,
    ) -> Result<Self, InvalidOwner> {
        let org_code = org_code.filter(|value| !value.is_empty());
        let user_id = user_id.filter(|value| !value.is_empty());
        Ok(Self {
            key_header: header("key id", key_id)?,
            org_header: org_code.map(|value| header("org code", value)).transpose()?,
            user_header: user_id.map(|value| header("user id", value)).transpose()?,
            scopes_header: header("scopes", &scopes.join(" "))?,
            key_id: key_id.into(),
            org_code: org_code.map(Into::into),
            user_id: user_id.map(Into::into),
            scopes: scopes.iter().map(|scope| scope.as_str().into()).collect(),
            expires,
        })
    }

    pub fn has_scope(&self, wanted: &str) -> bool {
        self.scopes.iter().any(|scope| scope.as_ref() == wanted)
    }

    /// Whether the key's own time has not come at `wall`.
    pub fn is_unexpired(&self, wall: SystemTime) -> bool {
        self.expires.is_none_or(|expires| wall < expires)
    }

    pub fn key_header(&self) -> &HeaderValue {
        &self.key_header
    }

    pub fn org_header(&self) -> Option<&HeaderValue> {
        self.org_header.as_ref()
    }

    pub fn user_header(&self) -> Option<&HeaderValue> {
        self.user_header.as_ref()
    }

    pub fn scopes_header(&self) -> &HeaderValue {
        &self.scopes_header
    }
}

/// Visible ASCII and inner spaces only: anything else is read differently by different servers.
fn header(what: &'static str, value: &str) -> Result<HeaderValue, InvalidOwner> {
    let clean = value.bytes().all(|byte| (0x20..0x7f).contains(&byte)) && value.trim() == value;
    HeaderValue::from_str(value).ok().filter(|_| clean).ok_or(InvalidOwner { what })
}

/// An owner value that cannot be a header value; names the field, not the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidOwner {
    pub what: &'static str,
}

impl fmt::Display for InvalidOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} must be visible ASCII without leading or trailing spaces", self.what)
    }
}

impl std::error::Error for InvalidOwner {}
