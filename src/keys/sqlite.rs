//! The engine on one SQLite file.
//!
//! Invariants: a change is on disk when its call returns `Ok`, in the file that the path names. Several engines, in
//! this process and others, can share a file; one of an earlier schema neither reads nor writes a later one.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params, params_from_iter};

use super::digest::Digest;
use super::engine::{
    Added, Engine, Expect, NewRow, Opened, RawRecord, RotateOutcome, RotateRow, UseRow, json_columns, limit_columns,
    moment,
};
use super::error::{Cause, Fault};
use super::file::{self, FileIdentity};
use super::instant::to_millis;
use super::pepper::Scheme;
use super::record::{KeyId, KeyRecord};
use super::schema;
use super::sql::{self, SqlValue};
use super::steps::step;
use super::watch::{FileWatch, Watch, data_version};

/// An open SQLite file with the schema.
#[derive(Debug)]
pub(super) struct Sqlite {
    path: PathBuf,
    identity: FileIdentity,
    pub connection: Connection,
    /// The schemes in use, and the data version that they were read at. Empty after a write of our own, which the data
    /// version does not count.
    schemes: RefCell<Option<(i64, Arc<[Scheme]>)>>,
}

impl Sqlite {
    pub fn open(path: &Path, first: impl FnOnce(&Path) -> Result<(), Fault>) -> Result<Self, Fault> {
        let path = file::absolute(path)?;
        first(&path)?;
        let (mut connection, identity) = file::connect(&path)?;
        schema::prepare(&mut connection)?;
        Ok(Self { path, identity, connection, schemes: RefCell::new(None) })
    }

    /// Makes one change, all or nothing. Once this returns `Ok`, the change is on disk in the file that the path names.
    pub fn write<T>(&mut self, change: impl FnOnce(&Transaction<'_>) -> Result<T, Fault>) -> Result<T, Fault> {
        self.identity.expect_at(&self.path)?;
        *self.schemes.get_mut() = None;
        step();
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        step();
        // Another release may have brought the file to a later schema since it was opened.
        schema::expect_present(&transaction)?;
        let changed = change(&transaction)?;
        step();
        transaction.commit()?;
        step();
        // Again: what was written to a file that lost its name in the meantime is lost with it.
        self.identity.expect_at(&self.path)?;
        step();
        // The change is on disk, in the log, whatever becomes of this.
        let _ = schema::empty_log(&self.connection);
        step();
        Ok(changed)
    }
}

impl Engine for Sqlite {
    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn schemes(&self) -> Result<Arc<[Scheme]>, Fault> {
        let version = data_version(&self.connection)?;
        if let Some((_, schemes)) = self.schemes.borrow().as_ref().filter(|(known, _)| *known == version) {
            return Ok(Arc::clone(schemes));
        }
        let schemes: Arc<[Scheme]> = used(&self.connection)?.into();
        *self.schemes.borrow_mut() = Some((version, Arc::clone(&schemes)));
        Ok(schemes)
    }

    fn find(&self, wanted: &[&(Scheme, Digest)]) -> Result<Vec<Opened>, Fault> {
        let mut statement = self.connection.prepare_cached(sql::FIND)?;
        let mut find = |scheme: &Scheme, digest: &Digest| {
            let found = statement.query_row((digest.as_bytes(), scheme.as_str()), |row| {
                Ok((Digest::stored(row.get("digest")?), raw(row)?, row.get::<_, Option<i64>>("valid_until")?))
            });
            match found.optional()? {
                // The index has compared the digests already; who is let in is decided by our own comparison.
                Some((stored, raw, until)) if stored == *digest => {
                    Ok(Some((believe(raw)?, moment(until, "valid_until").map_err(senseless)?)))
                }
                Some(_) | None => Ok(None),
            }
        };
        Ok(wanted.iter().map(|(scheme, digest)| find(scheme, digest)).collect())
    }

    fn get(&self, id: &KeyId) -> Result<Option<KeyRecord>, Fault> {
        get(&self.connection, id)
    }

