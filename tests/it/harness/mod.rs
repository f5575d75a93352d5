//! `Origin -> Proxy -> client`: a service that records what reaches it, the real server in this process, and a
//! client that can send what no HTTP library would.

mod client;
mod encode;
mod kinde;
mod origin;
pub mod postgres;
mod process;
mod proxy;
mod tls;
mod tunnel;
mod wire;

use std::fs::OpenOptions;
use std::io::Write as _;
use std::time::Duration;

pub use client::{Answer, Connection, Request};
pub use encode::{CODINGS, encode, encode_events};
pub use kinde::{BadKey, CLIENT_SECRET, Kinde, Paging, forbidden, jwt};
pub use origin::{Origin, Received, Reply};
pub use process::{Process, keyward, keyward_in, node_packages, python, ready_address, repository};
pub use proxy::Proxy;
pub use tls::{Authority, Certified, shake};
pub use tunnel::Tunnels;
pub use wire::{Framing, Head, Reader};

/// Far longer than anything takes that is going to happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// What `work` comes to. What never comes fails the test by its name instead of holding up all of them.
pub async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("{what} took longer than {PATIENCE:?}"))
}

/// Prints what was measured, and adds it to the file that `KEYWARD_FIGURES` names, if it names one: a test that passes
/// is not heard otherwise.
pub fn figures(text: &str) {
    print!("{text}");
    let Some(path) = std::env::var_os("KEYWARD_FIGURES") else { return };
    let lines: String = text.lines().map(|line| format!("figure\t{line}\n")).collect();
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.and_then(|mut file| file.write_all(lines.as_bytes())).expect("the file of KEYWARD_FIGURES");
}
