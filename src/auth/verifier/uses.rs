//! What keys were used for, written now and then, never in the way of a request.
//!
//! Enters: counters, which requests count up by themselves, and digests that wait for the present pepper. Leaves: one
//! transaction every few seconds. A thread and a store of its own: a write may wait for another process, and no
//! verification shall wait with it.
//!
//! Invariant: bounded by the keys that are in use. What cannot be written is dropped and counted, never kept.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::VerifierError;
use crate::keys::{KeyId, Peppers, Restated, Store, StoreError, StorePlace, UseRow};
use crate::observe::Metrics;
use crate::policy::UseCounter;
use crate::time::Clock;

/// How often uses are written.
const WRITE_EVERY: Duration = Duration::from_secs(5);

/// How often the clock is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The longest that the end of a process waits for the last write.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);

/// More keys than any cache is meant to hold. The uses of further ones are not counted.
const MAX_KEYS: usize = 200_000;

#[derive(Debug, Default)]
struct Pending {
    counter: Arc<UseCounter>,
    /// Rare, and as large as all the rest.
    restated: Option<Box<Restated>>,
}

type Registry = Arc<Mutex<HashMap<KeyId, Pending>>>;

/// The counters of all keys that were verified lately. Dropping it ends its thread, after a last write.
#[derive(Debug)]
pub(super) struct UseLog {
    registry: Registry,
    flushes: SyncSender<oneshot::Sender<()>>,
}

/// Hands out counters.
#[derive(Clone, Debug)]
pub(super) struct Counters(Registry);

impl UseLog {
    pub fn start(
        place: &StorePlace,
        peppers: Peppers,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Result<Self, VerifierError> {
        let registry = Registry::default();
        let (flushes, queue) = sync_channel(1);
        let writer = Writer {
            registry: Arc::clone(&registry),
            place: place.clone(),
            peppers,
            store: None,
            metrics,
            next: clock.now().monotonic + WRITE_EVERY,
            clock,
            is_failing: false,
        };
        thread::Builder::new()
            .name("key-uses".to_owned())
            .spawn(move || writer.run(&queue))
            .map_err(|error| VerifierError::new(format!("cannot start the thread that notes uses: {error}")))?;
        Ok(Self { registry, flushes })
    }

    pub fn counters(&self) -> Counters {
        Counters(Arc::clone(&self.registry))
    }

    /// Writes what is pending.
    pub async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        // A full queue is a flush that is just beginning.
        if self.flushes.try_send(done).is_ok() && tokio::time::timeout(FLUSH_TIMEOUT, wait).await.is_err() {
            tracing::warn!("the last uses of keys were not written in time");
        }
    }
}

impl Counters {
    /// The counter of a key that was just verified, one for all its principals.
    pub fn of(&self, id: &KeyId, restated: Option<Restated>) -> Option<Arc<UseCounter>> {
        let mut registry = lock(&self.0);
        if registry.len() >= MAX_KEYS && !registry.contains_key(id) {
            return None;
        }
        let pending = registry.entry(id.clone()).or_default();
        if restated.is_some() {
            pending.restated = restated.map(Box::new);
        }
        Some(Arc::clone(&pending.counter))
    }
}

fn lock(registry: &Registry) -> MutexGuard<'_, HashMap<KeyId, Pending>> {
    registry.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Writer {
    registry: Registry,
    place: StorePlace,
    peppers: Peppers,
    /// Open only while there is something to write: a file that was replaced must not be held.
    store: Option<Store>,
    metrics: Arc<Metrics>,
    clock: Clock,
    next: Instant,
    /// Whether the log has been told.
    is_failing: bool,
}

impl Writer {
    fn run(mut self, flushes: &Receiver<oneshot::Sender<()>>) {
        loop {
            let flush = match flushes.recv_timeout(LOOK_EVERY) {
                Ok(done) => Some(done),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return self.write(),
            };
            let now = self.clock.now().monotonic;
            if flush.is_some() || now >= self.next {
                self.next = now + WRITE_EVERY;
                self.write();
            }
            if let Some(done) = flush {
                // Whoever waited may have given up.
                let _ = done.send(());
            }
        }
    }

    fn write(&mut self) {
        let uses = self.take();
        if uses.is_empty() {
            self.store = None;
            return;
        }
        match self.note(&uses) {
            Ok(()) => self.is_failing = false,
            Err(error) => {
                self.metrics.key_uses_dropped.inc_by(uses.iter().map(|row| row.count).sum());
                self.store = None;
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::warn!(%error, "uses of keys cannot be written and are dropped; keys are verified as before");
                }
            }
        }
    }

    /// What has happened since the last write. Keys that nobody holds any longer are forgotten.
    fn take(&self) -> Vec<UseRow> {
        let mut uses = Vec::new();
        lock(&self.registry).retain(|id, pending| {
            // Before the count: nobody can count behind it who has no counter now, for new ones are given under the lock.
            let is_held = Arc::strong_count(&pending.counter) > 1;
            let (count, last) = pending.counter.take();
            let restated = pending.restated.take().map(|restated| *restated);
            if count > 0 || restated.is_some() {
                uses.push(UseRow { id: id.clone(), count, last, restated });
            }
            is_held
        });
        uses
    }

    fn note(&mut self, uses: &[UseRow]) -> Result<(), StoreError> {
        let mut store = match self.store.take() {
            Some(store) => store,
            None => Store::open_existing(&self.place, self.peppers.clone())?,
        };
        store.note_uses(uses)?;
        self.store = Some(store);
        Ok(())
    }
}
