//! `Origin -> Proxy -> client`: a service that records what reaches it, the real server in this process, and a
//! client that can send what no HTTP library would.

mod client;
mod kinde;
mod origin;
mod process;
mod proxy;
mod wire;

pub use client::{Answer, Connection, Request};
pub use kinde::{BadKey, CLIENT_SECRET, Kinde, jwt};
pub use origin::{Origin, Received, Reply};
pub use process::{Process, keyward, keyward_in, python, ready_address, repository};
pub use proxy::Proxy;
pub use wire::{Framing, Head, Reader};
