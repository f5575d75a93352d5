//! Messages of a WebSocket, each way.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::scan::{Rule, RuleHit, preset, rule::Action, ruleset::RuleSet};

fn html(action: Action) -> StreamRules {
    let rules = Arc::new(RuleSet::compile(preset("html").unwrap()).unwrap());
    StreamRules { rules, action, max_chars: None, max_body_chars: None, house: None }
}

struct Stream {
    scanner: StreamScanner,
    out: Vec<String>,
}

impl Stream {
    fn new(rules: StreamRules, joining: Joining) -> Self {
        Self { scanner: StreamScanner::of_messages(rules, joining, Some(Vendor::OpenAi)), out: Vec::new() }
    }

    /// What has left once this was said.
    fn say(&mut self, message: &str) -> Vec<String> {
        let mut ready = Messages::default();
        self.scanner.message(MessageKind::Text, message.as_bytes(), &mut ready);
        self.out.extend(ready.iter().map(|(_, bytes)| String::from_utf8(bytes.to_vec()).unwrap()));
        std::mem::take(&mut self.out)
    }

    fn event(&mut self, event: &Value) -> Vec<String> {
        self.say(&event.to_string())
    }

    fn end(&mut self) -> Vec<String> {
        let mut ready = Messages::default();
        self.scanner.end_messages(&mut ready);
        ready.iter().map(|(_, bytes)| String::from_utf8(bytes.to_vec()).unwrap()).collect()
    }
}

fn delta(item: &str, text: &str) -> Value {
    json!({"type": "response.output_text.delta", "response_id": "r", "item_id": item, "output_index": 0, "content_index": 0, "delta": text})
}

fn done(item: &str) -> Value {
    json!({"type": "response.output_text.done", "response_id": "r", "item_id": item, "output_index": 0, "content_index": 0, "text": ""})
}

#[test]
fn pieces_of_an_answer_are_one_text() {
    for (kind, name) in [
        ("response.output_text.delta", "delta"),
        ("response.text.delta", "delta"),
        ("response.output_audio_transcript.delta", "delta"),
        ("response.audio_transcript.delta", "delta"),
        ("response.function_call_arguments.delta", "delta"),
        ("conversation.item.input_audio_transcription.delta", "delta"),
        ("token", "text"),
    ] {
        let mut stream = Stream::new(html(Action::Block), Joining::Joined);
        let piece = |text: &str| json!({"type": kind, "item_id": "i", name: text}).to_string();
        assert_eq!(stream.say(&piece("So ")), [piece("So ")], "{kind}");
        assert_eq!(stream.say(&piece("java")), [""; 0], "{kind}");
        assert_eq!(stream.say(&piece("script:")), [""; 0], "{kind}");
        assert_eq!(stream.scanner.stop(), Some(StreamStop::Blocked), "{kind}");
    }
    let mut plain = Stream::new(html(Action::Block), Joining::Joined);
    assert_eq!([plain.say("So "), plain.say("java"), plain.say(" beans")].concat(), ["So ", "java", " beans"]);
    assert_eq!([plain.say("<scr"), plain.say("ipt>")].concat(), [""; 0]);
    assert_eq!(plain.scanner.stop(), Some(StreamStop::Blocked));
}

#[test]
fn an_end_that_is_told_lets_go_and_begins_anew_for_as_long_as_a_conversation_lasts() {
    let mut stream = Stream::new(html(Action::Block), Joining::Joined);
    for turn in 0..1000 {
        // The item's name may come again: its text ended.
        let item = format!("item{}", turn % 3);
        assert_eq!(stream.event(&delta(&item, "java")), [""; 0], "{turn}");
        assert_eq!(stream.event(&done(&item)), [delta(&item, "java").to_string(), done(&item).to_string()], "{turn}");
        assert_eq!(stream.event(&delta(&item, "script:")), [delta(&item, "script:").to_string()], "{turn}");
        let end = json!({"type": "response.done", "response": {"id": "r"}});
        assert_eq!(stream.event(&end), [end.to_string()], "{turn}");
    }
    assert_eq!(stream.scanner.stop(), None);
}

