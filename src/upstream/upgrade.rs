//! A request that asks to change the protocol.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response, StatusCode, response};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::attempts::OTHERS;
use super::cluster::{Pending, Tried};
use super::connect::Purpose;
use super::exchange::To;
use super::pool::Lent;
use super::wait::Wait;
use super::{RequestBody, SendError, UpstreamBody, UpstreamClient};
use crate::auth::Permit;
use crate::limit::Admission;
use crate::policy::Upstream;

/// A connection to a service that speaks another protocol now. It counts as one of the endpoint's requests until it is
/// dropped.
#[derive(Debug)]
pub struct UpgradedStream {
    io: TokioIo<hyper::upgrade::Upgraded>,
    _pending: Pending,
}

impl AsyncRead for UpgradedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for UpgradedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// What the service answered.
#[derive(Debug)]
pub enum Upgrade {
    /// It changed the protocol. What its head says is not checked here.
    Switched(response::Parts, UpgradedStream),
    /// It did not.
    Answered(Response<UpstreamBody>),
}

impl UpstreamClient {
    /// Sends a request that asks to change the protocol, on a connection of its own, and waits for the head.
    ///
    /// As for [`UpstreamClient::send`]; the request has no body.
    pub async fn upgrade(
        &self,
        request: Request<RequestBody>,
        upstream: &Arc<Upstream>,
        _permit: &Permit,
        _admission: &Admission,
    ) -> Result<Upgrade, SendError> {
        let cluster = &self.cluster(upstream)?;
        let to = To { cluster, upstream, deadline: None };
        let pass = self.pass(cluster)?;
        let sent = self.ask_to_upgrade(request, to).await;
        if let Some(pass) = pass {
            self.settle(pass, &sent.as_ref().map(|(response, ..)| response.status()));
        }
        let (mut response, lent, pending) = sent?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Upgrade::Answered(self.receive(response, lent, pending, to, false)));
        }
        let stream = hyper::upgrade::on(&mut response).await.map_err(SendError::Broken)?;
        let stream = UpgradedStream { io: TokioIo::new(stream), _pending: pending };
        Ok(Upgrade::Switched(response.into_parts().0, stream))
    }

    /// Nothing is sent twice: an endpoint that cannot be connected to is all that another one can make up for.
    async fn ask_to_upgrade(
        &self,
        request: Request<RequestBody>,
        to: To<'_>,
    ) -> Result<(Response<Incoming>, Lent, Pending), SendError> {
        let To { cluster, upstream, .. } = to;
        let mut tried = Tried::default();
        let (mut lent, pending) = loop {
            let now = self.now();
            let millis = self.upstreams.millis(now);
            let index = cluster.choose(millis, self.next_turn(), tried);
            let member = &cluster.members[index];
            let pending = Pending::new(cluster, index);
            cluster.metrics.new.inc();
            match self.dialer(cluster, upstream, now).connect(member, Purpose::Http1).await {
                Ok(fresh) => break (self.pool.lend(member, fresh, upstream.keepalive), pending),
                Err(error) => {
                    cluster.failed(member, self.upstreams.now_millis(), "connect");
                    tried = tried.with(index);
                    if tried.count() > OTHERS || !cluster.has_untried(tried) {
                        return Err(error);
                    }
                }
            }
        };
        let head = tokio::time::timeout(upstream.timeouts.first_byte, lent.send(request)).await;
        let now = self.upstreams.now_millis();
        match head {
            Ok(Ok(response)) => {
                if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                    pending.member().standing.succeeded();
                }
                Ok((response, lent, pending))
            }
            Ok(Err(error)) => {
                cluster.failed(pending.member(), now, "closed");
                Err(SendError::Broken(error.into_error()))
            }
            Err(_) => {
                cluster.metrics.timed_out(Wait::FirstByte.as_str());
                cluster.failed(pending.member(), now, "timeout");
                Err(SendError::Timeout)
            }
        }
    }
}
