//! All upstreams of the process, shared by its workers.
//!
//! Enters: policies. Leaves: the state of their upstreams, which outlives a reload as far as the endpoints do.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::task::JoinSet;

use super::breaker::Breaker;
use super::budget::Budget;
use super::cluster::Cluster;
use super::gate::Gate;
use super::health::Checker;
use super::member::Member;
use super::resolve::Resolve;
use super::standing::millis;
use super::tls::{ClientTls, Look};
use crate::observe::Metrics;
use crate::policy::{Endpoint, Policy, Upstream};
use crate::time::Clock;

/// How often files and names are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often checks are looked after, where there are any.
const CHECK_EVERY: Duration = Duration::from_millis(100);

/// The longest wait for the addresses of a name, when nobody waits for them.
const LONGEST_LOOK: Duration = Duration::from_secs(10);

/// The state of all upstreams.
#[derive(Debug)]
pub struct Upstreams {
    /// By the address of the policy's upstream, which is not given to another one while a cluster has its `Weak`. A
    /// request that began with an older policy finds the cluster of that policy.
    clusters: ArcSwap<HashMap<usize, Arc<Cluster>>>,
    /// Those of the policy in force.
    current: ArcSwap<Vec<Arc<Cluster>>>,
    /// Taken to change the two above.
    adopting: Mutex<()>,
    next_member: AtomicU64,
    pub(super) resolver: Arc<dyn Resolve>,
    pub(super) metrics: Arc<Metrics>,
    clock: Clock,
    epoch: Instant,
}

impl Upstreams {
    pub fn new(metrics: Arc<Metrics>, clock: Clock, resolver: Arc<dyn Resolve>) -> Self {
        let epoch = clock.now().monotonic;
        Self {
            clusters: ArcSwap::default(),
            current: ArcSwap::default(),
            adopting: Mutex::default(),
            next_member: AtomicU64::new(0),
            resolver,
            metrics,
            clock,
            epoch,
        }
    }

    /// Gets ready for a policy that is about to be in force. What it has in common with the one before keeps its
    /// state.
    ///
    /// # Errors
    /// If a certificate or a key cannot be used. Then nothing has changed.
    pub fn adopt(&self, policy: &Policy) -> Result<(), String> {
        let _adopting = self.adopting.lock().unwrap_or_else(PoisonError::into_inner);
        let elders = self.current.load_full();
        let mut clusters = HashMap::new();
        let mut current: Vec<Arc<Cluster>> = Vec::new();
        for route in policy.routes.routes() {
            let upstream = &route.upstream;
            if clusters.contains_key(&address(upstream)) {
                continue;
            }
            let elder = elders.iter().find(|elder| elder.name == upstream.name);
            let cluster = self.cluster(upstream, elder).map_err(|why| format!("upstream {}: {why}", upstream.name))?;
            let cluster = Arc::new(cluster);
            clusters.insert(address(upstream), Arc::clone(&cluster));
            current.push(cluster);
        }
        for (address, cluster) in self.clusters.load().iter() {
            if cluster.spec.strong_count() > 0 {
                clusters.entry(*address).or_insert_with(|| Arc::clone(cluster));
            }
        }
        for elder in elders.iter() {
            let heir = current.iter().find(|cluster| cluster.name == elder.name);
            let is_gone = |member: &&Arc<Member>| {
                heir.is_none_or(|heir| heir.members.iter().all(|kept| kept.endpoint != member.endpoint))
            };
            for member in elder.members.iter().filter(is_gone) {
                self.metrics.upstreams.forget(&elder.name, &member.endpoint);
            }
        }
        self.clusters.store(Arc::new(clusters));
        self.current.store(Arc::new(current));
        Ok(())
    }

    fn cluster(&self, upstream: &Arc<Upstream>, elder: Option<&Arc<Cluster>>) -> Result<Cluster, String> {
        let same_tls = elder.and_then(|elder| elder.tls.clone()).filter(|tls| tls.is_of(&upstream.tls, upstream.http2));
        let tls = match same_tls {
            _ if !upstream.endpoints.iter().any(Endpoint::is_tls) => None,
            Some(tls) => Some(tls),
            None => Some(Arc::new(ClientTls::load(&upstream.tls, upstream.http2)?)),
        };
        // A connection that was made on other terms is not used on these.
        let on_same_terms = |elder: &&Arc<Cluster>| {
            elder.http2 == upstream.http2
                && match (&elder.tls, &tls) {
                    (Some(one), Some(other)) => Arc::ptr_eq(one, other),
                    (None, None) => true,
                    _ => false,
                }
        };
        let elder = elder.filter(on_same_terms);
        let member = |endpoint: &Endpoint| {
            let known = elder.and_then(|elder| elder.members.iter().find(|member| member.endpoint == *endpoint));
            known.cloned().unwrap_or_else(|| {
                let id = self.next_member.fetch_add(1, Ordering::Relaxed);
                Arc::new(Member::new(id, endpoint.clone()))
            })
        };
        let metrics = self.metrics.upstreams.counters(&upstream.name, &upstream.endpoints);
        if elder.is_none() && tls.is_some() {
            metrics.tls_reload_success.set(1);
        }
        let gate = upstream.max_concurrent.map(|rule| {
            let known = elder.and_then(|elder| elder.gate.clone()).filter(|gate| gate.rule == rule);
            known.unwrap_or_else(|| Arc::new(Gate::new(rule)))
        });
        let breaker = upstream.breaker.map(|rule| {
            let known = elder.and_then(|elder| elder.breaker.clone()).filter(|breaker| breaker.rule == rule);
            known.unwrap_or_else(|| Arc::new(Breaker::new(rule, metrics.breaker_state.clone())))
        });
        let budget = upstream.retries.map(|rule| {
            let known = elder.and_then(|elder| elder.budget.clone()).filter(|budget| budget.rule == rule);
            known.unwrap_or_else(|| Arc::new(Budget::new(rule)))
        });
        let members: Vec<_> = upstream.endpoints.iter().map(member).collect();
        if upstream.health.is_none() {
            members.iter().for_each(|member| member.standing.unchecked());
        }
        Ok(Cluster {
            spec: Arc::downgrade(upstream),
            name: Arc::clone(&upstream.name),
            members,
            tls,
            http2: upstream.http2,
            eject: upstream.eject,
            resolve: upstream.resolve,
            is_checked: upstream.health.is_some(),
            ejecting: Mutex::default(),
            gate,
            breaker,
            budget,
            metrics,
        })
    }

