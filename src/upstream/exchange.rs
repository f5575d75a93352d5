//! One exchange with the service on one connection.
//!
//! Enters: a request and a connection. Leaves: the head of an answer, or how the exchange failed and what is left of
//! the request.

use std::io;
use std::sync::Arc;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::cluster::{Own, Pending};
use super::pool::{Lent, Loan};
use super::wait::Wait;
use super::{RequestBody, SendError, UpstreamBody, UpstreamClient, http2};
use crate::policy::Upstream;

/// How an exchange failed, with what is needed to decide on another one.
pub(super) enum Failed {
    /// There was no connection; the request is whole.
    Unconnected(Box<Request<RequestBody>>, SendError),
    /// Nothing was sent on the connection; the request is whole.
    Unsent(Box<Request<RequestBody>>, hyper::Error),
    /// The service said that it has not begun with it.
    Unprocessed(hyper::Error),
    /// The connection closed before a byte of an answer.
    Closed(hyper::Error),
    /// Not a byte of an answer came in time.
    Silent,
    /// An answer has begun, or there is none to be had.
    Final(SendError),
}

impl Failed {
    fn of(error: hyper::Error) -> Self {
        if is_unprocessed(&error) {
            return Self::Unprocessed(error);
        }
        let gone = error.is_incomplete_message()
            || error.is_canceled()
            || error.is_closed()
            || is_reset(&error)
            || is_farewell(&error);
        if gone { Self::Closed(error) } else { Self::Final(SendError::Broken(error)) }
    }

    /// The label of the metric.
    pub(super) fn why(&self) -> &'static str {
        match self {
            Self::Unconnected(..) => "connect",
            Self::Unsent(..) | Self::Unprocessed(_) | Self::Closed(_) => "closed",
            Self::Silent => "timeout",
            Self::Final(_) => "broken",
        }
    }

    pub(super) fn error(self) -> SendError {
        match self {
            Self::Unsent(_, error) | Self::Unprocessed(error) | Self::Closed(error) => SendError::Broken(error),
            Self::Silent => SendError::Timeout,
            Self::Unconnected(_, error) | Self::Final(error) => error,
        }
    }
}

/// What the requests of one cluster have in common.
#[derive(Clone, Copy)]
pub(super) struct To<'a> {
    pub(super) cluster: &'a Arc<Own>,
    pub(super) upstream: &'a Upstream,
    /// When the whole request has taken too long.
    pub(super) deadline: Option<Instant>,
}

impl To<'_> {
    /// What comes of `work`, unless the whole request takes too long.
    pub(super) async fn in_time<T>(&self, work: impl Future<Output = T>) -> Result<T, SendError> {
        tokio::select! {
            biased;
            // First, so that nothing is begun that is late.
            () = expiry(self.deadline) => {
                self.cluster.metrics.timed_out(Wait::Total.as_str());
                Err(SendError::Timeout)
            }
            done = work => Ok(done),
        }
    }
}

