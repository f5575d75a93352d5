//! One upstream at work: its endpoints, and what all workers know about them.

use std::sync::{Arc, Weak};

use super::member::Member;
use super::tls::ClientTls;
use crate::observe::UpstreamCounters;
use crate::policy::{Http2, Upstream};

/// The state of one upstream of a policy. What a reload keeps is shared with the cluster before it.
#[derive(Debug)]
pub(super) struct Cluster {
    /// Gone when no policy and no request has the upstream any more.
    pub(super) spec: Weak<Upstream>,
    pub(super) name: Arc<str>,
    pub(super) members: Vec<Arc<Member>>,
    /// Where an endpoint is `https://`.
    pub(super) tls: Option<Arc<ClientTls>>,
    pub(super) http2: Http2,
    pub(super) metrics: UpstreamCounters,
}

impl Cluster {
    /// The endpoint that has the fewest requests; `turn` decides between equals.
    pub(super) fn choose(&self, turn: usize) -> &Arc<Member> {
        let count = self.members.len();
        let in_turn = (0..count).map(|step| &self.members[(turn + step) % count]);
        in_turn.min_by_key(|member| member.pending()).unwrap_or(&self.members[0])
    }
}
