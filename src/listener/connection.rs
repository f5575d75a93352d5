//! One client connection.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

use super::stall::Patient;
use super::worker::{OpenGuard, Phase, reached};
use crate::pipeline::{Pipeline, Switch};
use crate::upstream::UpstreamClient;

/// The bounds of a connection.
#[derive(Clone, Debug)]
pub struct ConnectionLimits {
    /// Bytes of a request head.
    pub max_header_bytes: usize,
    pub max_headers: usize,
    /// To read a request head, the wait for its first byte on a kept connection included.
    pub header_timeout: Duration,
    /// The longest that a client may take nothing of what is written to it.
    pub write_timeout: Duration,
}

/// Serves one connection to its end. While draining it ends after the current request; a WebSocket goes on until the
/// grace time is over, and is closed then.
pub(super) async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    _open: OpenGuard,
    pipeline: Arc<Pipeline>,
    upstreams: Arc<UpstreamClient>,
    limits: ConnectionLimits,
    mut phase: watch::Receiver<Phase>,
) {
    let Ok(stream) = tokio::net::TcpStream::from_std(stream) else { return };
    // An event must leave when it is written.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let switch = Arc::new(Switch::default());
    let switched = Arc::clone(&switch);
    let service = service_fn(move |request| {
        let (pipeline, upstreams, switch) = (Arc::clone(&pipeline), Arc::clone(&upstreams), Arc::clone(&switch));
        Box::pin(async move { Ok::<_, Infallible>(pipeline.serve(request, peer.ip(), &upstreams, &switch).await) })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_header_size(limits.max_header_bytes)
        .max_headers(limits.max_headers)
        .serve_connection(TokioIo::new(Patient::new(stream, limits.write_timeout)), service);
    let ended = tokio::select! {
        ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => ended,
        () = reached(&mut phase, Phase::Draining) => {
            std::pin::Pin::new(&mut connection).graceful_shutdown();
            tokio::select! {
                ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => ended,
                () = reached(&mut phase, Phase::Ending) => return,
            }
        }
    };
    match ended {
        Ok(()) => {
            let parts = connection.into_parts();
            let stream = parts.io.into_inner();
            let stream = match switched.take() {
                Some(session) => session.run(stream, parts.read_buf, reached(&mut phase, Phase::Ending)).await,
                None => stream,
            };
            linger(stream.into_inner()).await;
        }
        // A response that broke off must look broken: no orderly end.
        Err(error) if error.is_user() || error.is_body_write_aborted() => {}
        Err(error) => {
            tracing::debug!(%peer, %error, "connection ended");
            linger(connection.into_parts().io.into_inner().into_inner()).await;
        }
    }
}

/// Closes in order: the client is told that nothing more comes, and what it still sends is read for a moment. A
/// socket closed with unread bytes is reset, and a reset can destroy an answer that the client has not yet read.
async fn linger(mut stream: tokio::net::TcpStream) {
    const LONGEST: Duration = Duration::from_secs(1);
    const MOST: usize = 1024 * 1024;
    let drain = async {
        if stream.shutdown().await.is_err() {
            return;
        }
        let mut scratch = [0; 4096];
        let mut total = 0;
        while let Ok(read) = stream.read(&mut scratch).await {
            total += read;
            if read == 0 || total > MOST {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(LONGEST, drain).await;
}
