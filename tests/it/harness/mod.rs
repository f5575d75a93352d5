//! `Origin -> Proxy -> client`: a service that records what reaches it, the real server in this process, and a
//! client that can send what no HTTP library would.

mod client;
mod encode;
mod kinde;
mod origin;
pub mod postgres;
mod process;
mod proxy;
mod service;
mod tls;
mod tunnel;
mod wire;

use std::time::Duration;

pub use client::{Answer, Connection, Request};
pub use encode::{CODINGS, encode, encode_events};
pub use kinde::{BadKey, CLIENT_SECRET, Kinde, Paging, forbidden, jwt};
pub use origin::{Origin, Received, Reply};
pub use process::{Process, keyward, keyward_in, node_packages, python, ready_address, repository};
pub use proxy::Proxy;
pub use service::{Kind, Service};
pub use tls::{Authority, Certified, shake};
pub use tunnel::Tunnels;
pub use wire::{Framing, Head, Reader};

/// Far longer than anything takes that is going to happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// What `work` comes to. What never comes fails the test by its name instead of holding up all of them.
pub async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("{what} took longer than {PATIENCE:?}"))
}
