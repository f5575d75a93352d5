//! The service behind us.
//!
//! Enters: a request with its [`Permit`] and [`Admission`], which only `auth` and `limit` can make. Leaves: the
//! service's response head with a body that streams, or a [`SendError`] that says whose fault it was. Every worker
//! has a pool of its own; a connection never changes its worker.
//!
//! Invariant: a request is sent twice only when the first connection had been used before and closed before a byte of
//! an answer, and the request is held whole or was not sent at all. A request that is not idempotent is sent again only
//! if the connection closed at once: one that closes after a while has closed upon the request, not before it.

mod body;
mod cluster;
mod connect;
mod http2;
mod member;
mod pool;
mod registry;
mod request_body;
mod resolve;
mod socket;
mod tls;
mod upgrade;

pub use body::UpstreamBody;
pub use registry::Upstreams;
pub use request_body::{BodyFault, RequestBody, Screen, Streamed};
pub use resolve::{Resolve, Resolving, SystemResolver};
pub use tls::check_tls;
pub use upgrade::{Upgrade, UpgradedStream};

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use crate::auth::Permit;
use crate::limit::Admission;
use crate::policy::{Http2, Upstream};
use cluster::Cluster;
use connect::{Dialer, Purpose};
use member::{Member, Pending, Speaks};
use pool::{Lent, Loan, Pool};

/// Why there is no response.
#[derive(Debug)]
pub enum SendError {
    /// No connection could be made.
    Unreachable(io::Error),
    /// The service did not answer, or stopped reading, for as long as its timeouts allow.
    Timeout,
    /// The service closed the connection or answered with something that is not HTTP.
    Broken(hyper::Error),
    /// The service answered with something that was not asked for.
    Unwanted(&'static str),
    /// The client's side of the request failed while it was being forwarded.
    Request(BodyFault),
}

/// One worker's way to all upstreams.
#[derive(Debug)]
pub struct UpstreamClient {
    upstreams: Arc<Upstreams>,
    pool: Arc<Pool>,
    /// Whose turn it is among endpoints that are equally busy.
    turn: AtomicUsize,
}

/// A connection that the service had closed before our request reached it tells so within this time.
const AT_ONCE: Duration = Duration::from_millis(100);

/// How often idle connections are looked through.
const REAP_EVERY: Duration = Duration::from_millis(500);

impl UpstreamClient {
    pub fn new(upstreams: Arc<Upstreams>) -> Self {
        let pool = Arc::new(Pool::new(upstreams.clock.clone()));
        Self { upstreams, pool, turn: AtomicUsize::new(0) }
    }

    /// Closes idle connections in time. Runs on the worker until it is dropped.
    pub async fn reap_idle(&self) {
        let mut ticks = tokio::time::interval(REAP_EVERY);
        loop {
            ticks.tick().await;
            self.pool.reap();
        }
    }

    /// Sends a request and waits for the response head.
    ///
    /// `request` is in origin form with its final headers. `_permit` and `_admission` are the proof that it may go.
    pub async fn send(
        &self,
        request: Request<RequestBody>,
        upstream: &Arc<Upstream>,
        _permit: &Permit,
        _admission: &Admission,
    ) -> Result<Response<UpstreamBody>, SendError> {
        let cluster = self.cluster(upstream)?;
        let member = cluster.choose(self.turn.fetch_add(1, Ordering::Relaxed));
        let fault = request.body().fault();
        let idempotent = request.method().is_idempotent();
        let now = self.now();
        let Some(lent) = self.pool.checkout(member, now) else {
            cluster.metrics.new.inc();
            let lent = self.connect(&cluster, member, upstream, now).await?;
            return self.exchange(lent, request, member, upstream).await.map_err(|failed| failed.error(&fault));
        };
        cluster.metrics.reused.inc();
        let replay = Replay::of(&request);
        let may_be_late = lent.is_http2();
        let again = match self.exchange(lent, request, member, upstream).await {
            Ok(response) => return Ok(response),
            Err(Failed::Unsent(request, _)) => Some(*request),
            Err(Failed::Closed(error)) if !idempotent && (may_be_late || self.has_passed(AT_ONCE, now)) => {
                return Err(Failed::Closed(error).error(&fault));
            }
            Err(failed @ Failed::Final(_)) => return Err(failed.error(&fault)),
            Err(failed @ (Failed::Closed(_) | Failed::Unprocessed(_))) => match replay.and_then(Replay::request) {
                Some(request) => Some(request),
                None => return Err(failed.error(&fault)),
            },
        };
        let Some(again) = again else { return Err(SendError::Unwanted("nothing to send again")) };
        cluster.metrics.resent.inc();
        let lent = self.connect(&cluster, member, upstream, self.now()).await?;
        self.exchange(lent, again, member, upstream).await.map_err(|failed| failed.error(&fault))
    }

    fn now(&self) -> Instant {
        self.upstreams.clock.now().monotonic
    }

    fn has_passed(&self, time: Duration, since: Instant) -> bool {
        self.now().saturating_duration_since(since) > time
    }

    fn cluster(&self, upstream: &Arc<Upstream>) -> Result<Arc<Cluster>, SendError> {
        let unknown = || SendError::Unreachable(io::Error::other("the upstream is not of a policy in force"));
        self.upstreams.find(upstream).ok_or_else(unknown)
    }

