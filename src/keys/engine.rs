//! What a database must do for the [`Store`](super::Store): a few operations, each one transaction.
//!
//! Enters: checked values, digests, moments in milliseconds. Leaves: records and what became of a change. Ids, secrets,
//! digests and peppers are the store's matter; an engine sees no key.
//!
//! Invariant: an operation that returns `Ok` is durable and was all of it or nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;

use super::digest::Digest;
use super::error::Fault;
use super::instant::from_millis;
use super::new::{KeyLimit, NewKey};
use super::pepper::Scheme;
use super::record::{KeyId, KeyRecord};
use super::watch::Watch;
use crate::policy::canonical_range;

/// A database with the schema.
pub(super) trait Engine: fmt::Debug + Send {
    /// Which database it is, for messages; never with a password.
    fn place(&self) -> String;

    /// The schemes of all digests. Asked before every lookup: cheap while nothing has changed.
    fn schemes(&self) -> Result<Arc<[Scheme]>, Fault>;

    /// The key that each digest opens: one indexed read of each, in one journey for all. A record that makes no sense
    /// is no reason against the others.
    fn find(&self, wanted: &[&(Scheme, Digest)]) -> Result<Vec<Opened>, Fault>;

    fn get(&self, id: &KeyId) -> Result<Option<KeyRecord>, Fault>;

    /// Reads the statement of [`sql::page`](super::sql::page).
    fn page(&self, statement: &str, values: &[super::sql::SqlValue]) -> Result<Vec<KeyRecord>, Fault>;

    /// Adds all of `rows` or none. A row whose id is there already is skipped. `expect` is told the schemes in use, at a
    /// moment from which on nobody else can add any.
    fn add(&mut self, rows: &[NewRow<'_>], expect: Expect<'_>) -> Result<Added, Fault>;

    fn rotate(&mut self, row: &RotateRow<'_>) -> Result<RotateOutcome, Fault>;

    /// Whether this changed anything, and the record afterwards.
    fn revoke(&mut self, id: &KeyId, now: i64, reason: Option<&str>) -> Result<(bool, Option<KeyRecord>), Fault>;

    /// Deletes what was revoked or has expired by `before`; how many keys that were.
    fn delete_old(&mut self, before: i64) -> Result<u64, Fault>;

    /// Adds uses and restates digests. Wakes no watch.
    fn note_uses(&mut self, uses: &[UseRow]) -> Result<(), Fault>;

    /// How many keys each scheme has.
    fn count_schemes(&self) -> Result<Vec<(Scheme, u64)>, Fault>;

    /// Notices changes by anybody, from now on.
    fn watch(&self) -> Result<Box<dyn Watch>, Fault>;
}

/// Whether keys may be added beside those of these schemes.
pub(super) type Expect<'a> = &'a dyn Fn(&[Scheme]) -> Result<(), Fault>;

/// What a digest opens, and until when it does.
pub(super) type Opened = Result<Option<(KeyRecord, Option<SystemTime>)>, Fault>;

/// A key to be added.
pub(super) struct NewRow<'a> {
    pub id: &'a KeyId,
    pub new: &'a NewKey,
    pub scheme: &'a Scheme,
    pub digest: &'a Digest,
    /// What the same text may be stored as already. It must not be another key's.
    pub former: &'a [(Scheme, Digest)],
    pub prefix: &'a str,
    pub suffix: &'a str,
    pub created_on: i64,
}

/// What became of the rows of an [`Engine::add`].
#[derive(Debug)]
pub(super) enum Added {
    /// For each row, whether it is new.
    Done(Vec<bool>),
    /// Nothing was added: the digest of this row opens another key already.
    Conflict(usize),
}

/// A new text for a key.
pub(super) struct RotateRow<'a> {
    pub id: &'a KeyId,
    pub scheme: &'a Scheme,
    pub digest: &'a Digest,
    pub prefix: &'a str,
    pub suffix: &'a str,
    pub now: i64,
    /// When the former text ends.
    pub until: i64,
    /// How many texts may open the key afterwards.
    pub max_secrets: i64,
}

/// What became of a rotation.
#[derive(Debug)]
pub(super) enum RotateOutcome {
    Done,
    NotFound,
    /// Revoked or expired, as the record says.
    Over(Box<KeyRecord>),
    TooManySecrets,
}

/// What happened to one key since the last write of uses.
#[derive(Clone, Debug)]
pub struct UseRow {
    pub id: KeyId,
    pub count: u64,
    /// When it was last used; counts only with a count.
    pub last: SystemTime,
    /// A digest that is to be replaced, because it is not under the present pepper.
    pub restated: Option<Restated>,
}

