//! Events and lines, and the queue of those that may not leave yet.
//!
//! A frame leaves when every piece in it lies below the frontier of its text and all frames before it have left. It
//! is never written anew: what a rule matched is cut out of the bytes that came.

mod alone;
mod channels;
mod held;
mod messages;
mod place;
mod scratch;

use std::ops::Range;

use super::super::{
    body::MARKER,
    rule::Action,
    ruleset::RuleSet,
    text::{
        json::Role,
        sse::{Frame, Framing, Split, Splitter},
        utf16_len,
    },
};
use super::{
    HOLD_WIRE, StreamRules, StreamStop, Tally, Vendor,
    api::{Api, Class, Sorter, is_named_opaque, is_sound, looks_opaque},
    channel::{Channel, Stopped},
    document::{Document, Leaf, Piece, Unreadable},
    end::{self, Ending, Seen},
    house::House,
    messages::Joining,
    template::{Filled, Template, Value},
};
use alone::Alone;
use channels::Channels;
use held::{Edit, Held, Queue, Segment};
use place::{Place, piece, raw_range};
use scratch::Scratch;

/// What many streams end with, which no reader takes for text.
const DONE: &[u8] = b"[DONE]";

const TWO_READINGS: StreamStop = StreamStop::Unscannable("an event can be read in two ways");

/// Scans a stream of frames.
pub(super) struct FrameScanner {
    framing: Framing,
    declared: Option<Vendor>,
    /// The frames are messages.
    messages: Option<Joining>,
    splitter: Splitter,
    queue: Queue,
    channels: Channels,
    /// For strings that stand alone.
    alone: Alone,
    /// All pieces so far, in UTF-16 units.
    units: u64,
    /// Frames so far.
    scanned: u64,
    /// Some frame was a JSON object or array.
    is_json: bool,
    seen: Seen,
    /// The frame before.
    template: Template,
    /// Of the frame that is being read. Between chunks they are empty, without memory of their own.
    sorter: Sorter,
    next: Held,
    /// How many frames were read as the one before with other values: the measure of work in tests.
    #[cfg(test)]
    pub(super) again: u64,
}

impl FrameScanner {
    pub(super) fn new(rules: &StreamRules, framing: Framing, declared: Option<Vendor>) -> Self {
        Self {
            framing,
            declared,
            messages: None,
            splitter: Splitter::new(framing),
            queue: Queue::default(),
            channels: Channels::default(),
            alone: Alone::new(rules),
            units: 0,
            scanned: 0,
            is_json: false,
            seen: Seen::default(),
            template: Template::default(),
            sorter: Sorter::default(),
            next: Held::default(),
            #[cfg(test)]
            again: 0,
        }
    }

    pub(super) fn held(&self) -> usize {
        self.queue.memory() + self.splitter.pending() + self.channels.iter().map(Channel::memory).sum::<usize>()
    }

    /// Bytes that came and have not left.
    pub(super) fn withheld(&self) -> usize {
        self.queue.iter().map(|held| held.raw.len()).sum::<usize>() + self.splitter.pending()
    }

    /// The counts of all channels whose scanners stop for nothing.
    pub(super) fn observed(&self) -> Vec<&[u64]> {
        self.channels.iter().map(Channel::observed).chain([self.alone.counts()]).collect()
    }

    pub(super) fn end(&self, house: Option<&House>, ending: &Ending<'_>) -> Vec<u8> {
        end::bytes(self.framing, self.declared, house, &self.seen, ending)
    }

    pub(super) fn feed(
        &mut self,
        rules: &StreamRules,
        bytes: &[u8],
        tally: &mut Tally,
        out: &mut Vec<u8>,
    ) -> Result<(), StreamStop> {
        self.with_scratch(|scanner, scratch| scanner.frames(rules, bytes, tally, out, scratch))
    }

    pub(super) fn finish(
        &mut self,
        rules: &StreamRules,
        tally: &mut Tally,
        out: &mut Vec<u8>,
    ) -> Result<(), StreamStop> {
        self.with_scratch(|scanner, scratch| {
            if scanner.splitter.finish() {
                scanner.frame(rules, tally, out, scratch)?;
            }
            let ended = scanner.finish_channels(rules, tally);
            scanner.release(tally, out);
            ended
        })
    }

