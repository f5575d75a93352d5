//! Making a connection.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::SendError;
use super::pool::Connection;
use crate::policy::Upstream;

/// Largest response head and read buffer.
const MAX_HEAD: usize = 64 * 1024;

/// Connects and starts the task that drives the connection.
pub(super) async fn connect(upstream: &Upstream) -> Result<Connection, SendError> {
    let endpoint = (&*upstream.endpoint.host, upstream.endpoint.port);
    let unreachable = |why: io::Error| {
        SendError::Unreachable(io::Error::new(why.kind(), format!("cannot connect to {}: {why}", upstream.endpoint)))
    };
    let stream = tokio::time::timeout(upstream.timeouts.connect, TcpStream::connect(endpoint))
        .await
        .map_err(|_| unreachable(io::ErrorKind::TimedOut.into()))?
        .map_err(unreachable)?;
    // A request is written at once; waiting to fill a segment only delays it.
    stream.set_nodelay(true).map_err(SendError::Unreachable)?;
    let socket = Arc::new(Socket { stream, received: AtomicU64::new(0) });
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .max_headers(256)
        .handshake(TokioIo::new(Shared(Arc::clone(&socket))))
        .await
        .map_err(SendError::Broken)?;
    // Ends when the sender is dropped, so whoever abandons a response closes its connection. An error reaches the
    // request through its sender.
    tokio::spawn(async move {
        // An upgrade that nobody asked for finds nobody to take it, and closes.
        let _ = connection.with_upgrades().await;
    });
    Ok(Connection { sender, socket })
}

/// A socket that hyper drives and the pool can look at.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    /// The only way to know whether an answer had begun when it failed.
    received: AtomicU64,
}

impl Socket {
    /// Bytes that have come from the service.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Whether nothing waits to be read: no end, and no bytes. Between two exchanges a service has nothing to say, and
    /// what it says all the same would be taken for the answer to the next request, which is somebody else's.
    pub(super) fn is_silent(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        SockRef::from(&self.stream).peek(&mut byte).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}

/// hyper's half of a [`Socket`].
struct Shared(Arc<Socket>);

impl AsyncRead for Shared {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let socket = &self.0;
        loop {
            ready!(socket.stream.poll_read_ready(cx))?;
            // Finding nothing clears the readiness, so the next round waits.
            match socket.stream.try_read(buf.initialize_unfilled()) {
                Ok(read) => {
                    buf.advance(read);
                    socket.received.fetch_add(read as u64, Ordering::Relaxed);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl Shared {
    fn poll_try_write(
        &self,
        cx: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.stream.poll_write_ready(cx))?;
            match write(&self.0.stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }
}

impl AsyncWrite for Shared {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_try_write(cx, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_try_write(cx, |stream| stream.try_write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A socket has no buffer of ours.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&self.0.stream).shutdown(std::net::Shutdown::Write))
    }
}
