//! The JSON lexer, against the document itself and against `serde_json`.

use std::fmt;

use keyward::scan::text::json::{Container, JsonError, Lexer, Role, Run, Sink};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::input::Input;

/// As deep as both readers go, and some less.
const DEPTH: usize = 100;

#[derive(Debug, PartialEq)]
enum Event {
    Open(Container),
    Close,
    Scalar(u64),
    /// Where its quotes are, and each byte of it with the place that it was written at.
    Text {
        role: Role,
        begin: u64,
        bytes: Vec<(u8, u64)>,
        end: u64,
    },
}

struct Log<'a> {
    document: &'a [u8],
    events: Vec<Event>,
    role: Role,
    begin: u64,
    bytes: Vec<(u8, u64)>,
    /// Where the next run must begin.
    raw: u64,
    at: u64,
    depth: usize,
    deepest: usize,
}

impl Sink for Log<'_> {
    fn at(&mut self, raw: u64) {
        assert!(self.at <= raw, "structure goes back from {} to {raw}", self.at);
        self.at = raw;
    }

    fn open(&mut self, container: Container) {
        self.depth += 1;
        self.deepest = self.deepest.max(self.depth);
        self.events.push(Event::Open(container));
    }

    fn close(&mut self) {
        self.depth -= 1;
        self.events.push(Event::Close);
    }

    fn scalar(&mut self, raw: u64) {
        self.events.push(Event::Scalar(raw));
    }

    fn begin(&mut self, role: Role, raw: u64) {
        assert_eq!(self.document[raw as usize], b'"', "a string begins with its quote");
        (self.role, self.begin, self.raw) = (role, raw, raw + 1);
        self.bytes.clear();
    }

    fn run(&mut self, run: Run<'_>) {
        assert_eq!(run.at, self.bytes.len() as u64, "runs follow each other in the string");
        assert_eq!(run.raw, self.raw, "runs follow each other in the document");
        self.raw += u64::from(run.raw_len);
        let written = &self.document[run.raw as usize..self.raw as usize];
        let linear = run.raw_len as usize == run.text.len();
        assert!(if linear { written == run.text } else { written[0] == b'\\' }, "{run:?} is written as {written:?}");
        let places = (0..).map(|i| if linear { run.raw + i } else { run.raw });
        self.bytes.extend(run.text.iter().copied().zip(places));
    }

    fn end(&mut self, raw: u64) {
        assert_eq!(raw, self.raw, "a string ends behind its last run");
        assert_eq!(self.document[raw as usize], b'"', "a string ends with its quote");
        let bytes = std::mem::take(&mut self.bytes);
        self.events.push(Event::Text { role: self.role, begin: self.begin, bytes, end: raw });
    }
}

fn lex<'a>(document: &'a [u8], chunks: &[&[u8]]) -> (Result<(), JsonError>, Log<'a>) {
    let mut log = Log {
        document,
        events: Vec::new(),
        role: Role::Value,
        begin: 0,
        bytes: Vec::new(),
        raw: 0,
        at: 0,
        depth: 0,
        deepest: 0,
    };
    let mut lexer = Lexer::new();
    let fed = chunks.iter().try_for_each(|chunk| lexer.feed(chunk, &mut log));
    let result = fed.and_then(|()| lexer.finish());
    if let Err(error) = result {
        assert_eq!(lexer.feed(b"]", &mut log), Err(error), "an error stays");
    }
    (result, log)
}

/// The names and texts of a document in the order in which they stand in it.
#[derive(Default)]
struct Strings(Vec<String>);

impl<'de> Deserialize<'de> for Strings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Collector)
    }
}

struct Collector;

impl<'de> Visitor<'de> for Collector {
    type Value = Strings;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Strings, E> {
        Ok(Strings::default())
    }

    fn visit_bool<E>(self, _: bool) -> Result<Strings, E> {
        Ok(Strings::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Strings, E> {
        Ok(Strings::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Strings, E> {
        Ok(Strings::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Strings, E> {
        Ok(Strings::default())
    }

    fn visit_str<E>(self, text: &str) -> Result<Strings, E> {
        Ok(Strings(vec![text.to_owned()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Strings, A::Error> {
        let mut all = Strings::default();
        while let Some(item) = items.next_element::<Strings>()? {
            all.0.extend(item.0);
        }
        Ok(all)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Strings, A::Error> {
        let mut all = Strings::default();
        while let Some((name, value)) = members.next_entry::<String, Strings>()? {
            all.0.push(name);
            all.0.extend(value.0);
        }
        Ok(all)
    }
}

pub fn check(input: &Input<'_>) {
    let document = input.body;
    let (whole, log) = lex(document, &[document]);
    let (cut, cut_log) = lex(document, &input.chunks());
    assert_eq!(whole, cut, "cuts make no difference");
    assert_eq!(log.events, cut_log.events, "cuts make no difference");

    // The other reader wants text, and the surrogates of a pair together.
    let Ok(text) = std::str::from_utf8(document) else { return assert!(whole.is_err(), "what is no UTF-8 is no JSON") };
    // A byte order mark is for the lexer alone.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if log.deepest > DEPTH {
        return;
    }
    assert_eq!(whole.is_ok(), serde_json::from_str::<IgnoredAny>(text).is_ok(), "{whole:?} by another reader");
    if let (Ok(()), Ok(Strings(theirs))) = (whole, serde_json::from_str(text)) {
        let ours = log.events.iter().filter_map(|event| match event {
            Event::Text { bytes, .. } => Some(bytes.iter().map(|(byte, _)| *byte).collect::<Vec<_>>()),
            _ => None,
        });
        assert!(ours.eq(theirs.into_iter().map(String::into_bytes)), "another reader finds other strings");
    }
}
