//! The request, one stage a line.
//!
//! Enters: a request and the address of its peer. Leaves: a response and, when its body has ended, one usage record.
//! The only module that knows all stages; each of them decides, this one answers and observes.
//!
//! Invariant: nothing is forwarded that has not passed every stage in this order, and what was refused never
//! reaches the service.

mod content;
mod context;
mod cors;
mod decode;
mod exchange;
mod grpc;
mod hold;
mod ids;
mod live;
mod memory;
mod out_body;
mod outgoing;
mod quota;
mod refusal;
mod request;
mod response;
mod tail;
mod target;
mod websocket;

pub use out_body::OutBody;
pub use refusal::{Fault, Refusal};
pub use websocket::{Session, Switch};

pub use crate::headers::Scheme;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, Response};
use http_body::Body;
use hyper::body::Incoming;

use crate::assertion::{self, Assertion};
use crate::auth::{Authenticated, Authenticator, Credential, Permit, take_credential};
use crate::headers::{
    Provenance, echo_identity, join_cookies, names, remove_hop_by_hop, remove_trusted, remove_underscored,
    stamp_identity,
};
use crate::limit::{Admission, BucketOwner, Charge, Limiter};
use crate::observe::{Metrics, UsageSink};
use crate::policy::{Access, Endpoint, Limit, Matched, Policy, Principal, Route, Subject, Unmatched};
use crate::time::Clock;
use crate::upstream::{RequestBody, UpstreamClient};
use exchange::Exchange;
use ids::RequestIds;
use memory::MemoryBudget;
use out_body::Content as Delivery;
use outgoing::Asked;
use websocket::{Offer, Opened, Proofs, Tunnel};

/// What every request needs; one for the process, shared by its workers.
#[derive(Debug)]
pub struct Pipeline {
    policy: ArcSwap<Policy>,
    auth: Authenticator,
    limiter: Arc<Limiter>,
    usage: UsageSink,
    metrics: Arc<Metrics>,
    clock: Clock,
    memory: Arc<MemoryBudget>,
    ids: RequestIds,
    body_timeout: Duration,
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Of a Unix socket: the loopback address.
    pub address: IpAddr,
    pub scheme: Scheme,
    /// The names in the certificate that it showed, if it showed one.
    pub certificate: Arc<[Box<str>]>,
}

/// The parts a pipeline is built from.
#[derive(Debug)]
pub struct Parts {
    pub policy: Policy,
    pub auth: Authenticator,
    pub limiter: Arc<Limiter>,
    pub usage: UsageSink,
    pub metrics: Arc<Metrics>,
    pub clock: Clock,
    /// Bytes of bodies that may be held at once.
    pub memory: usize,
    /// Longest wait for the next piece of a request body.
    pub body_timeout: Duration,
}

/// Where a request comes from.
#[derive(Clone, Copy)]
struct Sender<'a> {
    provenance: &'a Provenance,
    /// The names in the client's certificate.
    certificate: &'a [Box<str>],
}

/// What a request that passed is answered with.
enum Answer {
    Body(Delivery),
    /// Nothing more of HTTP.
    Switched(Box<Tunnel>),
}

impl Pipeline {
    /// Fails only where the system has no randomness.
    pub fn new(parts: Parts) -> Result<Self, getrandom::Error> {
        Ok(Self {
            policy: ArcSwap::from_pointee(parts.policy),
            auth: parts.auth,
            limiter: parts.limiter,
            usage: parts.usage,
            memory: MemoryBudget::new(parts.memory, parts.metrics.held_bytes.clone()),
            metrics: parts.metrics,
            clock: parts.clock,
            ids: RequestIds::new()?,
            body_timeout: parts.body_timeout,
        })
    }

