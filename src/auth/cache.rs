//! Verified keys, remembered for a while.
//!
//! Enters: digests, answers, moments. Leaves: what is known about a key, and whether it should be asked about again.
//! Pure: no verifier, no clock, no randomness but the secret of its digests.
//!
//! Invariants: bounded by entries; no entry outlives its key's own expiry; a purge leaves nothing behind, not even
//! from a verification that was under way.

use std::cell::{Cell, RefCell};
use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::BuildHasher;
use std::ops::Add;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use quick_cache::sync::Cache;
use sha2::Sha256;

use super::chance::Chance;
use super::{KeyText, VerifierError};
use crate::policy::Principal;
use crate::time::Now;

/// The cache's bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheSpec {
    /// How long a valid key is believed.
    pub ttl: Duration,
    /// How long an invalid key is remembered as such.
    pub negative_ttl: Duration,
    pub max_entries: usize,
    /// Whether a key in use is verified again before its time is over.
    pub refresh_ahead: bool,
    /// How much longer a valid key is believed while the verifier cannot answer.
    pub stale_if_error: Duration,
}

/// A key's digest under a secret of this process: useless elsewhere. Half of the HMAC is enough (RFC 2104 section 5):
/// nobody can compute it, so nobody can look for another text that has the same.
pub(super) type CacheKey = [u8; 16];

/// What a verifier said about a key.
#[derive(Clone, Debug)]
pub(super) enum Found {
    Valid(Arc<Principal>),
    Invalid,
}

/// What is known about a key.
#[derive(Clone, Debug)]
pub(super) enum Lookup {
    /// An answer to give at once.
    Fresh {
        found: Found,
        refresh: bool,
    },
    /// Known good until lately, and the verifier has just failed to answer: good enough without waiting for it.
    Stale {
        principal: Arc<Principal>,
        refresh: bool,
    },
    /// Known good until lately: good enough if the verifier cannot answer.
    Doubtful,
    Unknown,
}

/// What is kept of a key's last characters, which Kinde shows of every key: enough to see that the key behind an id
/// has become another one. Useless outside of this process, as is the digest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tail(u32);

/// How many characters Kinde shows of a key's end.
const TAIL: usize = 4;

/// The purges that had happened when a verification began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp(u64);

#[derive(Clone)]
struct Entry {
    found: Found,
    tail: Tail,
    /// The verifier could not answer when it was last asked, [`RETRY_AFTER_FAILURE`] before `refresh_from`.
    failed: bool,
    /// Believed without asking.
    fresh_until: Moment,
    /// Asked about again in the background from here on. Moves on with every failure.
    refresh_from: Moment,
}

/// A monotonic moment, in nanoseconds since the cache was first used: half the size of an `Instant`, of which every
/// entry has two.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Moment(u64);

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// How long to leave a verifier alone that failed to answer about a key that is known good.
const RETRY_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// How long a failure excuses requests with a key that is known good from waiting for the next one. Longer than any
/// verification may take, or a verifier that hangs would be waited for again and again.
const AWAY_AFTER_FAILURE: Duration = Duration::from_secs(70);

pub(super) struct KeyCache {
    entries: Cache<CacheKey, Entry>,
    /// Counts purges, and is the lock of every write: an answer is written either before a purge, which removes it,
    /// or after it, which its stamp shows. Held for a write, or for one walk over the entries.
    purges: Mutex<u64>,
    /// When it was first used.
    began: OnceLock<Instant>,
    mac: Hmac<Sha256>,
    tails: RandomState,
    spec: CacheSpec,
}

/// Which keys a purge forgets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purge {
    All,
    KeyId(String),
    Organization(String),
}

/// What a list of active keys made the cache forget.
#[derive(Debug)]
pub(super) struct Inactive {
    pub(super) revoked: u64,
    /// Ids of keys of which another end was listed.
    pub(super) rotated: Vec<Arc<str>>,
}

