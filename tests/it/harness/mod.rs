//! `Origin -> Proxy -> client`: a service that records what reaches it, the real server in this process, and a
//! client that can send what no HTTP library would.

mod client;
mod encode;
mod kinde;
mod origin;
pub mod postgres;
mod process;
mod proxy;
pub mod secrets;
mod service;
mod tls;
mod tunnel;
mod wire;

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write as _;
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

/// Says what was measured, a line for each, past the test program, which hides what passing tests print; and adds it to
/// the file that `KEYWARD_FIGURES` names, if it names one.
pub fn report(measured: impl Display) {
    let measured = measured.to_string();
    let lines = |prefix: &str| measured.lines().map(|line| format!("{prefix}{line}\n")).collect::<String>();
    let _ = std::io::stderr().write_all(lines("measured: ").as_bytes());
    let Some(path) = std::env::var_os("KEYWARD_FIGURES") else { return };
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.and_then(|mut file| file.write_all(lines("figure\t").as_bytes())).expect("the file of KEYWARD_FIGURES");
}

/// What `work` comes to. What never comes fails the test by its name instead of holding up all of them.
pub async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("{what} took longer than {PATIENCE:?}"))
}
