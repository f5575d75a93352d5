//! What is known of a key: its id, and its [`KeyRecord`].
//!
//! Invariant: nothing here holds a key's text.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use ipnet::IpNet;
use sha2::{Digest as _, Sha256};

use super::digest::Digest;
use super::format::hint;
use super::new::KeyLimit;
use super::random::{Random, RandomError};

/// The public id of a key: `api_key_` and 32 lower-case hex digits. Safe to log; says nothing about the secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(Arc<str>);

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

    /// The id of an imported key that came without one: the same for the same text, so that an import can be repeated,
    /// and not to be turned back into its digest.
    pub(super) fn of_import(digest: &Digest) -> Self {
        let hash = Sha256::new().chain_update(b"keyward imported key id v1").chain_update(digest.as_bytes()).finalize();
        let hex: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        Self(format!("{}{hex}", Self::START).into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id as text that can be kept without a copy.
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
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
    /// Follows from the owner.
    pub(super) fn of(user_id: Option<&str>) -> Self {
        if user_id.is_some() { Self::User } else { Self::Organization }
    }

    /// Kinde's name of it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Organization => "organization",
            Self::User => "user",
        }
    }
}

/// What a key is at a moment; derived, never stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyStatus {
    /// In force.
    Active,
    /// Taken back, for good.
    Revoked,
    /// Its own time is over.
    Expired,
}

impl KeyStatus {
    /// The word for it; `active` and `revoked` are Kinde's.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
        }
    }
}

/// What the store knows of a key; holds neither the key nor its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// The key's public id.
    pub id: KeyId,
    /// What the key is for, in its creator's words.
    pub name: String,
    /// The organization that it speaks for, or within.
    pub org_code: Option<String>,
    /// The user that it speaks for.
    pub user_id: Option<String>,
    /// What it may do.
    pub scopes: Vec<String>,
    /// How the key's text begins, without the underscore. With `suffix`, its owner recognizes it.
    pub prefix: String,
    /// The last four characters of the key's present text; empty where it is not known.
    pub suffix: String,
    /// In Kinde's sense: which API's keys it belongs to. Kept and told, not interpreted.
    pub api_ids: Vec<String>,
    /// Further facts, in its creator's words.
    pub metadata: BTreeMap<String, String>,
    /// Where its callers must be; anywhere when empty.
    pub allow_from: Vec<IpNet>,
    /// A limit of its own, beside those of the route.
    pub limit: Option<KeyLimit>,
    /// When it was made.
    pub created_on: SystemTime,
    /// Who made it, in the maker's words.
    pub created_by: Option<String>,
    /// When its present text was made, if it is not the first.
    pub rotated_on: Option<SystemTime>,
    /// Until when the last former text opens it, as its rotation said.
    pub grace_until: Option<SystemTime>,
    /// When it was taken back.
    pub revoked_on: Option<SystemTime>,
    /// Why it was taken back, where somebody said so.
    pub revoked_reason: Option<String>,
    /// The moment from which the key is refused.
    pub expires_on: Option<SystemTime>,
    /// When it last opened something, as far as it has been written.
    pub last_used_on: Option<SystemTime>,
    /// How often it has opened something, as far as it has been written.
    pub use_count: u64,
}

impl KeyRecord {
    /// What the key is at `now`.
    pub fn status(&self, now: SystemTime) -> KeyStatus {
        if self.revoked_on.is_some() {
            KeyStatus::Revoked
        } else if self.expires_on.is_some_and(|expires| expires <= now) {
            KeyStatus::Expired
        } else {
            KeyStatus::Active
        }
    }

    /// Whether the key opens anything at `now`.
    pub fn is_usable(&self, now: SystemTime) -> bool {
        self.status(now) == KeyStatus::Active
    }

    /// Whom it speaks for.
    pub fn kind(&self) -> KeyKind {
        KeyKind::of(self.user_id.as_deref())
    }

    /// Until when a former text opens the key as well, if one does at `now`.
    pub fn grace(&self, now: SystemTime) -> Option<SystemTime> {
        self.grace_until.filter(|&until| now < until && self.is_usable(now))
    }

    /// How the key is shown: `prefix…last4`.
    pub fn hint(&self) -> String {
        hint(&self.prefix, &self.suffix)
    }
}

#[cfg(test)]
mod tests;
