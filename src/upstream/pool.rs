//! Connections of one worker that can take a request: idle ones in HTTP/1.1, shared ones in HTTP/2.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use tokio::sync::Notify;

use super::cluster::Pending;
use super::gate::Slot;
use super::member::Member;
use super::socket::Socket;
use super::standing::millis;
use super::wait::Wait;
use super::{RequestBody, Upstreams};

/// Most idle connections that are kept for one endpoint. More were needed at once only in a burst.
const MAX_IDLE: usize = 256;

/// Most requests that share a connection; the service may allow fewer (RFC 9113 §5.1.2).
pub(super) const MAX_STREAMS: usize = 100;

/// An HTTP/1.1 connection that is ready for a request, or will be when its last response has been read.
#[derive(Debug)]
pub(super) struct Exclusive {
    pub(super) sender: http1::SendRequest<RequestBody>,
    pub(super) socket: Arc<Socket>,
    pub(super) generation: u64,
}

/// An HTTP/2 connection.
#[derive(Debug)]
pub(super) struct Multiplexed {
    pub(super) sender: http2::SendRequest<RequestBody>,
    pub(super) allowance: Arc<Allowance>,
    pub(super) generation: u64,
}

/// How many streams a service allows on one connection at the moment.
#[derive(Debug)]
pub(super) struct Allowance {
    streams: AtomicUsize,
    /// What the endpoint last allowed: where the next connection begins, until it says otherwise.
    last: Arc<AtomicUsize>,
    /// Whether it was looked at since the service could first have said.
    asked: AtomicBool,
    ask: Notify,
}

impl Allowance {
    pub(super) fn new(last: &Arc<AtomicUsize>) -> Self {
        let (streams, last) = (AtomicUsize::new(last.load(Ordering::Relaxed)), Arc::clone(last));
        Self { streams, last, asked: AtomicBool::new(false), ask: Notify::new() }
    }

    pub(super) fn set(&self, streams: usize) {
        self.streams.store(streams, Ordering::Relaxed);
        self.last.store(streams, Ordering::Relaxed);
    }

    /// Completes when it is to be looked at again.
    pub(super) async fn asked(&self) {
        self.ask.notified().await;
    }

    /// A request has been answered. Nothing tells when the first word of the service about it has come, but it has come
    /// by now; later ones are found when requests are sent.
    fn answered(&self) {
        if !self.asked.swap(true, Ordering::Relaxed) {
            self.ask.notify_one();
        }
    }

    fn has_room(&self, streams: usize) -> bool {
        streams < self.streams.load(Ordering::Relaxed).min(MAX_STREAMS)
    }
}

/// How many requests a connection carries, and until when it is kept without any.
#[derive(Debug)]
struct Room {
    streams: AtomicUsize,
    /// In milliseconds of the registry's time.
    until: AtomicU64,
    keepalive: Duration,
    upstreams: Arc<Upstreams>,
}

impl Room {
    fn rest(&self) {
        self.until.store(self.upstreams.now_millis().saturating_add(millis(self.keepalive)), Ordering::Relaxed);
    }

    fn is_kept(&self, now: Instant) -> bool {
        self.streams.load(Ordering::Relaxed) > 0 || self.until.load(Ordering::Relaxed) > self.upstreams.millis(now)
    }
}

/// One request's place on a connection.
#[derive(Debug)]
pub(super) struct Seat {
    room: Arc<Room>,
    allowance: Arc<Allowance>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.room.rest();
        self.room.streams.fetch_sub(1, Ordering::Relaxed);
        self.allowance.answered();
    }
}

/// A connection that requests share.
#[derive(Debug)]
struct Shared {
    connection: Multiplexed,
    room: Arc<Room>,
}

impl Shared {
    fn is_usable(&self, generation: u64, now: Instant) -> bool {
        !self.connection.sender.is_closed() && self.connection.generation == generation && self.room.is_kept(now)
    }

    fn has_room(&self) -> bool {
        self.connection.allowance.has_room(self.room.streams.load(Ordering::Relaxed))
    }

    fn lend(&self) -> Lent {
        self.room.streams.fetch_add(1, Ordering::Relaxed);
        let seat = Seat { room: Arc::clone(&self.room), allowance: Arc::clone(&self.connection.allowance) };
        Lent::Stream { sender: self.connection.sender.clone(), _seat: seat }
    }
}

/// A connection that was just made.
#[derive(Debug)]
pub(super) enum Fresh {
    Exclusive(Exclusive),
    Multiplexed(Multiplexed),
}

/// What one request is sent on.
#[derive(Debug)]
pub(super) enum Lent {
    Exclusive(Exclusive),
    Stream { sender: http2::SendRequest<RequestBody>, _seat: Seat },
}

impl Lent {
    pub(super) fn is_http2(&self) -> bool {
        matches!(self, Self::Stream { .. })
    }

    pub(super) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<RequestBody>>> {
        match self {
            Self::Exclusive(connection) => connection.sender.try_send_request(request).await,
            Self::Stream { sender, .. } => sender.try_send_request(request).await,
        }
    }

    /// Bytes that have come on this connection, where they are this request's alone.
    pub(super) fn received(&self) -> u64 {
        match self {
            Self::Exclusive(connection) => connection.socket.received(),
            Self::Stream { .. } => 0,
        }
    }
}

#[derive(Debug)]
struct Idle {
    connection: Exclusive,
    until: Instant,
}

