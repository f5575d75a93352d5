//! Metrics of the upstreams. Every label is a name of the configuration or an enum of ours.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// What is told of all upstreams.
#[derive(Debug)]
pub struct UpstreamMetrics {
    requests: IntCounterVec,
    connections: IntGaugeVec,
    tls_reload_success: IntGaugeVec,
}

/// What is told of one upstream, found once: a request only counts.
#[derive(Debug)]
pub struct UpstreamCounters {
    /// Requests sent on a new connection.
    pub new: IntCounter,
    /// Requests sent on one that had been used before.
    pub reused: IntCounter,
    /// Requests sent again after a used connection was found closed.
    pub resent: IntCounter,
    /// Connections that are open.
    pub connections: IntGauge,
    /// 1 while the files of `tls`, as they are now, are in force.
    pub tls_reload_success: IntGauge,
}

impl UpstreamMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let metric = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(metric.clone())).map(|()| metric)
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            let metric = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(metric.clone())).map(|()| metric)
        };
        Ok(Self {
            requests: counters(
                "keyward_upstream_requests_total",
                "Requests sent upstream by connection: new, reused, or resent after a reused one was found closed",
                &["upstream", "connection"],
            )?,
            connections: gauges("keyward_upstream_connections", "Open connections to services", &["upstream"])?,
            tls_reload_success: gauges(
                "keyward_upstream_tls_last_reload_success",
                "1 if the TLS files of the upstream as they are now are in force",
                &["upstream"],
            )?,
        })
    }

    /// What is told of the upstream `name`.
    pub fn counters(&self, name: &str) -> UpstreamCounters {
        let requests = |connection| self.requests.with_label_values(&[name, connection]);
        UpstreamCounters {
            new: requests("new"),
            reused: requests("reused"),
            resent: requests("resent"),
            connections: self.connections.with_label_values(&[name]),
            tls_reload_success: self.tls_reload_success.with_label_values(&[name]),
        }
    }
}
