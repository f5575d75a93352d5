//! Asking the embedded store about a key.
//!
//! The store blocks, so it lives on a thread of its own. That thread also watches the store: before every answer and
//! many times a second, so that a change made by anyone is seen long before a cache entry ends.
//!
//! A store that cannot be read answers nothing, and what was read from it before is forgotten.

mod opening;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use self::opening::{Opened, Opening};
use super::uses::{Counters, UseLog};
use super::{OnChange, VerifierError};
use crate::auth::KeyText;
use crate::keys::{
    Candidates, Change, ChangeWatch, FoundKey, KeyFilter, KeyPrefix, Peppers, Store, StoreError, StorePlace,
    looks_valid,
};
use crate::observe::Metrics;
use crate::policy::{KeyTerms, Limit, Principal, Rate, Subject, UseCounter};
use crate::time::Clock;

/// How often the store is looked at while nobody asks.
const WATCH_EVERY: Duration = Duration::from_millis(25);

/// Verifications that may wait. One takes some 20 µs with a file and a few journeys with PostgreSQL, so a full queue is
/// a flood, a stuck disk or a slow database.
pub(super) const QUEUE: usize = 1024;

/// Verifications that are read together, if so many wait: a database elsewhere is asked once for all of them.
const TOGETHER: usize = 64;

/// How long one may wait, in the queue and for its answer.
const PATIENCE: Duration = Duration::from_secs(5);

impl From<StoreError> for VerifierError {
    fn from(error: StoreError) -> Self {
        Self::new(error.to_string())
    }
}

/// A text of which is asked what it opens.
struct Job {
    candidates: Candidates,
    answer: oneshot::Sender<Result<Option<LookedUp>, VerifierError>>,
}

/// What a presented text opens, usable or not, and where its use is counted.
#[derive(Debug)]
pub struct LookedUp {
    pub found: FoundKey,
    pub uses: Option<Arc<UseCounter>>,
}

/// Verifies keys against the embedded store. Dropping it ends its thread.
pub struct StoreVerifier {
    jobs: SyncSender<Job>,
    prefix: KeyPrefix,
    peppers: Peppers,
    clock: Clock,
    on_change: OnChange,
    /// Whether the store has imported keys, whose texts can have any form. What was once said stays: a look that began
    /// before an import must not take it back.
    has_imported: Arc<AtomicBool>,
    uses: UseLog,
}

impl fmt::Debug for StoreVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreVerifier").field("peppers", &self.peppers).finish_non_exhaustive()
    }
}

impl StoreVerifier {
    /// Opens (and, the first time, makes) the store. `on_change` is called whenever what was read before may be wrong.
    pub fn start(
        place: &StorePlace,
        prefix: KeyPrefix,
        peppers: Peppers,
        clock: Clock,
        metrics: Arc<Metrics>,
        on_change: OnChange,
    ) -> Result<Self, VerifierError> {
        let store = Store::open(place, peppers.clone())?;
        if store.page(&KeyFilter::default(), None, 1)?.keys.is_empty() {
            tracing::warn!(%place, "the key store is empty: no key is valid until one is made");
        }
        store.check_peppers()?;
        let watch = store.watch()?;
        let has_imported = Arc::new(AtomicBool::new(store.has_imported()?));
        let uses = UseLog::start(place, peppers.clone(), clock.clone(), metrics)?;
        let (jobs, queue) = sync_channel(QUEUE);
        let keeper = Keeper {
            place: place.clone(),
            peppers: peppers.clone(),
            state: State::Open(store, watch),
            clock: clock.clone(),
            on_change: Arc::clone(&on_change),
            has_imported: Arc::clone(&has_imported),
            counters: uses.counters(),
        };
        thread::Builder::new()
            .name("key-store".to_owned())
            .spawn(move || keeper.run(&queue))
            .map_err(|error| VerifierError::new(format!("cannot start the key store's thread: {error}")))?;
        Ok(Self { jobs, prefix, peppers, clock, on_change, has_imported, uses })
    }

    /// Whether the text has the shape and the checksum of this store's keys, or may be an imported one: any text that
    /// does not begin as ours do, while there are imported keys. Costs no lookup.
    pub(in crate::auth) fn could_be_key(&self, key: &KeyText) -> bool {
        self.could_open(key.expose())
    }

    fn could_open(&self, text: &str) -> bool {
        looks_valid(text) || (self.has_imported.load(Ordering::Relaxed) && !self.prefix.begins(text))
    }

    /// To be called by whoever has changed the store in this process, before the change is acknowledged: the next request
    /// meets it. Changes by others are noticed.
    pub fn changed(&self) {
        (self.on_change)();
    }

    /// As [`changed`](Self::changed), where keys were imported: their texts can have any form from now on.
    pub fn imported(&self) {
        self.has_imported.store(true, Ordering::Relaxed);
        self.changed();
    }

    /// Writes what is only counted so far.
    pub(in crate::auth) async fn flush(&self) {
        self.uses.flush().await;
    }

    /// The key's owner, or `None` for a key that is unknown, revoked or expired.
    pub(super) async fn verify(&self, key: &KeyText) -> Result<Option<Principal>, VerifierError> {
        let known = self.ask(self.peppers.candidates(key.expose())).await?;
        known.filter(|known| known.found.is_usable(self.clock.now().wall)).map(principal).transpose()
    }

    /// What a text opens, usable or not: for whoever verifies keys for others.
    pub async fn look_up(&self, text: &str) -> Result<Option<LookedUp>, VerifierError> {
        if !self.could_open(text) {
            return Ok(None);
        }
        self.ask(self.peppers.candidates(text)).await
    }

