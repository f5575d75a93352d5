//! The embedded key store: API keys in one SQLite file.
//!
//! Enters: who a new key belongs to ([`NewKey`]), the moment and the randomness; later the text of a presented key,
//! as a [`Digest`]. Leaves: a [`KeyRecord`] for a key that is known, and once, at its creation, the [`KeySecret`].
//!
//! A presented key takes three steps, each cheaper than the next: [`looks_valid`] refuses typos and junk without any
//! lookup, [`Digest::of`] turns the text into what is stored, [`Store::find`] answers with one indexed read. A
//! [`ChangeWatch`] tells when anybody, in this process or another, has written to the file.
//!
//! Everything here blocks on the disk: call it away from the workers that serve requests.
//!
//! Invariants: a plaintext key is never stored, logged, shown by `Debug` or put into an error; it exists only in the
//! [`KeySecret`] that [`Store::create`] returns, which wipes its memory. What a call has acknowledged is on disk.
//! Nothing here reads a clock, and randomness is an argument.

mod digest;
mod error;
mod file;
mod format;
mod instant;
mod random;
mod record;
mod schema;
mod store;
mod watch;

#[cfg(test)]
mod testing;

pub use digest::Digest;
pub use error::{Fault, StoreError};
pub use format::{InvalidPrefix, KeyPrefix, KeySecret, looks_valid};
pub use instant::rfc3339;
pub use random::{Random, RandomError, SystemRandom};
pub use record::{InvalidKey, KeyId, KeyKind, KeyRecord, KeyStatus, NewKey, NotAKeyId};
pub use store::{CreatedKey, Revocation, Store};
pub use watch::{Change, ChangeWatch};
