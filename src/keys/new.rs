//! What is asked of a key that is to be made: [`NewKey`], checked.
//!
//! Invariant: owners and scopes that pass [`NewKey::new`] can stand in a header; everything has a bound.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;

use super::instant::to_millis;
use super::record::KeyKind;
use crate::policy::canonical_range;

const MAX_NAME_CHARS: usize = 200;
const MAX_OWNER_BYTES: usize = 256;
const MAX_SCOPES: usize = 100;
const MAX_SCOPE_BYTES: usize = 256;
const MAX_METADATA: usize = 32;
const MAX_METADATA_KEY: usize = 64;
const MAX_METADATA_VALUE: usize = 500;
const MAX_RANGES: usize = 64;
const MAX_API_IDS: usize = 32;
/// As `limits:` of the configuration.
const MAX_LIMIT_REQUESTS: u64 = 1_000_000_000;
const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// A key to be made; every value is checked.
#[derive(Clone, Debug)]
pub struct NewKey {
    name: String,
    org_code: Option<String>,
    user_id: Option<String>,
    scopes: Vec<String>,
    options: KeyOptions,
}

/// What a key may have beside its name, owner and scopes. Nothing of it is needed.
#[derive(Clone, Debug, Default)]
pub struct KeyOptions {
    /// The moment from which it is refused.
    pub expires_on: Option<SystemTime>,
    /// Further facts, in its creator's words.
    pub metadata: BTreeMap<String, String>,
    /// Where its callers must be; anywhere when empty.
    pub allow_from: Vec<IpNet>,
    /// A limit of its own.
    pub limit: Option<KeyLimit>,
    /// Who makes it.
    pub created_by: Option<String>,
    /// Which API's keys it belongs to, in Kinde's sense.
    pub api_ids: Vec<String>,
}

/// A key's own limit: a bucket of `requests` tokens, refilled evenly over `per`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyLimit {
    requests: u64,
    per: Duration,
}

impl KeyLimit {
    /// Between 1 and a thousand million requests, per a millisecond up to a year.
    pub fn new(requests: u64, per: Duration) -> Result<Self, InvalidKey> {
        let whole = per.subsec_nanos().is_multiple_of(1_000_000);
        let fits = (1..=MAX_LIMIT_REQUESTS).contains(&requests) && !per.is_zero() && per <= YEAR && whole;
        if fits { Ok(Self { requests, per }) } else { Err(InvalidKey::Limit) }
    }

    pub fn requests(self) -> u64 {
        self.requests
    }

    pub fn per(self) -> Duration {
        self.per
    }
}

/// Why a key is taken back, in the words of whoever does it; shown where keys are listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason(String);

