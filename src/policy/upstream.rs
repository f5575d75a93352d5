//! Where requests go.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use crate::assertion::Assertion;

/// A compiled upstream.
#[derive(Debug)]
pub struct Upstream {
    pub name: Arc<str>,
    pub endpoint: Endpoint,
    pub timeouts: Timeouts,
    /// How long an idle connection is kept; shorter than the service keeps it.
    pub keepalive: Duration,
    /// Set on every request to this upstream.
    pub set_headers: Vec<(HeaderName, HeaderValue)>,
    /// What tells the service, under a signature, who is calling; a route may have another.
    pub assertion: Option<Arc<Assertion>>,
}

/// An address to connect to, resolved at connect time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Host name or IP address, without brackets.
    pub host: Box<str>,
    pub port: u16,
}

impl Endpoint {
    /// `host:port`, an IPv6 address in brackets.
    pub fn authority(&self) -> String {
        let Self { host, port } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.authority())
    }
}

/// How long each wait for an upstream may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    pub connect: Duration,
    /// From the last byte of the request to the response head.
    pub first_byte: Duration,
    /// Between two pieces of a body, either way.
    pub idle: Duration,
}
