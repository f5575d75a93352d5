//! A circuit breaker: after failures in a row an upstream is left alone, and then tried with one request.
//!
//! Enters: outcomes and moments, in milliseconds of the registry's time. Leaves: whether a request may go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
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
    /// Whether the one request is on its way.
    trying: AtomicBool,
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
            trying: AtomicBool::new(false),
            state,
        }
    }

    /// Lets a request through, or tells when to come back.
    pub(super) fn pass(self: &Arc<Self>, now: u64) -> Result<Pass, Duration> {
        let until = self.open_until.load(Relaxed);
        if until == 0 {
            return Ok(Pass { breaker: Arc::clone(self), tries: false });
        }
        if now < until {
            return Err(Duration::from_millis(until - now));
        }
        if self.trying.swap(true, Relaxed) {
            return Err(SOON);
        }
        self.state.set(HALF_OPEN);
        Ok(Pass { breaker: Arc::clone(self), tries: true })
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
    tries: bool,
}

impl Pass {
    pub(super) fn succeeded(self) {
        if self.tries {
            self.breaker.close();
        } else if self.breaker.failures.load(Relaxed) != 0 {
            self.breaker.failures.store(0, Relaxed);
        }
    }

    pub(super) fn failed(self, now: u64) {
        let breaker = &self.breaker;
        let failures = breaker.failures.fetch_add(1, Relaxed).saturating_add(1);
        let is_closed = breaker.open_until.load(Relaxed) == 0;
        if self.tries || (is_closed && failures >= breaker.rule.failures) {
            breaker.open(now);
        }
    }

    pub(super) fn rule(&self) -> &policy::Breaker {
        &self.breaker.rule
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.tries {
            self.breaker.trying.store(false, Relaxed);
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
        both.into_iter().for_each(|pass| pass.failed(0));
        let one = breaker.pass(6000);
        assert!(one.is_ok() && (0..100).all(|_| breaker.pass(6000).is_err()));
    }
}
