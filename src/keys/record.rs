//! What a key is: what is asked for ([`NewKey`], checked) and what is known of it afterwards ([`KeyRecord`]).
//!
//! Invariant: nothing here holds a key's text. Owners and scopes that pass [`NewKey::new`] can stand in a header.

use std::fmt;
use std::time::SystemTime;

use super::format::hint;
use super::random::{Random, RandomError};

const MAX_NAME_CHARS: usize = 200;
const MAX_OWNER_BYTES: usize = 256;
const MAX_SCOPES: usize = 100;
const MAX_SCOPE_BYTES: usize = 256;

/// The public id of a key: `api_key_` and 32 lower-case hex digits. Safe to log; says nothing about the secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(Box<str>);

impl KeyId {
    const START: &'static str = "api_key_";

    /// Reads an id, in exactly the form in which it is written.
    pub fn parse(text: &str) -> Result<Self, NotAKeyId> {
        let digits = text.strip_prefix(Self::START).ok_or(NotAKeyId)?;
        let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if digits.len() == 32 && digits.bytes().all(hex) { Ok(Self(text.into())) } else { Err(NotAKeyId) }
    }

    /// A UUIDv7 (RFC 9562 §5.7), so that ids sort by creation and can page a list.
    pub(super) fn generate(millis: u64, random: &mut dyn Random) -> Result<Self, RandomError> {
        let mut bytes = [0; 10];
        random.fill(&mut bytes)?;
        let uuid = uuid::Builder::from_unix_timestamp_millis(millis, &bytes).into_uuid();
        Ok(Self(format!("{}{}", Self::START, uuid.simple()).into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A text is not a [`KeyId`]. Does not carry the text: people paste keys where ids belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAKeyId;

impl fmt::Display for NotAKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key id is api_key_ and 32 hex digits (the id, not the key itself)")
    }
}

impl std::error::Error for NotAKeyId {}

/// Whom a key speaks for, in Kinde's words. A key with both owners speaks for the user, within the organization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// An organization alone.
    Organization,
    /// A user, alone or within an organization.
    User,
}

impl KeyKind {
    /// Kinde's name of it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Organization => "organization",
            Self::User => "user",
        }
    }
}

/// Whether a key was taken back. Expiry is a matter of the moment: see [`KeyRecord::is_usable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyStatus {
    /// In force, until it expires.
    Active,
    /// Taken back, for good.
    Revoked,
}

impl KeyStatus {
    /// Kinde's name of it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Revoked => "revoked",
        }
    }
}

/// A key to be made; every value is checked.
#[derive(Clone, Debug)]
pub struct NewKey {
    name: String,
    org_code: Option<String>,
    user_id: Option<String>,
    scopes: Vec<String>,
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
        })
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
        if self.user_id.is_some() { KeyKind::User } else { KeyKind::Organization }
    }
}

/// Names are shown in terminals and logs: no control characters, no line separators, and no bidirectional overrides,
/// with which one name could be made to look like another.
fn is_name(text: &str) -> bool {
    let misleading = |c: char| {
        c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    (1..=MAX_NAME_CHARS).contains(&text.chars().count()) && !text.trim().is_empty() && !text.contains(misleading)
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
}

impl fmt::Display for InvalidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let owner = |f: &mut fmt::Formatter<'_>, what| {
            write!(f, "{what} must be 1 to {MAX_OWNER_BYTES} visible ASCII characters without spaces at its ends")
        };
        match self {
            Self::Name => write!(
                f,
                "the name must be 1 to {MAX_NAME_CHARS} characters, not all blank, without control characters, \
                 line separators or bidirectional overrides"
            ),
            Self::NoOwner => f.write_str("a key needs an owner: an organization code, a user id, or both"),
            Self::OrgCode => owner(f, "the organization code"),
            Self::UserId => owner(f, "the user id"),
            Self::Scope => write!(
                f,
                "a scope must be 1 to {MAX_SCOPE_BYTES} visible ASCII characters other than space, \" and \\ \
                 (RFC 6749 section 3.3)"
            ),
            Self::TooManyScopes => write!(f, "a key can have at most {MAX_SCOPES} scopes"),
        }
    }
}

impl std::error::Error for InvalidKey {}

/// What the store knows of a key; holds neither the key nor its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// The key's public id.
    pub id: KeyId,
    /// What the key is for, in its creator's words.
    pub name: String,
    /// Whom it speaks for.
    pub kind: KeyKind,
    /// The organization that it speaks for, or within.
    pub org_code: Option<String>,
    /// The user that it speaks for.
    pub user_id: Option<String>,
    /// What it may do.
    pub scopes: Vec<String>,
    /// How the key's text begins, without the underscore. With `suffix`, its owner recognizes it.
    pub prefix: String,
    /// The last four characters of the key's text.
    pub suffix: String,
    /// Whether it was taken back.
    pub status: KeyStatus,
    /// When it was made.
    pub created_on: SystemTime,
    /// When it was taken back.
    pub revoked_on: Option<SystemTime>,
    /// Why it was taken back, where somebody said so.
    pub revoked_reason: Option<String>,
    /// The moment from which the key is refused.
    pub expires_on: Option<SystemTime>,
}

impl KeyRecord {
    /// Whether the key opens anything at `now`.
    pub fn is_usable(&self, now: SystemTime) -> bool {
        self.status == KeyStatus::Active && self.expires_on.is_none_or(|expires| now < expires)
    }

    /// How the key is shown: `prefix…last4`.
    pub fn hint(&self) -> String {
        hint(&self.prefix, &self.suffix)
    }
}

#[cfg(test)]
mod tests;