impl UpstreamClient {
    /// `pending` is of the member that the connection leads to.
    pub(super) async fn exchange(
        &self,
        mut lent: Lent,
        mut request: Request<RequestBody>,
        pending: Pending,
        to: To<'_>,
    ) -> Result<Response<UpstreamBody>, Failed> {
        http2::spell(&mut request, lent.is_http2(), &pending.member().endpoint);
        let progress = request.body().progress();
        let head_only = request.method() == Method::HEAD;
        let received = lent.received();
        let silent = |wait: Wait, lent: &Lent| {
            to.cluster.metrics.timed_out(wait.as_str());
            if lent.received() == received { Failed::Silent } else { Failed::Final(SendError::Timeout) }
        };
        let answer = async {
            tokio::select! {
                biased;
                response = lent.send(request) => Ok(response),
                wait = progress.stalled(&to.upstream.timeouts) => Err(wait),
            }
        };
        let response = match to.in_time(answer).await.map_err(Failed::Final)? {
            Ok(response) => response,
            Err(wait) => return Err(silent(wait, &lent)),
        };
        match response {
            Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                drop(response);
                Err(Failed::Final(SendError::Unwanted("it changed the protocol without being asked")))
            }
            Ok(response) => Ok(self.receive(response, lent, pending, to, head_only)),
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
    pub(super) fn receive(
        &self,
        response: Response<Incoming>,
        lent: Lent,
        pending: Pending,
        to: To<'_>,
        head_only: bool,
    ) -> Response<UpstreamBody> {
        let bodiless = matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let reusable = lent.is_http2() || !(head_only || bodiless);
        let loan = Loan {
            lent,
            pool: Arc::clone(&self.pool),
            pending,
            slot: None,
            keepalive: to.upstream.keepalive,
            reusable,
            well: to.cluster.is_well(response.status()),
        };
        if !loan.well {
            loan.broke("status");
        }
        response.map(|body| UpstreamBody::new(body, loan, to.upstream.timeouts.idle, to.deadline))
    }
}

/// Completes at `deadline`; without one, never.
async fn expiry(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Whether the connection was reset or given up, which is how a closed idle connection often shows itself.
fn is_reset(error: &hyper::Error) -> bool {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionReset, HostUnreachable, NetworkUnreachable, NotConnected, TimedOut,
        UnexpectedEof,
    };
    // The last three are how the kernel tells that the peer is gone.
    let gone = |kind| {
        matches!(kind, BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof)
            || matches!(kind, TimedOut | HostUnreachable | NetworkUnreachable)
    };
    let of_io = |cause: &Cause| cause.downcast_ref::<io::Error>().map(io::Error::kind);
    let of_http2 = |cause: &Cause| cause.downcast_ref::<h2::Error>().and_then(h2::Error::get_io).map(io::Error::kind);
    find_cause(error, |cause| of_io(cause).or_else(|| of_http2(cause))).is_some_and(gone)
}

/// Whether the peer closes the whole connection, in HTTP/2, for an error (RFC 9113 §5.4.1).
fn is_farewell(error: &hyper::Error) -> bool {
    let of_http2 =
        |cause: &Cause| cause.downcast_ref::<h2::Error>().map(|error| error.is_remote() && error.is_go_away());
    find_cause(error, of_http2).unwrap_or(false)
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
pub(super) struct Replay(http::request::Parts, bytes::Bytes);

impl Replay {
    pub(super) fn of(request: &Request<RequestBody>) -> Option<Self> {
        let held = request.body().held()?;
        let mut parts = Request::new(()).into_parts().0;
        parts.method = request.method().clone();
        parts.uri = request.uri().clone();
        // How it is spelled: in HTTP/2 its host is in the URI alone.
        parts.version = request.version();
        parts.headers = request.headers().clone();
        Some(Self(parts, held))
    }

    pub(super) fn request(self) -> Request<RequestBody> {
        Request::from_parts(self.0, RequestBody::held_bytes(self.1))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::Version;

    use super::*;
    use crate::policy::Endpoint;

    #[test]
    fn a_copy_of_a_request_keeps_its_spelling_and_its_host() {
        let endpoint = Endpoint::Tcp { tls: false, host: "model.internal".into(), port: 80 };
        let request = Request::post("/a").header("host", "ai.example").body(RequestBody::held_bytes(Bytes::new()));
        let mut request = request.expect("a request");
        // It is not sent on one shared connection, copied, and not begun with on the next one.
        http2::spell(&mut request, true, &endpoint);
        let mut again = Replay::of(&request).expect("its body is held").request();
        http2::spell(&mut again, true, &endpoint);
        assert_eq!((again.uri().to_string().as_str(), again.version()), ("http://ai.example/a", Version::HTTP_2));
        http2::spell(&mut again, false, &endpoint);
        assert_eq!(
            (again.uri().to_string().as_str(), &again.headers()["host"]),
            ("/a", &"ai.example".parse().expect("a host"))
        );
    }
}
