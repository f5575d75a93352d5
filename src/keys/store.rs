//! The store: keys are created, imported, listed, found by digest, rotated and revoked.
//!
//! Enters: checked values, the moment, randomness, presented keys. Leaves: records; and the secret of a new key, once.
//!
//! Invariants: a change is durable when its call returns `Ok`. A key's text is never part of a statement. What the
//! configured peppers cannot tell is an error, never an unknown key.

use std::time::{Duration, SystemTime};

use super::digest::Digest;
use super::engine::{Added, Engine, NewRow, Restated, RotateOutcome, RotateRow, UseRow};
use super::error::{Fault, StoreError};
use super::file;
use super::format::{KeyPrefix, KeySecret};
use super::import::{ImportError, Imported, ImportedKey};
use super::instant::{from_millis, to_millis};
use super::new::{NewKey, Reason};
use super::pepper::{Candidates, Peppers, Scheme};
use super::place::StorePlace;
use super::postgres::Postgres;
use super::random::Random;
use super::record::{KeyId, KeyKind, KeyRecord, KeyStatus};
use super::sql;
use super::sqlite::Sqlite;
use super::watch::ChangeWatch;

/// How many texts may open one key: the present one, and former ones in their grace time.
const MAX_SECRETS: i64 = 8;

/// The longest grace time of a rotation.
pub const MAX_GRACE: Duration = Duration::from_secs(365 * 86_400);

/// What a text opens, or why that cannot be told; `None` while nothing was found.
type Answer = Option<Result<FoundKey, Fault>>;

fn is_open(answers: &[Answer]) -> bool {
    answers.iter().any(Option::is_none)
}

/// An open key store. Every call blocks on the database.
#[derive(Debug)]
pub struct Store {
    engine: Box<dyn Engine>,
    peppers: Peppers,
}

/// A new key, or a new text of one: the only time that its secret is known.
#[derive(Debug)]
pub struct CreatedKey {
    /// By which it is listed and revoked.
    pub id: KeyId,
    /// To be shown to its owner, now or never.
    pub secret: KeySecret,
}

/// What a presented text opens, usable or not.
#[derive(Clone, Debug)]
pub struct FoundKey {
    /// The key.
    pub record: KeyRecord,
    /// Until when this text opens it, where it is a former one.
    pub valid_until: Option<SystemTime>,
    /// How its digest is to be replaced, where it is not under the present pepper.
    pub restated: Option<Restated>,
}

impl FoundKey {
    /// The moment from which this text is refused, whichever reason comes first.
    pub fn expires_on(&self) -> Option<SystemTime> {
        self.record.expires_on.into_iter().chain(self.valid_until).min()
    }

    /// Whether this text opens anything at `now`.
    pub fn is_usable(&self, now: SystemTime) -> bool {
        self.record.is_usable(now) && self.valid_until.is_none_or(|until| now < until)
    }
}

/// Which keys a list shows. The default is all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyFilter {
    pub org_code: Option<String>,
    pub user_id: Option<String>,
    /// How the name begins, letter for letter.
    pub name_prefix: Option<String>,
    /// Whom the key speaks for.
    pub kind: Option<KeyKind>,
    /// What the key is at a moment.
    pub status: Option<(KeyStatus, SystemTime)>,
}

/// A part of a list.
#[derive(Clone, Debug)]
pub struct KeyPage {
    /// In the order of their ids: for keys that were made here that of their creation.
    pub keys: Vec<KeyRecord>,
    /// Where the next part begins, if there is one: behind this key, whether or not it is still there then.
    pub next: Option<KeyId>,
}

/// What became of a rotation.
#[derive(Debug)]
pub enum Rotation {
    /// The new text, and until when the former ones open the key; `None` when they do no longer.
    Rotated { key: CreatedKey, grace_until: Option<SystemTime> },
    /// A revoked key has no other text.
    Revoked { on: SystemTime },
    /// Nor has one whose own time is over.
    Expired { on: SystemTime },
    /// Too many former texts are in their grace time; nothing changed. A rotation without grace ends them all.
    TooMany,
    /// There is no such key.
    NotFound,
}

