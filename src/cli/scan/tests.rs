use std::collections::VecDeque;

use serde_json::{Value, json};

use super::*;

fn task(rules: Vec<Rule>, action: Action) -> Task {
    let rules = Arc::new(RuleSet::compile(rules).unwrap());
    Task { what: StreamRules { rules, action, max_chars: None, max_body_chars: None, house: None }, max_held: 64 }
}

fn seed(action: Action) -> Task {
    task(preset("seed").unwrap(), action)
}

fn scanned(task: &Task, format: Format, chunk: Option<Chunk>, input: &str) -> Result<(String, Value), String> {
    let mut out = Vec::new();
    let outcome = scan(task, format, chunk, &mut input.as_bytes(), &mut out)?;
    let line = outcome.line(task.what.rules.rule_ids())?;
    Ok((String::from_utf8(out).unwrap(), serde_json::from_str(&line).unwrap()))
}

#[test]
fn each_action_has_its_word_and_its_place() {
    let hit = |rule: &str, start: u64, end: u64| json!({"rule": rule, "start": start, "end": end, "channel": "text"});
    let input = "see javascript:1 and onx=2";
    let both = [hit("javascript-url", 4, 15), hit("event-handler", 21, 25)];
    for (action, word, out, hits) in [
        (Action::Block, "blocked", "see ", &both[..1]),
        (Action::Redact, "redacted", "see [removed]1 and [removed]2", &both[..]),
        (Action::Sanitize, "sanitized", "see 1 and 2", &both[..]),
        (Action::Observe, "observed", input, &both[..]),
    ] {
        let (left, line) = scanned(&seed(action), Format::Text, None, input).unwrap();
        assert_eq!((left.as_str(), &line["verdict"]), (out, &json!(word)), "{line}");
        assert_eq!(line["hits"], json!(hits), "{action}");
        assert_eq!(line["released"], json!(out.len()));
        assert_eq!(line.get("reason"), None);
    }
    let (left, line) = scanned(&seed(Action::Block), Format::Text, None, "clean").unwrap();
    assert_eq!((left.as_str(), line), ("clean", json!({"verdict": "clean", "hits": [], "held_max": 0, "released": 5})));
}

#[test]
fn how_the_input_is_cut_changes_nothing_but_what_is_seen_of_the_hold() {
    let event =
        |text: &str| format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n");
    let events = [event("a java"), event("scri"), event("pt:b"), event("c")].concat();
    for action in [Action::Block, Action::Redact, Action::Observe] {
        let (whole, expected) = scanned(&seed(action), Format::Auto, None, &events).unwrap();
        let place = json!([{"rule": "javascript-url", "start": 2, "end": 13, "channel": "choices[0].delta.content"}]);
        assert_eq!(expected["hits"], place, "{action}");
        for chunk in [Chunk::Fixed(1), Chunk::Fixed(7), Chunk::Fixed(1 << 20), Chunk::Random(1), Chunk::Random(2)] {
            let (left, line) = scanned(&seed(action), Format::Auto, Some(chunk), &events).unwrap();
            assert_eq!((&left, &line["hits"]), (&whole, &expected["hits"]), "{action} {chunk:?}");
        }
    }
    let (left, line) = scanned(&seed(Action::Block), Format::Text, Some(Chunk::Fixed(1)), "x javascriptX").unwrap();
    assert_eq!((left.as_str(), &line["held_max"]), ("x javascriptX", &json!(10)));
}

#[test]
fn lengths_are_drawn_from_the_seed_alone() {
    let cut = |seed| {
        let mut input = &[b'x'; 2000][..];
        let mut chunks = Chunks::new(&mut input, Some(Chunk::Random(seed)));
        let (mut chunk, mut lengths) = (Vec::new(), Vec::new());
        while chunks.next(&mut chunk).unwrap() {
            lengths.push(chunk.len());
        }
        let again: Vec<usize> = chunks.again(&[b'x'; 2000]).map(<[u8]>::len).collect();
        assert_eq!(again, lengths);
        lengths
    };
    assert_eq!(cut(7), cut(7));
    assert_ne!(cut(7), cut(8));
    assert_eq!(cut(7).iter().sum::<usize>(), 2000);
    assert!(cut(7).iter().max() > Some(&40) && cut(7).iter().min() < Some(&9));
    for bad in ["0", "-1", "random:", "random:x", "99999999999", ""] {
        assert!(bad.parse::<Chunk>().is_err(), "{bad}");
    }
    assert_eq!("random:18446744073709551615".parse(), Ok(Chunk::Random(u64::MAX)));
}

