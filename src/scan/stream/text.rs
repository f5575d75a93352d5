//! A body that is one text, let go byte by byte.
//!
//! Many readers parse JSON whatever the content type says. A body that may still become a JSON document is therefore
//! withheld as a whole, and is read both ways at its end; what is no JSON any more is let go as it comes.

use bytes::Bytes;

use super::super::{
    body::{self, MARKER, TextFormat, Verdict},
    text::{
        json::{Lexer, Role, Run, Sink},
        utf16_len,
    },
};
use super::{
    HOLD_WIRE, StreamRules, StreamStop, Tally,
    channel::{Channel, Stopped},
};

/// Scans a text.
pub(super) struct TextScanner {
    channel: Channel,
    /// What has not left, from offset `base` of the text on.
    held: Vec<u8>,
    base: u64,
    start: Start,
}

/// What is known of how the text begins.
enum Start {
    /// Not enough has come to tell.
    Unknown,
    /// It may be a JSON document.
    Json(Box<Lexer>),
    Text,
}

struct Nothing;

impl Sink for Nothing {
    fn begin(&mut self, _: Role, _: u64) {}
    fn run(&mut self, _: Run<'_>) {}
    fn end(&mut self, _: u64) {}
}

impl TextScanner {
    pub(super) fn new(rules: &StreamRules) -> Self {
        Self { channel: Channel::new(&rules.rules, rules.action), held: Vec::new(), base: 0, start: Start::Unknown }
    }

    pub(super) fn held(&self) -> usize {
        self.held.len() + self.channel.memory()
    }

    pub(super) fn observed(&self) -> &[u64] {
        self.channel.observed()
    }

    pub(super) fn feed(
        &mut self,
        rules: &StreamRules,
        bytes: &[u8],
        tally: &mut Tally,
        out: &mut Vec<u8>,
    ) -> Result<(), StreamStop> {
        if matches!(self.start, Start::Text) {
            return self.text(rules, bytes, tally, out);
        }
        self.held.extend_from_slice(bytes);
        match &mut self.start {
            Start::Json(lexer) => {
                if lexer.feed(bytes, &mut Nothing).is_err() {
                    self.start = Start::Text;
                }
            }
            Start::Text => {}
            Start::Unknown => self.begin()?,
        }
        if matches!(self.start, Start::Text) {
            let held = std::mem::take(&mut self.held);
            return self.text(rules, &held, tally, out);
        }
        match self.held.len() > HOLD_WIRE {
            true => Err(StreamStop::Unscannable("a document is too large to be held")),
            false => Ok(()),
        }
    }

    pub(super) fn finish(
        &mut self,
        rules: &StreamRules,
        tally: &mut Tally,
        out: &mut Vec<u8>,
    ) -> Result<(), StreamStop> {
        if !matches!(self.start, Start::Text) {
            return self.whole(rules, tally, out);
        }
        let ended = self.channel.finish(&rules.rules, &mut tally.counts);
        self.release(rules, tally, out);
        ended.map_err(|Stopped| StreamStop::Blocked)
    }

    /// Decides how the text begins, if enough of it has come.
    fn begin(&mut self) -> Result<(), StreamStop> {
        const BOM: &[u8] = b"\xEF\xBB\xBF";
        if self.held.len() < 4 && matches!(self.held.first(), None | Some(0 | 0xEF | 0xFE | 0xFF)) {
            return Ok(());
        }
        if let Some(why) = body::wide_encoding(&self.held) {
            return Err(StreamStop::Unscannable(why));
        }
        let start = self.held.strip_prefix(BOM).unwrap_or(&self.held).trim_ascii_start();
        self.start = match start.first() {
            None => Start::Unknown,
            Some(b'{' | b'[' | b'"') => {
                let mut lexer = Box::new(Lexer::new());
                match lexer.feed(&self.held, &mut Nothing) {
                    Ok(()) => Start::Json(lexer),
                    Err(_) => Start::Text,
                }
            }
            Some(_) => Start::Text,
        };
        Ok(())
    }

