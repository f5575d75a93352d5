//! Sockets and connections.
//!
//! Enters: bound sockets. Leaves: requests, handed to the pipeline on the worker that owns their connection. One
//! acceptor gives each connection to the worker with the fewest; a worker is one single-threaded runtime with its
//! own upstream pool, and nothing is stolen.

mod connection;
mod stall;
mod worker;

pub use connection::ConnectionLimits;
pub use worker::{Phase, Workers};

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

/// Connections that the system keeps for us while we are busy.
const BACKLOG: i32 = 1024;

/// After the system refused a connection (usually for want of file descriptors), trying at once only spins.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Binds a port of `host` (a name or an address) for listening, without starting to accept. Needs a runtime.
pub fn bind(host: &str, port: u16) -> io::Result<TcpListener> {
    let explain =
        |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {host}, port {port}: {error}"));
    let resolved = (host, port).to_socket_addrs().map_err(explain)?.next();
    let address = resolved.ok_or_else(|| explain(io::ErrorKind::NotFound.into()))?;
    listen(address).map_err(explain)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for the old process's connections to be forgotten by the system.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts until `phase` leaves [`Phase::Serving`]. At most `slots` connections are open at once; more wait in the
/// system's backlog.
pub async fn accept(
    listener: TcpListener,
    workers: Arc<Workers>,
    slots: Arc<Semaphore>,
    mut phase: watch::Receiver<Phase>,
) {
    loop {
        let accepted = tokio::select! {
            () = worker::reached(&mut phase, Phase::Draining) => return,
            accepted = accept_one(&listener, &slots) => accepted,
        };
        match accepted {
            Ok((stream, peer, slot)) => workers.assign(stream, peer, slot),
            Err(error) => {
                tracing::error!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn accept_one(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(std::net::TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream.into_std()?, peer, slot))
}
