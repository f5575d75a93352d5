//! Views of texts that arrive in events.

use super::*;
use crate::scan::View;

/// A tool call's arguments in events, its JSON cut into pieces of `size` characters.
fn events(arguments: &str, size: usize) -> Vec<u8> {
    let characters: Vec<char> = arguments.chars().collect();
    let mut out = Vec::new();
    for piece in characters.chunks(size) {
        let piece = Value::from(piece.iter().collect::<String>());
        let event = format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"tool_calls\":[{{\"index\":0,\"function\":{{\"arguments\":{piece}}}}}]}}}}]}}\n\n"
        );
        out.extend_from_slice(event.as_bytes());
    }
    out.extend_from_slice(b"data: [DONE]\n\n");
    out
}

/// The arguments that the events which left make together.
fn joined(out: &[u8]) -> String {
    let out = std::str::from_utf8(out).expect("UTF-8");
    let documents = out.split("\n\n").filter_map(|event| event.strip_prefix("data: {").map(|rest| format!("{{{rest}")));
    documents
        .map(|document| {
            let document: Value = serde_json::from_str(&document).expect("JSON");
            document["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"]
                .as_str()
                .expect("a string")
                .to_owned()
        })
        .collect()
}

fn scan(views: &[View], action: Action, wire: &[u8], chunk: usize) -> (Vec<u8>, Option<StreamStop>) {
    let rule = Rule::new("script", "<script>").also_through(views.iter().copied());
    let rules = StreamRules {
        rules: Arc::new(RuleSet::compile(vec![rule]).expect("a rule")),
        action,
        max_chars: None,
        max_body_chars: None,
        house: None,
    };
    let mut scanner = StreamScanner::new(rules, StreamFormat::Events, None);
    let mut out = Vec::new();
    for bytes in wire.chunks(chunk) {
        scanner.feed(bytes, &mut out);
    }
    scanner.finish(&mut out);
    (out, scanner.stop())
}

#[test]
fn arguments_of_a_tool_are_read_as_its_client_reads_them() {
    let arguments = r#"{"html": "safe \u003cscript\u003e tail"}"#;
    for size in [1, 2, 3, 7, 100] {
        for chunk in [1, 5, 100_000] {
            let wire = events(arguments, size);
            assert_eq!(scan(&[], Action::Block, &wire, chunk), (wire.clone(), None), "without the view it passes");
            let (out, stop) = scan(&[View::JsonUnescape], Action::Block, &wire, chunk);
            assert_eq!(stop, Some(StreamStop::Blocked));
            assert!(r#"{"html": "safe "#.starts_with(&joined(&out)), "no byte of the escape left");
            let (out, stop) = scan(&[View::JsonUnescape], Action::Redact, &wire, chunk);
            assert_eq!((joined(&out).as_str(), stop), (r#"{"html": "safe [removed] tail"}"#, None));
        }
    }
}

#[test]
fn clean_events_leave_as_they_came() {
    let arguments = r#"{"html": "a \u003c b \\ c \n\u00e9 &lt; %3c é"}"#;
    for (_, view) in View::NAMES {
        for action in [Action::Block, Action::Redact, Action::Observe] {
            let wire = events(arguments, 3);
            assert_eq!(scan(&[view], action, &wire, 7), (wire.clone(), None), "{view} {action}");
        }
    }
}

#[test]
fn invisible_text_inside_of_a_candidate_reaches_the_cap() {
    let arguments = format!("<scr{}", "\u{200b}".repeat(10_000));
    let (out, stop) = scan(&[View::Strip], Action::Redact, &events(&arguments, 50), 1000);
    assert_eq!((out.len(), stop), (0, Some(StreamStop::Blocked)));
}
