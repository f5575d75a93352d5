//! Events and lines, and the queue of those that may not leave yet.
//!
//! A frame leaves when every piece in it lies below the frontier of its text and all frames before it have left. It
//! is never written anew: what a rule matched is cut out of the bytes that came.

mod messages;
mod scratch;

use std::collections::{HashMap, HashSet, VecDeque};
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
    view::{Blocker, Counter},
};
use super::{
    HOLD_WIRE, StreamRules, StreamStop, Tally, Vendor,
    api::{Api, Class, Sorter, is_named_opaque, is_sound, looks_opaque},
    channel::{Channel, Stopped},
    document::{Document, Leaf, Piece, Unreadable, hashed},
    end::{self, Ending, Seen},
    house::House,
    messages::{Joining, MessageKind},
    template::{Filled, Template, Value},
};
use scratch::Scratch;

/// The most texts that one stream may be divided into.
const MAX_CHANNELS: usize = 256;

/// The most texts of one stream that are forgotten but for their end.
const MAX_ENDED: usize = 4096;

const TOO_MANY: StreamStop = StreamStop::Unscannable("a stream has too many texts");

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
    queue: VecDeque<Held>,
    /// Memory of the queue.
    queued: usize,
    channels: Vec<Channel>,
    by_key: HashMap<Box<[u8]>, usize>,
    /// The keys, hashed, of texts that have ended and were forgotten: what they withheld has left.
    ended: HashSet<u64>,
    /// Channels whose text has ended for good, whose place another may take.
    retired: Vec<usize>,
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
    /// Kept from frame to frame.
    sorter: Sorter,
    next: Held,
    /// How many frames were read as the one before with other values: the measure of work in tests.
    #[cfg(test)]
    pub(super) again: u64,
}

/// A frame, and what of it is withheld.
#[derive(Debug, Default)]
struct Held {
    raw: Vec<u8>,
    segments: Vec<Segment>,
    /// Raw offsets, of the whole frame.
    pieces: Vec<Piece>,
    edits: Vec<Edit>,
    /// What spells a text as numbers.
    integers: Vec<Range<usize>>,
    units: u64,
    /// Of a message.
    kind: MessageKind,
}

/// A piece of a channel's text.
#[derive(Debug)]
struct Segment {
    channel: usize,
    lo: u64,
    hi: u64,
    /// In [`Held::pieces`].
    pieces: Range<usize>,
}

/// Bytes to write in place of a range of the frame.
#[derive(Clone, Debug)]
struct Edit {
    raw: Range<usize>,
    by: &'static str,
}

/// Scans strings one by one.
enum Alone {
    None,
    First(Blocker),
    Count(Counter),
}

