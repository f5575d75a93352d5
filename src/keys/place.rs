//! Where a key store is: a SQLite file, or a PostgreSQL database.

use std::fmt;
use std::path::{Path, PathBuf};

use super::postgres::PostgresSpec;

/// Where a key store is. `Display` shows no password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorePlace {
    /// A SQLite file.
    File(PathBuf),
    /// A PostgreSQL database.
    Postgres(Box<PostgresSpec>),
}

impl fmt::Display for StorePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Postgres(spec) => spec.fmt(f),
        }
    }
}

impl From<PostgresSpec> for StorePlace {
    fn from(spec: PostgresSpec) -> Self {
        Self::Postgres(Box::new(spec))
    }
}

impl From<&Path> for StorePlace {
    fn from(path: &Path) -> Self {
        Self::File(path.to_owned())
    }
}

impl From<&PathBuf> for StorePlace {
    fn from(path: &PathBuf) -> Self {
        Self::File(path.clone())
    }
}

impl From<&Self> for StorePlace {
    fn from(place: &Self) -> Self {
        place.clone()
    }
}
