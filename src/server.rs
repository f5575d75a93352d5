//! Wires everything together: from a compiled configuration to a running proxy, and through reloads to its end.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

use crate::admin::{self, Exposed, Readiness};
use crate::auth::{Authenticator, KindeVerifier, OnChange, StoreVerifier, Trouble, Verifier, VerifierError};
use crate::config::{Address, Compiled, ListenAddress, MAX_HEADERS, Mistakes, Process, StoreSpec, VerifierSpec};
use crate::key_service::{self, Service, Tokens};
use crate::keys::{KeyPrefix, Peppers, Store};
use crate::limit::Limiter;
use crate::listener::{self, ConnectionLimits, Listener, Phase, Protocols, ProxyProtocol, Tls, Workers};
use crate::observe::{Metrics, UsageSink};
use crate::pipeline::{self, Pipeline};
use crate::time::Clock;
use crate::upstream::{Resolve, SystemResolver, Upstreams};

/// Buckets that are remembered at once; about 100 bytes each.
const MAX_BUCKETS: usize = 200_000;

/// How often full buckets are forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// A running proxy. Needs the runtime it was started on; stops only by [`Server::stop`].
#[derive(Debug)]
pub struct Server {
    process: Process,
    clock: Clock,
    addresses: Addresses,
    pipeline: Arc<Pipeline>,
    upstreams: Arc<Upstreams>,
    readiness: Readiness,
    metrics: Arc<Metrics>,
    auth: Authenticator,
    phase: watch::Sender<Phase>,
    threads: Vec<JoinHandle<()>>,
    usage_thread: Option<JoinHandle<()>>,
    /// Of the key service.
    tokens: watch::Sender<Arc<Tokens>>,
    tasks: tokio::task::JoinSet<()>,
}

/// Where the server listens, with the ports that the system chose.
#[derive(Clone, Debug)]
pub struct Addresses {
    pub proxy: Vec<SocketAddr>,
    /// The Unix sockets of the proxy.
    pub sockets: Vec<PathBuf>,
    pub admin: Option<SocketAddr>,
    pub health: Option<SocketAddr>,
    /// The key service.
    pub keys: Option<SocketAddr>,
}

/// How a stop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Every request had ended.
    Drained,
    /// Some were cut after the grace time.
    Cut,
}

impl Server {
    /// Binds, opens the key store, starts the workers. On an error nothing is left running.
    pub async fn start(compiled: Compiled, workers: usize, clock: Clock) -> io::Result<Self> {
        Self::start_with(compiled, workers, clock, Arc::new(SystemResolver)).await
    }

