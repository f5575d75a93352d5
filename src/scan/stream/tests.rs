//! Streams as services write them, against readers that see the whole.

mod views;

use std::sync::Arc;

use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::Value;

use super::*;
use crate::scan::{
    body::MARKER,
    preset,
    rule::Rule,
    testing::{chunks, config, cuts},
};

fn asked(rules: Vec<Rule>, action: Action) -> StreamRules {
    StreamRules {
        rules: Arc::new(RuleSet::compile(rules).unwrap()),
        action,
        max_chars: None,
        max_body_chars: None,
        house: None,
    }
}

fn html(action: Action) -> StreamRules {
    thread_local!(static HTML: StreamRules = asked(preset("html").unwrap(), Action::Block));
    StreamRules { action, ..HTML.with(Clone::clone) }
}

/// What leaves of a stream that arrives in `chunks`, and why no more of it does.
fn scan<'a>(
    rules: &StreamRules,
    format: StreamFormat,
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<u8>, Option<StreamStop>, StreamScanner) {
    let mut scanner = StreamScanner::new(rules.clone(), format, None);
    let mut out = Vec::new();
    for chunk in chunks {
        scanner.feed(chunk, &mut out);
    }
    scanner.finish(&mut out);
    (out, scanner.stop(), scanner)
}

fn whole(rules: &StreamRules, stream: &str) -> (String, Option<StreamStop>) {
    let (out, stop, _) = scan(rules, StreamFormat::Events, [stream.as_bytes()]);
    (String::from_utf8(out).unwrap(), stop)
}

/// Every data value of a stream of events with line feeds only.
fn values(stream: &str) -> Vec<Value> {
    let data = stream.split("\n\n").filter_map(|event| event.lines().find_map(|line| line.strip_prefix("data: ")));
    data.filter_map(|data| serde_json::from_str(data).ok()).collect()
}

fn event(value: Value) -> String {
    format!("data: {value}\n\n")
}

mod channels;
mod house;
mod template;
mod watch;

// ---- Shapes of the APIs ----

/// An event, by the text in it.
type Shape = fn(&str) -> Value;

/// A piece of an answer in each shape that we know, and in some that we do not.
fn shapes() -> Vec<(&'static str, Shape)> {
    use serde_json::json;
    vec![
        ("chat", |t| json!({"object": "chat.completion.chunk", "choices": [{"delta": {"content": t}, "index": 0}]})),
        ("chat, other fields", |t| json!({"choices": [{"index": 0, "delta": {"novelty": {"deep": t}}}]})),
        (
            "chat, tool call",
            |t| json!({"choices": [{"index": 0, "delta": {"tool_calls": [{"function": {"arguments": t}, "index": 3}]}}]}),
        ),
        ("chat, reasoning", |t| json!({"choices": [{"index": 1, "delta": {"reasoning_content": t}}]})),
        ("chat, refusal", |t| json!({"choices": [{"index": 1, "delta": {"refusal": t}}]})),
        (
            "chat, log probabilities",
            |t| json!({"choices": [{"index": 0, "delta": {}, "logprobs": {"content": [{"token": t, "bytes": [1]}]}}]}),
        ),
        ("completion", |t| json!({"object": "text_completion", "choices": [{"text": t, "index": 0}]})),
        ("responses", |t| json!({"type": "response.output_text.delta", "item_id": "a", "output_index": 0, "delta": t})),
        (
            "responses, arguments",
            |t| json!({"type": "response.function_call_arguments.delta", "output_index": 1, "delta": t}),
        ),
        (
            "anthropic",
            |t| json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": t}}),
        ),
        (
            "anthropic, tool",
            |t| json!({"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": t}}),
        ),
        (
            "anthropic, thinking",
            |t| json!({"type": "content_block_delta", "index": 1, "delta": {"type": "thinking_delta", "thinking": t}}),
        ),
        ("gemini", |t| json!({"candidates": [{"content": {"parts": [{"text": t}], "role": "model"}, "index": 0}]})),
        ("ollama", |t| json!({"model": "m", "message": {"role": "assistant", "content": t}, "done": false})),
        ("ollama, generate", |t| json!({"model": "m", "response": t, "done": false})),
        ("tgi", |t| json!({"index": 1, "token": {"id": 1, "text": t, "special": false}, "generated_text": null})),
        ("house", |t| json!({"seq": 17, "index": 4, "text": t})),
        ("house, nested", |t| json!({"out": [{"index": 9, "output": t}, {"index": 8, "output": ""}]})),
        ("house, elements", |t| json!({"content": [t]})),
        ("a string", |t| json!(t)),
    ]
}

