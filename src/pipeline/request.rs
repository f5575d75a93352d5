//! Inspecting a request before it is forwarded.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::request;
use http_body::Body;
use hyper::body::Incoming;

use super::content::{Content, Kind};
use super::decode::{Held, Holding, describe_decoded, hold_decoded};
use super::exchange::Exchange;
use super::hold::HoldError;
use super::memory::Lease;
use super::{Pipeline, Refusal, tail};
use crate::observe::UnscannedReason;
use crate::policy::{Inspect, Unscannable};
use crate::scan::{Action, Codings, Direction, Inspection, Report, TextFormat, Verdict, inspect, inspect_query};
use crate::upstream::{BodyFault, RequestBody, Streamed};

impl Pipeline {
    /// Scans query and body as the route's request rules say. What comes back may be forwarded; `lease` pays for
    /// what is held of it.
    pub(super) async fn inspect_request(
        &self,
        parts: &mut request::Parts,
        body: &mut Option<Incoming>,
        rules: &Inspect,
        exchange: &mut Exchange,
        lease: &mut Lease,
    ) -> Result<RequestBody, Refusal> {
        if declared_length(parts).is_some_and(|length| length > rules.max_body) {
            return Err(Refusal::BodyTooLarge);
        }
        if rules.needs_text()
            && let Some(query) = parts.uri.query()
        {
            let report = inspect_query(query, &inspection(rules));
            exchange.inspected(&rules.rules, rules.action, Direction::Request, &report.hits);
            judge(&report, rules)?;
        }
        let Some(mut incoming) = body.take().filter(|body| !body.is_end_stream()) else {
            return Ok(RequestBody::held_bytes(Bytes::new()));
        };
        if !rules.needs_text() {
            return Ok(self.streamed(incoming, rules, exchange));
        }
        let content = Content::of(&parts.headers);
        let format = match readable(content) {
            Ok(format) => format,
            Err(_) if passes_unscanned(rules) => return self.unscanned(parts, incoming, rules, exchange, lease).await,
            Err(why) => {
                // Given back, so that it is drained and the client reads the refusal.
                *body = Some(incoming);
                return Err(Refusal::UnscannableBody(why));
            }
        };
        if let Some((format, length)) = tail::streams(content, format, &incoming, rules, exchange) {
            return self.with_tail_withheld(parts, incoming, body, (format, length), rules, exchange, lease).await;
        }
        let held = self.hold_request(&mut incoming, content.codings, rules, exchange, lease).await?;
        let text = match (held.text, held.raw) {
            // What is only observed goes on as it came.
            (Ok(text), Some(raw)) if rules.action == Action::Observe => {
                scan(text, format, rules, exchange, lease)?;
                return Ok(held_body(parts, raw));
            }
            (Ok(text), _) => scan(text, format, rules, exchange, lease)?,
            (Err(_), Some(raw)) => {
                exchange.unscanned(Direction::Request, UnscannedReason::Unscannable, held.wire);
                return Ok(held_body(parts, raw));
            }
            (Err(why), None) => {
                *body = Some(incoming);
                return Err(Refusal::UnscannableBody(why));
            }
        };
        if !content.codings.is_empty() {
            describe_decoded(&mut parts.headers);
        }
        Ok(held_body(parts, text))
    }

    fn streamed(&self, incoming: Incoming, rules: &Inspect, exchange: &Exchange) -> RequestBody {
        RequestBody::streamed(self.stream(incoming, rules, exchange))
    }

    pub(super) fn stream(&self, incoming: Incoming, rules: &Inspect, exchange: &Exchange) -> Streamed {
        Streamed {
            incoming,
            max: rules.max_body,
            timeout: self.body_timeout,
            passed: Arc::clone(&exchange.request_bytes),
            trailers: exchange.route.as_ref().map(|route| Arc::clone(&route.trailers)).unwrap_or_default(),
            go_ahead: None,
        }
    }

    /// A body that the policy lets through although it cannot be scanned: counted, and still whole before it is sent.
    async fn unscanned(
        &self,
        parts: &mut request::Parts,
        incoming: Incoming,
        rules: &Inspect,
        exchange: &Exchange,
        lease: &mut Lease,
    ) -> Result<RequestBody, Refusal> {
        let held = self.hold_request(incoming, Codings::default(), rules, exchange, lease).await?;
        exchange.unscanned(Direction::Request, UnscannedReason::Unscannable, held.wire);
        held.text.map(|body| held_body(parts, body)).map_err(Refusal::UnscannableBody)
    }

