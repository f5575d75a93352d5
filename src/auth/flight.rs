//! One verification per key at a time: whoever comes second waits for the first one's answer.
//!
//! Enters: digests and stamps. Leaves: a place to wait at, or the duty to verify. Holds nothing of a key but its
//! digest, and no more flights than it was allowed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::VerifierError;
use super::cache::{CacheKey, Found, Stamp};

pub(super) type Answer = Result<Found, VerifierError>;

/// Verifications that are under way.
#[derive(Debug)]
pub(super) struct Flights {
    state: Mutex<State>,
    limit: usize,
}

/// The lock is held for a lookup or an insertion.
#[derive(Debug, Default)]
struct State {
    open: HashMap<CacheKey, Flight>,
    /// Flights in the air; more than `open` has when a purge has made some of them useless to join.
    running: usize,
    next_id: u64,
}

#[derive(Debug)]
struct Flight {
    id: u64,
    stamp: Stamp,
    answer: watch::Receiver<Option<Answer>>,
}

/// What to do about a key that must be verified.
#[derive(Debug)]
pub(super) enum Seat {
    /// Somebody has just verified it.
    Known(Found),
    /// Somebody verifies it.
    Wait(Waiting),
    /// You do: [`Ticket::land`] tells everybody.
    Lead(Ticket, Waiting),
    /// Too many verifications are under way.
    Full,
}

/// Where an answer will arrive.
#[derive(Debug)]
pub(super) struct Waiting(watch::Receiver<Option<Answer>>);

/// The duty to verify. Dropping it without an answer tells everybody that there is none.
#[derive(Debug)]
pub(super) struct Ticket {
    flights: Arc<Flights>,
    key: CacheKey,
    id: u64,
    stamp: Stamp,
    answer: watch::Sender<Option<Answer>>,
}

impl Flights {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), limit })
    }

    /// Finds a seat. `stamp` is the cache's: a verification that began before the last purge is not waited for.
    /// `known` looks into the cache once more, because a flight that has just landed has left its answer there;
    /// `pay` says whether a new flight may begin, and is asked last.
    pub(super) fn seat<E>(
        self: &Arc<Self>,
        key: CacheKey,
        stamp: impl FnOnce() -> Stamp,
        known: impl FnOnce() -> Option<Found>,
        pay: impl FnOnce() -> Result<(), E>,
    ) -> Result<Seat, E> {
        let mut state = self.lock();
        let stamp = stamp();
        if let Some(flight) = state.open.get(&key).filter(|flight| flight.stamp == stamp) {
            return Ok(Seat::Wait(Waiting(flight.answer.clone())));
        }
        if let Some(found) = known() {
            return Ok(Seat::Known(found));
        }
        if state.running >= self.limit {
            return Ok(Seat::Full);
        }
        pay()?;
        let (answer, waiting) = watch::channel(None);
        let id = state.next_id;
        state.next_id += 1;
        state.running += 1;
        state.open.insert(key, Flight { id, stamp, answer: waiting.clone() });
        Ok(Seat::Lead(Ticket { flights: Arc::clone(self), key, id, stamp, answer }, Waiting(waiting)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    pub(super) async fn answer(mut self) -> Answer {
        let abandoned = || VerifierError::new("the verification was abandoned");
        let answer = self.0.wait_for(Option::is_some).await.map_err(|_| abandoned())?;
        answer.clone().unwrap_or_else(|| Err(abandoned()))
    }
}

impl Ticket {
    pub(super) fn key(&self) -> &CacheKey {
        &self.key
    }

    /// The purges that had happened when the flight began.
    pub(super) fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Tells everybody who waits. The cache must know the answer by now: nobody else will verify until it is told.
    pub(super) fn land(self, answer: Answer) {
        self.answer.send_replace(Some(answer));
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.flights.lock();
        state.running -= 1;
        // After a purge another flight may have taken this one's place.
        if state.open.get(&self.key).is_some_and(|flight| flight.id == self.id) {
            state.open.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests;
