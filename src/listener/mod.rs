//! Sockets and connections.
//!
//! Enters: bound sockets. Leaves: requests, handed to the pipeline on the worker that owns their connection. One
//! acceptor gives each connection to the worker with the fewest; a worker is one single-threaded runtime with its
//! own upstream pool, and nothing is stolen.

mod connection;
mod h2;
mod io;
mod proxy_protocol;
mod service;
mod socket;
mod stall;
mod tls;
mod worker;

pub use connection::ConnectionLimits;
pub use proxy_protocol::ProxyProtocol;
pub use service::{Answer, serve};
pub use socket::{Listener, bind, bind_unix};
pub use tls::{Protocols, Tls, TlsSpec};
pub use worker::{Phase, Workers};

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use socket::Accepted;

/// After the system refused a connection (usually for want of file descriptors), trying at once only spins.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Closing a socket resets the connections that wait in its backlog, so they are taken first: it is empty when nothing
/// has come for this long.
const LAST_CALL: Duration = Duration::from_millis(10);

/// Where new ones never cease to come.
const MOST_LAST_CALLS: Duration = Duration::from_millis(500);

/// Accepts until `phase` comes to [`Phase::Draining`]. At most `slots` connections are open at once; more wait in the
/// system's backlog.
pub async fn accept(
    listener: Listener,
    workers: Arc<Workers>,
    slots: Arc<Semaphore>,
    mut phase: watch::Receiver<Phase>,
) {
    let last_call = async {
        worker::reached(&mut phase, Phase::Draining).await;
        tokio::time::Instant::now() + MOST_LAST_CALLS
    };
    let mut last_call = std::pin::pin!(last_call);
    let mut until = None;
    loop {
        let accepted = match until {
            None => tokio::select! {
                end = &mut last_call => {
                    until = Some(end);
                    continue;
                }
                accepted = accept_one(&listener, &slots) => accepted,
            },
            Some(end) if tokio::time::Instant::now() > end => return,
            Some(_) => match tokio::time::timeout(LAST_CALL, accept_one(&listener, &slots)).await {
                Ok(accepted) => accepted,
                Err(_) => return,
            },
        };
        match accepted {
            Ok((accepted, slot)) => workers.assign(accepted, slot),
            Err(error) => {
                tracing::error!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn accept_one(listener: &Listener, slots: &Arc<Semaphore>) -> std::io::Result<(Accepted, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.map_err(std::io::Error::other)?;
    Ok((listener.accept().await?, slot))
}
