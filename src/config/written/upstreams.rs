//! `upstreams`: where requests go.

use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::assertion::Assertion;
use super::process::{certificate, file, located, timeout};
use super::resilience::{Breaker, Eject, Health, MANY, Queue, Retries};
use crate::config::address;
use crate::config::field::{At, Field};
use crate::config::header_name::reserved;
use crate::config::secret::secret;
use crate::config::section::{Keys, Section};
use crate::config::value::{Value, YEAR};
use crate::policy::{Endpoint, Http2, MAX_ENDPOINTS, UpstreamTls};
use crate::upstream::check_tls;

pub(super) const UPSTREAM: Keys = Keys {
    known: &[
        "endpoints",
        "tls",
        "http2",
        "timeouts",
        "keepalive",
        "warm",
        "resolve",
        "max_concurrent",
        "queue",
        "eject",
        "breaker",
        "retries",
        "health",
        "headers",
        "assertion",
    ],
    later: &[],
};
pub(super) const TLS: Keys = Keys { known: &["ca", "server_name", "cert", "key"], later: &[] };
pub(super) const TIMEOUTS: Keys = Keys { known: &["connect", "first_byte", "idle", "total"], later: &[] };
pub(super) const HEADERS: Keys = Keys { known: &["set"], later: &[] };

/// One entry of `upstreams`.
pub(crate) struct Upstream {
    pub endpoints: Field<Vec<At<Endpoint>>>,
    pub tls: Field<UpstreamTls>,
    pub http2: Field<Http2>,
    pub timeouts: Timeouts,
    pub keepalive: Field<Duration>,
    pub warm: Field<u64>,
    pub resolve: Field<Duration>,
    /// Zero is no limit.
    pub max_concurrent: Field<u64>,
    pub queue: Field<Queue>,
    pub eject: Field<Option<Eject>>,
    pub breaker: Field<Breaker>,
    pub retries: Field<Retries>,
    pub health: Field<Health>,
    pub set_headers: Vec<(HeaderName, HeaderValue)>,
    pub assertion: Field<Assertion>,
}

/// `timeouts` of an upstream.
#[derive(Default)]
pub(crate) struct Timeouts {
    pub connect: Field<Duration>,
    pub first_byte: Field<Duration>,
    pub idle: Field<Duration>,
    pub total: Field<Duration>,
}

impl Upstream {
    pub fn read(value: &Value<'_>) -> Option<Self> {
        let section = Section::open(value, &UPSTREAM)?;
        let timeouts = section.section("timeouts", &TIMEOUTS, |timeouts| Timeouts {
            connect: timeouts.field("connect", timeout),
            first_byte: timeouts.field("first_byte", timeout),
            idle: timeouts.field("idle", timeout),
            total: timeouts.field("total", timeout),
        });
        Some(Self {
            endpoints: section.required("endpoints", endpoints),
            tls: section.field("tls", tls),
            http2: section.field("http2", http2),
            timeouts: timeouts.unwrap_or_default(),
            // Zero is a bound: a connection is used once.
            keepalive: section.field("keepalive", |value| value.duration(Duration::ZERO..=YEAR)),
            warm: section.field("warm", |value| value.count(0..=100)),
            resolve: section.field("resolve", |value| value.duration(Duration::from_secs(1)..=YEAR)),
            max_concurrent: section.field("max_concurrent", |value| value.count(0..=MANY)),
            queue: section.field("queue", Queue::read),
            eject: section.field("eject", Eject::read),
            breaker: section.field("breaker", Breaker::read),
            retries: section.field("retries", Retries::read),
            health: section.field("health", Health::read),
            set_headers: section.section("headers", &HEADERS, set_headers).unwrap_or_default(),
            assertion: section.field("assertion", Assertion::read),
        })
    }
}

fn endpoints(value: &Value<'_>) -> Option<Vec<At<Endpoint>>> {
    const EXPECTED: &str = "an endpoint such as `http://host:port`";
    let base_dir = value.context.base_dir;
    let list = value.set(|item| located(item, EXPECTED, |text| address::endpoint(text, base_dir)))?;
    match list.get(MAX_ENDPOINTS) {
        Some(further) => {
            value.refuse(further.spot.mistake(format!("an upstream has at most {MAX_ENDPOINTS} endpoints")))
        }
        None if list.is_empty() => value.refuse(value.mistake("expected at least one endpoint, found an empty list")),
        None => Some(list),
    }
}

fn tls(value: &Value<'_>) -> Option<UpstreamTls> {
    let section = Section::open(value, &TLS)?;
    let ca = section.field("ca", file);
    let server_name =
        section.field("server_name", |value| located(value, "the name in the certificate", address::server_name));
    let own = section.get("cert").or_else(|| section.get("key")).is_some();
    let certificate = own.then(|| certificate(&section));
    if matches!(ca, Field::Broken) || matches!(server_name, Field::Broken) || matches!(certificate, Some(None)) {
        return None;
    }
    let spec = UpstreamTls { ca: ca.given(), server_name: server_name.given(), certificate: certificate.flatten() };
    match check_tls(&spec) {
        Ok(()) => Some(spec),
        Err(why) => value.refuse(value.mistake(why)),
    }
}

/// `true`, `false` or `auto`.
fn http2(value: &Value<'_>) -> Option<Http2> {
    match value.as_text() {
        Some("auto") => return Some(Http2::Auto),
        Some(_) => return value.wrong_type("`auto`, true or false"),
        None => {}
    }
    value.boolean().map(|always| if always { Http2::Always } else { Http2::Never })
}

fn set_headers(section: &Section<'_>) -> Vec<(HeaderName, HeaderValue)> {
    let Some(entries) = section.get("set").and_then(|set| set.entries("a mapping of header names to values")) else {
        return Vec::new();
    };
    let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::new();
    for (name, value) in entries {
        let findings = value.context.findings;
        let Ok(header) = HeaderName::from_bytes(name.value.as_bytes()) else {
            findings.add(name.spot.mistake("is not a header name"));
            continue;
        };
        if let Some(reason) = reserved(&header) {
            findings.add(name.spot.mistake(format!("`{}` {reason}", name.value)));
        } else if headers.iter().any(|(known, _)| *known == header) {
            findings.add(name.spot.mistake(format!("`{header}` is already set, in another case")));
        } else if let Some(value) = header_value(&header, &value) {
            headers.push((header, value));
        }
    }
    headers
}

/// Whether a header exists to carry a secret, so that a literal value is one.
pub(super) fn carries_secret(name: &HeaderName) -> bool {
    const ENDS: [&str; 7] = ["authorization", "cookie", "token", "secret", "password", "api-key", "apikey"];
    ENDS.iter().any(|end| name.as_str().ends_with(end))
}

/// A text, or a secret where the header carries one.
fn header_value(name: &HeaderName, value: &Value<'_>) -> Option<HeaderValue> {
    if value.is_map() || carries_secret(name) {
        let mut secret = HeaderValue::from_str(secret(value)?.expose()).ok()?;
        secret.set_sensitive(true);
        return Some(secret);
    }
    value.parsed("a header value", |text| {
        let clean = text.trim() == text && text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
        HeaderValue::from_str(text)
            .ok()
            .filter(|_| clean)
            .ok_or("is not a header value: printable ASCII without spaces around it")
    })
}