/// A digest under another scheme, and the one of the same text under the present scheme.
#[derive(Clone, Debug)]
pub struct Restated {
    pub(super) from: Digest,
    pub(super) to: (Scheme, Digest),
}

/// A record as the database has it, before it is believed.
pub(super) struct RawRecord {
    pub id: String,
    pub name: String,
    pub org_code: Option<String>,
    pub user_id: Option<String>,
    pub scopes: String,
    pub api_ids: String,
    pub allow_from: String,
    pub metadata: String,
    pub limit_requests: Option<i64>,
    pub limit_per: Option<i64>,
    pub prefix: String,
    pub suffix: String,
    pub created_on: i64,
    pub created_by: Option<String>,
    pub expires_on: Option<i64>,
    pub rotated_on: Option<i64>,
    pub grace_until: Option<i64>,
    pub revoked_on: Option<i64>,
    pub revoked_reason: Option<String>,
    pub last_used_on: Option<i64>,
    pub use_count: i64,
}

impl RawRecord {
    /// The record, or the column that makes no sense: such a key opens nothing.
    pub fn believe(self) -> Result<KeyRecord, &'static str> {
        let limit = match (self.limit_requests, self.limit_per) {
            (None, None) => None,
            (Some(requests), Some(per)) => {
                let (requests, per) = (u64::try_from(requests), u64::try_from(per));
                let (requests, per) = requests.ok().zip(per.ok()).ok_or("limit_requests")?;
                Some(KeyLimit::new(requests, Duration::from_millis(per)).map_err(|_| "limit_requests")?)
            }
            _ => return Err("limit_per"),
        };
        Ok(KeyRecord {
            id: KeyId::parse(&self.id).map_err(|_| "id")?,
            name: self.name,
            org_code: self.org_code,
            user_id: self.user_id,
            scopes: serde_json::from_str(&self.scopes).map_err(|_| "scopes")?,
            api_ids: serde_json::from_str(&self.api_ids).map_err(|_| "api_ids")?,
            metadata: serde_json::from_str::<BTreeMap<_, _>>(&self.metadata).map_err(|_| "metadata")?,
            allow_from: ranges(&self.allow_from)?,
            limit,
            prefix: self.prefix,
            suffix: self.suffix,
            created_on: from_millis(self.created_on).ok_or("created_on")?,
            created_by: self.created_by,
            rotated_on: moment(self.rotated_on, "rotated_on")?,
            grace_until: moment(self.grace_until, "grace_until")?,
            revoked_on: moment(self.revoked_on, "revoked_on")?,
            revoked_reason: self.revoked_reason,
            expires_on: moment(self.expires_on, "expires_on")?,
            last_used_on: moment(self.last_used_on, "last_used_on")?,
            use_count: u64::try_from(self.use_count).map_err(|_| "use_count")?,
        })
    }
}

/// The end of a former text.
pub(super) fn moment(millis: Option<i64>, column: &'static str) -> Result<Option<SystemTime>, &'static str> {
    millis.map(|millis| from_millis(millis).ok_or(column)).transpose()
}

fn ranges(text: &str) -> Result<Vec<IpNet>, &'static str> {
    let texts: Vec<String> = serde_json::from_str(text).map_err(|_| "allow_from")?;
    let range = |text: &String| IpNet::from_str(text).map(canonical_range).map_err(|_| "allow_from");
    texts.iter().map(range).collect()
}

/// The text columns of a new record that hold JSON: scopes, API ids, address ranges, metadata.
pub(super) fn json_columns(new: &NewKey) -> [String; 4] {
    let options = new.options();
    let list = |texts: Vec<String>| serde_json::Value::from(texts).to_string();
    [
        list(new.scopes().to_vec()),
        list(options.api_ids.clone()),
        list(options.allow_from.iter().map(IpNet::to_string).collect()),
        serde_json::Value::Object(options.metadata.iter().map(|(k, v)| (k.clone(), v.as_str().into())).collect())
            .to_string(),
    ]
}

/// The integer columns of a new record's own limit: requests, and milliseconds.
pub(super) fn limit_columns(new: &NewKey) -> (Option<i64>, Option<i64>) {
    let limit = new.options().limit;
    let requests = limit.and_then(|limit| i64::try_from(limit.requests()).ok());
    (requests, limit.and_then(|limit| i64::try_from(limit.per().as_millis()).ok()))
}
