//! What inspection promises, tried on streams that are made by chance, against readers that see the whole.
//!
//! * No leak: of no text does a byte leave that belongs to a match, finished or not.
//! * Minimal hold: what cannot become a match has left.
//! * Cuts make no difference: not to what leaves, not to when, not to the verdict.
//! * Redaction is `Regex::replace_all` of each text, and touches nothing else.
//! * What is clean leaves byte for byte.
//!
//! All of it holds too of a body that is coded, flushed anywhere, cut anywhere, and decoded on its way.
//!
//! The readers are `serde_json`, the regex crate, and what the standards say of events and lines. None of the code
//! under test takes part, but for the scanner of one text in the question how long it waits: that one is held against
//! every match of every short text by `block::tests`.

mod coded;
mod mixed;
mod reader;
mod rules;
mod texts;
mod wire;
mod writer;

use std::borrow::Cow;

use crate::scan::{StreamFormat, StreamRules, StreamScanner, StreamStop};

use super::testing::Random;
use coded::Coding;

/// What left of a body, and what is known of it at its end.
#[derive(Debug, PartialEq)]
struct Outcome {
    out: Vec<u8>,
    /// How much had left after each of the chunks.
    left: Vec<usize>,
    stop: Option<StreamStop>,
    hits: Vec<(usize, u64)>,
    chars: u64,
}

/// Sends a body through a scanner in chunks.
fn deliver<'a>(rules: &StreamRules, format: StreamFormat, chunks: impl Iterator<Item = &'a [u8]>) -> Outcome {
    let mut scanner = StreamScanner::new(rules.clone(), format, None);
    let (mut out, mut left) = (Vec::new(), Vec::new());
    for chunk in chunks {
        scanner.feed(chunk, &mut out);
        left.push(out.len());
    }
    scanner.finish(&mut out);
    let hits = scanner.hits().iter().map(|hit| (hit.rule, hit.count)).collect();
    Outcome { out, left, stop: scanner.stop(), hits, chars: scanner.chars() }
}

/// Sends a body byte by byte, and once more as a case says, and demands that nobody can tell.
fn deliver_in_two_ways(
    rules: &StreamRules,
    format: StreamFormat,
    body: &[u8],
    sending: &Sending,
) -> Result<Outcome, String> {
    let by_bytes = deliver(rules, format, body.chunks(1));
    let chunks = sending.chunks(body)?;
    let cut = deliver(rules, format, chunks.iter().map(|chunk| &**chunk));
    let mut at = 0;
    for (chunk, left) in chunks.iter().zip(&cut.left) {
        at += chunk.len();
        expect("what has left after a chunk", *left, by_bytes.left[at - 1])?;
    }
    let without_trace = |outcome: &Outcome| (outcome.stop, outcome.hits.clone(), outcome.chars);
    expect("the verdict of a body in chunks", without_trace(&cut), without_trace(&by_bytes))?;
    expect("what left of a body in chunks", shown(&cut.out), shown(&by_bytes.out))?;
    Ok(by_bytes)
}

/// How a body comes.
#[derive(Debug)]
struct Sending {
    /// As lengths, used round and round.
    cuts: Vec<usize>,
    /// What the cuts are made in, if not in the body itself.
    coding: Option<Coding>,
}

impl Sending {
    fn plain(random: &mut Random) -> Self {
        Self { cuts: lengths(random), coding: None }
    }

    fn coded(random: &mut Random) -> Self {
        Self { cuts: lengths(random), coding: Some(Coding::new(random)) }
    }

    /// The chunks of the body that a scanner gets. None of them is empty.
    fn chunks<'a>(&self, body: &'a [u8]) -> Result<Vec<Cow<'a, [u8]>>, String> {
        match &self.coding {
            None => Ok(super::testing::chunks(body, &self.cuts).into_iter().map(Cow::Borrowed).collect()),
            Some(coding) => Ok(coding.chunks(body, &self.cuts)?.into_iter().map(Cow::Owned).collect()),
        }
    }
}

fn lengths(random: &mut Random) -> Vec<usize> {
    (0..1 + random.below(5)).map(|_| 1 + random.below(6).pow(2)).collect()
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Result<(), String> {
    match found == expected {
        true => Ok(()),
        false => Err(format!("{what}: {found:?}, and not {expected:?}")),
    }
}

fn demand(condition: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if condition { Ok(()) } else { Err(what()) }
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