/// What became of a revocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// The key is refused from now on.
    Revoked { on: SystemTime },
    /// It was refused already; nothing changed, neither the moment nor the reason of the first revocation.
    AlreadyRevoked { on: SystemTime },
    /// There is no such key.
    NotFound,
}

/// How many keys are stored under a scheme.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemeCount {
    pub scheme: Scheme,
    pub keys: u64,
    /// What the configured peppers make of it.
    pub standing: Standing,
}

/// What the configured peppers make of a scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// That of new keys.
    Current,
    /// Another one; its keys move to the current one as they are used.
    Former,
    /// Its pepper is not configured.
    Unknown,
}

impl Store {
    /// Opens the store at `place`, and makes it if there is none. A new file is private to its owner.
    pub fn open(place: impl Into<StorePlace>, peppers: Peppers) -> Result<Self, StoreError> {
        Self::open_at(&place.into(), peppers, true)
    }

    /// Opens the store at `place`, which must exist: looking must not leave an empty store behind.
    pub fn open_existing(place: impl Into<StorePlace>, peppers: Peppers) -> Result<Self, StoreError> {
        Self::open_at(&place.into(), peppers, false)
    }

    fn open_at(place: &StorePlace, peppers: Peppers, may_create: bool) -> Result<Self, StoreError> {
        let opened: Result<Box<dyn Engine>, Fault> = match place {
            StorePlace::File(path) if may_create => {
                Sqlite::open(path, file::create_private).map(|engine| Box::new(engine) as _)
            }
            StorePlace::File(path) => Sqlite::open(path, |_| Ok(())).map(|engine| Box::new(engine) as _),
            StorePlace::Postgres(spec) => Postgres::open(spec, may_create).map(|engine| Box::new(engine) as _),
        };
        let engine = opened.map_err(|fault| StoreError::new("open", place.to_string(), fault))?;
        Ok(Self { engine, peppers })
    }

    /// Which database it is, for messages.
    pub fn place(&self) -> String {
        self.engine.place()
    }

    /// Fails if there are keys under a pepper that is not configured: to go on would be to refuse them all, or, with a
    /// mistyped pepper, to make more keys under it. Called before anything is verified or made.
    pub fn check_peppers(&self) -> Result<(), StoreError> {
        self.expect_peppers().map_err(|fault| self.error("use", fault))
    }

    fn expect_peppers(&self) -> Result<(), Fault> {
        expect_known(&self.peppers, &self.engine.schemes()?)
    }

    /// Makes a key and stores what is to be known of it. The secret is returned and forgotten.
    pub fn create(
        &mut self,
        new: &NewKey,
        prefix: &KeyPrefix,
        now: SystemTime,
        random: &mut dyn Random,
    ) -> Result<CreatedKey, StoreError> {
        let mut create = || {
            let created_on = to_millis(now).ok_or(Fault::Clock)?;
            let id = KeyId::generate(created_on.unsigned_abs(), random)?;
            let secret = KeySecret::generate(prefix, random)?;
            let (scheme, digest) = self.peppers.digest(secret.expose());
            let (prefix, suffix) = (prefix.as_str(), secret.suffix());
            let row =
                NewRow { id: &id, new, scheme: &scheme, digest: &digest, former: &[], prefix, suffix, created_on };
            match self.engine.add(&[row], &|used| expect_known(&self.peppers, used))? {
                Added::Done(added) if added == [true] => Ok(CreatedKey { id, secret }),
                // A fresh id or a fresh secret that is there already: the randomness repeats itself.
                Added::Done(_) | Added::Conflict(_) => Err(Fault::Random(super::RandomError::Stuck)),
            }
        };
        create().map_err(|fault| self.error("create a key in", fault))
    }

