//! Both directions of a WebSocket, and how it ends.
//!
//! Bytes of either side enter, cut anywhere; bytes for either side leave. Nothing here waits or reads a clock.

use http::HeaderValue;

use super::frame::Violation;
use super::way::{Exit, Fault, Way};
use crate::pipeline::Refusal;
use crate::policy::ErrorFormat;
use crate::scan::{Direction, StreamStop};

/// The most that waits for a side before nothing more is read for it.
const HIGH_WATER: usize = 64 << 10;

/// How a WebSocket ended.
#[derive(Debug)]
pub(super) enum End {
    /// Both sides said so.
    Closed,
    /// A side was gone without a word.
    ClientGone,
    ServiceGone,
    /// We ended it, for this.
    Refused(Refusal),
    /// Nobody said anything for too long.
    Idle,
    /// The process stops.
    Draining,
}

/// The state of a WebSocket.
#[derive(Debug)]
pub(super) struct Relay {
    /// From the client to the service.
    up: Way,
    down: Way,
    format: ErrorFormat,
    request_id: HeaderValue,
    end: Option<End>,
}

impl Relay {
    pub(super) fn new(up: Way, down: Way, format: ErrorFormat, request_id: HeaderValue) -> Self {
        Self { up, down, format, request_id, end: None }
    }

    /// What is to be written to the service, and what to the client.
    pub(super) fn to_service(&self) -> &[u8] {
        &self.up.exit().out
    }

    pub(super) fn to_client(&self) -> &[u8] {
        &self.down.exit().out
    }

    pub(super) fn wrote_to_service(&mut self, bytes: usize) {
        self.up.exit_mut().written(bytes);
    }

    pub(super) fn wrote_to_client(&mut self, bytes: usize) {
        self.down.exit_mut().written(bytes);
    }

    /// Whether there is room for what a side says.
    pub(super) fn hears_client(&self) -> bool {
        self.to_service().len() < HIGH_WATER
    }

    pub(super) fn hears_service(&self) -> bool {
        self.to_client().len() < HIGH_WATER
    }

    /// A side has said that it ends; the other one has to answer soon.
    pub(super) fn is_closing(&self) -> bool {
        self.up.exit().closed || self.down.exit().closed
    }

    /// Whether nothing more is read, and what is to be written is all there is.
    pub(super) fn is_over(&self) -> bool {
        self.end.is_some()
    }

    /// How it ended, if it has.
    pub(super) fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    pub(super) fn up(&self) -> &Exit {
        self.up.exit()
    }

    pub(super) fn down(&self) -> &Exit {
        self.down.exit()
    }

    /// The client has said this.
    pub(super) fn client(&mut self, bytes: &mut [u8]) {
        let read = self.up.feed(bytes);
        self.judge(Direction::Request, read);
    }

    /// The service has said this.
    pub(super) fn service(&mut self, bytes: &mut [u8]) {
        let read = self.down.feed(bytes);
        self.judge(Direction::Response, read);
    }

    /// The client's connection has ended. If it had said so before, only the service's answer is missing, and nobody
    /// would hear it.
    pub(super) fn client_gone(&mut self) {
        let said = self.up.exit().closed;
        self.end.get_or_insert(if said { End::Closed } else { End::ClientGone });
    }

    pub(super) fn service_gone(&mut self) {
        let said = self.down.exit().closed;
        self.end.get_or_insert(if said { End::Closed } else { End::ServiceGone });
    }

    /// Nobody has said anything for too long, or the other side does not answer a close.
    pub(super) fn idle(&mut self) {
        self.finish((1001, "idle"), (1001, "idle"), End::Idle);
    }

    /// The process stops.
    pub(super) fn going_away(&mut self) {
        self.finish((1001, "going away"), (1001, "going away"), End::Draining);
    }

    fn judge(&mut self, direction: Direction, read: Result<(), Fault>) {
        match read {
            Err(fault) => self.fail(direction, fault),
            Ok(()) if self.up.exit().closed && self.down.exit().closed => {
                self.end.get_or_insert(End::Closed);
            }
            Ok(()) => {}
        }
    }

    /// Tells whoever is at fault why, and the other side that this is the end.
    fn fail(&mut self, direction: Direction, fault: Fault) {
        let from_client = direction == Direction::Request;
        let refusal = refusal(direction, fault);
        let away = (1001, "");
        let (client, service) = match fault {
            Fault::Violation(violation) if from_client => ((violation.code(), violation.why()), away),
            Fault::Violation(violation) => {
                ((1014, "the service broke the protocol"), (violation.code(), violation.why()))
            }
            Fault::NoMemory => ((1013, "overloaded"), away),
            Fault::Binary if from_client => ((1003, "binary messages are not inspected"), away),
            Fault::Binary => ((1008, "a binary message"), (1003, "binary messages are not inspected")),
            Fault::Stopped(_) => ((1008, refusal.code()), away),
        };
        if !matches!(fault, Fault::Violation(_)) {
            let request_id = self.request_id.to_str().unwrap_or_default();
            self.down.exit_mut().say(&refusal.event(self.format, request_id));
        }
        self.finish(client, service, End::Refused(refusal));
    }

    fn finish(&mut self, client: (u16, &str), service: (u16, &str), end: End) {
        self.down.exit_mut().close(client.0, client.1);
        self.up.exit_mut().close(service.0, service.1);
        self.end.get_or_insert(end);
    }
}

fn refusal(direction: Direction, fault: Fault) -> Refusal {
    let from_client = direction == Direction::Request;
    match fault {
        Fault::Violation(Violation::TooLong) if from_client => Refusal::BodyTooLarge,
        Fault::Violation(violation) if from_client => Refusal::BadWebSocket(violation.why()),
        Fault::Violation(Violation::TooLong) => Refusal::ResponseTooLong,
        Fault::Violation(violation) => Refusal::UpstreamBroken(violation.why().to_owned()),
        Fault::NoMemory => Refusal::Overloaded("the memory budget for held bodies is used up"),
        Fault::Binary if from_client => Refusal::UnscannableBody("a binary message"),
        Fault::Binary => Refusal::UnscannableResponse("a binary message"),
        Fault::Stopped(StreamStop::Blocked) if from_client => Refusal::InputBlocked,
        Fault::Stopped(StreamStop::Blocked) => Refusal::ResponseBlocked,
        Fault::Stopped(StreamStop::TooLong) if from_client => Refusal::InputTooLong,
        Fault::Stopped(StreamStop::TooLong) => Refusal::ResponseTooLong,
        Fault::Stopped(StreamStop::Unscannable(why)) if from_client => Refusal::UnscannableBody(why),
        Fault::Stopped(StreamStop::Unscannable(why)) => Refusal::UnscannableResponse(why),
    }
}