    /// As [`Server::start`], with names of upstreams answered by `resolver`.
    pub async fn start_with(
        compiled: Compiled,
        workers: usize,
        clock: Clock,
        resolver: Arc<dyn Resolve>,
    ) -> io::Result<Self> {
        let Compiled { process, policy, warnings, .. } = compiled;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        let listeners = process.listen.iter().map(bind_listener).collect::<io::Result<Vec<_>>>()?;
        let admin = process.admin.as_ref().map(|admin| bind(&admin.address)).transpose()?;
        let health = process.health.as_ref().map(|health| bind(&health.address)).transpose()?;
        let keys = process.serve.as_ref().map(|serve| bind(&serve.address)).transpose()?;
        let addresses = Addresses {
            sockets: process.listen.iter().filter_map(ListenAddress::socket).map(Path::to_owned).collect(),
            proxy: listeners.iter().filter_map(Listener::local_addr).collect(),
            admin: admin.as_ref().map(tokio::net::TcpListener::local_addr).transpose()?,
            health: health.as_ref().map(tokio::net::TcpListener::local_addr).transpose()?,
            keys: keys.as_ref().map(tokio::net::TcpListener::local_addr).transpose()?,
        };

        let metrics = Arc::new(Metrics::new().map_err(io::Error::other)?);
        let upstreams = Arc::new(Upstreams::new(Arc::clone(&metrics), clock.clone(), resolver));
        upstreams.adopt(&policy).map_err(io::Error::other)?;
        let limiter = Arc::new(Limiter::new(MAX_BUCKETS));
        let trouble = Trouble::default();
        let revisions = watch::Sender::new(0_u64);
        let mut store = None;
        let auth = Authenticator::new(
            &process.cache,
            Arc::clone(&limiter),
            Arc::clone(&metrics),
            clock.clone(),
            // This runtime is not a worker's.
            tokio::runtime::Handle::current(),
            |on_change| {
                let revisions = revisions.clone();
                let on_change = Arc::new(move || {
                    on_change();
                    revisions.send_modify(|revision| *revision += 1);
                });
                let verifier = verifier(&process.verifier, &metrics, &clock, &trouble, on_change)?;
                if let Verifier::Store(verifier) = &verifier {
                    store = Some(Arc::clone(verifier));
                }
                Ok(verifier)
            },
        )
        .map_err(io::Error::other)?;
        let failures = Arc::clone(&policy.auth_failures);
        let (usage, usage_thread) = UsageSink::start(&process.usage, Arc::clone(&metrics))?;
        let pipeline = Pipeline::new(pipeline::Parts {
            policy,
            auth: auth.clone(),
            limiter: Arc::clone(&limiter),
            usage,
            metrics: Arc::clone(&metrics),
            clock: clock.clone(),
            memory: process.memory,
            body_timeout: process.body_timeout,
        });
        let pipeline = Arc::new(pipeline.map_err(io::Error::other)?);

        let (phase, phases) = watch::channel(Phase::Serving);
        let limits = ConnectionLimits {
            max_header_bytes: process.max_header_bytes,
            max_headers: MAX_HEADERS,
            max_streams: process.max_streams,
            proxy_protocol: (!process.proxy_protocol.is_empty()).then(|| {
                let failures = metrics.proxy_protocol_failures.clone();
                Arc::new(ProxyProtocol { peers: process.proxy_protocol.clone(), failures })
            }),
            handshake_timeout: process.handshake_timeout,
            header_timeout: process.header_timeout,
            write_timeout: process.write_timeout,
            timed_out: metrics.client_timeouts.clone(),
        };
        let tls = process
            .tls
            .clone()
            .map(|spec| Tls::load(spec, Protocols::Http2AndHttp1, &metrics))
            .transpose()
            .map_err(io::Error::other)?;
        let tls = tls.map(Arc::new);
        let workers = if listeners.is_empty() { 0 } else { workers };
        let (workers, threads) =
            Workers::start(workers, &pipeline, &upstreams, &limits, tls.as_ref(), &metrics, &phases)?;
        tokio::spawn(Arc::clone(&upstreams).tend());
        if let Some(tls) = tls {
            tokio::spawn(tls.follow());
        }
        let workers = Arc::new(workers);
        let slots = Arc::new(Semaphore::new(process.max_connections));
        let mut tasks = tokio::task::JoinSet::new();
        for listener in listeners {
            tasks.spawn(listener::accept(listener, Arc::clone(&workers), Arc::clone(&slots), phases.clone()));
        }
        drop(workers);
        let tokens = process.serve.as_ref().map(|serve| Arc::new(serve.tokens.clone())).unwrap_or_default();
        let tokens = watch::Sender::new(tokens);
        if let (Some(listener), Some(serve), Some(store)) = (keys, &process.serve, store)
            && let VerifierSpec::Store(spec) = &process.verifier
        {
            let service = Service::new(key_service::Parts {
                store,
                open: opener(spec).map_err(io::Error::other)?,
                prefix: KeyPrefix::new(&spec.prefix).map_err(io::Error::other)?,
                tokens: tokens.subscribe(),
                revisions: revisions.subscribe(),
                phase: phases.clone(),
                // The other half is for whoever verifies and changes keys.
                max_followers: (serve.max_connections / 2).max(1),
                limiter: Arc::clone(&limiter),
                failures,
                metrics: Arc::clone(&metrics),
                clock: clock.clone(),
            });
            let tls = serve.tls.clone().map(|spec| Tls::load(spec, Protocols::Http1, &metrics));
            let tls = tls.transpose().map_err(io::Error::other)?.map(Arc::new);
            if let Some(tls) = &tls {
                tokio::spawn(Arc::clone(tls).follow());
            }
            let listener = Listener::Tcp(listener);
            let limits = ConnectionLimits { proxy_protocol: None, ..limits };
            tasks.spawn(listener::serve(listener, tls, limits, serve.max_connections, phases, service));
        }
        let readiness = Readiness::new(trouble, Some(Arc::clone(&upstreams)), process.exposed);
        if let Some((listener, spec)) = admin.zip(process.admin.as_ref()) {
            let access = admin::Access::Token(spec.token.clone());
            let answers = admin::Answers {
                access,
                readiness: readiness.clone(),
                metrics: Arc::clone(&metrics),
                auth: Some(auth.clone()),
                keys: Some(Arc::downgrade(&pipeline)),
            };
            tokio::spawn(admin::serve(listener, answers));
        }
        if let Some(listener) = health {
            let (access, metrics) = (admin::Access::Anyone, Arc::clone(&metrics));
            let answers = admin::Answers { access, readiness: readiness.clone(), metrics, auth: None, keys: None };
            tokio::spawn(admin::serve(listener, answers));
        }
        if process.exposed != Exposed::Ignore {
            let others = [addresses.admin, addresses.health, addresses.keys];
            let own_ports = addresses.proxy.iter().chain(others.iter().flatten()).map(SocketAddr::port).collect();
            let (pipeline, metrics) = (Arc::downgrade(&pipeline), Arc::clone(&metrics));
            tokio::spawn(admin::watch_exposure(pipeline, own_ports, readiness.clone(), metrics));
        }
        tokio::spawn(sweep(limiter, clock.clone()));
        metrics.configured(clock.now().wall);
        Ok(Self {
            process,
            clock,
            addresses,
            pipeline,
            upstreams,
            readiness,
            metrics,
            auth,
            phase,
            threads,
            usage_thread,
            tokens,
            tasks,
        })
    }

    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Puts a newly read configuration in force, or keeps the last good one and says why. Buckets, cached keys and
    /// connections live on. What only a restart can change is named in the log and stays as it was.
    pub fn reload(&self, read: Result<Compiled, Mistakes>) {
        self.pipeline.usage().reopen();
        let read = read.map_err(|mistakes| mistakes.to_string());
        let adopted = read.and_then(|read| self.upstreams.adopt(&read.policy).map(|()| read));
        match adopted {
            Ok(Compiled { process, policy, warnings, .. }) => {
                for warning in warnings {
                    tracing::warn!("{warning}");
                }
                for section in self.process.differences(&process) {
                    tracing::warn!(section, "this changed too, and waits for a restart");
                }
                self.pipeline.replace_policy(policy);
                if let Some(serve) = process.serve {
                    // Only a change ends the streams, which then ask again whether they may.
                    self.tokens.send_if_modified(|tokens| {
                        let is_new = **tokens != serve.tokens;
                        if is_new {
                            *tokens = Arc::new(serve.tokens);
                        }
                        is_new
                    });
                }
                if let VerifierSpec::Kinde(kinde) = &process.verifier
                    && let Err(error) = self.auth.replace_secrets(&kinde.credentials)
                {
                    tracing::error!(%error, "the verifier keeps its former credentials");
                }
                self.readiness.reloaded(Ok(()));
                self.metrics.reload(true, self.clock.now().wall);
                tracing::info!("the new configuration is in force");
            }
            Err(mistakes) => {
                tracing::error!("the new configuration is refused, the last good one stays in force\n{mistakes}");
                self.readiness.reloaded(Err(mistakes.lines().last().unwrap_or_default().to_owned()));
                self.metrics.reload(false, self.clock.now().wall);
            }
        }
    }

