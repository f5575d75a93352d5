//! A response that is scanned while it is delivered.
//!
//! The service's body enters; what may leave of it leaves when it may. A stop ends the body as its API ends one, or
//! breaks it where only that says that it is not whole, and closes the connection to the service. What is withheld is
//! paid from the memory budget; a body that breaks off takes it along.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame};

use super::Refusal;
use super::decode::Coded;
use super::exchange::Exchange;
use super::memory::Lease;
use crate::observe::UnscannedReason;
use crate::policy::{ErrorFormat, Inspect};
use crate::scan::stream::{EndReason, Ending, Vendor};
use crate::scan::{Action, Codings, Direction, StreamFormat, StreamRules, StreamScanner, StreamStop};
use crate::upstream::UpstreamBody;

/// A body on its way through the scanner.
#[derive(Debug)]
pub(super) struct Live {
    /// Dropped at the end, which cancels what the service still does.
    body: Option<Box<UpstreamBody>>,
    /// Where it is coded. Gone once it cannot be decoded.
    coded: Option<Box<Coded>>,
    /// Bytes that were only to be observed, and were not decoded.
    undecoded: Option<u64>,
    scanner: StreamScanner,
    rules: StreamRules,
    format: StreamFormat,
    lease: Lease,
    request_id: HeaderValue,
    /// What may leave.
    ready: Vec<u8>,
    /// What the service said behind its body.
    trailers: Option<HeaderMap>,
    state: State,
}

#[derive(Debug)]
enum State {
    Going,
    /// Nothing more may leave but the end that says so.
    Stopped(Refusal),
    Ended,
    Broken,
}

impl Live {
    pub(super) fn new(
        body: UpstreamBody,
        (format, codings): (StreamFormat, Codings),
        inspect: &Inspect,
        exchange: &Exchange,
        lease: Lease,
    ) -> Self {
        let rules = StreamRules {
            rules: std::sync::Arc::clone(&inspect.rules),
            action: inspect.action,
            max_chars: inspect.max_chars,
            max_body_chars: inspect.max_body_chars,
            house: inspect.house.clone(),
        };
        let declared = match exchange.format() {
            ErrorFormat::Keyward => None,
            ErrorFormat::OpenAi => Some(Vendor::OpenAi),
            ErrorFormat::Anthropic => Some(Vendor::Anthropic),
        };
        Self {
            body: Some(Box::new(body)),
            coded: Coded::new(codings),
            undecoded: None,
            scanner: StreamScanner::new(rules.clone(), format, declared),
            rules,
            format,
            lease,
            request_id: exchange.request_id.clone(),
            ready: Vec::new(),
            trailers: None,
            state: State::Going,
        }
    }

