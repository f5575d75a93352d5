//! `upstreams`.

use std::path::Path;
use std::time::Duration;

use crate::config::Overrides;
use crate::config::address;
use crate::config::field::Field;
use crate::config::mistake::{Findings, Mistake, quoted};
use crate::config::written::{self, Named};
use crate::policy::{Endpoint, Http2, Timeouts, Upstream};

use super::assertion::KeyIds;
use super::names::Names;
use super::resilience;

const CONNECT: Duration = Duration::from_secs(1);
/// A model may think for minutes before its first byte.
const FIRST_BYTE: Duration = Duration::from_secs(5 * 60);
const IDLE: Duration = Duration::from_secs(60);
/// Shorter than gunicorn's two seconds: the side that may send a request closes an idle connection first.
const KEEPALIVE: Duration = Duration::from_secs(1);
const RESOLVE: Duration = Duration::from_secs(30);

pub(super) fn compile(
    written: Field<Vec<Named<written::Upstream>>>,
    endpoint: Option<&Endpoint>,
    key_ids: &KeyIds<'_>,
    findings: &Findings,
) -> Names<Upstream> {
    let mut names = Names::new("upstream", !matches!(written, Field::Broken));
    for Named { name, body } in written.given().unwrap_or_default() {
        let upstream = body.and_then(|body| upstream(&name.value, body, endpoint, key_ids, findings));
        names.add(name, upstream);
    }
    names
}

fn upstream(
    name: &str,
    written: written::Upstream,
    endpoint: Option<&Endpoint>,
    key_ids: &KeyIds<'_>,
    findings: &Findings,
) -> Option<Upstream> {
    let assertion = written.assertion.given().and_then(|assertion| key_ids.assertion(&assertion, name));
    // Read in any case: an override hides no mistake.
    let own: Option<Vec<Endpoint>> =
        written.endpoints.given().map(|list| list.into_iter().map(|endpoint| endpoint.value).collect());
    if let (Some(own), Some(spot)) = (&own, written.tls.spot())
        && !own.iter().any(Endpoint::is_tls)
    {
        findings.add(spot.mistake("no endpoint is `https://`, so `tls` would mean nothing"));
    }
    let keepalive = written.keepalive.or(KEEPALIVE);
    if let Some(spot) = written.warm.spot()
        && keepalive.is_zero()
        && resilience::count(written.warm.clone(), 0) > 0
    {
        let mistake = spot.mistake("with `keepalive: 0s` no connection is kept, so none can be ready");
        findings.add(mistake.help("give `keepalive` a time, or leave `warm` out"));
    }
    let endpoints = match (endpoint, own) {
        (Some(endpoint), _) => vec![endpoint.clone()],
        (None, own) => own?,
    };
    Some(Upstream {
        name: name.into(),
        endpoints,
        tls: written.tls.given().unwrap_or_default(),
        http2: written.http2.or(Http2::Auto),
        timeouts: Timeouts {
            connect: written.timeouts.connect.or(CONNECT),
            first_byte: written.timeouts.first_byte.or(FIRST_BYTE),
            idle: written.timeouts.idle.or(IDLE),
            total: written.timeouts.total.given(),
        },
        keepalive,
        warm: resilience::count(written.warm, 0),
        resolve: written.resolve.or(RESOLVE),
        max_concurrent: resilience::concurrency(written.max_concurrent, written.queue, findings),
        eject: resilience::ejection(written.eject, findings),
        breaker: written.breaker.given().map(resilience::breaker),
        retries: written.retries.given().map(resilience::retries),
        health: written.health.given().and_then(resilience::health),
        set_headers: written.set_headers,
        assertion,
    })
}

/// The endpoint that takes the place of every upstream's own.
pub(super) fn endpoint_override(overrides: &Overrides, findings: &Findings) -> Option<Endpoint> {
    let text = overrides.endpoint.as_deref()?;
    match address::endpoint(text, Path::new("")) {
        Ok(endpoint) => Some(endpoint),
        Err(bad) => {
            findings.add(Mistake::at(None, "", format!("the endpoint override {}: {}", quoted(text), bad.message)));
            None
        }
    }
}