    /// A new connection. Where requests share connections, whoever comes while one is made waits for it.
    async fn connect(
        &self,
        cluster: &Cluster,
        member: &Member,
        upstream: &Upstream,
        now: Instant,
    ) -> Result<Lent, SendError> {
        let dialer = self.dialer(cluster, upstream, now);
        let may_share = upstream.http2 == Http2::Always || member.speaks() == Speaks::Http2;
        if !may_share {
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

    fn dialer<'a>(&'a self, cluster: &'a Cluster, upstream: &'a Upstream, now: Instant) -> Dialer<'a> {
        let resolver = &*self.upstreams.resolver;
        Dialer { cluster, resolver, timeouts: &upstream.timeouts, now: self.upstreams.millis(now) }
    }

    async fn exchange(
        &self,
        mut lent: Lent,
        mut request: Request<RequestBody>,
        member: &Arc<Member>,
        upstream: &Upstream,
    ) -> Result<Response<UpstreamBody>, Failed> {
        http2::spell(&mut request, lent.is_http2(), &member.endpoint);
        let pending = member.begin();
        let progress = request.body().progress();
        let head_only = request.method() == Method::HEAD;
        let received = lent.received();
        let response = tokio::select! {
            biased;
            response = lent.send(request) => response,
            () = progress.stalled(&upstream.timeouts) => return Err(Failed::Final(SendError::Timeout)),
        };
        match response {
            Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                drop(response);
                Err(Failed::Final(SendError::Unwanted("it changed the protocol without being asked")))
            }
            Ok(response) => Ok(self.receive(response, lent, pending, upstream, head_only)),
            Err(mut error) => match error.take_message() {
                Some(request) => Err(Failed::Unsent(Box::new(request), error.into_error())),
                None if lent.received() == received => Err(Failed::of(error.into_error())),
                None => Err(Failed::Final(SendError::Broken(error.into_error()))),
            },
        }
    }

    /// `head_only`: the answer to a `HEAD`. Its connection is not used again, nor is one that answered 204 or 304: a
    /// service that sends a body all the same would have it read as the answer to the next request. HTTP/2 tells one
    /// answer from another.
    fn receive(
        &self,
        response: Response<Incoming>,
        lent: Lent,
        pending: Pending,
        upstream: &Upstream,
        head_only: bool,
    ) -> Response<UpstreamBody> {
        let bodiless = matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let reusable = lent.is_http2() || !(head_only || bodiless);
        let loan = Loan { lent, pool: Arc::clone(&self.pool), pending, keepalive: upstream.keepalive, reusable };
        response.map(|body| UpstreamBody::new(body, loan, upstream.timeouts.idle))
    }
}

/// How an exchange failed, with what is needed to decide on a second one.
enum Failed {
    /// Nothing was sent; the request is whole.
    Unsent(Box<Request<RequestBody>>, hyper::Error),
    /// The service said that it has not begun with it.
    Unprocessed(hyper::Error),
    /// The connection closed before a byte of an answer.
    Closed(hyper::Error),
    Final(SendError),
}

impl Failed {
    fn of(error: hyper::Error) -> Self {
        if is_unprocessed(&error) {
            return Self::Unprocessed(error);
        }
        let gone = error.is_incomplete_message() || error.is_canceled() || error.is_closed() || is_reset(&error);
        if gone { Self::Closed(error) } else { Self::Final(SendError::Broken(error)) }
    }

    /// A fault of the client's side explains whatever else went wrong.
    fn error(self, fault: &request_body::Fault) -> SendError {
        match (fault.take(), self) {
            (Some(fault), _) => SendError::Request(fault),
            (None, Self::Unsent(_, error) | Self::Unprocessed(error) | Self::Closed(error)) => SendError::Broken(error),
            (None, Self::Final(error)) => error,
        }
    }
}

/// Whether the peer reset the connection, which is how a closed idle connection often shows itself.
fn is_reset(error: &hyper::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof};
    let gone = |kind| matches!(kind, BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof);
    let of_io = |cause: &Cause| cause.downcast_ref::<io::Error>().map(io::Error::kind);
    let of_http2 = |cause: &Cause| cause.downcast_ref::<h2::Error>().and_then(h2::Error::get_io).map(io::Error::kind);
    find_cause(error, |cause| of_io(cause).or_else(|| of_http2(cause))).is_some_and(gone)
}

/// Whether the peer promises, in HTTP/2, that it has not begun with the request (RFC 9113 §6.8, §8.7). A GOAWAY fails
/// only streams behind the last one that was begun, unless it tells of an error.
fn is_unprocessed(error: &hyper::Error) -> bool {
    let of_http2 = |cause: &Cause| {
        let error = cause.downcast_ref::<h2::Error>()?;
        let reason = error.reason();
        let refused = error.is_reset() && reason == Some(h2::Reason::REFUSED_STREAM);
        Some(error.is_remote() && (refused || error.is_go_away() && reason == Some(h2::Reason::NO_ERROR)))
    };
    find_cause(error, of_http2).unwrap_or(false)
}

type Cause = dyn std::error::Error + 'static;

fn find_cause<T>(error: &hyper::Error, find: impl Fn(&Cause) -> Option<T>) -> Option<T> {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(found) = find(cause) {
            return Some(found);
        }
        source = cause.source();
    }
    None
}

/// A copy of a request that is held whole. Cheap: header values and the body share their bytes.
struct Replay(http::request::Parts, bytes::Bytes);

impl Replay {
    fn of(request: &Request<RequestBody>) -> Option<Self> {
        let held = request.body().held()?;
        let mut parts = Request::new(()).into_parts().0;
        parts.method = request.method().clone();
        parts.uri = request.uri().clone();
        parts.headers = request.headers().clone();
        Some(Self(parts, held))
    }

    fn request(self) -> Option<Request<RequestBody>> {
        Some(Request::from_parts(self.0, RequestBody::held_bytes(self.1)))
    }
}
