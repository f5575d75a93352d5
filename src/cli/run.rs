//! `keyward run`: the proxy, until it is told to stop.

use std::path::PathBuf;
use std::thread;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::{Failure, environment, log};
use crate::config::{self, Overrides};
use crate::server::{Server, Stopped};
use crate::time::Clock;

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "proxy.yaml")]
    config: PathBuf,
}

/// A sidecar's share: more workers than this only help where a service is far larger than its Pod.
const MOST_WORKERS: usize = 2;

/// Workers for this machine: at most two, at most the cores that the process may use.
pub(super) fn workers() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(MOST_WORKERS)
}

pub(super) fn run(args: &RunArgs) -> Result<(), Failure> {
    log::start(environment("KEYWARD_LOG").as_deref(), "info");
    let read = || config::load(&args.config, &environment, &Overrides::default());
    let compiled = read().map_err(Failure::Config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::other)?;
    runtime.block_on(async {
        let mut hangup = signal(SignalKind::hangup()).map_err(Failure::other)?;
        let server = Server::start(compiled, workers(), Clock::system()).await.map_err(Failure::other)?;
        let addresses = server.addresses();
        tracing::info!(
            proxy = ?addresses.proxy,
            sockets = ?addresses.sockets,
            admin = ?addresses.admin,
            health = ?addresses.health,
            keys = ?addresses.keys,
            workers = workers(),
            "keyward is ready"
        );
        let mut stop = std::pin::pin!(stop_signal());
        loop {
            tokio::select! {
                stopped = &mut stop => break stopped?,
                _ = hangup.recv() => server.reload(read()),
            }
        }
        match server.stop().await {
            Stopped::Drained => tracing::info!("stopped: every request had ended"),
            Stopped::Cut => tracing::warn!("stopped: some requests were cut"),
        }
        Ok(())
    })
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
