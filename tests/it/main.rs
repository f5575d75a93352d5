//! All integration tests, in one binary. A case is an origin, a proxy before it, and a request; `harness` makes
//! each of them one line. Cases are grouped by what they are about, not by the module they exercise.

#![allow(clippy::panic, reason = "a test fails by panicking")]

mod harness;

mod admittance;
mod bodies;
mod cli;
mod context;
mod demo;
mod encodings;
mod examples;
mod failing;
mod false_positives;
mod fuzz_lock;
mod grpc;
mod http2;
mod identity;
mod inspection;
mod interim;
mod keys;
mod keys_api;
mod keys_cli;
mod keys_running;
mod kinde;
mod kinde_cache;
mod kinde_list;
mod kinde_secret;
mod kinde_way;
mod large;
mod layering;
mod lifecycle;
mod limits;
mod matrix;
mod overload;
mod postgres;
mod refusals;
mod routing;
mod scan;
mod sdks;
mod secrets;
mod spoofing;
mod streaming;
mod tls;
mod trailers;
mod upstream_tls;
mod upstreams;
mod vectors;
mod watching;
mod websocket;
mod websocket_wire;
