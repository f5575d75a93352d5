//! Streams as services might write them.

use std::fmt;

use super::Sending;
use crate::scan::testing::{PIECES, Random, SETS, Set};

/// Whose events they are. No name in them has a letter that a rule of the pool needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Shape {
    /// A house format: several texts in an event, told apart by an id and an index.
    House,
    /// Chat completions: choices, contents and tool calls.
    Chat,
    /// Messages: one piece in an event, texts and tool inputs.
    Anthropic,
    /// Events that are no JSON.
    Plain,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Framing {
    Events,
    Lines,
    /// Of a WebSocket: each event is one, as it is.
    Messages,
}

/// Which text of a stream.
pub(super) type Key = (bool, u8);

#[derive(Debug)]
pub(super) struct Event {
    /// In the order in which they are written.
    pub pieces: Vec<(Key, String)>,
    /// As it is written, without the comment before it.
    pub written: String,
    pub written_before: String,
}

/// A stream, the rules for it, and where it is cut.
pub(super) struct Case {
    pub set: &'static Set,
    pub shape: Shape,
    pub framing: Framing,
    pub events: Vec<Event>,
    pub sending: Sending,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut case = f.debug_struct("Case");
        case.field("rules", &self.set).field("shape", &self.shape).field("sending", &self.sending);
        let parts = |event: &Event| (event.written_before.clone(), event.written.clone());
        case.field("events", &self.events.iter().map(parts).collect::<Vec<_>>()).finish_non_exhaustive()
    }
}

impl Case {
    pub(super) fn stream(&self) -> Vec<u8> {
        let events = self.events.iter();
        events.flat_map(|event| [&event.written_before[..], &event.written]).collect::<String>().into_bytes()
    }
}

/// A text of up to `size` words.
pub(super) fn text(words: &[&str], random: &mut Random, size: usize) -> String {
    (0..random.below(size + 1)).map(|_| *random.pick(words)).collect()
}

/// The line ends that a stream of events may have, and one of lines.
const EVENTS: [&[&str]; 4] = [&["\n"], &["\r\n"], &["\r"], &["\n", "\r\n", "\r"]];
const LINES: [&[&str]; 3] = [&["\n"], &["\r\n"], &["\n", "\r\n"]];

/// A stream of up to `size` events.
pub(super) fn case(framing: Framing, random: &mut Random, size: usize) -> Case {
    case_of(PIECES, framing, random, size)
}

/// The same with texts of these words.
pub(super) fn case_of(words: &[&str], framing: Framing, random: &mut Random, size: usize) -> Case {
    let all = [Shape::House, Shape::House, Shape::Chat, Shape::Anthropic, Shape::Plain];
    let shape = match framing {
        Framing::Events | Framing::Messages => *random.pick(&all),
        Framing::Lines => *random.pick(&[Shape::House, Shape::Chat]),
    };
    let ends: &[&str] = match framing {
        Framing::Events => EVENTS[random.below(EVENTS.len())],
        Framing::Lines => LINES[random.below(LINES.len())],
        Framing::Messages => &[],
    };
    let count = random.below(size + 1);
    let mut events: Vec<Event> = (0..count).map(|_| event(words, framing, shape, ends, random)).collect();
    let set = random.pick(&SETS);
    if framing == Framing::Messages {
        return Case { set, shape, framing, events, sending: Sending::plain(random) };
    }
    if let Some(first) = events.first_mut().filter(|_| random.once_in(4)) {
        let text = if first.written_before.is_empty() { &mut first.written } else { &mut first.written_before };
        text.insert(0, '\u{feff}');
    }
    if let Some(last) = events.last_mut().filter(|_| random.once_in(3)) {
        // Of the blank line at the end nothing, or of the last line's end too.
        let ends = 1 + random.below(2);
        for _ in 0..ends {
            let end = if last.written.ends_with("\r\n") { 2 } else { 1 };
            if last.written.ends_with(['\r', '\n']) {
                last.written.truncate(last.written.len() - end);
            }
        }
    }
    Case { set, shape, framing, events, sending: Sending::plain(random) }
}

