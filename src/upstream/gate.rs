//! How many requests an upstream is given at once; the others wait in line for a while.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::observe::UpstreamCounters;
use crate::policy::Concurrency;

#[derive(Debug)]
pub(super) struct Gate {
    /// How many slots there are, once `excess` is paid.
    max: Mutex<usize>,
    /// Serves those who wait in the order in which they came.
    slots: Arc<Semaphore>,
    /// Slots that are to vanish instead of becoming free.
    excess: AtomicUsize,
    waiting: AtomicUsize,
}

/// A request's place among those that the upstream is given at once, until it is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    /// `None` only while it is dropped.
    permit: Option<OwnedSemaphorePermit>,
    gate: Arc<Gate>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some(permit) = self.permit.take() else { return };
        if self.gate.excess.fetch_update(Relaxed, Relaxed, |excess| excess.checked_sub(1)).is_ok() {
            permit.forget();
        }
    }
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
    pub(super) fn new(max: usize) -> Self {
        Self {
            max: Mutex::new(max),
            slots: Arc::new(Semaphore::new(max)),
            excess: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Changes how many slots there are. Those that are taken stay so, and count.
    pub(super) fn resize(self: &Arc<Self>, max: usize) {
        let mut known = self.max.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *known, max);
        for _ in before..max {
            if self.excess.fetch_update(Relaxed, Relaxed, |excess| excess.checked_sub(1)).is_err() {
                self.slots.add_permits(1);
            }
        }
        self.excess.fetch_add(before.saturating_sub(max), Relaxed);
        // What is free pays at once, the rest as it becomes free.
        while self.excess.load(Relaxed) > 0
            && let Ok(permit) = Arc::clone(&self.slots).try_acquire_owned()
        {
            drop(self.slot(permit));
        }
    }

    fn slot(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Slot {
        Slot { permit: Some(permit), gate: Arc::clone(self) }
    }

    /// A slot, which is free again when it is dropped.
    pub(super) async fn enter(
        self: &Arc<Self>,
        rule: &Concurrency,
        metrics: &UpstreamCounters,
    ) -> Result<Slot, Turned> {
        // Nobody overtakes: a slot that becomes free while others wait belongs to the first of them.
        if let Ok(permit) = Arc::clone(&self.slots).try_acquire_owned() {
            return Ok(self.slot(permit));
        }
        if self.waiting.fetch_add(1, Relaxed) >= rule.queue {
            self.waiting.fetch_sub(1, Relaxed);
            metrics.queue_full.inc();
            return Err(Turned::Away);
        }
        let _place = Place::new(&self.waiting, metrics);
        let timer = metrics.queue_seconds.start_timer();
        let slot = tokio::time::timeout(rule.wait, Arc::clone(&self.slots).acquire_owned()).await;
        timer.observe_duration();
        match slot {
            // The semaphore is never closed.
            Ok(Ok(permit)) => Ok(self.slot(permit)),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_size_changes_under_those_who_are_in() {
        let gate = Arc::new(Gate::new(2));
        let enter = || Arc::clone(&gate.slots).try_acquire_owned().ok().map(|permit| gate.slot(permit));
        let both = [enter(), enter()];
        assert!(both.iter().all(Option::is_some) && enter().is_none());
        gate.resize(3);
        let third = enter();
        assert!(third.is_some() && enter().is_none());
        gate.resize(1);
        drop(both);
        assert!(enter().is_none(), "one is in, and there is one slot");
        drop(third);
        let only = enter();
        assert!(only.is_some() && enter().is_none());
        gate.resize(0);
        gate.resize(2);
        let second = enter();
        assert!(second.is_some() && enter().is_none(), "what was owed is not added");
        drop((only, second));
        gate.resize(1);
        assert_eq!((gate.slots.available_permits(), gate.excess.load(Relaxed)), (1, 0));
    }
}
