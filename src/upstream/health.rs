//! Checks of endpoints: one question, again and again, by one task of the process.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Request, StatusCode};

use super::cluster::Cluster;
use super::connect::{Dialer, Purpose};
use super::member::Member;
use super::pool::{Fresh, Pool};
use super::standing::Change;
use super::{RequestBody, SendError, Upstreams, http2};
use crate::policy::{HealthCheck, Upstream};

/// What a check needs.
#[derive(Clone, Debug)]
pub(super) struct Checker {
    pub(super) upstreams: Arc<Upstreams>,
    /// In milliseconds of the registry's time.
    pub(super) now: u64,
}

impl Checker {
    /// Asks a member how it is, and takes note of the answer.
    pub(super) async fn check(self, cluster: Arc<Cluster>, upstream: Arc<Upstream>, member: Arc<Member>) {
        let Some(rule) = &upstream.health else { return };
        let asked = tokio::time::timeout(rule.timeout, self.ask(&cluster, &upstream, &member, rule)).await;
        let why = match asked {
            Ok(Ok(status)) if status.is_success() || status.is_redirection() => None,
            Ok(Ok(status)) => Some(format!("status {}", status.as_u16())),
            Ok(Err(SendError::Unreachable(error))) => Some(error.to_string()),
            Ok(Err(_)) => Some("no answer in HTTP".to_owned()),
            Err(_) => Some("no answer in time".to_owned()),
        };
        let change = member.standing.checked(why.is_none(), rule);
        let (upstream, endpoint) = (&*cluster.name, &member.endpoint);
        match (change, why) {
            (Some(Change::Failed), why) => {
                let why = why.unwrap_or_default();
                tracing::warn!(upstream, %endpoint, why, "the endpoint fails its checks and is left out");
            }
            (Some(Change::Recovered), _) => {
                tracing::info!(upstream, %endpoint, "the endpoint passes its checks again");
            }
            (None, _) => {}
        }
    }

    /// Asks on a connection of its own: one that is used already would say nothing about new ones.
    async fn ask(
        &self,
        cluster: &Cluster,
        upstream: &Upstream,
        member: &Arc<Member>,
        rule: &HealthCheck,
    ) -> Result<StatusCode, SendError> {
        let dialer =
            Dialer { cluster, resolver: &*self.upstreams.resolver, timeouts: &upstream.timeouts, now: self.now };
        let fresh: Fresh = dialer.connect(member, Purpose::Requests).await?;
        let mut lent = Pool::new(Arc::clone(&self.upstreams)).lend(member, fresh, Duration::ZERO);
        let mut request = Request::new(RequestBody::held_bytes(Bytes::new()));
        *request.uri_mut() = rule.path.clone().into();
        if let Ok(host) = HeaderValue::from_str(&member.endpoint.authority()) {
            request.headers_mut().insert(header::HOST, host);
        }
        request.headers_mut().insert(header::USER_AGENT, HeaderValue::from_static("keyward-health-check"));
        http2::spell(&mut request, lent.is_http2(), &member.endpoint);
        let response = lent.send(request).await.map_err(|error| SendError::Broken(error.into_error()))?;
        Ok(response.status())
    }
}