fn event(words: &[&str], framing: Framing, shape: Shape, ends: &[&str], random: &mut Random) -> Event {
    let count = match shape {
        Shape::Plain => 1,
        Shape::Anthropic => random.below(2),
        Shape::House | Shape::Chat => random.below(3),
    };
    let mut pieces: Vec<(Key, String)> = Vec::new();
    for _ in 0..count {
        let key = match shape {
            Shape::Plain => (false, 0),
            // Blocks of text are one text to their readers, whatever their index.
            Shape::Anthropic if random.once_in(2) => (false, 0),
            Shape::Anthropic => (true, random.below(2) as u8),
            Shape::House | Shape::Chat => (random.once_in(3), random.below(2) as u8),
        };
        // The events of a house format are about one item, and two elements with one index would be two pieces of
        // one text.
        let fits = |(other, index): Key| (shape != Shape::House || other == key.0) && index != key.1;
        if pieces.iter().all(|piece| fits(piece.0)) {
            pieces.push((key, text(words, random, 4)));
        }
    }
    let note = (shape != Shape::Plain && random.once_in(6)).then(|| text(words, random, 3));
    let payload = payload(framing, shape, &pieces, note.as_deref(), random);
    let mut written = String::new();
    let mut written_before = String::new();
    match framing {
        Framing::Messages => written = payload,
        Framing::Lines => {
            if random.once_in(8) {
                written_before = format!(" {}", random.pick(ends));
            }
            written = payload + *random.pick(ends);
        }
        Framing::Events => {
            if random.once_in(8) {
                let comment = text(words, random, 2).replace('\n', " ");
                written_before = format!(":{comment}{}", random.pick(ends));
            }
            if random.once_in(3) {
                written = format!("event: e{}", random.pick(ends));
            }
            for line in payload.split('\n') {
                // Of the space only one is not part of the value.
                let space = if line.starts_with(' ') || random.once_in(2) { " " } else { "" };
                written.push_str(&format!("data:{space}{line}{}", random.pick(ends)));
                if random.once_in(16) {
                    written.push_str(&format!(": inside{}", random.pick(ends)));
                }
            }
            // A carriage return and a line feed of two ends would be one end.
            let end = *random.pick(ends);
            written.push_str(if written.ends_with('\r') && end == "\n" { "\r" } else { end });
        }
    }
    Event { pieces, written, written_before }
}

fn payload(
    framing: Framing,
    shape: Shape,
    pieces: &[(Key, String)],
    note: Option<&str>,
    random: &mut Random,
) -> String {
    if shape == Shape::Plain {
        return pieces.iter().map(|piece| &piece.1[..]).collect();
    }
    // White space between tokens; where a line is no frame it may be a line's end.
    let gap = match (framing, random.below(3)) {
        (_, 0) => "",
        (Framing::Events | Framing::Messages, 1) => "\n",
        _ => " ",
    };
    let escapes = random.below(4);
    let mut literal = |text: &str| literal(text, escapes, random);
    let mut members = Vec::new();
    if let Some(note) = note {
        members.push(format!("\"note\":{gap}{}", literal(note)));
    }
    let mut list = |write: &mut dyn FnMut(Key, String) -> String| -> String {
        pieces.iter().map(|(key, text)| write(*key, literal(text))).collect::<Vec<_>>().join(",")
    };
    match shape {
        Shape::House => {
            let out = list(&mut |(_, index), text| format!("{{{gap}\"text\":{text},\"index\":{gap}{index}}}"));
            members.push(format!("\"out\":[{out}]"));
            members.push(format!("{gap}\"item_id\":\"i{}\"", u8::from(pieces.first().is_some_and(|p| p.0.0))));
        }
        Shape::Chat => {
            let out = list(&mut |(tool, index), text| {
                let delta = match tool {
                    false => format!("{{\"content\":{text}}}"),
                    true => format!("{{\"tool_calls\":[{{\"function\":{{\"arguments\":{text}}},\"index\":1}}]}}"),
                };
                format!("{{{gap}\"delta\":{delta},\"index\":{gap}{index}}}")
            });
            members.push(format!("\"choices\":{gap}[{out}]"));
        }
        _ => {
            let delta = list(&mut |(tool, index), text| {
                let name = if tool { "partial_json" } else { "text" };
                format!("\"type\":\"content_block_delta\",\"delta\":{{{gap}\"{name}\":{text}}},\"index\":{index}")
            });
            members.push(if delta.is_empty() { "\"type\":\"ping\"".to_string() } else { delta });
        }
    }
    format!("{{{}}}", members.join(","))
}

/// A string literal. Of four ways to escape, the first escapes only what must be.
pub(super) fn literal(text: &str, escapes: usize, random: &mut Random) -> String {
    let mut literal = String::from("\"");
    for c in text.chars() {
        match c {
            '\n' if !random.once_in(3) => literal.push_str("\\n"),
            '"' | '\\' => literal.extend(['\\', c]),
            c if c.is_ascii_control() || (escapes > 0 && random.below(4) < escapes) => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    let digits = if random.once_in(2) { format!("{unit:04x}") } else { format!("{unit:04X}") };
                    literal.push_str(&format!("\\u{digits}"));
                }
            }
            c => literal.push(c),
        }
    }
    literal + "\""
}