    fn page(&self, statement: &str, values: &[SqlValue]) -> Result<Vec<KeyRecord>, Fault> {
        let mut statement = self.connection.prepare_cached(statement)?;
        let values = values.iter().map(|value| match value {
            SqlValue::Text(text) => rusqlite::types::Value::Text(text.clone()),
            SqlValue::Integer(number) => rusqlite::types::Value::Integer(*number),
        });
        let rows = statement.query_map(params_from_iter(values), raw)?;
        rows.map(|row| believe(row?)).collect()
    }

    fn add(&mut self, rows: &[NewRow<'_>], expect: Expect<'_>) -> Result<Added, Fault> {
        let mut conflict = None;
        let added = self.write(|transaction| {
            let schemes = used(transaction)?;
            expect(&schemes)?;
            let mut owner = transaction.prepare_cached(sql::OWNER)?;
            let mut records = transaction.prepare_cached(sql::ADD_RECORD)?;
            let mut secrets = transaction.prepare_cached(sql::ADD_SECRET)?;
            let mut added = Vec::with_capacity(rows.len());
            for (index, row) in rows.iter().enumerate() {
                for (scheme, digest) in row.former.iter().filter(|(scheme, _)| schemes.contains(scheme)) {
                    let found = owner.query_row((digest.as_bytes(), scheme.as_str()), |row| row.get::<_, String>(0));
                    if found.optional()?.is_some_and(|id| id != row.id.as_str()) {
                        conflict = Some(index);
                        return Err(Fault::Taken);
                    }
                }
                let [scopes, api_ids, allow_from, metadata] = json_columns(row.new);
                let (requests, per) = limit_columns(row.new);
                let options = row.new.options();
                let expires_on =
                    options.expires_on.map(|expires| to_millis(expires).ok_or(Fault::Clock)).transpose()?;
                let is_new = records.execute(params![
                    row.id.as_str(),
                    row.new.name(),
                    row.new.org_code(),
                    row.new.user_id(),
                    scopes,
                    api_ids,
                    allow_from,
                    metadata,
                    requests,
                    per,
                    row.prefix,
                    row.suffix,
                    row.created_on,
                    options.created_by,
                    expires_on,
                ])? == 1;
                step();
                if is_new && secrets.execute(params![row.digest.as_bytes(), row.scheme.as_str(), row.id.as_str()])? == 0
                {
                    conflict = Some(index);
                    return Err(Fault::Taken);
                }
                step();
                added.push(is_new);
            }
            Ok(added)
        });
        match (added, conflict) {
            (Err(Fault::Taken), Some(index)) => Ok(Added::Conflict(index)),
            (added, _) => added.map(Added::Done),
        }
    }

    fn rotate(&mut self, row: &RotateRow<'_>) -> Result<RotateOutcome, Fault> {
        let id = row.id.as_str();
        let rotated = self.write(|transaction| {
            let Some(record) = get(transaction, row.id)? else { return Ok(RotateOutcome::NotFound) };
            let is_expired = record.expires_on.and_then(to_millis).is_some_and(|expires| expires <= row.now);
            if record.revoked_on.is_some() || is_expired {
                return Ok(RotateOutcome::Over(record.into()));
            }
            transaction.prepare_cached(sql::END_SECRETS)?.execute(params![row.until, id])?;
            step();
            transaction.prepare_cached(sql::DROP_ENDED)?.execute(params![row.now, id])?;
            step();
            let former: i64 = transaction.prepare_cached(sql::COUNT_SECRETS)?.query_row([id], |row| row.get(0))?;
            if former >= row.max_secrets {
                return Err(Fault::Taken);
            }
            let secret = params![row.digest.as_bytes(), row.scheme.as_str(), id];
            transaction.prepare_cached(sql::ADD_SECRET)?.execute(secret)?;
            step();
            let grace = (former > 0).then_some(row.until);
            let record = params![row.prefix, row.suffix, row.now, grace, id];
            transaction.prepare_cached(sql::ROTATED)?.execute(record)?;
            Ok(RotateOutcome::Done)
        });
        match rotated {
            Err(Fault::Taken) => Ok(RotateOutcome::TooManySecrets),
            rotated => rotated,
        }
    }

    fn revoke(&mut self, id: &KeyId, now: i64, reason: Option<&str>) -> Result<(bool, Option<KeyRecord>), Fault> {
        self.write(|transaction| {
            let changed = transaction.prepare_cached(sql::REVOKE)?.execute(params![now, reason, id.as_str()])?;
            step();
            Ok((changed > 0, get(transaction, id)?))
        })
    }

    fn delete_old(&mut self, before: i64) -> Result<u64, Fault> {
        self.write(|transaction| Ok(transaction.prepare_cached(sql::DELETE_OLD)?.execute([before])? as u64))
    }

    fn note_uses(&mut self, uses: &[UseRow]) -> Result<(), Fault> {
        self.write(|transaction| {
            let mut add = transaction.prepare_cached(sql::ADD_USES)?;
            let mut restate = transaction.prepare_cached(sql::RESTATE)?;
            for row in uses {
                if let Some(last) = to_millis(row.last).filter(|_| row.count > 0) {
                    let count = i64::try_from(row.count).unwrap_or(i64::MAX);
                    add.execute(params![count, last, row.id.as_str()])?;
                }
                if let Some(restated) = &row.restated {
                    let (scheme, to) = &restated.to;
                    restate.execute(params![to.as_bytes(), scheme.as_str(), restated.from.as_bytes()])?;
                }
            }
            Ok(())
        })
    }

    fn count_schemes(&self) -> Result<Vec<(Scheme, u64)>, Fault> {
        let mut statement = self.connection.prepare_cached(sql::COUNT_SCHEMES)?;
        let rows = statement.query_map((), |row| {
            Ok((Scheme::stored(&row.get::<_, String>(0)?), row.get::<_, i64>(1)?.unsigned_abs()))
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    fn watch(&self) -> Result<Box<dyn Watch>, Fault> {
        Ok(Box::new(FileWatch::new(&self.path, self.identity)?))
    }
}

/// The schemes of all digests, in order.
fn used(connection: &Connection) -> Result<Vec<Scheme>, Fault> {
    let mut schemes = Vec::new();
    let mut next = connection.prepare_cached(sql::NEXT_SCHEME)?;
    let mut last = String::new();
    while let Some(scheme) = next.query_row([&last], |row| row.get::<_, Option<String>>(0))? {
        schemes.push(Scheme::stored(&scheme));
        last = scheme;
    }
    Ok(schemes)
}

fn get(connection: &Connection, id: &KeyId) -> Result<Option<KeyRecord>, Fault> {
    let found = connection.prepare_cached(sql::GET)?.query_row([id.as_str()], raw).optional()?;
    found.map(believe).transpose()
}

fn believe(raw: RawRecord) -> Result<KeyRecord, Fault> {
    raw.believe().map_err(senseless)
}

fn senseless(column: &'static str) -> Fault {
    Fault::Damaged(Cause::Column(column))
}

fn raw(row: &Row<'_>) -> rusqlite::Result<RawRecord> {
    Ok(RawRecord {
        id: row.get("id")?,
        name: row.get("name")?,
        org_code: row.get("org_code")?,
        user_id: row.get("user_id")?,
        scopes: row.get("scopes")?,
        api_ids: row.get("api_ids")?,
        allow_from: row.get("allow_from")?,
        metadata: row.get("metadata")?,
        limit_requests: row.get("limit_requests")?,
        limit_per: row.get("limit_per")?,
        prefix: row.get("prefix")?,
        suffix: row.get("suffix")?,
        created_on: row.get("created_on")?,
        created_by: row.get("created_by")?,
        expires_on: row.get("expires_on")?,
        rotated_on: row.get("rotated_on")?,
        grace_until: row.get("grace_until")?,
        revoked_on: row.get("revoked_on")?,
        revoked_reason: row.get("revoked_reason")?,
        last_used_on: row.get("last_used_on")?,
        use_count: row.get("use_count")?,
    })
}
