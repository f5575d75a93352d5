//! The stream of changes, as server-sent events.
//!
//! Enters: the store's revision, as it is watched. Leaves: an event for every change, and a comment now and then so that a
//! follower notices a stream that has died. Not each change has an event of its own: a follower that reads slowly gets
//! the last one, and forgets everything at each. So nothing is queued for anybody.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use prometheus::IntGauge;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::token::Tokens;
use crate::listener::Phase;

/// A follower that hears nothing for three times as long takes the stream for lost.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// What a stream ends by, and what it tells.
pub(super) struct Source {
    pub revisions: watch::Receiver<u64>,
    /// Who may follow is asked again when the tokens change.
    pub tokens: watch::Receiver<Arc<Tokens>>,
    pub phase: watch::Receiver<Phase>,
}

type Step = Pin<Box<dyn Future<Output = (Source, Option<Bytes>)> + Send>>;

/// An open stream; frees its place when it is dropped.
pub struct Changes {
    step: Option<Step>,
    followers: IntGauge,
    _place: OwnedSemaphorePermit,
}

impl Changes {
    pub(super) fn new(mut source: Source, place: OwnedSemaphorePermit, followers: IntGauge) -> Self {
        followers.inc();
        let revision = *source.revisions.borrow_and_update();
        let first = async move { (source, Some(event("ready", revision))) };
        Self { step: Some(Box::pin(first)), followers, _place: place }
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.followers.dec();
    }
}

fn event(name: &str, revision: u64) -> Bytes {
    Bytes::from(format!("event: {name}\nid: {revision}\ndata: {{\"revision\":{revision},\"purge\":\"all\"}}\n\n"))
}

async fn next(mut source: Source) -> (Source, Option<Bytes>) {
    let bytes = tokio::select! {
        changed = source.revisions.changed() => {
            let revision = *source.revisions.borrow_and_update();
            changed.ok().map(|()| event("change", revision))
        }
        _ = source.tokens.changed() => None,
        _ = source.phase.wait_for(|phase| *phase >= Phase::Draining) => None,
        () = tokio::time::sleep(HEARTBEAT) => Some(Bytes::from_static(b": still here\n\n")),
    };
    (source, bytes)
}

impl Body for Changes {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(step) = &mut self.step else { return Poll::Ready(None) };
        let (source, bytes) = ready!(step.as_mut().poll(cx));
        self.step = bytes.is_some().then(|| Box::pin(next(source)) as Step);
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}
