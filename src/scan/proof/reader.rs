//! What the readers of a stream get, by what the standards say.

use std::collections::BTreeMap;

use serde_json::Value;

use super::writer::{Framing, Key, Shape};

/// The texts of a stream.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Texts {
    pub joined: BTreeMap<Key, String>,
    /// Notes and comments, each on its own.
    pub alone: Vec<String>,
    pub comments: Vec<String>,
    /// Events that are JSON, with all texts taken out.
    pub rest: Vec<Value>,
}

/// Reads a stream. A last event that nothing terminates is taken too.
pub(super) fn read(framing: Framing, shape: Shape, stream: &[u8]) -> Result<Texts, String> {
    let stream = std::str::from_utf8(stream).map_err(|_| "what left is no UTF-8")?;
    let stream = stream.strip_prefix('\u{feff}').unwrap_or(stream);
    let mut texts = Texts::default();
    let payloads = match framing {
        Framing::Lines => stream.split('\n').filter(|line| !line.trim().is_empty()).map(str::to_string).collect(),
        Framing::Events => events(stream, &mut texts.comments),
        Framing::Messages => vec![stream.to_string()],
    };
    payloads.iter().try_for_each(|payload| read_one(shape, payload, &mut texts))?;
    Ok(texts)
}

/// Reads one event.
pub(super) fn read_one(shape: Shape, payload: &str, texts: &mut Texts) -> Result<(), String> {
    if shape == Shape::Plain {
        texts.joined.entry((false, 0)).or_default().push_str(payload);
        return Ok(());
    }
    let mut value: Value = serde_json::from_str(payload).map_err(|error| format!("{error} in {payload:?}"))?;
    take(shape, &mut value, texts);
    texts.rest.push(value);
    Ok(())
}

/// The data of the events (HTML Living Standard, 9.2.6), but for the unterminated one.
fn events(stream: &str, comments: &mut Vec<String>) -> Vec<String> {
    let lines = stream.replace("\r\n", "\n").replace('\r', "\n");
    let mut events = Vec::new();
    let mut data: Vec<&str> = Vec::new();
    for line in lines.split('\n').chain([""]) {
        match line.split_once(':') {
            _ if line.is_empty() && !data.is_empty() => events.push(std::mem::take(&mut data).join("\n")),
            Some(("", _)) => comments.push(line.to_string()),
            Some(("data", value)) => data.push(value.strip_prefix(' ').unwrap_or(value)),
            _ => {}
        }
    }
    events
}

/// Takes the texts out of an event.
fn take(shape: Shape, event: &mut Value, texts: &mut Texts) {
    let string = |value: &mut Value| match value.take() {
        Value::String(text) => text,
        other => panic!("{other} is no text"),
    };
    if let Some(note) = event.get_mut("note") {
        texts.alone.push(string(note));
    }
    let mut add = |key: Key, text: &mut Value| texts.joined.entry(key).or_default().push_str(&string(text));
    let index = |value: &Value| value["index"].as_u64().expect("an index") as u8;
    match shape {
        Shape::House => {
            let item = event["item_id"] == "i1";
            for piece in event["out"].as_array_mut().into_iter().flatten() {
                add((item, index(piece)), &mut piece["text"]);
            }
        }
        Shape::Chat => {
            for choice in event["choices"].as_array_mut().into_iter().flatten() {
                let key = index(choice);
                match choice["delta"].get_mut("content") {
                    Some(content) => add((false, key), content),
                    None => add((true, key), &mut choice["delta"]["tool_calls"][0]["function"]["arguments"]),
                }
            }
        }
        _ if event["type"] == "content_block_delta" => {
            let key = index(event);
            match event["delta"].get_mut("text") {
                Some(text) => add((false, 0), text),
                None => add((true, key), &mut event["delta"]["partial_json"]),
            }
        }
        _ => {}
    }
}

/// A stream with its string literals emptied: what redaction may not touch.
pub(super) fn skeleton(stream: &[u8]) -> Vec<u8> {
    let (mut skeleton, mut inside, mut escaped) = (Vec::new(), false, false);
    for &byte in stream {
        if !inside || (byte == b'"' && !escaped) {
            skeleton.push(byte);
        }
        match byte {
            b'"' if !escaped => inside = !inside,
            b'\\' if inside => {
                escaped = !escaped;
                continue;
            }
            _ => {}
        }
        escaped = false;
    }
    skeleton
}
