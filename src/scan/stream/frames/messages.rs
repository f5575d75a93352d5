//! Frames that are messages.

use super::super::super::{
    rule::Action,
    text::{
        sse::{Frame, Framing},
        utf16_len,
    },
};
use super::super::{
    StreamRules, StreamStop, Tally, Vendor,
    api::Api,
    document::{Document, Mark},
    messages::{Joining, MessageKind, Messages},
};
use super::{FrameScanner, Held, piece};

impl FrameScanner {
    pub(in super::super) fn of_messages(rules: &StreamRules, joining: Joining, declared: Option<Vendor>) -> Self {
        // Text that is no JSON is a text, as that of an event is.
        Self { messages: Some(joining), ..Self::new(rules, Framing::Events, declared) }
    }

    /// Scans a text message, and lets go what may leave.
    pub(in super::super) fn message(
        &mut self,
        rules: &StreamRules,
        bytes: &[u8],
        tally: &mut Tally,
        out: &mut Messages,
    ) -> Result<(), StreamStop> {
        // Only what waits is bounded here: who reassembles messages bounds each of them.
        let whole = 0..bytes.len();
        let frame = Frame { raw: bytes.to_vec(), data: vec![whole], rest: Vec::new() };
        let result = self.check_wire(0).and_then(|()| self.scan(rules, &frame, tally)).and_then(|()| {
            let too_long = rules.max_body_chars.is_some_and(|max| self.next.units > max);
            if too_long && !rules.observes() { Err(StreamStop::TooLong) } else { Ok(()) }
        });
        if result.is_err() || rules.observes() {
            tally.released += if rules.observes() { self.next.units } else { 0 };
            self.next.reset();
        } else if self.queue.is_empty() && self.next.edits.is_empty() && self.may_leave_untouched() {
            tally.released += self.next.units;
            out.push(MessageKind::Text, &frame.raw);
            self.next.reset();
        } else {
            self.next.raw = frame.raw;
            self.queued += self.next.memory();
            self.queue.push_back(std::mem::take(&mut self.next));
        }
        self.release_messages(tally, out);
        result
    }

    /// Lets a message go that nobody reads, behind what waits.
    pub(in super::super) fn unread_message(&mut self, bytes: &[u8], out: &mut Messages) {
        if self.queue.is_empty() {
            out.push(MessageKind::Binary, bytes);
            return;
        }
        let held = Held { raw: bytes.to_vec(), kind: MessageKind::Binary, ..Held::default() };
        self.queued += held.memory();
        self.queue.push_back(held);
    }

    /// Scans what is part of no message.
    pub(in super::super) fn aside(
        &mut self,
        rules: &StreamRules,
        payload: &[u8],
        tally: &mut Tally,
    ) -> Result<(), StreamStop> {
        tally.counts.enter(|name| name.push_str("ping"));
        if self.scan_alone(rules, payload, tally) { Err(self.refused(rules, tally)) } else { Ok(()) }
    }

    pub(in super::super) fn end_messages(
        &mut self,
        rules: &StreamRules,
        tally: &mut Tally,
        out: &mut Messages,
    ) -> Result<(), StreamStop> {
        let ended = self.finish_channels(rules, tally);
        self.release_messages(tally, out);
        ended
    }

    fn release_messages(&mut self, tally: &mut Tally, out: &mut Messages) {
        while let Some(front) = self.queue.front() {
            if front.segments.iter().any(|segment| segment.hi > self.channels[segment.channel].frontier()) {
                return;
            }
            let Some(mut held) = self.queue.pop_front() else { return };
            self.queued -= held.memory();
            tally.released += held.units;
            held.cut(&mut self.channels);
            out.with(held.kind, |out| held.write(out));
        }
    }

    /// A message that is one text.
    pub(super) fn whole_text(&mut self, rules: &StreamRules, text: &[u8], tally: &mut Tally) -> Result<(), StreamStop> {
        let units = utf16_len(text);
        self.next.units += units;
        if rules.max_chars.is_some_and(|max| units > max) && !rules.observes() {
            return Err(StreamStop::TooLong);
        }
        if !self.scan_alone(rules, text, tally) {
            return Ok(());
        }
        match rules.action {
            Action::Redact => self.redact_alone(&rules.rules, text, &[piece(0, text.len(), &(0..text.len()))], tally),
            _ => Err(StreamStop::Blocked),
        }
    }

    /// Ends the texts whose end an event of Realtime tells. A connection has many of them, one after another.
    pub(super) fn retire(
        &mut self,
        rules: &StreamRules,
        document: &Document,
        tally: &mut Tally,
    ) -> Result<(), StreamStop> {
        let mut ended = Vec::new();
        if document.mark(0, Mark::Type) == Some(b"response.done") {
            let of_response = |key: &[u8]| key.starts_with(b"{type=response.");
            ended.extend(self.by_key.keys().filter(|key| of_response(key)).cloned());
        } else if self.sorter.ended(Api::OpenAiRealtime, document) {
            ended.push(self.sorter.key[..].into());
        }
        for key in ended {
            if let Some(channel) = self.by_key.remove(&key) {
                self.finish_channel(rules, channel, tally)?;
                self.retired.push(channel);
            }
        }
        Ok(())
    }
}
