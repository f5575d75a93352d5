//! The store's file: made private, opened without surprises, told apart from a file that took its place.
//!
//! Enters: a path. Leaves: a connection and the [`FileIdentity`] of the very file that it has open.
//!
//! Invariant: this process never opens and closes the file other than through SQLite. POSIX drops all locks that a
//! process has on a file when it closes any descriptor of it, SQLite's too ("How To Corrupt An SQLite Database
//! File", section 2.2).

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rusqlite::{Connection, OpenFlags};

use super::error::Fault;

/// Between the creation of the empty file and the close of the descriptor that created it, no other thread may have
/// SQLite take locks on it: see the module's invariant.
static OPENING: Mutex<()> = Mutex::new(());

/// Which file it is, whatever it is called. Unique while the file is open, because its inode cannot be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileIdentity {
    device: u64,
    inode: u64,
}

impl FileIdentity {
    /// The file that `path` names now.
    pub(super) fn of(path: &Path) -> Result<Self, Fault> {
        let metadata = fs::metadata(path)?;
        if !metadata.is_file() {
            return Err(Fault::NotADatabase);
        }
        Ok(Self { device: metadata.dev(), inode: metadata.ino() })
    }

    /// Fails unless `path` still names this file: what is written to a file without a name is lost.
    pub(super) fn expect_at(self, path: &Path) -> Result<(), Fault> {
        match Self::of(path) {
            Ok(found) if found == self => Ok(()),
            Ok(_) | Err(Fault::Missing) => Err(Fault::Moved),
            Err(fault) => Err(fault),
        }
    }
}

/// The path as SQLite shall see it: absolute, so that neither `:memory:` nor `file:` nor a change of directory gives
/// it another meaning.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, Fault> {
    Ok(std::path::absolute(path)?)
}

/// Makes an empty file, readable and writable by its owner alone, unless there is one. An existing file keeps the
/// mode that its operator gave it. SQLite gives its log and shared memory the mode of the file.
pub(super) fn create_private(path: &Path) -> Result<(), Fault> {
    let _opening = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = path.parent().ok_or(Fault::NotADatabase)?;
    if !directory.is_dir() {
        return Err(Fault::NoDirectory);
    }
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        // Its entry in the directory will be as durable as its content: SQLite syncs the directory with each new log.
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Opens the file that `path` names, which must exist.
pub(super) fn connect(path: &Path) -> Result<(Connection, FileIdentity), Fault> {
    /// More than one only if somebody replaces the file between two system calls.
    const ATTEMPTS: usize = 5;
    // Without CREATE: a file that vanished must not come back empty, and not with SQLite's default mode.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;

    let _opening = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..ATTEMPTS {
        let before = FileIdentity::of(path)?;
        let connection = Connection::open_with_flags(path, flags)?;
        if FileIdentity::of(path)? == before {
            return Ok((connection, before));
        }
    }
    Err(Fault::Moved)
}
