//! A stream from its first byte to its last: events, lines, text, and messages of a WebSocket, for every action.

use std::sync::Arc;

use keyward::scan::stream::{EndReason, Ending, House, Path, Template, Vendor};
use keyward::scan::{
    Action, Joining, MessageKind, Messages, RuleHit, StreamFormat, StreamRules, StreamScanner, StreamStop,
};

use crate::input::Input;
use crate::rules::{MIXED, SETS};

/// What a scanner may hold whatever came, and for each byte that came, in bytes.
const HELD: usize = 64 << 10;
const HELD_PER_BYTE: usize = 256;

const ENDING: Ending<'_> =
    Ending { reason: EndReason::Blocked, code: "blocked", message: "a rule matched", request_id: "r" };

#[derive(Clone, Copy)]
enum Wire {
    Stream(StreamFormat, Option<Vendor>),
    House(StreamFormat),
    Messages(Joining),
}

#[derive(Debug, PartialEq)]
struct Outcome {
    out: Vec<u8>,
    stop: Option<StreamStop>,
    hits: Vec<RuleHit>,
    chars: u64,
}

fn house() -> House {
    let path = |path| vec![Path::parse(path).expect("a path")];
    House {
        join: path("out.text"),
        channel: path("out.id"),
        opaque: path("trace"),
        done: Some("[END]".into()),
        end: vec![Template::parse(r#"{"error":{"code":"{code}"}}"#).expect("a template")],
    }
}

/// Sends a body in chunks. What has left after each of them is a matter of how many bytes came: `left` by that number.
fn deliver(
    rules: &StreamRules,
    format: StreamFormat,
    vendor: Option<Vendor>,
    chunks: &[&[u8]],
    left: &mut Vec<usize>,
) -> Outcome {
    let mut scanner = StreamScanner::new(rules.clone(), format, vendor).with_places();
    let (mut out, mut read) = (Vec::new(), 0);
    let first = left.is_empty();
    for chunk in chunks {
        scanner.feed(chunk, &mut out);
        read += chunk.len();
        match first {
            true => left.push(out.len()),
            false => assert_eq!(out.len(), left[read - 1], "what leaves depends on the cuts"),
        }
        let (held, withheld) = (scanner.held(), scanner.withheld());
        assert!(held <= HELD + HELD_PER_BYTE * read, "{held} bytes are held of {read}");
        assert!(withheld <= read, "{withheld} bytes are withheld of {read}");
        if rules.action == Action::Block && scanner.stop().is_none() {
            assert_eq!(out.len() + withheld, read, "a byte is lost");
        }
    }
    scanner.finish(&mut out);
    if let Some(end) = scanner.end(&ENDING) {
        assert!(end.len() <= HELD + 8 * read, "an end of {} bytes", end.len());
    }
    Outcome { out, stop: scanner.stop(), hits: scanner.hits(), chars: scanner.chars() }
}

fn stream(input: &Input<'_>, rules: &StreamRules, format: StreamFormat, vendor: Option<Vendor>) {
    let body = input.body;
    let bytes: Vec<&[u8]> = body.chunks(1).collect();
    let mut left = Vec::new();
    let outcome = deliver(rules, format, vendor, &bytes, &mut left);
    if !body.is_empty() {
        let mut cut = deliver(rules, format, vendor, &input.chunks(), &mut left);
        if rules.rules.is_mixed() && outcome.stop.is_some() {
            // What observes reads all that came, and more comes at once in larger chunks.
            cut.hits.clone_from(&outcome.hits);
        }
        assert_eq!(outcome, cut, "cuts make no difference");
    }
    if rules.action == Action::Observe {
        return assert!(outcome.out == body, "what is observed passes as it came");
    }
    if outcome.stop.is_none() && outcome.hits.is_empty() {
        assert!(outcome.out == body, "what is clean passes as it came");
    }
    if rules.action == Action::Block {
        assert!(body.starts_with(&outcome.out), "what leaves is the beginning of what came");
        assert!(outcome.stop.is_some() || outcome.hits.is_empty(), "{:?} and no stop", outcome.hits);
    } else if outcome.stop.is_none() {
        let block = StreamRules { action: Action::Block, ..rules.clone() };
        let again = deliver(&block, format, vendor, &[&outcome.out], &mut Vec::new());
        assert_eq!(again.stop, None, "what redaction leaves: {:?}", String::from_utf8_lossy(&outcome.out));
    }
}

/// Messages end with a zero byte; those that begin with 0x01 are binary.
fn messages(input: &Input<'_>, rules: &StreamRules, joining: Joining) {
    let all: Vec<_> = input
        .body
        .split(|byte| *byte == 0)
        .map(|message| match message.strip_prefix(b"\x01") {
            Some(binary) => (MessageKind::Binary, binary),
            None => (MessageKind::Text, message),
        })
        .collect();
    let send = |rules: &StreamRules, all: &[(MessageKind, &[u8])]| {
        let mut scanner = StreamScanner::of_messages(rules.clone(), joining, None);
        let (mut out, mut read) = (Messages::default(), 0);
        for (kind, message) in all {
            scanner.message(*kind, message, &mut out);
            read += message.len() + 1;
            assert!(scanner.held() <= HELD + HELD_PER_BYTE * read, "{} bytes are held of {read}", scanner.held());
        }
        scanner.end_messages(&mut out);
        (out, scanner.stop(), scanner.hits())
    };
    let (out, stop, hits) = send(rules, &all);
    let left: Vec<_> = out.iter().collect();
    if rules.action == Action::Observe || (stop.is_none() && hits.is_empty()) {
        return assert!(left == all, "what is clean passes as it came");
    }
    if rules.action == Action::Block {
        assert!(all.starts_with(&left), "what leaves is the beginning of what came");
    } else if stop.is_none() {
        let block = StreamRules { action: Action::Block, ..rules.clone() };
        assert_eq!(send(&block, &left).1, None, "what redaction leaves");
    }
}

pub fn check(input: &Input<'_>) {
    let wires = [
        Wire::Stream(StreamFormat::Events, None),
        Wire::Stream(StreamFormat::Events, Some(Vendor::OpenAi)),
        Wire::Stream(StreamFormat::Events, Some(Vendor::Anthropic)),
        Wire::Stream(StreamFormat::Lines, None),
        Wire::Stream(StreamFormat::Text, None),
        Wire::House(StreamFormat::Events),
        Wire::House(StreamFormat::Lines),
        Wire::Messages(Joining::Joined),
        Wire::Messages(Joining::Whole),
    ];
    let rules = Arc::clone(input.pick(1, &SETS));
    let mut asked = StreamRules { rules, action: Action::Observe, max_chars: None, max_body_chars: None, house: None };
    let wire = *input.pick(0, &wires);
    if let Wire::House(_) = wire {
        asked.house = Some(Arc::new(house()));
    }
    let run = |asked: &StreamRules| match wire {
        Wire::Stream(format, vendor) => stream(input, asked, format, vendor),
        Wire::House(format) => stream(input, asked, format, None),
        Wire::Messages(joining) => messages(input, asked, joining),
    };
    for action in [Action::Observe, Action::Block, Action::Redact] {
        asked.action = action;
        run(&asked);
    }
    let alike = Arc::clone(&asked.rules);
    asked.rules = Arc::clone(input.pick(1, &MIXED));
    for action in [Action::Observe, Action::Redact] {
        asked.action = action;
        run(&asked);
    }
    asked.rules = alike;
    if let Wire::Stream(StreamFormat::Text, _) = wire {
        asked.action = Action::Observe;
        stream(input, &asked, StreamFormat::Document, None);
    }
    (asked.action, asked.max_chars, asked.max_body_chars) = (Action::Block, Some(8), Some(24));
    run(&asked);
}
