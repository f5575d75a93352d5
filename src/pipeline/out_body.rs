//! The body that a client reads, and the end of its account.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

use super::exchange::Exchange;
use super::live::Live;
use super::memory::Lease;
use super::{Refusal, grpc};
use crate::headers::{Way, keep_listed};
use crate::observe::UnscannedReason;
use crate::scan::Direction;
use crate::upstream::UpstreamBody;

/// What is handed over at once of a body that is held.
const PIECE: usize = 64 * 1024;

/// A response body. Counts what is delivered; its account closes when it ends, breaks off or is dropped.
#[derive(Debug)]
pub struct OutBody {
    content: Content,
    exchange: Option<Box<Exchange>>,
    /// When the client of a call of gRPC stops waiting.
    deadline: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug)]
pub(super) enum Content {
    /// In memory, with the part of the budget that it takes.
    Held { rest: Bytes, lease: Option<Lease> },
    /// Passed on as it comes; `Some` where rules apply that it is not scanned by.
    Streamed(Box<UpstreamBody>, Option<UnscannedReason>),
    /// Scanned as it comes.
    Live(Box<Live>),
}

impl Content {
    /// Whether it may end with trailers.
    pub(super) fn may_have_trailers(&self) -> bool {
        match self {
            Self::Held { .. } => false,
            Self::Streamed(body, _) => !body.is_end_stream() && body.size_hint().exact().is_none(),
            Self::Live(_) => true,
        }
    }
}

impl OutBody {
    /// `head_only` bodies (answers to `HEAD`) are never read.
    pub(super) fn new(content: Content, exchange: Box<Exchange>, head_only: bool) -> Self {
        let deadline = exchange.deadline.map(|deadline| Box::pin(tokio::time::sleep_until(deadline)));
        let mut body = Self { content, exchange: Some(exchange), deadline };
        if head_only || body.is_end_stream() {
            body.complete();
        }
        body
    }

    /// What follows a head that no body follows, and is no end of an account.
    pub(super) fn none() -> Self {
        Self { content: Content::Held { rest: Bytes::new(), lease: None }, exchange: None, deadline: None }
    }

    fn complete(&mut self) {
        self.close(Exchange::completed);
    }

    /// Closes the account with what was really delivered.
    fn close(&mut self, note: impl FnOnce(&mut Exchange)) {
        let Some(mut exchange) = self.exchange.take() else { return };
        if let Content::Live(live) = &self.content {
            live.account(&mut exchange);
        }
        note(&mut exchange);
    }

    /// Ends the call once its client has stopped waiting; the service is told by the end of its connection or stream.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let Some(deadline) = &mut self.deadline else { return Poll::Pending };
        ready!(deadline.as_mut().poll(cx));
        self.close(|exchange| exchange.aborted(&Refusal::DeadlineExceeded));
        self.content = Content::Held { rest: Bytes::new(), lease: None };
        Poll::Ready(Some(Ok(Frame::trailers(grpc::end_late()))))
    }

    /// The trailers that may pass. Nothing follows them, and nobody asks whether something does.
    fn last(&mut self, frame: Frame<Bytes>) -> Option<Result<Frame<Bytes>, io::Error>> {
        let route = self.exchange.as_ref().and_then(|exchange| exchange.route.clone());
        self.complete();
        let trailers = frame.into_trailers().unwrap_or_default();
        let kept = keep_listed(trailers, route.as_ref().map_or(&[], |route| &*route.trailers), Way::Response);
        kept.map(|trailers| Ok(Frame::trailers(trailers)))
    }

    fn delivered(&mut self, bytes: usize) {
        let Some(exchange) = &mut self.exchange else { return };
        exchange.response_bytes += bytes as u64;
        if let Content::Streamed(_, Some(reason)) = &self.content {
            exchange.unscanned(Direction::Response, *reason, bytes as u64);
        }
    }
}

impl Drop for OutBody {
    fn drop(&mut self) {
        // The client left: its account says so already.
        self.close(|_| {});
    }
}

impl Body for OutBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        let frame = match &mut this.content {
            Content::Held { rest, lease } if rest.is_empty() => {
                drop(lease.take());
                None
            }
            // In pieces, so that what the client has not taken is still ours to count. The lease ends with the body.
            Content::Held { rest, .. } => Some(Ok(Frame::data(rest.split_to(rest.len().min(PIECE))))),
            Content::Streamed(body, _) => match Pin::new(body).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => return this.poll_deadline(cx),
            },
            Content::Live(live) => match live.poll_frame(cx, &mut this.exchange) {
                Poll::Ready(frame) => frame,
                Poll::Pending => return Poll::Pending,
            },
        };
        let frame = match frame {
            Some(Ok(frame)) if frame.is_trailers() => return Poll::Ready(this.last(frame)),
            other => other,
        };
        match &frame {
            Some(Ok(frame)) => {
                this.delivered(frame.data_ref().map_or(0, Bytes::len));
                if this.is_end_stream() {
                    this.complete();
                }
            }
            Some(Err(_)) => this.close(Exchange::broken_off),
            None => this.complete(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Held { rest, .. } => rest.is_empty(),
            Content::Streamed(body, _) => body.is_end_stream(),
            Content::Live(live) => live.is_end(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Held { rest, .. } => SizeHint::with_exact(rest.len() as u64),
            Content::Streamed(body, _) => body.size_hint(),
            // What will be cut out, or off, is not known.
            Content::Live(_) => SizeHint::default(),
        }
    }
}
