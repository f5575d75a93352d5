//! The engine on a PostgreSQL database.
//!
//! Invariants: a change is committed when its call returns `Ok`. Several engines, in any process on any machine, share
//! a database; one of an earlier schema neither reads nor writes a later one. An engine whose connection is lost answers
//! [`Fault::Lost`] from then on; open the store anew.

mod fault;
mod schema;
mod session;
mod spec;
mod tls;

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, ToSql};

pub use spec::{BadPostgresUrl, PostgresHost, PostgresSpec, PostgresTls};

use self::session::{Call, LONG_TIMEOUT, Session, WRITE_TIMEOUT};
use super::digest::Digest;
use super::engine::{
    Added, Engine, Expect, NewRow, Opened, RawRecord, RotateOutcome, RotateRow, UseRow, json_columns, limit_columns,
    moment,
};
use super::error::{Cause, Fault};
use super::instant::to_millis;
use super::pepper::Scheme;
use super::record::{KeyId, KeyRecord};
use super::schema::{APPLICATION_ID, VERSION};
use super::sql::{self, SqlValue};
use super::steps::step;
use super::watch::{Change, Watch};

/// All schemes in use, by as many index reads: SQLite asks one by one, which here would be as many journeys.
const SCHEMES: &str = "WITH RECURSIVE used AS (SELECT min(scheme) AS scheme FROM key_secrets UNION ALL \
    SELECT (SELECT min(scheme) FROM key_secrets WHERE key_secrets.scheme > used.scheme) FROM used \
    WHERE used.scheme IS NOT NULL) SELECT scheme FROM used WHERE scheme IS NOT NULL";

/// The advisory lock of whoever adds keys: that of the schema is shared by all who write.
const ADDING: i64 = APPLICATION_ID + 1;

/// A connection to a database with the schema.
#[derive(Debug)]
pub(super) struct Postgres {
    place: String,
    session: Arc<Session>,
}

impl Postgres {
    /// Connects. Makes the store where there is none, if it may.
    pub fn open(spec: &PostgresSpec, may_create: bool) -> Result<Self, Fault> {
        let session = Session::open(spec)?;
        schema::prepare(&session, may_create)?;
        Ok(Self { place: spec.to_string(), session: Arc::new(session) })
    }

    /// Makes one change, all or nothing. Once this returns `Ok`, the change is committed.
    fn write<T>(
        &self,
        limit: std::time::Duration,
        change: impl AsyncFn(&mut Call<'_>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        step();
        let changed = self.session.write(limit, async |call| {
            schema::expect_present(call).await?;
            step();
            let changed = change(call).await?;
            step();
            Ok(changed)
        })?;
        step();
        Ok(changed)
    }
}

impl Engine for Postgres {
    fn place(&self) -> String {
        self.place.clone()
    }

    /// Always asks: what uses restate is no change that anybody is told of.
    fn schemes(&self) -> Result<Arc<[Scheme]>, Fault> {
        Ok(self.session.read(used)?.into())
    }

    fn find(&self, wanted: &[&(Scheme, Digest)]) -> Result<Vec<Opened>, Fault> {
        let digests: Vec<&[u8]> = wanted.iter().map(|(_, digest)| digest.as_bytes().as_slice()).collect();
        let rows = self.session.read(async |call| call.rows(sql::FIND_ALL, &[&digests]).await)?;
        let mut found = HashMap::with_capacity(rows.len());
        for row in &rows {
            let stored = <[u8; 32]>::try_from(column::<&[u8]>(row, "digest")?).map_err(|_| senseless("digest"))?;
            found.insert(stored, row);
        }
        let open = |(scheme, digest): &(Scheme, Digest)| {
            let Some((stored, row)) = found.get_key_value(digest.as_bytes()) else { return Ok(None) };
            // Who is let in is decided by our own comparison.
            if Digest::stored(*stored) != *digest || column::<&str>(row, "scheme")? != scheme.as_str() {
                return Ok(None);
            }
            let until = moment(column(row, "valid_until")?, "valid_until").map_err(senseless)?;
            Ok(Some((believe(row)?, until)))
        };
        Ok(wanted.iter().map(|wanted| open(wanted)).collect())
    }

    fn get(&self, id: &KeyId) -> Result<Option<KeyRecord>, Fault> {
        self.session.read(async |call| get(call, sql::GET, id).await)
    }

    fn page(&self, statement: &str, values: &[SqlValue]) -> Result<Vec<KeyRecord>, Fault> {
        let values: Vec<&(dyn ToSql + Sync)> = values
            .iter()
            .map(|value| match value {
                SqlValue::Text(text) => text as &(dyn ToSql + Sync),
                SqlValue::Integer(number) => number,
            })
            .collect();
        let rows = self.session.read_long(async |call| call.rows(statement, &values).await)?;
        rows.iter().map(believe).collect()
    }

