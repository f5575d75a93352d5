//! Bodies whose content codings come off on the way to the rules.
//!
//! A coded body enters; its text leaves, as it comes or as a whole. Only text that was decoded and scanned goes on, so
//! that no reader can decode the same bytes to something else; where nothing is decided about it, because rules only
//! observe or unreadable content may pass, the body goes on as it came.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::header::{self, HeaderMap};
use http_body::Body;
use tokio::time::Instant;

use super::hold::{HoldError, hold, next_data};
use super::memory::Lease;
use super::response::remove_validators;
use crate::scan::decode::{Fed, Limit, STEP};
use crate::scan::{Codings, DecodeError, Decoder};

/// How a body is to be held.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holding {
    pub(super) codings: Codings,
    /// Most bytes, as they come and as they decode.
    pub(super) max: u64,
    /// Of each piece; `None`: the body keeps its own.
    pub(super) timeout: Option<Duration>,
    /// Whether what is coded is kept as it came, too.
    pub(super) keep: bool,
}

/// A body in memory.
pub(super) struct Held {
    /// What it says, or why that cannot be known.
    pub(super) text: Result<Bytes, &'static str>,
    /// A coded body as it came, where it was to be kept.
    pub(super) raw: Option<Bytes>,
    /// Its length as it came, in bytes.
    pub(super) wire: u64,
}

/// Reads `body` to its end and takes its codings off. Every byte is paid from `lease`; decoders are paid for while they
/// work. A body that cannot be decoded is read to its end only where it is kept.
pub(super) async fn hold_decoded<B>(body: B, how: Holding, lease: &mut Lease) -> Result<Held, HoldError<B::Error>>
where
    B: Body<Data = Bytes>,
{
    let Some(mut decoder) = Decoder::new(how.codings, Limit::Total(how.max)) else {
        let text = hold(body, how.max, how.timeout, lease).await?;
        return Ok(Held { wire: text.len() as u64, text: Ok(text), raw: None });
    };
    let mut body = std::pin::pin!(body);
    let mut working = lease.sibling();
    let mut text = Vec::new();
    let mut problem = None;
    let mut raw = BytesMut::new();
    let mut wire = 0_u64;
    let started = Instant::now();
    // What a client sends counts towards its pace, and not what that decodes to.
    while let Some(data) = next_data(body.as_mut(), how.timeout, started, wire).await? {
        wire += data.len() as u64;
        if wire > how.max {
            return Err(HoldError::TooLarge);
        }
        if how.keep {
            lease.grow(data.len()).map_err(|_| HoldError::NoMemory)?;
            raw.extend_from_slice(&data);
        }
        if problem.is_none() {
            problem = decode_piece(&mut decoder, &data, &mut text, &mut working).await?;
        }
        if problem.is_some() && !how.keep {
            break;
        }
    }
    let problem = problem.or_else(|| decoder.finish().err().and_then(undecodable));
    let text = match problem {
        Some(why) => Err(why),
        None => {
            working.resize(text.len()).map_err(|_| HoldError::NoMemory)?;
            lease.absorb(working);
            Ok(Bytes::from(text))
        }
    };
    Ok(Held { text, raw: how.keep.then(|| raw.freeze()), wire })
}

/// Appends what `data` decodes to. `Some`: why it does not.
async fn decode_piece<E>(
    decoder: &mut Decoder,
    mut data: &[u8],
    text: &mut Vec<u8>,
    working: &mut Lease,
) -> Result<Option<&'static str>, HoldError<E>> {
    /// Steps that one piece may take before others have their turn: a mebibyte.
    const TURN: u32 = 64;
    let mut steps = 0;
    loop {
        let fed = match decoder.feed(&mut data, text) {
            Ok(fed) => fed,
            Err(DecodeError::TooLarge) => return Err(HoldError::TooLarge),
            Err(DecodeError::Undecodable(why)) => {
                text.clear();
                working.resize(0).map_err(|_| HoldError::NoMemory)?;
                return Ok(Some(why));
            }
        };
        working.resize(decoder.memory() + text.len()).map_err(|_| HoldError::NoMemory)?;
        if fed == Fed::Hungry {
            return Ok(None);
        }
        steps += 1;
        if steps % TURN == 0 {
            tokio::task::yield_now().await;
        }
    }
}

fn undecodable(error: DecodeError) -> Option<&'static str> {
    match error {
        DecodeError::Undecodable(why) => Some(why),
        DecodeError::TooLarge => None,
    }
}

/// A coded body that is decoded as it comes, a step at a time.
pub(super) struct Coded {
    decoder: Decoder,
    /// What has come and is not decoded.
    pending: Bytes,
    fed: Fed,
    text: Vec<u8>,
}

impl Coded {
    /// `None` where nothing is coded.
    pub(super) fn new(codings: Codings) -> Option<Box<Self>> {
        let decoder = Decoder::new(codings, Limit::Ratio)?;
        Some(Box::new(Self { decoder, pending: Bytes::new(), fed: Fed::Hungry, text: Vec::new() }))
    }

    /// Whether all that has come is decoded.
    pub(super) fn is_hungry(&self) -> bool {
        self.pending.is_empty() && self.fed == Fed::Hungry
    }

    /// Brings more, once it is hungry.
    pub(super) fn bring(&mut self, data: Bytes) {
        self.pending = data;
    }

    /// How much of what was brought is not decoded, in bytes.
    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Decodes one step of what was brought.
    pub(super) fn step(&mut self) -> Result<&[u8], &'static str> {
        self.text.clear();
        let mut rest = &self.pending[..];
        self.fed = match self.decoder.feed(&mut rest, &mut self.text) {
            Ok(fed) => fed,
            Err(error) => return Err(undecodable(error).unwrap_or("the content is too long")),
        };
        let read = self.pending.len() - rest.len();
        self.pending.advance(read);
        Ok(&self.text)
    }

    /// The body has ended; says why it should not have.
    pub(super) fn finish(&self) -> Result<(), &'static str> {
        self.decoder.finish().map_err(|error| undecodable(error).unwrap_or("the content is too long"))
    }

    /// Memory that this takes, in bytes.
    pub(super) fn memory(&self) -> usize {
        self.decoder.memory() + STEP + self.pending.len()
    }
}

impl std::fmt::Debug for Coded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the text.
        f.debug_struct("Coded").field("pending", &self.pending.len()).finish_non_exhaustive()
    }
}

/// Makes a head speak of decoded content. What was said of the coded bytes goes; a weak tag stays, because it promises
/// the same meaning and not the same bytes (RFC 9110 §8.8.1), and so does `Vary`. `no-transform` binds proxies that a
/// client has chosen (§7.7) and not what stands in for the service.
pub(super) fn describe_decoded(headers: &mut HeaderMap) {
    let weak = headers.get(header::ETAG).filter(|tag| tag.as_bytes().starts_with(b"W/")).cloned();
    headers.remove(header::CONTENT_ENCODING);
    headers.remove(header::CONTENT_LENGTH);
    remove_validators(headers);
    if let Some(weak) = weak {
        headers.insert(header::ETAG, weak);
    }
}