    /// Adds keys that were made elsewhere, by the SHA-256 of their text: all of them or none. A key that is there
    /// already, by its id or by its digest in an earlier import, stays as it is.
    pub fn import(&mut self, keys: &[ImportedKey], now: SystemTime) -> Result<Imported, ImportError> {
        let mut import = || {
            let now = to_millis(now).ok_or(Fault::Clock)?;
            // Each hash under every pepper, the present one first.
            let digests: Vec<Vec<_>> = keys.iter().map(|key| self.peppers.imported(&key.digest).collect()).collect();
            let mut rows = Vec::with_capacity(keys.len());
            for (key, ((scheme, digest), former)) in keys.iter().zip(digests.iter().filter_map(|all| all.split_first()))
            {
                rows.push(NewRow {
                    id: &key.id,
                    new: &key.new,
                    scheme,
                    digest,
                    former,
                    prefix: &key.prefix,
                    suffix: &key.suffix,
                    created_on: key.created_on.map_or(Some(now), to_millis).ok_or(Fault::Clock)?,
                });
            }
            self.engine.add(&rows, &|used| expect_known(&self.peppers, used))
        };
        match import() {
            Ok(Added::Done(added)) => {
                let made = added.iter().filter(|&&is_new| is_new).count();
                Ok(Imported { added: made, known: added.len() - made })
            }
            Ok(Added::Conflict(index)) => Err(ImportError::conflict(keys.get(index).map_or(0, |key| key.line))),
            Err(fault) => Err(ImportError::Store(self.error("import keys into", fault))),
        }
    }

    /// Gives a key another text. Former ones open it until `now + grace`, those of earlier rotations no longer than
    /// they were said to. Id, limits and counts stay.
    pub fn rotate(
        &mut self,
        id: &KeyId,
        prefix: &KeyPrefix,
        grace: Duration,
        now: SystemTime,
        random: &mut dyn Random,
    ) -> Result<Rotation, StoreError> {
        let mut rotate = || {
            self.expect_peppers()?;
            let until = now.checked_add(grace.min(MAX_GRACE)).and_then(to_millis).ok_or(Fault::Clock)?;
            let now = to_millis(now).ok_or(Fault::Clock)?;
            let secret = KeySecret::generate(prefix, random)?;
            let (scheme, digest) = self.peppers.digest(secret.expose());
            let outcome = self.engine.rotate(&RotateRow {
                id,
                scheme: &scheme,
                digest: &digest,
                prefix: prefix.as_str(),
                suffix: secret.suffix(),
                now,
                until,
                max_secrets: MAX_SECRETS,
            })?;
            Ok(match outcome {
                RotateOutcome::Done => Rotation::Rotated {
                    key: CreatedKey { id: id.clone(), secret },
                    grace_until: from_millis(until).filter(|_| until > now),
                },
                RotateOutcome::NotFound => Rotation::NotFound,
                RotateOutcome::TooManySecrets => Rotation::TooMany,
                RotateOutcome::Over(record) => match (record.revoked_on, record.expires_on) {
                    (Some(on), _) => Rotation::Revoked { on },
                    (None, Some(on)) => Rotation::Expired { on },
                    (None, None) => Rotation::NotFound,
                },
            })
        };
        rotate().map_err(|fault| self.error("rotate a key in", fault))
    }

    /// Takes a key back, for good, with all its texts.
    pub fn revoke(&mut self, id: &KeyId, reason: Option<&Reason>, now: SystemTime) -> Result<Revocation, StoreError> {
        let mut revoke = || {
            let now = to_millis(now).ok_or(Fault::Clock)?;
            let (changed, record) = self.engine.revoke(id, now, reason.map(Reason::as_str))?;
            Ok(match record.and_then(|record| record.revoked_on) {
                None => Revocation::NotFound,
                Some(on) if changed => Revocation::Revoked { on },
                Some(on) => Revocation::AlreadyRevoked { on },
            })
        };
        revoke().map_err(|fault| self.error("revoke a key in", fault))
    }

