//! `keyward keys`: makes, lists, rotates and revokes the keys of the embedded store.
//!
//! Enters: parsed arguments and the store's place, which the caller has read from the configuration. Leaves: text for
//! a person, or one line of JSON for a program.
//!
//! Invariant: a key's text is written once, to `out`, by `create` and `rotate`; never into an error, even if somebody
//! pastes a key where an id belongs.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::config::AdminSpec;
use crate::key_service::token_digest;
use crate::keys::{
    CreatedKey, ImportError, Imported, InvalidKey, KeyFilter, KeyId, KeyOptions, KeyPage, KeyPrefix, KeyRecord,
    KeySecret, KeyStatus, NewKey, NotAKeyId, Peppers, Reason, Revocation, Rotation, Store, StoreError, StorePlace,
    SystemRandom, looks_valid, read_import, rfc3339,
};

mod args;
mod purge;
mod remote;
mod show;

pub use args::{
    CreateArgs, IdArgs, ImportArgs, KeysCommand, ListArgs, PeppersArgs, PruneArgs, PurgeArgs, RemoteArgs, RevokeArgs,
    RotateArgs, Status, TokenArgs,
};
use remote::Remote;

/// The store of the configuration, and the moment.
pub struct Target<'a> {
    pub place: &'a StorePlace,
    pub prefix: &'a KeyPrefix,
    pub peppers: &'a Peppers,
    pub now: SystemTime,
}

impl Target<'_> {
    fn open(&self) -> Result<Store, StoreError> {
        Store::open_existing(self.place, self.peppers.clone())
    }
}

/// Whose keys are meant.
enum Source<'a> {
    Store(&'a Target<'a>),
    Service(Box<Remote>),
}

impl Source<'_> {
    fn create(&self, new: &NewKey) -> Result<CreatedKey, KeysError> {
        match self {
            Self::Store(at) => {
                let mut store = Store::open(at.place, at.peppers.clone())?;
                Ok(store.create(new, at.prefix, at.now, &mut SystemRandom)?)
            }
            Self::Service(remote) => remote.create(new).map_err(KeysError::Service),
        }
    }

    fn page(&self, filter: &KeyFilter, after: Option<&KeyId>, count: usize) -> Result<KeyPage, KeysError> {
        match self {
            Self::Store(at) => Ok(at.open()?.page(filter, after, count)?),
            Self::Service(remote) => remote.page(filter, after, count).map_err(KeysError::Service),
        }
    }

    fn get(&self, id: &KeyId) -> Result<Option<KeyRecord>, KeysError> {
        match self {
            Self::Store(at) => Ok(at.open()?.get(id)?),
            Self::Service(remote) => remote.get(id).map_err(KeysError::Service),
        }
    }

    fn rotate(&self, id: &KeyId, grace: Duration) -> Result<Rotation, KeysError> {
        match self {
            Self::Store(at) => Ok(at.open()?.rotate(id, at.prefix, grace, at.now, &mut SystemRandom)?),
            Self::Service(remote) => remote.rotate(id, grace).map_err(KeysError::Service),
        }
    }

    fn revoke(&self, id: &KeyId, reason: Option<&Reason>) -> Result<Revocation, KeysError> {
        match self {
            Self::Store(at) => Ok(at.open()?.revoke(id, reason, at.now)?),
            Self::Service(remote) => remote.revoke(id, reason).map_err(KeysError::Service),
        }
    }

    fn import(&self, list: &Path, now: SystemTime) -> Result<Imported, KeysError> {
        match self {
            Self::Store(at) => {
                let file = File::open(list).map_err(ImportError::Read)?;
                let keys = read_import(&mut BufReader::new(file), now)?;
                Ok(Store::open(at.place, at.peppers.clone())?.import(&keys, now)?)
            }
            Self::Service(remote) => remote.import(list, now),
        }
    }

    fn unknown(&self, id: KeyId) -> KeysError {
        let store = match self {
            Self::Store(at) => at.place.to_string(),
            Self::Service(remote) => remote.url().to_owned(),
        };
        KeysError::Unknown { id, store }
    }
}