    /// Where requests go at the moment: every upstream that a route names, once.
    pub fn upstreams(&self) -> BTreeMap<Arc<str>, Vec<Endpoint>> {
        let policy = self.policy.load();
        let upstreams = policy.routes.routes().iter().map(|route| &route.upstream);
        upstreams.map(|upstream| (Arc::clone(&upstream.name), upstream.endpoints.clone())).collect()
    }

    /// Puts another policy in force. Requests that have begun keep the one they began with.
    pub fn replace_policy(&self, policy: Policy) {
        self.policy.store(Arc::new(policy));
    }

    /// The public keys that verify assertions, as a JWK set.
    pub fn key_set(&self) -> String {
        self.policy.load().key_set.clone()
    }

    pub fn usage(&self) -> &UsageSink {
        &self.usage
    }

    /// Serves one request of `peer` over the worker's own way to the upstreams. Behind a 101 its connection is to run
    /// what `switch` holds.
    pub async fn serve(
        &self,
        request: Request<Incoming>,
        peer: Peer,
        upstreams: &UpstreamClient,
        switch: &Switch,
    ) -> Response<OutBody> {
        let started = self.clock.now();
        let policy = self.policy.load_full();
        let (mut parts, body) = request.into_parts();
        let provenance = Provenance::read(&parts.headers, peer.address, peer.scheme, &policy.trusted_proxies);
        let request_id = provenance.request_id.clone().unwrap_or_else(|| self.ids.next(started.wall));
        let slot = self.usage.reserve();
        let may_record = slot.is_some();
        let mut exchange = Box::new(Exchange::new(
            Arc::clone(&self.metrics),
            self.clock.clone(),
            slot,
            started,
            provenance.client,
            request_id,
            &parts,
        ));
        let head_only = parts.method == Method::HEAD;
        // hyper asks a client that waits with its body for it when the body is first read.
        let client_waits = parts.headers.contains_key(header::EXPECT);
        let origin = cors::origin(&parts.headers);
        let mut body = Some(body);
        let outcome = if may_record {
            let deadline = exchange.deadline;
            let from = Sender { provenance: &provenance, certificate: &peer.certificate };
            let answer = self.forward(&policy, &mut parts, &mut body, from, upstreams, &mut exchange);
            match deadline {
                None => answer.await,
                Some(deadline) => {
                    tokio::time::timeout_at(deadline, answer).await.unwrap_or(Err(Refusal::DeadlineExceeded))
                }
            }
        } else {
            Err(Refusal::Overloaded("usage records are not being written"))
        };
        let (head, content) = match outcome {
            Ok((head, Answer::Body(content))) => (head, content),
            Ok((head, Answer::Switched(tunnel))) => {
                switch.put(tunnel.begin(exchange));
                return Response::from_parts(head, OutBody::none());
            }
            Err(refusal) => self.refuse(&refusal, body, client_waits, &mut exchange).await,
        };
        if !grpc::is_call(&head.headers) {
            // Nothing else can end with a status behind it.
            exchange.deadline = None;
        }
        let cors = match &exchange.route {
            Some(route) => route.cors.clone(),
            None => policy.unmatched.cors.clone(),
        };
        let mut response = Response::from_parts(head, OutBody::new(content, exchange, head_only));
        if let Some(cors) = cors {
            cors::stamp(response.headers_mut(), &cors, origin.as_ref());
        }
        if parts.version < http::Version::HTTP_11 {
            // An old client knows the end of a body by its length or the end of the connection.
            response.headers_mut().remove(header::TRANSFER_ENCODING);
            response.headers_mut().remove(header::TRAILER);
        }
        response
    }

