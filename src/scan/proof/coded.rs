//! Bodies that are coded on their way: gzip, deflate in both shapes, brotli, zstd, and any two of them.

use super::{
    Sending, demand, expect, texts,
    wire::{self, SIZE},
    writer::{Case, Framing, case},
};
use crate::scan::{
    Codings, Decoder,
    decode::{Fed, Limit},
    testing::{
        Random, chunks,
        encoder::{ALL, Encoder},
        prove,
    },
};

/// Of each property.
const CASES: u32 = 100_000;

/// What is done to a body before it is cut.
#[derive(Debug)]
pub(super) struct Coding {
    encoder: Encoder,
    outer: Option<Encoder>,
    /// The lengths of what is flushed at once, used round and round.
    flushes: Vec<usize>,
}

impl Coding {
    pub(super) fn new(random: &mut Random) -> Self {
        Self {
            encoder: *random.pick(&ALL),
            outer: random.once_in(4).then(|| *random.pick(&ALL)),
            flushes: (0..1 + random.below(3)).map(|_| 1 + random.below(9).pow(2)).collect(),
        }
    }

    /// What the chunks of the coded body decode to, but for those that decode to nothing.
    ///
    /// # Errors
    /// If it is not the body, or if what was flushed waits for what comes behind it.
    pub(super) fn chunks(&self, body: &[u8], cuts: &[usize]) -> Result<Vec<Vec<u8>>, String> {
        let events = chunks(body, &self.flushes);
        let mut pieces = self.encoder.light_pieces(&events);
        let mut names = self.encoder.name().to_vec();
        if let Some(outer) = self.outer {
            let inner: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            pieces = outer.light_pieces(&inner);
            names.extend([b", ", outer.name()].concat());
        }
        let coded = pieces.concat();
        let codings = Codings::parse([&names[..]])?;
        let mut decoder = Decoder::new(codings, Limit::Ratio).ok_or("no decoder")?;
        let mut flushed = pieces.iter().zip(&events).map(|(piece, event)| (piece.len(), event.len()));
        let (mut decoded, mut read, mut owed, mut next) = (Vec::new(), 0, 0, flushed.next());
        let mut written = 0;
        for mut chunk in chunks(&coded, cuts) {
            read += chunk.len();
            let mut out = Vec::new();
            while decoder.feed(&mut chunk, &mut out).map_err(|error| format!("{error:?}"))? == Fed::Full {}
            written += out.len();
            while let Some((piece, event)) = next.filter(|(piece, _)| *piece <= read) {
                (read, owed, next) = (read - piece, owed + event, flushed.next());
            }
            demand(written >= owed, || format!("{written} bytes came of a chunk's end, and {owed} were flushed"))?;
            decoded.push(out);
        }
        expect("the end of a coded body", decoder.finish(), Ok(()))?;
        expect("a coded body", decoded.concat(), body.to_vec())?;
        decoded.retain(|chunk| !chunk.is_empty());
        Ok(decoded)
    }
}

fn coded(framing: Framing) -> impl Fn(&mut Random, usize) -> Case {
    move |random, size| {
        let mut case = case(framing, random, size);
        case.sending = Sending::coded(random);
        case
    }
}

fn of_texts(make: fn(&mut Random, usize) -> texts::Case) -> impl Fn(&mut Random, usize) -> texts::Case {
    move |random, size| {
        let mut case = make(random, size);
        case.sending = Sending::coded(random);
        case
    }
}

#[test]
fn a_coded_body_is_what_was_encoded_however_it_is_flushed_and_cut() {
    let noise = |random: &mut Random, size| {
        let kinds = *random.pick(&[2, 16, 256]);
        let body: Vec<u8> = (0..random.below(size * 8)).map(|_| random.below(kinds) as u8).collect();
        (body, Sending::coded(random))
    };
    prove(CASES, 32, noise, |(body, sending)| sending.chunks(body).map(drop));
}

#[test]
fn of_coded_events_no_byte_of_a_match_leaves() {
    prove(CASES, SIZE, coded(Framing::Events), wire::blocks_exactly);
}

#[test]
fn of_coded_lines_no_byte_of_a_match_leaves() {
    prove(CASES, SIZE, coded(Framing::Lines), wire::blocks_exactly);
}

#[test]
fn coded_events_are_redacted_text_by_text() {
    prove(CASES, SIZE, coded(Framing::Events), wire::redacts_exactly);
}

#[test]
fn coded_lines_are_redacted_text_by_text() {
    prove(CASES, SIZE, coded(Framing::Lines), wire::redacts_exactly);
}

#[test]
fn a_coded_text_leaves_up_to_the_first_byte_that_may_begin_a_match() {
    prove(CASES, 24, of_texts(texts::plain), texts::leaves_what_begins_no_match);
}

#[test]
fn a_coded_text_is_redacted_as_replace_all_does() {
    prove(CASES, 24, of_texts(texts::plain), texts::redacts_exactly);
}

#[test]
fn a_coded_document_leaves_whole_or_not_at_all() {
    prove(CASES, 6, of_texts(texts::document), texts::leaves_whole_or_not_at_all);
}
