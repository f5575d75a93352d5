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
        let result = self.with_scratch(|scanner, scratch| {
            let read = scanner.check_wire(0).and_then(|()| scanner.scan(rules, &frame, tally, scratch));
            let read = read.and_then(|()| {
                let too_long = rules.max_body_chars.is_some_and(|max| scanner.next.units > max);
                if too_long && !rules.observes() { Err(StreamStop::TooLong) } else { Ok(()) }
            });
            if read.is_err() || rules.observes() {
                tally.released += if rules.observes() { scanner.next.units } else { 0 };
            } else if scanner.queue.is_empty() && scanner.next.may_leave_untouched(&scanner.channels) {
                tally.released += scanner.next.units;
                out.push(MessageKind::Text, &frame.raw);
            } else {
                scanner.next.raw = frame.raw;
                scanner.queue.push(std::mem::take(&mut scanner.next));
            }
            read
        });
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
        self.queue.push(held);
    }

    /// Scans what is part of no message.
    pub(in super::super) fn aside(
        &mut self,
        rules: &StreamRules,
        payload: &[u8],
        tally: &mut Tally,
    ) -> Result<(), StreamStop> {
        tally.counts.enter(|name| name.push_str("ping"));
        if self.alone.scan(rules, payload, tally) { Err(self.alone.refused(rules, tally)) } else { Ok(()) }
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
        while let Some(held) = self.queue.released(&mut self.channels) {
            tally.released += held.units;
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
        if !self.alone.scan(rules, text, tally) {
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
        let ended = if document.mark(0, Mark::Type) == Some(b"response.done") {
            self.channels.retire(|key| key.starts_with(b"{type=response."))
        } else if self.sorter.ended(Api::OpenAiRealtime, document) {
            self.channels.retire(|key| key == self.sorter.key)
        } else {
            Vec::new()
        };
        for (key, channel) in ended {
            self.finish_channel(rules, channel, &key, tally)?;
        }
        Ok(())
    }
}
