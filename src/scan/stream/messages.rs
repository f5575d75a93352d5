//! Messages of a WebSocket: frames that come whole, with their ends known from outside.
//!
//! A message enters; those that may leave now leave, in their order, each as it came but for what was cut out of it.

use super::{Counts, StreamRules, StreamScanner, StreamStop, Tally, Unread, Vendor, Wire, frames::FrameScanner};

/// What a message says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MessageKind {
    /// UTF-8.
    #[default]
    Text,
    /// Anything; never read.
    Binary,
}

/// Whether strings of several messages are pieces of one text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joining {
    /// They are, where an API or a name says so, and messages that are no JSON are pieces of one text.
    Joined,
    /// Every string is a text of its own.
    Whole,
}

/// Messages one after another, in one buffer.
#[derive(Debug, Default)]
pub struct Messages {
    bytes: Vec<u8>,
    ends: Vec<(usize, MessageKind)>,
}

impl Messages {
    /// Adds a message.
    pub fn push(&mut self, kind: MessageKind, bytes: &[u8]) {
        self.with(kind, |out| out.extend_from_slice(bytes));
    }

    /// Adds what `write` writes as a message.
    pub(super) fn with(&mut self, kind: MessageKind, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push((self.bytes.len(), kind));
    }

    /// The messages in their order.
    pub fn iter(&self) -> impl Iterator<Item = (MessageKind, &[u8])> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|&(end, _)| end));
        starts.zip(&self.ends).map(|(start, &(end, kind))| (kind, &self.bytes[start..end]))
    }

    /// Forgets them, and keeps what memory ordinary ones need.
    pub fn clear(&mut self) {
        const KEPT: usize = 1 << 14;
        self.bytes.clear();
        self.bytes.shrink_to(KEPT);
        self.ends.clear();
    }
}

impl StreamScanner {
    /// A scanner of messages, which takes them by [`StreamScanner::message`] alone.
    pub fn of_messages(rules: StreamRules, joining: Joining, declared: Option<Vendor>) -> Self {
        let watch = rules.of_observed().map(|rules| Box::new(Self::of_messages(rules, joining, declared)));
        let wire = Wire::Frames(Box::new(FrameScanner::of_messages(&rules, joining, declared)));
        let counts = Counts { by_rule: vec![0; rules.rules.rule_ids().len()], places: None };
        let tally = Tally { counts, released: 0, unread: Unread::default() };
        Self { rules, wire, stop: None, tally, watch }
    }

    /// Scans a message and adds to `out` what may leave. A binary message is counted and passes, behind what was
    /// withheld before it. Nothing leaves after a stop.
    pub fn message(&mut self, kind: MessageKind, bytes: &[u8], out: &mut Messages) {
        if self.stop.is_some() {
            return;
        }
        if let Some(watch) = &mut self.watch {
            watch.message(kind, bytes, &mut Messages::default());
        }
        let observes = self.rules.observes();
        if observes {
            out.push(kind, bytes);
        }
        let (rules, tally) = (&self.rules, &mut self.tally);
        let Wire::Frames(frames) = &mut self.wire else { return };
        let result = match kind {
            MessageKind::Text => frames.message(rules, bytes, tally, out),
            MessageKind::Binary => {
                tally.unread.unscannable += bytes.len() as u64;
                if !observes {
                    frames.unread_message(bytes, out);
                }
                Ok(())
            }
        };
        self.note(result, bytes.len());
    }

    /// Reads what passes between messages and is part of none, such as the payload of a ping: a text of its own. It may
    /// pass unless the stream stops; nothing is cut out of it.
    pub fn aside(&mut self, payload: &[u8]) {
        if self.stop.is_some() || payload.is_empty() {
            return;
        }
        if let Some(watch) = &mut self.watch {
            watch.aside(payload);
        }
        let Wire::Frames(frames) = &mut self.wire else { return };
        let result = frames.aside(&self.rules, payload, &mut self.tally);
        self.note(result, payload.len());
    }

    /// Ends the stream of messages, unless it stops.
    pub fn end_messages(&mut self, out: &mut Messages) {
        if self.stop.is_some() {
            return;
        }
        if let Some(watch) = &mut self.watch {
            watch.end_messages(&mut Messages::default());
        }
        let Wire::Frames(frames) = &mut self.wire else { return };
        let result = frames.end_messages(&self.rules, &mut self.tally, out);
        self.note(result, 0);
    }

    /// What is only observed goes on: the next message can be read although this one could not.
    fn note(&mut self, result: Result<(), StreamStop>, bytes: usize) {
        match result {
            Err(_) if self.rules.observes() => self.tally.unread.unscannable += bytes as u64,
            result => self.stop = result.err(),
        }
    }
}

#[cfg(test)]
mod tests;