    /// Deletes the keys that were revoked or have expired by `before`, and says how many. What is deleted is unknown
    /// from then on: it can be neither listed nor explained.
    pub fn delete_old(&mut self, before: SystemTime) -> Result<u64, StoreError> {
        let mut delete = || self.engine.delete_old(to_millis(before).ok_or(Fault::Clock)?);
        delete().map_err(|fault| self.error("delete keys from", fault))
    }

    /// A part of the keys that `filter` names, behind `after`, at most `count` of them.
    pub fn page(&self, filter: &KeyFilter, after: Option<&KeyId>, count: usize) -> Result<KeyPage, StoreError> {
        let (statement, values) = sql::page(filter, after, count.saturating_add(1));
        let read = self.engine.page(&statement, &values);
        let mut keys = read.map_err(|fault| self.error("list the keys of", fault))?;
        let has_more = keys.len() > count;
        keys.truncate(count);
        let next = keys.last().map(|last| last.id.clone()).filter(|_| has_more);
        Ok(KeyPage { keys, next })
    }

    /// The key with this id.
    pub fn get(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
        self.engine.get(id).map_err(|fault| self.error("read a key from", fault))
    }

    /// What a presented key may be stored as; needs no database, so it can be computed anywhere.
    pub fn peppers(&self) -> &Peppers {
        &self.peppers
    }

    /// The key that a presented text opens, usable or not: one indexed read for a key under the present scheme, a few
    /// more for any other.
    pub fn find(&self, candidates: &Candidates) -> Result<Option<FoundKey>, StoreError> {
        self.find_all(&[candidates])?.pop().unwrap_or(Ok(None))
    }

    /// As [`find`](Self::find), for several texts, of each of which the answer may be that it cannot be told. With a
    /// database that is elsewhere they take no more journeys than one.
    pub fn find_all(&self, wanted: &[&Candidates]) -> Result<Vec<Result<Option<FoundKey>, StoreError>>, StoreError> {
        let error = |fault| self.error("read a key from", fault);
        let answers = self.look_up(wanted).map_err(error)?;
        Ok(answers.into_iter().map(|answer| answer.transpose().map_err(error)).collect())
    }

    fn look_up(&self, wanted: &[&Candidates]) -> Result<Vec<Answer>, Fault> {
        let mut answers: Vec<Answer> = wanted.iter().map(|_| None).collect();
        self.probe(wanted, &mut answers, |candidates| candidates.current().into_iter().collect())?;
        if is_open(&answers)
            && let Err(fault) = self.look_further(wanted, &mut answers)
        {
            // What was found is found: a text that opens nothing must not lock out those who came with it.
            for open in answers.iter_mut().filter(|answer| answer.is_none()) {
                *open = Some(Err(fault.clone()));
            }
        }
        Ok(answers)
    }

    /// Looks for what is stored otherwise than new keys are.
    fn look_further(&self, wanted: &[&Candidates], answers: &mut [Answer]) -> Result<(), Fault> {
        let schemes = self.engine.schemes()?;
        self.probe(wanted, answers, |candidates| {
            let former = candidates.iter().skip(1).filter(|(scheme, _)| schemes.contains(scheme));
            let imported = candidates.current_imported().filter(|_| schemes.iter().any(Scheme::is_imported));
            // The present ones last again: another process may move a digest there between two reads, and a key
            // that is on its way must not be an unknown one.
            former.chain(candidates.current()).chain(imported).collect()
        })?;
        if is_open(answers) {
            // It may be one of those that another process has stored under a pepper of its own.
            self.expect_peppers()?;
        }
        Ok(())
    }