impl KeyCache {
    pub(super) fn new(spec: &CacheSpec) -> Result<Self, VerifierError> {
        let mut secret = [0_u8; 32];
        getrandom::fill(&mut secret).map_err(|error| VerifierError::new(format!("no randomness: {error}")))?;
        let mac = Hmac::new_from_slice(&secret).map_err(|error| VerifierError::new(error.to_string()))?;
        Ok(Self {
            entries: Cache::new(spec.max_entries),
            purges: Mutex::new(0),
            began: OnceLock::new(),
            mac,
            tails: RandomState::new(),
            spec: spec.clone(),
        })
    }

    pub(super) fn digest(&self, key: &KeyText) -> CacheKey {
        let mut mac = self.mac.clone();
        mac.update(key.expose().as_bytes());
        let mut digest = CacheKey::default();
        digest.iter_mut().zip(mac.finalize().into_bytes()).for_each(|(ours, byte)| *ours = byte);
        digest
    }

    fn moment(&self, at: Instant) -> Moment {
        let began = *self.began.get_or_init(|| at);
        Moment(0) + at.saturating_duration_since(began)
    }

    /// Of a whole key, or of its end alone; `None` for less than Kinde shows.
    pub(super) fn tail(&self, text: &str) -> Option<Tail> {
        let end = text.as_bytes().last_chunk::<TAIL>()?;
        Some(Tail(self.tails.hash_one(end) as u32))
    }

    /// Taken before a verification begins, given back with its result.
    pub(super) fn stamp(&self) -> Stamp {
        Stamp(*self.lock())
    }

    pub(super) fn look(&self, key: &CacheKey, now: Now) -> Lookup {
        let Some(entry) = self.entries.get(key) else { return Lookup::Unknown };
        let at = self.moment(now.monotonic);
        let refresh = entry.refresh_from <= at;
        match entry.found {
            // The verifier may know of a later expiry by now; until it is asked, the key's own word counts.
            Found::Valid(principal) if !principal.is_unexpired(now.wall) && at < entry.fresh_until => {
                Lookup::Fresh { found: Found::Invalid, refresh: false }
            }
            found if at < entry.fresh_until => Lookup::Fresh { found, refresh },
            Found::Valid(principal) if self.is_stale_usable(&entry, &principal, now) => {
                let away = entry.failed && at < entry.refresh_from + (AWAY_AFTER_FAILURE - RETRY_AFTER_FAILURE);
                if away { Lookup::Stale { principal, refresh } } else { Lookup::Doubtful }
            }
            Found::Valid(_) | Found::Invalid => Lookup::Unknown,
        }
    }

    /// The owner of a key that was good until lately, for when the verifier could not answer.
    pub(super) fn stale(&self, key: &CacheKey, now: Now) -> Option<Arc<Principal>> {
        let entry = self.entries.get(key)?;
        match &entry.found {
            Found::Valid(principal) if self.is_stale_usable(&entry, principal, now) => Some(Arc::clone(principal)),
            Found::Valid(_) | Found::Invalid => None,
        }
    }

    /// Whether a valid key is believed if asking fails.
    fn is_stale_usable(&self, entry: &Entry, principal: &Principal, now: Now) -> bool {
        self.moment(now.monotonic) < entry.fresh_until + self.spec.stale_if_error && principal.is_unexpired(now.wall)
    }