    fn add(&mut self, rows: &[NewRow<'_>], expect: Expect<'_>) -> Result<Added, Fault> {
        let conflict = std::cell::Cell::new(None);
        let added = self.write(LONG_TIMEOUT, async |call| {
            // Of two that add under different peppers one has to see what the other has added.
            call.rows("SELECT pg_advisory_xact_lock($1)", &[&ADDING]).await?;
            let schemes = used(call).await?;
            expect(&schemes)?;
            let mut added = Vec::with_capacity(rows.len());
            for (index, row) in rows.iter().enumerate() {
                for (scheme, digest) in row.former.iter().filter(|(scheme, _)| schemes.contains(scheme)) {
                    let found = call.rows(sql::OWNER, &[&digest.as_bytes().as_slice(), &scheme.as_str()]).await?;
                    let owner = found.first().map(|row| column::<&str>(row, "key_id")).transpose()?;
                    if owner.is_some_and(|id| id != row.id.as_str()) {
                        conflict.set(Some(index));
                        return Err(Fault::Taken);
                    }
                }
                let is_new = add_record(call, row).await?;
                step();
                let secret =
                    [&row.digest.as_bytes().as_slice() as &(dyn ToSql + Sync), &row.scheme.as_str(), &row.id.as_str()];
                if is_new && call.execute(sql::ADD_SECRET, &secret).await? == 0 {
                    conflict.set(Some(index));
                    return Err(Fault::Taken);
                }
                step();
                added.push(is_new);
            }
            Ok(added)
        });
        match (added, conflict.get()) {
            (Err(Fault::Taken), Some(index)) => Ok(Added::Conflict(index)),
            (added, _) => added.map(Added::Done),
        }
    }

    fn rotate(&mut self, row: &RotateRow<'_>) -> Result<RotateOutcome, Fault> {
        let id = row.id.as_str();
        // Against another rotation or revocation of this key, and against uses, which lock the record first as well.
        let locked = format!("{} FOR UPDATE", sql::GET);
        let rotated = self.write(WRITE_TIMEOUT, async |call| {
            let Some(record) = get(call, &locked, row.id).await? else { return Ok(RotateOutcome::NotFound) };
            let is_expired = record.expires_on.and_then(to_millis).is_some_and(|expires| expires <= row.now);
            if record.revoked_on.is_some() || is_expired {
                return Ok(RotateOutcome::Over(record.into()));
            }
            call.execute(sql::END_SECRETS, &[&row.until, &id]).await?;
            step();
            call.execute(sql::DROP_ENDED, &[&row.now, &id]).await?;
            step();
            let rows = call.rows(sql::COUNT_SECRETS, &[&id]).await?;
            let former: i64 = rows.first().ok_or(Fault::Foreign)?.try_get(0)?;
            if former >= row.max_secrets {
                return Err(Fault::Taken);
            }
            call.execute(sql::ADD_SECRET, &[&row.digest.as_bytes().as_slice(), &row.scheme.as_str(), &id]).await?;
            step();
            let grace = (former > 0).then_some(row.until);
            call.execute(sql::ROTATED, &[&row.prefix, &row.suffix, &row.now, &grace, &id]).await?;
            Ok(RotateOutcome::Done)
        });
        match rotated {
            Err(Fault::Taken) => Ok(RotateOutcome::TooManySecrets),
            rotated => rotated,
        }
    }

    fn revoke(&mut self, id: &KeyId, now: i64, reason: Option<&str>) -> Result<(bool, Option<KeyRecord>), Fault> {
        self.write(WRITE_TIMEOUT, async |call| {
            let changed = call.execute(sql::REVOKE, &[&now, &reason, &id.as_str()]).await?;
            step();
            Ok((changed > 0, get(call, sql::GET, id).await?))
        })
    }

    fn delete_old(&mut self, before: i64) -> Result<u64, Fault> {
        self.write(LONG_TIMEOUT, async |call| call.execute(sql::DELETE_OLD, &[&before]).await)
    }

    fn note_uses(&mut self, uses: &[UseRow]) -> Result<(), Fault> {
        // In one order in every process: two of them with the same keys would wait for each other.
        let mut uses: Vec<&UseRow> = uses.iter().collect();
        uses.sort_by(|one, two| one.id.cmp(&two.id));
        self.write(WRITE_TIMEOUT, async |call| {
            for row in &uses {
                if let Some(last) = to_millis(row.last).filter(|_| row.count > 0) {
                    let count = i64::try_from(row.count).unwrap_or(i64::MAX);
                    call.execute(sql::ADD_USES, &[&count, &last, &row.id.as_str()]).await?;
                }
                if let Some(restated) = &row.restated {
                    let (scheme, to) = &restated.to;
                    let from = restated.from.as_bytes().as_slice();
                    call.execute(sql::RESTATE, &[&to.as_bytes().as_slice(), &scheme.as_str(), &from]).await?;
                }
            }
            Ok(())
        })
    }

    fn count_schemes(&self) -> Result<Vec<(Scheme, u64)>, Fault> {
        let rows = self.session.read_long(async |call| call.rows(sql::COUNT_SCHEMES, &[]).await)?;
        let count =
            |row: &Row| Ok((Scheme::stored(column(row, "scheme")?), column::<i64>(row, "count")?.unsigned_abs()));
        rows.iter().map(count).collect()
    }

    fn watch(&self) -> Result<Box<dyn Watch>, Fault> {
        let session = Arc::clone(&self.session);
        let seen = session.changes();
        Ok(Box::new(SessionWatch { session, seen }))
    }
}

/// Hears what the triggers of the schema tell, on the engine's own connection.
#[derive(Debug)]
struct SessionWatch {
    session: Arc<Session>,
    seen: u64,
}

impl Watch for SessionWatch {
    fn observe(&mut self) -> Result<Change, Fault> {
        if self.session.take_beat() {
            let version = self.session.beat()?;
            if version != VERSION {
                return Err(Fault::Newer { found: version, known: VERSION });
            }
        }
        if self.session.is_lost() {
            return Err(Fault::Lost);
        }
        let changes = self.session.changes();
        let before = std::mem::replace(&mut self.seen, changes);
        Ok(if before == changes { Change::Unchanged } else { Change::Changed })
    }
}

/// The schemes of all digests, in order.
async fn used(call: &mut Call<'_>) -> Result<Vec<Scheme>, Fault> {
    let rows = call.rows(SCHEMES, &[]).await?;
    rows.iter().map(|row| column::<&str>(row, "scheme").map(Scheme::stored)).collect()
}

/// Whether the record is new.
async fn add_record(call: &mut Call<'_>, row: &NewRow<'_>) -> Result<bool, Fault> {
    let [scopes, api_ids, allow_from, metadata] = json_columns(row.new);
    let (requests, per) = limit_columns(row.new);
    let options = row.new.options();
    let expires_on = options.expires_on.map(|expires| to_millis(expires).ok_or(Fault::Clock)).transpose()?;
    let values: [&(dyn ToSql + Sync); 15] = [
        &row.id.as_str(),
        &row.new.name(),
        &row.new.org_code(),
        &row.new.user_id(),
        &scopes,
        &api_ids,
        &allow_from,
        &metadata,
        &requests,
        &per,
        &row.prefix,
        &row.suffix,
        &row.created_on,
        &options.created_by,
        &expires_on,
    ];
    Ok(call.execute(sql::ADD_RECORD, &values).await? == 1)
}

async fn get(call: &mut Call<'_>, statement: &str, id: &KeyId) -> Result<Option<KeyRecord>, Fault> {
    let rows = call.rows(statement, &[&id.as_str()]).await?;
    rows.first().map(believe).transpose()
}

fn senseless(column: &'static str) -> Fault {
    Fault::Damaged(Cause::Column(column))
}

fn column<'a, T: FromSql<'a>>(row: &'a Row, name: &'static str) -> Result<T, Fault> {
    row.try_get(name).map_err(|_| senseless(name))
}

fn believe(row: &Row) -> Result<KeyRecord, Fault> {
    let raw = RawRecord {
        id: column(row, "id")?,
        name: column(row, "name")?,
        org_code: column(row, "org_code")?,
        user_id: column(row, "user_id")?,
        scopes: column(row, "scopes")?,
        api_ids: column(row, "api_ids")?,
        allow_from: column(row, "allow_from")?,
        metadata: column(row, "metadata")?,
        limit_requests: column(row, "limit_requests")?,
        limit_per: column(row, "limit_per")?,
        prefix: column(row, "prefix")?,
        suffix: column(row, "suffix")?,
        created_on: column(row, "created_on")?,
        created_by: column(row, "created_by")?,
        expires_on: column(row, "expires_on")?,
        rotated_on: column(row, "rotated_on")?,
        grace_until: column(row, "grace_until")?,
        revoked_on: column(row, "revoked_on")?,
        revoked_reason: column(row, "revoked_reason")?,
        last_used_on: column(row, "last_used_on")?,
        use_count: column(row, "use_count")?,
    };
    raw.believe().map_err(senseless)
}

#[cfg(test)]
mod tests;
