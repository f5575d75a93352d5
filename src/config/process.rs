//! What a process is started with. A reload cannot change it; whoever reloads compares two of these.

use std::time::Duration;

use ipnet::IpNet;

use crate::admin::Exposed;
use crate::key_service::Tokens;
use crate::listener::TlsSpec;
use crate::policy::SecretString;

pub use super::address::{Address, BadAddress, ListenAddress};
pub use crate::auth::{CacheSpec, Credentials, ForwardProxy, KindeSpec, Origin, ProxyCredentials};
pub use crate::keys::{PostgresSpec, PostgresTls, StorePlace};
pub use crate::observe::UsageOutput;
pub use crate::trust::TrustedCertificates;

/// More header fields than any client sends; a message with more is refused by the HTTP layer.
pub const MAX_HEADERS: usize = 100;

/// Everything of the configuration that is no policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// The key service, where there is one.
    pub serve: Option<ServeSpec>,
    /// Nothing where the process is a key service alone.
    pub listen: Vec<ListenAddress>,
    /// Of the TCP listeners; Unix sockets stay in the clear.
    pub tls: Option<TlsSpec>,
    /// Peers that begin each connection with a PROXY header.
    pub proxy_protocol: Vec<IpNet>,
    pub max_connections: usize,
    /// The whole head of a request.
    pub max_header_bytes: usize,
    /// Requests that one HTTP/2 connection may have open.
    pub max_streams: u32,
    /// How long a TLS handshake may take.
    pub handshake_timeout: Duration,
    /// How long a client may take for the head of a request.
    pub header_timeout: Duration,
    /// How long a client may pause within a body.
    pub body_timeout: Duration,
    /// How long a client may take nothing of a response.
    pub write_timeout: Duration,
    /// How long everything is served as before after a stop was asked for.
    pub delay: Duration,
    /// How long requests may go on after a stop was asked for, the delay included.
    pub grace: Duration,
    pub admin: Option<AdminSpec>,
    pub health: Option<HealthSpec>,
    /// What readiness makes of a service that can be reached past the proxy.
    pub exposed: Exposed,
    /// One budget for all held bodies, in bytes.
    pub memory: usize,
    pub verifier: VerifierSpec,
    pub cache: CacheSpec,
    pub usage: UsageOutput,
}

impl Process {
    /// The sections in which two files differ: what waits for a restart.
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let listen = |process: &Self| {
            let Self { max_connections, max_header_bytes, max_streams, .. } = process;
            let Self { handshake_timeout, header_timeout, body_timeout, write_timeout, .. } = process;
            let timeouts = [*handshake_timeout, *header_timeout, *body_timeout, *write_timeout];
            (*max_connections, *max_header_bytes, *max_streams, timeouts)
        };
        let sockets = self.listen == other.listen && self.tls == other.tls;
        let same_listen = sockets && self.proxy_protocol == other.proxy_protocol && listen(self) == listen(other);
        [
            ("listen", same_listen),
            ("shutdown", self.delay == other.delay && self.grace == other.grace),
            ("admin", self.admin == other.admin),
            ("health", self.health == other.health && self.exposed == other.exposed),
            ("memory", self.memory == other.memory),
            ("keys", self.verifier.is_same_but_for_secrets(&other.verifier)),
            ("keys.serve", self.serve.as_ref().map(ServeSpec::fixed) == other.serve.as_ref().map(ServeSpec::fixed)),
            ("keys.cache", self.cache == other.cache),
            ("usage", self.usage == other.usage),
        ]
        .into_iter()
        .filter_map(|(section, same)| (!same).then_some(section))
        .collect()
    }
}

/// The admin port. Every endpoint of it needs the token.
#[derive(Clone, Debug)]
pub struct AdminSpec {
    pub address: Address,
    pub token: SecretString,
}

impl PartialEq for AdminSpec {
    /// Compares two configurations of one operator, never a caller's guess: constant time is not needed here.
    fn eq(&self, other: &Self) -> bool {
        self.address == other.address && self.token.expose() == other.token.expose()
    }
}

impl Eq for AdminSpec {}

/// The key service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServeSpec {
    pub address: Address,
    pub tls: Option<TlsSpec>,
    /// Taken over by a reload.
    pub tokens: Tokens,
    pub max_connections: usize,
}

impl ServeSpec {
    /// What only a restart can change.
    fn fixed(&self) -> (&Address, &Option<TlsSpec>, usize) {
        (&self.address, &self.tls, self.max_connections)
    }
}

/// The port for probes and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthSpec {
    pub address: Address,
}

/// What decides whether a key is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VerifierSpec {
    Store(StoreSpec),
    Kinde(KindeSpec),
}

impl VerifierSpec {
    /// Whether nothing differs but secrets that a reload can replace: those that Kinde is shown.
    fn is_same_but_for_secrets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Kinde(kinde), Self::Kinde(other)) => {
                let credentials = other.credentials.clone();
                kinde.credentials.is_same_but_for_secrets(&credentials)
                    && KindeSpec { credentials, ..kinde.clone() } == *other
            }
            _ => self == other,
        }
    }
}

/// The embedded key store.
#[derive(Clone, Debug)]
pub struct StoreSpec {
    pub place: StorePlace,
    /// What new keys begin with.
    pub prefix: String,
    /// Secrets that the digests of keys are computed with, the present one first.
    pub peppers: Vec<SecretString>,
}

impl PartialEq for StoreSpec {
    /// As that of [`AdminSpec`].
    fn eq(&self, other: &Self) -> bool {
        let peppers = self.peppers.iter().map(SecretString::expose);
        self.place == other.place
            && self.prefix == other.prefix
            && peppers.eq(other.peppers.iter().map(SecretString::expose))
    }
}

impl Eq for StoreSpec {}