    /// Reads with the thread's buffers in place of the stream's own.
    fn with_scratch(
        &mut self,
        read: impl FnOnce(&mut Self, &mut Scratch) -> Result<(), StreamStop>,
    ) -> Result<(), StreamStop> {
        let mut scratch = Scratch::take();
        self.exchange(&mut scratch);
        let result = read(self, &mut scratch);
        self.next.reset();
        self.exchange(&mut scratch);
        scratch.give_back();
        result
    }

    fn exchange(&mut self, scratch: &mut Scratch) {
        self.splitter.exchange(&mut scratch.frame);
        std::mem::swap(&mut self.next, &mut scratch.next);
        std::mem::swap(&mut self.sorter, &mut scratch.sorter);
    }

    fn frames(
        &mut self,
        rules: &StreamRules,
        mut bytes: &[u8],
        tally: &mut Tally,
        out: &mut Vec<u8>,
        scratch: &mut Scratch,
    ) -> Result<(), StreamStop> {
        while let Some(split) = self.splitter.next(&mut bytes) {
            match split {
                Split::Frame => self.frame(rules, tally, out, scratch)?,
                Split::LineFeed if rules.observes() || self.queue.line_feed() => {}
                Split::LineFeed => out.push(b'\n'),
            }
        }
        self.check_wire(self.splitter.pending())
    }

    /// More than this at once is not withheld.
    fn check_wire(&self, more: usize) -> Result<(), StreamStop> {
        match self.queue.memory() + more > HOLD_WIRE {
            true => Err(StreamStop::Unscannable("an event, or what waits for it, is too large")),
            false => Ok(()),
        }
    }

    /// Scans the frame that the splitter has completed, and lets go what may leave.
    fn frame(
        &mut self,
        rules: &StreamRules,
        tally: &mut Tally,
        out: &mut Vec<u8>,
        scratch: &mut Scratch,
    ) -> Result<(), StreamStop> {
        let frame = self.splitter.take();
        let size = frame.raw.len();
        self.scanned += 1;
        let result = self.check_wire(size).and_then(|()| self.scan(rules, &frame, tally, scratch));
        if result.is_ok() && !rules.observes() {
            self.next.raw.clear();
            if self.queue.is_empty() && self.next.may_leave_untouched(&self.channels) {
                tally.released += self.next.units;
                out.extend_from_slice(&frame.raw);
                self.next.reset();
            } else {
                self.next.raw.extend_from_slice(&frame.raw);
                self.queue.push(std::mem::take(&mut self.next));
            }
        } else {
            tally.released += if rules.observes() { self.next.units } else { 0 };
            self.next.reset();
        }
        self.splitter.give_back(frame);
        self.release(tally, out);
        result
    }

    /// Lets go the frames at the front that wait for nothing.
    fn release(&mut self, tally: &mut Tally, out: &mut Vec<u8>) {
        while let Some(held) = self.queue.released(&mut self.channels) {
            tally.released += held.units;
            held.write(out);
        }
    }

    /// Reads a frame into `next`.
    fn scan(
        &mut self,
        rules: &StreamRules,
        frame: &Frame,
        tally: &mut Tally,
        scratch: &mut Scratch,
    ) -> Result<(), StreamStop> {
        for line in &frame.rest {
            tally.counts.enter(|name| name.push_str("fields"));
            if self.alone.scan(rules, &frame.raw[line.clone()], tally) {
                return Err(self.alone.refused(rules, tally));
            }
        }
        let Scratch { document, filled, payload: joined, .. } = scratch;
        match &frame.data[..] {
            [] => Ok(()),
            [line] => {
                let payload = &frame.raw[line.clone()];
                match self.template.fill(payload, filled) {
                    true => self.again(rules, line.start, payload, filled, tally),
                    false => self.payload(rules, frame, payload, document, tally),
                }
            }
            lines => {
                joined.clear();
                for (i, line) in lines.iter().enumerate() {
                    if i > 0 {
                        joined.push(b'\n');
                    }
                    joined.extend_from_slice(&frame.raw[line.clone()]);
                }
                self.payload(rules, frame, joined, document, tally)
            }
        }
    }

