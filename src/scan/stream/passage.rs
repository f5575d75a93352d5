//! A request's body that is scanned while it is forwarded.
//!
//! Bytes of one document or text enter, cut anywhere; how many of them may be sent leaves. The verdict is that of
//! [`inspect`](crate::scan::inspect) over the whole, and is known at the end: whoever sends keeps back the last bytes
//! until then. Only for actions that change nothing, since a body is sent with the length that was declared.
//!
//! Invariants: no byte of a match lies below the frontier, not even of one that is yet incomplete; neither does the
//! end of a document's outermost value. Whether a body is refused does not depend on the chunks; if several reasons
//! speak against it, which one is told may. Scanners never keep the text itself.

use super::super::{
    body::{RuleHit, wide_encoding},
    rule::Action,
    ruleset::RuleSet,
    text::{
        json::{Container, JsonError, Lexer, Role, Run, Sink},
        utf16_len,
    },
    view::{Blocker, Counter, Origin, Transducer, View},
};
use super::StreamRules;

/// How the body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassageFormat {
    /// One JSON document.
    Json,
    /// One text, which is read as a JSON document, too, if it is one.
    Text,
}

/// Why a body must not be sent to its end; under [`Action::Observe`], why it is not read any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassageStop {
    /// A rule matched.
    Blocked,
    /// A text, or all of them together, are too long.
    TooLong,
    /// It is not the JSON document that it is said to be.
    Malformed(JsonError),
    /// It cannot be read, for this reason.
    Unscannable(&'static str),
}

/// Scans one body.
pub struct Passage {
    rules: StreamRules,
    reading: Reading,
    /// Bytes so far.
    fed: u64,
    stop: Option<PassageStop>,
}

enum Reading {
    Json(Box<Document>),
    Text(Box<Text>),
}

impl Passage {
    /// A scanner at the start of a body. The action of `rules` must be [`Action::Block`] or [`Action::Observe`]: any
    /// other blocks.
    pub fn new(rules: StreamRules, format: PassageFormat) -> Self {
        let reading = match format {
            PassageFormat::Json => Reading::Json(Box::new(Document::new(&rules))),
            PassageFormat::Text => Reading::Text(Box::new(Text::new(&rules))),
        };
        Self { rules, reading, fed: 0, stop: None }
    }

    /// Scans the next bytes of the body. Bytes after a stop are only counted.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.fed += bytes.len() as u64;
        if self.stop.is_some() {
            return;
        }
        let result = match &mut self.reading {
            Reading::Json(document) => document.feed(&self.rules, bytes),
            Reading::Text(text) => text.feed(&self.rules, bytes),
        };
        self.stop = result.err();
    }

    /// Ends the body. If there is no [`stop`](Self::stop) now, all of it may be sent.
    pub fn finish(&mut self) {
        // Nothing is as clean as nothing, whatever it is said to be.
        if self.stop.is_some() || self.fed == 0 {
            return;
        }
        let result = match &mut self.reading {
            Reading::Json(document) => document.finish(&self.rules),
            Reading::Text(text) => text.finish(&self.rules),
        };
        self.stop = result.err();
    }

    /// Offset below which nothing of the body can be part of a match. It never goes back while nothing stops.
    pub fn frontier(&self) -> u64 {
        match &self.reading {
            _ if self.rules.observes() => self.fed,
            Reading::Json(document) => document.frontier(self.fed),
            Reading::Text(text) => text.frontier(self.fed),
        }
    }

    /// Why the body must not be sent to its end, if it must not.
    pub fn stop(&self) -> Option<PassageStop> {
        self.stop
    }

    /// Bytes so far.
    pub fn fed(&self) -> u64 {
        self.fed
    }

    /// Length of all texts so far together, in UTF-16 units.
    pub fn chars(&self) -> u64 {
        match &self.reading {
            Reading::Json(document) => document.strings.chars(),
            Reading::Text(text) => text.chars(),
        }
    }

    /// The rules that matched so far, in the order of the rule set.
    pub fn hits(&self) -> Vec<RuleHit> {
        let mut counts = vec![0; self.rules.rules.rule_ids().len()];
        match &self.reading {
            Reading::Json(document) => document.strings.lane.count(&mut counts),
            Reading::Text(text) => text.count(&mut counts),
        }
        let all = counts.into_iter().enumerate();
        all.filter(|&(_, count)| count > 0).map(|(rule, count)| RuleHit { rule, count }).collect()
    }

    /// What is asked of the body.
    pub fn rules(&self) -> &StreamRules {
        &self.rules
    }

    /// Memory that grows with what is undecided, in bytes, about.
    pub fn memory(&self) -> usize {
        match &self.reading {
            Reading::Json(document) => document.strings.lane.memory(),
            Reading::Text(text) => text.memory(),
        }
    }
}