    /// The end is near: from now on readiness fails, and every answer asks its client to come back by another
    /// connection, which will find its way elsewhere. Everything is served as before.
    pub fn leave(&self) {
        self.readiness.drain();
        self.phase.send_if_modified(|phase| {
            let begins = *phase == Phase::Serving;
            if begins {
                *phase = Phase::Leaving;
                tracing::info!("traffic should go elsewhere from now on");
            }
            begins
        });
    }

    /// Stops: leaves, goes on for the delay, then takes no new connections; open ones end after their request, and after
    /// the grace time, which begins with this call, what is left is cut. Every usage record is written before this
    /// returns.
    pub async fn stop(mut self) -> Stopped {
        let asked = self.clock.now().monotonic;
        self.leave();
        self.clock.sleep(self.process.delay).await;
        self.phase.send_replace(Phase::Draining);
        while self.tasks.join_next().await.is_some() {}
        let (ended, mut all_ended) = tokio::sync::oneshot::channel();
        let threads = std::mem::take(&mut self.threads);
        let joiner = std::thread::spawn(move || {
            for thread in threads {
                // A worker's panic was logged where it happened.
                let _ = thread.join();
            }
            let _ = ended.send(());
        });
        let left = self.process.grace.saturating_sub(self.clock.now().monotonic.saturating_duration_since(asked));
        let stopped = match tokio::time::timeout(left, &mut all_ended).await {
            Ok(_) => Stopped::Drained,
            Err(_) => {
                tracing::warn!("the grace time is over; open requests are cut");
                self.phase.send_replace(Phase::Ending);
                let _ = all_ended.await;
                Stopped::Cut
            }
        };
        let _ = joiner.join();
        self.auth.flush().await;
        let usage_thread = self.usage_thread.take();
        drop(self);
        if let Some(thread) = usage_thread {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
        stopped
    }
}

fn verifier(
    spec: &VerifierSpec,
    metrics: &Arc<Metrics>,
    clock: &Clock,
    trouble: &Trouble,
    on_change: OnChange,
) -> Result<Verifier, VerifierError> {
    Ok(match spec {
        VerifierSpec::Store(store) => {
            let prefix = KeyPrefix::new(&store.prefix).map_err(|error| VerifierError::new(error.to_string()))?;
            let peppers = Peppers::new(&store.peppers).map_err(|error| VerifierError::new(error.to_string()))?;
            let metrics = Arc::clone(metrics);
            let started = StoreVerifier::start(&store.place, prefix, peppers, clock.clone(), metrics, on_change);
            Verifier::Store(Arc::new(started?))
        }
        VerifierSpec::Kinde(kinde) => {
            let verifier = KindeVerifier::new(kinde, Arc::clone(metrics), clock.clone(), trouble.clone())?;
            let verifier = Arc::new(verifier);
            if kinde.follow {
                verifier.follow(on_change, metrics.revocation_stream.clone());
            }
            Verifier::Kinde(verifier)
        }
    })
}

/// Opens the store for a change. Never makes one: who verifies has made it.
fn opener(spec: &StoreSpec) -> Result<key_service::Open, VerifierError> {
    let peppers = Peppers::new(&spec.peppers).map_err(|error| VerifierError::new(error.to_string()))?;
    let place = spec.place.clone();
    Ok(Arc::new(move || Store::open_existing(&place, peppers.clone())))
}

fn bind_listener(address: &ListenAddress) -> io::Result<Listener> {
    match address {
        ListenAddress::Tcp(address) => bind(address).map(Listener::Tcp),
        ListenAddress::Unix(path) => listener::bind_unix(path),
    }
}

fn bind(address: &Address) -> io::Result<tokio::net::TcpListener> {
    listener::bind(&address.host, address.port)
}

async fn sweep(limiter: Arc<Limiter>, clock: Clock) {
    let mut ticks = tokio::time::interval(SWEEP_EVERY);
    loop {
        ticks.tick().await;
        limiter.sweep(clock.now().monotonic);
    }
}