    /// Scans a payload that is the template with other values, which begins in the frame at `at`.
    fn again(
        &mut self,
        rules: &StreamRules,
        at: usize,
        payload: &[u8],
        filled: &[Filled],
        tally: &mut Tally,
    ) -> Result<(), StreamStop> {
        #[cfg(test)]
        {
            self.again += 1;
        }
        tally.unread.opaque += self.template.opaque;
        for Filled { value, raw, same } in filled {
            let text = &payload[raw.clone()];
            let linear = || (!text.is_empty()).then(|| piece(0, text.len(), &(at + raw.start..at + raw.end)));
            match *value {
                Value::Piece(channel) => {
                    let from = self.next.pieces.len();
                    self.next.pieces.extend(linear());
                    let pieces = from..self.next.pieces.len();
                    self.piece_of(rules, channel as usize, text, pieces, tally)?;
                }
                Value::Alone { id: true } if looks_opaque(text) => tally.unread.opaque += text.len() as u64,
                Value::Alone { .. } if *same => {}
                Value::Alone { .. } => self.text_alone(rules, text, linear().into_iter(), tally)?,
                Value::Number => {}
                Value::Sequence => self.seen.sequence(Some(text)),
            }
        }
        Ok(())
    }

    fn payload(
        &mut self,
        rules: &StreamRules,
        frame: &Frame,
        payload: &[u8],
        document: &mut Document,
        tally: &mut Tally,
    ) -> Result<(), StreamStop> {
        self.template.clear();
        if rules.house.as_ref().is_some_and(|house| house.is_done(payload)) {
            self.seen.done = true;
            return self.finish_channels(rules, tally);
        }
        match document.read(payload) {
            // A number or a word is a text to those who read no JSON, and nothing to those who do.
            Ok(()) if document.nodes.is_empty() && document.leaves.is_empty() => {
                self.data(rules, frame, payload, tally)
            }
            Ok(()) => self.document(rules, frame, payload, document, tally),
            Err(Unreadable::NotJson(_)) if self.is_text(payload, document) => self.data(rules, frame, payload, tally),
            Err(Unreadable::NotJson(_)) => Err(StreamStop::Unscannable("an event is not the JSON that it seems to be")),
            Err(Unreadable::TwoMembers) => Err(TWO_READINGS),
            Err(Unreadable::TooManyParts) => Err(StreamStop::Unscannable("an event has too many parts")),
        }
    }

    /// Whether a payload that is no JSON is a text for its readers too. One that a lenient reader would take for
    /// JSON is not (`NaN`, two documents): its strings would not be joined with those of other
    /// events, and what it has escaped would not be seen.
    fn is_text(&self, payload: &[u8], document: &Document) -> bool {
        let start = visible_start(payload);
        let opens = matches!(start.first(), Some(b'{' | b'['));
        // Behind white space that is none in JSON nothing was read.
        let read =
            !(document.leaves.is_empty() && document.text.is_empty()) || start.len() < payload.trim_ascii_start().len();
        let strings = read && payload.contains(&b'"');
        match self.framing {
            Framing::Lines => false,
            Framing::Events => payload.trim_ascii() == DONE || !(opens && (self.is_json || strings)),
        }
    }

    /// A payload that is one text, or the end of all.
    fn data(
        &mut self,
        rules: &StreamRules,
        frame: &Frame,
        payload: &[u8],
        tally: &mut Tally,
    ) -> Result<(), StreamStop> {
        if self.messages == Some(Joining::Whole) {
            return self.whole_text(rules, payload, tally);
        }
        // A text among messages: another one may follow.
        if payload.trim_ascii() == DONE && self.messages.is_none() {
            self.seen.done = true;
            return self.finish_channels(rules, tally);
        }
        let from = self.next.pieces.len();
        let mut at = 0;
        for (i, line) in frame.data.iter().enumerate() {
            if i > 0 {
                // The line feed between two lines is written as all that stands between them.
                let raw = frame.data[i - 1].end..line.start;
                self.next.pieces.push(piece(at, 1, &raw));
                at += 1;
            }
            if !line.is_empty() {
                self.next.pieces.push(piece(at, line.len(), line));
                at += line.len();
            }
        }
        self.sorter.set_text_key();
        let pieces = from..self.next.pieces.len();
        self.piece(rules, payload, pieces, tally)
    }