    /// The life of a request, in the order that makes it safe.
    async fn forward(
        &self,
        policy: &Policy,
        parts: &mut http::request::Parts,
        body: &mut Option<Incoming>,
        from: Sender<'_>,
        upstreams: &UpstreamClient,
        exchange: &mut Exchange,
    ) -> Result<(http::response::Parts, Answer), Refusal> {
        let Sender { provenance, certificate } = from;
        let offer = Offer::read(parts);
        let asked = Asked::read(parts);
        strip(parts)?;
        if let Some(head) = self.preflight(policy, parts, provenance, certificate, exchange)? {
            return Ok((head, Answer::Body(Delivery::Held { rest: Bytes::new(), lease: None })));
        }
        let route = self.route(policy, parts, from, exchange).await?;
        let caller = self.authenticate(policy, &route, parts, provenance, exchange).await?;
        let permit = self.authorize(&caller, &route)?;
        let admission = self.admit(&route.limits, &route.id, permit.principal(), provenance.client)?;
        // On other routes it was taken off with the hop-by-hop headers, and the rest is an ordinary request.
        let websocket = offer.filter(|_| route.websocket).map(Offer::check).transpose()?;
        let mut lease = self.memory.lease();
        let body = self.inspect_request(parts, body, &route.request, exchange, &mut lease).await?;
        let body = self.put_context(parts, body, &route, &permit, exchange, &mut lease).await?;
        self.stamp(parts, &body, &permit, &route, provenance, exchange);
        let (request, go_ahead) = asked.outgoing(parts, body, &route);
        exchange.go_ahead.clone_from(&go_ahead);
        exchange.forwarded = true;
        let response = match websocket {
            None => {
                let sent = upstreams.send(request, &route.upstream, &permit, &admission).await;
                sent.map_err(|error| self.send_failed(error, &route, exchange))?
            }
            Some(accept) => {
                let proofs = Proofs { route: &route, permit: &permit, admission: &admission, upstreams };
                match self.open_websocket(request, accept, proofs, exchange).await? {
                    Opened::Answered(response) => response,
                    Opened::Switched(mut head, tunnel) => {
                        finish(&mut head, &admission, exchange);
                        return Ok((head, Answer::Switched(tunnel)));
                    }
                }
            }
        };
        drop(lease);
        let unsent = go_ahead.is_some_and(|go_ahead| go_ahead.answered());
        let (mut head, content) = self.inspect_response(response, &route, exchange).await?;
        if let Some(principal) = permit.principal().filter(|_| route.echo_identity) {
            echo_identity(&mut head.headers, principal);
        }
        finish(&mut head, &admission, exchange);
        if unsent {
            // What the client does not send is no request, and what it does send is nobody's.
            head.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Ok((head, Answer::Body(content)))
    }

    /// Finds the route. An unmatched path is answered only to callers with a valid key, so that routes cannot be
    /// probed, and costs that key a token.
    async fn route(
        &self,
        policy: &Policy,
        parts: &mut http::request::Parts,
        Sender { provenance, certificate }: Sender<'_>,
        exchange: &mut Exchange,
    ) -> Result<Arc<Route>, Refusal> {
        let host = target::settle(parts)?;
        exchange.path = exchange::shown(parts.uri.path());
        let no_route = match policy.routes.find(host.as_deref(), &parts.method, parts.uri.path()) {
            Matched::Route(route) => {
                exchange.route = Some(Arc::clone(route));
                route.gatekeeper.check(provenance.client, certificate)?;
                remove_underscored(&mut parts.headers, &route.underscore_headers);
                return Ok(Arc::clone(route));
            }
            Matched::OtherMethods(allow) => Refusal::MethodNotAllowed(allow),
            Matched::Nothing => Refusal::RouteNotFound,
        };
        let Unmatched { credentials, limits, gatekeeper, .. } = &policy.unmatched;
        gatekeeper.check(provenance.client, certificate)?;
        let credential = take_credential(&mut parts.headers, credentials);
        let principal =
            self.auth.authenticate(credential, provenance.client, &policy.auth_failures, exchange.started).await?;
        exchange.principal = Some(Arc::clone(&principal));
        self.charge_key(limits, &principal)?;
        Err(no_route)
    }

    async fn authenticate(
        &self,
        policy: &Policy,
        route: &Route,
        parts: &mut http::request::Parts,
        provenance: &Provenance,
        exchange: &mut Exchange,
    ) -> Result<Authenticated, Refusal> {
        let credential = take_credential(&mut parts.headers, &route.credentials);
        match (&route.access, &credential) {
            (Access::Public, _) | (Access::Observe(_), Credential::Missing) => return Ok(Authenticated::Nobody),
            (Access::Key(_) | Access::Observe(_), _) => {}
        }
        let principal =
            self.auth.authenticate(credential, provenance.client, &policy.auth_failures, exchange.started).await?;
        exchange.principal = Some(Arc::clone(&principal));
        Ok(Authenticated::Key(principal))
    }

    /// A key that asks for what it may not have pays for the question.
    fn authorize(&self, caller: &Authenticated, route: &Route) -> Result<Permit, Refusal> {
        let permit = Permit::authorize(caller, route).or_else(|denied| {
            if let Authenticated::Key(principal) = caller {
                self.charge_key(&route.limits, principal)?;
            }
            Err(Refusal::from(denied))
        })?;
        if permit.is_keyless() {
            self.metrics.keyless.with_label_values(&[&route.id]).inc();
        }
        Ok(permit)
    }

    fn admit(
        &self,
        limits: &[Arc<Limit>],
        route: &Arc<str>,
        principal: Option<&Arc<Principal>>,
        client: IpAddr,
    ) -> Result<Admission, Refusal> {
        let own = principal.and_then(|key| key.terms.limit());
        let charges: Vec<Charge> = limits
            .iter()
            .chain(own)
            .map(|limit| Charge { limit: Arc::clone(limit), owner: owner(limit.by, route, principal, client) })
            .collect();
        self.limiter.admit(&charges, self.clock.monotonic()).map_err(Refusal::RateLimited)
    }

    fn charge_key(&self, limits: &[Arc<Limit>], principal: &Principal) -> Result<(), Refusal> {
        let charges: Vec<Charge> = limits
            .iter()
            .filter(|limit| limit.by == Subject::Key)
            .chain(principal.terms.limit())
            .map(|limit| Charge { limit: Arc::clone(limit), owner: BucketOwner::Key(Arc::clone(&principal.key_id)) })
            .collect();
        self.limiter.admit(&charges, self.clock.monotonic()).map(drop).map_err(Refusal::RateLimited)
    }

    /// Writes what only Keyward may write. Everything a client could have put there is gone since `strip`.
    fn stamp(
        &self,
        parts: &mut http::request::Parts,
        body: &RequestBody,
        permit: &Permit,
        route: &Route,
        provenance: &Provenance,
        exchange: &Exchange,
    ) {
        response::ask_for_scannable(&mut parts.headers, &route.response);
        for (name, value) in &route.upstream.set_headers {
            parts.headers.insert(name, value.clone());
        }
        provenance.stamp(&mut parts.headers);
        parts.headers.insert(names::REQUEST_ID, exchange.request_id.clone());
        if let Some(principal) = permit.principal() {
            stamp_identity(&mut parts.headers, principal);
            if let Some(assertion) = &route.assertion {
                self.assert(parts, body, assertion, principal, &route.id, provenance, exchange);
            }
        }
    }

    /// Signs what this request is, last of all: nothing of it changes afterwards.
    #[allow(clippy::too_many_arguments, reason = "an assertion is about all of them")]
    fn assert(
        &self,
        parts: &mut http::request::Parts,
        body: &RequestBody,
        assertion: &Assertion,
        principal: &Principal,
        route: &str,
        provenance: &Provenance,
        exchange: &Exchange,
    ) {
        let now = self.clock.now().wall;
        // An id from a trusted peer may come twice, and a service that refuses replays would refuse the second.
        let own_id = provenance.request_id.as_ref().map(|_| self.ids.next(now));
        let token_id = own_id.as_ref().unwrap_or(&exchange.request_id);
        let held = body.held();
        let request = assertion::Request {
            key_id: &principal.key_id,
            org_code: principal.org_code.as_deref(),
            user_id: principal.user_id.as_deref(),
            scopes: principal.scopes.names(),
            route,
            method: parts.method.as_str(),
            path: parts.uri.path_and_query().map_or("/", PathAndQuery::as_str),
            request_id: exchange.request_id(),
            token_id: token_id.to_str().unwrap_or_default(),
            body: held.as_deref(),
        };
        let token = assertion.state(&request, now);
        parts.headers.insert(assertion.header.clone(), token);
    }

    /// Answers with a refusal. What is left of the request's body is read within bounds, or the connection closes.
    async fn refuse(
        &self,
        refusal: &Refusal,
        body: Option<Incoming>,
        client_waits: bool,
        exchange: &mut Exchange,
    ) -> (http::response::Parts, Delivery) {
        refusal.log(exchange.request_id(), exchange.route_id());
        let answer = match exchange.is_grpc {
            true => grpc::trailers_only(refusal.end_of_call()),
            false => refusal.response(exchange.format(), exchange.request_id()),
        };
        let (mut head, bytes) = answer.into_parts();
        let drained = match body.or_else(|| exchange.rest_of_body()) {
            Some(body) if body.is_end_stream() => true,
            Some(body) if !client_waits => request::drain(body).await,
            Some(_) => false,
            None => !matches!(refusal, Refusal::BodyTooLarge | Refusal::RequestTimeout | Refusal::RequestAborted),
        };
        if !drained {
            head.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        head.headers.insert(names::REQUEST_ID, exchange.request_id.clone());
        head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
        if !matches!(refusal, Refusal::RequestAborted) {
            // Whoever broke off the request does not read the answer; the record says that the client left.
            exchange.answered(head.status.as_u16(), Some(refusal.code()));
        }
        (head, Delivery::Held { rest: bytes, lease: None })
    }
}

/// A transfer coding beside `chunked` would be taken off the body without being undone (RFC 9112 §6.1).
fn strip(parts: &mut http::request::Parts) -> Result<(), Refusal> {
    let codings = parts.headers.get_all(header::TRANSFER_ENCODING).iter();
    if codings.into_iter().any(|value| !value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked")) {
        return Err(Refusal::BadBody("the only transfer coding is chunked".to_owned()));
    }
    remove_hop_by_hop(&mut parts.headers);
    join_cookies(&mut parts.headers);
    remove_trusted(&mut parts.headers);
    Ok(())
}

/// Whose bucket a limit charges. A caller without the owner that the limit counts by is counted by the next
/// narrower one, never not at all.
fn owner(by: Subject, route: &Arc<str>, principal: Option<&Arc<Principal>>, client: IpAddr) -> BucketOwner {
    let key = || match principal {
        Some(principal) => BucketOwner::Key(Arc::clone(&principal.key_id)),
        None => BucketOwner::address(client),
    };
    match by {
        Subject::Key => key(),
        Subject::Organization => {
            principal.and_then(|key| key.org_code.clone()).map_or_else(key, BucketOwner::Organization)
        }
        Subject::User => principal.and_then(|key| key.user_id.clone()).map_or_else(key, BucketOwner::User),
        Subject::Route => BucketOwner::Route(Arc::clone(route)),
        Subject::Address => BucketOwner::address(client),
    }
}

fn finish(head: &mut http::response::Parts, admission: &Admission, exchange: &mut Exchange) {
    if let Some(quota) = admission.tightest() {
        quota::stamp(&mut head.headers, quota);
    }
    head.headers.insert(names::REQUEST_ID, exchange.request_id.clone());
    head.version = http::Version::HTTP_11;
    exchange.answered(head.status.as_u16(), None);
    let status = head.status.as_u16();
    if head.status.is_server_error() {
        tracing::error!(request_id = exchange.request_id(), route = exchange.route_id(), status, "AI request failed");
    }
}
