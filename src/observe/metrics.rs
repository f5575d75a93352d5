//! Prometheus metrics. Every label is bounded by the configuration or by an enum of ours.

use std::time::SystemTime;

use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use super::upstreams::UpstreamMetrics;

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    duration: HistogramVec,
    first_byte: HistogramVec,
    rule_hits: IntCounterVec,
    unscanned_bytes: IntCounterVec,
    cache: IntCounterVec,
    verifications: IntCounterVec,
    verifier_tokens: IntCounterVec,
    key_lists: IntCounterVec,
    key_evictions: IntCounterVec,
    reloads: IntCounterVec,
    /// Requests that are being served.
    pub in_flight: IntGauge,
    /// Open client connections.
    pub connections: IntGauge,
    /// Open WebSockets by route.
    pub websockets: IntGaugeVec,
    /// Messages of WebSockets that have ended, by route and direction.
    pub websocket_messages: IntCounterVec,
    /// Requests that a route with `auth: observe` let pass without a key.
    pub keyless: IntCounterVec,
    /// 1 for an upstream whose service can be reached past us.
    pub upstream_exposed: IntGaugeVec,
    /// Bytes of bodies that are held for inspection.
    pub held_bytes: IntGauge,
    reload_success: IntGauge,
    reload_time: IntGauge,
    generation: IntGauge,
    /// Failed attempts to write usage records; what could not be written is kept and tried again.
    pub usage_write_errors: IntCounter,
    /// Uses of keys that could not be written to the key store.
    pub key_uses_dropped: IntCounter,
    /// Connections that should have begun with a PROXY header, and did not.
    pub proxy_protocol_failures: IntCounter,
    /// Waits for a client, below HTTP, that took too long.
    pub client_timeouts: ClientTimeouts,
    /// TLS handshakes of clients that came to nothing.
    pub tls_handshake_failures: IntCounter,
    /// Whether the TLS files, as they are now, are in force.
    pub tls_reload_success: IntGauge,
    /// What one verification took, in seconds.
    pub verification_seconds: Histogram,
    /// Requests to the key service, by operation and status.
    pub keys_api: IntCounterVec,
    /// By the name of a token, which the configuration bounds.
    pub keys_api_token_used: IntGaugeVec,
    pub keys_api_followers: IntGauge,
    /// 1 while the changes of a key service are followed.
    pub revocation_stream: IntGauge,
    pub upstreams: UpstreamMetrics,
}

/// Waits for a client, by what was waited for.
#[derive(Clone, Debug)]
pub struct ClientTimeouts {
    /// A PROXY header, or the end of a TLS handshake.
    pub handshake: IntCounter,
    /// The end of a request's head, the next request on a kept connection included.
    pub header: IntCounter,
    /// That something is taken of what was written.
    pub write: IntCounter,
}

/// Why bytes passed without being scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnscannedReason {
    /// Strings of a stream that are named like ids and look like ids, under a declared format.
    Opaque,
    /// A content type that the rules do not apply to.
    ContentType,
    /// A content coding, a charset or a broken document, where the policy is to pass.
    Unscannable,
    /// Parts of a multipart body that are declared to be no text, and are none.
    BinaryPart,
}

impl UnscannedReason {
    fn as_str(self) -> &'static str {
        match self {
            Self::Opaque => "opaque",
            Self::ContentType => "content_type",
            Self::Unscannable => "unscannable",
            Self::BinaryPart => "binary_part",
        }
    }
}

/// 1 ms to 5 minutes: an AI answer may take that long.
const SECONDS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0];