    fn document(
        &mut self,
        rules: &StreamRules,
        frame: &Frame,
        payload: &[u8],
        document: &Document,
        tally: &mut Tally,
    ) -> Result<(), StreamStop> {
        self.is_json |= !document.nodes.is_empty();
        let api = if self.messages.is_some() { Api::of_message(document) } else { Api::of(document) };
        self.seen.frame(api, document, payload);
        let place = Place::of(frame);
        let hits = self.hits_alone();
        if let Some(house) = &rules.house {
            self.sorter.begin(house, document);
        }
        for leaf in &document.leaves {
            self.leaf(rules, &place, api, document, leaf, tally)?;
        }
        self.next.integers.extend(document.integers.iter().map(|range| place.raw(range.start as usize, range.len())));
        let ends = api == Some(Api::OpenAiResponses) && self.sorter.ended(Api::OpenAiResponses, document);
        if ends && let Some(channel) = self.channels.find(&self.sorter.key) {
            let key = std::mem::take(&mut self.sorter.key);
            self.finish_channel(rules, channel, &key, tally)?;
            self.sorter.key = key;
        }
        if api == Some(Api::OpenAiRealtime) {
            self.retire(rules, document, tally)?;
        }
        // A frame like this one does the same again only if it found nothing, ended nothing, and is read by nobody else.
        let plain = !ends && self.next.edits.is_empty() && hits == self.hits_alone() && document.integers.is_empty();
        let known = rules.house.is_none() && self.messages.is_none() && tally.counts.places.is_none();
        if plain && known && frame.data.len() == 1 && !document.nodes.is_empty() {
            self.template.scalars(document);
            self.template.set(payload);
        }
        Ok(())
    }

    /// Hits in strings that stand alone, where they are only counted.
    fn hits_alone(&self) -> u64 {
        self.alone.counts().iter().sum()
    }

    fn leaf(
        &mut self,
        rules: &StreamRules,
        place: &Place,
        api: Option<Api>,
        document: &Document,
        leaf: &Leaf,
        tally: &mut Tally,
    ) -> Result<(), StreamStop> {
        let text = document.text(leaf);
        if leaf.role == Role::Key {
            tally.counts.enter(|name| name.push_str("names"));
            return match self.alone.scan(rules, text, tally) {
                // A name cannot be rewritten without changing what the document means.
                true => Err(self.alone.refused(rules, tally)),
                false => Ok(()),
            };
        }
        let house = rules.house.as_deref();
        let class = match (self.sorter.sort(api, house, document, leaf), self.messages) {
            (_, Some(Joining::Whole)) => Class::Alone,
            (class, _) => class,
        };
        self.seen.string(api, document, &self.sorter, text);
        let pieces = document.pieces[leaf.pieces.clone()].iter().map(|piece| place.piece(piece));
        match class {
            Class::Delta => {
                let from = self.next.pieces.len();
                self.next.pieces.extend(pieces);
                let pieces = from..self.next.pieces.len();
                let channel = self.channel(rules, tally)?;
                // There are far fewer texts than this.
                self.template.string(document, leaf, Value::Piece(channel as u16));
                self.piece_of(rules, channel, text, pieces, tally)
            }
            Class::Alone => {
                let id = self.declared.is_some() && is_named_opaque(document.name(&leaf.label));
                let is_opaque = match house {
                    Some(house) if house.is_opaque(self.sorter.last_path()) => looks_opaque(text),
                    _ => id && looks_opaque(text),
                } || self.declared.is_some() && is_sound(api, document, leaf, text);
                // What an answer ends with is noted, and must be read.
                let read = self.sorter.last_path() == b"choices[].finish_reason";
                let may_change = !read && self.template.string(document, leaf, Value::Alone { id });
                if is_opaque {
                    tally.unread.opaque += text.len() as u64;
                    self.template.opaque += if may_change { 0 } else { text.len() as u64 };
                    return Ok(());
                }
                if self.messages == Some(Joining::Whole) {
                    self.next.units += utf16_len(text);
                }
                self.text_alone(rules, text, pieces, tally)
            }
        }
    }

    /// Scans a string that stands alone, and cuts out what it has to.
    fn text_alone(
        &mut self,
        rules: &StreamRules,
        text: &[u8],
        pieces: impl Iterator<Item = Piece>,
        tally: &mut Tally,
    ) -> Result<(), StreamStop> {
        if rules.max_chars.is_some_and(|max| utf16_len(text) > max) && !rules.observes() {
            return Err(StreamStop::TooLong);
        }
        tally.counts.enter(|name| name.push_str(&String::from_utf8_lossy(self.sorter.last_path())));
        if !self.alone.scan(rules, text, tally) {
            return Ok(());
        }
        if rules.action != Action::Redact {
            return Err(StreamStop::Blocked);
        }
        self.redact_alone(&rules.rules, text, &pieces.collect::<Vec<_>>(), tally)
    }

