//! Asking the embedded store about a key.
//!
//! The store blocks, so it lives on a thread of its own. That thread also watches the store: before every answer and
//! many times a second, so that a change made by anyone is seen long before a cache entry ends.
//!
//! A store that cannot be read answers nothing, and what was read from it before is forgotten.

mod opening;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use self::opening::{Opened, Opening};
use super::VerifierError;
use super::uses::{Counters, UseLog};
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

/// How long one may wait, in the queue and for its answer.
const PATIENCE: Duration = Duration::from_secs(5);

impl From<StoreError> for VerifierError {
    fn from(error: StoreError) -> Self {
        Self::new(error.to_string())
    }
}

type Answer = Result<Option<Principal>, VerifierError>;

/// What the store's thread is asked to do. An `Err` says why the store cannot be asked.
type Job = Box<dyn FnOnce(Result<&Lookup<'_>, VerifierError>) + Send>;

/// What a presented text opens, usable or not, and where its use is counted.
#[derive(Debug)]
pub struct LookedUp {
    pub found: FoundKey,
    pub uses: Option<Arc<UseCounter>>,
}

/// Verifies keys against the embedded store. Dropping it ends its thread.
#[derive(Debug)]
pub struct StoreVerifier {
    jobs: SyncSender<Job>,
    prefix: KeyPrefix,
    peppers: Peppers,
    /// Whether the store has imported keys, whose texts can have any form.
    has_imported: Arc<AtomicBool>,
    uses: UseLog,
}

impl StoreVerifier {
    /// Opens (and, the first time, makes) the store. `on_change` is called whenever what was read before may be wrong.
    pub fn start(
        place: &StorePlace,
        prefix: KeyPrefix,
        peppers: Peppers,
        clock: Clock,
        metrics: Arc<Metrics>,
        on_change: Box<dyn Fn() + Send>,
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
            clock,
            on_change,
            has_imported: Arc::clone(&has_imported),
            counters: uses.counters(),
        };
        thread::Builder::new()
            .name("key-store".to_owned())
            .spawn(move || keeper.run(&queue))
            .map_err(|error| VerifierError::new(format!("cannot start the key store's thread: {error}")))?;
        Ok(Self { jobs, prefix, peppers, has_imported, uses })
    }

    /// Whether the text has the shape and the checksum of this store's keys, or may be an imported one: any text that
    /// does not begin as ours do, while there are imported keys. Costs no lookup.
    pub(in crate::auth) fn could_be_key(&self, key: &KeyText) -> bool {
        self.could_open(key.expose())
    }

    fn could_open(&self, text: &str) -> bool {
        looks_valid(text) || (self.has_imported.load(Ordering::Relaxed) && !self.prefix.begins(text))
    }

    /// Writes what is only counted so far.
    pub(in crate::auth) async fn flush(&self) {
        self.uses.flush().await;
    }

    /// The key's owner, or `None` for a key that is unknown, revoked or expired.
    pub(super) async fn verify(&self, key: &KeyText) -> Answer {
        let candidates = self.peppers.candidates(key.expose());
        self.run(move |lookup| lookup.find(&candidates)).await
    }

    /// What a text opens, usable or not: for whoever verifies keys for others.
    pub async fn look_up(&self, text: &str) -> Result<Option<LookedUp>, VerifierError> {
        if !self.could_open(text) {
            return Ok(None);
        }
        let candidates = self.peppers.candidates(text);
        self.run(move |lookup| lookup.look_up(&candidates)).await
    }

    /// Reads the store on its thread. What `work` reads is no older than the last change that was told.
    pub async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, VerifierError> {
        self.run(move |lookup| Ok(work(lookup.store)?)).await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Lookup<'_>) -> Result<T, VerifierError> + Send + 'static,
    ) -> Result<T, VerifierError> {
        let (answer, wait) = oneshot::channel();
        let job = Box::new(move |lookup: Result<&Lookup<'_>, VerifierError>| {
            // Whoever asked may be gone; then nobody misses the answer, and a slow store has no time for it.
            if !answer.is_closed() {
                let _ = answer.send(lookup.and_then(work));
            }
        });
        self.jobs
            .try_send(job)
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
    on_change: Box<dyn Fn() + Send>,
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
            let job = match queue.recv_timeout(WATCH_EVERY) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let watched = self.watch();
            if let Some(job) = job {
                match (&self.state, watched) {
                    (_, Err(error)) => job(Err(error)),
                    (State::Closed | State::Opening(_), Ok(())) => {
                        job(Err(VerifierError::new("the key store is not open")));
                    }
                    (State::Open(store, _), Ok(())) => {
                        job(Ok(&Lookup { store, clock: &self.clock, counters: &self.counters }));
                    }
                }
            }
        }
    }

    fn watch(&mut self) -> Result<(), VerifierError> {
        let State::Open(store, watch) = &mut self.state else { return self.reopen() };
        match watch.poll() {
            Ok(Change::Unchanged) => Ok(()),
            Ok(Change::Changed) => {
                let has_imported = store.has_imported();
                (self.on_change)();
                self.has_imported.store(has_imported?, Ordering::Relaxed);
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
        self.has_imported.store(has_imported, Ordering::Relaxed);
        tracing::info!(place = %self.place, "the key store is open again");
        self.state = State::Open(store, watch);
        (self.on_change)();
        Ok(())
    }
}

/// The open store, and what an answer about a key takes beside it.
struct Lookup<'a> {
    store: &'a Store,
    clock: &'a Clock,
    counters: &'a Counters,
}

impl Lookup<'_> {
    fn look_up(&self, candidates: &Candidates) -> Result<Option<LookedUp>, VerifierError> {
        let Some(mut found) = self.store.find(candidates)? else { return Ok(None) };
        let restated = found.restated.take();
        let uses =
            if found.is_usable(self.clock.now().wall) { self.counters.of(&found.record.id, restated) } else { None };
        Ok(Some(LookedUp { found, uses }))
    }

    fn find(&self, candidates: &Candidates) -> Answer {
        let found = self.look_up(candidates)?.filter(|known| known.found.is_usable(self.clock.now().wall));
        found.map(principal).transpose()
    }
}

fn principal(known: LookedUp) -> Result<Principal, VerifierError> {
    let LookedUp { found, uses } = known;
    let expires = found.expires_on();
    let record = found.record;
    let (org, user) = (record.org_code.as_deref(), record.user_id.as_deref());
    let principal = Principal::new(record.id.as_str(), org, user, &record.scopes, expires)
        .map_err(|error| VerifierError::new(format!("key {} cannot be stamped: {error}", record.id.as_str())))?;
    let limit = record.limit.map(|limit| own_limit(limit.requests(), limit.per()));
    Ok(principal.under(KeyTerms::new(record.allow_from, limit, uses)))
}

/// No limit of the configuration has this name, which would share the bucket: its names have no space.
pub(super) fn own_limit(requests: u64, per: Duration) -> Limit {
    let rate = Rate { requests, per, capacity: requests };
    Limit { name: "key's own".into(), rate, by: Subject::Key }
}
