//! What is done when a service fails, or has too much to do.

use std::time::Duration;

use http::uri::PathAndQuery;

/// How many requests an upstream is given at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concurrency {
    pub max: usize,
    /// Requests that may wait for their turn, first come, first served.
    pub queue: usize,
    /// How long each of them may.
    pub wait: Duration,
}

/// When an endpoint is left out for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// Failures in a row.
    pub failures: u32,
    /// For how long the first time; twice as long each further time.
    pub time: Duration,
    pub max_time: Duration,
    /// Most endpoints that may be out at once, in percent of all.
    pub max_share: usize,
    /// Whether an answer of status 500 or above is a failure.
    pub server_errors: bool,
}

/// When an upstream is not asked at all for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    /// Requests in a row that failed.
    pub failures: u32,
    /// For how long; twice as long each time that the request which tries it afterwards fails, too.
    pub time: Duration,
    pub server_errors: bool,
}

/// How often a request is tried again of which the service may have seen something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// Beside the first one.
    pub attempts: u32,
    /// Further attempts in percent of requests.
    pub budget: u64,
    /// Before the first further attempt at the same endpoint; twice as long before each one after it.
    pub backoff: Duration,
}

/// What every endpoint is asked again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    pub path: PathAndQuery,
    pub interval: Duration,
    pub timeout: Duration,
    /// Good answers in a row that an endpoint comes back with.
    pub healthy: u32,
    /// Bad ones that it goes with.
    pub unhealthy: u32,
}
