//! One upstream at work: its endpoints, and what all workers know about them.

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use http::StatusCode;

use super::breaker::Breaker;
use super::budget::Budget;
use super::gate::Gate;
use super::member::Member;
use super::tls::ClientTls;
use crate::observe::UpstreamCounters;
use crate::policy::{Concurrency, Ejection, Http2, MAX_ENDPOINTS, Upstream};

/// The state of one upstream of a policy. What a reload keeps is shared with the cluster before it.
#[derive(Debug)]
pub(super) struct Cluster {
    /// Gone when no policy and no request has the upstream any more.
    pub(super) spec: Weak<Upstream>,
    pub(super) name: Arc<str>,
    /// At least one, at most [`MAX_ENDPOINTS`].
    pub(super) members: Vec<Arc<Member>>,
    /// Where an endpoint is `https://`.
    pub(super) tls: Option<Arc<ClientTls>>,
    pub(super) http2: Http2,
    pub(super) eject: Option<Ejection>,
    /// Taken to eject: how many are out decides whether one more may be.
    pub(super) ejecting: Mutex<()>,
    /// How often the names of endpoints are asked for again.
    pub(super) resolve: Duration,
    pub(super) is_checked: bool,
    pub(super) gate: Option<(Concurrency, Arc<Gate>)>,
    pub(super) breaker: Option<Arc<Breaker>>,
    pub(super) budget: Option<Arc<Budget>>,
    pub(super) metrics: UpstreamCounters,
}

/// A cluster in the hands of one worker: counting who holds it disturbs no other worker.
#[derive(Debug)]
pub(super) struct Own(pub(super) Arc<Cluster>);

impl Deref for Own {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.0
    }
}

/// A request that a member has been given, until it is dropped.
#[derive(Debug)]
pub(super) struct Pending {
    cluster: Arc<Own>,
    index: usize,
}

impl Pending {
    pub(super) fn new(cluster: &Arc<Own>, index: usize) -> Self {
        cluster.members[index].begin();
        Self { cluster: Arc::clone(cluster), index }
    }

    pub(super) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    pub(super) fn member(&self) -> &Member {
        &self.cluster.members[self.index]
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.member().end();
    }
}

/// Which members a request has been to, a bit for each.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tried(u64);

const _: () = assert!(MAX_ENDPOINTS <= 64, "a bit for each");

impl Tried {
    pub(super) fn with(self, index: usize) -> Self {
        Self(self.0 | 1 << index)
    }

    pub(super) fn count(self) -> u32 {
        self.0.count_ones()
    }

    fn has(self, index: usize) -> bool {
        self.0 & 1 << index != 0
    }
}

impl Cluster {
    /// Which member is to have a request: one in good standing before one that is not, the one with the fewest requests
    /// before others, and `turn` decides between equals. One that the request has been to comes last of all. Somebody
    /// is always chosen: a bad standing may be wrong, and a refusal certainly helps nobody.
    pub(super) fn choose(&self, now: u64, turn: usize, tried: Tried) -> usize {
        let count = self.members.len();
        if count == 1 {
            return 0;
        }
        let rank = |index: &usize| {
            let member = &self.members[*index];
            (tried.has(*index), !self.is_good(member, now), member.pending())
        };
        (0..count).map(|step| turn.wrapping_add(step) % count).min_by_key(rank).unwrap_or(0)
    }

    /// Whether there is a member in good standing that a request has not been to.
    pub(super) fn has_other(&self, now: u64, tried: Tried) -> bool {
        self.members.iter().enumerate().any(|(index, member)| !tried.has(index) && self.is_good(member, now))
    }

    /// Whether there is a member that a request has not been to, good or bad.
    pub(super) fn has_untried(&self, tried: Tried) -> bool {
        (0..self.members.len()).any(|index| !tried.has(index))
    }

    /// Whether a member is in good standing. What a check said that was under way when checks came to an end is nobody's
    /// to take back, and does not count.
    pub(super) fn is_good(&self, member: &Member, now: u64) -> bool {
        !member.standing.is_ejected(now) && !self.is_unhealthy(member)
    }

    fn is_unhealthy(&self, member: &Member) -> bool {
        self.is_checked && member.standing.is_unhealthy()
    }

    /// Whether every member fails its checks.
    pub(super) fn is_failing(&self) -> bool {
        self.members.iter().all(|member| self.is_unhealthy(member))
    }

    /// Whether an answer of this status is none of a failure.
    pub(super) fn is_well(&self, status: StatusCode) -> bool {
        !(status.is_server_error() && self.eject.is_some_and(|rule| rule.server_errors))
    }

    /// A member has not answered, or has broken off. `why` is a label.
    pub(super) fn failed(&self, member: &Member, now: u64, why: &'static str) {
        // To leave out the only one would help nobody.
        let Some(rule) = self.eject.as_ref().filter(|_| self.members.len() > 1) else { return };
        if !member.standing.failed(rule, now) {
            return;
        }
        let _ejecting = self.ejecting.lock().unwrap_or_else(PoisonError::into_inner);
        let out = self.members.iter().filter(|member| !self.is_good(member, now)).count();
        if (out + 1) * 100 > self.members.len() * rule.max_share {
            return;
        }
        let time = member.standing.eject(rule, now);
        self.metrics.ejected(why);
        let (upstream, seconds) = (&*self.name, time.as_secs_f64());
        tracing::warn!(upstream, endpoint = %member.endpoint, why, seconds, "the endpoint fails and is left out");
    }

    /// Tells the metrics which endpoints are in use.
    pub(super) fn tell(&self, now: u64) {
        for (member, gauge) in self.members.iter().zip(&self.metrics.endpoints) {
            gauge.set(i64::from(self.is_good(member, now)));
        }
    }
}