const HARM: &str = "javascript:";

#[test]
fn a_pattern_in_two_or_three_events_never_leaves_in_any_shape() {
    let block = html(Action::Block);
    for (name, shape) in shapes() {
        let first = event(shape("so "));
        for i in 0..=HARM.len() {
            for j in i..=HARM.len() {
                let pieces = [&HARM[..i], &HARM[i..j], &HARM[j..]];
                let events: Vec<String> = pieces.iter().map(|piece| event(shape(piece))).collect();
                let stream = format!("{first}{}", events.concat());
                let (out, stop) = whole(&block, &stream);
                assert_eq!(stop, Some(StreamStop::Blocked), "{name}: {stream}");
                // Events in which nothing of it stands leave.
                let clean = pieces.iter().take_while(|piece| piece.is_empty()).count();
                assert_eq!(out, format!("{first}{}", events[..clean].concat()), "{name}");
            }
        }
    }
}

#[test]
fn a_space_behind_what_is_cut_out_stays_part_of_the_text() {
    let redact = html(Action::Redact);
    for (before, left) in
        [("", "data:  b\n\n"), (": c\n", ": c\ndata:  b\n\n"), ("event: e\r", "event: e\rdata:  b\n\n")]
    {
        let (out, stop) = whole(&redact, &format!("data: a javas\n\n{before}data:cript: b\n\n"));
        assert_eq!((out, stop), (format!("data: a [removed]\n\n{left}"), None));
    }
    // Here it is the space behind the colon that readers drop.
    let (out, stop) = whole(&redact, "data: a javas\n\ndata: cript: b\n\n");
    assert_eq!((&out[..], stop), ("data: a [removed]\n\ndata:  b\n\n", None));
}

#[test]
fn a_pattern_is_cut_out_of_every_event_it_stands_in() {
    let redact = html(Action::Redact);
    for (name, shape) in shapes() {
        for i in 1..HARM.len() {
            let pieces = [format!("go {}", &HARM[..i]), format!("{} on", &HARM[i..])];
            let stream: String = pieces.iter().map(|piece| event(shape(piece))).collect();
            let (out, stop) = whole(&redact, &stream);
            assert_eq!(stop, None, "{name}");
            let mut expected = vec![shape(&format!("go {MARKER}")), shape(" on")];
            if name == "chat, log probabilities" {
                // A text that was cut is not spelled in numbers either.
                let zero = |value: &mut Value| value["choices"][0]["logprobs"]["content"][0]["bytes"][0] = 0.into();
                expected.iter_mut().for_each(zero);
            }
            assert_eq!(values(&out), expected, "{name}: {out}");
        }
    }
}

#[test]
fn what_cannot_become_a_match_leaves_at_once() {
    for (name, shape) in shapes() {
        let mut scanner = StreamScanner::new(html(Action::Block), StreamFormat::Events, None);
        for piece in ["I would", " say: ", "javas", "cripted", " <", "b>"] {
            let event = event(shape(piece));
            let mut out = Vec::new();
            scanner.feed(event.as_bytes(), &mut out);
            let waits = matches!(piece, "javas" | " <");
            assert_eq!(out.is_empty(), waits, "{name}: {piece}");
        }
        assert_eq!(scanner.held(), 0);
    }
}