/// Does what `command` says on the store of a key service, and writes the answer to `out`.
pub fn run_remote(
    command: &KeysCommand,
    remote: &RemoteArgs,
    now: SystemTime,
    out: &mut dyn Write,
) -> Result<(), KeysError> {
    let source = Source::Service(Box::new(Remote::service(remote).map_err(KeysError::Service)?));
    match command {
        KeysCommand::Create(args) => create(args, &source, now, out),
        KeysCommand::List(args) => list(args, &source, now, out),
        KeysCommand::Show(args) => show(args, &source, now, out),
        KeysCommand::Rotate(args) => rotate(args, &source, out),
        KeysCommand::Revoke(args) => revoke(args, &source, out),
        KeysCommand::Import(args) => import(args, &source, now, out),
        // Their arguments name no key service.
        KeysCommand::Prune(_) | KeysCommand::Peppers(_) | KeysCommand::Purge(_) | KeysCommand::Token(_) => {
            Err(KeysError::Service("a key service cannot be asked for this".to_owned()))
        }
    }
}

/// Does what `command` says on the store, and writes the answer to `out`. Only `create` and `import` make a store
/// where there is none.
pub fn run(
    command: &KeysCommand,
    target: &Target<'_>,
    admin: Option<&AdminSpec>,
    out: &mut dyn Write,
) -> Result<(), KeysError> {
    let source = Source::Store(target);
    match command {
        KeysCommand::Create(args) => create(args, &source, target.now, out),
        KeysCommand::List(args) => list(args, &source, target.now, out),
        KeysCommand::Show(args) => show(args, &source, target.now, out),
        KeysCommand::Rotate(args) => rotate(args, &source, out),
        KeysCommand::Revoke(args) => revoke(args, &source, out),
        KeysCommand::Import(args) => import(args, &source, target.now, out),
        KeysCommand::Prune(args) => prune(args, target, out),
        KeysCommand::Peppers(args) => peppers(args, target, out),
        KeysCommand::Purge(args) => purge(args, admin, out),
        KeysCommand::Token(args) => token(args, out),
    }
}

fn create(args: &CreateArgs, source: &Source<'_>, now: SystemTime, out: &mut dyn Write) -> Result<(), KeysError> {
    let expires_on = args.expires.map(|lives| now.checked_add(lives).ok_or(InvalidKey::Expiry)).transpose()?;
    let mut metadata = BTreeMap::new();
    for (name, value) in &args.meta {
        if metadata.insert(name.clone(), value.clone()).is_some() {
            return Err(KeysError::RepeatedMeta(name.clone()));
        }
    }
    let options = KeyOptions {
        expires_on,
        metadata,
        allow_from: args.allow_from.clone(),
        limit: args.limit,
        created_by: args.created_by.clone(),
        api_ids: Vec::new(),
    };
    let new =
        NewKey::new(&args.name, args.org_code.as_deref(), args.user_id.as_deref(), &args.scopes)?.with(options, now)?;
    let key = source.create(&new)?;
    let shown = if args.common.json { show::secret_json(&key, out) } else { show::created(&key, &new, out) };
    // Flushed here: only whoever knows the id can tell what to do about a key that nobody has seen.
    shown.and_then(|()| out.flush()).map_err(|source| KeysError::Unseen { id: key.id, source })
}

