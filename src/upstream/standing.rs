//! How an endpoint stands: whether it failed of late, and what checks of it say.
//!
//! Enters: outcomes and moments. Leaves: whether to use it. Times are in milliseconds of the registry's time.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::policy::{Ejection, HealthCheck};

const UNKNOWN: u8 = 0;
const HEALTHY: u8 = 1;
const UNHEALTHY: u8 = 2;

/// The standing of one endpoint. Workers read it on every request, and write it only where something changes.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// Failures in a row.
    failures: AtomicU32,
    /// How often it was ejected without a success since.
    ejections: AtomicU32,
    ejected_until: AtomicU64,
    health: AtomicU8,
    /// Checks in a row that say the opposite of `health`.
    contrary: AtomicU32,
}

/// What a check changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Recovered,
    Failed,
}

impl Standing {
    pub(super) fn is_ejected(&self, now: u64) -> bool {
        self.ejected_until.load(Relaxed) > now
    }

    pub(super) fn is_unhealthy(&self) -> bool {
        self.health.load(Relaxed) == UNHEALTHY
    }

    pub(super) fn succeeded(&self) {
        if self.failures.load(Relaxed) != 0 || self.ejections.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
            self.ejections.store(0, Relaxed);
        }
    }

    /// Counts a failure, and tells whether there were enough of them to eject the endpoint. One that has been ejected
    /// before needs a single one.
    pub(super) fn failed(&self, rule: &Ejection, now: u64) -> bool {
        let failures = self.failures.fetch_add(1, Relaxed).saturating_add(1);
        !self.is_ejected(now) && (failures >= rule.failures || self.ejections.load(Relaxed) > 0)
    }

    /// Leaves the endpoint out, and tells for how long.
    pub(super) fn eject(&self, rule: &Ejection, now: u64) -> Duration {
        let before = self.ejections.fetch_add(1, Relaxed);
        let time = doubled(rule.time, before).min(rule.max_time);
        self.failures.store(0, Relaxed);
        self.ejected_until.store(now.saturating_add(millis(time)), Relaxed);
        time
    }

    /// Takes in the result of a check. The first one of all counts at once.
    pub(super) fn checked(&self, is_well: bool, rule: &HealthCheck) -> Option<Change> {
        let before = self.health.load(Relaxed);
        let (after, needed, change) = if is_well {
            (HEALTHY, rule.healthy, Change::Recovered)
        } else {
            (UNHEALTHY, rule.unhealthy, Change::Failed)
        };
        if before == after {
            self.contrary.store(0, Relaxed);
            return None;
        }
        if before != UNKNOWN && self.contrary.fetch_add(1, Relaxed) + 1 < needed {
            return None;
        }
        self.contrary.store(0, Relaxed);
        self.health.store(after, Relaxed);
        (before != UNKNOWN || !is_well).then_some(change)
    }

    /// Nobody checks it any more.
    pub(super) fn unchecked(&self) {
        self.health.store(UNKNOWN, Relaxed);
        self.contrary.store(0, Relaxed);
    }
}

/// `time`, doubled so many times.
pub(super) fn doubled(time: Duration, times: u32) -> Duration {
    time.saturating_mul(1_u32.checked_shl(times).unwrap_or(u32::MAX))
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Ejection = Ejection {
        failures: 3,
        time: Duration::from_secs(5),
        max_time: Duration::from_secs(12),
        max_share: 50,
        server_errors: false,
    };

    #[test]
    fn failures_in_a_row_eject_for_longer_each_time() {
        let standing = Standing::default();
        assert!(!standing.failed(&RULE, 0) && !standing.failed(&RULE, 0));
        standing.succeeded();
        assert!(!standing.failed(&RULE, 0) && !standing.failed(&RULE, 0));
        assert!(standing.failed(&RULE, 0), "the third in a row");
        assert_eq!(standing.eject(&RULE, 0), Duration::from_secs(5));
        assert!(standing.is_ejected(4999) && !standing.is_ejected(5000));
        assert!(!standing.failed(&RULE, 4999), "it is out already");
        assert!(standing.failed(&RULE, 5000), "one is enough when it comes back");
        assert_eq!(standing.eject(&RULE, 5000), Duration::from_secs(10));
        assert_eq!(standing.eject(&RULE, 15_000), Duration::from_secs(12));
        standing.succeeded();
        assert!(!standing.failed(&RULE, 30_000), "it has its full credit again");
    }

    #[test]
    fn checks_in_a_row_change_the_health() {
        let rule = HealthCheck {
            path: "/".parse().expect("a path"),
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            healthy: 2,
            unhealthy: 3,
        };
        let standing = Standing::default();
        assert_eq!(standing.checked(true, &rule), None);
        assert_eq!([false, false, true, false, false].map(|well| standing.checked(well, &rule)), [None; 5]);
        assert_eq!(standing.checked(false, &rule), Some(Change::Failed));
        assert!(standing.is_unhealthy());
        assert_eq!([true, false, true].map(|well| standing.checked(well, &rule)), [None; 3]);
        assert_eq!(standing.checked(true, &rule), Some(Change::Recovered));
        assert!(!standing.is_unhealthy());
        let standing = Standing::default();
        assert_eq!(standing.checked(false, &rule), Some(Change::Failed), "the first one decides");
    }
}