impl Reason {
    /// What a name may be, a reason may be.
    pub fn new(text: &str) -> Result<Self, InvalidKey> {
        if is_name(text) { Ok(Self(text.to_owned())) } else { Err(InvalidKey::Reason) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl NewKey {
    /// Checks what a key shall be. Repeated scopes count once, in the order of their first mention; an empty owner
    /// is a mistake, not an absent one, because it is what an unset shell variable leaves.
    pub fn new(
        name: &str,
        org_code: Option<&str>,
        user_id: Option<&str>,
        scopes: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Self, InvalidKey> {
        if !is_name(name) {
            return Err(InvalidKey::Name);
        }
        if org_code.is_none() && user_id.is_none() {
            return Err(InvalidKey::NoOwner);
        }
        Ok(Self {
            name: name.to_owned(),
            org_code: org_code.map(|text| owner(text).ok_or(InvalidKey::OrgCode)).transpose()?,
            user_id: user_id.map(|text| owner(text).ok_or(InvalidKey::UserId)).transpose()?,
            scopes: checked_scopes(scopes)?,
            options: KeyOptions::default(),
        })
    }

    /// The same key with `options`, each of which is checked; `now` is what an expiry must lie behind.
    pub fn with(self, mut options: KeyOptions, now: SystemTime) -> Result<Self, InvalidKey> {
        options.allow_from.iter_mut().for_each(|range| *range = canonical_range(*range));
        if options.expires_on.is_some_and(|expires| expires <= now || to_millis(expires).is_none()) {
            return Err(InvalidKey::Expiry);
        }
        let is_key = |text: &str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
            (1..=MAX_METADATA_KEY).contains(&text.len()) && text.bytes().all(plain)
        };
        let is_value = |text: &str| text.chars().count() <= MAX_METADATA_VALUE && !text.contains(misleading);
        if options.metadata.len() > MAX_METADATA
            || !options.metadata.iter().all(|(key, value)| is_key(key) && is_value(value))
        {
            return Err(InvalidKey::Metadata);
        }
        if options.allow_from.len() > MAX_RANGES {
            return Err(InvalidKey::TooManyRanges);
        }
        if options.created_by.as_deref().is_some_and(|by| !is_name(by)) {
            return Err(InvalidKey::CreatedBy);
        }
        if options.api_ids.len() > MAX_API_IDS || !options.api_ids.iter().all(|id| owner(id).is_some()) {
            return Err(InvalidKey::ApiIds);
        }
        Ok(Self { options, ..self })
    }

    /// Everything beside name, owner and scopes.
    pub fn options(&self) -> &KeyOptions {
        &self.options
    }

    /// What the key is for.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The organization that the key speaks for.
    pub fn org_code(&self) -> Option<&str> {
        self.org_code.as_deref()
    }

    /// The user that the key speaks for.
    pub fn user_id(&self) -> Option<&str> {
        self.user_id.as_deref()
    }

    /// What the key may do, without repetitions.
    pub fn scopes(&self) -> &[String] {
        &self.scopes
    }

    /// Follows from the owner.
    pub fn kind(&self) -> KeyKind {
        KeyKind::of(self.user_id.as_deref())
    }
}

/// Reads an address range such as `10.0.0.0/8`, or one address. The error says what was expected, not what was given.
pub fn parse_range(text: &str) -> Result<IpNet, String> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse().or_else(|_| address()).map_err(|_| "expected an address range such as 10.0.0.0/8".to_owned())
}

/// Names are shown in terminals and logs.
fn is_name(text: &str) -> bool {
    (1..=MAX_NAME_CHARS).contains(&text.chars().count()) && !text.trim().is_empty() && !text.contains(misleading)
}

/// Control characters, line separators, and bidirectional overrides, with which one text could be made to look like
/// another.
fn misleading(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Visible ASCII and inner spaces: an owner ends as a header value, and servers read anything else differently.
fn owner(text: &str) -> Option<String> {
    let clean = text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) && text.trim() == text;
    (clean && (1..=MAX_OWNER_BYTES).contains(&text.len())).then(|| text.to_owned())
}

fn checked_scopes(given: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Vec<String>, InvalidKey> {
    let mut scopes: Vec<String> = Vec::new();
    for scope in given {
        let scope = scope.as_ref();
        if !is_scope(scope) {
            return Err(InvalidKey::Scope);
        }
        if scopes.iter().any(|known| known == scope) {
            continue;
        }
        if scopes.len() == MAX_SCOPES {
            return Err(InvalidKey::TooManyScopes);
        }
        scopes.push(scope.to_owned());
    }
    Ok(scopes)
}

/// `scope-token` of RFC 6749 §3.3.
fn is_scope(text: &str) -> bool {
    (1..=MAX_SCOPE_BYTES).contains(&text.len())
        && text.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
}

/// What is wrong with a [`NewKey`]: the fault of whoever asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidKey {
    /// The name is empty, too long, or would mislead where it is shown.
    Name,
    /// Neither an organization nor a user.
    NoOwner,
    /// The organization code cannot be a header's value.
    OrgCode,
    /// The user id cannot be a header's value.
    UserId,
    /// A scope is not RFC 6749's `scope-token`, or too long.
    Scope,
    /// More scopes than a key can have.
    TooManyScopes,
    /// The expiry is no moment in the future.
    Expiry,
    /// Too much metadata, or a name or value that cannot be kept.
    Metadata,
    /// More address ranges than a key can have.
    TooManyRanges,
    /// No rate.
    Limit,
    /// Who made it is empty, too long, or would mislead where it is shown.
    CreatedBy,
    /// Too many ids of APIs, or one that is none.
    ApiIds,
    /// The reason is empty, too long, or would mislead where it is shown.
    Reason,
}

impl fmt::Display for InvalidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let owner = |f: &mut fmt::Formatter<'_>, what| {
            write!(f, "{what} must be 1 to {MAX_OWNER_BYTES} visible ASCII characters without spaces at its ends")
        };
        let text = |f: &mut fmt::Formatter<'_>, what| {
            write!(
                f,
                "{what} must be 1 to {MAX_NAME_CHARS} characters, not all blank, without control characters, \
                 line separators or bidirectional overrides"
            )
        };
        match self {
            Self::Name => text(f, "the name"),
            Self::CreatedBy => text(f, "the creator"),
            Self::Reason => text(f, "the reason"),
            Self::NoOwner => f.write_str("a key needs an owner: an organization code, a user id, or both"),
            Self::OrgCode => owner(f, "the organization code"),
            Self::UserId => owner(f, "the user id"),
            Self::Scope => write!(
                f,
                "a scope must be 1 to {MAX_SCOPE_BYTES} visible ASCII characters other than space, \" and \\ \
                 (RFC 6749 section 3.3)"
            ),
            Self::TooManyScopes => write!(f, "a key can have at most {MAX_SCOPES} scopes"),
            Self::Expiry => f.write_str("the expiry must lie in the future, before the year 10000"),
            Self::Metadata => write!(
                f,
                "metadata has at most {MAX_METADATA} entries: names of 1 to {MAX_METADATA_KEY} letters, digits, `_`, \
                 `-` and `.`, values of up to {MAX_METADATA_VALUE} characters without control characters"
            ),
            Self::TooManyRanges => write!(f, "a key can have at most {MAX_RANGES} address ranges"),
            Self::Limit => f.write_str("a limit is 1 to 1000000000 requests per 1ms to 365d, such as 100/1m"),
            Self::ApiIds => write!(f, "a key can belong to at most {MAX_API_IDS} APIs, each an id of visible ASCII"),
        }
    }
}

impl std::error::Error for InvalidKey {}

#[cfg(test)]
mod tests;
