//! The way to Kinde, which a 429 closes for a while.
//!
//! Enters: a request. Leaves: an answer of Kinde itself, or why there is none.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;

use crate::auth::chance::Lots;
use crate::time::Clock;

/// How long to pause after a 429 that does not say.
const PAUSE: Duration = Duration::from_secs(5);

/// However long Kinde wants to be left alone: one call a minute tells whether it still does, and a header that says
/// a day by mistake must not take a day.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Why Kinde gave no answer about a key.
#[derive(Clone, Debug)]
pub(in crate::auth) enum Failure {
    /// It is away, overloaded, or talks nonsense.
    Away(String),
    /// It asked to be left alone for this long.
    Paused(Duration),
    /// It, or what is on the way, refuses us and not the key. Stays so until somebody mends it.
    Misconfigured(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Away(why) => write!(f, "Kinde gave no answer: {why}"),
            Self::Paused(wait) => write!(f, "Kinde limits our requests for another {} s", wait.as_secs_f64().ceil()),
            Self::Misconfigured(why) => write!(f, "Kinde cannot be used: {why}"),
        }
    }
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    /// What the answer says about when to ask again.
    pub reset: Option<Duration>,
    pub body: Bytes,
}

pub(super) type Answering<'a> = Pin<Box<dyn Future<Output = Result<Reply, Failure>> + Send + 'a>>;

/// What takes a request to Kinde and brings its answer: the network, or a test.
pub(super) trait Exchange: fmt::Debug + Send + Sync {
    /// Reads at most `limit` bytes of an answer.
    fn exchange(&self, request: Request<Full<Bytes>>, limit: usize) -> Answering<'_>;
}

#[derive(Debug)]
pub(super) struct Link {
    exchange: Box<dyn Exchange>,
    paused_until: Mutex<Option<Instant>>,
    events: AtomicU64,
    pub(super) clock: Clock,
    pub(super) lots: Lots,
}

impl Link {
    pub(super) fn new(exchange: Box<dyn Exchange>, clock: Clock, lots: Lots) -> Self {
        Self { exchange, paused_until: Mutex::default(), events: AtomicU64::new(0), clock, lots }
    }

    pub(super) fn now(&self) -> Instant {
        self.clock.now().monotonic
    }

    /// A number that is larger than all before: which of two events came first, when no clock can tell.
    pub(super) fn event(&self) -> u64 {
        self.events.fetch_add(1, Ordering::SeqCst)
    }

    /// Sends a request, unless Kinde has asked for a pause. What comes back is an answer of Kinde itself: neither a
    /// 429 nor a 5xx.
    pub(super) async fn send(&self, request: Request<Full<Bytes>>, limit: usize) -> Result<Reply, Failure> {
        if let Some(wait) = self.pause() {
            return Err(Failure::Paused(wait));
        }
        let reply = self.exchange.exchange(request, limit).await?;
        match reply.status {
            StatusCode::TOO_MANY_REQUESTS => {
                let wait = reply.reset.unwrap_or(PAUSE).clamp(Duration::from_secs(1), LONGEST_PAUSE);
                // Everybody was told the same moment, and must not come back at it together.
                let wait = self.lots.draw().beyond(wait);
                *self.lock() = Some(self.now() + wait);
                tracing::warn!(
                    seconds = wait.as_secs_f64(),
                    "Kinde limits our requests; uncached keys get 503 meanwhile"
                );
                Err(Failure::Paused(wait))
            }
            status if status.is_server_error() => Err(Failure::Away(format!("status {status}"))),
            _ => Ok(reply),
        }
    }

    fn pause(&self) -> Option<Duration> {
        let until = (*self.lock())?;
        Some(until.saturating_duration_since(self.now())).filter(|left| !left.is_zero())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.paused_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
