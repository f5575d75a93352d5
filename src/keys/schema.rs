//! The store's schema: whose a file is, which version it has, and the steps to the present one.
//!
//! Enters: a fresh connection. Leaves: a connection to a store of the present version, set up to lose nothing.
//!
//! Invariant: a file that is not ours, or that a later release wrote, is left as it was, byte for byte.

use std::thread;
use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::error::Fault;

/// "KWRD", in the field of the file's header that tells applications apart.
pub(super) const APPLICATION_ID: i64 = 0x4b57_5244;

/// The step at index `n` leads from version `n` to `n + 1`. A released step never changes.
const STEPS: [&str; 2] = [include_str!("schema/v1.sql"), include_str!("schema/v2.sql")];

/// The version that this release reads and writes.
pub(super) const VERSION: i64 = STEPS.len() as i64;

/// How long a statement waits for another connection's lock. A write takes milliseconds, so whoever holds one this
/// long is stuck.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Sets up a connection that only reads and watches a store that some other connection has prepared.
pub(super) fn prepare_reader(connection: &Connection) -> Result<(), Fault> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection.pragma_update(None, "query_only", true)?)
}

/// Checks that the file is ours, brings it to the present version and sets up the connection.
pub(super) fn prepare(connection: &mut Connection) -> Result<(), Fault> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Before anything that writes: the switch to a write-ahead log changes the file.
    let version = version(&connection.transaction()?)?;

    use_write_ahead_log(connection)?;
    // With a write-ahead log, FULL syncs it at every commit: an acknowledged key or revocation survives power loss.
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)?;

    if version < VERSION { migrate(connection) } else { Ok(()) }
}

/// The schema version of a file of ours; 0 for an empty one, which is ours to fill. Takes a transaction, because a
/// file that another process is just filling must be seen before or after, not in between.
fn version(transaction: &Transaction<'_>) -> Result<i64, Fault> {
    let tables: i64 = transaction.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))?;
    let application: i64 = transaction.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let version: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match (application, version) {
        (0, 0) if tables == 0 => Ok(0),
        (APPLICATION_ID, 1..=VERSION) => Ok(version),
        (APPLICATION_ID, found) if found > VERSION => Err(Fault::Newer { found, known: VERSION }),
        _ => Err(Fault::Foreign),
    }
}

/// Fails if another release has brought the file to a later schema since it was opened: what this one would write or
/// read there has another meaning.
pub(super) fn expect_present(connection: &Connection) -> Result<(), Fault> {
    let version: i64 = connection.prepare_cached("PRAGMA user_version")?.query_row((), |row| row.get(0))?;
    if version == VERSION { Ok(()) } else { Err(Fault::Newer { found: version, known: VERSION }) }
}

/// Switches to a write-ahead log, with which readers and a writer do not wait for each other. A no-op after the first
/// time.
fn use_write_ahead_log(connection: &Connection) -> Result<(), Fault> {
    /// Of all statements only this one does not wait for a lock by itself: it fails at once when another process is
    /// at the same step of making the same store.
    const PAUSE: Duration = Duration::from_millis(5);
    let mut pauses = BUSY_TIMEOUT.as_millis() / PAUSE.as_millis();
    loop {
        let mode = connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get::<_, String>(0));
        match mode.map_err(Fault::from) {
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(_) => return Err(Fault::NoWriteAheadLog),
            Err(Fault::Busy) if pauses > 0 => {
                pauses -= 1;
                thread::sleep(PAUSE);
            }
            Err(fault) => return Err(fault),
        }
    }
}

/// Moves what is committed from the log into the file and empties the log, as far as no reader is in the way; the
/// next time will then do. So the file alone is the whole store whenever nobody writes: a copy of it is a backup, and
/// a file put in its place meets no log of the old one, which SQLite would replay onto it.
pub(super) fn empty_log(connection: &Connection) -> Result<(), Fault> {
    connection.busy_timeout(Duration::ZERO)?;
    let emptied = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()));
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(emptied?)
}

/// Takes the missing steps, all or none.
fn migrate(connection: &mut Connection) -> Result<(), Fault> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Again, now that nobody else can write: another process may have been faster.
    let from = version(&transaction)?;
    for (step, to) in STEPS.iter().zip(1..).filter(|&(_, to)| to > from) {
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", to)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    Ok(transaction.commit()?)
}

#[cfg(test)]
mod tests;