    /// The state of an upstream; `None` for one that was never adopted. Workers keep what they found.
    pub(super) fn find(&self, upstream: &Arc<Upstream>) -> Option<Arc<Cluster>> {
        self.clusters.load().get(&address(upstream)).cloned()
    }

    pub(super) fn now(&self) -> Instant {
        self.clock.now().monotonic
    }

    /// The present in milliseconds since this was made.
    pub(super) fn now_millis(&self) -> u64 {
        self.millis(self.now())
    }

    /// A moment in milliseconds since this was made.
    pub(super) fn millis(&self, now: Instant) -> u64 {
        millis(now.saturating_duration_since(self.epoch))
    }

    /// The upstreams of the policy in force.
    pub(super) fn current(&self) -> Arc<Vec<Arc<Cluster>>> {
        self.current.load_full()
    }

    /// The upstreams of which every endpoint fails its checks.
    pub fn failing(&self) -> Vec<Arc<str>> {
        let current = self.current.load();
        let failing =
            current.iter().filter(|cluster| cluster.members.iter().all(|member| member.standing.is_unhealthy()));
        failing.map(|cluster| Arc::clone(&cluster.name)).collect()
    }

    /// Looks after files, names and checks until it is dropped. One task of the process does this.
    pub async fn tend(self: Arc<Self>) {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        let mut checks = tokio::time::interval(CHECK_EVERY);
        let (mut looking, mut checking) = (JoinSet::new(), JoinSet::new());
        loop {
            let current = self.current();
            let is_checked = current.iter().any(|cluster| cluster.is_checked);
            tokio::select! {
                // Whoever is slow is not sent again before it is back.
                _ = looks.tick() => if looking.is_empty() {
                    current.iter().for_each(|cluster| self.look_after(cluster, &mut looking));
                },
                _ = checks.tick(), if is_checked => {
                    current.iter().for_each(|cluster| self.check(cluster, &mut checking));
                }
                Some(_) = looking.join_next() => {}
                Some(_) = checking.join_next() => {}
            }
        }
    }

    fn look_after(&self, cluster: &Arc<Cluster>, errands: &mut JoinSet<()>) {
        let now = self.now_millis();
        cluster.tell(now);
        if cluster.tls.is_some() {
            let cluster = Arc::clone(cluster);
            errands.spawn_blocking(move || look(&cluster));
        }
        let period = millis(cluster.resolve);
        for member in cluster.members.iter().filter(|member| member.is_due_to_resolve(now, period)) {
            let (member, resolver) = (Arc::clone(member), Arc::clone(&self.resolver));
            errands.spawn(async move {
                let resolved = tokio::time::timeout(LONGEST_LOOK, member.resolve(&*resolver, now)).await;
                let why = match resolved {
                    Ok(Ok(_)) => return,
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => "no answer in time".to_owned(),
                };
                tracing::debug!(endpoint = %member.endpoint, why, "the name could not be asked for again");
            });
        }
    }

    fn check(self: &Arc<Self>, cluster: &Arc<Cluster>, errands: &mut JoinSet<()>) {
        let Some(upstream) = cluster.spec.upgrade() else { return };
        let Some(rule) = &upstream.health else { return };
        let now = self.now_millis();
        // None begins before the one before it has ended.
        let pace = millis(rule.interval.max(rule.timeout));
        for member in cluster.members.iter().filter(|member| member.is_due_for_check(now, pace)) {
            let checker = Checker { upstreams: Arc::clone(self), now };
            errands.spawn(checker.check(Arc::clone(cluster), Arc::clone(&upstream), Arc::clone(member)));
        }
    }
}

pub(super) fn address(upstream: &Arc<Upstream>) -> usize {
    Arc::as_ptr(upstream).addr()
}

fn look(cluster: &Cluster) {
    let upstream = &*cluster.name;
    match cluster.tls.as_ref().map(|tls| tls.look()) {
        None | Some(Look::Same) => {}
        Some(Look::Changed) => {
            cluster.members.iter().for_each(|member| member.renew());
            cluster.metrics.tls_reload_success.set(1);
            tracing::info!(upstream, "the new TLS files are in force");
        }
        Some(Look::Bad(why)) => {
            cluster.metrics.tls_reload_success.set(0);
            tracing::error!(upstream, why, "the TLS files have changed and cannot be used; the old ones stay in force");
        }
    }
}
