//! The account of one request, from its head to the end of its response.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::HeaderValue;
use tokio::time::Instant;

use super::tail::Screening;
use super::{Refusal, grpc};
use crate::keys::hide_keys;
use crate::observe::{Metrics, Outcome, RuleHits, UnscannedReason, UsageRecord, UsageSlot};
use crate::policy::{ErrorFormat, Principal, Route};
use crate::scan::{Action, Direction, RuleHit, RuleSet};
use crate::time::{Clock, Now};
use crate::upstream::GoAhead;

/// The status of a request whose client left before there was a response; nginx has made the number known.
const CLIENT_CLOSED: u16 = 499;

/// Longest path that a record shows.
const LONGEST_PATH: usize = 1024;

/// What is known about a request so far. Dropping it closes the account: exactly one record is written, however the
/// request ended.
#[derive(Debug)]
pub(super) struct Exchange {
    metrics: Arc<Metrics>,
    clock: Clock,
    slot: Option<UsageSlot>,
    pub(super) started: Now,
    pub(super) request_id: HeaderValue,
    pub(super) method: http::Method,
    /// As [`shown`].
    pub(super) path: String,
    pub(super) client: std::net::IpAddr,
    pub(super) route: Option<Arc<Route>>,
    pub(super) principal: Option<Arc<Principal>>,
    /// 499 until a response exists: the client left before.
    status: u16,
    outcome: Outcome,
    refusal: Option<&'static str>,
    pub(super) input_length: Option<u64>,
    pub(super) response_length: Option<u64>,
    pub(super) request_bytes: Arc<AtomicU64>,
    pub(super) response_bytes: u64,
    /// Messages of a WebSocket.
    pub(super) request_messages: Option<u64>,
    pub(super) response_messages: Option<u64>,
    /// Texts of the request that were only observed to imitate the owner line.
    pub(super) imitations: Arc<AtomicU64>,
    /// What is known of a request that is scanned while it is forwarded.
    pub(super) screening: Option<Arc<Screening>>,
    first_byte: Option<Duration>,
    rules: Vec<RuleHits>,
    /// Where a slow response is judged by its first byte.
    pub(super) streamed: bool,
    pub(super) forwarded: bool,
    /// Whether it is a call of gRPC.
    pub(super) is_grpc: bool,
    /// When the client stops waiting.
    pub(super) deadline: Option<Instant>,
    /// What holds the request's body back until the service asks for it.
    pub(super) go_ahead: Option<Arc<GoAhead>>,
}

impl Exchange {
    pub(super) fn new(
        metrics: Arc<Metrics>,
        clock: Clock,
        slot: Option<UsageSlot>,
        started: Now,
        client: std::net::IpAddr,
        request_id: HeaderValue,
        request: &http::request::Parts,
    ) -> Self {
        metrics.in_flight.inc();
        let is_grpc = request.version == http::Version::HTTP_2 && grpc::is_call(&request.headers);
        let deadline = grpc::timeout(&request.headers).filter(|_| is_grpc).map(|wait| Instant::now() + wait);
        Self {
            metrics,
            clock,
            slot,
            started,
            request_id,
            method: request.method.clone(),
            path: shown(request.uri.path()),
            client,
            route: None,
            principal: None,
            status: CLIENT_CLOSED,
            outcome: Outcome::ClientClosed,
            refusal: None,
            input_length: None,
            response_length: None,
            request_bytes: Arc::default(),
            response_bytes: 0,
            request_messages: None,
            response_messages: None,
            imitations: Arc::default(),
            screening: None,
            first_byte: None,
            rules: Vec::new(),
            streamed: false,
            forwarded: false,
            is_grpc,
            deadline,
            go_ahead: None,
        }
    }

    /// The id as text; ids are visible ASCII.
    pub(super) fn request_id(&self) -> &str {
        self.request_id.to_str().unwrap_or_default()
    }

    pub(super) fn route_id(&self) -> &str {
        self.route.as_ref().map_or("-", |route| &route.id)
    }