impl FrameScanner {
    pub(super) fn new(rules: &StreamRules, framing: Framing, declared: Option<Vendor>) -> Self {
        let readings = rules.rules.to_block();
        let alone = match rules.action {
            _ if !rules.rules.acts() => Alone::None,
            Action::Observe => Alone::Count(Counter::new(readings)),
            _ => Alone::First(Blocker::untracked(readings)),
        };
        Self {
            framing,
            declared,
            messages: None,
            splitter: Splitter::new(framing),
            queue: VecDeque::new(),
            queued: 0,
            channels: Vec::new(),
            by_key: HashMap::new(),
            ended: HashSet::new(),
            retired: Vec::new(),
            alone,
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
        self.queued + self.splitter.pending() + self.channels.iter().map(Channel::memory).sum::<usize>()
    }

    /// Bytes that came and have not left.
    pub(super) fn withheld(&self) -> usize {
        self.queue.iter().map(|held| held.raw.len()).sum::<usize>() + self.splitter.pending()
    }

    /// The counts of all channels whose scanners stop for nothing.
    pub(super) fn observed(&self) -> Vec<&[u64]> {
        let alone = match &self.alone {
            Alone::Count(scanner) => scanner.counts(),
            _ => &[],
        };
        self.channels.iter().map(Channel::observed).chain([alone]).collect()
    }

    pub(super) fn end(&self, house: Option<&House>, ending: &Ending<'_>) -> Vec<u8> {
        end::bytes(self.framing, self.declared, house, &self.seen, ending)
    }

    pub(super) fn feed(
        &mut self,
        rules: &StreamRules,
        mut bytes: &[u8],
        tally: &mut Tally,
        out: &mut Vec<u8>,
    ) -> Result<(), StreamStop> {
        while let Some(split) = self.splitter.next(&mut bytes) {
            match split {
                Split::Frame => self.frame(rules, tally, out)?,
                Split::LineFeed if rules.observes() => {}
                Split::LineFeed => match self.queue.back_mut() {
                    Some(held) => {
                        held.raw.push(b'\n');
                        self.queued += 1;
                    }
                    None => out.push(b'\n'),
                },
            }
        }
        self.check_wire(self.splitter.pending())
    }

    pub(super) fn finish(
        &mut self,
        rules: &StreamRules,
        tally: &mut Tally,
        out: &mut Vec<u8>,
    ) -> Result<(), StreamStop> {
        if self.splitter.finish() {
            self.frame(rules, tally, out)?;
        }
        let ended = self.finish_channels(rules, tally);
        self.release(tally, out);
        ended
    }

    /// More than this at once is not withheld.
    fn check_wire(&self, more: usize) -> Result<(), StreamStop> {
        match self.queued + more > HOLD_WIRE {
            true => Err(StreamStop::Unscannable("an event, or what waits for it, is too large")),
            false => Ok(()),
        }
    }

    /// Scans the frame that the splitter has completed, and lets go what may leave.
    fn frame(&mut self, rules: &StreamRules, tally: &mut Tally, out: &mut Vec<u8>) -> Result<(), StreamStop> {
        let frame = self.splitter.take();
        let size = frame.raw.len();
        self.scanned += 1;
        let result = self.check_wire(size).and_then(|()| self.scan(rules, &frame, tally));
        if result.is_ok() && !rules.observes() {
            self.next.raw.clear();
            if self.queue.is_empty() && self.next.edits.is_empty() && self.may_leave_untouched() {
                tally.released += self.next.units;
                out.extend_from_slice(&frame.raw);
                self.next.reset();
            } else {
                self.next.raw.extend_from_slice(&frame.raw);
                self.queued += self.next.memory();
                self.queue.push_back(std::mem::take(&mut self.next));
            }
        } else {
            tally.released += if rules.observes() { self.next.units } else { 0 };
            self.next.reset();
        }
        self.splitter.give_back(frame);
        self.release(tally, out);
        result
    }

    /// Whether the frame just scanned is below all frontiers, with nothing cut out of it.
    fn may_leave_untouched(&self) -> bool {
        self.next.segments.iter().all(|segment| {
            let channel = &self.channels[segment.channel];
            segment.hi <= channel.frontier() && channel.cuts.is_empty()
        })
    }

    /// Lets go the frames at the front that wait for nothing.
    fn release(&mut self, tally: &mut Tally, out: &mut Vec<u8>) {
        while let Some(front) = self.queue.front() {
            if front.segments.iter().any(|segment| segment.hi > self.channels[segment.channel].frontier()) {
                return;
            }
            let Some(mut held) = self.queue.pop_front() else { return };
            self.queued -= held.memory();
            tally.released += held.units;
            held.cut(&mut self.channels);
            held.write(out);
        }
    }

    /// Reads a frame into `next`.
    fn scan(&mut self, rules: &StreamRules, frame: &Frame, tally: &mut Tally) -> Result<(), StreamStop> {
        for line in &frame.rest {
            tally.counts.enter(|name| name.push_str("fields"));
            if self.scan_alone(rules, &frame.raw[line.clone()], tally) {
                return Err(self.refused(rules, tally));
            }
        }
        let mut scratch = Scratch::take();
        let result = match &frame.data[..] {
            [] => Ok(()),
            [line] => {
                let payload = &frame.raw[line.clone()];
                match self.template.fill(payload, &mut scratch.filled) {
                    true => self.again(rules, line.start, payload, &scratch.filled, tally),
                    false => self.payload(rules, frame, payload, &mut scratch.document, tally),
                }
            }
            lines => {
                let Scratch { document, payload, .. } = &mut *scratch;
                payload.clear();
                for (i, line) in lines.iter().enumerate() {
                    if i > 0 {
                        payload.push(b'\n');
                    }
                    payload.extend_from_slice(&frame.raw[line.clone()]);
                }
                self.payload(rules, frame, payload, document, tally)
            }
        };
        scratch.give_back();
        result
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
        if ends && let Some(&channel) = self.by_key.get(&self.sorter.key[..]) {
            self.finish_channel(rules, channel, tally)?;
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
        match &self.alone {
            Alone::Count(scanner) => scanner.counts().iter().sum(),
            Alone::None | Alone::First(_) => 0,
        }
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
            return match self.scan_alone(rules, text, tally) {
                // A name cannot be rewritten without changing what the document means.
                true => Err(self.refused(rules, tally)),
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
                self.template.string(document, leaf, Value::Piece(channel as u32));
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
        if !self.scan_alone(rules, text, tally) {
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
        let channel = &mut self.channels[index];
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

    /// The text whose key the sorter has. Where there are too many, one of which nothing is withheld makes room.
    fn channel(&mut self, rules: &StreamRules, tally: &mut Tally) -> Result<usize, StreamStop> {
        if let Some(&index) = self.by_key.get(&self.sorter.key[..]) {
            return Ok(index);
        }
        // What is withheld may still speak of a channel that has ended.
        let retired = if self.queue.is_empty() { self.retired.pop() } else { None };
        let index = if let Some(index) = retired {
            self.forget(index, tally)?;
            self.channels[index] = Channel::new(&rules.rules, rules.action);
            index
        } else if self.channels.len() < MAX_CHANNELS {
            if self.channels.is_empty() {
                // Most streams have one.
                self.channels.reserve_exact(1);
            }
            self.channels.push(Channel::new(&rules.rules, rules.action));
            self.channels.len() - 1
        } else {
            let index = self.idle_channel().ok_or(TOO_MANY)?;
            self.forget(index, tally)?;
            self.channels[index] = Channel::new(&rules.rules, rules.action);
            index
        };
        self.channels[index].finished = self.ended.contains(&hashed(&self.sorter.key));
        self.by_key.insert(self.sorter.key[..].into(), index);
        Ok(index)
    }

    /// Forgets all of a text but what it showed, and that it has ended.
    fn forget(&mut self, index: usize, tally: &mut Tally) -> Result<(), StreamStop> {
        let channel = &self.channels[index];
        tally.counts.by_rule.iter_mut().zip(channel.observed()).for_each(|(count, more)| *count += more);
        if channel.finished {
            let keys = self.by_key.iter().filter(|(_, known)| **known == index);
            self.ended.extend(keys.map(|(key, _)| hashed(key)));
        }
        self.by_key.retain(|_, known| *known != index);
        self.retired.retain(|known| *known != index);
        if self.ended.len() > MAX_ENDED { Err(TOO_MANY) } else { Ok(()) }
    }

    /// The text to forget first: one that has ended, or else the one that has been silent for longest.
    fn idle_channel(&self) -> Option<usize> {
        let mut waits = [false; MAX_CHANNELS];
        for segment in self.queue.iter().chain([&self.next]).flat_map(|held| &held.segments) {
            waits[segment.channel] = true;
        }
        let idle = self.channels.iter().enumerate().filter(|(index, channel)| !waits[*index] && channel.is_idle());
        idle.min_by_key(|(_, channel)| (!channel.finished, channel.last_used)).map(|(index, _)| index)
    }

    fn finish_channel(&mut self, rules: &StreamRules, channel: usize, tally: &mut Tally) -> Result<(), StreamStop> {
        tally.counts.enter(|name| {
            let key = self.by_key.iter().find(|&(_, &index)| index == channel);
            write_name(name, key.map_or(b"", |(key, _)| key));
        });
        let ended = self.channels[channel].finish(&rules.rules, &mut tally.counts);
        ended.map_err(|Stopped| StreamStop::Blocked)
    }

    fn finish_channels(&mut self, rules: &StreamRules, tally: &mut Tally) -> Result<(), StreamStop> {
        (0..self.channels.len()).try_for_each(|channel| self.finish_channel(rules, channel, tally))
    }

    /// Whether a rule matches in a string that stands alone, and is not only counted.
    fn scan_alone(&mut self, rules: &StreamRules, text: &[u8], tally: &mut Tally) -> bool {
        let readings = rules.rules.to_block();
        match &mut self.alone {
            Alone::None => false,
            Alone::Count(scanner) => {
                scanner.next_text(readings);
                scanner.feed_each(readings, text, |hit| tally.counts.place(hit));
                scanner.finish_each(readings, |hit| tally.counts.place(hit));
                false
            }
            Alone::First(scanner) => {
                scanner.reset(readings);
                scanner.feed(readings, text);
                scanner.finish(readings);
                // What is redacted is counted where it is cut.
                if let (Some(hit), true) = (scanner.hit(), rules.action != Action::Redact) {
                    tally.counts.add(hit);
                }
                scanner.hit().is_some()
            }
        }
    }

    /// The end that [`scan_alone`](Self::scan_alone) has found in a string that nothing can be cut out of.
    fn refused(&self, rules: &StreamRules, tally: &mut Tally) -> StreamStop {
        if let (Alone::First(scanner), Action::Redact) = (&self.alone, rules.action)
            && let Some(hit) = scanner.hit()
        {
            tally.counts.add(hit);
        }
        StreamStop::Blocked
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

fn piece(at: usize, len: usize, raw: &Range<usize>) -> Piece {
    // Frames are far smaller than 4 GiB.
    Piece { at: at as u32, len: len as u32, raw: raw.start as u32, raw_len: raw.len() as u32 }
}

/// Where the bytes of a frame's payload stand in the frame.
struct Place {
    /// The first line's, in the frame.
    first: usize,
    /// Of the lines behind it: where they begin in the payload and in the frame.
    lines: Vec<(usize, usize)>,
}

impl Place {
    fn of(frame: &Frame) -> Self {
        let mut at = 0;
        let mut lines = Vec::new();
        for (i, line) in frame.data.iter().enumerate() {
            if i > 0 {
                lines.push((at, line.start));
            }
            // The line feed between them.
            at += line.len() + 1;
        }
        Self { first: frame.data.first().map_or(0, |line| line.start), lines }
    }

    /// The raw range of payload bytes that stand in one line.
    fn raw(&self, start: usize, len: usize) -> Range<usize> {
        let line = self.lines.partition_point(|&(at, _)| at <= start);
        let (at, raw) = if line == 0 { (0, self.first) } else { self.lines[line - 1] };
        let raw = raw + (start - at);
        raw..raw + len
    }

    fn piece(&self, of_payload: &Piece) -> Piece {
        let raw = self.raw(of_payload.raw as usize, of_payload.raw_len as usize);
        Piece { raw: raw.start as u32, ..*of_payload }
    }
}

/// The raw range of a part of a string, in whole characters. `raw` is where linear pieces can be read.
fn raw_range(pieces: &[Piece], text: &[u8], part: Range<u32>) -> Option<Range<usize>> {
    let touched = |piece: &&Piece| piece.at < part.end && part.start < piece.at + piece.len;
    let first = pieces.iter().find(touched)?;
    let last = pieces.iter().rev().find(touched)?;
    let continues = |at: u32| text.get(at as usize).is_some_and(|byte| byte & 0xC0 == 0x80);
    let is_linear = |piece: &Piece| piece.len == piece.raw_len;
    let mut start = part.start.max(first.at);
    while is_linear(first) && start > first.at && continues(start) {
        start -= 1;
    }
    let mut end = part.end.min(last.at + last.len);
    while is_linear(last) && end < last.at + last.len && continues(end) {
        end += 1;
    }
    let start = if is_linear(first) { first.raw + (start - first.at) } else { first.raw };
    let end = if is_linear(last) { last.raw + (end - last.at) } else { last.raw + last.raw_len };
    Some(start as usize..end as usize)
}

impl Held {
    fn reset(&mut self) {
        self.raw.clear();
        self.segments.clear();
        self.pieces.clear();
        self.edits.clear();
        self.integers.clear();
        self.units = 0;
        self.kind = MessageKind::Text;
    }

    fn memory(&self) -> usize {
        self.raw.len()
            + self.segments.len() * size_of::<Segment>()
            + self.pieces.len() * size_of::<Piece>()
            + self.integers.len() * size_of::<Range<usize>>()
    }

    /// Turns what is cut out of the texts into edits of this frame.
    fn cut(&mut self, channels: &mut [Channel]) {
        for Segment { channel, lo, hi, pieces } in &self.segments {
            let cuts = &mut channels[*channel].cuts;
            if cuts.is_empty() {
                continue;
            }
            let pieces = &self.pieces[pieces.clone()];
            let text = text_of(pieces, &self.raw, (hi - lo) as usize);
            for cut in cuts.iter().take_while(|cut| cut.start < *hi) {
                let part = (cut.start.max(*lo) - lo) as u32..(cut.end.min(*hi) - lo) as u32;
                // The marker stands where the match begins.
                let by = if cut.start >= *lo { MARKER } else { "" };
                if let Some(raw) = raw_range(pieces, &text, part) {
                    self.edits.push(Edit { raw, by });
                }
            }
            while cuts.front().is_some_and(|cut| cut.end <= *hi) {
                cuts.pop_front();
            }
        }
    }

    fn write(mut self, out: &mut Vec<u8>) {
        if !self.edits.is_empty() {
            let zeros = self.integers.drain(..).map(|raw| Edit { raw, by: "0" });
            self.edits.extend(zeros);
            self.edits.sort_by_key(|edit| edit.raw.start);
        }
        let mut copied = 0;
        for Edit { raw, by } in self.edits {
            // Two parts may touch the same character.
            if raw.start >= copied {
                out.extend_from_slice(&self.raw[copied..raw.start]);
                out.extend_from_slice(by.as_bytes());
                if by.is_empty() && self.raw.get(raw.end) == Some(&b' ') && begins_value(&self.raw[..raw.start]) {
                    // Readers drop one space behind the colon, and this one is part of the text.
                    out.push(b' ');
                }
            }
            copied = copied.max(raw.end);
        }
        out.extend_from_slice(&self.raw[copied..]);
    }
}

/// Whether a `data` field without a space behind its colon begins right behind this part of a frame.
fn begins_value(before: &[u8]) -> bool {
    before.strip_suffix(b"data:").is_some_and(|lines| matches!(lines, [] | [.., b'\r' | b'\n'] | [0xEF, 0xBB, 0xBF]))
}

/// The text of linear pieces as it stands in the frame; escapes are left out, since they are cut as a whole.
fn text_of(pieces: &[Piece], raw: &[u8], len: usize) -> Vec<u8> {
    let mut text = vec![0; len];
    for piece in pieces.iter().filter(|piece| piece.len == piece.raw_len) {
        let (at, from, len) = (piece.at as usize, piece.raw as usize, piece.len as usize);
        text[at..at + len].copy_from_slice(&raw[from..from + len]);
    }
    text
}

/// What is left of a payload when the white space is gone that its readers cut off: JavaScript and Python cut off more
/// than JSON allows, a byte order mark included.
fn visible_start(payload: &[u8]) -> &[u8] {
    match std::str::from_utf8(payload) {
        Ok(text) => text.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}').as_bytes(),
        Err(_) => payload.trim_ascii_start(),
    }
}
