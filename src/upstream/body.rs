//! A response body on its way back.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::gate::Slot;
use super::pool::Loan;
use super::wait::Wait;

/// Streams the service's body and, at its end, returns the connection to the pool. Dropped before the end, it
/// closes the connection: that is how cancellation reaches the service.
///
/// Trailers come as the service sent them. A pause longer than the upstream's `idle` timeout is an error.
#[derive(Debug)]
pub struct UpstreamBody {
    inner: Incoming,
    /// The connection, until it is done.
    loan: Option<Loan>,
    idle: Duration,
    /// Made at the first wait: most bodies are there at once.
    deadline: Option<Pin<Box<Sleep>>>,
    /// When the whole request has taken too long.
    total: Option<Pin<Box<Sleep>>>,
}

impl UpstreamBody {
    pub(super) fn new(inner: Incoming, loan: Loan, idle: Duration, total: Option<Instant>) -> Self {
        let total = total.map(|total| Box::pin(tokio::time::sleep_until(total)));
        let mut body = Self { inner, loan: Some(loan), idle, deadline: None, total };
        if body.inner.is_end_stream() {
            body.finish();
        }
        body
    }

    /// Keeps the request's place among those that the service is given at once.
    pub(super) fn with_slot(mut self, slot: Option<Slot>) -> Self {
        if let Some(loan) = &mut self.loan {
            loan.slot = slot;
        }
        self
    }

    fn finish(&mut self) {
        if let Some(loan) = self.loan.take() {
            loan.finish();
        }
    }

    /// Ends the body where it is. Its connection closes, which tells the service.
    fn stall(&mut self, wait: Wait) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(loan) = self.loan.take() {
            loan.stalled(wait);
        }
        Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())))
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
        if self.total.as_mut().is_some_and(|total| total.as_mut().poll(cx).is_ready()) {
            return self.stall(Wait::Total);
        }
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Pending => {
                if self.poll_deadline(cx).is_ready() {
                    return self.stall(Wait::Idle);
                }
                Poll::Pending
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
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Ok(trailers))) => {
                self.finish();
                Poll::Ready(Some(Ok(trailers)))
            }
            Poll::Ready(Some(Err(error))) => {
                if let Some(loan) = self.loan.take() {
                    loan.broke("broken");
                }
                Poll::Ready(Some(Err(io::Error::other(error))))
            }
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