impl Metrics {
    /// Registers everything. Fails only if two metrics share a name, which a test rules out.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let metric = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(metric.clone())).map(|()| metric)
        };
        let counter = |name: &str, help: &str| {
            let metric = IntCounter::new(name, help)?;
            registry.register(Box::new(metric.clone())).map(|()| metric)
        };
        let gauge = |name: &str, help: &str| {
            let metric = IntGauge::new(name, help)?;
            registry.register(Box::new(metric.clone())).map(|()| metric)
        };
        let seconds = |name: &str, help: &str| {
            let options = HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
            let metric = HistogramVec::new(options, &["route"])?;
            registry.register(Box::new(metric.clone())).map(|()| metric)
        };
        let client_timeouts =
            counters("keyward_client_timeouts_total", "Waits for a client that took too long", &["wait"])?;
        let verification_seconds = Histogram::with_opts(
            HistogramOpts::new("keyward_verification_seconds", "Time of one uncached key verification")
                .buckets(SECONDS.to_vec()),
        )?;
        registry.register(Box::new(verification_seconds.clone()))?;
        Ok(Self {
            requests: counters(
                "keyward_requests_total",
                "Requests by route, status class and refusal code",
                &["route", "status", "refusal"],
            )?,
            duration: seconds("keyward_request_seconds", "Time from request head to the end of the response")?,
            first_byte: seconds("keyward_first_byte_seconds", "Time from request head to response head")?,
            rule_hits: counters(
                "keyward_rule_hits_total",
                "Texts that a rule matched",
                &["rule", "direction", "action"],
            )?,
            unscanned_bytes: counters(
                "keyward_unscanned_bytes_total",
                "Body bytes that passed unscanned on routes with rules",
                &["direction", "reason"],
            )?,
            cache: counters("keyward_key_cache_total", "Key cache lookups", &["result"])?,
            verifications: counters("keyward_verifications_total", "Uncached key verifications", &["outcome"])?,
            verifier_tokens: counters("keyward_verifier_tokens_total", "Tokens asked of Kinde", &["outcome"])?,
            key_lists: counters("keyward_key_lists_total", "Readings of Kinde's list of active keys", &["outcome"])?,
            key_evictions: counters(
                "keyward_key_evictions_total",
                "Cached keys forgotten because the list no longer has them",
                &["reason"],
            )?,
            reloads: counters("keyward_config_reloads_total", "Configuration reloads", &["result"])?,
            in_flight: gauge("keyward_requests_in_flight", "Requests being served")?,
            connections: gauge("keyward_connections", "Open client connections")?,
            websockets: {
                let metric = IntGaugeVec::new(Opts::new("keyward_websockets", "Open WebSockets"), &["route"])?;
                registry.register(Box::new(metric.clone()))?;
                metric
            },
            websocket_messages: counters(
                "keyward_websocket_messages_total",
                "Messages that WebSockets had delivered when they ended",
                &["route", "direction"],
            )?,
            keyless: counters(
                "keyward_keyless_requests_total",
                "Keyless requests let pass by auth: observe",
                &["route"],
            )?,
            upstream_exposed: {
                let help = "1 if the service answers on another address than loopback too";
                let metric = IntGaugeVec::new(Opts::new("keyward_upstream_exposed", help), &["upstream"])?;
                registry.register(Box::new(metric.clone()))?;
                metric
            },
            held_bytes: gauge("keyward_held_bytes", "Bytes of bodies held for inspection")?,
            reload_success: gauge(
                "keyward_config_last_reload_success",
                "1 if the last configuration load took effect",
            )?,
            reload_time: gauge(
                "keyward_config_last_reload_success_timestamp_seconds",
                "When the configuration in force took effect, in seconds since 1970",
            )?,
            generation: gauge(
                "keyward_config_generation",
                "How many configurations have been in force since the start, the present one included",
            )?,
            key_uses_dropped: counter(
                "keyward_key_uses_dropped_total",
                "Uses of keys that could not be written to the key store",
            )?,
            usage_write_errors: counter("keyward_usage_write_errors_total", "Failed writes of usage records")?,
            proxy_protocol_failures: counter(
                "keyward_proxy_protocol_failures_total",
                "Connections that should have begun with a PROXY header, and did not",
            )?,
            client_timeouts: ClientTimeouts {
                handshake: client_timeouts.with_label_values(&["handshake"]),
                header: client_timeouts.with_label_values(&["header"]),
                write: client_timeouts.with_label_values(&["write"]),
            },
            tls_handshake_failures: counter(
                "keyward_tls_handshake_failures_total",
                "Client TLS handshakes that failed",
            )?,
            tls_reload_success: gauge(
                "keyward_tls_last_reload_success",
                "1 if the TLS files as they are now are in force",
            )?,
            keys_api: counters(
                "keyward_keys_api_requests_total",
                "Requests to the key service",
                &["operation", "status"],
            )?,
            keys_api_token_used: {
                let help = "When a token of the key service was last accepted, in seconds since 1970";
                let metric = IntGaugeVec::new(Opts::new("keyward_keys_api_token_last_used_seconds", help), &["token"])?;
                registry.register(Box::new(metric.clone()))?;
                metric
            },
            keys_api_followers: gauge("keyward_keys_api_followers", "Open streams of changes of the key service")?,
            revocation_stream: gauge("keyward_revocation_stream_up", "1 while the key service's changes are followed")?,
            verification_seconds,
            upstreams: UpstreamMetrics::new(&registry)?,
            registry,
        })
    }

    /// One finished request. `route` is a configured id, or `-` where none matched.
    pub fn request(&self, route: &str, status: u16, refusal: &str, seconds: f64, first_byte: Option<f64>) {
        let class = match status {
            100..=199 => "1xx",
            200..=299 => "2xx",
            300..=399 => "3xx",
            400..=498 => "4xx",
            499 => "client_closed",
            _ => "5xx",
        };
        self.requests.with_label_values(&[route, class, refusal]).inc();
        self.duration.with_label_values(&[route]).observe(seconds);
        if let Some(seconds) = first_byte {
            self.first_byte.with_label_values(&[route]).observe(seconds);
        }
    }

    pub fn rule_hits(&self, rule: &str, direction: &str, action: &str, count: u64) {
        self.rule_hits.with_label_values(&[rule, direction, action]).inc_by(count);
    }

    pub fn unscanned(&self, direction: &str, reason: UnscannedReason, bytes: u64) {
        self.unscanned_bytes.with_label_values(&[direction, reason.as_str()]).inc_by(bytes);
    }

    pub fn cache_lookup(&self, result: &'static str) {
        self.cache.with_label_values(&[result]).inc();
    }

    pub fn verification(&self, outcome: &'static str, seconds: f64) {
        self.verifications.with_label_values(&[outcome]).inc();
        self.verification_seconds.observe(seconds);
    }

    /// Tokens are metered by Kinde, so their number is worth watching.
    pub fn verifier_token(&self, issued: bool) {
        self.verifier_tokens.with_label_values(&[if issued { "issued" } else { "failed" }]).inc();
    }

    /// One reading of the list of active keys.
    pub fn key_list(&self, complete: bool) {
        self.key_lists.with_label_values(&[if complete { "complete" } else { "failed" }]).inc();
    }

    /// Cached keys that a list of active ones made us forget.
    pub fn key_evictions(&self, revoked: u64, rotated: u64) {
        for (reason, count) in [("revoked", revoked), ("rotated", rotated)] {
            if count > 0 {
                self.key_evictions.with_label_values(&[reason]).inc_by(count);
            }
        }
    }

    /// A configuration took effect at the start, or by a reload.
    pub fn configured(&self, now: SystemTime) {
        let since_1970 = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.reload_success.set(1);
        self.reload_time.set(i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX));
        self.generation.inc();
    }

    /// A reload; a refused one leaves everything as it was.
    pub fn reload(&self, took_effect: bool, now: SystemTime) {
        self.reloads.with_label_values(&[if took_effect { "success" } else { "failure" }]).inc();
        if took_effect {
            self.configured(now);
        } else {
            self.reload_success.set(0);
        }
    }

    /// The text exposition format, version 0.0.4.
    pub fn render(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut out = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut out)?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_registers_and_renders() {
        let metrics = Metrics::new().expect("names are distinct");
        metrics.request("chat", 200, "", 0.1, Some(0.05));
        metrics.request("-", 499, "", 0.1, None);
        let text = String::from_utf8(metrics.render().expect("renders")).expect("utf-8");
        assert!(text.contains(r#"keyward_requests_total{refusal="",route="chat",status="2xx"} 1"#), "{text}");
        assert!(text.contains(r#"status="client_closed""#), "{text}");
    }
}
