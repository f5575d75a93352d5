//! Workers: one thread, one runtime, one upstream pool each.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use prometheus::IntGauge;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::task::JoinSet;

use super::connection::{self, ConnectionLimits};
use super::socket::Accepted;
use super::tls::Tls;
use crate::observe::Metrics;
use crate::pipeline::Pipeline;
use crate::upstream::{UpstreamClient, Upstreams};

/// What connections have to say at the end may take this long, once nothing else is waited for.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// How far the end of the process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Serving,
    /// Everything is served, and clients are asked to come back by another connection.
    Leaving,
    /// No new connections; open ones end after their current request.
    Draining,
    /// What is still open is cut, WebSockets with a word.
    Ending,
}

/// Completes when the process has come as far as `wanted`, or nobody is left to say so.
pub(super) async fn reached(phase: &mut watch::Receiver<Phase>, wanted: Phase) {
    let _ = phase.wait_for(|phase| *phase >= wanted).await;
}

/// All workers.
#[derive(Debug)]
pub struct Workers {
    workers: Vec<Worker>,
    gauge: IntGauge,
}

#[derive(Debug)]
struct Worker {
    queue: mpsc::UnboundedSender<Assigned>,
    open: Arc<AtomicUsize>,
}

/// A connection on its way to a worker. The queue needs no bound of its own: each entry holds one of the slots.
struct Assigned {
    accepted: Accepted,
    guard: OpenGuard,
}

/// Counts a connection for as long as it is open.
#[derive(Debug)]
pub(super) struct OpenGuard {
    open: Arc<AtomicUsize>,
    gauge: IntGauge,
    _slot: OwnedSemaphorePermit,
}

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.gauge.dec();
    }
}

impl Workers {
    /// Starts `count` workers. Their threads end after [`Workers`] is dropped and their last connection has ended,
    /// or when `phase` says so.
    pub fn start(
        count: usize,
        pipeline: &Arc<Pipeline>,
        upstreams: &Arc<Upstreams>,
        limits: &ConnectionLimits,
        tls: Option<&Arc<Tls>>,
        metrics: &Metrics,
        phase: &watch::Receiver<Phase>,
    ) -> io::Result<(Self, Vec<JoinHandle<()>>)> {
        let mut workers = Vec::with_capacity(count);
        let mut threads = Vec::with_capacity(count);
        for index in 0..count {
            let (queue, assigned) = mpsc::unbounded_channel();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let upstreams = Arc::new(UpstreamClient::new(Arc::clone(upstreams)));
            let work = run(assigned, Arc::clone(pipeline), upstreams, limits.clone(), tls.cloned(), phase.clone());
            let thread =
                thread::Builder::new().name(format!("worker-{index}")).spawn(move || runtime.block_on(work))?;
            workers.push(Worker { queue, open: Arc::default() });
            threads.push(thread);
        }
        Ok((Self { workers, gauge: metrics.connections.clone() }, threads))
    }

    /// Gives a connection to the worker that has the fewest.
    pub(super) fn assign(&self, accepted: Accepted, slot: OwnedSemaphorePermit) {
        let Some(worker) = self.workers.iter().min_by_key(|worker| worker.open.load(Ordering::Relaxed)) else { return };
        worker.open.fetch_add(1, Ordering::Relaxed);
        self.gauge.inc();
        let guard = OpenGuard { open: Arc::clone(&worker.open), gauge: self.gauge.clone(), _slot: slot };
        // A worker that has ended takes no more; dropping the connection closes it.
        let _ = worker.queue.send(Assigned { accepted, guard });
    }
}

async fn run(
    mut assigned: mpsc::UnboundedReceiver<Assigned>,
    pipeline: Arc<Pipeline>,
    upstreams: Arc<UpstreamClient>,
    limits: ConnectionLimits,
    tls: Option<Arc<Tls>>,
    mut phase: watch::Receiver<Phase>,
) {
    let reaper = Arc::clone(&upstreams);
    tokio::spawn(async move { reaper.tend().await });
    let mut connections = JoinSet::new();
    let connection_phase = phase.clone();
    let serve_all = async {
        loop {
            tokio::select! {
                next = assigned.recv() => {
                    let Some(Assigned { accepted, guard }) = next else { break };
                    connections.spawn(connection::serve(
                        accepted,
                        tls.clone(),
                        guard,
                        Arc::clone(&pipeline),
                        Arc::clone(&upstreams),
                        limits.clone(),
                        connection_phase.clone(),
                    ));
                }
                Some(ended) = connections.join_next(), if !connections.is_empty() => report(ended),
            }
        }
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    };
    let mut serve_all = std::pin::pin!(serve_all);
    tokio::select! {
        () = &mut serve_all => {}
        () = reached(&mut phase, Phase::Ending) => {
            let _ = tokio::time::timeout(LAST_WORDS, serve_all).await;
        }
    }
}

/// A panic ends its connection only, and is ours to explain.
fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection ended in a panic");
    }
}
