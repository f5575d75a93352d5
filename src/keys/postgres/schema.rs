//! The store's schema in PostgreSQL: whose a database is, which version it has, and the steps to the present one.
//!
//! Invariant: a migration is one transaction, under a lock that every change shares: no process of an earlier release
//! writes to a later schema.

use super::session::{Call, LONG_TIMEOUT, Session};
use crate::keys::error::Fault;
use crate::keys::schema::{APPLICATION_ID, VERSION};

/// Each version and what leads to it from the one before. The first is complete; a released step never changes.
const STEPS: [(i64, &str); 1] = [(2, include_str!("../schema/postgres_v2.sql"))];

/// Reads the catalogue's table: what looks a name up may remember, from before the lock was waited for, that it was not
/// there.
const IS_THERE: &str =
    "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_class WHERE relname = 'keyward_store' AND pg_table_is_visible(oid))";
const READ_VERSION: &str = "SELECT version FROM keyward_store";

/// Checks that the store is there in the present version, after it was made or brought to it.
pub(super) fn prepare(session: &Session, may_create: bool) -> Result<(), Fault> {
    match session.read(version).and_then(known)? {
        None if !may_create => Err(Fault::NoStore),
        Some(VERSION) => Ok(()),
        None | Some(_) => session.write(LONG_TIMEOUT, migrate),
    }
}

/// At the beginning of a change: fails if another release has brought the store to a later schema. No migration can
/// begin before the change ends.
pub(super) async fn expect_present(call: &mut Call<'_>) -> Result<(), Fault> {
    call.rows("SELECT pg_advisory_xact_lock_shared($1)", &[&APPLICATION_ID]).await?;
    // A statement of its own: it has to see what was committed while the lock was waited for.
    match known(version(call).await?)? {
        Some(VERSION) => Ok(()),
        _ => Err(Fault::NoStore),
    }
}

/// The version, if this release knows it.
fn known(version: Option<i64>) -> Result<Option<i64>, Fault> {
    match version {
        Some(found) if found > VERSION => Err(Fault::Newer { found, known: VERSION }),
        Some(found) if found < 1 => Err(Fault::Foreign),
        version => Ok(version),
    }
}

/// The schema's version, or `None` where there is no store.
async fn version(call: &mut Call<'_>) -> Result<Option<i64>, Fault> {
    let rows = call.rows(IS_THERE, &[]).await?;
    let is_there: bool = rows.first().ok_or(Fault::Foreign)?.try_get(0)?;
    if !is_there {
        return Ok(None);
    }
    let rows = call.rows(READ_VERSION, &[]).await?;
    Ok(Some(rows.first().ok_or(Fault::Foreign)?.try_get(0)?))
}

async fn migrate(call: &mut Call<'_>) -> Result<(), Fault> {
    call.rows("SELECT pg_advisory_xact_lock($1)", &[&APPLICATION_ID]).await?;
    // Again, now that nobody else can: another process may have been faster.
    let from = known(version(call).await?)?.unwrap_or(0);
    for (to, step) in STEPS.iter().filter(|(to, _)| *to > from) {
        call.batch(step).await?;
        call.execute("UPDATE keyward_store SET version = $1", &[to]).await?;
    }
    Ok(())
}
