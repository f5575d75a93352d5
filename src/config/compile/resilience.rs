//! What is done when a service fails, or has too much to do.

use std::time::Duration;

use crate::config::field::Field;
use crate::config::mistake::Findings;
use crate::config::written;
use crate::policy::{Breaker, Concurrency, Ejection, HealthCheck, Retries};

const QUEUE: u64 = 100;
const QUEUE_WAIT: Duration = Duration::from_secs(1);
const EJECT_FAILURES: u64 = 5;
const EJECT_TIME: Duration = Duration::from_secs(5);
const EJECT_MAX_TIME: Duration = Duration::from_secs(5 * 60);
/// In percent: one of two, one of three.
const EJECT_SHARE: u64 = 50;
const BREAKER_FAILURES: u64 = 10;
const BREAKER_TIME: Duration = Duration::from_secs(5);
const RETRY_ATTEMPTS: u64 = 2;
/// In percent of requests.
const RETRY_BUDGET: u64 = 20;
const RETRY_BACKOFF: Duration = Duration::from_millis(25);
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
const CHECK_HEALTHY: u64 = 2;
const CHECK_UNHEALTHY: u64 = 3;

/// The reader's bounds keep every count far below the ends of these types.
pub(super) fn count(written: Field<u64>, default: u64) -> usize {
    usize::try_from(written.or(default)).unwrap_or(usize::MAX)
}

fn row(written: Field<u64>, default: u64) -> u32 {
    u32::try_from(written.or(default)).unwrap_or(u32::MAX)
}

/// Zero is no limit, and nobody waits for his turn where there is none.
pub(super) fn concurrency(max: Field<u64>, queue: Field<written::Queue>, findings: &Findings) -> Option<Concurrency> {
    let is_broken = matches!(max, Field::Broken);
    let max = count(max, 0);
    if max == 0 {
        if let Some(spot) = queue.spot().filter(|_| !is_broken) {
            let mistake = spot.mistake("without `max_concurrent` nobody waits, so `queue` would mean nothing");
            findings
                .add(mistake.help("add `max_concurrent`, the number of requests that the service is given at once"));
        }
        return None;
    }
    let (queue, wait) = match queue.given() {
        Some(queue) => (queue.max, queue.wait),
        None => (Field::Missing, Field::Missing),
    };
    Some(Concurrency { max, queue: count(queue, QUEUE), wait: wait.or(QUEUE_WAIT) })
}

/// On unless it is off: with one endpoint it does nothing.
pub(super) fn ejection(written: Field<Option<written::Eject>>, findings: &Findings) -> Option<Ejection> {
    let written = match written {
        Field::Given(at) => at.value?,
        Field::Missing | Field::Broken => written::Eject::default(),
    };
    let spot = written.max_time.spot().or(written.time.spot()).cloned();
    let (time, max_time) = (written.time.or(EJECT_TIME), written.max_time.or(EJECT_MAX_TIME));
    if let (true, Some(spot)) = (time > max_time, spot) {
        findings.add(spot.mistake("`for` is longer than `max_for`, the longest time that it is doubled to"));
    }
    Some(Ejection {
        failures: row(written.failures, EJECT_FAILURES),
        time,
        max_time,
        max_share: count(written.max_share, EJECT_SHARE),
        server_errors: written.server_errors.or(false),
    })
}

pub(super) fn breaker(written: written::Breaker) -> Breaker {
    Breaker {
        failures: row(written.failures, BREAKER_FAILURES),
        time: written.time.or(BREAKER_TIME),
        server_errors: written.server_errors.or(false),
    }
}

pub(super) fn retries(written: written::Retries) -> Retries {
    Retries {
        attempts: row(written.attempts, RETRY_ATTEMPTS),
        budget: written.budget.or(RETRY_BUDGET),
        backoff: written.backoff.or(RETRY_BACKOFF),
    }
}

/// `None` when the path is broken.
pub(super) fn health(written: written::Health) -> Option<HealthCheck> {
    Some(HealthCheck {
        path: written.path.given()?,
        interval: written.interval.or(CHECK_INTERVAL),
        timeout: written.timeout.or(CHECK_TIMEOUT),
        healthy: row(written.healthy, CHECK_HEALTHY),
        unhealthy: row(written.unhealthy, CHECK_UNHEALTHY),
    })
}