fn list(args: &ListArgs, source: &Source<'_>, now: SystemTime, out: &mut dyn Write) -> Result<(), KeysError> {
    let status = args.status.map(|status| match status {
        Status::Active => KeyStatus::Active,
        Status::Revoked => KeyStatus::Revoked,
        Status::Expired => KeyStatus::Expired,
    });
    let filter = KeyFilter {
        org_code: args.org_code.clone(),
        user_id: args.user_id.clone(),
        name_prefix: args.name_prefix.clone(),
        kind: None,
        status: status.map(|status| (status, now)),
    };
    let after = args.after.as_deref().map(KeyId::parse).transpose()?;
    let page = source.page(&filter, after.as_ref(), args.count as usize)?;
    if args.common.json {
        show::list_json(&page.keys, now, out)?;
    } else {
        let is_filtered = filter != KeyFilter::default() || after.is_some();
        show::list(&page.keys, is_filtered, now, out)?;
        if let Some(next) = page.next {
            writeln!(out, "There are more: --after {next}")?;
        }
    }
    Ok(out.flush()?)
}

fn show(args: &IdArgs, source: &Source<'_>, now: SystemTime, out: &mut dyn Write) -> Result<(), KeysError> {
    let id = KeyId::parse(&args.id)?;
    let record = source.get(&id)?.ok_or_else(|| source.unknown(id))?;
    if args.common.json { show::record_json(&record, now, out) } else { show::record(&record, now, out) }?;
    Ok(out.flush()?)
}

fn rotate(args: &RotateArgs, source: &Source<'_>, out: &mut dyn Write) -> Result<(), KeysError> {
    let id = KeyId::parse(&args.id)?;
    let grace = args.grace.unwrap_or(Duration::ZERO);
    let (key, grace_until) = match source.rotate(&id, grace)? {
        Rotation::Rotated { key, grace_until } => (key, grace_until),
        Rotation::NotFound => return Err(source.unknown(id)),
        Rotation::Revoked { on } => return Err(KeysError::Over { id, what: "was revoked", on }),
        Rotation::Expired { on } => return Err(KeysError::Over { id, what: "has expired", on }),
        Rotation::TooMany => return Err(KeysError::TooManyRotations(id)),
    };
    let shown = if args.common.json { show::secret_json(&key, out) } else { show::rotated(&key, grace_until, out) };
    shown.and_then(|()| out.flush()).map_err(|source| KeysError::Unseen { id: key.id, source })
}

fn revoke(args: &RevokeArgs, source: &Source<'_>, out: &mut dyn Write) -> Result<(), KeysError> {
    let id = KeyId::parse(&args.id)?;
    let reason = args.reason.as_deref().map(Reason::new).transpose()?;
    let (on, already) = match source.revoke(&id, reason.as_ref())? {
        Revocation::Revoked { on } => (on, false),
        Revocation::AlreadyRevoked { on } => (on, true),
        Revocation::NotFound => return Err(source.unknown(id)),
    };
    if args.common.json { show::revoked_json(&id, on, already, out) } else { show::revoked(&id, on, already, out) }?;
    Ok(out.flush()?)
}

fn import(args: &ImportArgs, source: &Source<'_>, now: SystemTime, out: &mut dyn Write) -> Result<(), KeysError> {
    let imported = source.import(&args.file, now)?;
    let counts = [("added", imported.added as u64), ("known", imported.known as u64)];
    if args.common.json {
        show::counts_json(&counts, out)?;
    } else {
        writeln!(out, "Imported {} keys; {} were there already and stayed as they were.", counts[0].1, counts[1].1)?;
    }
    Ok(out.flush()?)
}

fn prune(args: &PruneArgs, target: &Target<'_>, out: &mut dyn Write) -> Result<(), KeysError> {
    // Longer ago than time has been: nothing.
    let before = target.now.checked_sub(args.older_than).unwrap_or(SystemTime::UNIX_EPOCH).max(SystemTime::UNIX_EPOCH);
    let deleted = target.open()?.delete_old(before)?;
    if args.common.json {
        show::counts_json(&[("deleted", deleted)], out)?;
    } else {
        writeln!(out, "Deleted the records of {deleted} keys.")?;
    }
    Ok(out.flush()?)
}

fn peppers(args: &PeppersArgs, target: &Target<'_>, out: &mut dyn Write) -> Result<(), KeysError> {
    let counts = target.open()?.count_schemes()?;
    if args.common.json { show::schemes_json(&counts, out) } else { show::schemes(&counts, out) }?;
    Ok(out.flush()?)
}