#[test]
fn a_client_is_not_made_to_wait_for_its_next_message() {
    let mut stream = Stream::new(html(Action::Block), Joining::Whole);
    let item = |text: &str| {
        json!({"type": "conversation.item.create", "item": {"type": "message", "role": "user",
            "content": [{"type": "input_text", "text": text}]}})
    };
    assert_eq!(stream.event(&item("I like java")), [item("I like java").to_string()]);
    assert_eq!(stream.say("java"), ["java"]);
    assert_eq!(stream.say("[DONE]"), ["[DONE]"]);
    assert_eq!(stream.event(&item("javascript\\u003a")), [item("javascript\\u003a").to_string()]);
    assert_eq!(stream.say(r#"{"type":"x","text":"\u006aavascript:"}"#), [""; 0]);
    assert_eq!(stream.scanner.stop(), Some(StreamStop::Blocked));
    let mut plain = Stream::new(html(Action::Block), Joining::Whole);
    assert_eq!(plain.say("say javascript:x"), [""; 0]);
    assert_eq!(plain.scanner.stop(), Some(StreamStop::Blocked));
    let mut broken = Stream::new(html(Action::Block), Joining::Whole);
    broken.say(r#"{"a": "b""#);
    assert!(matches!(broken.scanner.stop(), Some(StreamStop::Unscannable(_))));
}

#[test]
fn what_stands_between_messages_is_a_text_of_its_own_and_cannot_be_rewritten() {
    for action in [Action::Block, Action::Redact] {
        let mut stream = Stream::new(html(action), Joining::Joined);
        assert_eq!(stream.say("java"), [""; 0]);
        // Neither the message before it nor the ping before it is part of it.
        for payload in ["", "script:", "java", "\x07\u{ff}"] {
            stream.scanner.aside(payload.as_bytes());
        }
        assert_eq!((stream.scanner.stop(), stream.scanner.hits()), (None, vec![]));
        stream.scanner.aside(b"javascript:");
        assert_eq!(stream.scanner.stop(), Some(StreamStop::Blocked), "{action}");
        assert_eq!(stream.scanner.hits().len(), 1, "{action}: which rule it was is known");
    }
    let mut observed = Stream::new(html(Action::Observe), Joining::Joined);
    observed.scanner.aside(b"javascript:");
    assert_eq!((observed.scanner.stop(), observed.scanner.hits()[0].count), (None, 1));
}

#[test]
fn redaction_cuts_within_the_strings_of_each_message() {
    let mut stream = Stream::new(html(Action::Redact), Joining::Joined);
    assert_eq!(stream.event(&delta("i", "So java")), [""; 0]);
    let left = [stream.event(&delta("i", "script:x")), stream.event(&done("i"))].concat();
    assert_eq!(left, [delta("i", "So [removed]").to_string(), delta("i", "x").to_string(), done("i").to_string()]);
    let mut whole = Stream::new(html(Action::Redact), Joining::Whole);
    assert_eq!(whole.say("a javascript:b"), ["a [removed]b"]);
    assert_eq!(whole.say(r#"{"q":"a\u0020javascript:b"}"#), [r#"{"q":"a\u0020[removed]b"}"#]);
    assert_eq!(whole.scanner.hits()[0].count, 2);
}

#[test]
fn what_waits_leaves_in_order_and_at_the_end() {
    let mut stream = Stream::new(html(Action::Block), Joining::Joined);
    assert_eq!(stream.say("java"), [""; 0]);
    let mut ready = Messages::default();
    stream.scanner.message(MessageKind::Binary, b"\xff", &mut ready);
    assert_eq!(ready.iter().count(), 0);
    stream.scanner.end_messages(&mut ready);
    assert_eq!(ready.iter().collect::<Vec<_>>(), [(MessageKind::Text, &b"java"[..]), (MessageKind::Binary, b"\xff")]);
    assert_eq!(stream.scanner.unread().unscannable, 1);
    assert_eq!(stream.end(), [""; 0]);
}

#[test]
fn sound_is_not_read_and_is_counted() {
    let sound = "onAB".repeat(1000);
    let mut rules = html(Action::Block);
    rules.max_chars = Some(100);
    let mut up = Stream::new(rules.clone(), Joining::Whole);
    let append = json!({"type": "input_audio_buffer.append", "audio": sound});
    assert_eq!(up.event(&append).len(), 1);
    let mut down = Stream::new(rules, Joining::Joined);
    let piece = json!({"type": "response.output_audio.delta", "item_id": "i", "delta": sound});
    assert_eq!((down.event(&piece).len(), down.event(&piece).len()), (1, 1));
    // With the two ids beside it.
    assert_eq!((up.scanner.unread().opaque, down.scanner.unread().opaque), (4000, 8002));
    // Named like sound, and none.
    let text = json!({"type": "input_audio_buffer.append", "audio": "javascript:x"});
    assert_eq!(up.event(&text), [""; 0]);
    assert_eq!(up.scanner.stop(), Some(StreamStop::Blocked));
}

#[test]
fn lengths_are_those_of_a_message() {
    let rules = StreamRules { max_chars: Some(30), max_body_chars: Some(40), ..html(Action::Block) };
    let two = |first: usize, second: usize| json!({"text": "x".repeat(first), "b": "y".repeat(second)});
    let plain = "x".repeat(30);
    let mut up = Stream::new(rules.clone(), Joining::Whole);
    for _ in 0..10 {
        assert_eq!(up.event(&two(30, 10)).len(), 1);
        assert_eq!(up.say(&plain).len(), 1);
    }
    assert_eq!(up.scanner.chars(), 10 * 70);
    assert_eq!(up.event(&two(20, 21)), [""; 0]);
    assert_eq!(up.scanner.stop(), Some(StreamStop::TooLong));
    let mut down = Stream::new(rules, Joining::Joined);
    for _ in 0..10 {
        assert_eq!(down.say(&plain).len(), 1);
        assert_eq!(down.event(&two(30, 30)).len(), 1);
    }
    // Where the end of a text is told, it is a text with all its pieces.
    assert_eq!(down.event(&delta("i", &plain[..20])).len(), 1);
    assert_eq!(down.event(&delta("i", &plain[..11])), [""; 0]);
    assert_eq!(down.scanner.stop(), Some(StreamStop::TooLong));
}

#[test]
fn what_is_only_observed_passes_as_it_came() {
    let mut stream = Stream::new(html(Action::Observe), Joining::Joined);
    for message in ["java", "script:", "{broken", r#"{"a":"#, "javascript:"] {
        assert_eq!(stream.say(message), [message]);
    }
    assert_eq!(stream.scanner.hits()[0].count, 2);
}

#[test]
fn messages_are_judged_by_the_action_of_each_rule() {
    let rules =
        [("red", "bluebird", Action::Redact), ("stop", "heron", Action::Block), ("new", "wren", Action::Observe)];
    let rules = rules.map(|(id, pattern, action)| (Rule::new(id, pattern), action)).to_vec();
    let rules = Arc::new(RuleSet::compile_each(rules, Action::Redact).unwrap());
    let rules = || StreamRules { rules: Arc::clone(&rules), ..html(Action::Redact) };
    for joining in [Joining::Joined, Joining::Whole] {
        let mut stream = Stream::new(rules(), joining);
        let said = |text: &str| json!({"type": "note", "remark": text}).to_string();
        assert_eq!(stream.say(&said("wren, bluebird")), [said("wren, [removed]")]);
        assert_eq!(stream.say(&said("wren")), [said("wren")]);
        assert_eq!(stream.say(&said("bluebird, heron")), [""; 0]);
        assert_eq!(stream.scanner.stop(), Some(StreamStop::Blocked));
        let hits: Vec<(usize, u64)> = stream.scanner.hits().iter().map(|hit| (hit.rule, hit.count)).collect();
        assert_eq!(hits.last(), Some(&(2, 2)), "{hits:?}");
    }
    // A piece waits for what could be cut or blocked, and for nothing that is only observed.
    let mut stream = Stream::new(rules(), Joining::Joined);
    let piece = |text: &str| delta("i", text).to_string();
    assert_eq!(stream.say(&piece("a wre")), [piece("a wre")]);
    assert_eq!(stream.say(&piece("n, her")), [""; 0]);
    assert_eq!(stream.say(&piece("e")), [piece("n, her"), piece("e")]);
    assert_eq!(stream.scanner.hits(), [RuleHit { rule: 2, count: 1 }]);
}