    /// Remembers a result, unless a purge has happened since `stamp`.
    pub(super) fn insert(&self, key: CacheKey, tail: Tail, found: Found, stamp: Stamp, now: Now, chance: Chance) {
        let purges = self.lock();
        if stamp != Stamp(*purges) {
            return;
        }
        let at = self.moment(now.monotonic);
        let entry = match &found {
            Found::Invalid => {
                let until = at + self.spec.negative_ttl;
                Entry { found, tail, failed: false, fresh_until: until, refresh_from: until }
            }
            Found::Valid(principal) => {
                let left = principal.expires.map(|expires| expires.duration_since(now.wall).unwrap_or_default());
                let ttl = left.map_or(self.spec.ttl, |left| left.min(self.spec.ttl));
                let known = self.entries.peek(&key).is_some_and(|entry| matches!(entry.found, Found::Valid(_)));
                let refresh_after = match (self.spec.refresh_ahead, known) {
                    (false, _) => ttl,
                    (true, true) => chance.near_the_end_of(ttl),
                    // Keys that were first seen together, as after a start, must not be asked about together ever
                    // after: the first refresh comes at any point.
                    (true, false) => chance.anywhere_in(ttl),
                };
                Entry { found, tail, failed: false, fresh_until: at + ttl, refresh_from: at + refresh_after }
            }
        };
        self.entries.insert(key, entry);
        drop(purges);
    }

    /// Notes that the verifier could not answer about this key. What is known of it stays as it was.
    pub(super) fn failed(&self, key: &CacheKey, now: Now) {
        let purges = self.lock();
        if let Some(entry) = self.entries.peek(key) {
            let refresh_from = self.moment(now.monotonic) + RETRY_AFTER_FAILURE;
            self.entries.insert(*key, Entry { refresh_from, failed: true, ..entry });
        }
        drop(purges);
    }

    /// Forgets what `purge` names. Whatever is being verified now will be verified again: whose key it is, is not
    /// known yet.
    pub(super) fn purge(&self, purge: &Purge) {
        let mut purges = self.lock();
        *purges += 1;
        match purge {
            Purge::All => self.entries.clear(),
            Purge::KeyId(id) => self.forget(|principal| &*principal.key_id == id),
            Purge::Organization(org) => self.forget(|principal| principal.org_code.as_deref() == Some(org)),
        }
    }

    /// The ids of all keys that are known good, before a list of active ones is read. What is being verified will be
    /// verified again: its answer may be older than the list.
    pub(super) fn ids_for_list(&self) -> HashSet<Arc<str>> {
        let mut purges = self.lock();
        *purges += 1;
        let valid = |entry: Entry| match entry.found {
            Found::Valid(principal) => Some(Arc::clone(&principal.key_id)),
            Found::Invalid => None,
        };
        self.entries.iter().filter_map(|(_, entry)| valid(entry)).collect()
    }

    /// Forgets of the `asked` keys those that are not `active`, and those whose end is another one now.
    pub(super) fn keep_active(&self, asked: &HashSet<Arc<str>>, active: &HashMap<Arc<str>, Option<Tail>>) -> Inactive {
        let _purges = self.lock();
        let (revoked, rotated) = (Cell::new(0), RefCell::new(Vec::new()));
        self.entries.retain(|_, entry| {
            let Found::Valid(principal) = &entry.found else { return true };
            if !asked.contains(&principal.key_id) {
                return true;
            }
            match active.get(&principal.key_id) {
                None => revoked.set(revoked.get() + 1),
                Some(Some(tail)) if *tail != entry.tail => rotated.borrow_mut().push(Arc::clone(&principal.key_id)),
                Some(_) => return true,
            }
            false
        });
        Inactive { revoked: revoked.get(), rotated: rotated.into_inner() }
    }

    /// When a key is asked about again.
    #[cfg(test)]
    pub(super) fn refresh_from(&self, key: &CacheKey) -> Option<Instant> {
        let began = *self.began.get()?;
        self.entries.peek(key).map(|entry| began + Duration::from_nanos(entry.refresh_from.0))
    }

    fn forget(&self, is_meant: impl Fn(&Principal) -> bool) {
        self.entries.retain(|_, entry| match &entry.found {
            Found::Valid(principal) => !is_meant(principal),
            Found::Invalid => true,
        });
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        self.purges.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for KeyCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyCache").field("entries", &self.entries.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
