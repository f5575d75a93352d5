//! `keyward run`: the proxy, until it is told to stop.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::{Failure, environment, log};
use crate::config::{self, Compiled, Mistakes, Overrides, Watched};
use crate::server::{Server, Stopped};
use crate::time::Clock;

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "proxy.yaml")]
    config: PathBuf,
    /// Threads that serve requests [default: 2, or 1 where the process may use only one core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: Option<u16>,
    /// Read the configuration again only on SIGHUP, not whenever it or a secret that it names has changed
    #[arg(long)]
    no_watch: bool,
}

/// A sidecar's share: more workers than this only help where a service is far larger than its Pod.
const MOST_WORKERS: usize = 2;

/// Workers for this machine: at most two, at most the cores that the process may use.
pub(super) fn workers() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(MOST_WORKERS)
}

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Several files that change together are read together: so long nothing more must have changed.
const SETTLE: Duration = Duration::from_millis(100);
/// Files that never come to rest are read nevertheless.
const MOST_SETTLING: u32 = 20;

pub(super) fn run(args: &RunArgs) -> Result<(), Failure> {
    log::start(environment("KEYWARD_LOG").as_deref(), "info");
    let workers = args.workers.map_or_else(workers, usize::from);
    let (compiled, watched) = read(&args.config);
    let compiled = compiled.map_err(Failure::Config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::other)?;
    runtime.block_on(async {
        let mut hangup = signal(SignalKind::hangup()).map_err(Failure::other)?;
        let mut leave = signal(SignalKind::user_defined1()).map_err(Failure::other)?;
        let server = Server::start(compiled, workers, Clock::system()).await.map_err(Failure::other)?;
        let addresses = server.addresses();
        tracing::info!(
            proxy = ?addresses.proxy,
            sockets = ?addresses.sockets,
            admin = ?addresses.admin,
            health = ?addresses.health,
            keys = ?addresses.keys,
            workers,
            "keyward is ready"
        );
        let mut stop = std::pin::pin!(stop_signal());
        let mut next = std::pin::pin!(next_change(watched, args.no_watch));
        loop {
            tokio::select! {
                stopped = &mut stop => break stopped?,
                _ = leave.recv() => {
                    server.leave();
                    continue;
                }
                _ = hangup.recv() => {}
                () = &mut next => {}
            }
            // Compiling rules takes a while, in which connections are accepted and probes answered.
            let config = args.config.clone();
            let (compiled, watched) =
                tokio::task::spawn_blocking(move || read(&config)).await.map_err(Failure::other)?;
            server.reload(compiled);
            next.set(next_change(watched, args.no_watch));
        }
        match server.stop().await {
            Stopped::Drained => tracing::info!("stopped: every request had ended"),
            Stopped::Cut => tracing::warn!("stopped: some requests were cut"),
        }
        Ok(())
    })
}

fn read(path: &Path) -> (Result<Compiled, Mistakes>, Watched) {
    config::load_watched(path, &environment, &Overrides::default())
}

/// Completes when one of the files has changed, and has come to rest; never where nobody wants to know.
async fn next_change(mut watched: Watched, never: bool) {
    if never {
        return std::future::pending().await;
    }
    let mut settling = 0;
    loop {
        tokio::time::sleep(if settling == 0 { LOOK_EVERY } else { SETTLE }).await;
        // A disk that does not answer must not hold up this thread.
        let looked = tokio::task::spawn_blocking(move || {
            let changed = watched.look();
            (watched, changed)
        });
        let Ok((looked, changed)) = looked.await else { return };
        watched = looked;
        match (changed, settling) {
            (false, 0) => {}
            (true, ..MOST_SETTLING) => settling += 1,
            _ => return,
        }
    }
}

/// Completes at SIGTERM (kubelet) or SIGINT (a person).
pub(super) async fn stop_signal() -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::other)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::other)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
