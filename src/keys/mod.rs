//! The embedded key store: API keys in a database, by default one SQLite file, else PostgreSQL.
//!
//! Enters: who a new key belongs to ([`NewKey`]), the moment and the randomness; later the text of a presented key,
//! as [`Candidates`]. Leaves: a [`KeyRecord`] for a key that is known, and once, at its creation, the [`KeySecret`].
//!
//! A presented key takes three steps, each cheaper than the next: [`looks_valid`] refuses typos and junk without any
//! lookup, [`Peppers::candidates`] turns the text into what may be stored, [`Store::find`] answers with one indexed read. A
//! [`ChangeWatch`] tells when anybody, in this process or another, has changed a key.
//!
//! Everything here blocks on the disk or the network: call it away from the workers that serve requests.
//!
//! Invariants: a plaintext key is never stored, logged, shown by `Debug` or put into an error; it exists only in the
//! [`KeySecret`] that [`Store::create`] returns, which wipes its memory. What a call has acknowledged is on disk.
//! Nothing here reads a clock, and randomness is an argument.

mod digest;
mod engine;
mod error;
mod file;
mod format;
mod import;
mod instant;
mod new;
mod pepper;
mod place;
mod postgres;
mod random;
mod record;
mod schema;
mod sql;
mod sqlite;
mod steps;
mod store;
mod watch;

#[cfg(test)]
mod testing;

pub use engine::{Restated, UseRow};
pub use error::{Fault, StoreError};
pub use format::{InvalidPrefix, KeyPrefix, KeySecret, hide_keys, looks_valid};
pub use import::{ImportError, ImportMistake, Imported, ImportedKey, read_import};
pub use instant::rfc3339;
pub use new::{InvalidKey, KeyLimit, KeyOptions, NewKey, Reason, parse_range};
pub use pepper::{Candidates, InvalidPepper, Peppers, Scheme};
pub use place::StorePlace;
pub use postgres::{BadPostgresUrl, PostgresHost, PostgresSpec, PostgresTls};
pub use random::{Random, RandomError, SystemRandom};
pub use record::{KeyId, KeyKind, KeyRecord, KeyStatus, NotAKeyId};
pub use store::{
    CreatedKey, FoundKey, KeyFilter, KeyPage, MAX_GRACE, Revocation, Rotation, SchemeCount, Standing, Store,
};
pub use watch::{Change, ChangeWatch};
