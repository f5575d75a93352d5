//! Where requests go.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::resilience::{Breaker, Concurrency, Ejection, HealthCheck, Retries};
use crate::assertion::Assertion;

/// Most endpoints of one upstream.
pub const MAX_ENDPOINTS: usize = 64;

/// A compiled upstream.
#[derive(Debug)]
pub struct Upstream {
    pub name: Arc<str>,
    /// At least one, at most [`MAX_ENDPOINTS`], no two alike.
    pub endpoints: Vec<Endpoint>,
    /// For the `https://` ones.
    pub tls: UpstreamTls,
    pub http2: Http2,
    pub timeouts: Timeouts,
    /// How long an idle connection is kept; shorter than the service keeps it.
    pub keepalive: Duration,
    /// Connections to each endpoint that every worker keeps open before anybody asks for them.
    pub warm: usize,
    /// How often the names of endpoints are asked for again.
    pub resolve: Duration,
    /// Without it there is no limit.
    pub max_concurrent: Option<Concurrency>,
    pub eject: Option<Ejection>,
    pub breaker: Option<Breaker>,
    pub retries: Option<Retries>,
    pub health: Option<HealthCheck>,
    /// Set on every request to this upstream.
    pub set_headers: Vec<(HeaderName, HeaderValue)>,
    /// What tells the service, under a signature, who is calling; a route may have another.
    pub assertion: Option<Arc<Assertion>>,
}

impl Upstream {
    /// The `Host` of a request whose client named none.
    pub fn authority(&self) -> String {
        self.endpoints.first().map(Endpoint::authority).unwrap_or_default()
    }
}

/// An address to connect to, resolved at connect time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    Tcp {
        tls: bool,
        /// Host name or IP address, without brackets.
        host: Box<str>,
        port: u16,
    },
    /// The file of a Unix socket.
    Unix(PathBuf),
}

impl Endpoint {
    /// `host:port`, an IPv6 address in brackets; a Unix socket is on this machine.
    pub fn authority(&self) -> String {
        match self {
            Self::Tcp { host, port, .. } if host.contains(':') => format!("[{host}]:{port}"),
            Self::Tcp { host, port, .. } => format!("{host}:{port}"),
            Self::Unix(_) => "localhost".to_owned(),
        }
    }

    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tcp { tls: true, .. })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { tls, .. } => write!(f, "{}://{}", if *tls { "https" } else { "http" }, self.authority()),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Whom the `https://` endpoints of an upstream are believed to be, and who we are to them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamTls {
    /// A PEM file of the authorities to trust in place of the system's.
    pub ca: Option<PathBuf>,
    /// The name that the certificate must have, where it is not the host of the endpoint.
    pub server_name: Option<Box<str>>,
    /// What is shown to a service that asks for a certificate.
    pub certificate: Option<CertificateFiles>,
}

/// A certificate with its chain, and its key, both in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// Which HTTP an upstream is spoken to in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http2 {
    /// Whatever a TLS handshake agrees on; HTTP/1.1 without TLS.
    Auto,
    /// HTTP/2 and nothing else: without TLS by prior knowledge (RFC 9113 §3.3).
    Always,
    Never,
}

/// How long each wait for an upstream may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From the name of the service to a connection that is ready for a request.
    pub connect: Duration,
    /// From the last byte of the request to the response head.
    pub first_byte: Duration,
    /// Between two pieces of a body, either way.
    pub idle: Duration,
    /// From the beginning of the request to the end of its response.
    pub total: Option<Duration>,
}
