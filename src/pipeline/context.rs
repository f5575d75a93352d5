//! Putting the caller into the prompt, after the client's own body was inspected.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderValue};
use http::request;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::time::Instant;

use super::content::{Content, Kind};
use super::decode::{Holding, describe_decoded, hold_decoded};
use super::exchange::Exchange;
use super::hold::{HoldError, slowest};
use super::memory::Lease;
use super::request::held_badly;
use super::{Pipeline, Refusal};
use crate::auth::Permit;
use crate::context::{Context, Imitation, Owner, SpliceError, Splicer};
use crate::policy::{Principal, Route};
use crate::scan::{Action, Codings, Direction, RuleHit, TextFormat};
use crate::upstream::{BodyFault, RequestBody, SendError};

/// A body up to this size is held although nothing inspects it: then what is refused reaches the service in no part,
/// it is sent with its length, and an assertion can name it. What is larger streams.
const HELD: usize = 256 << 10;

impl Pipeline {
    /// Splices the owner and the route's values into the body. `lease` pays for what is held.
    pub(super) async fn put_context(
        &self,
        parts: &mut request::Parts,
        body: RequestBody,
        route: &Route,
        permit: &Permit,
        exchange: &mut Exchange,
        lease: &mut Lease,
    ) -> Result<RequestBody, Refusal> {
        let Some((context, owner)) = route.context.as_ref().zip(permit.principal().and_then(|key| owner(key))) else {
            return Ok(body);
        };
        if body.is_end_stream() {
            return Err(Refusal::BadBody("it is empty, and this route needs JSON".to_owned()));
        }
        match Content::of(&parts.headers) {
            Content { problem: Some(problem), .. } => return Err(Refusal::UnscannableBody(problem)),
            Content { kind: Kind::Text(TextFormat::Json), .. } => {}
            _ => return Err(Refusal::BadBody("this route needs JSON, declared as `application/json`".to_owned())),
        }
        let codings = Content::of(&parts.headers).codings;
        let body = if codings.is_empty() { body } else { self.decoded(parts, body, codings, route, lease).await? };
        let imitation = match route.request.action {
            Action::Observe => Imitation::Observed,
            Action::Redact | Action::Sanitize | Action::Block => Imitation::Refused,
        };
        let splicer = Splicer::new(context, owner, &parts.headers, imitation);
        if let Some(held) = body.held() {
            return splice_held(parts, held, splicer, context, exchange, lease);
        }
        match held_or_long(body, self.body_timeout, lease).await? {
            Size::Held(held) => splice_held(parts, held, splicer, context, exchange, lease),
            Size::Long(body, begun) => {
                // How much comes is not known before its end.
                parts.headers.remove(header::CONTENT_LENGTH);
                let imitations = Arc::clone(&exchange.imitations);
                body.spliced(splicer, vec![begun], imitations).map_err(|error| refusal(error, context, exchange))
            }
        }
    }

    /// A coded body that no rule has read, without its codings: held, because an insertion needs its text.
    async fn decoded(
        &self,
        parts: &mut request::Parts,
        mut body: RequestBody,
        codings: Codings,
        route: &Route,
        lease: &mut Lease,
    ) -> Result<RequestBody, Refusal> {
        let how = Holding { codings, max: route.request.max_body, timeout: Some(self.body_timeout), keep: false };
        let held = hold_decoded(&mut body, how, lease).await.map_err(|error| match error {
            HoldError::Broken(_) => body.take_fault().unwrap_or(BodyFault::Aborted).into(),
            error => held_badly(error),
        })?;
        describe_decoded(&mut parts.headers);
        held.text.map(RequestBody::held_bytes).map_err(Refusal::UnscannableBody)
    }

    /// What a failed attempt to send means. A body that was refused on its way is the client's fault.
    pub(super) fn send_failed(&self, error: SendError, route: &Route, exchange: &mut Exchange) -> Refusal {
        match (error, &route.context) {
            (SendError::Request(BodyFault::Context(error)), Some(context)) => refusal(error, context, exchange),
            (error, _) => error.into(),
        }
    }
}

/// An organization before a user: a key of both acts for the organization.
fn owner(key: &Principal) -> Option<Owner<'_>> {
    let organization = key.org_code.as_deref().map(Owner::Organization);
    organization.or_else(|| key.user_id.as_deref().map(Owner::User))
}

enum Size {
    Held(Bytes),
    /// The body, and what has come of it.
    Long(RequestBody, Bytes),
}

async fn held_or_long(mut body: RequestBody, timeout: Duration, lease: &mut Lease) -> Result<Size, Refusal> {
    // One buffer: a client decides how many pieces it sends, and each piece would cost more than its bytes.
    let mut begun = BytesMut::new();
    let started = Instant::now();
    while begun.len() <= HELD && !body.is_end_stream() {
        let deadline = slowest(started, timeout, begun.len() as u64);
        let next = tokio::time::timeout_at(deadline, body.frame()).await.map_err(|_| BodyFault::TooSlow)?;
        let Some(frame) = next else { break };
        let Ok(frame) = frame else {
            return Err(body.take_fault().unwrap_or(BodyFault::Aborted).into());
        };
        let Ok(data) = frame.into_data() else { continue };
        lease.grow(data.len()).map_err(|_| Refusal::Overloaded("the memory budget for held bodies is used up"))?;
        begun.extend_from_slice(&data);
    }
    let begun = begun.freeze();
    Ok(if begun.len() > HELD && !body.is_end_stream() { Size::Long(body, begun) } else { Size::Held(begun) })
}

fn splice_held(
    parts: &mut request::Parts,
    held: Bytes,
    mut splicer: Splicer,
    context: &Arc<Context>,
    exchange: &mut Exchange,
    lease: &mut Lease,
) -> Result<RequestBody, Refusal> {
    lease.grow(held.len()).map_err(|_| Refusal::Overloaded("the memory budget for held bodies is used up"))?;
    let body = splicer.whole(&held).map_err(|error| refusal(error, context, exchange))?;
    exchange.imitations.store(splicer.imitations(), Ordering::Relaxed);
    // Werkzeug reads a chunked body as empty unless its server helps.
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    Ok(RequestBody::held_bytes(body))
}

fn refusal(error: SpliceError, context: &Context, exchange: &mut Exchange) -> Refusal {
    match error {
        SpliceError::Imitation(rule) => {
            let hits = [RuleHit { rule, count: 1 }];
            exchange.inspected(&context.imitations, Action::Block, Direction::Request, &hits);
            Refusal::InputBlocked
        }
        error => Refusal::BadBody(error.to_string()),
    }
}
