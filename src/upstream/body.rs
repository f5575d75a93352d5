//! A response body on its way back.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::pool::{Connection, Home};
use crate::policy::Upstream;

/// Streams the service's body and, at its end, returns the connection to the pool. Dropped before the end, it
/// closes the connection: that is how cancellation reaches the service.
///
/// Trailers come as the service sent them. A pause longer than the upstream's `idle` timeout is an error.
#[derive(Debug)]
pub struct UpstreamBody {
    inner: Incoming,
    /// With the pool that it returns to, if it does.
    connection: Option<(Connection, Option<Home>)>,
    idle: Duration,
    /// Made at the first wait: most bodies are there at once.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl UpstreamBody {
    pub(super) fn new(inner: Incoming, connection: Connection, home: Home) -> Self {
        let idle = home.upstream.timeouts.idle;
        let mut body = Self { inner, connection: Some((connection, Some(home))), idle, deadline: None };
        if body.inner.is_end_stream() {
            body.finish();
        }
        body
    }

    /// A body whose connection ends with it.
    pub(super) fn once(inner: Incoming, connection: Connection, upstream: &Upstream) -> Self {
        Self { inner, connection: Some((connection, None)), idle: upstream.timeouts.idle, deadline: None }
    }

    fn finish(&mut self) {
        if let Some((connection, Some(home))) = self.connection.take() {
            home.put(connection);
        }
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let idle = self.idle;
        self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(idle))).as_mut().poll(cx)
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Pending => self.poll_deadline(cx).map(|()| Some(Err(io::ErrorKind::TimedOut.into()))),
            Poll::Ready(Some(Ok(frame))) if frame.is_data() => {
                let idle = self.idle;
                if let Some(deadline) = &mut self.deadline {
                    // Arithmetic on the timer's own clock, so that pausing it in a test pauses this too.
                    deadline.as_mut().reset(next_deadline(idle));
                }
                if self.inner.is_end_stream() {
                    self.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Ok(trailers))) => {
                self.finish();
                Poll::Ready(Some(Ok(trailers)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(io::Error::other(error)))),
            Poll::Ready(None) => {
                self.finish();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

fn next_deadline(idle: Duration) -> Instant {
    Instant::now() + idle
}