    pub(super) fn format(&self) -> ErrorFormat {
        self.route.as_ref().map(|route| route.format).unwrap_or_default()
    }

    /// The response head exists.
    pub(super) fn answered(&mut self, status: u16, refusal: Option<&'static str>) {
        self.status = status;
        self.refusal = refusal;
        self.first_byte = Some(self.elapsed());
    }

    /// The response ended as it should.
    pub(super) fn completed(&mut self) {
        self.outcome = match (self.outcome, self.refusal) {
            (Outcome::Aborted, _) => Outcome::Aborted,
            (_, Some(_)) => Outcome::Refused,
            (_, None) if self.status == CLIENT_CLOSED => Outcome::ClientClosed,
            (_, None) => Outcome::Complete,
        };
    }

    /// The response broke off, by the service's doing unless it was ours.
    pub(super) fn broken_off(&mut self) {
        if let Some(refusal) = self.screening.as_ref().and_then(|screening| screening.refusal()) {
            // The service answered before it had the whole request, and lost the rest of it.
            return self.aborted(&refusal);
        }
        if self.outcome != Outcome::Aborted {
            self.outcome = Outcome::UpstreamAborted;
        }
    }

    /// Keyward ends the response early, whatever becomes of its end.
    pub(super) fn aborted(&mut self, refusal: &Refusal) {
        self.cut(refusal.code());
    }

    /// Keyward ends what it has begun to deliver, for this reason.
    pub(super) fn cut(&mut self, code: &'static str) {
        self.outcome = Outcome::Aborted;
        self.refusal = Some(code);
    }

    /// Notes what the rules found in one body.
    pub(super) fn inspected(&mut self, rules: &RuleSet, action: Action, direction: Direction, hits: &[RuleHit]) {
        let direction = direction_name(direction);
        for hit in hits {
            let action = action_name(rules.action_of(hit.rule, action));
            let rule = &rules.rule_ids()[hit.rule];
            self.metrics.rule_hits(rule, direction, action, hit.count);
            match self.rules.iter_mut().find(|known| known.rule == *rule && known.direction == direction) {
                Some(known) => known.count += hit.count,
                None => self.rules.push(RuleHits { rule: Arc::clone(rule), direction, action, count: hit.count }),
            }
        }
    }

    pub(super) fn unscanned(&self, direction: Direction, reason: UnscannedReason, bytes: u64) {
        self.metrics.unscanned(direction_name(direction), reason, bytes);
    }

    /// Counts what passed unread of a multipart body.
    pub(super) fn passed_binary(&self, direction: Direction, bytes: u64) {
        if bytes > 0 {
            self.unscanned(direction, UnscannedReason::BinaryPart, bytes);
        }
    }

    /// What a request that was refused on its way has left unread.
    pub(super) fn rest_of_body(&self) -> Option<hyper::body::Incoming> {
        self.screening.as_ref()?.take_rest()
    }

    /// Takes over what was found in a request while it was forwarded.
    fn count_screened(&mut self) {
        if let Some(screening) = self.screening.take() {
            screening.account(self);
        }
    }

    /// Counts imitations as the hits that they are; how many there were is known when the body has gone.
    fn count_imitations(&mut self) {
        let count = self.imitations.load(Ordering::Relaxed);
        let Some(context) = self.route.as_ref().filter(|_| count > 0).and_then(|route| route.context.clone()) else {
            return;
        };
        let hits = [RuleHit { rule: 0, count }];
        self.inspected(&context.imitations, Action::Observe, Direction::Request, &hits);
    }

    fn elapsed(&self) -> Duration {
        self.clock.monotonic().saturating_duration_since(self.started.monotonic)
    }

