//! The attempts that one request gets.
//!
//! Enters: a request and the cluster that it goes to. Leaves: the head of an answer, or why there is none.
//!
//! A request is sent again only if no byte of an answer has come, and
//! * nothing of it was sent, or the service says that it has not begun with it (HTTP/2); or
//! * the connection had been used before and closed: at once, or the request is idempotent; or
//! * `retries` allows it, the request is idempotent and the budget has an attempt left.
//!
//! What was sent of it must be held whole.

use std::io;
use std::time::{Duration, Instant};

use http::{Request, Response};

use super::cluster::{Cluster, Pending, Tried};
use super::connect::{Dialer, Purpose};
use super::exchange::{Failed, Replay, To};
use super::member::Member;
use super::pool::Lent;
use super::standing::doubled;
use super::{RequestBody, SendError, UpstreamBody, UpstreamClient, http2};
use crate::policy::Upstream;

/// A connection that the service had closed before our request reached it tells so within this time.
const AT_ONCE: Duration = Duration::from_millis(100);

/// Other endpoints that a request is taken to of which nothing was sent, where `retries` does not say how many.
pub(super) const OTHERS: u32 = 2;

/// How often a request is sent again that nobody has begun with. In HTTP/1.1 once is enough, on a new connection; in
/// HTTP/2 a service may say goodbye to one shared connection after the other.
const MOST_RESENT: u32 = 5;

impl UpstreamClient {
    pub(super) async fn attempts(
        &self,
        mut request: Request<RequestBody>,
        to: To<'_>,
    ) -> Result<Response<UpstreamBody>, SendError> {
        let To { cluster, upstream, .. } = to;
        let fault = request.body().fault();
        let idempotent = request.method().is_idempotent();
        let budget = cluster.budget.as_deref();
        if let Some(budget) = budget {
            budget.earn();
        }
        let most = budget.map_or(OTHERS, |budget| budget.rule.attempts);
        let (mut tried, mut retries, mut resent) = (Tried::default(), 0, 0);
        let mut same = None;
        loop {
            let now = self.now();
            let millis = self.upstreams.millis(now);
            let is_again = same.is_some();
            let index = same.take().unwrap_or_else(|| cluster.choose(millis, self.next_turn(), tried));
            let member = &cluster.members[index];
            // From now on: one that swallows connections has as much to do as one that is slow to answer.
            let pending = Pending::new(cluster, index);
            let pooled = if is_again { None } else { self.pool.checkout(member, now) };
            let was_pooled = pooled.is_some();
            let replay = (was_pooled || http2::is_likely(upstream, member) || (idempotent && budget.is_some()))
                .then(|| Replay::of(&request))
                .flatten();
            if !is_again {
                if was_pooled { &cluster.metrics.reused } else { &cluster.metrics.new }.inc();
            }
            let lent = match pooled {
                Some(lent) => Ok(lent),
                None => to.in_time(self.connect(member, to, now)).await?,
            };
            let (failed, is_http2) = match lent {
                Err(error) => {
                    drop(pending);
                    (Failed::Unconnected(Box::new(request), error), false)
                }
                Ok(lent) => {
                    let is_http2 = lent.is_http2();
                    match self.exchange(lent, request, pending, to).await {
                        Ok(response) => return Ok(response),
                        Err(failed) => (failed, is_http2),
                    }
                }
            };
            // A fault of the client's side explains whatever else went wrong.
            if let Some(fault) = fault.take() {
                return Err(SendError::Request(fault));
            }
            // The service closed what was idle, or is about to: that is no failure of it.
            let is_unbegun = match &failed {
                Failed::Unsent(..) => was_pooled || is_http2,
                Failed::Unprocessed(_) => true,
                Failed::Closed(_) => was_pooled && (idempotent || (!is_http2 && !self.has_passed(AT_ONCE, now))),
                Failed::Unconnected(..) | Failed::Silent | Failed::Final(_) => false,
            };
            let now = self.upstreams.now_millis();
            if is_unbegun && resent < MOST_RESENT {
                let elsewhere = matches!(failed, Failed::Unprocessed(_)) && cluster.has_other(now, tried.with(index));
                if elsewhere {
                    tried = tried.with(index);
                } else {
                    same = Some(index);
                }
                request = whole(failed, replay)?;
                cluster.metrics.resent.inc();
                resent += 1;
                continue;
            }
            cluster.failed(member, now, failed.why());
            tried = tried.with(index);
            // Of what was not sent, any endpoint may be the one that takes it: those that are bad come last.
            let has_other = match &failed {
                Failed::Unconnected(..) | Failed::Unsent(..) => cluster.has_untried(tried),
                _ => cluster.has_other(now, tried),
            };
            let may = match &failed {
                // Without `retries`, asking the same endpoint once more is not worth the wait.
                Failed::Unconnected(..) | Failed::Unsent(..) => has_other || budget.is_some(),
                Failed::Closed(_) => idempotent && budget.is_some(),
                // Who does not answer would not answer to the same question.
                Failed::Silent => idempotent && budget.is_some() && has_other,
                Failed::Unprocessed(_) | Failed::Final(_) => false,
            };
            if !may || retries >= most {
                return Err(failed.error());
            }
            if matches!(failed, Failed::Closed(_) | Failed::Silent) && !budget.is_some_and(|budget| budget.spend()) {
                cluster.metrics.retries_denied.inc();
                return Err(failed.error());
            }
            cluster.metrics.retried(failed.why());
            request = whole(failed, replay)?;
            if let (false, Some(budget)) = (has_other, budget) {
                to.in_time(tokio::time::sleep(doubled(budget.rule.backoff, retries))).await?;
            }
            retries += 1;
        }
    }