#[test]
fn a_format_is_told_by_the_beginning() {
    for (input, format) in [
        ("", Format::Text),
        ("  \n", Format::Text),
        ("dat", Format::Text),
        ("date: today", Format::Text),
        ("{\"a\":1}", Format::Json),
        ("{\"a\":1}\n", Format::Json),
        (" [1,\n2]", Format::Json),
        ("{\"a\":1}\n{\"a\":2}\n", Format::Ndjson),
        ("{} \r\n[]", Format::Ndjson),
        ("{broken\n{}", Format::Json),
        ("\u{feff}data: x\n\n", Format::Sse),
        ("event: x\n", Format::Sse),
        (": hello\n", Format::Sse),
        ("\"data:\"", Format::Text),
        ("Plain.", Format::Text),
    ] {
        for chunk in [Chunk::Fixed(1), Chunk::Fixed(1000)] {
            let (mut from, mut begun) = (input.as_bytes(), Vec::new());
            let told = sniff(&mut Chunks::new(&mut from, Some(chunk)), &mut begun).unwrap();
            assert_eq!(told, format, "{input:?} {chunk:?}");
        }
    }
    // A first line that never ends is no reason to hold for ever.
    let long = format!("{{\"a\":\"{}", "x".repeat(1 << 20));
    let (mut from, mut begun) = (long.as_bytes(), Vec::new());
    assert_eq!(sniff(&mut Chunks::new(&mut from, None), &mut begun).unwrap(), Format::Json);
    assert!(begun.len() < 200_000);
}

/// Hands out one piece after another, and notes what had left when each was asked for.
struct Exchange {
    pieces: VecDeque<&'static str>,
}

thread_local! {
    static LEFT: std::cell::RefCell<Vec<String>> = const { std::cell::RefCell::new(Vec::new()) };
}

impl Read for Exchange {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        LEFT.with_borrow_mut(|left| left.push(String::new()));
        let piece = self.pieces.pop_front().unwrap_or_default().as_bytes();
        into[..piece.len()].copy_from_slice(piece);
        Ok(piece.len())
    }
}

struct Reader;

impl Write for Reader {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        LEFT.with_borrow_mut(|left| left.last_mut().unwrap().push_str(&text));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn bytes_leave_before_more_is_asked_for() {
    let pieces = ["Hello j", "a", "vascrip! ", "javascript", ":never ", "read"].into();
    let outcome = scan(&seed(Action::Block), Format::Auto, None, &mut Exchange { pieces }, &mut Reader).unwrap();
    assert_eq!((outcome.word, outcome.released, outcome.held_max), (Word::Blocked, 17, 17));
    let left = LEFT.with_borrow(|left| left.clone());
    assert_eq!(left, ["Hello ", "", "javascrip! ", "", ""]);
}

#[test]
fn documents_are_held_and_bounded() {
    let input = r#"{"m":[{"text":"a javascript:"}]}"#;
    let (left, line) = scanned(&seed(Action::Sanitize), Format::Auto, None, input).unwrap();
    assert_eq!(left, r#"{"m":[{"text":"a "}]}"#);
    assert_eq!(line["hits"], json!([{"rule": "javascript-url", "start": 2, "end": 13, "channel": "m[0].text"}]));
    assert_eq!(line["held_max"], json!(input.len()));
    let too_large =
        scanned(&seed(Action::Block), Format::Json, Some(Chunk::Fixed(8)), &format!("\"{}\"", "x".repeat(80)));
    let message = "keyward: the input is larger than 64 bytes, the most of one body that is held (`max_body`)";
    assert_eq!(too_large, Err(message.to_owned()));
    let broken = scanned(&seed(Action::Block), Format::Json, None, "{\"a\":}");
    assert_eq!(broken, Err("keyward: the input is not JSON: unexpected character at byte 5".to_owned()));
}

#[test]
fn what_has_no_place_has_a_reason() {
    let mut limited = seed(Action::Block);
    limited.what.max_chars = Some(3);
    for (format, input) in [(Format::Text, "four"), (Format::Json, "\"four\""), (Format::Sse, "data: \"four\"\n\n")] {
        let (_, line) = scanned(&limited, format, None, input).unwrap();
        assert_eq!(
            (&line["verdict"], &line["reason"]),
            (&json!("blocked"), &json!("a text is too long")),
            "{format:?}"
        );
    }
    let endless = format!("<script>{}", "x".repeat(20_000));
    let (left, line) = scanned(&seed(Action::Block), Format::Text, Some(Chunk::Fixed(100)), &endless).unwrap();
    assert_eq!((left.as_str(), &line["hits"]), ("", &json!([])));
    assert_eq!(line["reason"], json!("a candidate outgrew what may be withheld"));
    let sse = scanned(&seed(Action::Sanitize), Format::Sse, None, "");
    assert_eq!(sse, Err("keyward: a stream cannot be sanitized: use `--action redact`".to_owned()));
}

#[test]
fn hits_beyond_the_first_thousand_are_counted() {
    let input = "javascript:".repeat(1234);
    let (_, line) = scanned(&seed(Action::Redact), Format::Text, Some(Chunk::Fixed(50)), &input).unwrap();
    assert_eq!(line["hits"].as_array().unwrap().len(), 1000);
    assert_eq!(line["hits_unlisted"], json!(234));
}
