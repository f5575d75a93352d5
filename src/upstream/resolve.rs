//! Names to addresses.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;

/// Addresses that are about to be known.
pub type Resolving = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// What answers for names.
pub trait Resolve: fmt::Debug + Send + Sync {
    /// All addresses of `host`, the one to try first in front.
    fn resolve(&self, host: &str, port: u16) -> Resolving;
}

/// The system's resolver: what `/etc/hosts`, `nsswitch.conf` and `resolv.conf` say to every other program holds here
/// too, search lists included. It tells no TTL, so names are asked for anew at a fixed pace.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, host: &str, port: u16) -> Resolving {
        let host = host.to_owned();
        Box::pin(async move { Ok(tokio::net::lookup_host((host.as_str(), port)).await?.collect()) })
    }
}
