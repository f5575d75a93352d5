//! A request body on its way to the service.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderName;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::Notify;
use tokio::time::Sleep;

use super::go_ahead::{GoAhead, Word};
use super::wait::Wait;
use crate::context::{SpliceError, Splicer};
use crate::headers::{Way, keep_listed};
use crate::policy::Timeouts;
use crate::scan::PassageStop;

/// What was wrong with the client's body while it was being forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyFault {
    /// More bytes than the route takes.
    TooLarge,
    /// No byte for longer than the listener waits.
    TooSlow,
    /// The client closed or broke its framing.
    Aborted,
    /// The prompt's context could not be put in. The service got no complete request.
    Context(SpliceError),
    /// The rules refuse it. The service got no complete request.
    Inspected(PassageStop),
    /// The memory budget has no room for what is undecided of it.
    NoMemory,
}

/// Decides what of a streamed body may be sent.
pub trait Screen: std::fmt::Debug + Send {
    /// Reads the next bytes and appends to `ready` what may be sent now.
    ///
    /// # Errors
    /// If nothing more may be sent.
    fn feed(&mut self, data: Bytes, ready: &mut VecDeque<Bytes>) -> Result<(), BodyFault>;

    /// Ends the body and appends the rest of it to `ready`.
    ///
    /// # Errors
    /// If the body must not be sent to its end.
    fn finish(&mut self, ready: &mut VecDeque<Bytes>) -> Result<(), BodyFault>;

    /// What was not read of a body after an error.
    fn give_back(&mut self, rest: Incoming);
}

/// The body of a request that is sent upstream.
#[derive(Debug)]
pub struct RequestBody {
    content: Content,
    shared: Arc<Shared>,
}

#[derive(Debug)]
enum Content {
    /// Whole, in memory; can be sent twice.
    Held(Option<Bytes>),
    Streamed(Streamed),
    /// Streamed, with an insertion on the way.
    Spliced(Box<Spliced>),
    /// Streamed as far as its screen lets it.
    Screened(Box<Screened>),
}

/// A streamed body and what decides about it.
#[derive(Debug)]
struct Screened {
    /// `None` once nothing more is read of it.
    streamed: Option<Streamed>,
    screen: Box<dyn Screen>,
    /// What may be sent.
    ready: VecDeque<Bytes>,
    /// Bytes that are still to be sent.
    left: u64,
}

/// A streamed body and what is put into it.
#[derive(Debug)]
struct Spliced {
    streamed: Streamed,
    splicer: Splicer,
    /// What may be sent.
    ready: VecDeque<Bytes>,
    /// Where the number of texts that imitate the owner line is told, once the body has ended.
    imitations: Arc<AtomicU64>,
    ended: bool,
}

/// A body that is passed on as it comes, within its limits.
#[derive(Debug)]
pub struct Streamed {
    pub incoming: Incoming,
    /// Most bytes that may pass.
    pub max: u64,
    /// Longest wait for the client's next piece.
    pub timeout: Duration,
    /// Bytes that passed.
    pub passed: Arc<AtomicU64>,
    /// Trailers that may pass.
    pub trailers: Arc<[HeaderName]>,
    /// What holds it back until the service asks for it.
    pub go_ahead: Option<Arc<GoAhead>>,
}

/// A service that is asked whether it wants a body and says nothing for this long gets it: it may not know how to
/// answer (RFC 9110 §10.1.1).
const ASKED_FOR: Duration = Duration::from_secs(1);

/// What the sender needs to know about a body that hyper owns.
#[derive(Debug, Default)]
struct Shared {
    fault: Mutex<Option<BodyFault>>,
    /// Counts the times that the service's connection asked for more.
    polls: AtomicU64,
    sent: Notify,
    deadline: Mutex<Option<Pin<Box<Sleep>>>>,
}

/// Reads the fault of a body after hyper has dropped it.
#[derive(Debug)]
pub(super) struct Fault(Arc<Shared>);

