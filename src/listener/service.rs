//! Connections of a service of our own, beside the proxy.
//!
//! Enters: a bound socket and a function that answers requests. HTTP/1.1 only, over TLS where it is configured; every
//! wait is bounded as on the proxy's connections.

use std::convert::Infallible;
use std::error::Error;
use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::connection::{ConnectionLimits, begin};
use super::io::Version;
use super::socket::Listener;
use super::stall::Patient;
use super::tls::Tls;
use super::worker::{Phase, reached};
use super::{ACCEPT_PAUSE, accept_one};

/// How long requests may go on after a stop was asked for; they take milliseconds.
const LAST_REQUESTS: Duration = Duration::from_secs(5);

/// What answers requests.
pub trait Answer: Clone + Send + Sync + Unpin + 'static {
    type Body: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static;

    /// The answer to a request from `client`. A body that goes on for long ends by itself when the process drains.
    fn answer(&self, request: Request<Incoming>, client: IpAddr) -> impl Future<Output = Response<Self::Body>> + Send;
}

/// Serves until `phase` comes to [`Phase::Draining`], then for a moment what has begun.
pub async fn serve(
    listener: Listener,
    tls: Option<Arc<Tls>>,
    limits: ConnectionLimits,
    max_connections: usize,
    phase: watch::Receiver<Phase>,
    answer: impl Answer,
) {
    let slots = Arc::new(Semaphore::new(max_connections));
    let mut connections = JoinSet::new();
    let mut draining = phase.clone();
    loop {
        let accepted = tokio::select! {
            () = reached(&mut draining, Phase::Draining) => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = accept_one(&listener, &slots) => accepted,
        };
        match accepted {
            Ok((accepted, slot)) => {
                let (tls, limits, phase, answer) = (tls.clone(), limits.clone(), phase.clone(), answer.clone());
                connections.spawn(async move {
                    if let Some((io, peer, Version::Http1)) = begin(accepted, tls.as_deref(), &limits).await {
                        let io = Patient::new(io, &limits);
                        serve_connection(io, peer.address, &limits, phase, answer).await;
                    }
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::error!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    // What is left is cut when its tasks are dropped.
    let _ = tokio::time::timeout(LAST_REQUESTS, ended).await;
}

async fn serve_connection(
    io: Patient,
    client: IpAddr,
    limits: &ConnectionLimits,
    mut phase: watch::Receiver<Phase>,
    answer: impl Answer,
) {
    let service = service_fn(move |request| {
        let answer = answer.clone();
        Box::pin(async move { Ok::<_, Infallible>(answer.answer(request, client).await) })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_header_size(limits.max_header_bytes)
        .max_headers(limits.max_headers)
        .serve_connection(TokioIo::new(io), service);
    let ended = tokio::select! {
        ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => ended,
        () = reached(&mut phase, Phase::Draining) => {
            std::pin::Pin::new(&mut connection).graceful_shutdown();
            poll_fn(|cx| connection.poll_without_shutdown(cx)).await
        }
    };
    if let Err(error) = &ended {
        tracing::debug!(peer = %client, %error, "connection ended");
        if error.is_user() || error.is_body_write_aborted() {
            return;
        }
    }
    // An answer to a body that was not read to its end must arrive nevertheless.
    connection.into_parts().io.into_inner().into_inner().linger().await;
}
