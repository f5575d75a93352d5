//! Keyward: a sidecar that turns an AI service without API keys into one with keys.
//!
//! One process beside one service. A request lives through these stages, in this order, and the order is the
//! security:
//!
//! ```text
//! accept -> strip -> route -> authenticate -> authorize -> admit -> inspect request -> stamp -> forward
//!        -> inspect response -> record
//! ```
//!
//! `pipeline::Pipeline::forward` is that list as code, a stage a line. The modules below are declared in reading
//! order, which is the order of dependency: a module names only those above it (a test checks).
//!
//! What is deliberately absent:
//! * no request goes to the service without a [`auth::Permit`] and a [`limit::Admission`], which only those modules
//!   can make;
//! * no header that Keyward stamps can come from a client, in any spelling;
//! * no answer of a verifier but a clear "valid" admits anybody, and none but a clear "invalid" is told as one;
//! * no clock is read outside [`time`], no environment outside [`cli`], no configuration file below [`config`];
//! * no key, body or client-chosen value in a log line, a metric label or an error.
//!
//! Lexicon:
//! * *route*: what a request must bring and what is done with it, by host, method and path.
//! * *credential*: where and what a caller sent as a key. *Key*: the secret itself. *Key id*: its public name.
//! * *principal*: whom a verified key belongs to. *Owner*: its organization or user.
//! * *permit*: proof that a principal may use a route. *Admission*: proof that its limits were asked.
//! * *limit*: a token bucket's numbers. *Bucket*: one owner's state of it.
//! * *rule*: a pattern with an id. *Action*: what a hit does. *Hit*: a place where a rule matched.
//! * *refusal*: a "no" before the response head. *Abort*: an end after it.
//! * *upstream*: the service behind us. *Peer*: whoever is at the other end of a client connection.
//! * *policy*: everything above, compiled; swapped as a whole on reload.

pub mod time;

pub mod scan;

pub mod context;

pub mod assertion;

pub mod policy;

pub mod headers;

pub mod trust;

pub mod keys;

pub mod limit;

pub mod observe;

pub mod auth;

pub mod upstream;

pub mod pipeline;

pub mod listener;

pub mod admin;

pub mod key_service;

pub mod config;

pub mod server;

pub mod sample;

pub mod cli;