    /// Feeds a piece of the text whose key the sorter has; `pieces` are those of `next`.
    fn piece(
        &mut self,
        rules: &StreamRules,
        text: &[u8],
        pieces: Range<usize>,
        tally: &mut Tally,
    ) -> Result<(), StreamStop> {
        let index = self.channel(rules, tally)?;
        self.piece_of(rules, index, text, pieces, tally)
    }

    /// Feeds a piece of a channel's text.
    fn piece_of(
        &mut self,
        rules: &StreamRules,
        index: usize,
        text: &[u8],
        pieces: Range<usize>,
        tally: &mut Tally,
    ) -> Result<(), StreamStop> {
        tally.counts.enter(|name| write_name(name, &self.sorter.key));
        let channel = self.channels.of_mut(index);
        channel.last_used = self.scanned;
        if channel.finished && !text.is_empty() {
            return Err(StreamStop::Unscannable("a text goes on behind its end"));
        }
        let (lo, before) = (channel.len, channel.units);
        channel.feed(&rules.rules, text, &mut tally.counts).map_err(|Stopped| StreamStop::Blocked)?;
        let units = channel.units - before;
        self.units += units;
        self.next.units += units;
        self.next.segments.push(Segment { channel: index, lo, hi: channel.len, pieces });
        // Of messages each is a body, and where no end of a text is known, a text.
        let (text, body) = match self.messages {
            None => (channel.units, self.units),
            Some(_) if self.seen.ends_are_told() => (channel.units, self.next.units),
            Some(_) => (units, self.next.units),
        };
        let too_long =
            rules.max_chars.is_some_and(|max| text > max) || rules.max_body_chars.is_some_and(|max| body > max);
        if too_long && !rules.observes() { Err(StreamStop::TooLong) } else { Ok(()) }
    }

    /// The text whose key the sorter has.
    fn channel(&mut self, rules: &StreamRules, tally: &mut Tally) -> Result<usize, StreamStop> {
        self.channels.find_or_add(&self.sorter.key, rules, self.queue.iter(), &self.next, tally)
    }

    /// Ends a text, which is called by this key.
    fn finish_channel(
        &mut self,
        rules: &StreamRules,
        channel: usize,
        key: &[u8],
        tally: &mut Tally,
    ) -> Result<(), StreamStop> {
        tally.counts.enter(|name| write_name(name, key));
        let ended = self.channels.of_mut(channel).finish(&rules.rules, &mut tally.counts);
        ended.map_err(|Stopped| StreamStop::Blocked)
    }

    fn finish_channels(&mut self, rules: &StreamRules, tally: &mut Tally) -> Result<(), StreamStop> {
        (0..self.channels.len()).try_for_each(|channel| {
            let key: Box<[u8]> = self.channels.key(channel).into();
            self.finish_channel(rules, channel, &key, tally)
        })
    }

    /// Cuts the matches out of a string that stands alone.
    fn redact_alone(
        &mut self,
        rules: &RuleSet,
        text: &[u8],
        pieces: &[Piece],
        tally: &mut Tally,
    ) -> Result<(), StreamStop> {
        let mut channel = Channel::new(rules, Action::Redact);
        let ended = channel.feed(rules, text, &mut tally.counts);
        ended.and_then(|()| channel.finish(rules, &mut tally.counts)).map_err(|Stopped| StreamStop::Blocked)?;
        for cut in channel.cuts {
            if let Some(raw) = raw_range(pieces, text, cut.start as u32..cut.end as u32) {
                self.next.edits.push(Edit { raw, by: MARKER });
            }
        }
        Ok(())
    }
}

/// The name of a text for people: its key, without the dot that begins a path.
fn write_name(name: &mut String, key: &[u8]) {
    name.push_str(&String::from_utf8_lossy(key.strip_prefix(b".").unwrap_or(key)));
}

/// What is left of a payload when the white space is gone that its readers cut off: JavaScript and Python cut off more
/// than JSON allows, a byte order mark included.
fn visible_start(payload: &[u8]) -> &[u8] {
    match std::str::from_utf8(payload) {
        Ok(text) => text.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}').as_bytes(),
        Err(_) => payload.trim_ascii_start(),
    }
}
