//! Notices that the store was written, by this process or another.
//!
//! Enters: nothing but the question. Leaves: whether anything changed since the last answer. One `stat` and one read
//! of shared memory: cheap enough to ask many times a second.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::error::{Fault, StoreError};
use super::file::{self, FileIdentity};
use super::schema;

/// Watches one store's file; made by [`Store::watch`](super::Store::watch).
#[derive(Debug)]
pub struct ChangeWatch {
    path: PathBuf,
    /// Of the file that the store has open. Holding it open too keeps its inode from being given to a new file.
    identity: FileIdentity,
    /// A connection of its own, which never writes: SQLite's data version does not count a connection's own writes.
    connection: Connection,
    data_version: i64,
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
    pub(super) fn new(path: &Path, identity: FileIdentity) -> Result<Self, StoreError> {
        let watch = || {
            let (connection, found) = file::connect(path)?;
            if found != identity {
                return Err(Fault::Moved);
            }
            schema::prepare_reader(&connection)?;
            let data_version = data_version(&connection)?;
            Ok(Self { path: path.to_owned(), identity, connection, data_version })
        };
        watch().map_err(|fault| StoreError::new("watch", path, fault))
    }

    /// What happened since the last answer. After an error nothing is known about the store: a missing file is one,
    /// until there is a file again.
    pub fn poll(&mut self) -> Result<Change, StoreError> {
        self.observe().map_err(|fault| StoreError::new("watch", &self.path, fault))
    }

    fn observe(&mut self) -> Result<Change, Fault> {
        if FileIdentity::of(&self.path)? != self.identity {
            return Ok(Change::Replaced);
        }
        let before = std::mem::replace(&mut self.data_version, data_version(&self.connection)?);
        Ok(if before == self.data_version { Change::Unchanged } else { Change::Changed })
    }
}

fn data_version(connection: &Connection) -> Result<i64, Fault> {
    Ok(connection.prepare_cached("PRAGMA data_version")?.query_row((), |row| row.get(0))?)
}

#[cfg(test)]
mod tests;
