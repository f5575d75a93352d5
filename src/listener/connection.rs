//! One client connection.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::watch;

use super::h2;
use super::io::{Io, Transport, Version};
use super::proxy_protocol::{ProxyProtocol, read_source};
use super::socket::Accepted;
use super::stall::Patient;
use super::tls::{self, Tls};
use super::worker::{OpenGuard, Phase, reached};
use crate::observe::ClientTimeouts;
use crate::pipeline::{Peer, Pipeline, Scheme, Switch};
use crate::upstream::UpstreamClient;

/// The bounds of a connection.
#[derive(Clone, Debug)]
pub struct ConnectionLimits {
    /// Bytes of a request head.
    pub max_header_bytes: usize,
    pub max_headers: usize,
    /// Requests that one HTTP/2 connection may have open.
    pub max_streams: u32,
    /// Who begins with a PROXY header, if anybody does.
    pub proxy_protocol: Option<Arc<ProxyProtocol>>,
    /// For the PROXY header, and for the TLS handshake.
    pub handshake_timeout: Duration,
    /// To read a request head, the wait for its first byte on a kept connection included.
    pub header_timeout: Duration,
    /// The longest that a client may take nothing of what is written to it.
    pub write_timeout: Duration,
    /// Counts what took longer.
    pub timed_out: ClientTimeouts,
}

/// Beyond the head of a request, what is read of its body at once. No budget counts it, and there may be thousands of
/// connections; hyper's own bound is 400 KiB.
const READ_AHEAD: usize = 8 * 1024;

/// Who has connected before the end may still send a request.
const LAST_CALL: Duration = Duration::from_secs(1);

/// Serves one connection to its end. While draining it ends after the requests that have begun; a WebSocket goes on until
/// the grace time is over, and is closed then.
pub(super) async fn serve(
    accepted: Accepted,
    tls: Option<Arc<Tls>>,
    _open: OpenGuard,
    pipeline: Arc<Pipeline>,
    upstreams: Arc<UpstreamClient>,
    limits: ConnectionLimits,
    mut phase: watch::Receiver<Phase>,
) {
    let begun = tokio::select! {
        begun = begin(accepted, tls.as_deref(), &limits) => begun,
        () = async {
            reached(&mut phase, Phase::Draining).await;
            tokio::time::sleep(LAST_CALL).await;
        } => return,
    };
    let Some((io, peer, version)) = begun else { return };
    match version {
        Version::Http1 => serve_http1(io, peer, pipeline, upstreams, limits, phase).await,
        Version::Http2 => h2::serve(io, peer, pipeline, upstreams, limits, phase).await,
    }
}

/// Makes a transport of a socket, and finds out who speaks what on it. `None`: there is nobody to answer.
pub(super) async fn begin(
    accepted: Accepted,
    tls: Option<&Tls>,
    limits: &ConnectionLimits,
) -> Option<(Io, Peer, Version)> {
    let (mut transport, mut address) = match accepted {
        Accepted::Tcp(stream, peer) => {
            let stream = tokio::net::TcpStream::from_std(stream).ok()?;
            // An event must leave when it is written.
            stream.set_nodelay(true).ok()?;
            (Transport::Tcp(stream), peer.ip())
        }
        Accepted::Unix(stream) => {
            let stream = tokio::net::UnixStream::from_std(stream).ok()?;
            (Transport::Unix(stream), IpAddr::V4(Ipv4Addr::LOCALHOST))
        }
    };
    let late = || {
        limits.timed_out.handshake.inc();
        io::Error::from(io::ErrorKind::TimedOut)
    };
    if let Some(proxy_protocol) = limits.proxy_protocol.as_ref().filter(|spoken| spoken.is_spoken_by(address)) {
        let read = tokio::time::timeout(limits.handshake_timeout, read_source(&mut transport)).await;
        let source = read
            .unwrap_or_else(|_| Err(late()))
            .map_err(|error| {
                proxy_protocol.failures.inc();
                tracing::debug!(peer = %address, %error, "the PROXY header cannot be read");
            })
            .ok()?;
        address = source.unwrap_or(address);
    }
    let mut certificate = Arc::default();
    let (mut io, scheme, agreed) = match (transport, tls) {
        (Transport::Tcp(stream), Some(tls)) => {
            let shaken = tokio::time::timeout(limits.handshake_timeout, tls.accept(stream)).await;
            let (stream, agreed) = shaken
                .unwrap_or_else(|_| Err(late()))
                .map_err(|error| {
                    tls.failed();
                    tracing::debug!(peer = %address, %error, "TLS handshake failed");
                })
                .ok()?;
            certificate = tls::client_names(&stream);
            (Io::new(Transport::Tls(Box::new(stream))), Scheme::Https, agreed)
        }
        (transport, _) => (Io::new(transport), Scheme::Http, None),
    };
    let version = match agreed {
        Some(version) => version,
        None => match tokio::time::timeout(limits.header_timeout, io.version()).await {
            Ok(version) => version.ok()??,
            Err(_) => {
                limits.timed_out.header.inc();
                return None;
            }
        },
    };
    Some((io, Peer { address, scheme, certificate }, version))
}

async fn serve_http1(
    io: Io,
    peer: Peer,
    pipeline: Arc<Pipeline>,
    upstreams: Arc<UpstreamClient>,
    limits: ConnectionLimits,
    mut phase: watch::Receiver<Phase>,
) {
    let address = peer.address;
    let switch = Arc::new(Switch::default());
    let switched = Arc::clone(&switch);
    let known = phase.clone();
    let service = service_fn(move |request| {
        let (pipeline, upstreams, switch) = (Arc::clone(&pipeline), Arc::clone(&upstreams), Arc::clone(&switch));
        let (known, peer) = (known.clone(), peer.clone());
        Box::pin(async move {
            let mut response = pipeline.serve(request, peer, &upstreams, &switch).await;
            if *known.borrow() >= Phase::Leaving && response.status() != StatusCode::SWITCHING_PROTOCOLS {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_header_size(limits.max_header_bytes)
        .max_headers(limits.max_headers)
        .max_buf_size(limits.max_header_bytes + READ_AHEAD)
        .serve_connection(TokioIo::new(Patient::new(io, &limits)), service);
    let ended = tokio::select! {
        // First, because a connection that has not been polled would be closed with its request unread.
        biased;
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
            stream.into_inner().linger().await;
        }
        // A response that broke off must look broken: no orderly end.
        Err(error) if error.is_user() || error.is_body_write_aborted() => {}
        Err(error) => {
            if error.is_timeout() {
                limits.timed_out.header.inc();
            }
            tracing::debug!(peer = %address, %error, "connection ended");
            connection.into_parts().io.into_inner().into_inner().linger().await;
        }
    }
}
