//! All integration tests, in one binary. A case is an origin, a proxy before it, and a request; `harness` makes
//! each of them one line. Cases are grouped by what they are about, not by the module they exercise.

#![allow(clippy::panic, reason = "a test fails by panicking")]

mod harness;

mod cli;
mod context;
mod demo;
mod examples;
mod http2;
mod identity;
mod inspection;
mod kinde;
mod kinde_cache;
mod layering;
mod lifecycle;
mod limits;
mod postgres;
mod refusals;
mod routing;
mod sdks;
mod spoofing;
mod streaming;
mod tls;
mod upstreams;
