//! One route: what a request must bring, and what is done with it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};

use crate::assertion::Assertion;
use crate::context::Context;

use super::{Cors, Gatekeeper, Inspect, Limit, PathPattern, Place, Principal, Upstream};

/// A compiled route.
#[derive(Debug)]
pub struct Route {
    pub id: Arc<str>,
    /// Lower-case host without port; `None` matches every host.
    pub host: Option<Box<str>>,
    pub path: PathPattern,
    pub methods: Methods,
    /// Who may come at all.
    pub gatekeeper: Gatekeeper,
    /// What browsers are told.
    pub cors: Option<Arc<Cors>>,
    pub access: Access,
    pub credentials: Arc<[Place]>,
    pub limits: Arc<[Arc<Limit>]>,
    pub request: Inspect,
    pub response: Inspect,
    pub upstream: Arc<Upstream>,
    /// The upstream's, unless the route has its own or none.
    pub assertion: Option<Arc<Assertion>>,
    /// What is put into the prompt.
    pub context: Option<Arc<Context>>,
    pub format: ErrorFormat,
    /// Whether the client is told whose key it used, in the headers of the response.
    pub echo_identity: bool,
    /// Names with an underscore that this route lets through (lower case); never a trusted name.
    pub underscore_headers: Vec<HeaderName>,
    /// Trailers that pass, beside those of gRPC; never a trusted name.
    pub trailers: Arc<[HeaderName]>,
    /// Whether a connection may become a WebSocket.
    pub websocket: bool,
    /// A response slower than this is a warning in the log.
    pub slow: Duration,
}

/// Who may use a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anyone; nothing is verified or stamped.
    Public,
    /// A valid key that satisfies the scopes.
    Key(Scopes),
    /// Roll-out: keyless callers pass and are counted, a key that is given must be valid.
    Observe(Scopes),
}

/// Scopes that a key must hold; an empty list asks for none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scopes {
    All(Vec<Arc<str>>),
    Any(Vec<Arc<str>>),
}

impl Scopes {
    /// Checks the key's scopes; the error names what was missing.
    pub fn check(&self, principal: &Principal) -> Result<(), MissingScope> {
        match self {
            Self::All(wanted) => match wanted.iter().find(|scope| !principal.has_scope(scope)) {
                None => Ok(()),
                Some(scope) => Err(MissingScope::One(Arc::clone(scope))),
            },
            Self::Any(wanted) if wanted.is_empty() => Ok(()),
            Self::Any(wanted) if wanted.iter().any(|scope| principal.has_scope(scope)) => Ok(()),
            Self::Any(wanted) => Err(MissingScope::OneOf(wanted.clone())),
        }
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (list, prefix) = match self {
            Self::All(list) => (list, ""),
            Self::Any(list) => (list, "any of "),
        };
        if list.is_empty() { f.write_str("-") } else { write!(f, "{prefix}{}", list.join(", ")) }
    }
}

/// What [`Scopes::check`] found missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MissingScope {
    One(Arc<str>),
    OneOf(Vec<Arc<str>>),
}

impl MissingScope {
    /// The scopes as `scope="…"` of RFC 6750 §3 wants them.
    pub fn scope_list(&self) -> String {
        match self {
            Self::One(scope) => scope.to_string(),
            Self::OneOf(scopes) => scopes.join(" "),
        }
    }
}

impl fmt::Display for MissingScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(scope) => f.write_str(scope),
            Self::OneOf(scopes) => write!(f, "one of {}", scopes.join(", ")),
        }
    }
}

/// The methods of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Methods {
    Any,
    /// As configured, plus `HEAD` wherever `GET` stands (RFC 9110 §9.3.2).
    Listed(Vec<Method>),
}

impl Methods {
    /// `listed` empty means any method.
    pub fn new(mut listed: Vec<Method>) -> Self {
        if listed.is_empty() {
            return Self::Any;
        }
        if listed.contains(&Method::GET) && !listed.contains(&Method::HEAD) {
            listed.push(Method::HEAD);
        }
        Self::Listed(listed)
    }
}

impl fmt::Display for Methods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Listed(list) => {
                let names: Vec<_> = list.iter().map(Method::as_str).collect();
                f.write_str(&names.join(", "))
            }
        }
    }
}

/// Whose error shape a refusal takes on this route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ErrorFormat {
    #[default]
    Keyward,
    OpenAi,
    Anthropic,
}
