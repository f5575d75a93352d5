//! Making a connection.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prometheus::IntGauge;
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;

use super::cluster::Cluster;
use super::member::{Member, Speaks};
use super::pool::{Allowance, Exclusive, Fresh, MAX_STREAMS, Multiplexed};
use super::resolve::Resolve;
use super::socket::{Counted, Io, Shared, Socket, Stream, watch_over};
use super::{RequestBody, SendError};
use crate::policy::{Endpoint, Http2, Timeouts};

/// Largest response head and read buffer.
const MAX_HEAD: usize = 64 * 1024;

/// How long one address may take before the next one is tried beside it (RFC 8305 §5).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// What a response may send ahead of its reader, for one stream and for all of a connection: readers that are slow must
/// not keep the others of their connection waiting.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = MAX_STREAMS as u32 * STREAM_WINDOW;

/// What the connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Requests,
    /// Something that only HTTP/1.1 can do.
    Http1,
}

/// How connections are made: one for each caller, and cheap.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dialer<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) resolver: &'a dyn Resolve,
    pub(super) timeouts: &'a Timeouts,
    /// In milliseconds of the registry's time.
    pub(super) now: u64,
}

impl Dialer<'_> {
    /// Connects and starts the task that drives the connection.
    pub(super) async fn connect(&self, member: &Member, purpose: Purpose) -> Result<Fresh, SendError> {
        let unreachable = |why: io::Error| {
            SendError::Unreachable(io::Error::new(why.kind(), format!("cannot connect to {}: {why}", member.endpoint)))
        };
        let work = self.dial(member, purpose);
        let metrics = &self.cluster.metrics;
        let why = match tokio::time::timeout(self.timeouts.connect, work).await {
            Ok(Ok(fresh)) => {
                metrics.connected("success");
                return Ok(fresh);
            }
            Ok(Err(why)) => why,
            Err(_) => {
                metrics.timed_out("connect");
                io::ErrorKind::TimedOut.into()
            }
        };
        metrics.connected(match why.kind() {
            io::ErrorKind::ConnectionRefused => "refused",
            io::ErrorKind::TimedOut => "timeout",
            _ => "failed",
        });
        member.doubt();
        Err(unreachable(why))
    }

    async fn dial(&self, member: &Member, purpose: Purpose) -> io::Result<Fresh> {
        // Before anything is known of the way: what changes meanwhile makes the connection old at once.
        let generation = member.generation();
        let stream = match &member.endpoint {
            Endpoint::Unix(path) => Stream::Unix(UnixStream::connect(path).await?),
            Endpoint::Tcp { .. } => {
                let addresses = member.addresses(self.resolver, self.now).await?;
                let stream = any(addresses).await?;
                // A request is written at once; waiting to fill a segment only delays it.
                stream.set_nodelay(true)?;
                watch_over(&stream, self.timeouts.idle)?;
                Stream::Tcp(stream)
            }
        };
        let socket = Arc::new(Socket::new(stream));
        let shared = Shared(Arc::clone(&socket));
        let only_http1 = purpose == Purpose::Http1;
        let (io, is_http2) = match &self.cluster.tls {
            Some(tls) if member.endpoint.is_tls() => {
                let name = tls.name(&member.endpoint).map_err(io::Error::other)?;
                let (stream, is_http2) = tls.connect(shared, name, only_http1).await?;
                (Io::Tls(Box::new(stream)), is_http2)
            }
            _ => (Io::Plain(shared), self.cluster.http2 == Http2::Always && !only_http1),
        };
        let io = TokioIo::new(Counted { io, socket: Arc::clone(&socket) });
        let open = Open::new(&self.cluster.metrics.connections);
        if !only_http1 {
            member.spoke(if is_http2 { Speaks::Http2 } else { Speaks::Http1 });
        }
        Ok(if is_http2 {
            Fresh::Multiplexed(http2(member, io, generation, open).await?)
        } else {
            let sender = http1(io, open).await?;
            Fresh::Exclusive(Exclusive { sender, socket, generation })
        })
    }
}

async fn http1(io: TokioIo<Counted>, open: Open) -> io::Result<http1::SendRequest<RequestBody>> {
    let (sender, connection) =
        http1::Builder::new().max_buf_size(MAX_HEAD).max_headers(256).handshake(io).await.map_err(io::Error::other)?;
    // Ends when the sender is dropped, so whoever abandons a response closes its connection. An error reaches the
    // request through its sender.
    tokio::spawn(async move {
        // An upgrade that nobody asked for finds nobody to take it, and closes.
        let _ = connection.with_upgrades().await;
        drop(open);
    });
    Ok(sender)
}

/// No PINGs: a service may take them for an attack and close the connection. The kernel watches over the peer.
async fn http2(member: &Member, io: TokioIo<Counted>, generation: u64, open: Open) -> io::Result<Multiplexed> {
    let (sender, mut connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEAD as u32)
        .initial_max_send_streams(member.streams.load(Ordering::Relaxed))
        .handshake(io)
        .await
        .map_err(io::Error::other)?;
    let allowance = Arc::new(Allowance::new(&member.streams));
    let told = Arc::clone(&allowance);
    // Ends when all senders are dropped and all streams have ended.
    tokio::spawn(async move {
        let mut drive = pin!(poll_fn(|cx| {
            let polled = Pin::new(&mut connection).poll(cx);
            told.set(connection.current_max_send_streams());
            polled
        }));
        loop {
            tokio::select! {
                _ = &mut drive => break,
                () = told.asked() => {}
            }
        }
        drop(open);
    });
    Ok(Multiplexed { sender, allowance, generation })
}

/// Counts a connection for as long as it is open.
struct Open(IntGauge);

impl Open {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Connects to whichever address answers first. They are begun in their order, each when the one before it has failed
/// or taken long.
async fn any(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    if let [only] = addresses[..] {
        return TcpStream::connect(only).await;
    }
    let mut failed = None;
    let mut left = addresses.into_iter();
    // Dropped with what is still open in it.
    let mut attempts = JoinSet::new();
    loop {
        if let Some(address) = left.next() {
            attempts.spawn(TcpStream::connect(address));
        }
        let ended = tokio::select! {
            ended = attempts.join_next() => ended,
            () = tokio::time::sleep(NEXT_ADDRESS), if left.len() > 0 => continue,
        };
        match ended {
            Some(Ok(Ok(stream))) => return Ok(stream),
            Some(Ok(Err(error))) => failed = Some(error),
            Some(Err(error)) => failed = Some(io::Error::other(error)),
            None => return Err(failed.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_next_address_is_tried_when_one_fails() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let good = listener.local_addr().expect("an address");
        // Nobody uses this part of the loopback network.
        let bad = |last: u8| SocketAddr::from(([127, 0, 88, last], 9));
        let stream = any(vec![bad(1), bad(2), good]).await.expect("a connection");
        assert_eq!(stream.peer_addr().expect("a peer"), good);
        let refused = any(vec![bad(1), bad(2)]).await.expect_err("nobody there");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }
}
