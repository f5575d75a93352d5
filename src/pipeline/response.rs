//! Inspecting a response before it is delivered.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode, response};
use http_body::Body;

use super::content::{Content, Kind};
use super::decode::{Holding, describe_decoded, hold_decoded};
use super::exchange::Exchange;
use super::hold::HoldError;
use super::live::Live;
use super::out_body::Content as Delivery;
use super::request::inspection;
use super::{Pipeline, Refusal};
use crate::headers::{Announced, Way, remove_hop_by_hop, strip_response};
use crate::observe::UnscannedReason;
use crate::policy::{Inspect, Route, Unscannable};
use crate::scan::{Action, Codings, Direction, StreamFormat, TextFormat, Verdict, inspect};
use crate::upstream::UpstreamBody;

/// Headers that describe the exact bytes of a body, and are wrong for a rewritten one.
const OF_THE_BYTES: [HeaderName; 6] = [
    header::ETAG,
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    header::ACCEPT_RANGES,
];

/// What is to be done with a response whose head has arrived.
enum Plan {
    /// Deliver it as it comes; `Some` where rules apply that it is not scanned by.
    Pass(Option<UnscannedReason>),
    /// Hold it and scan it as this.
    Scan(TextFormat),
    /// Scan it as this while it is delivered.
    Live(StreamFormat),
    Refuse(&'static str),
}

impl Pipeline {
    /// Strips the head, scans the body as the route's response rules say, and hands over what may be delivered.
    pub(super) async fn inspect_response(
        &self,
        response: Response<UpstreamBody>,
        route: &Route,
        exchange: &mut Exchange,
    ) -> Result<(response::Parts, Delivery), Refusal> {
        let (mut parts, body) = response.into_parts();
        if parts.headers.contains_key(header::TRANSFER_ENCODING) {
            // The chunks decide where the body ends, whatever length stands beside them (RFC 9112 §6.3).
            parts.headers.remove(header::CONTENT_LENGTH);
        }
        let trailers = Announced::read(&parts.headers);
        remove_hop_by_hop(&mut parts.headers);
        strip_response(&mut parts.headers);
        let rules = &route.response;
        let content = Content::of(&parts.headers);
        exchange.streamed = content.is_stream();
        let empty = exchange.method == Method::HEAD || body.is_end_stream();
        let length = body.size_hint().exact();
        let applies = rules.needs_text() && content.class().is_some_and(|class| rules.content_types.contains(&class));
        if empty && applies && rules.action != Action::Observe && !content.codings.is_empty() {
            // A head without a body describes what a body would be: decoded.
            describe_decoded(&mut parts.headers);
        }
        let (mut parts, delivery) = match plan(parts.status, content, rules, empty, length) {
            Plan::Pass(reason) => (parts, Delivery::Streamed(Box::new(body), reason)),
            Plan::Refuse(why) => return Err(Refusal::UnscannableResponse(why)),
            Plan::Live(format) => self.scan_live(parts, body, (format, content.codings), rules, exchange).await?,
            Plan::Scan(format) => self.scan_response(parts, body, (format, content.codings), rules, exchange).await?,
        };
        let announced = trailers.passed_on(&route.trailers, Way::Response);
        if let Some(announced) = announced.filter(|_| !empty && delivery.may_have_trailers()) {
            parts.headers.insert(header::TRAILER, announced);
        }
        Ok((parts, delivery))
    }

    async fn scan_live(
        &self,
        mut parts: response::Parts,
        body: UpstreamBody,
        (format, codings): (StreamFormat, Codings),
        rules: &Inspect,
        exchange: &mut Exchange,
    ) -> Result<(response::Parts, Delivery), Refusal> {
        exchange.streamed = true;
        let mut live = Live::new(body, (format, codings), rules, exchange, self.memory.lease());
        if let Err(refusal) = live.begin().await {
            live.account(exchange);
            return Err(refusal);
        }
        if rules.action != Action::Observe {
            // It may be cut, and it may end early.
            parts.headers.remove(header::CONTENT_LENGTH);
            if !codings.is_empty() {
                describe_decoded(&mut parts.headers);
            }
        }
        if rules.action.rewrites() {
            remove_validators(&mut parts.headers);
        }
        Ok((parts, Delivery::Live(Box::new(live))))
    }