/// Makes a token for the key service. Needs no store, and writes nothing: the configuration says who has it.
pub fn token(args: &TokenArgs, out: &mut dyn Write) -> Result<(), KeysError> {
    let prefix = KeyPrefix::new("kw_token").map_err(|error| KeysError::Service(error.to_string()))?;
    let token =
        KeySecret::generate(&prefix, &mut SystemRandom).map_err(|error| KeysError::Service(error.to_string()))?;
    let digest = token_digest(token.expose());
    if args.json {
        writeln!(out, r#"{{"token": "{}", "sha256": "{digest}"}}"#, token.expose())?;
    } else {
        writeln!(out, "token   {}", token.expose())?;
        writeln!(out, "sha256  {digest}")?;
        writeln!(out)?;
        writeln!(out, "Give the token to its user. In `keys.serve.tokens` name either a file that holds it,")?;
        writeln!(out, "or its SHA-256, which is no secret.")?;
    }
    Ok(out.flush()?)
}

/// Needs no store: the keys may live elsewhere.
pub fn purge(args: &PurgeArgs, admin: Option<&AdminSpec>, out: &mut dyn Write) -> Result<(), KeysError> {
    // Nobody's id: it would be sent about, and nothing would be purged.
    if args.what.key_id.as_deref().is_some_and(looks_valid) {
        return Err(KeysError::NotAKeyId);
    }
    match (&args.admin.url, admin) {
        (Some(_), _) => Remote::admin(&args.admin).and_then(|remote| remote.purge(&args.what)),
        (None, Some(admin)) => purge::purge(&args.what, admin),
        (None, None) => Err("the configuration has no `admin` to ask".to_owned()),
    }
    .map_err(KeysError::Purge)?;
    if args.common.json { writeln!(out, r#"{{"purged": true}}"#) } else { writeln!(out, "Purged.") }?;
    Ok(out.flush()?)
}

/// Why a command on keys failed.
#[derive(Debug)]
pub enum KeysError {
    /// The key that was asked for cannot be made.
    Invalid(InvalidKey),
    /// Two values for one name: one of them would be lost.
    RepeatedMeta(String),
    /// What was given as an id is none.
    NotAKeyId,
    /// The store has no key of this id.
    Unknown { id: KeyId, store: String },
    /// The key is revoked or expired, so it gets no other text.
    Over { id: KeyId, what: &'static str, on: SystemTime },
    /// Too many texts of the key are in their grace time.
    TooManyRotations(KeyId),
    /// Nothing was imported.
    Import(ImportError),
    /// The proxy did not purge, and why.
    Purge(String),
    /// The store failed.
    Store(StoreError),
    /// The key service did not do it, and why; or there was no way to ask.
    Service(String),
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
            Self::RepeatedMeta(name) => write!(f, "metadata has two values for `{name}`"),
            Self::NotAKeyId => write!(f, "{NotAKeyId}; `keyward keys list` shows the ids"),
            Self::Unknown { id, store } => {
                write!(f, "the key store {store} has no key {id}; `keyward keys list` shows the ids")
            }
            Self::Over { id, what, on } => {
                write!(f, "the key {id} {what} on {}; make another with `keyward keys create`", rfc3339(*on))
            }
            Self::TooManyRotations(id) => write!(
                f,
                "too many former texts of the key {id} are in their grace time; a rotation without --grace ends them"
            ),
            Self::Import(error) => error.fmt(f),
            Self::Purge(why) | Self::Service(why) => f.write_str(why),
            Self::Store(error) => error.fmt(f),
            Self::Output(error) => write!(f, "cannot write the answer: {error}"),
            Self::Unseen { id, source } => write!(
                f,
                "the key {id} was made, but could not be shown ({source}) and never will be; \
                 rotate it, or revoke it and make another"
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

impl From<ImportError> for KeysError {
    fn from(error: ImportError) -> Self {
        Self::Import(error)
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