    /// Reads those candidates of `wanted` that `which` chooses, where there is no answer yet. The first found is it.
    fn probe<'a>(
        &self,
        wanted: &[&'a Candidates],
        answers: &mut [Answer],
        which: impl Fn(&'a Candidates) -> Vec<&'a (Scheme, Digest)>,
    ) -> Result<(), Fault> {
        let open = wanted.iter().enumerate().filter(|(at, _)| answers.get(*at).is_some_and(Option::is_none));
        let asked: Vec<(usize, &(Scheme, Digest))> =
            open.flat_map(|(at, &candidates)| which(candidates).into_iter().map(move |one| (at, one))).collect();
        let found = self.engine.find(&asked.iter().map(|(_, one)| *one).collect::<Vec<_>>())?;
        for ((at, (scheme, digest)), found) in asked.into_iter().zip(found) {
            let (Some(candidates), Some(answer @ None)) = (wanted.get(at), answers.get_mut(at)) else { continue };
            *answer = found.transpose().map(|found| {
                let (record, valid_until) = found?;
                // An imported key stays an imported one.
                let present = if scheme.is_imported() { candidates.current_imported() } else { candidates.current() };
                let to = present.filter(|(present, _)| present != scheme);
                Ok(FoundKey { record, valid_until, restated: to.map(|to| Restated { from: *digest, to: to.clone() }) })
            });
        }
        Ok(())
    }

    /// Whether keys are stored by the plain SHA-256 of a text that was made elsewhere, which can have any form.
    pub fn has_imported(&self) -> Result<bool, StoreError> {
        let schemes = self.engine.schemes().map_err(|fault| self.error("read", fault))?;
        Ok(schemes.iter().any(Scheme::is_imported))
    }

    /// Writes what keys were used for; wakes no watch.
    pub fn note_uses(&mut self, uses: &[UseRow]) -> Result<(), StoreError> {
        if uses.is_empty() {
            return Ok(());
        }
        self.engine.note_uses(uses).map_err(|fault| self.error("note the use of keys in", fault))
    }

    /// How many keys hang on which pepper. Reads an index of all keys.
    pub fn count_schemes(&self) -> Result<Vec<SchemeCount>, StoreError> {
        let counts = self.engine.count_schemes().map_err(|fault| self.error("count the keys of", fault))?;
        let standing = |scheme: &Scheme| {
            if self.peppers.is_present(scheme) {
                Standing::Current
            } else if self.peppers.knows(scheme) {
                Standing::Former
            } else {
                Standing::Unknown
            }
        };
        let counts = counts.into_iter();
        Ok(counts.map(|(scheme, keys)| SchemeCount { standing: standing(&scheme), scheme, keys }).collect())
    }

    /// Watches this store for changes, by anybody, from now on. Start to watch before reading what a change shall undo.
    pub fn watch(&self) -> Result<ChangeWatch, StoreError> {
        let watch = self.engine.watch().map_err(|fault| self.error("watch", fault))?;
        Ok(ChangeWatch::new(self.place(), watch))
    }

    fn error(&self, doing: &'static str, fault: Fault) -> StoreError {
        StoreError::new(doing, self.place(), fault)
    }
}

fn expect_known(peppers: &Peppers, schemes: &[Scheme]) -> Result<(), Fault> {
    match schemes.iter().find(|scheme| !peppers.knows(scheme)) {
        Some(scheme) => Err(Fault::UnknownPepper(scheme.clone())),
        None => Ok(()),
    }
}

#[cfg(test)]
impl Store {
    /// All keys.
    pub(crate) fn list(&self) -> Result<Vec<KeyRecord>, StoreError> {
        self.page(&KeyFilter::default(), None, usize::MAX - 1).map(|page| page.keys)
    }

    /// What `key` opens.
    pub(crate) fn find_key(&self, key: &str) -> Result<Option<FoundKey>, StoreError> {
        self.find(&self.peppers.candidates(key))
    }
}

#[cfg(test)]
mod tests;
