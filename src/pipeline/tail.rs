//! A large request that is scanned while it is forwarded.
//!
//! A body whose length was declared, and is more than what is held for the sake of a clean refusal, goes to the
//! service as far as no match can reach, and its end waits for the verdict over the whole: a service never has all of
//! a request that is refused. It gets the length that was declared, so that a request that breaks off is seen to.
//! What waits is paid from the memory budget: ordinarily the last bytes, and all that stands behind the start of a
//! candidate for as long as it is undecided.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderValue};
use http::request;
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::content::Content;
use super::exchange::Exchange;
use super::hold::next_data;
use super::memory::Lease;
use super::request::{held_badly, passes_unscanned};
use super::{Pipeline, Refusal};
use crate::observe::UnscannedReason;
use crate::policy::Inspect;
use crate::scan::{Action, Direction, Passage, PassageFormat, PassageStop, StreamRules, TextFormat};
use crate::upstream::{BodyFault, RequestBody, Screen};

/// The most of a body that is held before any of it is sent: what is refused there never reaches the service.
const HELD: u64 = 1 << 20;

/// The last bytes of a body, which wait for the verdict whatever they are.
const WITHHELD: u64 = 1024;

/// How a body is scanned while it is forwarded, and its length in bytes. `None` if it is held: it is short, its length
/// is not known, its length may change, or something else needs all of it before it is sent.
pub(super) fn streams(
    content: Content,
    format: TextFormat,
    incoming: &Incoming,
    rules: &Inspect,
    exchange: &Exchange,
) -> Option<(PassageFormat, u64)> {
    let format = match format {
        TextFormat::Json => PassageFormat::Json,
        TextFormat::Text => PassageFormat::Text,
        TextFormat::Form | TextFormat::Multipart(_) | TextFormat::Coded(_) | TextFormat::Lines | TextFormat::Events => {
            return None;
        }
    };
    let length = incoming.size_hint().exact().filter(|&length| length > HELD)?;
    let route = exchange.route.as_ref()?;
    // An assertion names the body's digest, and what is put into a prompt needs all of it.
    let needs_all = route.assertion.is_some() || route.context.is_some() || route.websocket;
    let changes = !content.codings.is_empty() || rules.action.rewrites() || rules.rules.is_mixed();
    (!needs_all && !changes).then_some((format, length))
}

impl Pipeline {
    /// Reads the start of a body, and leaves the rest of it to the connection that sends it. `body` gets back what a
    /// refusal leaves unread.
    #[allow(clippy::too_many_arguments, reason = "what is read, how it is judged, and who is told")]
    pub(super) async fn with_tail_withheld(
        &self,
        parts: &mut request::Parts,
        mut incoming: Incoming,
        body: &mut Option<Incoming>,
        (format, length): (PassageFormat, u64),
        rules: &Inspect,
        exchange: &mut Exchange,
        lease: &Lease,
    ) -> Result<RequestBody, Refusal> {
        let screening = Arc::new(Screening::new(rules, format));
        exchange.screening = Some(Arc::clone(&screening));
        let mut tail = Tail::new(screening, rules, lease.sibling());
        let mut ready = VecDeque::new();
        let started = Instant::now();
        let mut read = 0;
        while ready.is_empty() && rules.action != Action::Observe {
            let next = next_data(Pin::new(&mut incoming), Some(self.body_timeout), started, read).await;
            let next = next.map_err(held_badly)?;
            let ended = next.is_none();
            let fed = match next {
                Some(data) => {
                    read += data.len() as u64;
                    exchange.request_bytes.store(read, Ordering::Relaxed);
                    tail.feed(data, &mut ready)
                }
                None => tail.finish(&mut ready),
            };
            if let Err(fault) = fed {
                *body = Some(incoming);
                return Err(fault.into());
            }
            if ended {
                break;
            }
        }
        parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        let streamed = self.stream(incoming, rules, exchange);
        Ok(RequestBody::screened(streamed, length, Box::new(tail), ready))
    }
}

/// What is known of a body so far, for the one who sends it and the one who keeps the account.
#[derive(Debug)]
pub(super) struct Screening {
    passage: Mutex<Passage>,
    /// What cannot be read goes on.
    passes_unread: bool,
    /// What a refusal has left unread.
    rest: Mutex<Option<Incoming>>,
}

