//! One endpoint of an upstream, as all workers see it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwapOption;

use super::pool::MAX_STREAMS;
use super::resolve::Resolve;
use super::standing::Standing;
use crate::policy::Endpoint;

/// What a connection was found to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    Unknown,
    Http1,
    Http2,
}

/// The state of an endpoint. It outlives a reload that keeps the endpoint.
#[derive(Debug)]
pub(super) struct Member {
    /// What pools know it by.
    pub(super) id: u64,
    pub(super) endpoint: Endpoint,
    pub(super) standing: Standing,
    /// When it is checked next, in milliseconds of the registry's time.
    next_check: AtomicU64,
    /// Requests that it has been given and has not answered to the end.
    pending: AtomicUsize,
    speaks: AtomicU8,
    /// Requests that one connection in HTTP/2 may carry, as far as is known.
    pub(super) streams: Arc<AtomicUsize>,
    /// Counts what makes older connections unfit for new requests: other addresses, other certificates.
    generation: AtomicU64,
    /// `None` until they were asked for, and always for a Unix socket.
    addresses: ArcSwapOption<Addresses>,
    /// Whether no address could be connected to, so that they are to be asked for again.
    doubtful: AtomicBool,
}

/// What a name was found to stand for.
#[derive(Debug)]
struct Addresses {
    list: Vec<SocketAddr>,
    /// When, in milliseconds of the registry's time.
    at: u64,
}

/// A name that nobody answers to is not asked for more often than this.
const DOUBT_MS: u64 = 1000;

impl Member {
    pub(super) fn new(id: u64, endpoint: Endpoint) -> Self {
        Self {
            id,
            endpoint,
            standing: Standing::default(),
            next_check: AtomicU64::new(0),
            pending: AtomicUsize::new(0),
            speaks: AtomicU8::new(Speaks::Unknown as u8),
            streams: Arc::new(AtomicUsize::new(MAX_STREAMS)),
            generation: AtomicU64::new(0),
            addresses: ArcSwapOption::empty(),
            doubtful: AtomicBool::new(false),
        }
    }

    /// Whether it is to be checked now; if so, the next time is `interval` milliseconds from now.
    pub(super) fn is_due_for_check(&self, now: u64, interval: u64) -> bool {
        let is_due = now >= self.next_check.load(Ordering::Relaxed);
        if is_due {
            self.next_check.store(now + interval, Ordering::Relaxed);
        }
        is_due
    }

    pub(super) fn pending(&self) -> usize {
        self.pending.load(Ordering::Relaxed)
    }

    pub(super) fn speaks(&self) -> Speaks {
        match self.speaks.load(Ordering::Relaxed) {
            1 => Speaks::Http1,
            2 => Speaks::Http2,
            _ => Speaks::Unknown,
        }
    }

    pub(super) fn spoke(&self, speaks: Speaks) {
        self.speaks.store(speaks as u8, Ordering::Relaxed);
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// From now on new requests get new connections.
    pub(super) fn renew(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// It has been given a request.
    pub(super) fn begin(&self) {
        self.pending.fetch_add(1, Ordering::Relaxed);
    }

    /// One of its requests has come to its end.
    pub(super) fn end(&self) {
        self.pending.fetch_sub(1, Ordering::Relaxed);
    }

    /// The addresses to connect to, asked for if they are not known or in doubt. `now` is in milliseconds of the
    /// registry's time.
    pub(super) async fn addresses(&self, resolver: &dyn Resolve, now: u64) -> io::Result<Vec<SocketAddr>> {
        let known = self.addresses.load_full();
        if let Some(known) = &known
            && !(self.doubtful.load(Ordering::Relaxed) && now >= known.at + DOUBT_MS)
        {
            return Ok(known.list.clone());
        }
        match (self.resolve(resolver, now).await, known) {
            (Err(_), Some(known)) => Ok(known.list.clone()),
            (resolved, _) => resolved,
        }
    }

    /// Whether the name is to be asked for again after `period` milliseconds.
    pub(super) fn is_due_to_resolve(&self, now: u64, period: u64) -> bool {
        self.name().is_some() && self.addresses.load().as_ref().is_some_and(|known| now >= known.at + period)
    }

    /// Asks for the addresses. Where they are others than before, new requests get new connections. An error leaves
    /// what was known.
    pub(super) async fn resolve(&self, resolver: &dyn Resolve, now: u64) -> io::Result<Vec<SocketAddr>> {
        let Endpoint::Tcp { host, port, .. } = &self.endpoint else { return Ok(Vec::new()) };
        let list = match host.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, *port)],
            Err(_) => resolver.resolve(host, *port).await?,
        };
        if list.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        }
        let before = self.addresses.swap(Some(Arc::new(Addresses { list: list.clone(), at: now })));
        self.doubtful.store(false, Ordering::Relaxed);
        // Servers of names answer in another order each time.
        let is_same = |before: &Addresses| {
            before.list.len() == list.len() && before.list.iter().all(|address| list.contains(address))
        };
        if before.is_some_and(|before| !is_same(&before)) {
            tracing::info!(endpoint = %self.endpoint, ?list, "the name stands for other addresses now");
            self.renew();
        }
        Ok(list)
    }

    /// Nobody answered at any of the addresses.
    pub(super) fn doubt(&self) {
        if self.name().is_some() {
            self.doubtful.store(true, Ordering::Relaxed);
        }
    }

    /// The host, where it is a name.
    fn name(&self) -> Option<&str> {
        match &self.endpoint {
            Endpoint::Tcp { host, .. } if host.parse::<IpAddr>().is_err() => Some(host),
            _ => None,
        }
    }
}
