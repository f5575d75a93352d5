//! A request that asks to change the protocol.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::{Request, Response, StatusCode, response};
use hyper_util::rt::TokioIo;

use super::connect::Purpose;
use super::{RequestBody, SendError, UpstreamBody, UpstreamClient};
use crate::auth::Permit;
use crate::limit::Admission;
use crate::policy::Upstream;

/// A connection to a service that speaks another protocol now.
pub type UpgradedStream = TokioIo<hyper::upgrade::Upgraded>;

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
        let cluster = self.cluster(upstream)?;
        let member = cluster.choose(self.turn.fetch_add(1, Ordering::Relaxed));
        cluster.metrics.new.inc();
        let fresh = self.dialer(&cluster, upstream, self.now()).connect(member, Purpose::Http1).await?;
        let mut lent = self.pool.lend(member, fresh, upstream.keepalive);
        let pending = member.begin();
        let head = tokio::time::timeout(upstream.timeouts.first_byte, lent.send(request)).await;
        let head = head.map_err(|_| SendError::Timeout)?;
        let mut response = head.map_err(|error| SendError::Broken(error.into_error()))?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Upgrade::Answered(self.receive(response, lent, pending, upstream, false)));
        }
        let stream = hyper::upgrade::on(&mut response).await.map_err(SendError::Broken)?;
        Ok(Upgrade::Switched(response.into_parts().0, TokioIo::new(stream)))
    }
}
