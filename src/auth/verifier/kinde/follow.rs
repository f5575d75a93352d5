//! Following the changes of a key service, so that a revocation is seen at once.
//!
//! Enters: its stream of server-sent events. Leaves: a call whenever what was verified before may be wrong: at every
//! event, at the start of every stream, and at its end, because nobody knows what happened meanwhile.

use std::sync::Weak;
use std::time::Duration;

use http::{HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use prometheus::IntGauge;

use super::{Failure, KindeVerifier, OnChange, refused, request};

const STREAM: &str = "/api/v1/api_keys/revocations";

/// A stream that is silent for as long is lost; the service says something every 5 seconds.
const SILENCE: Duration = Duration::from_secs(15);

/// Pauses before the stream is opened again: many sidecars lose it together when the service restarts.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Follows for as long as the verifier is in use.
pub(super) async fn follow(verifier: Weak<KindeVerifier>, on_change: OnChange, up: IntGauge) {
    let mut pause = FIRST_PAUSE;
    let mut said = None;
    loop {
        let opened = match verifier.upgrade() {
            Some(verifier) => tokio::time::timeout(SILENCE, verifier.open_stream()).await,
            None => return,
        };
        let why = match opened {
            Ok(Ok(body)) => {
                up.set(1);
                tracing::info!("the changes of the key service are followed");
                let ended = Stream { on_change: &*on_change, verifier: &verifier }.read(body, &mut pause).await;
                up.set(0);
                // Nobody tells of changes now.
                on_change();
                ended
            }
            Ok(Err(failure)) => failure.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        if verifier.strong_count() == 0 {
            return;
        }
        // The same reason again and again would fill the log.
        if said.as_ref() != Some(&why) {
            tracing::warn!(%why, "the changes of the key service are not followed; trying again");
            said = Some(why);
        }
        let Some(chance) = verifier.upgrade().map(|verifier| verifier.link.lots.draw()) else { return };
        tokio::time::sleep(chance.half_to_whole(pause)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

impl KindeVerifier {
    async fn open_stream(&self) -> Result<Incoming, Failure> {
        let Some(stream) = &self.stream else {
            return Err(Failure::Misconfigured("its changes are not to be followed".to_owned()));
        };
        let token = self.token().await?;
        let mut renewed = false;
        let mut token = token;
        loop {
            let mut request = request(Method::GET, STREAM, token.as_deref(), None);
            request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
            let response = stream.open(request).await.map_err(Failure::Away)?;
            match (response.status(), token.take()) {
                (StatusCode::OK, _) if is_event_stream(response.headers().get(header::CONTENT_TYPE)) => {
                    return Ok(response.into_body());
                }
                (StatusCode::OK, _) => {
                    let why = "the stream of changes is none; `revocations` needs Keyward's own key service";
                    return Err(Failure::Away(why.to_owned()));
                }
                (StatusCode::UNAUTHORIZED, Some(old)) if !renewed => {
                    token = Some(self.renew(&old).await?);
                    renewed = true;
                }
                (status, _) => return Err(refused(status, "follow changes")),
            }
        }
    }
}

fn is_event_stream(kind: Option<&HeaderValue>) -> bool {
    kind.and_then(|kind| kind.to_str().ok()).is_some_and(|kind| kind.starts_with("text/event-stream"))
}

struct Stream<'a> {
    on_change: &'a (dyn Fn() + Send + Sync),
    verifier: &'a Weak<KindeVerifier>,
}

impl Stream<'_> {
    /// Reads to the end; says why it is the end. What an event holds does not matter: any of them forgets everything.
    async fn read(self, mut body: Incoming, pause: &mut Duration) -> String {
        let mut is_event = Events::default();
        loop {
            let frame = match tokio::time::timeout(SILENCE, body.frame()).await {
                Err(_) => return format!("nothing was heard for {SILENCE:?}"),
                Ok(None) => return "the service ended the stream".to_owned(),
                Ok(Some(Err(error))) => return format!("the stream broke off: {error}"),
                Ok(Some(Ok(frame))) => frame,
            };
            *pause = FIRST_PAUSE;
            if self.verifier.strong_count() == 0 {
                return "the verifier is gone".to_owned();
            }
            let Ok(data) = frame.into_data() else { continue };
            if is_event.any_in(&data) {
                (self.on_change)();
            }
        }
    }
}

/// Finds the lines of a stream that are no comments, over any pieces. Holds nothing of them.
#[derive(Debug, Default)]
struct Events {
    /// Whether the last byte was within a line.
    within: bool,
}

impl Events {
    fn any_in(&mut self, piece: &[u8]) -> bool {
        let mut any = false;
        for &byte in piece {
            let is_end = matches!(byte, b'\n' | b'\r');
            any |= !self.within && !is_end && byte != b':';
            self.within = !is_end;
        }
        any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_told_from_comments_in_any_pieces() {
        let stream = b": still here\n\n:\r\nevent: change\ndata: :\n\n: x: event\n\n";
        for size in 1..stream.len() {
            let mut events = Events::default();
            let lines: usize = stream.chunks(size).map(|piece| usize::from(events.any_in(piece))).sum();
            assert!((1..=2).contains(&lines), "pieces of {size}");
            assert!(!events.any_in(b": event: change\n\n"), "pieces of {size}");
        }
    }
}