impl Screening {
    fn new(inspect: &Inspect, format: PassageFormat) -> Self {
        let rules = StreamRules {
            rules: Arc::clone(&inspect.rules),
            action: inspect.action,
            max_chars: inspect.max_chars,
            max_body_chars: inspect.max_body_chars,
            house: None,
        };
        let passage = Mutex::new(Passage::new(rules, format));
        Self { passage, passes_unread: passes_unscanned(inspect), rest: Mutex::default() }
    }

    /// Why the body is not read to its end, and whether it is sent to its end all the same.
    fn stopped(&self, passage: &Passage) -> Option<(PassageStop, bool)> {
        let stop = passage.stop()?;
        let unread = matches!(stop, PassageStop::Malformed(_) | PassageStop::Unscannable(_));
        Some((stop, unread && self.passes_unread))
    }

    /// Why the body is not sent to its end.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        let passage = self.passage.lock().unwrap_or_else(PoisonError::into_inner);
        self.stopped(&passage).filter(|(_, passes)| !passes).map(|(stop, _)| stop.into())
    }

    pub(super) fn take_rest(&self) -> Option<Incoming> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Writes what was found so far into the account.
    pub(super) fn account(&self, exchange: &mut Exchange) {
        let passage = self.passage.lock().unwrap_or_else(PoisonError::into_inner);
        let rules = passage.rules();
        exchange.inspected(&rules.rules, rules.action, Direction::Request, &passage.hits());
        exchange.input_length = Some(passage.chars());
        if let Some((_, true)) = self.stopped(&passage) {
            exchange.unscanned(Direction::Request, UnscannedReason::Unscannable, passage.fed());
        }
    }
}

/// The end of a body that waits.
#[derive(Debug)]
struct Tail {
    screening: Arc<Screening>,
    observes: bool,
    /// What has come and may not be sent yet.
    held: BytesMut,
    lease: Lease,
}

impl Tail {
    fn new(screening: Arc<Screening>, rules: &Inspect, lease: Lease) -> Self {
        Self { screening, observes: rules.action == Action::Observe, held: BytesMut::new(), lease }
    }

    /// Drops all that waits.
    fn refuse(&mut self, fault: BodyFault) -> BodyFault {
        self.held = BytesMut::new();
        // To give back is always possible.
        let _ = self.lease.resize(0);
        fault
    }
}

impl Screen for Tail {
    fn feed(&mut self, data: Bytes, ready: &mut VecDeque<Bytes>) -> Result<(), BodyFault> {
        let mut passage = self.screening.passage.lock().unwrap_or_else(PoisonError::into_inner);
        passage.feed(&data);
        let stopped = self.screening.stopped(&passage);
        let (fed, frontier, memory) = (passage.fed(), passage.frontier(), passage.memory());
        drop(passage);
        if let Some((stop, false)) = stopped {
            return Err(self.refuse(BodyFault::Inspected(stop)));
        }
        if self.observes {
            ready.push_back(data);
            return Ok(());
        }
        let held = self.held.len() + data.len();
        if self.lease.resize(held + memory).is_err() {
            return Err(self.refuse(BodyFault::NoMemory));
        }
        self.held.extend_from_slice(&data);
        let may_go = match stopped {
            Some(_) => fed,
            None if fed < HELD => 0,
            None => frontier.min(fed.saturating_sub(WITHHELD)),
        };
        // What is held ends where what was fed does.
        let begins = fed - held as u64;
        let going = may_go.saturating_sub(begins) as usize;
        if going > 0 {
            // Paid for until the next piece comes, which is when this has been sent.
            ready.push_back(self.held.split_to(going).freeze());
        }
        Ok(())
    }

    fn finish(&mut self, ready: &mut VecDeque<Bytes>) -> Result<(), BodyFault> {
        let mut passage = self.screening.passage.lock().unwrap_or_else(PoisonError::into_inner);
        passage.finish();
        let stopped = self.screening.stopped(&passage);
        drop(passage);
        if let Some((stop, false)) = stopped {
            return Err(self.refuse(BodyFault::Inspected(stop)));
        }
        let rest = std::mem::take(&mut self.held);
        if !rest.is_empty() {
            ready.push_back(rest.freeze());
        }
        Ok(())
    }

    fn give_back(&mut self, rest: Incoming) {
        *self.screening.rest.lock().unwrap_or_else(PoisonError::into_inner) = Some(rest);
    }
}

#[cfg(test)]
mod tests;
