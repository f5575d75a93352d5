//! One endpoint of an upstream, as all workers see it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
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
    addresses: ArcSwapOption<Vec<SocketAddr>>,
    /// When they were last asked for, whatever came of it, in milliseconds of the registry's time.
    asked: AtomicU64,
    /// Whether they are being asked for in the background.
    asking: AtomicBool,
    /// Whether no address could be connected to, so that they are to be asked for again.
    doubtful: AtomicBool,
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
            asked: AtomicU64::new(0),
            asking: AtomicBool::new(false),
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

    /// The addresses to connect to, asked for if none are known. Those in doubt may still be good, and whoever answers
    /// for names slow: they are used until others are found in the background. `now` is in milliseconds of the
    /// registry's time.
    pub(super) async fn addresses(&self, resolver: &dyn Resolve, now: u64) -> io::Result<Vec<SocketAddr>> {
        match self.addresses.load_full() {
            Some(known) => Ok((*known).clone()),
            None => self.resolve(resolver, now).await,
        }
    }

    /// Whether the name is to be asked for again: after `period` milliseconds, or sooner if nobody answers at what it
    /// stands for. If so, whoever asks holds what is returned meanwhile: nobody else asks in the background.
    pub(super) fn due_to_resolve(self: &Arc<Self>, now: u64, period: u64) -> Option<Asking> {
        let period = if self.doubtful.load(Ordering::Relaxed) { period.min(DOUBT_MS) } else { period };
        let is_due = self.name().is_some()
            && self.addresses.load().is_some()
            && now >= self.asked.load(Ordering::Relaxed).saturating_add(period);
        (is_due && !self.asking.swap(true, Ordering::Relaxed)).then(|| Asking(Arc::clone(self)))
    }

    /// Asks for the addresses. Where they are others than before, new requests get new connections. An error leaves
    /// what was known.
    pub(super) async fn resolve(&self, resolver: &dyn Resolve, now: u64) -> io::Result<Vec<SocketAddr>> {
        let Endpoint::Tcp { host, port, .. } = &self.endpoint else { return Ok(Vec::new()) };
        self.asked.store(now, Ordering::Relaxed);
        let list = match host.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, *port)],
            Err(_) => resolver.resolve(host, *port).await?,
        };
        if list.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        }
        let before = self.addresses.swap(Some(Arc::new(list.clone())));
        self.doubtful.store(false, Ordering::Relaxed);
        // Servers of names answer in another order each time.
        let is_same =
            |before: &[SocketAddr]| before.len() == list.len() && before.iter().all(|address| list.contains(address));
        if before.is_some_and(|before| !is_same(&before[..])) {
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

/// A member whose name is being asked for in the background.
#[derive(Debug)]
pub(super) struct Asking(Arc<Member>);

impl Deref for Asking {
    type Target = Member;

    fn deref(&self) -> &Member {
        &self.0
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.asking.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::super::resolve::Resolving;
    use super::*;

    /// Gives its answers one after the other; without one, it never answers.
    #[derive(Debug)]
    struct Answers(Mutex<Vec<io::Result<SocketAddr>>>);

    impl Resolve for Answers {
        fn resolve(&self, _: &str, _: u16) -> Resolving {
            let answer = self.0.lock().expect("no panic").pop();
            Box::pin(async move {
                match answer {
                    Some(answer) => answer.map(|address| vec![address]),
                    None => std::future::pending().await,
                }
            })
        }
    }

    #[tokio::test]
    async fn known_addresses_are_used_while_the_name_is_asked_for() {
        let address = |last| SocketAddr::from(([10, 0, 0, last], 80));
        let member = Arc::new(Member::new(0, Endpoint::Tcp { tls: false, host: "model.internal".into(), port: 80 }));
        assert!(member.due_to_resolve(60_000, 30_000).is_none(), "nobody has needed it");
        let resolver = Answers(Mutex::new(vec![Err(io::ErrorKind::Other.into()), Ok(address(1))]));
        assert_eq!(member.addresses(&resolver, 100).await.expect("an answer"), [address(1)]);
        member.doubt();
        assert_eq!(member.addresses(&resolver, 5000).await.expect("known"), [address(1)], "nobody waits");
        assert!(member.due_to_resolve(1099, 30_000).is_none());
        {
            let asking = member.due_to_resolve(5000, 30_000).expect("it is in doubt");
            assert!(member.due_to_resolve(5000, 30_000).is_none(), "one at a time");
            assert!(asking.resolve(&resolver, 5000).await.is_err());
        }
        assert!(member.due_to_resolve(5999, 30_000).is_none(), "the failure counts as asked");
        let asking = member.due_to_resolve(6000, 30_000).expect("it is still in doubt");
        let resolver = Answers(Mutex::new(vec![Ok(address(2))]));
        assert_eq!(asking.resolve(&resolver, 6000).await.expect("an answer"), [address(2)]);
        drop(asking);
        assert_eq!((member.generation(), member.due_to_resolve(35_999, 30_000).is_none()), (1, true));
    }
}