impl Fault {
    pub(super) fn take(&self) -> Option<BodyFault> {
        self.0.fault.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Watches a request leave.
#[derive(Debug)]
pub(super) struct Progress(Option<Arc<Shared>>);

impl Progress {
    /// Completes when the service has kept us waiting too long: `idle` without taking more of the body, or
    /// `first_byte` after its end.
    pub(super) async fn stalled(&self, timeouts: &Timeouts) -> Wait {
        if let Some(shared) = &self.0 {
            let mut seen = shared.polls.load(Ordering::Relaxed);
            let mut sent = std::pin::pin!(shared.sent.notified());
            loop {
                tokio::select! {
                    () = &mut sent => break,
                    () = tokio::time::sleep(timeouts.idle) => {}
                }
                let polls = shared.polls.load(Ordering::Relaxed);
                let waits_for_client = shared.deadline.lock().unwrap_or_else(PoisonError::into_inner).is_some();
                if polls == seen && !waits_for_client {
                    return Wait::Idle;
                }
                seen = polls;
            }
        }
        tokio::time::sleep(timeouts.first_byte).await;
        Wait::FirstByte
    }
}

impl RequestBody {
    /// A body that is in memory, empty included.
    pub fn held_bytes(bytes: Bytes) -> Self {
        Self { content: Content::Held(Some(bytes)), shared: Arc::default() }
    }

    /// A body that is passed on as it comes.
    pub fn streamed(streamed: Streamed) -> Self {
        Self { content: Content::Streamed(streamed), shared: Arc::default() }
    }

    /// Holds back a body that is passed on as it comes, until the service asks for it. `None` where it is not.
    pub fn wait_for_service(&mut self) -> Option<Arc<GoAhead>> {
        let Content::Streamed(streamed) = &mut self.content else { return None };
        Some(Arc::clone(streamed.go_ahead.get_or_insert_default()))
    }

    /// Holds it back no longer.
    pub(super) fn ask_for_it(&self) {
        if let Content::Streamed(Streamed { go_ahead: Some(go_ahead), .. }) = &self.content {
            go_ahead.open();
        }
    }

    /// Whether it may end with trailers.
    pub fn may_have_trailers(&self) -> bool {
        matches!(self.content, Content::Streamed(_))
    }

    /// The body, where it is known before it is sent.
    pub fn held(&self) -> Option<Bytes> {
        match &self.content {
            Content::Held(bytes) => bytes.clone(),
            Content::Streamed(_) | Content::Spliced(_) | Content::Screened(_) => None,
        }
    }

    /// A body of `length` bytes that is sent as far as `screen` lets it; `ready` is what it has let go already.
    pub fn screened(streamed: Streamed, length: u64, screen: Box<dyn Screen>, ready: VecDeque<Bytes>) -> Self {
        let screened = Screened { streamed: Some(streamed), screen, ready, left: length };
        Self { content: Content::Screened(Box::new(screened)), shared: Arc::default() }
    }

    /// This streamed body with an insertion, from its beginning: `begun` is what was read of it before, and
    /// `imitations` learns at the end how many texts were observed to imitate the owner line.
    ///
    /// # Errors
    /// If what has come is refused already.
    pub fn spliced(
        self,
        mut splicer: Splicer,
        begun: Vec<Bytes>,
        imitations: Arc<AtomicU64>,
    ) -> Result<Self, SpliceError> {
        let Content::Streamed(streamed) = self.content else {
            let whole = begun.concat().into();
            return Ok(Self::held_bytes(splicer.whole(&whole)?));
        };
        let mut ready = VecDeque::new();
        for piece in &begun {
            splicer.feed(piece, &mut ready)?;
        }
        let spliced = Spliced { streamed, splicer, ready, imitations, ended: false };
        Ok(Self { content: Content::Spliced(Box::new(spliced)), shared: self.shared })
    }

    /// What was wrong with the client's body, once.
    pub fn take_fault(&self) -> Option<BodyFault> {
        self.fault().take()
    }

    pub(super) fn fault(&self) -> Fault {
        Fault(Arc::clone(&self.shared))
    }

    /// A held body leaves in one piece; only a streamed one has progress to watch.
    pub(super) fn progress(&self) -> Progress {
        Progress((!matches!(self.content, Content::Held(_))).then(|| Arc::clone(&self.shared)))
    }
}

impl Shared {
    fn fail(&self, fault: BodyFault) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
        Poll::Ready(Some(Err(io::Error::other("the client's request body failed"))))
    }

    fn poll_client_deadline(&self, timeout: Duration, cx: &mut Context<'_>) -> Poll<()> {
        let mut deadline = self.deadline.lock().unwrap_or_else(PoisonError::into_inner);
        deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout))).as_mut().poll(cx)
    }

    fn clear_client_deadline(&self) {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        match &mut this.content {
            Content::Held(bytes) => {
                Poll::Ready(bytes.take().filter(|bytes| !bytes.is_empty()).map(|b| Ok(Frame::data(b))))
            }
            Content::Streamed(streamed) => streamed.poll(&this.shared, cx),
            Content::Spliced(spliced) => spliced.poll(&this.shared, cx),
            Content::Screened(screened) => screened.poll(&this.shared, cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Held(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Content::Streamed(streamed) => streamed.incoming.is_end_stream(),
            Content::Spliced(spliced) => spliced.ended && spliced.ready.is_empty(),
            Content::Screened(screened) => screened.left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Held(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Content::Streamed(streamed) => streamed.incoming.size_hint(),
            Content::Spliced(_) => SizeHint::default(),
            Content::Screened(screened) => SizeHint::with_exact(screened.left),
        }
    }
}

impl Spliced {
    fn poll(&mut self, shared: &Shared, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                shared.polls.fetch_add(1, Ordering::Relaxed);
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            let frame = match self.streamed.poll(shared, cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => return Poll::Pending,
            };
            let checked = match frame {
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => self.end(),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.take(&data),
                    Err(_) => Ok(()),
                },
            };
            if let Err(error) = checked {
                // What was sent so far has no end, so that no service takes it for a request.
                self.ready.clear();
                return shared.fail(BodyFault::Context(error));
            }
        }
    }

    fn take(&mut self, data: &Bytes) -> Result<(), SpliceError> {
        self.splicer.feed(data, &mut self.ready)?;
        // The last piece is held back until all of the body is known to be well.
        if self.streamed.incoming.is_end_stream() { self.end() } else { Ok(()) }
    }

    fn end(&mut self) -> Result<(), SpliceError> {
        self.ended = true;
        self.imitations.store(self.splicer.imitations(), Ordering::Relaxed);
        self.splicer.finish()
    }
}

