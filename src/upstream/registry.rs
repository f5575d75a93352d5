//! All upstreams of the process, shared by its workers.
//!
//! Enters: policies. Leaves: the state of their upstreams, which outlives a reload as far as the endpoints do.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

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
        let elder_of = |upstream: &Upstream| elders.iter().find(|elder| elder.name == upstream.name);
        let mut found: Vec<(&Arc<Upstream>, Option<Arc<ClientTls>>)> = Vec::new();
        for route in policy.routes.routes() {
            let upstream = &route.upstream;
            if found.iter().any(|(known, _)| Arc::ptr_eq(known, upstream)) {
                continue;
            }
            let tls = client_tls(upstream, elder_of(upstream));
            found.push((upstream, tls.map_err(|why| format!("upstream {}: {why}", upstream.name))?));
        }
        // Nothing fails from here on.
        let (mut clusters, mut current) = (HashMap::new(), Vec::new());
        for (upstream, tls) in found {
            let cluster = Arc::new(self.cluster(upstream, tls, elder_of(upstream)));
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

    fn cluster(&self, upstream: &Arc<Upstream>, tls: Option<Arc<ClientTls>>, elder: Option<&Arc<Cluster>>) -> Cluster {
        // Requests that were let in under the policy before count on, whatever else has changed.
        let gate = upstream.max_concurrent.map(|rule| {
            let known = elder.and_then(|elder| elder.gate.as_ref()).map(|(_, gate)| Arc::clone(gate));
            let gate = known.unwrap_or_else(|| Arc::new(Gate::new(rule.max)));
            gate.resize(rule.max);
            (rule, gate)
        });
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
        let breaker = upstream.breaker.map(|rule| {
            let known = elder.and_then(|elder| elder.breaker.clone()).filter(|breaker| breaker.rule == rule);
            known.unwrap_or_else(|| Arc::new(Breaker::new(rule, metrics.breaker_state.clone())))
        });
        if breaker.is_none() {
            metrics.breaker_state.set(0);
        }
        let budget = upstream.retries.map(|rule| {
            let known = elder.and_then(|elder| elder.budget.clone()).filter(|budget| budget.rule == rule);
            known.unwrap_or_else(|| Arc::new(Budget::new(rule)))
        });
        let members: Vec<_> = upstream.endpoints.iter().map(member).collect();
        if upstream.health.is_none() {
            members.iter().for_each(|member| member.standing.unchecked());
        }
        Cluster {
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
        }
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
        let failing = current.iter().filter(|cluster| cluster.is_failing());
        failing.map(|cluster| Arc::clone(&cluster.name)).collect()
    }

    /// Looks after files, names and checks until it is dropped. One task of the process does this.
    pub async fn tend(self: Arc<Self>) {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        let mut checks = tokio::time::interval(CHECK_EVERY);
        // Those that were missed are not made up for.
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut reading, mut resolving, mut checking) = (JoinSet::new(), JoinSet::new(), JoinSet::new());
        loop {
            let current = self.current();
            let is_checked = current.iter().any(|cluster| cluster.is_checked);
            tokio::select! {
                _ = looks.tick() => {
                    current.iter().for_each(|cluster| self.look_after(cluster, &mut resolving));
                    // Files that are slow to read are not read again before they are done.
                    if reading.is_empty() {
                        for cluster in current.iter().filter(|cluster| cluster.tls.is_some()) {
                            let cluster = Arc::clone(cluster);
                            reading.spawn_blocking(move || look(&cluster));
                        }
                    }
                }
                _ = checks.tick(), if is_checked => {
                    current.iter().for_each(|cluster| self.check(cluster, &mut checking));
                }
                Some(_) = reading.join_next() => {}
                Some(_) = resolving.join_next() => {}
                Some(_) = checking.join_next() => {}
            }
        }
    }

    fn look_after(&self, cluster: &Arc<Cluster>, errands: &mut JoinSet<()>) {
        let now = self.now_millis();
        cluster.tell(now);
        let period = millis(cluster.resolve);
        for member in cluster.members.iter().filter_map(|member| member.due_to_resolve(now, period)) {
            let resolver = Arc::clone(&self.resolver);
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

/// The TLS of an upstream: its elder's, where it is the same.
fn client_tls(upstream: &Upstream, elder: Option<&Arc<Cluster>>) -> Result<Option<Arc<ClientTls>>, String> {
    if !upstream.endpoints.iter().any(Endpoint::is_tls) {
        return Ok(None);
    }
    let same = elder.and_then(|elder| elder.tls.clone()).filter(|tls| tls.is_of(&upstream.tls, upstream.http2));
    match same {
        Some(tls) => Ok(Some(tls)),
        None => Ok(Some(Arc::new(ClientTls::load(&upstream.tls, upstream.http2)?))),
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

#[cfg(test)]
mod tests {
    use super::super::resolve::SystemResolver;
    use super::super::standing::Change;
    use super::*;
    use crate::policy::{self, Concurrency, Ejection, HealthCheck, Http2, Timeouts, UpstreamTls};

    const SECOND: Duration = Duration::from_secs(1);

    fn upstream(change: impl FnOnce(&mut Upstream)) -> Arc<Upstream> {
        let mut upstream = Upstream {
            name: "ai".into(),
            endpoints: vec![Endpoint::Tcp { tls: false, host: "10.0.0.1".into(), port: 80 }],
            tls: UpstreamTls::default(),
            http2: Http2::Auto,
            timeouts: Timeouts { connect: SECOND, first_byte: SECOND, idle: SECOND, total: None },
            keepalive: SECOND,
            warm: 0,
            resolve: SECOND,
            max_concurrent: None,
            eject: None,
            breaker: None,
            retries: None,
            health: None,
            set_headers: Vec::new(),
            assertion: None,
        };
        change(&mut upstream);
        Arc::new(upstream)
    }

    fn upstreams() -> Upstreams {
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        Upstreams::new(metrics, Clock::manual(), Arc::new(SystemResolver))
    }

    fn health() -> HealthCheck {
        let path = "/".parse().expect("a path");
        HealthCheck { path, interval: SECOND, timeout: SECOND, healthy: 1, unhealthy: 1 }
    }

    #[test]
    fn a_check_that_outlives_its_rule_says_nothing() {
        let upstreams = upstreams();
        let (checked, unchecked) = (upstream(|upstream| upstream.health = Some(health())), upstream(|_| {}));
        let before = Arc::new(upstreams.cluster(&checked, None, None));
        let after = upstreams.cluster(&unchecked, None, Some(&before));
        let member = &after.members[0];
        assert_eq!(member.standing.checked(false, &health()), Some(Change::Failed));
        assert!(before.is_failing() && !before.is_good(member, 0));
        assert!(!after.is_failing() && after.is_good(member, 0));
    }

    #[test]
    fn the_only_endpoint_is_never_out() {
        let rule = Ejection { failures: 1, time: SECOND, max_time: SECOND, max_share: 100, server_errors: false };
        let upstreams = upstreams();
        let upstream = |count| {
            upstream(|upstream| {
                upstream.eject = Some(rule);
                let other = |port| Endpoint::Tcp { tls: false, host: "10.0.0.1".into(), port };
                upstream.endpoints = (0..count).map(other).collect();
            })
        };
        for (count, is_out) in [(1, false), (2, true)] {
            let cluster = upstreams.cluster(&upstream(count), None, None);
            cluster.members.iter().for_each(|member| cluster.failed(member, 0, "closed"));
            assert!(cluster.members.iter().all(|member| member.standing.is_ejected(0) == is_out), "{count}");
        }
    }

    #[test]
    fn a_reload_keeps_the_gate_and_closes_what_is_gone() {
        let upstreams = upstreams();
        let upstream = |wait, with_breaker: bool| {
            upstream(|upstream| {
                upstream.max_concurrent = Some(Concurrency { max: 2, queue: 1, wait });
                let rule = policy::Breaker { failures: 1, time: SECOND, server_errors: false };
                upstream.breaker = with_breaker.then_some(rule);
            })
        };
        let before = Arc::new(upstreams.cluster(&upstream(SECOND, true), None, None));
        before.breaker.as_ref().expect("a breaker").pass(0).expect("it is closed").failed(0);
        assert_eq!(before.metrics.breaker_state.get(), 2);
        let after = upstreams.cluster(&upstream(SECOND * 2, false), None, Some(&before));
        let [Some((_, old)), Some((rule, new))] = [&before.gate, &after.gate] else { panic!("both have one") };
        assert!(Arc::ptr_eq(old, new));
        assert_eq!((rule.wait, after.metrics.breaker_state.get()), (SECOND * 2, 0));
    }
}
