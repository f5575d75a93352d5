//! The store: keys are created, listed, found by digest and revoked in one SQLite file.
//!
//! Enters: checked values, the moment, randomness, digests. Leaves: records; and the secret of a new key, once.
//!
//! Invariants: a change is on disk when its call returns `Ok`, in the file that the path names. A key's text is
//! never part of a statement. Several stores, in this process and others, can share a file.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, named_params};

use super::digest::Digest;
use super::error::{Fault, StoreError};
use super::file::{self, FileIdentity};
use super::format::{KeyPrefix, KeySecret};
use super::instant::{from_millis, to_millis};
use super::random::Random;
use super::record::{KeyId, KeyKind, KeyRecord, KeyStatus, NewKey};
use super::schema;
use super::watch::ChangeWatch;

/// An open key store. Every call blocks on the disk.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    identity: FileIdentity,
    connection: Connection,
}

/// A new key: the only time that its secret is known.
#[derive(Debug)]
pub struct CreatedKey {
    /// By which it is listed and revoked.
    pub id: KeyId,
    /// To be shown to its owner, now or never.
    pub secret: KeySecret,
}

/// What became of a revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// The key is refused from now on.
    Revoked { on: SystemTime },
    /// It was refused already; nothing changed, not even the moment of the first revocation.
    AlreadyRevoked { on: SystemTime },
    /// There is no such key.
    NotFound,
}

impl Store {
    /// Opens the store at `path`, and makes it if there is none. A new file is private to its owner.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_at(path, file::create_private)
    }

    /// Opens the store at `path`, which must exist: looking must not leave an empty store behind.
    pub fn open_existing(path: &Path) -> Result<Self, StoreError> {
        Self::open_at(path, |_| Ok(()))
    }

    fn open_at(path: &Path, first: impl FnOnce(&Path) -> Result<(), Fault>) -> Result<Self, StoreError> {
        let open = || {
            let path = file::absolute(path)?;
            first(&path)?;
            let (mut connection, identity) = file::connect(&path)?;
            schema::prepare(&mut connection)?;
            Ok(Self { path, identity, connection })
        };
        open().map_err(|fault| StoreError::new("open", path, fault))
    }

    /// The store's file, as an absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a key and stores what is to be known of it. The secret is returned and forgotten.
    pub fn create(
        &mut self,
        new: &NewKey,
        prefix: &KeyPrefix,
        now: SystemTime,
        random: &mut dyn Random,
    ) -> Result<CreatedKey, StoreError> {
        self.insert(new, prefix, now, random).map_err(|fault| self.error("create a key in", fault))
    }

    fn insert(
        &mut self,
        new: &NewKey,
        prefix: &KeyPrefix,
        now: SystemTime,
        random: &mut dyn Random,
    ) -> Result<CreatedKey, Fault> {
        let created_on = to_millis(now).ok_or(Fault::Clock)?;
        let id = KeyId::generate(created_on.unsigned_abs(), random)?;
        let secret = KeySecret::generate(prefix, random)?;

        self.write(|transaction| {
            let mut insert = transaction.prepare_cached(INSERT)?;
            Ok(insert.execute(named_params! {
                ":id": id.as_str(),
                ":digest": Digest::of(secret.expose()).as_bytes(),
                ":digest_kind": Digest::KIND,
                ":name": new.name(),
                ":kind": new.kind().as_str(),
                ":org_code": new.org_code(),
                ":user_id": new.user_id(),
                ":scopes": serde_json::Value::from(new.scopes()).to_string(),
                ":prefix": prefix.as_str(),
                ":suffix": secret.suffix(),
                ":created_on": created_on,
            })?)
        })?;
        Ok(CreatedKey { id, secret })
    }

    /// All keys, the oldest first.
    pub fn list(&self) -> Result<Vec<KeyRecord>, StoreError> {
        let list = || {
            let mut statement = self.connection.prepare_cached(LIST)?;
            Ok(statement.query_map((), record)?.collect::<rusqlite::Result<_>>()?)
        };
        list().map_err(|fault| self.error("list the keys of", fault))
    }

    /// The key with this id.
    pub fn get(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
        let get = || Ok(self.connection.prepare_cached(GET)?.query_row([id.as_str()], record).optional()?);
        get().map_err(|fault| self.error("read a key from", fault))
    }

    /// The key with this digest, usable or not: one indexed read.
    pub fn find(&self, digest: &Digest) -> Result<Option<KeyRecord>, StoreError> {
        let find = || {
            let mut statement = self.connection.prepare_cached(FIND)?;
            let found = statement.query_row((digest.as_bytes(), Digest::KIND), |row| {
                Ok((Digest::stored(row.get("digest")?), record(row)?))
            });
            // The index has compared the digests already; who is let in is decided by our own comparison.
            Ok(found.optional()?.filter(|(stored, _)| stored == digest).map(|(_, record)| record))
        };
        find().map_err(|fault| self.error("read a key from", fault))
    }

    /// Takes a key back, for good.
    pub fn revoke(&mut self, id: &KeyId, now: SystemTime) -> Result<Revocation, StoreError> {
        self.mark_revoked(id, now).map_err(|fault| self.error("revoke a key in", fault))
    }

    fn mark_revoked(&mut self, id: &KeyId, now: SystemTime) -> Result<Revocation, Fault> {
        let now = to_millis(now).ok_or(Fault::Clock)?;
        let (changed, revoked_on) = self.write(|transaction| {
            let changed = transaction.prepare_cached(REVOKE)?.execute((id.as_str(), now))?;
            let mut after = transaction.prepare_cached(REVOKED_ON)?;
            Ok((changed, after.query_row([id.as_str()], |row| row.get::<_, Moment>(0)).optional()?))
        })?;
        Ok(match (revoked_on, changed) {
            (None, _) => Revocation::NotFound,
            (Some(Moment(on)), 0) => Revocation::AlreadyRevoked { on },
            (Some(Moment(on)), _) => Revocation::Revoked { on },
        })
    }

    /// Makes one change, all or nothing. Once this returns `Ok`, the change is on disk in the file that the path names.
    fn write<T>(&mut self, change: impl FnOnce(&Transaction<'_>) -> Result<T, Fault>) -> Result<T, Fault> {
        self.identity.expect_at(&self.path)?;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let changed = change(&transaction)?;
        transaction.commit()?;
        // Again: what was written to a file that lost its name in the meantime is lost with it.
        self.identity.expect_at(&self.path)?;
        // The change is on disk, in the log, whatever becomes of this.
        let _ = schema::empty_log(&self.connection);
        Ok(changed)
    }

    /// Watches this store's file for changes, by any connection, from now on. Start to watch before reading what a
    /// change shall undo.
    pub fn watch(&self) -> Result<ChangeWatch, StoreError> {
        ChangeWatch::new(&self.path, self.identity)
    }

    fn error(&self, doing: &'static str, fault: Fault) -> StoreError {
        StoreError::new(doing, &self.path, fault)
    }
}