    async fn scan_response(
        &self,
        mut parts: response::Parts,
        body: UpstreamBody,
        (format, codings): (TextFormat, Codings),
        rules: &Inspect,
        exchange: &mut Exchange,
    ) -> Result<(response::Parts, Delivery), Refusal> {
        let mut lease = self.memory.lease();
        let out_of_memory = || Refusal::Overloaded("the memory budget for held bodies is used up");
        // The body has its own idle timeout; a second one would only be another name for it.
        let passes = rules.action == Action::Observe || rules.unscannable == Unscannable::Pass;
        let how = Holding { codings, max: rules.max_body, timeout: None, keep: passes };
        let held = hold_decoded(body, how, &mut lease).await.map_err(|error| match error {
            HoldError::TooLarge => Refusal::ResponseTooLong,
            HoldError::TooSlow => Refusal::UpstreamTimeout,
            HoldError::NoMemory => out_of_memory(),
            HoldError::Broken(error) if error.kind() == std::io::ErrorKind::TimedOut => Refusal::UpstreamTimeout,
            HoldError::Broken(error) => Refusal::UpstreamBroken(error.to_string()),
        })?;
        let (held, as_it_came) = match (held.text, held.raw) {
            (Ok(text), raw) => (text, raw.filter(|_| rules.action == Action::Observe)),
            (Err(_), Some(raw)) => {
                exchange.unscanned(Direction::Response, UnscannedReason::Unscannable, held.wire);
                parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(raw.len()));
                return Ok((parts, Delivery::Held { rest: raw, lease: Some(lease) }));
            }
            (Err(why), None) => return Err(Refusal::UnscannableResponse(why)),
        };
        lease.grow(format.memory(held.len(), rules.action)).map_err(|_| out_of_memory())?;
        let report = inspect(&held, format, &inspection(rules));
        exchange.inspected(&rules.rules, rules.action, Direction::Response, &report.hits);
        exchange.response_length = Some(report.chars);
        exchange.passed_binary(Direction::Response, report.binary);
        let body = match report.verdict {
            Verdict::Clean | Verdict::Observed => held,
            Verdict::Rewritten(body) => {
                remove_validators(&mut parts.headers);
                body
            }
            Verdict::Malformed(_) | Verdict::Unscannable(_) if passes => {
                exchange.unscanned(Direction::Response, UnscannedReason::Unscannable, held.len() as u64);
                held
            }
            Verdict::Malformed(_) => {
                return Err(Refusal::UnscannableResponse("the body is not of the type that it is said to be"));
            }
            Verdict::Unscannable(why) => return Err(Refusal::UnscannableResponse(why)),
            Verdict::Blocked | Verdict::TooLong if rules.action == Action::Observe => held,
            Verdict::Blocked => return Err(Refusal::ResponseBlocked),
            Verdict::TooLong => return Err(Refusal::ResponseTooLong),
        };
        let body = match as_it_came {
            Some(raw) => raw,
            None => {
                if !codings.is_empty() {
                    describe_decoded(&mut parts.headers);
                }
                body
            }
        };
        parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        Ok((parts, Delivery::Held { rest: body, lease: Some(lease) }))
    }
}

pub(super) fn remove_validators(headers: &mut HeaderMap) {
    for name in OF_THE_BYTES {
        headers.remove(name);
    }
}

/// `length` is that of the body as it comes, where it is declared.
fn plan(status: StatusCode, content: Content, rules: &Inspect, empty: bool, length: Option<u64>) -> Plan {
    if empty || !rules.needs_text() {
        return Plan::Pass(None);
    }
    let applies = content.kind == Kind::Unclear || status == StatusCode::PARTIAL_CONTENT;
    if !applies && !content.class().is_some_and(|class| rules.content_types.contains(&class)) {
        return Plan::Pass(Some(UnscannedReason::ContentType));
    }
    let why = match (content.kind, content.problem) {
        (_, None) if status == StatusCode::PARTIAL_CONTENT => "a part of a body",
        (_, Some(problem)) => problem,
        (Kind::Text(TextFormat::Text), None) if streams(rules, length.filter(|_| content.codings.is_empty())) => {
            return Plan::Live(StreamFormat::Text);
        }
        // Half a document is of no use, but what is only observed is never cut, late or too large.
        (Kind::Text(TextFormat::Json), None) if rules.action == Action::Observe => {
            return Plan::Live(StreamFormat::Document);
        }
        (Kind::Text(format), None) => return Plan::Scan(format),
        // Each rule would need the text that the rules before it leave, and a later one what an earlier one withholds.
        (Kind::EventStream | Kind::Ndjson, None) if rules.action == Action::Sanitize => {
            return Plan::Refuse("a stream cannot be sanitized");
        }
        (Kind::EventStream, None) => return Plan::Live(StreamFormat::Events),
        (Kind::Ndjson, None) => return Plan::Live(StreamFormat::Lines),
        (Kind::Other | Kind::Unclear, None) => return Plan::Pass(Some(UnscannedReason::ContentType)),
    };
    let passes = rules.action == Action::Observe || rules.unscannable == Unscannable::Pass;
    if passes { Plan::Pass(Some(UnscannedReason::Unscannable)) } else { Plan::Refuse(why) }
}

/// Whether a text is delivered while it is scanned: one that does not say that it is short, and thus soon whole, or is
/// only observed.
fn streams(rules: &Inspect, length: Option<u64>) -> bool {
    /// What is held for the sake of a clean refusal.
    const SHORT: u64 = 1 << 20;
    match rules.action {
        Action::Sanitize => false,
        Action::Observe => true,
        Action::Block | Action::Redact => length.is_none_or(|length| length > SHORT),
    }
}

/// Asks the service for a response that can be scanned: whole, and not compressed. What is compressed all the same is
/// decoded; but the way is short, and nobody's time is saved by packing what is unpacked at its end.
pub(super) fn ask_for_scannable(headers: &mut HeaderMap, rules: &Inspect) {
    if rules.needs_text() {
        headers.remove(header::RANGE);
        headers.remove(header::IF_RANGE);
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
}