    /// Looks at what has come with the head, so that what is blocked there is refused with a status.
    ///
    /// A text waits for its first byte that may leave, since it ends early only by breaking. The head of an event
    /// stream waits for nothing that is not there: clients take it for the sign that the stream is open.
    pub(super) async fn begin(&mut self) -> Result<(), Refusal> {
        /// The connection's task hands over what it has read when it is asked and has its turn.
        const TURNS: usize = 2;
        let waits = self.format == StreamFormat::Text && self.rules.action != Action::Observe;
        let mut turns = 0;
        while self.ready.is_empty() && matches!(self.state, State::Going) {
            let read = std::future::poll_fn(|cx| match self.poll_read(cx) {
                Poll::Pending if !waits => Poll::Ready(None),
                read => read.map(Some),
            });
            match read.await {
                Some(Ok(())) => {}
                Some(Err(error)) if error.kind() == io::ErrorKind::TimedOut => return Err(Refusal::UpstreamTimeout),
                Some(Err(error)) => return Err(Refusal::UpstreamBroken(error.to_string())),
                None if turns == TURNS => break,
                None => {
                    turns += 1;
                    tokio::task::yield_now().await;
                }
            }
        }
        let nothing_left = self.ready.is_empty() || self.format == StreamFormat::Text;
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Stopped(refusal) if nothing_left => Err(refusal),
            state => {
                self.state = state;
                Ok(())
            }
        }
    }

    /// The next bytes that may leave. `exchange` learns of an early end.
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        exchange: &mut Option<Box<Exchange>>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        loop {
            if !self.ready.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.ready).into()))));
            }
            match &self.state {
                State::Going => {}
                State::Stopped(refusal) => {
                    if let Some(exchange) = exchange {
                        refusal.log(exchange.request_id(), exchange.route_id());
                        exchange.aborted(refusal);
                    }
                    // They speak of a whole body.
                    self.trailers = None;
                    match self.end(refusal) {
                        Some(end) => (self.ready, self.state) = (end, State::Ended),
                        None => self.state = State::Broken,
                    }
                    continue;
                }
                State::Ended => return Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers)))),
                State::Broken => return Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into()))),
            }
            if let Err(error) = ready!(self.poll_read(cx)) {
                return Poll::Ready(Some(Err(error)));
            }
        }
    }

    pub(super) fn is_end(&self) -> bool {
        self.ready.is_empty() && self.trailers.is_none() && matches!(self.state, State::Ended)
    }

    /// Tells the account what was found, and how much text left.
    pub(super) fn account(&self, exchange: &mut Exchange) {
        exchange.inspected(&self.rules.rules, self.rules.action, Direction::Response, &self.scanner.hits());
        exchange.response_length = Some(self.scanner.chars());
        let unread = self.scanner.unread();
        let unscannable = unread.unscannable + self.undecoded.unwrap_or_default();
        for (reason, bytes) in [(UnscannedReason::Opaque, unread.opaque), (UnscannedReason::Unscannable, unscannable)] {
            if bytes > 0 {
                exchange.unscanned(Direction::Response, reason, bytes);
            }
        }
    }

    /// Reads one piece of the service's body, or decodes one step of it, or meets its end.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(body) = &mut self.body else { return Poll::Ready(Ok(())) };
        if self.coded.as_ref().is_some_and(|coded| !coded.is_hungry()) {
            self.decode();
            self.look_for_a_stop();
            return Poll::Ready(Ok(()));
        }
        match ready!(Pin::new(body).poll_frame(cx)) {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => self.take(data),
                Err(frame) => self.trailers = frame.into_trailers().ok(),
            },
            Some(Err(error)) => {
                // What is withheld may be the beginning of anything.
                self.body = None;
                self.state = State::Ended;
                return Poll::Ready(Err(error));
            }
            None => self.finish(),
        }
        self.look_for_a_stop();
        Poll::Ready(Ok(()))
    }

    /// Takes what the service has sent.
    fn take(&mut self, data: Bytes) {
        match (&mut self.coded, &mut self.undecoded) {
            (Some(coded), _) => {
                if self.rules.action == Action::Observe {
                    // It goes on as it came, whatever it says.
                    self.ready.extend_from_slice(&data);
                }
                coded.bring(data);
            }
            (None, Some(undecoded)) => {
                *undecoded += data.len() as u64;
                self.ready.extend_from_slice(&data);
            }
            (None, None) => self.scanner.feed(&data, &mut self.ready),
        }
    }

    fn decode(&mut self) {
        let Some(coded) = &mut self.coded else { return };
        let pending = coded.pending();
        match coded.step() {
            Ok(text) if self.rules.action == Action::Observe => self.scanner.feed(text, &mut Vec::new()),
            Ok(text) => self.scanner.feed(text, &mut self.ready),
            Err(why) => self.undecodable(why, pending),
        }
    }

    /// The service's body has ended.
    fn finish(&mut self) {
        self.body = None;
        self.state = State::Ended;
        let decoded = self.coded.as_ref().map_or(Ok(()), |coded| coded.finish());
        let as_it_came = self.rules.action == Action::Observe && (self.coded.is_some() || self.undecoded.is_some());
        match decoded {
            Err(why) => self.undecodable(why, 0),
            Ok(()) if as_it_came => self.scanner.finish(&mut Vec::new()),
            Ok(()) => self.scanner.finish(&mut self.ready),
        }
    }

    /// Nothing more can be decoded, from `pending` bytes before what comes next.
    fn undecodable(&mut self, why: &'static str, pending: usize) {
        self.coded = None;
        if self.rules.action == Action::Observe {
            self.undecoded = Some(pending as u64);
        } else {
            self.body = None;
            self.state = State::Stopped(Refusal::UnscannableResponse(why));
        }
    }

    /// Looks whether anything says that nothing more may leave.
    fn look_for_a_stop(&mut self) {
        if matches!(self.state, State::Stopped(_)) {
            return;
        }
        let decoder = self.coded.as_ref().map_or(0, |coded| coded.memory());
        let stop = self.scanner.stop().filter(|_| self.rules.action != Action::Observe);
        let refusal = match stop {
            Some(StreamStop::Blocked) => Refusal::ResponseBlocked,
            Some(StreamStop::TooLong) => Refusal::ResponseTooLong,
            Some(StreamStop::Unscannable(why)) => Refusal::UnscannableResponse(why),
            None if self.body.is_none() || self.lease.resize(self.scanner.held() + decoder).is_ok() => return,
            None => Refusal::Overloaded("the memory budget for held bodies is used up"),
        };
        self.body = None;
        self.state = State::Stopped(refusal);
    }

    fn end(&self, refusal: &Refusal) -> Option<Vec<u8>> {
        let reason = match refusal {
            Refusal::ResponseBlocked => EndReason::Blocked,
            Refusal::ResponseTooLong => EndReason::TooLong,
            _ => EndReason::Failed,
        };
        let message = refusal.message();
        // Ids are visible ASCII.
        let request_id = self.request_id.to_str().unwrap_or_default();
        self.scanner.end(&Ending { reason, code: refusal.code(), message: &message, request_id })
    }
}
