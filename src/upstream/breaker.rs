//! A circuit breaker: after failures in a row an upstream is left alone, and then tried with one request.
//!
//! Enters: outcomes and moments, in milliseconds of the registry's time. Leaves: whether a request may go.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use prometheus::IntGauge;

use super::standing::{doubled, millis};
use crate::policy;

/// The longest time that an upstream is left alone.
const LONGEST: Duration = Duration::from_secs(60);

/// Told to whoever comes while the one request is on its way.
const SOON: Duration = Duration::from_secs(1);

/// What the gauge says.
const CLOSED: i64 = 0;
const HALF_OPEN: i64 = 1;
const OPEN: i64 = 2;

#[derive(Debug)]
pub(super) struct Breaker {
    pub(super) rule: policy::Breaker,
    failures: AtomicU32,
    /// Until when nobody is let through; 0 while it is closed.
    open_until: AtomicU64,
    /// How often it has opened in a row.
    openings: AtomicU32,
    /// Until when the one request that is on its way keeps others from trying; 0 if there is none.
    trying_until: AtomicU64,
    state: IntGauge,
}

impl Breaker {
    pub(super) fn new(rule: policy::Breaker, state: IntGauge) -> Self {
        state.set(CLOSED);
        Self {
            rule,
            failures: AtomicU32::new(0),
            open_until: AtomicU64::new(0),
            openings: AtomicU32::new(0),
            trying_until: AtomicU64::new(0),
            state,
        }
    }

    /// Lets a request through, or tells when to come back.
    pub(super) fn pass(self: &Arc<Self>, now: u64) -> Result<Pass, Duration> {
        let until = self.open_until.load(Relaxed);
        if until == 0 {
            return Ok(Pass { breaker: Arc::clone(self), tries: None });
        }
        if now < until {
            return Err(Duration::from_millis(until - now));
        }
        // An answer may take its time: whoever tries keeps others waiting no longer than an open breaker does.
        let trying = self.trying_until.load(Relaxed);
        let next = now.saturating_add(millis(self.rule.time)).max(1);
        if now < trying || self.trying_until.compare_exchange(trying, next, Relaxed, Relaxed).is_err() {
            return Err(SOON);
        }
        self.state.set(HALF_OPEN);
        Ok(Pass { breaker: Arc::clone(self), tries: Some(next) })
    }

    fn open(&self, now: u64) {
        let time = doubled(self.rule.time, self.openings.fetch_add(1, Relaxed)).min(LONGEST.max(self.rule.time));
        self.failures.store(0, Relaxed);
        self.open_until.store(now.saturating_add(millis(time)).max(1), Relaxed);
        self.state.set(OPEN);
    }

    fn close(&self) {
        self.failures.store(0, Relaxed);
        self.openings.store(0, Relaxed);
        self.open_until.store(0, Relaxed);
        self.state.set(CLOSED);
    }
}

/// A request that was let through. Dropped without an outcome, it was given up by its client: the next one tries.
#[derive(Debug)]
pub(super) struct Pass {
    breaker: Arc<Breaker>,
    /// If it tries for all: until when it does so alone.
    tries: Option<u64>,
}

impl Pass {
    pub(super) fn succeeded(self) {
        if self.tries.is_some() {
            self.breaker.close();
        } else if self.breaker.failures.load(Relaxed) != 0 {
            self.breaker.failures.store(0, Relaxed);
        }
    }

    pub(super) fn failed(self, now: u64) {
        let breaker = &self.breaker;
        let failures = breaker.failures.fetch_add(1, Relaxed).saturating_add(1);
        let until = breaker.open_until.load(Relaxed);
        // Others may have tried meanwhile: what they found is newer than the failure of one that began before them.
        let tried = self.tries.is_some() && until != 0 && until <= now;
        if tried || (until == 0 && failures >= breaker.rule.failures) {
            breaker.open(now);
        }
    }

    pub(super) fn rule(&self) -> &policy::Breaker {
        &self.breaker.rule
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(until) = self.tries {
            // Unless another one tries by now.
            let _ = self.breaker.trying_until.compare_exchange(until, 0, Relaxed, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> (Arc<Breaker>, IntGauge) {
        let gauge = IntGauge::new("state", "state").expect("a gauge");
        let rule = policy::Breaker { failures: 2, time: Duration::from_secs(5), server_errors: false };
        (Arc::new(Breaker::new(rule, gauge.clone())), gauge)
    }

    fn pass(breaker: &Arc<Breaker>, now: u64) -> Pass {
        breaker.pass(now).expect("it lets through")
    }

    #[test]
    fn it_opens_tries_and_closes() {
        let (breaker, gauge) = breaker();
        pass(&breaker, 0).failed(0);
        pass(&breaker, 0).succeeded();
        pass(&breaker, 0).failed(0);
        assert_eq!(gauge.get(), CLOSED);
        let late = pass(&breaker, 0);
        pass(&breaker, 0).failed(100);
        assert_eq!((gauge.get(), breaker.pass(100).err()), (OPEN, Some(Duration::from_secs(5))));
        late.failed(4000);
        assert_eq!(breaker.pass(5000).err(), Some(Duration::from_millis(100)), "a late failure changes nothing");
        let one = pass(&breaker, 5100);
        assert_eq!((gauge.get(), breaker.pass(5100).err()), (HALF_OPEN, Some(SOON)));
        one.failed(5100);
        assert_eq!(breaker.pass(5100).err(), Some(Duration::from_secs(10)), "longer the second time");
        drop(pass(&breaker, 15_100));
        pass(&breaker, 15_100).succeeded();
        assert_eq!(gauge.get(), CLOSED);
        pass(&breaker, 15_100).failed(15_100);
        assert!(breaker.pass(15_100).is_ok(), "it has its full credit again");
    }

    #[test]
    fn one_request_tries_for_all() {
        let (breaker, _) = breaker();
        let both = [pass(&breaker, 0), pass(&breaker, 0)];
        let [one, other] = both;
        one.failed(0);
        other.failed(0);
        let slow = pass(&breaker, 6000);
        assert!((0..100).all(|_| breaker.pass(10_999).is_err()));
        let next = pass(&breaker, 11_000);
        assert!(breaker.pass(11_000).is_err(), "one more for each time that the breaker is open");
        drop(slow);
        assert!(breaker.pass(11_000).is_err(), "the next one still tries");
        let late = pass(&breaker, 16_000);
        next.succeeded();
        late.failed(16_000);
        assert!(breaker.pass(16_000).is_ok(), "a late failure does not undo it");
    }
}