impl std::fmt::Debug for Passage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the text.
        f.debug_struct("Passage").field("fed", &self.fed).field("stop", &self.stop).finish_non_exhaustive()
    }
}

fn is_over(limit: Option<u64>, units: u64) -> bool {
    limit.is_some_and(|limit| units > limit)
}

/// Texts that are decoded from the body, one after another, and where each undecided byte of them came from.
struct Lane {
    finder: Finder,
    origin: Origin,
    /// Length of the current text so far.
    len: u64,
}

enum Finder {
    /// There are no rules.
    None,
    Block(Blocker),
    Count(Counter),
}

impl Lane {
    fn new(rules: &StreamRules) -> Self {
        let readings = rules.rules.to_block();
        let finder = match rules.action {
            _ if rules.rules.is_empty() => Finder::None,
            Action::Observe => Finder::Count(Counter::new(readings)),
            // A long candidate is no reason to refuse: whatever stands behind its start is held instead.
            _ => Finder::Block(Blocker::new(readings, u64::MAX)),
        };
        Self { finder, origin: Origin::default(), len: 0 }
    }

    /// A rule matched. What follows is not read any more.
    fn is_hit(&self) -> bool {
        matches!(&self.finder, Finder::Block(scanner) if scanner.stop().is_some())
    }

    /// Goes to the start of the next text.
    fn begin(&mut self, rules: &RuleSet) {
        if self.is_hit() {
            return;
        }
        self.len = 0;
        self.origin.clear();
        match &mut self.finder {
            Finder::None => {}
            Finder::Block(scanner) => scanner.reset(rules.to_block()),
            Finder::Count(scanner) => scanner.next_text(rules.to_block()),
        }
    }

    /// Reads the next bytes of the text; `raw` are those of the body that they stand for, all together unless `linear`.
    fn feed(&mut self, rules: &RuleSet, text: &[u8], raw: std::ops::Range<u64>, linear: bool) {
        match &mut self.finder {
            Finder::None => {}
            Finder::Count(scanner) => scanner.feed(rules.to_block(), text),
            Finder::Block(scanner) if scanner.stop().is_some() => {}
            Finder::Block(scanner) => {
                self.origin.push(self.len, text.len() as u64, raw, linear);
                self.len += text.len() as u64;
                scanner.feed(rules.to_block(), text);
                self.origin.trim(scanner.frontier());
            }
        }
    }

    /// Ends the text.
    fn end(&mut self, rules: &RuleSet) {
        match &mut self.finder {
            Finder::None => {}
            Finder::Block(scanner) => scanner.finish(rules.to_block()),
            Finder::Count(scanner) => scanner.finish(rules.to_block()),
        }
    }

    /// Where in the body the first byte stands that may become one of a match. `None` if no byte of the text may.
    fn withheld(&self) -> Option<u64> {
        match &self.finder {
            Finder::Block(scanner) => self.origin.start(scanner.frontier()),
            Finder::None | Finder::Count(_) => None,
        }
    }

    fn count(&self, counts: &mut [u64]) {
        match &self.finder {
            Finder::None => {}
            Finder::Block(scanner) => {
                if let Some(hit) = scanner.hit() {
                    counts[hit.rule] += 1;
                }
            }
            Finder::Count(scanner) => {
                counts.iter_mut().zip(scanner.counts()).for_each(|(count, more)| *count += more);
            }
        }
    }

    fn memory(&self) -> usize {
        let scanner = if let Finder::Block(scanner) = &self.finder { scanner.memory() } else { 0 };
        self.origin.memory() + scanner
    }
}

/// A JSON document, each of its strings a text.
struct Document {
    lexer: Lexer,
    strings: Strings,
}

struct Strings {
    lane: Lane,
    role: Role,
    /// The current string has begun and not ended.
    inside: bool,
    /// Offset behind the last run of the current string.
    behind: u64,
    /// Where the last byte of the structure stands, and the last that ended a string or a container.
    at: u64,
    closed: u64,
    /// The outermost value is a string, an array or an object.
    holds_text: bool,
    /// It is a number or a word.
    is_scalar: bool,
    /// UTF-16 units of the current value, of the longest, and of all values that ended.
    units: u64,
    longest: u64,
    ended: u64,
}

