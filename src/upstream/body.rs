//! A response body on its way back.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::pool::Loan;

/// Streams the service's body and, at its end, returns the connection to the pool. Dropped before the end, it
/// closes the connection: that is how cancellation reaches the service.
///
/// Trailers are dropped. A pause longer than the upstream's `idle` timeout is an error.
#[derive(Debug)]
pub struct UpstreamBody {
    inner: Incoming,
    /// The connection, until it is done.
    loan: Option<Loan>,
    idle: Duration,
    /// Made at the first wait: most bodies are there at once.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl UpstreamBody {
    pub(super) fn new(inner: Incoming, loan: Loan, idle: Duration) -> Self {
        let mut body = Self { inner, loan: Some(loan), idle, deadline: None };
        if body.inner.is_end_stream() {
            body.finish();
        }
        body
    }

    fn finish(&mut self) {
        if let Some(loan) = self.loan.take() {
            loan.finish();
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
        loop {
            match Pin::new(&mut self.inner).poll_frame(cx) {
                Poll::Pending => {
                    return match self.poll_deadline(cx) {
                        Poll::Ready(()) => Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into()))),
                        Poll::Pending => Poll::Pending,
                    };
                }
                Poll::Ready(Some(Ok(frame))) if frame.is_data() => {
                    let idle = self.idle;
                    if let Some(deadline) = &mut self.deadline {
                        // Arithmetic on the timer's own clock, so that pausing it in a test pauses this too.
                        deadline.as_mut().reset(next_deadline(idle));
                    }
                    if self.inner.is_end_stream() {
                        self.finish();
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                // Trailers: dropped, the end follows.
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(io::Error::other(error)))),
                Poll::Ready(None) => {
                    self.finish();
                    return Poll::Ready(None);
                }
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