    /// What is read is no older than the last change that was told.
    async fn ask(&self, candidates: Candidates) -> Result<Option<LookedUp>, VerifierError> {
        let (answer, wait) = oneshot::channel();
        self.jobs
            .try_send(Job { candidates, answer })
            .map_err(|_| VerifierError::new("too many verifications are waiting for the key store"))?;
        let answer = tokio::time::timeout(PATIENCE, wait).await;
        let answer = answer.map_err(|_| VerifierError::new("the key store takes too long"))?;
        answer.map_err(|_| VerifierError::new("the key store's thread has ended"))?
    }
}

/// The store's thread.
struct Keeper {
    place: StorePlace,
    peppers: Peppers,
    state: State,
    clock: Clock,
    on_change: OnChange,
    has_imported: Arc<AtomicBool>,
    counters: Counters,
}

enum State {
    Open(Store, ChangeWatch),
    /// Nothing is verified, and every round tries to open the file again.
    Closed,
    /// As `Closed`, but another thread tries: it takes time to find that a server is away.
    Opening(Opening),
}

impl Keeper {
    fn run(mut self, queue: &Receiver<Job>) {
        loop {
            let first = match queue.recv_timeout(WATCH_EVERY) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let more = queue.try_iter().take(if first.is_some() { TOGETHER - 1 } else { 0 });
            // Whoever asked may be gone; then nobody misses the answer, and a slow store has no time for it.
            let jobs: Vec<Job> = first.into_iter().chain(more).filter(|job| !job.answer.is_closed()).collect();
            // Behind the jobs: none of them is answered from before a change that was told before it was sent.
            let watched = self.watch();
            if !jobs.is_empty() {
                self.answer(jobs, watched);
            }
        }
    }

    fn answer(&self, jobs: Vec<Job>, watched: Result<(), VerifierError>) {
        let found = match (&self.state, watched) {
            (_, Err(error)) => Err(error),
            (State::Closed | State::Opening(_), Ok(())) => Err(VerifierError::new("the key store is not open")),
            (State::Open(store, _), Ok(())) => {
                let wanted: Vec<&Candidates> = jobs.iter().map(|job| &job.candidates).collect();
                store.find_all(&wanted).map_err(VerifierError::from)
            }
        };
        match found {
            Ok(found) => {
                for (job, found) in jobs.into_iter().zip(found) {
                    let known = found.map(|found| found.map(|found| self.looked_up(found)));
                    let _ = job.answer.send(known.map_err(VerifierError::from));
                }
            }
            Err(error) => {
                for job in jobs {
                    let _ = job.answer.send(Err(error.clone()));
                }
            }
        }
    }

    fn looked_up(&self, mut found: FoundKey) -> LookedUp {
        let restated = found.restated.take();
        let is_usable = found.is_usable(self.clock.now().wall);
        let uses = if is_usable { self.counters.of(&found.record.id, restated) } else { None };
        LookedUp { found, uses }
    }

    fn watch(&mut self) -> Result<(), VerifierError> {
        let State::Open(store, watch) = &mut self.state else { return self.reopen() };
        match watch.poll() {
            Ok(Change::Unchanged) => Ok(()),
            Ok(Change::Changed) => {
                let has_imported = store.has_imported();
                (self.on_change)();
                self.has_imported.fetch_or(has_imported?, Ordering::Relaxed);
                Ok(())
            }
            Ok(Change::Replaced) => {
                tracing::warn!(place = %self.place, "the key store's file was replaced; opening the new one");
                self.close();
                self.reopen()
            }
            Err(error) => {
                tracing::error!(%error, "the key store cannot be read; keys are refused until it can");
                self.close();
                let error = VerifierError::from(error);
                if let StorePlace::Postgres(_) = &self.place {
                    self.state = State::Opening(Opening::start(&self.place, &self.peppers, error.clone())?);
                }
                Err(error)
            }
        }
    }

    /// Nothing that was read before is believed any longer.
    fn close(&mut self) {
        self.state = State::Closed;
        (self.on_change)();
    }

    /// Never makes a new file: an empty store in place of a lost one would answer "invalid" to every key.
    fn reopen(&mut self) -> Result<(), VerifierError> {
        let Opened { store, watch, has_imported } = match &mut self.state {
            State::Opening(opening) => opening.opened()?,
            State::Open(..) | State::Closed => opening::open(&self.place, &self.peppers)?,
        };
        self.has_imported.fetch_or(has_imported, Ordering::Relaxed);
        tracing::info!(place = %self.place, "the key store is open again");
        self.state = State::Open(store, watch);
        (self.on_change)();
        Ok(())
    }
}

fn principal(known: LookedUp) -> Result<Principal, VerifierError> {
    let LookedUp { found, uses } = known;
    let expires = found.expires_on();
    let record = found.record;
    let (org, user) = (record.org_code.as_deref(), record.user_id.as_deref());
    let mut principal = Principal::new(record.id.as_str(), org, user, &record.scopes, expires)
        .map_err(|error| VerifierError::new(format!("key {} cannot be stamped: {error}", record.id.as_str())))?;
    // The cache and the counter of uses hold the same text.
    principal.key_id = record.id.shared();
    let limit = record.limit.map(|limit| own_limit(limit.requests(), limit.per()));
    Ok(principal.under(KeyTerms::new(record.allow_from, limit, uses)))
}

/// No limit of the configuration has this name, which would share the bucket: its names have no space.
pub(super) fn own_limit(requests: u64, per: Duration) -> Limit {
    let rate = Rate { requests, per, capacity: requests };
    Limit { name: "key's own".into(), rate, by: Subject::Key }
}

#[cfg(test)]
mod tests;