impl Document {
    fn new(rules: &StreamRules) -> Self {
        let strings = Strings {
            lane: Lane::new(rules),
            role: Role::Value,
            inside: false,
            behind: 0,
            at: 0,
            closed: 0,
            holds_text: false,
            is_scalar: false,
            units: 0,
            longest: 0,
            ended: 0,
        };
        Self { lexer: Lexer::new(), strings }
    }

    /// Reads more of the document, whatever it finds there.
    fn read(&mut self, rules: &StreamRules, bytes: &[u8]) -> Result<(), JsonError> {
        self.lexer.feed(bytes, &mut Reader { strings: &mut self.strings, rules: &rules.rules })
    }

    fn feed(&mut self, rules: &StreamRules, bytes: &[u8]) -> Result<(), PassageStop> {
        let read = self.read(rules, bytes);
        self.judge(rules, read)
    }

    fn finish(&mut self, rules: &StreamRules) -> Result<(), PassageStop> {
        let read = self.lexer.finish();
        self.judge(rules, read)
    }

    fn judge(&self, rules: &StreamRules, read: Result<(), JsonError>) -> Result<(), PassageStop> {
        if self.strings.lane.is_hit() {
            return Err(PassageStop::Blocked);
        }
        read.map_err(PassageStop::Malformed)?;
        if self.strings.is_too_long(rules) { Err(PassageStop::TooLong) } else { Ok(()) }
    }

    fn frontier(&self, fed: u64) -> u64 {
        let strings = &self.strings;
        match strings.lane.withheld() {
            Some(at) if strings.inside || strings.lane.is_hit() => at,
            // What is not a whole run may be a part of an escape.
            _ if strings.inside => strings.behind,
            _ if self.lexer.is_complete() && strings.holds_text => strings.closed,
            _ => fed,
        }
    }
}

impl Strings {
    fn chars(&self) -> u64 {
        self.ended + self.units
    }

    fn is_too_long(&self, rules: &StreamRules) -> bool {
        let longest = self.longest.max(self.units);
        !rules.observes() && (is_over(rules.max_chars, longest) || is_over(rules.max_body_chars, self.chars()))
    }
}

struct Reader<'a> {
    strings: &'a mut Strings,
    rules: &'a RuleSet,
}

impl Sink for Reader<'_> {
    fn at(&mut self, raw: u64) {
        self.strings.at = raw;
    }

    fn open(&mut self, _: Container) {
        self.strings.holds_text = true;
    }

    fn close(&mut self) {
        self.strings.closed = self.strings.at;
    }

    fn scalar(&mut self, _: u64) {
        self.strings.is_scalar |= !self.strings.holds_text;
    }

    fn begin(&mut self, role: Role, raw: u64) {
        let strings = &mut *self.strings;
        (strings.role, strings.inside, strings.behind) = (role, true, raw + 1);
        strings.holds_text = true;
        strings.lane.begin(self.rules);
    }

    fn run(&mut self, run: Run<'_>) {
        let strings = &mut *self.strings;
        let raw = run.raw..run.raw + u64::from(run.raw_len);
        strings.behind = raw.end;
        if strings.role == Role::Value {
            strings.units += utf16_len(run.text);
        }
        strings.lane.feed(self.rules, run.text, raw, run.raw_len as usize == run.text.len());
    }

    fn end(&mut self, raw: u64) {
        let strings = &mut *self.strings;
        (strings.inside, strings.closed) = (false, raw);
        strings.longest = strings.longest.max(strings.units);
        strings.ended += std::mem::take(&mut strings.units);
        strings.lane.end(self.rules);
    }
}

/// One text, read as it is and as readers of something like JSON would.
struct Text {
    raw: Lane,
    /// All escapes decoded wherever they stand. It counts where the text is no document.
    unescaped: Lane,
    unescape: Transducer,
    /// Bytes in whole units of what is unescaped.
    units_end: u64,
    has_escapes: bool,
    /// `None` once the text is no document.
    document: Option<Document>,
    /// UTF-16 units.
    units: u64,
    /// Its first bytes, which may be a mark of UTF-16.
    start: [u8; 2],
    fed: u64,
}

