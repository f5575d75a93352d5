//! What is enforced: immutable compiled data.
//!
//! Enters: values that `config` has checked. Leaves: one [`Policy`], which a request holds from its first stage to
//! its record, so that a reload never changes the rules in the middle of a request.
//!
//! Invariant: nothing here does I/O, awaits, reads a clock or changes after it was built.

mod cors;
mod credential;
mod inspect;
mod owner;
mod path;
mod peer;
mod rate;
mod resilience;
mod route;
mod route_table;
mod upstream;

pub use cors::{Cors, OriginPattern, Origins};
pub use credential::{Place, SecretString};
pub use inspect::{BodyClass, Inspect, Unscannable};
pub use owner::{InvalidOwner, KeyScopes, KeyTerms, Principal, UseCounter, canonical_range};
pub use path::{BadPath, PathPattern, PatternError, canonical_path};
pub use peer::{CertificateName, Gatekeeper, TurnedAway};
pub use rate::{Limit, Rate, Subject};
pub use resilience::{Breaker, Concurrency, Ejection, HealthCheck, Retries};
pub use route::{Access, ErrorFormat, Methods, MissingScope, Route, Scopes};
pub use route_table::{Matched, RouteTable, TableError};
pub use upstream::{CertificateFiles, Endpoint, Http2, MAX_ENDPOINTS, Timeouts, Upstream, UpstreamTls};

use std::sync::Arc;

use ipnet::IpNet;

/// The whole policy of one configuration file. A request takes one `Arc` of it and keeps it.
#[derive(Debug)]
pub struct Policy {
    pub routes: RouteTable,
    /// What an unmatched path is measured by: it has no route of its own, and must not be cheaper to probe.
    pub unmatched: Unmatched,
    /// Peers whose `Forwarded`, `X-Forwarded-*` and request id headers count.
    pub trusted_proxies: Vec<IpNet>,
    /// What a client address pays from for each verification that is not answered by the cache.
    pub auth_failures: Arc<Limit>,
    /// The public keys of all assertions, as a JWK set.
    pub key_set: String,
}

/// How a request without a route is judged, and charged.
#[derive(Debug)]
pub struct Unmatched {
    pub credentials: Arc<[Place]>,
    pub limits: Arc<[Arc<Limit>]>,
    pub gatekeeper: Gatekeeper,
    pub cors: Option<Arc<Cors>>,
}
