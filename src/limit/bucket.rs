//! A token bucket in exact integer arithmetic.
//!
//! The state is the debt: how far the level is below a full bucket. One token is worth `per` nanoseconds of units,
//! and each nanosecond pays back `requests` units, so no division happens until somebody asks how long to wait, and
//! nothing drifts.

use std::time::{Duration, Instant};

use crate::policy::Rate;

/// One bucket. It does not know its rate, which may not change while the bucket lives.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    debt: u128,
    at: Instant,
}

/// What is left after tokens were taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// Whole tokens left.
    pub remaining: u64,
    /// Until the bucket is full again.
    pub full_in: Duration,
}

impl Bucket {
    /// A full bucket.
    pub fn full(now: Instant) -> Self {
        Self { debt: 0, at: now }
    }

    /// Takes `tokens`, or says how long until they will be there; then nothing was taken.
    ///
    /// More tokens than the bucket holds are never there: the wait is then the time to fill it.
    pub fn take_at(&mut self, rate: &Rate, now: Instant, tokens: u64) -> Result<Granted, Duration> {
        self.settle(rate, now);
        let full = units(rate, rate.capacity);
        let wanted = self.debt.saturating_add(units(rate, tokens));
        if wanted > full {
            let short = (wanted - full).min(self.debt.max(1));
            return Err(time_to_pay(rate, short));
        }
        self.debt = wanted;
        Ok(self.granted(rate))
    }

    /// Gives tokens back that were taken in vain.
    pub fn give_back(&mut self, rate: &Rate, tokens: u64) {
        self.debt = self.debt.saturating_sub(units(rate, tokens));
    }

    /// Whether the bucket is full at `now`; a full bucket can be forgotten.
    pub fn is_full_at(&self, rate: &Rate, now: Instant) -> bool {
        self.debt <= paid_back(rate, now.saturating_duration_since(self.at))
    }

    fn granted(&self, rate: &Rate) -> Granted {
        let left = units(rate, rate.capacity) - self.debt;
        Granted {
            remaining: u64::try_from(left / per(rate)).unwrap_or(u64::MAX),
            full_in: time_to_pay(rate, self.debt),
        }
    }

    /// A reading of the clock from before the last one pays nothing and takes nothing back.
    fn settle(&mut self, rate: &Rate, now: Instant) {
        self.debt = self.debt.saturating_sub(paid_back(rate, now.saturating_duration_since(self.at)));
        self.at = self.at.max(now);
    }
}

fn per(rate: &Rate) -> u128 {
    rate.per.as_nanos().max(1)
}

fn units(rate: &Rate, tokens: u64) -> u128 {
    u128::from(tokens) * per(rate)
}

fn paid_back(rate: &Rate, elapsed: Duration) -> u128 {
    elapsed.as_nanos().saturating_mul(u128::from(rate.requests))
}

/// Rounded up: after this time the debt is paid, not almost paid.
fn time_to_pay(rate: &Rate, debt: u128) -> Duration {
    let nanos = debt.div_ceil(u128::from(rate.requests.max(1)));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Clock;
    use proptest::prelude::*;

    fn rate(requests: u64, per: Duration, capacity: u64) -> Rate {
        Rate { requests, per, capacity }
    }

    #[test]
    fn fifty_pass_at_once_and_the_next_after_eighteen_seconds() {
        let rate = rate(50, Duration::from_secs(900), 50);
        let start = Clock::manual().now().monotonic;
        let mut bucket = Bucket::full(start);
        for left in (0..50).rev() {
            assert_eq!(bucket.take_at(&rate, start, 1).map(|granted| granted.remaining), Ok(left));
        }
        assert_eq!(bucket.take_at(&rate, start, 1), Err(Duration::from_secs(18)));
        let almost = start + Duration::from_secs(18) - Duration::from_nanos(1);
        assert_eq!(bucket.take_at(&rate, almost, 1), Err(Duration::from_nanos(1)));
        assert!(bucket.take_at(&rate, start + Duration::from_secs(18), 1).is_ok());
        assert!(bucket.is_full_at(&rate, start + Duration::from_secs(18 + 900)));
        assert!(!bucket.is_full_at(&rate, start + Duration::from_secs(17 + 900)));
    }

    #[test]
    fn a_clock_that_steps_back_changes_nothing() {
        let rate = rate(1, Duration::from_secs(1), 2);
        let start = Clock::manual().now().monotonic + Duration::from_secs(10);
        let mut bucket = Bucket::full(start);
        assert!(bucket.take_at(&rate, start, 2).is_ok());
        let earlier = start - Duration::from_secs(5);
        assert!(bucket.take_at(&rate, earlier, 1).is_err());
        assert!(bucket.take_at(&rate, start + Duration::from_millis(999), 1).is_err());
        assert!(bucket.take_at(&rate, start + Duration::from_secs(1), 1).is_ok());
    }

    #[test]
    fn more_than_the_capacity_never_passes_and_the_wait_is_finite() {
        let rate = rate(1, Duration::from_secs(1), 2);
        let start = Clock::manual().now().monotonic;
        let mut bucket = Bucket::full(start);
        assert!(bucket.take_at(&rate, start, 3).is_err());
        assert_eq!(bucket.take_at(&rate, start, 2).map(|granted| granted.remaining), Ok(0));
    }

    proptest! {
        /// Over any history, what was granted never exceeds capacity plus the exact refill, and a refusal's wait is
        /// the shortest that helps.
        #[test]
        fn never_more_than_capacity_plus_refill(
            requests in 1_u64..200, per_ms in 1_u64..10_000, capacity in 1_u64..100,
            steps in proptest::collection::vec((0_u64..3_000, 1_u64..4), 1..60),
        ) {
            let rate = rate(requests, Duration::from_millis(per_ms), capacity);
            let start = Clock::manual().now().monotonic;
            let (mut bucket, mut elapsed, mut granted) = (Bucket::full(start), Duration::ZERO, 0_u128);
            for (pause, tokens) in steps {
                elapsed += Duration::from_millis(pause);
                match bucket.take_at(&rate, start + elapsed, tokens) {
                    Ok(_) => granted += u128::from(tokens),
                    Err(wait) if tokens <= capacity => {
                        let mut early = bucket;
                        prop_assert!(early.take_at(&rate, start + elapsed + wait - Duration::from_nanos(1), tokens).is_err());
                        let mut later = bucket;
                        prop_assert!(later.take_at(&rate, start + elapsed + wait, tokens).is_ok());
                    }
                    Err(_) => {}
                }
                let bound = u128::from(capacity) * rate.per.as_nanos() + elapsed.as_nanos() * u128::from(requests);
                prop_assert!(granted * rate.per.as_nanos() <= bound);
            }
        }
    }
}