/// The columns of a [`KeyRecord`], once for every statement that reads one.
macro_rules! select {
    ($($more:literal),*) => {
        concat!(
            "SELECT id, digest, name, kind, org_code, user_id, scopes, prefix, suffix, status, \
             created_on, revoked_on, revoked_reason, expires_on FROM api_keys ",
            $($more),*
        )
    };
}

const INSERT: &str = "INSERT INTO api_keys \
    (id, digest, digest_kind, name, kind, org_code, user_id, scopes, prefix, suffix, status, created_on) VALUES \
    (:id, :digest, :digest_kind, :name, :kind, :org_code, :user_id, :scopes, :prefix, :suffix, 'active', :created_on)";
const LIST: &str = select!("ORDER BY created_on, id");
const GET: &str = select!("WHERE id = ?1");
const FIND: &str = select!("WHERE digest = ?1 AND digest_kind = ?2");
const REVOKE: &str = "UPDATE api_keys SET status = 'revoked', revoked_on = ?2 WHERE id = ?1 AND status <> 'revoked'";
const REVOKED_ON: &str = "SELECT revoked_on FROM api_keys WHERE id = ?1";

fn record(row: &Row<'_>) -> rusqlite::Result<KeyRecord> {
    let moment = |column| Ok::<_, rusqlite::Error>(row.get::<_, Option<Moment>>(column)?.map(|Moment(at)| at));
    Ok(KeyRecord {
        id: row.get("id")?,
        name: row.get("name")?,
        kind: row.get("kind")?,
        org_code: row.get("org_code")?,
        user_id: row.get("user_id")?,
        scopes: row.get::<_, Scopes>("scopes")?.0,
        prefix: row.get("prefix")?,
        suffix: row.get("suffix")?,
        status: row.get("status")?,
        created_on: row.get::<_, Moment>("created_on")?.0,
        revoked_on: moment("revoked_on")?,
        revoked_reason: row.get("revoked_reason")?,
        expires_on: moment("expires_on")?,
    })
}

struct Moment(SystemTime);

impl FromSql for Moment {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let millis = value.as_i64()?;
        from_millis(millis).map(Self).ok_or(FromSqlError::OutOfRange(millis))
    }
}

struct Scopes(Vec<String>);

impl FromSql for Scopes {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        serde_json::from_str(value.as_str()?).map(Self).map_err(FromSqlError::other)
    }
}

impl FromSql for KeyId {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Self::parse(value.as_str()?).map_err(FromSqlError::other)
    }
}

impl FromSql for KeyKind {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let text = value.as_str()?;
        [Self::Organization, Self::User].into_iter().find(|kind| kind.as_str() == text).ok_or(FromSqlError::InvalidType)
    }
}

/// A status that this release does not know is an error, so the key opens nothing.
impl FromSql for KeyStatus {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let text = value.as_str()?;
        [Self::Active, Self::Revoked]
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or(FromSqlError::InvalidType)
    }
}

#[cfg(test)]
mod tests;