    /// Scans more of what is only a text.
    fn text(
        &mut self,
        rules: &StreamRules,
        bytes: &[u8],
        tally: &mut Tally,
        out: &mut Vec<u8>,
    ) -> Result<(), StreamStop> {
        let limit = [rules.max_chars, rules.max_body_chars].into_iter().flatten().min().filter(|_| !rules.observes());
        let left = limit.map(|limit| limit.saturating_sub(self.channel.units));
        let (fits, too_long) = match left.and_then(|left| end_of(bytes, left)) {
            Some(end) => (&bytes[..end], true),
            None => (bytes, false),
        };
        tally.counts.enter(|name| name.push_str("text"));
        let fed = self.channel.feed(&rules.rules, fits, &mut tally.counts);
        if self.held.is_empty() && self.channel.cuts.is_empty() && self.channel.frontier() == self.channel.len {
            // The ordinary case: nothing waits, and nothing is copied or measured twice.
            tally.released = self.channel.units;
            self.base = self.channel.len;
            if !rules.observes() {
                out.extend_from_slice(fits);
            }
        } else {
            self.held.extend_from_slice(fits);
            self.release(rules, tally, out);
        }
        fed.map_err(|Stopped| StreamStop::Blocked)?;
        if too_long { Err(StreamStop::TooLong) } else { Ok(()) }
    }

    /// Inspects a text that came whole and was withheld.
    fn whole(&mut self, rules: &StreamRules, tally: &mut Tally, out: &mut Vec<u8>) -> Result<(), StreamStop> {
        let held = Bytes::from(std::mem::take(&mut self.held));
        let report = body::inspect(&held, TextFormat::Text, &rules.inspection());
        for hit in &report.hits {
            tally.counts.by_rule[hit.rule] += hit.count;
        }
        if let (Some(places), false) = (&mut tally.counts.places, report.hits.is_empty()) {
            body::locate(&held, TextFormat::Text, &rules.inspection(), places);
        }
        let read = match report.verdict {
            Verdict::Clean | Verdict::Observed => held,
            Verdict::Rewritten(body) => body,
            Verdict::Blocked => return Err(StreamStop::Blocked),
            Verdict::TooLong => return Err(StreamStop::TooLong),
            Verdict::Malformed(_) => return Err(StreamStop::Unscannable("a document broke off")),
            Verdict::Unscannable(why) => return Err(StreamStop::Unscannable(why)),
        };
        tally.released += report.chars;
        if !rules.observes() {
            out.extend_from_slice(&read);
        }
        Ok(())
    }

    /// Lets go what lies below the frontier.
    fn release(&mut self, rules: &StreamRules, tally: &mut Tally, out: &mut Vec<u8>) {
        // Offsets handed out lie between `base` and the end of `held`.
        let index = |offset: u64, base: u64| (offset - base) as usize;
        let to = index(self.channel.frontier(), self.base);
        tally.released += utf16_len(&self.held[..to]);
        if !rules.observes() {
            let mut from = 0;
            while let Some(cut) = self.channel.cuts.pop_front() {
                out.extend_from_slice(&self.held[from..index(cut.start, self.base)]);
                out.extend_from_slice(MARKER.as_bytes());
                from = index(cut.end, self.base);
            }
            out.extend_from_slice(&self.held[from..to]);
        }
        self.held.drain(..to);
        self.base += to as u64;
    }
}

/// Where the first `units` of a text end, if it has more of them.
fn end_of(bytes: &[u8], units: u64) -> Option<usize> {
    // No byte makes more than two units.
    if 2 * bytes.len() as u64 <= units || utf16_len(bytes) <= units {
        return None;
    }
    let mut sum = 0;
    bytes.iter().position(|&byte| {
        sum += utf16_len(&[byte]);
        sum > units
    })
}