    fn warn_if_slow(&self, duration: Duration) {
        let Some(route) = self.route.as_ref().filter(|_| self.forwarded) else { return };
        let judged = if self.streamed { self.first_byte.unwrap_or(duration) } else { duration };
        if judged > route.slow {
            let organization = self.principal.as_ref().and_then(|key| key.org_code.as_deref()).unwrap_or("-");
            tracing::warn!(
                request_id = self.request_id(),
                route = &*route.id,
                organization,
                duration_ms = milliseconds(judged),
                threshold_ms = milliseconds(route.slow),
                "Slow AI response"
            );
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let duration = self.elapsed();
        if let Some(go_ahead) = &self.go_ahead {
            go_ahead.over();
        }
        self.count_imitations();
        self.count_screened();
        self.metrics.in_flight.dec();
        self.metrics.request(
            self.route_id(),
            self.status,
            self.refusal.unwrap_or_default(),
            duration.as_secs_f64(),
            self.first_byte.map(|first| first.as_secs_f64()),
        );
        self.warn_if_slow(duration);
        if self.outcome == Outcome::UpstreamAborted {
            tracing::error!(
                request_id = self.request_id(),
                route = self.route_id(),
                status = self.status,
                response_bytes = self.response_bytes,
                "AI request failed: the service broke off its response"
            );
        }
        let Some(slot) = self.slot.take() else { return };
        let principal = self.principal.as_ref();
        slot.send(UsageRecord {
            time: self.started.wall,
            request_id: self.request_id().to_owned(),
            key_id: principal.map(|key| Arc::clone(&key.key_id)),
            org_code: principal.and_then(|key| key.org_code.clone()),
            user_id: principal.and_then(|key| key.user_id.clone()),
            route: self.route.as_ref().map(|route| Arc::clone(&route.id)),
            method: self.method.to_string(),
            path: std::mem::take(&mut self.path),
            client: self.client,
            status: self.status,
            outcome: self.outcome,
            refusal: self.refusal,
            input_length: self.input_length,
            response_length: self.response_length,
            request_bytes: self.request_bytes.load(Ordering::Relaxed),
            response_bytes: self.response_bytes,
            request_messages: self.request_messages,
            response_messages: self.response_messages,
            first_byte_ms: self.first_byte.map(milliseconds),
            duration_ms: milliseconds(duration),
            rules: std::mem::take(&mut self.rules),
            upstream: self.route.as_ref().filter(|_| self.forwarded).map(|route| Arc::clone(&route.upstream.name)),
        });
    }
}

/// A path as records show it: without keys, and cut at a character's edge. In this order: half a key is no key that
/// could be recognized.
pub(super) fn shown(path: &str) -> String {
    let mut path = hide_keys(path.to_owned());
    path.truncate(path.floor_char_boundary(LONGEST_PATH));
    path
}

fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

fn direction_name(direction: Direction) -> &'static str {
    match direction {
        Direction::Request => "request",
        Direction::Response => "response",
    }
}

fn action_name(action: Action) -> &'static str {
    match action {
        Action::Observe => "observe",
        Action::Redact => "redact",
        Action::Sanitize => "sanitize",
        Action::Block => "block",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{KeyPrefix, KeySecret, SystemRandom};

    #[test]
    fn a_key_across_the_end_of_a_path_is_hidden() {
        let key = KeySecret::generate(&KeyPrefix::default(), &mut SystemRandom).expect("randomness");
        let key = key.expose();
        let secret = &key[key.len() - 20..];
        for before in [10, LONGEST_PATH - 60, LONGEST_PATH - 46, LONGEST_PATH - 20, LONGEST_PATH, 5000] {
            let shown = shown(&format!("/{}/{key}/ü", "a".repeat(before)));
            assert!(shown.len() <= LONGEST_PATH && !shown.contains(&key[..key.len() - 20]), "{shown}");
            assert!(!shown.contains(secret), "{shown}");
        }
        assert_eq!(shown(&format!("/a/{key}/b")), "/a/[key]/b");
        assert_eq!(shown(&format!("{}ü", "a".repeat(LONGEST_PATH - 1))).len(), LONGEST_PATH - 1);
    }
}