#[test]
fn texts_that_are_not_one_are_not_joined() {
    use serde_json::json;
    let chat = |index: u64, text: &str| event(json!({"choices": [{"delta": {"content": text}, "index": index}]}));
    let named = |name: &str, text: &str| event(json!({"choices": [{"index": 0, "delta": {name: text}}]}));
    let tool = |index: u64, text: &str| {
        event(json!({"type": "content_block_delta", "index": index, "delta": {"partial_json": text}}))
    };
    let responses = |kind: &str, text: &str| event(json!({"type": kind, "output_index": 0, "delta": text}));
    for events in [
        [chat(0, "java"), chat(1, "script:")],
        [named("content", "java"), named("reasoning", "script:")],
        [tool(0, "java"), tool(1, "script:")],
        [responses("response.output_text.delta", "java"), responses("response.refusal.delta", "script:")],
        [event(json!({"type": "a", "text": "java"})), event(json!({"type": "b", "text": "script:"}))],
        [event(json!({"status": "java"})), event(json!({"status": "script:"}))],
    ] {
        let stream = events.concat();
        assert_eq!(whole(&html(Action::Block), &stream), (stream.clone(), None));
    }
    // Interleaved, each is followed on its own.
    let stream = [chat(0, "java"), chat(1, "x"), chat(0, "script"), chat(1, "y"), chat(0, ":")].concat();
    assert_eq!(whole(&html(Action::Block), &stream), (String::new(), Some(StreamStop::Blocked)));
}

#[test]
fn blocks_of_text_are_one_text_and_begin_with_their_start() {
    use serde_json::json;
    let start = |text: &str| event(json!({"type": "content_block_start", "index": 1, "content_block": {"text": text}}));
    let delta =
        |index: u64, text: &str| event(json!({"type": "content_block_delta", "index": index, "delta": {"text": text}}));
    for stream in [[start("java"), delta(1, "script:")].concat(), [delta(0, "java"), delta(1, "script:")].concat()] {
        assert_eq!(whole(&html(Action::Block), &stream), (String::new(), Some(StreamStop::Blocked)), "{stream}");
    }
}

#[test]
fn parts_and_tokens_of_one_event_are_one_text() {
    use serde_json::json;
    let gemini = |parts: Value| event(json!({"candidates": [{"content": {"parts": parts}}]}));
    let tokens =
        |tokens: Value| event(json!({"choices": [{"index": 0, "delta": {}, "logprobs": {"content": tokens}}]}));
    for stream in [
        gemini(json!([{"text": "java"}, {"text": "script:"}])),
        [gemini(json!([{"text": "a"}, {"text": "java"}])), gemini(json!([{"text": "script:"}]))].concat(),
        tokens(json!([{"token": "java"}, {"token": "script:"}])),
    ] {
        assert_eq!(whole(&html(Action::Block), &stream).1, Some(StreamStop::Blocked), "{stream}");
    }
    let thought = gemini(json!([{"text": "java", "thought": true}, {"text": "script:"}]));
    assert_eq!(whole(&html(Action::Block), &thought).1, None);
}

#[test]
fn a_last_event_that_repeats_the_text_is_read_on_its_own() {
    use serde_json::json;
    let delta = |text: &str| {
        event(json!({"type": "response.output_text.delta", "item_id": "i", "output_index": 0, "content_index": 0,
            "delta": text}))
    };
    let done = |text: &str| {
        let done = json!({"type": "response.output_text.done", "item_id": "i", "output_index": 0, "content_index": 0,
            "text": text});
        let whole = json!({"type": "response.completed", "response": {"output": [{"content": [{"text": text}]}]}});
        event(done) + &event(whole)
    };
    let stream = format!("{}{}{}", delta("see javasc"), delta("ript:x"), done("see javascript:x"));
    let expected = format!("{}{}{}", delta("see [removed]"), delta("x"), done("see [removed]x"));
    assert_eq!(whole(&html(Action::Redact), &stream), (expected, None));
    // The end of a text is known then, and its tail does not wait for that of the stream.
    let mut scanner = StreamScanner::new(html(Action::Block), StreamFormat::Events, None);
    let (mut out, stream) = (Vec::new(), format!("{}{}", delta("java"), done("java")));
    scanner.feed(stream.as_bytes(), &mut out);
    assert_eq!(String::from_utf8(out).unwrap(), stream);
    // What comes behind it would be joined with what has left.
    scanner.feed(delta("script:").as_bytes(), &mut Vec::new());
    assert!(matches!(scanner.stop(), Some(StreamStop::Unscannable(_))));
}