impl Screened {
    fn poll(&mut self, shared: &Shared, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                shared.polls.fetch_add(1, Ordering::Relaxed);
                self.left = self.left.saturating_sub(piece.len() as u64);
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            let Some(streamed) = &mut self.streamed else { return Poll::Ready(None) };
            let frame = match streamed.poll(shared, cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => return Poll::Pending,
            };
            let screened = match frame {
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => self.end(),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.take(data),
                    Err(_) => Ok(()),
                },
            };
            if let Err(fault) = screened {
                // What was sent so far has no end, so that no service takes it for a request.
                self.ready.clear();
                if let Some(streamed) = self.streamed.take() {
                    self.screen.give_back(streamed.incoming);
                }
                return shared.fail(fault);
            }
        }
    }

    fn take(&mut self, data: Bytes) -> Result<(), BodyFault> {
        self.screen.feed(data, &mut self.ready)?;
        if self.streamed.as_ref().is_some_and(|streamed| streamed.incoming.is_end_stream()) {
            self.end()
        } else {
            Ok(())
        }
    }

    fn end(&mut self) -> Result<(), BodyFault> {
        self.screen.finish(&mut self.ready)?;
        self.streamed = None;
        Ok(())
    }
}

impl Streamed {
    fn poll(&mut self, shared: &Shared, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        shared.polls.fetch_add(1, Ordering::Relaxed);
        if let Some(go_ahead) = &self.go_ahead {
            match go_ahead.word(cx) {
                Word::Send => {}
                Word::Rest => return Poll::Pending,
                Word::Drop => return shared.fail(BodyFault::Aborted),
                Word::Wait => {
                    if shared.poll_client_deadline(ASKED_FOR, cx).is_pending() {
                        return Poll::Pending;
                    }
                    go_ahead.open();
                }
            }
            self.go_ahead = None;
            shared.clear_client_deadline();
        }
        loop {
            let frame = match Pin::new(&mut self.incoming).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending if shared.poll_client_deadline(self.timeout, cx).is_ready() => {
                    return shared.fail(BodyFault::TooSlow);
                }
                Poll::Pending => return Poll::Pending,
            };
            shared.clear_client_deadline();
            match frame {
                None => return self.end(shared),
                Some(Err(_)) => return shared.fail(BodyFault::Aborted),
                Some(Ok(frame)) => {
                    let data = match frame.into_data() {
                        Ok(data) => data,
                        Err(frame) => {
                            let trailers = frame.into_trailers().unwrap_or_default();
                            let Some(kept) = keep_listed(trailers, &self.trailers, Way::Request) else { continue };
                            shared.sent.notify_one();
                            return Poll::Ready(Some(Ok(Frame::trailers(kept))));
                        }
                    };
                    let passed = self.passed.fetch_add(data.len() as u64, Ordering::Relaxed) + data.len() as u64;
                    if passed > self.max {
                        return shared.fail(BodyFault::TooLarge);
                    }
                    if self.incoming.is_end_stream() {
                        shared.sent.notify_one();
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
            }
        }
    }

    fn end(&self, shared: &Shared) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        shared.sent.notify_one();
        Poll::Ready(None)
    }
}
