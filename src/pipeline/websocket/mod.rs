//! WebSockets (RFC 6455), on routes that take them.
//!
//! A handshake that has passed every stage enters, and becomes a [`Session`]: the client's connection and one of the
//! service's, with frames relayed between them until either side ends it. Both handshakes are our own; what the client
//! and the service say after them passes through [`relay`], which judges frames, and through the scanner where rules
//! apply.
//!
//! Invariants: nothing is relayed that does not follow the protocol; where rules apply no message leaves that was not
//! scanned or passed by policy; a WebSocket leaves one record, when it has ended.
//!
//! | module | what it does |
//! |---|---|
//! | `handshake` | the offer, and what a service may answer |
//! | `frame`, `utf8`, `mask` | the wire |
//! | `way` | one direction: frames or scanned messages |
//! | `relay` | both directions, and how they end |
//! | `session` | sockets and timers |

mod frame;
mod handshake;
mod mask;
mod relay;
mod session;
mod utf8;
mod way;

pub(super) use handshake::Offer;
pub(super) use session::Tunnel;
pub use session::{Session, Switch};

use std::sync::Arc;

use http::header::{self, HeaderValue};
use http::{Request, Response, response};

use super::exchange::Exchange;
use super::{Pipeline, Refusal};
use crate::auth::Permit;
use crate::headers::{remove_hop_by_hop, strip_response};
use crate::limit::Admission;
use crate::policy::{ErrorFormat, Inspect, Route};
use crate::scan::stream::Vendor;
use crate::scan::{Action, Joining, StreamRules, StreamScanner};
use crate::upstream::{RequestBody, Upgrade, UpstreamBody, UpstreamClient};
use frame::Terms;
use mask::Masks;
use relay::Relay;
use way::{Inspected, Way};

/// What a handshake came to.
pub(super) enum Opened {
    /// The head of the 101, and what follows it.
    Switched(response::Parts, Box<Tunnel>),
    /// The service answered as to any other request.
    Answered(Response<UpstreamBody>),
}

/// What a handshake is allowed by, and where it goes.
pub(super) struct Proofs<'a> {
    pub route: &'a Arc<Route>,
    pub permit: &'a Permit,
    pub admission: &'a Admission,
    pub upstreams: &'a UpstreamClient,
}

impl Pipeline {
    /// Asks the service for a WebSocket. `accept` is what the client is to be answered.
    pub(super) async fn open_websocket(
        &self,
        mut request: Request<RequestBody>,
        accept: HeaderValue,
        to: Proofs<'_>,
        exchange: &mut Exchange,
    ) -> Result<Opened, Refusal> {
        let Proofs { route, permit, admission, upstreams } = to;
        let (mut key, mut seed) = ([0; 16], [0; 32]);
        getrandom::fill(&mut key)
            .and_then(|()| getrandom::fill(&mut seed))
            .map_err(|_| Refusal::Overloaded("the system gave no random bytes"))?;
        let inspected = route.request.needs_text() || route.response.needs_text();
        let expected = handshake::ask(request.headers_mut(), key, inspected);
        let answer = upstreams.upgrade(request, &route.upstream, permit, admission).await;
        let (mut head, service) = match answer.map_err(|error| self.send_failed(error, route, exchange))? {
            Upgrade::Answered(response) => return Ok(Opened::Answered(response)),
            Upgrade::Switched(head, service) => (head, service),
        };
        let agreed = expected.check(&head.headers).map_err(|why| Refusal::UpstreamBroken(why.to_owned()))?;
        remove_hop_by_hop(&mut head.headers);
        strip_response(&mut head.headers);
        head.headers.remove(header::CONTENT_LENGTH);
        handshake::answer(&mut head.headers, accept);
        let up = Way::new(
            Terms { masked: true, extended: agreed.extended, max: route.request.max_body },
            Some(Masks::new(seed)),
            // A client says what it has to say in one message; a service sends an answer in many.
            self.inspected(&route.request, Joining::Whole, route.format),
        );
        let down = Way::new(
            Terms {
                masked: false,
                extended: agreed.extended,
                max: if route.response.needs_text() { route.response.max_body } else { u64::MAX },
            },
            None,
            self.inspected(&route.response, Joining::Joined, route.format),
        );
        // Whoever waits for an answer waits for the first byte; a conversation is as long as it is.
        exchange.streamed = true;
        let relay = Relay::new(up, down, route.format, exchange.request_id.clone());
        let tunnel = Tunnel::new(relay, service, Arc::clone(route), Arc::clone(&self.metrics));
        Ok(Opened::Switched(head, Box::new(tunnel)))
    }

    fn inspected(&self, rules: &Inspect, joining: Joining, format: ErrorFormat) -> Option<Inspected> {
        if !rules.needs_text() {
            return None;
        }
        let asked = StreamRules {
            rules: Arc::clone(&rules.rules),
            action: rules.action,
            max_chars: rules.max_chars,
            max_body_chars: rules.max_body_chars,
            house: None,
        };
        let declared = match format {
            ErrorFormat::Keyward => None,
            ErrorFormat::OpenAi => Some(Vendor::OpenAi),
            ErrorFormat::Anthropic => Some(Vendor::Anthropic),
        };
        let scanner = StreamScanner::of_messages(asked, joining, declared);
        let observes = rules.action == Action::Observe;
        Some(Inspected::new(scanner, rules.unscannable, observes, self.memory.lease()))
    }
}