// ---- Framing ----

#[test]
fn names_comments_and_other_fields_are_texts_of_their_own() {
    for stream in [
        "data: {\"javascript:\": 1}\n\n",
        ": javascript:\n\n",
        "event: javascript:\ndata: {}\n\n",
        "id: javascript:\n\n",
        "javascript: x\n\n",
    ] {
        for action in [Action::Block, Action::Redact] {
            let stream = format!("data: {{}}\n\n{stream}");
            assert_eq!(whole(&html(action), &stream), ("data: {}\n\n".into(), Some(StreamStop::Blocked)), "{stream}");
        }
    }
}

#[test]
fn data_that_is_no_json_is_one_text_with_a_known_end() {
    let plain = "data: I say java\n\ndata: scripts\n\ndata: 42\n\ndata: [1] {x}\n\ndata: [DONE]\n\n";
    assert_eq!(whole(&html(Action::Block), plain), (plain.into(), None));
    let harm = "data: I say java\n\ndata: script\n\ndata: :x\n\n";
    assert_eq!(whole(&html(Action::Block), harm), (String::new(), Some(StreamStop::Blocked)));
    let redacted = "data: I say [removed]\n\ndata: \n\ndata: x\n\n";
    assert_eq!(whole(&html(Action::Redact), harm), (redacted.into(), None));
    let digits = asked(vec![Rule::new("n", "a4.2")], Action::Block);
    assert_eq!(whole(&digits, "data: a4\n\ndata: 12\n\n").1, Some(StreamStop::Blocked));
    // A match over a line feed takes the two lines with it.
    let lines = asked(vec![Rule::new("n", r"b\nc")], Action::Redact);
    assert_eq!(whole(&lines, "data: ab\r\ndata: cd\r\n\r\n"), ("data: a[removed]d\r\n\r\n".into(), None));
    // The end of the stream as everybody says it does not wait for the end of the connection.
    let mut scanner = StreamScanner::new(html(Action::Block), StreamFormat::Events, None);
    let mut out = Vec::new();
    scanner.feed(b"data: java\n\n", &mut out);
    assert!(out.is_empty());
    scanner.feed(b"data: [DONE]\n\n", &mut out);
    assert_eq!(out, b"data: java\n\ndata: [DONE]\n\n");
}

