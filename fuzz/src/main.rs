//! Fuzz targets: what a stranger or an operator may send, into the code that reads it.
//!
//! Bytes that libFuzzer makes up enter; a panic leaves where a promise is broken. `KEYWARD_FUZZ` names the target,
//! `scripts/fuzz.sh` runs all of them, and `corpus/` holds the inputs that each begins with. One program for all, because
//! linking it takes longer than any of them needs to start.

#![no_main]

mod body;
mod config;
mod decode;
mod input;
mod lexer;
mod multipart;
mod rules;
mod sse;
mod websocket;
mod wire;

use std::sync::LazyLock;

use keyward::scan;
use libfuzzer_sys::{Corpus, fuzz_target};

use input::Input;

type Target = fn(&Input<'_>);

const TARGETS: [(&str, Target); 8] = [
    ("lexer", lexer::check),
    ("sse", sse::check),
    ("multipart", multipart::check),
    ("decode", decode::check),
    ("body", body::check),
    ("wire", wire::check),
    ("websocket", websocket::check),
    ("config", config::check),
];

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let wanted = std::env::var("KEYWARD_FUZZ").unwrap_or_default();
    match TARGETS.iter().find(|(name, _)| *name == wanted) {
        Some((_, target)) => *target,
        None => panic!("KEYWARD_FUZZ must be one of {:?}", TARGETS.map(|(name, _)| name)),
    }
});

fuzz_target!(|data: &[u8]| -> Corpus {
    match Input::new(data) {
        Some(input) => {
            TARGET(&input);
            Corpus::Keep
        }
        None => Corpus::Reject,
    }
});
