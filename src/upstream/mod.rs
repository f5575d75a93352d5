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
mod connect;
mod go_ahead;
mod pool;
mod request_body;
mod upgrade;

pub use body::UpstreamBody;
pub use go_ahead::GoAhead;
pub use request_body::{BodyFault, RequestBody, Screen, Streamed};
pub use upgrade::{Upgrade, UpgradedStream};

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use crate::auth::Permit;
use crate::limit::Admission;
use crate::observe::Metrics;
use crate::policy::Upstream;
use crate::time::Clock;
use pool::{Connection, Pool};

/// Why there is no response.
#[derive(Debug)]
pub enum SendError {
    /// No connection could be made.
    Unreachable(std::io::Error),
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
    pool: Arc<Pool>,
    metrics: Arc<Metrics>,
    clock: Clock,
}

/// A connection that the service had closed before our request reached it tells so within this time.
const AT_ONCE: Duration = Duration::from_millis(100);

/// How often idle connections are looked through.
const REAP_EVERY: Duration = Duration::from_millis(500);

impl UpstreamClient {
    pub fn new(metrics: Arc<Metrics>, clock: Clock) -> Self {
        Self { pool: Arc::new(Pool::default()), metrics, clock }
    }

    /// Closes idle connections in time. Runs on the worker until it is dropped.
    pub async fn reap_idle(&self) {
        let mut ticks = tokio::time::interval(REAP_EVERY);
        loop {
            ticks.tick().await;
            self.pool.reap(self.clock.now().monotonic);
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
        let replay = Replay::of(&request);
        let fault = request.body().fault();
        let now = self.clock.now().monotonic;
        let failed = match self.pool.checkout(upstream, now) {
            Some(connection) => {
                let idempotent = request.method().is_idempotent();
                self.metrics.upstream_request(&upstream.name, "reused");
                match self.exchange(connection, request, upstream).await {
                    Ok(response) => return Ok(response),
                    Err(Failed::Closed(error)) if !idempotent && self.has_passed(AT_ONCE, now) => {
                        return Err(Failed::Closed(error).error(&fault));
                    }
                    Err(failed) => failed,
                }
            }
            None => {
                self.metrics.upstream_request(&upstream.name, "new");
                let connection = connect::connect(upstream).await?;
                return self.exchange(connection, request, upstream).await.map_err(|failed| failed.error(&fault));
            }
        };
        let again = match failed {
            Failed::Unsent(request, _) => *request,
            Failed::Closed(error) => match replay.and_then(Replay::request) {
                Some(request) => request,
                None => return Err(Failed::Closed(error).error(&fault)),
            },
            Failed::Final(_) => return Err(failed.error(&fault)),
        };
        self.metrics.upstream_request(&upstream.name, "resent");
        let connection = connect::connect(upstream).await?;
        self.exchange(connection, again, upstream).await.map_err(|failed| failed.error(&fault))
    }

    fn has_passed(&self, time: Duration, since: Instant) -> bool {
        self.clock.now().monotonic.saturating_duration_since(since) > time
    }

    async fn exchange(
        &self,
        mut connection: Connection,
        request: Request<RequestBody>,
        upstream: &Arc<Upstream>,
    ) -> Result<Response<UpstreamBody>, Failed> {
        let progress = request.body().progress();
        let head_only = request.method() == Method::HEAD;
        let received = connection.socket.received();
        let head = connection.sender.try_send_request(request);
        let response = tokio::select! {
            biased;
            response = head => response,
            () = progress.stalled(&upstream.timeouts) => return Err(Failed::Final(SendError::Timeout)),
        };
        match response {
            Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                drop(response);
                Err(Failed::Final(SendError::Unwanted("it changed the protocol without being asked")))
            }
            Ok(response) => Ok(self.receive(response, connection, upstream, head_only)),
            Err(mut error) => match error.take_message() {
                Some(request) => Err(Failed::Unsent(Box::new(request), error.into_error())),
                None if connection.socket.received() == received => Err(Failed::of(error.into_error())),
                None => Err(Failed::Final(SendError::Broken(error.into_error()))),
            },
        }
    }

    /// `head_only`: the answer to a `HEAD`. Its connection is not used again, nor is one that answered 204 or 304: a
    /// service that sends a body all the same would have it read as the answer to the next request.
    fn receive(
        &self,
        response: Response<Incoming>,
        connection: Connection,
        upstream: &Arc<Upstream>,
        head_only: bool,
    ) -> Response<UpstreamBody> {
        let bodiless = matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if head_only || bodiless {
            return response.map(|body| UpstreamBody::once(body, connection, upstream));
        }
        let home =
            pool::Home { pool: Arc::clone(&self.pool), upstream: Arc::clone(upstream), clock: self.clock.clone() };
        response.map(|body| UpstreamBody::new(body, connection, home))
    }
}

/// How an exchange failed, with what is needed to decide on a second one.
enum Failed {
    /// Nothing was sent; the request is whole.
    Unsent(Box<Request<RequestBody>>, hyper::Error),
    /// The connection closed before a byte of an answer.
    Closed(hyper::Error),
    Final(SendError),
}

impl Failed {
    fn of(error: hyper::Error) -> Self {
        let gone = error.is_incomplete_message() || error.is_canceled() || error.is_closed() || is_reset(&error);
        if gone { Self::Closed(error) } else { Self::Final(SendError::Broken(error)) }
    }

    /// A fault of the client's side explains whatever else went wrong.
    fn error(self, fault: &request_body::Fault) -> SendError {
        match (fault.take(), self) {
            (Some(fault), _) => SendError::Request(fault),
            (None, Self::Unsent(_, error) | Self::Closed(error)) => SendError::Broken(error),
            (None, Self::Final(error)) => error,
        }
    }
}

/// Whether the peer reset the connection, which is how a closed idle connection often shows itself.
fn is_reset(error: &hyper::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected};
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            return matches!(io.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected);
        }
        source = cause.source();
    }
    false
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