#[test]
fn what_readers_may_take_for_json_is_not_taken_for_a_text() {
    let json = "data: {\"text\": \"a\"}\n\n";
    for (stream, format) in [
        (format!("{json}data: {{\"text\": \"b\n\n"), StreamFormat::Events),
        (format!("{json}data: {{\"text\": NaN}}\n\n"), StreamFormat::Events),
        (r#"data: {"n": NaN, "text": "java\u0073cript:"}"#.into(), StreamFormat::Events),
        (r#"data: {"text": "java", "text": "x"}"#.into(), StreamFormat::Events),
        ("{\"a\": 1}\nnope\n".into(), StreamFormat::Lines),
        ("{\"a\": 1}\r{\"a\": 2}\n".into(), StreamFormat::Lines),
    ] {
        let (_, stop, _) = scan(&html(Action::Block), format, [stream.as_bytes()]);
        assert!(matches!(stop, Some(StreamStop::Unscannable(_))), "{stream}: {stop:?}");
    }
}

#[test]
fn lines_are_frames_too() {
    let stream = "{\"response\":\"java\",\"done\":false}\r\n\n{\"response\":\"scr\\u0069pt:x\",\"done\":true}";
    let (out, stop, _) = scan(&html(Action::Redact), StreamFormat::Lines, [stream.as_bytes()]);
    let expected = "{\"response\":\"[removed]\",\"done\":false}\r\n\n{\"response\":\"x\",\"done\":true}";
    assert_eq!((String::from_utf8(out).unwrap().as_str(), stop), (expected, None));
}

// ---- Caps and lengths ----

#[test]
fn what_would_be_withheld_for_too_long_is_not_let_go() {
    let open = asked(vec![Rule::new("open", "(?s)<.*>")], Action::Block);
    let piece = event(serde_json::json!({"text": format!("<{}", "x".repeat(1000))}));
    let (out, stop, _) = scan(&open, StreamFormat::Events, vec![piece.as_bytes(); 17]);
    assert_eq!((out.len(), stop), (0, Some(StreamStop::Blocked)));
    // Others wait behind a text that waits.
    let waits = event(serde_json::json!({"text": "<"}));
    let behind = event(serde_json::json!({"status": "x".repeat(100_000)}));
    let (out, stop, scanner) =
        scan(&open, StreamFormat::Events, std::iter::once(waits.as_bytes()).chain(vec![behind.as_bytes(); 11]));
    assert!(out.is_empty() && matches!(stop, Some(StreamStop::Unscannable(_))), "{stop:?}");
    assert!(scanner.held() <= HOLD_WIRE + 100_100, "{}", scanner.held());
    // One event, in one chunk or in many.
    let giant = event(serde_json::json!({"text": "x".repeat(HOLD_WIRE)}));
    for size in [1 << 14, usize::MAX] {
        let (out, stop, _) = scan(&open, StreamFormat::Events, giant.as_bytes().chunks(size.min(giant.len())));
        assert!(out.is_empty() && matches!(stop, Some(StreamStop::Unscannable(_))));
    }
    let many: String = (0..257).map(|n| event(serde_json::json!({"item_id": n, "text": "<"}))).collect();
    let (out, stop) = whole(&open, &many);
    assert!(out.is_empty() && matches!(stop, Some(StreamStop::Unscannable(_))), "{stop:?}");
    for deep in [format!("{}1{}", "[".repeat(129), "]".repeat(129)), format!("[{}[]]", "[],".repeat(20_000))] {
        let (_, stop) = whole(&open, &format!("data: {{}}\n\ndata: {deep}\n\n"));
        assert!(matches!(stop, Some(StreamStop::Unscannable(_))));
    }
}

#[test]
fn lengths_are_those_of_the_pieces() {
    let delta = |index: u64, text: &str| {
        event(serde_json::json!({"choices": [{"index": index, "delta": {"role": "assistant", "content": text}}]}))
    };
    let stream = [delta(0, "😀a"), delta(1, "bc"), delta(0, "d")].concat();
    let limit = |max_chars, max_body_chars| StreamRules { max_chars, max_body_chars, ..html(Action::Block) };
    assert_eq!(whole(&limit(Some(9), Some(6)), &stream), (stream.clone(), None));
    let but_last = [delta(0, "😀a"), delta(1, "bc")].concat();
    assert_eq!(whole(&limit(Some(9), Some(5)), &stream), (but_last.clone(), Some(StreamStop::TooLong)));
    let (out, _, scanner) = scan(&limit(None, Some(5)), StreamFormat::Events, [stream.as_bytes()]);
    assert_eq!((String::from_utf8(out).unwrap(), scanner.chars()), (but_last, 5));
    // A text is as long as all of its pieces.
    let role = limit(Some(9), None);
    let long = [delta(0, "12345"), delta(1, "12345"), delta(0, "67890")].concat();
    assert_eq!(whole(&role, &long).1, Some(StreamStop::TooLong));
    let alone = event(serde_json::json!({"status": "1234567890"}));
    assert_eq!(whole(&role, &alone), (String::new(), Some(StreamStop::TooLong)));
    for max in 0..6 {
        let (out, stop, scanner) = scan(&limit(Some(max), None), StreamFormat::Text, ["😀abc".as_bytes()]);
        let expected = ["", "", "😀", "😀a", "😀ab", "😀abc"][max as usize];
        assert_eq!((out.as_slice(), stop.is_some()), (expected.as_bytes(), max < 5), "{max}");
        assert_eq!(scanner.chars(), expected.encode_utf16().count() as u64);
    }
}

#[test]
fn ids_of_a_declared_api_are_left_unread_while_they_look_like_ids() {
    let seed = asked(preset("seed").unwrap(), Action::Block);
    for (stream, vendor, stop) in [
        ("{\"obfuscation\":\"onabc=\"}", Some(Vendor::OpenAi), None),
        ("{\"obfuscation\":\"onabc=\"}", None, Some(StreamStop::Blocked)),
        ("{\"obfuscation\":\"onabc =\"}", Some(Vendor::OpenAi), Some(StreamStop::Blocked)),
        ("{\"note\":\"onabc=\"}", Some(Vendor::OpenAi), Some(StreamStop::Blocked)),
    ] {
        let mut scanner = StreamScanner::new(seed.clone(), StreamFormat::Events, vendor);
        scanner.feed(format!("data: {stream}\n\n").as_bytes(), &mut Vec::new());
        assert_eq!(scanner.stop(), stop, "{stream} {vendor:?}");
        assert_eq!(scanner.unread().opaque, if stop.is_none() { 6 } else { 0 });
    }
}

#[test]
fn characters_are_cut_out_whole() {
    // Of é in UTF-8, the first byte, the second, and what both end and begin with.
    for pattern in ["(?-u:\\xC3)", "(?-u:\\xA9)", "(?-u:\\xA9\\xC3)"] {
        let redact = asked(vec![Rule::new("byte", pattern)], Action::Redact);
        for text in ["aééb", r"a\u00e9\u00e9b", r"aé\u00e9b"] {
            let stream = format!("data: {{\"text\":\"{text}\",\"status\":\"{text}\"}}\n\n");
            let (out, stop, _) = scan(&redact, StreamFormat::Events, stream.as_bytes().chunks(1));
            let out = String::from_utf8(out).expect("whole characters");
            assert_eq!(stop, None);
            assert!(!out.contains('é') && !out.contains("u00e9"), "{pattern}: {out}");
            assert_eq!(out.matches("a[removed]").count(), 2, "{pattern}: {out}");
            assert_eq!(out.matches("]b\"").count(), 2, "{pattern}: {out}");
        }
    }
}

#[test]
fn a_match_that_cannot_be_cut_out_is_counted_where_it_blocks() {
    let redact = html(Action::Redact);
    for stream in ["data: {\"<script>\": 1}\n\n", ": <script>\ndata: {\"a\": 1}\n\n", "event: <script>\n\n"] {
        let (out, stop, scanner) = scan(&redact, StreamFormat::Events, stream.as_bytes().chunks(5));
        assert_eq!((&out[..], stop), (&b""[..], Some(StreamStop::Blocked)), "{stream}");
        assert_eq!(scanner.hits().len(), 1, "{stream}: which rule it was is known");
    }
}

#[test]
fn what_is_observed_never_waits_and_is_counted() {
    let observe = html(Action::Observe);
    let piece = |text: &str| event(serde_json::json!({"text": text, "status": HARM}));
    let stream = [piece("go java"), piece("script:"), ": javascript:\r\n".into()].concat();
    let mut scanner = StreamScanner::new(observe.clone(), StreamFormat::Events, None);
    for byte in stream.as_bytes().chunks(1) {
        let mut out = Vec::new();
        scanner.feed(byte, &mut out);
        assert_eq!(out, byte);
    }
    assert_eq!((scanner.hits().len(), scanner.hits()[0].count, scanner.chars()), (1, 4, 14));
    // What cannot be read goes on too, and is counted.
    let broken = format!("{}data: {{\"a\": 1, \"a\": 2}}\n\n{}", piece("x"), piece("y"));
    let (out, stop, scanner) = scan(&observe, StreamFormat::Events, broken.as_bytes().chunks(7));
    assert_eq!(out, broken.as_bytes());
    assert!(stop.is_some() && scanner.unread().unscannable as usize >= piece("y").len() - 7);
}

// ---- Texts ----

#[test]
fn a_text_is_let_go_byte_by_byte() {
    let mut scanner = StreamScanner::new(html(Action::Redact), StreamFormat::Text, None);
    let mut released = Vec::new();
    for byte in "yes javascript:x jav".bytes() {
        let mut out = Vec::new();
        scanner.feed(&[byte], &mut out);
        released.push(String::from_utf8(out).unwrap());
    }
    assert_eq!(released[..5], ["y", "e", "s", " ", ""]);
    assert_eq!(released[14..], [MARKER, "x", " ", "", "", ""]);
    let mut out = Vec::new();
    scanner.finish(&mut out);
    assert_eq!((out.as_slice(), scanner.chars()), (&b"jav"[..], 20));
}

#[test]
fn a_text_that_may_be_json_waits_until_it_is_none() {
    let block = html(Action::Block);
    for size in [1, 3, 100] {
        let read = |text: &str| {
            let (out, stop, _) = scan(&block, StreamFormat::Text, text.as_bytes().chunks(size));
            (String::from_utf8(out).unwrap(), stop)
        };
        let clean = r#"{"a": "b"}"#;
        assert_eq!(read(clean), (clean.into(), None));
        assert_eq!(read(r#" {"a": "java\u0073cript:"}"#), (String::new(), Some(StreamStop::Blocked)));
        assert_eq!(read("[link](javascript:x)"), ("[link](".into(), Some(StreamStop::Blocked)));
        assert_eq!(read("\u{feff}[1] a"), ("\u{feff}[1] a".into(), None));
        let wide = scan(&block, StreamFormat::Text, b"\xFF\xFEj\0a\0".chunks(size));
        assert!(matches!(wide.1, Some(StreamStop::Unscannable(_))));
    }
    let mut scanner = StreamScanner::new(block, StreamFormat::Text, None);
    let mut out = Vec::new();
    scanner.feed(b"[link", &mut out);
    assert_eq!(out, b"[link", "no document begins like this");
}

// ---- Any stream ----

proptest! {
    #![proptest_config(config(20_000))]

    #[test]
    fn nothing_panics(
        pieces in vec(select(vec![
            "data: ", "data:", "\n", "\r", "\r\n", "{", "}", "[", "]", "\"text\"", ":", ",", "\"", "\\u0073", "\\ud83d",
            "javas", "cript:", "1", "null", ":c\n", "\u{1e}", "é", "[DONE]", "{\"text\":\"javascript:\"}", "\"index\":1",
        ]), 0..40),
        action in select(vec![Action::Block, Action::Redact, Action::Observe]),
        format in select(vec![StreamFormat::Events, StreamFormat::Lines, StreamFormat::Text]),
        cuts in cuts(),
    ) {
        let stream = pieces.concat();
        let asked = html(action);
        let (out, stop, _) = scan(&asked, format, [stream.as_bytes()]);
        let (again, same, scanner) = scan(&asked, format, chunks(stream.as_bytes(), &cuts));
        prop_assert_eq!((again, same), (out, stop));
        let ending = Ending { reason: EndReason::Blocked, code: "C", message: "m", request_id: "r" };
        prop_assert_eq!(scanner.end(&ending).is_none(), format == StreamFormat::Text);
    }
}

/// Found by fuzzing: a zero byte was seen in the first chunk of a text and in no other.
#[test]
fn a_text_ends_at_its_first_zero_byte_however_it_is_cut() {
    let rules = StreamRules {
        rules: Arc::new(RuleSet::compile(vec![Rule::new("x", "X")]).expect("a rule")),
        action: Action::Block,
        max_chars: None,
        max_body_chars: None,
        house: None,
    };
    for (body, leaves) in [
        (&b"text\0 more"[..], &b"text"[..]),
        (b" {\"a\\0\": \0}", b""),
        (b"t\0e\0", b"t"),
        (b"\0t\0e", b""),
        (b"  \0", b"  "),
    ] {
        for chunk in [1, 2, 3, 4096] {
            let mut scanner = StreamScanner::new(rules.clone(), StreamFormat::Text, None);
            let mut out = Vec::new();
            body.chunks(chunk).for_each(|bytes| scanner.feed(bytes, &mut out));
            scanner.finish(&mut out);
            assert!(matches!(scanner.stop(), Some(StreamStop::Unscannable(_))), "{body:?} in chunks of {chunk}");
            if !leaves.is_empty() {
                assert_eq!(out, leaves, "{body:?} in chunks of {chunk}");
            }
        }
    }
}
