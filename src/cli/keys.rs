//! `keyward keys`: makes, lists and revokes the keys of the embedded store.
//!
//! Enters: parsed arguments and the store's place, which the caller has read from the configuration. Leaves: text for
//! a person, or one line of JSON for a program.
//!
//! Invariant: a key's text is written once, to `out`, by `create`; never into an error, even if somebody pastes a key
//! where an id belongs.

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::{Args, Subcommand};

use crate::keys::{InvalidKey, KeyId, KeyPrefix, NewKey, NotAKeyId, Revocation, Store, StoreError, SystemRandom};
use crate::time::Clock;

mod show;

/// What can be done with keys.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key for an organization, a user, or a user within an organization
    Create(CreateArgs),
    /// List all keys
    List(ListArgs),
    /// Take a key back, at once and for good
    Revoke(RevokeArgs),
}

/// Where the store is found and how the answer is written.
#[derive(Debug, Args)]
pub struct CommonArgs {
    /// The configuration whose store is meant
    #[arg(long, value_name = "FILE", default_value = "proxy.yaml")]
    pub config: PathBuf,
    /// Answer with one line of JSON
    #[arg(long)]
    pub json: bool,
}

/// `keyward keys create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// What the key is for, in your words
    #[arg(long)]
    pub name: String,
    /// The organization that the key speaks for
    #[arg(long, value_name = "CODE")]
    pub org_code: Option<String>,
    /// The user that the key speaks for
    #[arg(long, value_name = "ID")]
    pub user_id: Option<String>,
    /// A scope of the key, such as write:ai_chat; can be given several times
    #[arg(long = "scope", value_name = "SCOPE")]
    pub scopes: Vec<String>,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// `keyward keys list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    pub common: CommonArgs,
}

/// `keyward keys revoke`.
#[derive(Debug, Args)]
pub struct RevokeArgs {
    /// The key's id, as `keyward keys list` shows it
    pub id: String,
    #[command(flatten)]
    pub common: CommonArgs,
}

impl KeysCommand {
    /// The configuration to read before [`run`].
    pub fn config(&self) -> &Path {
        match self {
            Self::Create(args) => &args.common.config,
            Self::List(args) => &args.common.config,
            Self::Revoke(args) => &args.common.config,
        }
    }
}

/// Does what `command` says on the store at `store_path`, and writes the answer to `out`. Only `create` makes a store
/// where there is none.
pub fn run(
    command: &KeysCommand,
    store_path: &Path,
    prefix: &KeyPrefix,
    clock: &Clock,
    out: &mut dyn Write,
) -> Result<(), KeysError> {
    let now = clock.now().wall;
    match command {
        KeysCommand::Create(args) => create(args, store_path, prefix, now, out),
        KeysCommand::List(args) => list(args, store_path, now, out),
        KeysCommand::Revoke(args) => revoke(args, store_path, now, out),
    }
}

fn create(
    args: &CreateArgs,
    store_path: &Path,
    prefix: &KeyPrefix,
    now: SystemTime,
    out: &mut dyn Write,
) -> Result<(), KeysError> {
    let new = NewKey::new(&args.name, args.org_code.as_deref(), args.user_id.as_deref(), &args.scopes)?;
    let key = Store::open(store_path)?.create(&new, prefix, now, &mut SystemRandom)?;
    let shown = if args.common.json { show::created_json(&key, out) } else { show::created(&key, &new, out) };
    // Flushed here: only whoever knows the id can tell what to do about a key that nobody has seen.
    shown.and_then(|()| out.flush()).map_err(|source| KeysError::Unseen { id: key.id, source })
}

fn list(args: &ListArgs, store_path: &Path, now: SystemTime, out: &mut dyn Write) -> Result<(), KeysError> {
    let records = Store::open_existing(store_path)?.list()?;
    if args.common.json { show::list_json(&records, out) } else { show::list(&records, now, out) }?;
    Ok(out.flush()?)
}

fn revoke(args: &RevokeArgs, store_path: &Path, now: SystemTime, out: &mut dyn Write) -> Result<(), KeysError> {
    let id = KeyId::parse(&args.id)?;
    let (on, already) = match Store::open_existing(store_path)?.revoke(&id, now)? {
        Revocation::Revoked { on } => (on, false),
        Revocation::AlreadyRevoked { on } => (on, true),
        Revocation::NotFound => return Err(KeysError::Unknown { id, store: store_path.to_owned() }),
    };
    if args.common.json { show::revoked_json(&id, on, already, out) } else { show::revoked(&id, on, already, out) }?;
    Ok(out.flush()?)
}

/// Why a command on keys failed.
#[derive(Debug)]
pub enum KeysError {
    /// The key that was asked for cannot be made.
    Invalid(InvalidKey),
    /// What was given as an id is none.
    NotAKeyId,
    /// The store has no key of this id.
    Unknown { id: KeyId, store: PathBuf },
    /// The store failed.
    Store(StoreError),
    /// The answer could not be written; what was asked for is done.
    Output(io::Error),
    /// The new key is stored, but its text could not be written and is gone.
    Unseen { id: KeyId, source: io::Error },
}

impl fmt::Display for KeysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(InvalidKey::NoOwner) => {
                f.write_str("a key needs an owner: give --org-code CODE, --user-id ID, or both")
            }
            Self::Invalid(error) => error.fmt(f),
            Self::NotAKeyId => write!(f, "{NotAKeyId}; `keyward keys list` shows the ids"),
            Self::Unknown { id, store } => {
                write!(f, "the key store {} has no key {id}; `keyward keys list` shows the ids", store.display())
            }
            Self::Store(error) => error.fmt(f),
            Self::Output(error) => write!(f, "cannot write the answer: {error}"),
            Self::Unseen { id, source } => write!(
                f,
                "the key {id} was made, but could not be shown ({source}) and never will be; \
                 revoke it and make another"
            ),
        }
    }
}

impl std::error::Error for KeysError {}

impl From<InvalidKey> for KeysError {
    fn from(error: InvalidKey) -> Self {
        Self::Invalid(error)
    }
}

impl From<NotAKeyId> for KeysError {
    fn from(NotAKeyId: NotAKeyId) -> Self {
        Self::NotAKeyId
    }
}

impl From<StoreError> for KeysError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<io::Error> for KeysError {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

#[cfg(test)]
mod tests;