    async fn hold_request(
        &self,
        incoming: impl Body<Data = Bytes, Error = hyper::Error>,
        codings: Codings,
        rules: &Inspect,
        exchange: &Exchange,
        lease: &mut Lease,
    ) -> Result<Held, Refusal> {
        let keep = passes_unscanned(rules);
        let how = Holding { codings, max: rules.max_body, timeout: Some(self.body_timeout), keep };
        let held = hold_decoded(incoming, how, lease).await.map_err(held_badly)?;
        exchange.request_bytes.store(held.wire, std::sync::atomic::Ordering::Relaxed);
        Ok(held)
    }
}

/// Why the body of a request was not held.
pub(super) fn held_badly<E>(error: HoldError<E>) -> Refusal {
    match error {
        HoldError::TooLarge => Refusal::BodyTooLarge,
        HoldError::TooSlow => BodyFault::TooSlow.into(),
        HoldError::NoMemory => Refusal::Overloaded("the memory budget for held bodies is used up"),
        HoldError::Broken(_) => BodyFault::Aborted.into(),
    }
}

/// How a request's body is to be read, or why it cannot be.
fn readable(content: Content) -> Result<TextFormat, &'static str> {
    match (content.kind, content.problem) {
        (_, Some(problem)) => Err(problem),
        (Kind::Text(format), None) => Ok(format),
        // What a client says comes whole: nothing in it waits for more.
        (Kind::EventStream, None) => Ok(TextFormat::Events),
        (Kind::Ndjson, None) => Ok(TextFormat::Lines),
        (Kind::Other | Kind::Unclear, None) => Err("this content type cannot be inspected"),
    }
}

pub(super) fn passes_unscanned(rules: &Inspect) -> bool {
    rules.action == Action::Observe || rules.unscannable == Unscannable::Pass
}

fn scan(
    held: Bytes,
    format: TextFormat,
    rules: &Inspect,
    exchange: &mut Exchange,
    lease: &mut Lease,
) -> Result<Bytes, Refusal> {
    let memory = format.memory(held.len(), rules.action);
    lease.grow(memory).map_err(|_| Refusal::Overloaded("the memory budget for held bodies is used up"))?;
    let report = inspect(&held, format, &inspection(rules));
    exchange.inspected(&rules.rules, rules.action, Direction::Request, &report.hits);
    exchange.input_length = Some(report.chars);
    exchange.passed_binary(Direction::Request, report.binary);
    if matches!(report.verdict, Verdict::Malformed(_) | Verdict::Unscannable(_)) && passes_unscanned(rules) {
        exchange.unscanned(Direction::Request, UnscannedReason::Unscannable, held.len() as u64);
        return Ok(held);
    }
    judge(&report, rules)?;
    match report.verdict {
        Verdict::Rewritten(body) => Ok(body),
        _ => Ok(held),
    }
}

/// A verdict as a refusal. Observing refuses nothing.
fn judge(report: &Report, rules: &Inspect) -> Result<(), Refusal> {
    if rules.action == Action::Observe {
        return Ok(());
    }
    match &report.verdict {
        Verdict::Clean | Verdict::Observed | Verdict::Rewritten(_) => Ok(()),
        Verdict::Blocked => Err(Refusal::InputBlocked),
        Verdict::TooLong => Err(Refusal::InputTooLong),
        Verdict::Malformed(error) => Err(Refusal::BadBody(error.to_string())),
        Verdict::Unscannable(why) => Err(Refusal::UnscannableBody(why)),
    }
}

pub(super) fn inspection(rules: &Inspect) -> Inspection<'_> {
    Inspection {
        rules: &rules.rules,
        action: rules.action,
        max_chars: rules.max_chars,
        max_body_chars: rules.max_body_chars,
        binary_parts: rules.binary_parts,
    }
}

/// A held body is sent with its length: Werkzeug reads a chunked body as empty unless its server helps.
fn held_body(parts: &mut request::Parts, held: Bytes) -> RequestBody {
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(held.len()));
    RequestBody::held_bytes(held)
}

fn declared_length(parts: &request::Parts) -> Option<u64> {
    parts.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

/// Reads what is left of a refused request's body, so that the client is done sending and reads the answer.
/// Returns whether the end was reached within bounds; otherwise the connection has to close.
pub(super) async fn drain(body: Incoming) -> bool {
    /// What a client has usually sent already when it is refused.
    const MOST: u64 = 256 * 1024;
    const LONGEST: Duration = Duration::from_millis(250);
    if body.size_hint().lower() > MOST {
        return false;
    }
    let mut body = body;
    let read = async {
        let mut length = 0;
        while let Some(frame) = http_body_util::BodyExt::frame(&mut body).await {
            let Ok(frame) = frame else { return false };
            length += frame.data_ref().map_or(0, |data| data.len() as u64);
            if length > MOST {
                return false;
            }
        }
        true
    };
    tokio::time::timeout(LONGEST, read).await.unwrap_or(false)
}