impl Idle {
    fn is_usable(&self, generation: u64, now: Instant) -> bool {
        self.until > now && self.connection.generation == generation && !self.connection.sender.is_closed()
    }
}

/// What is open to one endpoint.
#[derive(Debug, Default)]
struct Lane {
    idle: Vec<Idle>,
    shared: Vec<Shared>,
    /// One connection in HTTP/2 is enough for all who wait for one.
    connecting: Arc<tokio::sync::Mutex<()>>,
}

/// The lock is held for a push or a pop, by one worker: it is there for `Send`, not for contention.
#[derive(Debug)]
pub(super) struct Pool {
    lanes: Mutex<HashMap<u64, Lane>>,
    upstreams: Arc<Upstreams>,
}

impl Pool {
    pub(super) fn new(upstreams: Arc<Upstreams>) -> Self {
        Self { lanes: Mutex::default(), upstreams }
    }

    /// A connection that is open, ready, young enough and still leads where the endpoint is: an HTTP/2 one that has
    /// room, or the HTTP/1.1 one that was used last.
    pub(super) fn checkout(&self, member: &Member, now: Instant) -> Option<Lent> {
        let mut lanes = self.lock();
        let lane = lanes.get_mut(&member.id)?;
        let generation = member.generation();
        // One that is not usable any more leaves the pool; the requests that it carries go on.
        lane.shared.retain(|shared| shared.is_usable(generation, now));
        if let Some(shared) = lane.shared.iter().find(|shared| shared.has_room()) {
            return Some(shared.lend());
        }
        lane.idle.retain(|idle| idle.is_usable(generation, now));
        // One that is open and not ready is still busy with the end of its last exchange.
        while let Some(ready) = lane.idle.iter().rposition(|idle| idle.connection.sender.is_ready()) {
            let connection = lane.idle.remove(ready).connection;
            if connection.socket.is_silent() {
                return Some(Lent::Exclusive(connection));
            }
        }
        None
    }

    /// Puts a new connection to use: one in HTTP/2 is there for others too.
    pub(super) fn lend(&self, member: &Member, fresh: Fresh, keepalive: Duration) -> Lent {
        match fresh {
            Fresh::Exclusive(connection) => Lent::Exclusive(connection),
            Fresh::Multiplexed(connection) => {
                let room = Room {
                    streams: AtomicUsize::new(0),
                    until: AtomicU64::new(0),
                    keepalive,
                    upstreams: Arc::clone(&self.upstreams),
                };
                let shared = Shared { connection, room: Arc::new(room) };
                let lent = shared.lend();
                self.lock().entry(member.id).or_default().shared.push(shared);
                lent
            }
        }
    }

    /// Connections to an endpoint that are ready for a request, and still will be at `then`.
    pub(super) fn ready(&self, member: &Member, then: Instant) -> usize {
        let generation = member.generation();
        self.lock().get(&member.id).map_or(0, |lane| {
            lane.idle.iter().filter(|idle| idle.is_usable(generation, then)).count()
                + lane.shared.iter().filter(|shared| shared.is_usable(generation, then)).count()
        })
    }

    /// Held by whoever makes a connection that others can use.
    pub(super) fn connecting(&self, member: &Member) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(&self.lock().entry(member.id).or_default().connecting)
    }

    /// Drops what is too old or closed, and endpoints without connections.
    pub(super) fn reap(&self) {
        let now = self.upstreams.now();
        self.lock().retain(|_, lane| {
            lane.idle.retain(|idle| idle.until > now && !idle.connection.sender.is_closed());
            lane.shared.retain(|shared| !shared.connection.sender.is_closed() && shared.room.is_kept(now));
            !lane.idle.is_empty() || !lane.shared.is_empty() || Arc::strong_count(&lane.connecting) > 1
        });
    }

    /// Takes a connection back that has done its work.
    pub(super) fn put(&self, member: &Member, connection: Exclusive, keepalive: Duration) {
        if connection.sender.is_closed() {
            return;
        }
        let until = self.upstreams.now() + keepalive;
        let mut lanes = self.lock();
        let lane = lanes.entry(member.id).or_default();
        if lane.idle.len() < MAX_IDLE {
            lane.idle.push(Idle { connection, until });
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Lane>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection in the hands of one request, until its response has ended.
#[derive(Debug)]
pub(super) struct Loan {
    pub(super) lent: Lent,
    pub(super) pool: Arc<Pool>,
    pub(super) pending: Pending,
    /// The request's place among those that the service is given at once.
    pub(super) slot: Option<Slot>,
    pub(super) keepalive: Duration,
    /// Whether another request may follow on it.
    pub(super) reusable: bool,
    /// Whether the endpoint has done well if the response comes to its end.
    pub(super) well: bool,
}

impl Loan {
    /// The response has come to its end.
    pub(super) fn finish(self) {
        if self.well {
            self.pending.member().standing.succeeded();
        }
        if let (Lent::Exclusive(connection), true) = (self.lent, self.reusable) {
            self.pool.put(self.pending.member(), connection, self.keepalive);
        }
    }

    /// The response has broken off. `why` is a label.
    pub(super) fn broke(&self, why: &'static str) {
        self.pending.cluster().failed(self.pending.member(), self.pool.upstreams.now_millis(), why);
    }

    /// The wait for the next piece of the response took too long.
    pub(super) fn stalled(&self, wait: Wait) {
        self.pending.cluster().metrics.timed_out(wait.as_str());
        self.broke("timeout");
    }
}
