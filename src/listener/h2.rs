//! An HTTP/2 connection (RFC 9113).
//!
//! A client of HTTP/2 decides for each stream how much it takes. What a stream hands over at once is small, and a
//! client that takes nothing of a stream for as long as a client of HTTP/1.1 may is cut off.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::connection::ConnectionLimits;
use super::io::Io;
use super::stall::Patient;
use super::worker::{Phase, reached};
use crate::pipeline::{OutBody, Peer, Pipeline, Switch};
use crate::upstream::UpstreamClient;

/// What a stream hands over at once: the size of a frame that every client takes (RFC 9113 §4.2).
const PIECE: usize = 16 * 1024;

/// A peer that does not answer a ping for this long after as long a silence is gone.
const PING_EVERY: std::time::Duration = std::time::Duration::from_secs(30);

/// Serves one connection to its end. While draining it ends after the streams that have begun.
pub(super) async fn serve(
    io: Io,
    peer: Peer,
    pipeline: Arc<Pipeline>,
    upstreams: Arc<UpstreamClient>,
    limits: ConnectionLimits,
    mut phase: watch::Receiver<Phase>,
) {
    let address = peer.address;
    let streams = Streams::default();
    let tracked = streams.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (pipeline, upstreams, peer) = (Arc::clone(&pipeline), Arc::clone(&upstreams), peer.clone());
        let stream = tracked.begin();
        async move {
            // Only HTTP/1.1 changes its protocol.
            let response = pipeline.serve(request, peer, &upstreams, &Switch::default()).await;
            Ok::<_, Infallible>(response.map(|body| StreamBody { body, rest: Bytes::new(), stream }))
        }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.max_streams)
        .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_EVERY)
        .serve_connection(TokioIo::new(Patient::new(io, &limits)), service);
    tokio::pin!(connection);
    let mut ending = false;
    let mut known = phase.clone();
    loop {
        tokio::select! {
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(peer = %address, %error, "connection ended");
                }
                return;
            }
            () = reached(&mut phase, Phase::Draining), if !ending => ending = true,
            // A client that is sent away before it has asked for anything would come back at once.
            () = async {
                reached(&mut known, Phase::Leaving).await;
                streams.first().await;
            }, if !ending => ending = true,
            () = streams.idle_for(limits.header_timeout), if !ending => ending = true,
            // All have ended, and the client does not take what is left of them.
            () = streams.idle_for(limits.write_timeout), if ending => return,
            () = streams.stalled_for(limits.write_timeout) => {
                limits.timed_out.write.inc();
                tracing::debug!(peer = %address, "the client takes nothing of a stream");
                return;
            }
        }
        if ending {
            connection.as_mut().graceful_shutdown();
        }
    }
}

/// The streams of a connection that have begun and not ended.
#[derive(Clone, Debug, Default)]
struct Streams(Arc<Mutex<Open>>, Arc<Notify>);

#[derive(Debug, Default)]
struct Open {
    next: u64,
    /// Since when each waits for its client; `None` where it is the client that waits.
    waiting: HashMap<u64, Option<Instant>>,
    /// Since when there is none.
    idle: Option<Instant>,
}

impl Open {
    /// Since when there has been no stream; now, while there is one.
    fn idle_since(&mut self) -> Instant {
        if self.waiting.is_empty() { *self.idle.get_or_insert_with(Instant::now) } else { Instant::now() }
    }
}

impl Streams {
    fn lock(&self) -> MutexGuard<'_, Open> {
        // What is kept is valid at every moment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) -> Stream {
        let mut open = self.lock();
        let id = open.next;
        open.next += 1;
        open.idle = None;
        open.waiting.insert(id, None);
        self.1.notify_one();
        Stream { id, streams: self.clone() }
    }

    /// Completes when the first stream has begun.
    async fn first(&self) {
        while self.lock().next == 0 {
            self.1.notified().await;
        }
    }

    /// Completes when there has been no stream for `time`.
    async fn idle_for(&self, time: std::time::Duration) {
        loop {
            let since = self.lock().idle_since();
            if since.elapsed() >= time {
                return;
            }
            tokio::time::sleep_until(since + time).await;
        }
    }

    /// Completes when one of them has waited for its client for `time`.
    async fn stalled_for(&self, time: std::time::Duration) {
        loop {
            let first = self.lock().waiting.values().flatten().min().copied().unwrap_or_else(Instant::now);
            if first.elapsed() >= time {
                return;
            }
            tokio::time::sleep_until(first + time).await;
        }
    }
}

/// One stream, from its request to the end of its response.
#[derive(Debug)]
struct Stream {
    id: u64,
    streams: Streams,
}

impl Stream {
    fn waits_for_client(&self, since: Option<Instant>) {
        self.streams.lock().waiting.insert(self.id, since);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.streams.lock().waiting.remove(&self.id);
    }
}

/// A response body in pieces that the client's window decides about one by one.
#[derive(Debug)]
struct StreamBody {
    body: OutBody,
    rest: Bytes,
    stream: Stream,
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        this.stream.waits_for_client(None);
        if this.rest.is_empty() {
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.rest = data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                end => return Poll::Ready(end),
            }
        }
        this.stream.waits_for_client(Some(Instant::now()));
        let piece = this.rest.split_to(this.rest.len().min(PIECE));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.size_hint();
        let rest = self.rest.len() as u64;
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}
