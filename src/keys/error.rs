//! Why the store could not do what it was asked: what failed, on which database, and what to do about it.
//!
//! Invariant: no error carries a key, a digest or a caller's text.

use std::fmt;
use std::io;
use std::sync::Arc;

use rusqlite::ErrorCode;

use super::pepper::Scheme;
use super::random::RandomError;

/// The store could not do something. Always our side's fault, or the operator's; never the caller's, whose mistakes
/// are [`InvalidKey`](super::InvalidKey) and [`NotAKeyId`](super::NotAKeyId).
#[derive(Debug)]
pub struct StoreError {
    place: String,
    /// Completes "cannot … the key store".
    doing: &'static str,
    fault: Fault,
}

impl StoreError {
    pub(super) fn new(doing: &'static str, place: String, fault: Fault) -> Self {
        Self { place, doing, fault }
    }

    /// The store's file, or what else names its database.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// What is wrong.
    pub fn fault(&self) -> &Fault {
        &self.fault
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} the key store {}: {}", self.doing, self.place, self.fault)
    }
}

impl std::error::Error for StoreError {}

/// What is wrong with a store.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The directory that shall hold the file is not there.
    NoDirectory,
    /// The file is not there.
    Missing,
    /// The path names something else than a regular file, or a file of another format.
    NotADatabase,
    /// Another application's database.
    Foreign,
    /// Written by a later release, whose rules this one does not know.
    Newer { found: i64, known: i64 },
    /// The path no longer names the file that was opened.
    Moved,
    /// Another connection kept the file locked for longer than we wait.
    Busy,
    /// This process may not write the file or its directory.
    Denied(Cause),
    /// The disk is full.
    Full,
    /// The content contradicts itself.
    Damaged(Cause),
    /// The file system cannot share memory between processes, which the write-ahead log needs.
    NoWriteAheadLog,
    /// The present moment has no date that can be stored.
    Clock,
    /// There are keys under a pepper that is not configured.
    UnknownPepper(Scheme),
    /// What should be new is there already.
    Taken,
    /// There was no randomness to make a key from.
    Random(RandomError),
    /// PostgreSQL cannot be reached, or does not let us in.
    Unreachable(Cause),
    /// The connection to PostgreSQL failed while it was used. What was being changed may be changed or not.
    Lost,
    /// PostgreSQL took too long. What was being changed may be changed or not.
    TimedOut,
    /// The connection does not hear of changes.
    Deaf,
    /// The PostgreSQL database holds no store.
    NoStore,
    /// The role may not do this in PostgreSQL.
    Forbidden(Cause),
    /// Other changes were in the way, again and again.
    Conflict,
    /// Anything else that the operating system or the database reports.
    Failed(Cause),
}

/// The report that a [`Fault`] was told by.
#[derive(Clone, Debug)]
pub enum Cause {
    Io(Arc<io::Error>),
    Sqlite(Arc<rusqlite::Error>),
    /// PostgreSQL's or its driver's words, without a row's values.
    Postgres(String),
    /// A column whose value makes no sense.
    Column(&'static str),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDirectory => f.write_str("its directory does not exist; create it, or correct `keys.store.url`"),
            Self::Missing => f.write_str(
                "there is no such file; correct `keys.store.url`, or create a first key to create the store",
            ),
            Self::NotADatabase => f.write_str("this is not a key store; name another file in `keys.store.url`"),
            Self::Foreign => {
                f.write_str("this is another application's database; name another one in `keys.store.url`")
            }
            Self::Newer { found, known } => write!(
                f,
                "a later release of keyward wrote it (schema {found}, this release knows {known}); \
                 run that release or a later one"
            ),
            Self::Moved => f.write_str("the file was deleted or replaced while it was open; it has to be opened again"),
            Self::Busy => f.write_str("another process kept it locked; try again, and end that process if it is stuck"),
            Self::Denied(cause) => write!(
                f,
                "this process may not write it; SQLite writes the file and, beside it, its log ({cause}): \
                 give this user the file and its directory"
            ),
            Self::Full => f.write_str("the disk is full; make room and try again"),
            Self::Damaged(cause) => write!(f, "its content is damaged ({cause}); restore it from a backup"),
            Self::NoWriteAheadLog => {
                f.write_str("its file system does not support a write-ahead log; put it on a local disk")
            }
            Self::Clock => f.write_str("the system clock shows no date between 1970 and 9999; set the clock"),
            Self::UnknownPepper(scheme) => write!(
                f,
                "it holds keys under a pepper that is not configured ({}); correct `keys.store.pepper`, which may list \
                 former peppers behind the present one",
                scheme.as_str()
            ),
            Self::Taken => f.write_str("what should be new is there already"),
            Self::Random(error) => write!(f, "{error}"),
            Self::Unreachable(cause) => {
                write!(f, "PostgreSQL cannot be used ({cause}); check `keys.store.url` and `password`, and the server")
            }
            Self::Lost => f.write_str("the connection to PostgreSQL was lost; try again"),
            Self::TimedOut => f.write_str("PostgreSQL did not answer in time; try again, and look at the server"),
            Self::Deaf => f.write_str(
                "the connection does not hear of revoked keys, as behind a pooler that shares connections between \
                 transactions; name the server itself in `keys.store.url`, or have the pooler keep sessions",
            ),
            Self::NoStore => f.write_str(
                "this database holds no key store; correct `keys.store.url`, or create a first key to create the store",
            ),
            Self::Forbidden(cause) => write!(
                f,
                "its role may not do this ({cause}); grant it SELECT, INSERT, UPDATE and DELETE on the store's tables, \
                 and to make the store or bring it to a new schema CREATE on the schema"
            ),
            Self::Conflict => f.write_str("other changes were in the way, again and again; try again"),
            Self::Failed(cause) => write!(f, "{cause}"),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Sqlite(error) => error.fmt(f),
            Self::Postgres(text) => f.write_str(text),
            Self::Column(name) => write!(f, "the value of `{name}` makes no sense"),
        }
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::Error as Sqlite;

        // What a row holds is not what the schema promises: somebody else has written it.
        if let Sqlite::FromSqlConversionFailure(..)
        | Sqlite::InvalidColumnType(..)
        | Sqlite::IntegralValueOutOfRange(..) = &error
        {
            return Self::Damaged(Cause::Sqlite(error.into()));
        }
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => Self::NotADatabase,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy,
            Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
                Self::Denied(Cause::Sqlite(error.into()))
            }
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::DatabaseCorrupt) => Self::Damaged(Cause::Sqlite(error.into())),
            _ => Self::Failed(Cause::Sqlite(error.into())),
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::Denied(Cause::Io(error.into()))
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            _ => Self::Failed(Cause::Io(error.into())),
        }
    }
}

impl From<RandomError> for Fault {
    fn from(error: RandomError) -> Self {
        Self::Random(error)
    }
}
