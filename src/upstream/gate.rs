//! How many requests an upstream is given at once; the others wait in line for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::observe::UpstreamCounters;
use crate::policy::Concurrency;

#[derive(Debug)]
pub(super) struct Gate {
    pub(super) rule: Concurrency,
    /// Serves those who wait in the order in which they came.
    slots: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// Why a request was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turned {
    /// So many wait already.
    Away,
    /// Its turn did not come in time.
    Late,
}

impl Gate {
    pub(super) fn new(rule: Concurrency) -> Self {
        Self { rule, slots: Arc::new(Semaphore::new(rule.max)), waiting: AtomicUsize::new(0) }
    }

    /// A slot, which is free again when it is dropped.
    pub(super) async fn enter(&self, metrics: &UpstreamCounters) -> Result<OwnedSemaphorePermit, Turned> {
        // Nobody overtakes: a slot that becomes free while others wait belongs to the first of them.
        if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
            return Ok(slot);
        }
        if self.waiting.fetch_add(1, Relaxed) >= self.rule.queue {
            self.waiting.fetch_sub(1, Relaxed);
            metrics.queue_full.inc();
            return Err(Turned::Away);
        }
        let _place = Place::new(&self.waiting, metrics);
        let timer = metrics.queue_seconds.start_timer();
        let slot = tokio::time::timeout(self.rule.wait, Arc::clone(&self.slots).acquire_owned()).await;
        timer.observe_duration();
        match slot {
            // The semaphore is never closed.
            Ok(Ok(slot)) => Ok(slot),
            Ok(Err(_)) | Err(_) => {
                metrics.queue_late.inc();
                Err(Turned::Late)
            }
        }
    }
}

/// A place in the line, which is left also by who gives up.
struct Place<'a> {
    waiting: &'a AtomicUsize,
    metrics: &'a UpstreamCounters,
}

impl<'a> Place<'a> {
    fn new(waiting: &'a AtomicUsize, metrics: &'a UpstreamCounters) -> Self {
        metrics.queue.inc();
        Self { waiting, metrics }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.waiting.fetch_sub(1, Relaxed);
        self.metrics.queue.dec();
    }
}
