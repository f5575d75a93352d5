//! Metrics of the upstreams. Every label is a name of the configuration or an enum of ours.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use crate::policy::Endpoint;

/// What is told of all upstreams.
#[derive(Debug)]
pub struct UpstreamMetrics {
    requests: IntCounterVec,
    retries: IntCounterVec,
    retries_denied: IntCounterVec,
    connects: IntCounterVec,
    connections: IntGaugeVec,
    endpoints: IntGaugeVec,
    ejections: IntCounterVec,
    breaker_state: IntGaugeVec,
    refused: IntCounterVec,
    queue: IntGaugeVec,
    queue_seconds: HistogramVec,
    timeouts: IntCounterVec,
    tls_reload_success: IntGaugeVec,
}

/// What is told of one upstream. What a request counts is found once, here.
#[derive(Debug)]
pub struct UpstreamCounters {
    name: String,
    /// Requests sent on a new connection.
    pub new: IntCounter,
    /// Requests sent on one that had been used before.
    pub reused: IntCounter,
    /// Requests sent again because the service had not begun with them.
    pub resent: IntCounter,
    retries: IntCounterVec,
    /// Retries that the budget had no room for.
    pub retries_denied: IntCounter,
    connects: IntCounterVec,
    /// Connections that are open.
    pub connections: IntGauge,
    /// 1 where the endpoint of this number is in use.
    pub endpoints: Vec<IntGauge>,
    ejections: IntCounterVec,
    /// 0 closed, 1 half open, 2 open.
    pub breaker_state: IntGauge,
    /// Requests that an open breaker did not let through.
    pub breaker_refused: IntCounter,
    /// Requests that wait for their turn.
    pub queue: IntGauge,
    /// How long those had to wait that did.
    pub queue_seconds: Histogram,
    /// Requests that found the queue full.
    pub queue_full: IntCounter,
    /// Requests whose turn did not come in time.
    pub queue_late: IntCounter,
    timeouts: IntCounterVec,
    /// 1 while the files of `tls`, as they are now, are in force.
    pub tls_reload_success: IntGauge,
}

/// A queue is short, so waits are.
const QUEUE_SECONDS: [f64; 9] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

impl UpstreamMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counters = |name: &str, help: &str, label: &str| {
            let metric = IntCounterVec::new(Opts::new(name, help), &["upstream", label])?;
            registry.register(Box::new(metric.clone())).map(|()| metric)
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            let metric = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(metric.clone())).map(|()| metric)
        };
        let retries_denied = IntCounterVec::new(
            Opts::new("keyward_upstream_retries_denied_total", "Retries that the budget had no room for"),
            &["upstream"],
        )?;
        registry.register(Box::new(retries_denied.clone()))?;
        let queue_seconds = HistogramVec::new(
            HistogramOpts::new("keyward_upstream_queue_seconds", "Time that requests waited for their turn")
                .buckets(QUEUE_SECONDS.to_vec()),
            &["upstream"],
        )?;
        registry.register(Box::new(queue_seconds.clone()))?;
        Ok(Self {
            requests: counters(
                "keyward_upstream_requests_total",
                "Requests sent upstream by connection: new, reused, or resent because the service had not begun with them",
                "connection",
            )?,
            retries: counters("keyward_upstream_retries_total", "Further attempts by what had failed", "reason")?,
            retries_denied,
            connects: counters("keyward_upstream_connects_total", "Attempts to connect to services", "result")?,
            connections: gauges("keyward_upstream_connections", "Open connections to services", &["upstream"])?,
            endpoints: gauges(
                "keyward_upstream_endpoint_up",
                "1 if the endpoint is in use",
                &["upstream", "endpoint"],
            )?,
            ejections: counters("keyward_upstream_ejections_total", "Endpoints left out for a while", "reason")?,
            breaker_state: gauges(
                "keyward_upstream_breaker_state",
                "0 if the breaker is closed, 1 if half open, 2 if open",
                &["upstream"],
            )?,
            refused: counters("keyward_upstream_refused_total", "Requests that were not sent", "reason")?,
            queue: gauges("keyward_upstream_queue", "Requests that wait for their turn", &["upstream"])?,
            queue_seconds,
            timeouts: counters("keyward_upstream_timeouts_total", "Waits for services that took too long", "wait")?,
            tls_reload_success: gauges(
                "keyward_upstream_tls_last_reload_success",
                "1 if the TLS files of the upstream as they are now are in force",
                &["upstream"],
            )?,
        })
    }

    /// What is told of the upstream `name`.
    pub fn counters(&self, name: &str, endpoints: &[Endpoint]) -> UpstreamCounters {
        let requests = |connection| self.requests.with_label_values(&[name, connection]);
        let refused = |reason| self.refused.with_label_values(&[name, reason]);
        let endpoint = |endpoint: &Endpoint| {
            let gauge = self.endpoints.with_label_values(&[name, &endpoint.to_string()]);
            gauge.set(1);
            gauge
        };
        UpstreamCounters {
            name: name.to_owned(),
            new: requests("new"),
            reused: requests("reused"),
            resent: requests("resent"),
            retries: self.retries.clone(),
            retries_denied: self.retries_denied.with_label_values(&[name]),
            connects: self.connects.clone(),
            connections: self.connections.with_label_values(&[name]),
            endpoints: endpoints.iter().map(endpoint).collect(),
            ejections: self.ejections.clone(),
            breaker_state: self.breaker_state.with_label_values(&[name]),
            breaker_refused: refused("breaker"),
            queue: self.queue.with_label_values(&[name]),
            queue_seconds: self.queue_seconds.with_label_values(&[name]),
            queue_full: refused("queue_full"),
            queue_late: refused("queue_wait"),
            timeouts: self.timeouts.clone(),
            tls_reload_success: self.tls_reload_success.with_label_values(&[name]),
        }
    }

    /// An endpoint is not one of an upstream any more.
    pub fn forget(&self, name: &str, endpoint: &Endpoint) {
        // One that is not known is forgotten already.
        let _ = self.endpoints.remove_label_values(&[name, &endpoint.to_string()]);
    }
}

impl UpstreamCounters {
    /// A further attempt, after one that failed for `reason`.
    pub fn retried(&self, reason: &'static str) {
        self.retries.with_label_values(&[self.name.as_str(), reason]).inc();
    }

    pub fn connected(&self, result: &'static str) {
        self.connects.with_label_values(&[self.name.as_str(), result]).inc();
    }

    pub fn ejected(&self, reason: &'static str) {
        self.ejections.with_label_values(&[self.name.as_str(), reason]).inc();
    }

    /// `wait` is the name of the timeout.
    pub fn timed_out(&self, wait: &'static str) {
        self.timeouts.with_label_values(&[self.name.as_str(), wait]).inc();
    }
}
