//! `queue`, `eject`, `breaker`, `retries` and `health` of an upstream.

use std::time::Duration;

use http::uri::PathAndQuery;

use super::process::timeout;
use crate::config::field::Field;
use crate::config::section::{Keys, Section};
use crate::config::value::{Value, YEAR};

pub(super) const QUEUE: Keys = Keys { known: &["max", "wait"], later: &[] };
pub(super) const EJECT: Keys =
    Keys { known: &["failures", "for", "max_for", "max_share", "server_errors"], later: &[] };
pub(super) const BREAKER: Keys = Keys { known: &["failures", "for", "server_errors"], later: &[] };
pub(super) const RETRIES: Keys = Keys { known: &["attempts", "budget", "backoff"], later: &[] };
pub(super) const HEALTH: Keys = Keys { known: &["path", "interval", "timeout", "healthy", "unhealthy"], later: &[] };

/// More requests at once than one process has memory for.
pub(super) const MANY: u64 = 1_000_000;

/// What waits for its turn under `max_concurrent`.
pub(crate) struct Queue {
    pub max: Field<u64>,
    pub wait: Field<Duration>,
}

impl Queue {
    pub fn read(value: &Value<'_>) -> Option<Self> {
        let section = Section::open(value, &QUEUE)?;
        Some(Self {
            // Zero is a bound: nobody waits.
            max: section.field("max", |value| value.count(0..=MANY)),
            wait: section.field("wait", |value| value.duration(Duration::from_millis(1)..=Duration::from_secs(60))),
        })
    }
}

/// When an endpoint is left out for a while.
#[derive(Default)]
pub(crate) struct Eject {
    pub failures: Field<u64>,
    pub time: Field<Duration>,
    pub max_time: Field<Duration>,
    pub max_share: Field<u64>,
    pub server_errors: Field<bool>,
}

impl Eject {
    /// `off` is `None`.
    pub fn read(value: &Value<'_>) -> Option<Option<Self>> {
        if !value.is_map() {
            return value.word(&[("off", ())]).map(|()| None);
        }
        let section = Section::open(value, &EJECT)?;
        Some(Some(Self {
            failures: section.field("failures", row),
            time: section.field("for", timeout),
            max_time: section.field("max_for", timeout),
            max_share: section.field("max_share", |value| value.count(1..=100)),
            server_errors: section.field("server_errors", Value::boolean),
        }))
    }
}

/// When an upstream is left alone for a while.
pub(crate) struct Breaker {
    pub failures: Field<u64>,
    pub time: Field<Duration>,
    pub server_errors: Field<bool>,
}

impl Breaker {
    pub fn read(value: &Value<'_>) -> Option<Self> {
        let section = Section::open(value, &BREAKER)?;
        Some(Self {
            failures: section.field("failures", row),
            time: section.field("for", timeout),
            server_errors: section.field("server_errors", Value::boolean),
        })
    }
}

/// What is sent again.
pub(crate) struct Retries {
    pub attempts: Field<u64>,
    pub budget: Field<u64>,
    pub backoff: Field<Duration>,
}

impl Retries {
    pub fn read(value: &Value<'_>) -> Option<Self> {
        let section = Section::open(value, &RETRIES)?;
        Some(Self {
            attempts: section.field("attempts", |value| value.count(1..=10)),
            budget: section.field("budget", |value| value.count(1..=100)),
            backoff: section
                .field("backoff", |value| value.duration(Duration::from_millis(1)..=Duration::from_secs(10))),
        })
    }
}

/// How endpoints are checked.
pub(crate) struct Health {
    pub path: Field<PathAndQuery>,
    pub interval: Field<Duration>,
    pub timeout: Field<Duration>,
    pub healthy: Field<u64>,
    pub unhealthy: Field<u64>,
}

impl Health {
    pub fn read(value: &Value<'_>) -> Option<Self> {
        let section = Section::open(value, &HEALTH)?;
        Some(Self {
            path: section.required("path", |value| {
                value.parsed("a path such as `/healthz`", |text| {
                    let path = text.parse::<PathAndQuery>().ok().filter(|_| text.starts_with('/'));
                    path.ok_or("expected a path such as `/healthz`")
                })
            }),
            interval: section.field("interval", |value| value.duration(Duration::from_millis(100)..=YEAR)),
            timeout: section.field("timeout", timeout),
            healthy: section.field("healthy", row),
            unhealthy: section.field("unhealthy", row),
        })
    }
}

/// So many in a row.
fn row(value: &Value<'_>) -> Option<u64> {
    value.count(1..=1000)
}