    pub(super) fn now(&self) -> Instant {
        self.upstreams.now()
    }

    fn has_passed(&self, time: Duration, since: Instant) -> bool {
        self.now().saturating_duration_since(since) > time
    }

    /// A new connection. Where requests share connections, whoever comes while one is made waits for it.
    async fn connect(&self, member: &Member, to: To<'_>, now: Instant) -> Result<Lent, SendError> {
        let To { cluster, upstream, .. } = to;
        let dialer = self.dialer(cluster, upstream, now);
        if !http2::is_likely(upstream, member) {
            let fresh = dialer.connect(member, Purpose::Requests).await?;
            return Ok(self.pool.lend(member, fresh, upstream.keepalive));
        }
        let connecting = self.pool.connecting(member);
        let turn = tokio::time::timeout(upstream.timeouts.connect, connecting.lock()).await;
        let Ok(_turn) = turn else {
            let why = format!("cannot connect to {}: others are trying", member.endpoint);
            return Err(SendError::Unreachable(io::Error::new(io::ErrorKind::TimedOut, why)));
        };
        if let Some(lent) = self.pool.checkout(member, now) {
            return Ok(lent);
        }
        let fresh = dialer.connect(member, Purpose::Requests).await?;
        Ok(self.pool.lend(member, fresh, upstream.keepalive))
    }

    pub(super) fn dialer<'a>(&'a self, cluster: &'a Cluster, upstream: &'a Upstream, now: Instant) -> Dialer<'a> {
        let resolver = &*self.upstreams.resolver;
        Dialer { cluster, resolver, timeouts: &upstream.timeouts, now: self.upstreams.millis(now) }
    }
}

/// The request that is sent again, or the error where there is none.
fn whole(failed: Failed, replay: Option<Replay>) -> Result<Request<RequestBody>, SendError> {
    match (failed, replay) {
        (Failed::Unconnected(request, _) | Failed::Unsent(request, _), _) => Ok(*request),
        (_, Some(replay)) => Ok(replay.request()),
        (failed, None) => Err(failed.error()),
    }
}
