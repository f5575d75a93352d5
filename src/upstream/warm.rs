//! Connections that are open before anybody asks for them.

use std::sync::Arc;

use super::cluster::Cluster;
use super::connect::Purpose;
use super::pool::{Fresh, Lent};
use super::{TEND_EVERY, UpstreamClient, http2};

impl UpstreamClient {
    /// Opens what is missing of the connections that this worker keeps ready; one that is too old to be there the next
    /// time is missing already. One attempt for each endpoint at a time:
    /// who is away is not knocked at in vain.
    pub(super) async fn warm(&self, cluster: &Arc<Cluster>) {
        let Some(upstream) = cluster.spec.upgrade().filter(|upstream| upstream.warm > 0) else { return };
        for member in &cluster.members {
            let now = self.now();
            if !cluster.is_good(member, self.upstreams.millis(now)) {
                continue;
            }
            // One connection in HTTP/2 is ready for many.
            let wanted = if http2::is_likely(&upstream, member) { 1 } else { upstream.warm };
            for _ in self.pool.ready(member, now + TEND_EVERY)..wanted {
                match self.dialer(cluster, &upstream, now).connect(member, Purpose::Requests).await {
                    Ok(Fresh::Exclusive(connection)) => self.pool.put(member, connection, upstream.keepalive),
                    Ok(fresh @ Fresh::Multiplexed(_)) => {
                        drop::<Lent>(self.pool.lend(member, fresh, upstream.keepalive));
                        break;
                    }
                    Err(_) => break,
                }
            }
        }
    }
}
