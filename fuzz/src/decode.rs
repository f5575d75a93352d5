//! Content codings, one and two of them.

use keyward::scan::decode::{Fed, Limit, MAX_WINDOW, STEP};
use keyward::scan::{Codings, DecodeError, Decoder};

use crate::input::Input;

const NAMES: [&str; 4] = ["gzip", "deflate", "br", "zstd"];

/// The most that an input may decode to here, so that a run is over soon.
const MOST: u64 = 256 << 10;

/// What one decoder may take: a window, and the tables and buffers beside it.
const MEMORY: usize = MAX_WINDOW + (1 << 20);

fn decode(codings: Codings, limit: Limit, chunks: &[&[u8]]) -> Result<Vec<u8>, DecodeError> {
    let Some(mut decoder) = Decoder::new(codings, limit) else { return Ok(chunks.concat()) };
    let mut out = Vec::new();
    for chunk in chunks {
        let mut rest = *chunk;
        loop {
            let (before, left) = (out.len(), rest.len());
            let fed = decoder.feed(&mut rest, &mut out);
            assert!(out.len() - before <= STEP, "a step of {} bytes", out.len() - before);
            assert!(decoder.memory() <= 2 * MEMORY, "{} bytes of memory", decoder.memory());
            if let Err(error) = fed {
                assert_eq!(decoder.feed(&mut rest, &mut out), Err(error), "an error stays");
                return Err(error);
            }
            if out.len() as u64 > MOST {
                return Ok(out);
            }
            if fed == Ok(Fed::Hungry) {
                assert!(rest.is_empty(), "input is left");
                break;
            }
            assert!(out.len() > before || rest.len() < left, "a step that leads nowhere");
        }
    }
    decoder.finish()?;
    Ok(out)
}

pub fn check(input: &Input<'_>) {
    let first = *input.pick(0, &NAMES);
    let stacks = [first.to_owned()].into_iter().chain(NAMES.map(|second| format!("{first}, {second}")));
    let stacks: Vec<_> = stacks.collect();
    let name = input.pick(1, &stacks);
    let codings = Codings::parse([name.as_bytes()]).expect("known codings");
    for limit in [Limit::Total(MOST / 4), Limit::Ratio] {
        let whole = decode(codings, limit, &[input.body]);
        let cut = decode(codings, limit, &input.chunks());
        let is_long = |result: &Result<Vec<u8>, _>| result.as_ref().is_ok_and(|out| out.len() as u64 > MOST);
        // What comes behind that is not waited for, and of a damaged body more or less may leave before the error.
        if is_long(&whole) || is_long(&cut) {
            assert_eq!(limit, Limit::Ratio, "{name}: more than its limit");
            continue;
        }
        assert_eq!(whole.is_ok(), cut.is_ok(), "{name}: {:?} whole, {:?} cut", whole.err(), cut.err());
        if let (Ok(whole), Ok(cut)) = (whole, cut) {
            assert!(whole == cut, "{name}: cuts make no difference");
            assert!(limit == Limit::Ratio || whole.len() as u64 <= MOST / 4, "{name}: more than its limit");
        }
    }
}
