//! The service behind us.
//!
//! Enters: a request with its [`Permit`] and [`Admission`], which only `auth` and `limit` can make. Leaves: the
//! service's response head with a body that streams, or a [`SendError`] that says whose fault it was. Every worker
//! has a pool of its own; a connection never changes its worker.
//!
//! Invariant: no request is sent again once a byte of an answer has come. `attempts` says which ones are, before that.
//! What is sent without a permit is Keyward's own: the question of a health check.

mod attempts;
mod body;
mod breaker;
mod budget;
mod cluster;
mod connect;
mod exchange;
mod gate;
mod go_ahead;
mod health;
mod http2;
mod member;
mod pool;
mod registry;
mod request_body;
mod resolve;
mod socket;
mod standing;
mod tls;
mod upgrade;
mod wait;
mod warm;

pub use body::UpstreamBody;
pub use gate::Turned;
pub use go_ahead::GoAhead;
pub use registry::Upstreams;
pub use request_body::{BodyFault, RequestBody, Screen, Streamed};
pub use resolve::{Resolve, Resolving, SystemResolver};
pub use tls::check_tls;
pub use upgrade::{Upgrade, UpgradedStream};

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{Request, Response, StatusCode};

use crate::auth::Permit;
use crate::limit::Admission;
use crate::policy::Upstream;
use breaker::Pass;
use cluster::{Cluster, Own};
use exchange::To;
use pool::Pool;

/// Why there is no response.
#[derive(Debug)]
pub enum SendError {
    /// No connection could be made.
    Unreachable(io::Error),
    /// The service did not answer, or stopped reading, for as long as its timeouts allow.
    Timeout,
    /// The service closed the connection or answered with something that is not HTTP.
    Broken(hyper::Error),
    /// The service answered with something that was not asked for.
    Unwanted(&'static str),
    /// The client's side of the request failed while it was being forwarded.
    Request(BodyFault),
    /// The service has as much to do as it may be given.
    Overloaded(Turned),
    /// The service failed so often that it is left alone for this long.
    Unavailable(Duration),
}

/// One worker's way to all upstreams.
#[derive(Debug)]
pub struct UpstreamClient {
    upstreams: Arc<Upstreams>,
    pool: Arc<Pool>,
    /// By the address of the policy's upstream, as in the registry. The lock is held for a look, by one worker.
    own: Mutex<HashMap<usize, Arc<Own>>>,
    /// Whose turn it is among endpoints that are equally busy.
    turn: AtomicUsize,
}

/// How often idle connections are looked through.
const TEND_EVERY: Duration = Duration::from_millis(500);

impl UpstreamClient {
    pub fn new(upstreams: Arc<Upstreams>) -> Self {
        let pool = Arc::new(Pool::new(Arc::clone(&upstreams)));
        Self { upstreams, pool, own: Mutex::default(), turn: AtomicUsize::new(0) }
    }

    /// Closes idle connections in time, and opens those that are to be ready. Runs on the worker until it is dropped.
    pub async fn tend(&self) {
        let mut ticks = tokio::time::interval(TEND_EVERY);
        loop {
            ticks.tick().await;
            self.pool.reap();
            self.own().retain(|_, own| own.spec.strong_count() > 0);
            for cluster in self.upstreams.current().iter() {
                self.warm(cluster).await;
            }
        }
    }

    /// Sends a request and waits for the response head.
    ///
    /// `request` is in origin form with its final headers. `_permit` and `_admission` are the proof that it may go.
    ///
    /// # Errors
    /// [`SendError`], which says whose fault it was.
    pub async fn send(
        &self,
        request: Request<RequestBody>,
        upstream: &Arc<Upstream>,
        _permit: &Permit,
        _admission: &Admission,
    ) -> Result<Response<UpstreamBody>, SendError> {
        let cluster = &self.cluster(upstream)?;
        let deadline = upstream.timeouts.total.map(|total| tokio::time::Instant::now() + total);
        let to = To { cluster, upstream, deadline };
        let pass = self.pass(cluster)?;
        let slot = match &cluster.gate {
            None => None,
            Some((rule, gate)) => {
                let entered = to.in_time(gate.enter(rule, &cluster.metrics)).await?;
                Some(entered.map_err(SendError::Overloaded)?)
            }
        };
        let sent = self.attempts(request, to).await;
        if let Some(pass) = pass {
            self.settle(pass, &sent.as_ref().map(Response::status));
        }
        sent.map(|response| response.map(|body| body.with_slot(slot)))
    }

    /// Asks the breaker, where there is one.
    fn pass(&self, cluster: &Cluster) -> Result<Option<Pass>, SendError> {
        let Some(breaker) = &cluster.breaker else { return Ok(None) };
        breaker.pass(self.upstreams.now_millis()).map(Some).map_err(|wait| {
            cluster.metrics.breaker_refused.inc();
            SendError::Unavailable(wait)
        })
    }

    fn settle(&self, pass: Pass, sent: &Result<StatusCode, &SendError>) {
        let failed = match sent {
            Ok(status) => pass.rule().server_errors && status.is_server_error(),
            // Its client broke it off: nobody knows what would have come of it.
            Err(SendError::Request(_)) => return,
            Err(_) => true,
        };
        if failed { pass.failed(self.upstreams.now_millis()) } else { pass.succeeded() }
    }

    fn cluster(&self, upstream: &Arc<Upstream>) -> Result<Arc<Own>, SendError> {
        let mut own = self.own();
        // A cluster that is held keeps the address from being given away.
        if let Some(known) = own.get(&registry::address(upstream)) {
            return Ok(Arc::clone(known));
        }
        let unknown = || SendError::Unreachable(io::Error::other("the upstream is not of a policy in force"));
        let found = Arc::new(Own(self.upstreams.find(upstream).ok_or_else(unknown)?));
        own.insert(registry::address(upstream), Arc::clone(&found));
        Ok(found)
    }

    fn own(&self) -> MutexGuard<'_, HashMap<usize, Arc<Own>>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_turn(&self) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }
}