impl Text {
    fn new(rules: &StreamRules) -> Self {
        Self {
            raw: Lane::new(rules),
            unescaped: Lane::new(rules),
            unescape: Transducer::new(View::JsonUnescape),
            units_end: 0,
            has_escapes: false,
            document: Some(Document::new(rules)),
            units: 0,
            start: [0; 2],
            fed: 0,
        }
    }

    fn feed(&mut self, rules: &StreamRules, bytes: &[u8]) -> Result<(), PassageStop> {
        // What stands before a byte that makes it unreadable is read, however the text was cut.
        let (readable, unreadable) = bytes.split_at(memchr::memchr(0, bytes).unwrap_or(bytes.len()));
        self.read(rules, readable)?;
        match wide_encoding(unreadable) {
            Some(why) => Err(PassageStop::Unscannable(why)),
            None => Ok(()),
        }
    }

    fn read(&mut self, rules: &StreamRules, bytes: &[u8]) -> Result<(), PassageStop> {
        for (place, &byte) in self.start.iter_mut().skip(self.fed.min(2) as usize).zip(bytes) {
            *place = byte;
        }
        let begins = self.fed;
        self.fed += bytes.len() as u64;
        if begins < 2
            && self.fed >= 2
            && let Some(why) = wide_encoding(&self.start)
        {
            return Err(PassageStop::Unscannable(why));
        }
        self.units += utf16_len(bytes);
        self.raw.feed(&rules.rules, bytes, begins..self.fed, true);
        self.has_escapes |= memchr::memchr(b'\\', bytes).is_some();
        let (lane, end) = (&mut self.unescaped, &mut self.units_end);
        self.unescape.feed(bytes, |unit| {
            let from = std::mem::replace(end, *end + unit.raw);
            lane.feed(&rules.rules, unit.text, from..*end, unit.linear);
        });
        if let Some(document) = &mut self.document {
            let read = document.read(rules, bytes);
            // A number or a word has no text but itself.
            if read.is_err() || document.strings.is_scalar {
                self.document = None;
            }
        }
        self.judge(rules)
    }

    fn finish(&mut self, rules: &StreamRules) -> Result<(), PassageStop> {
        let (lane, end) = (&mut self.unescaped, &mut self.units_end);
        self.unescape.finish(|unit| {
            let from = std::mem::replace(end, *end + unit.raw);
            lane.feed(&rules.rules, unit.text, from..*end, unit.linear);
        });
        self.raw.end(&rules.rules);
        self.unescaped.end(&rules.rules);
        if let Some(document) = &mut self.document {
            match document.lexer.finish() {
                Ok(()) => document.finish(rules)?,
                Err(_) => self.document = None,
            }
        }
        self.judge(rules)
    }

    /// What is certain so far: while it may be a document, only what it says as it is.
    fn judge(&self, rules: &StreamRules) -> Result<(), PassageStop> {
        if self.raw.is_hit() || (self.document.is_none() && self.unescaped.is_hit()) {
            return Err(PassageStop::Blocked);
        }
        let limits = [rules.max_chars, rules.max_body_chars];
        let too_long = !rules.observes() && limits.into_iter().any(|limit| is_over(limit, self.units));
        if self.document.is_none() && too_long { Err(PassageStop::TooLong) } else { Ok(()) }
    }

    fn frontier(&self, fed: u64) -> u64 {
        let document = self.document.as_ref().map_or(fed, |document| document.frontier(fed));
        let raw = self.raw.withheld().unwrap_or(fed);
        let unescaped = self.unescaped.withheld().unwrap_or(self.units_end);
        document.min(raw).min(unescaped)
    }

    fn chars(&self) -> u64 {
        self.document.as_ref().map_or(self.units, |document| document.strings.chars())
    }

    /// The same match, read in two ways, is one.
    fn count(&self, counts: &mut [u64]) {
        let Some(document) = &self.document else {
            self.raw.count(counts);
            if self.has_escapes {
                self.unescaped.count(counts);
            }
            return;
        };
        document.strings.lane.count(counts);
        let mut raw = vec![0; counts.len()];
        self.raw.count(&mut raw);
        for (count, more) in counts.iter_mut().zip(raw) {
            if *count == 0 {
                *count = more;
            }
        }
    }

    fn memory(&self) -> usize {
        let document = self.document.as_ref().map_or(0, |document| document.strings.lane.memory());
        self.raw.memory() + self.unescaped.memory() + document
    }
}

#[cfg(test)]
mod tests;
