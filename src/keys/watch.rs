//! Notices that keys were changed, by this process or another.
//!
//! Enters: nothing but the question. Leaves: whether anything changed since the last answer. For a file that is one
//! `stat` and one read of shared memory: cheap enough to ask many times a second. Uses of keys are no change.

use std::fmt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::error::{Fault, StoreError};
use super::file::{self, FileIdentity};
use super::schema;

/// Watches one store; made by [`Store::watch`](super::Store::watch).
#[derive(Debug)]
pub struct ChangeWatch {
    place: String,
    watch: Box<dyn Watch>,
}

/// An engine's way to notice changes.
pub(super) trait Watch: fmt::Debug + Send {
    /// What happened since the last answer.
    fn observe(&mut self) -> Result<Change, Fault>;
}

/// What happened to a store since it was last asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "what was read before a change may be wrong after it"]
pub enum Change {
    /// What was read is still so.
    Unchanged,
    /// Somebody has written to it. Which keys is not known.
    Changed,
    /// The path names another file. Stays so: close this watch and every store of the file, then open the store anew.
    /// In this order, because SQLite would share the old file's log and memory with the new one.
    Replaced,
}

impl ChangeWatch {
    pub(super) fn new(place: String, watch: Box<dyn Watch>) -> Self {
        Self { place, watch }
    }

    /// What happened since the last answer. After an error nothing is known about the store: a missing file is one,
    /// until there is a file again; so is a schema that a later release has made of it.
    pub fn poll(&mut self) -> Result<Change, StoreError> {
        self.watch.observe().map_err(|fault| StoreError::new("watch", self.place.clone(), fault))
    }
}

/// Watches a SQLite file.
#[derive(Debug)]
pub(super) struct FileWatch {
    path: PathBuf,
    /// Of the file that the store has open. Holding it open too keeps its inode from being given to a new file.
    identity: FileIdentity,
    /// A connection of its own, which never writes: SQLite's data version does not count a connection's own writes.
    connection: Connection,
    data_version: i64,
    revision: i64,
}

impl FileWatch {
    pub fn new(path: &Path, identity: FileIdentity) -> Result<Self, Fault> {
        let (connection, found) = file::connect(path)?;
        if found != identity {
            return Err(Fault::Moved);
        }
        schema::prepare_reader(&connection)?;
        let data_version = data_version(&connection)?;
        let revision = revision(&connection)?;
        Ok(Self { path: path.to_owned(), identity, connection, data_version, revision })
    }
}

impl Watch for FileWatch {
    fn observe(&mut self) -> Result<Change, Fault> {
        if FileIdentity::of(&self.path)? != self.identity {
            return Ok(Change::Replaced);
        }
        let version = data_version(&self.connection)?;
        if version == self.data_version {
            return Ok(Change::Unchanged);
        }
        schema::expect_present(&self.connection)?;
        // Read behind the version: a change in between is seen now, and once more without need.
        let revision = revision(&self.connection)?;
        self.data_version = version;
        let before = std::mem::replace(&mut self.revision, revision);
        Ok(if before == revision { Change::Unchanged } else { Change::Changed })
    }
}

pub(super) fn data_version(connection: &Connection) -> Result<i64, Fault> {
    Ok(connection.prepare_cached("PRAGMA data_version")?.query_row((), |row| row.get(0))?)
}

/// Counts what can change an answer about a key; triggers of the schema do, whoever writes.
fn revision(connection: &Connection) -> Result<i64, Fault> {
    Ok(connection.prepare_cached("SELECT revision FROM store_state")?.query_row((), |row| row.get(0))?)
}

#[cfg(test)]
mod tests;
