use super::*;
use crate::scan::{Action, BinaryParts, Rule, RuleSet, inspect};

fn report(body: &str, format: TextFormat, action: Action) -> Report {
    let rules = RuleSet::compile(vec![Rule::new("word", "bluebird")]).unwrap();
    let what = Inspection {
        rules: &rules,
        action,
        max_chars: Some(40),
        max_body_chars: Some(60),
        binary_parts: BinaryParts::Pass,
    };
    inspect(&Bytes::copy_from_slice(body.as_bytes()), format, &what)
}

fn verdicts(body: &str, format: TextFormat) -> [Verdict; 4] {
    [Action::Observe, Action::Block, Action::Redact, Action::Sanitize]
        .map(|action| report(body, format, action).verdict)
}

fn rewritten(body: &str) -> Verdict {
    Verdict::Rewritten(Bytes::copy_from_slice(body.as_bytes()))
}

#[test]
fn every_line_is_a_document_of_its_own() {
    let lines = |body: &str| verdicts(body, TextFormat::Lines);
    for clean in
        ["", "\n", "{\"a\":1}\n", "\u{feff}{\"a\":\"blue\"}\r\n\r\n{\"a\":\"bird\"}", "\u{1e}[\"x\"]\n\u{1e}2\n"]
    {
        assert_eq!(lines(clean), [Verdict::Clean, Verdict::Clean, Verdict::Clean, Verdict::Clean], "{clean:?}");
    }
    // Both lines, the second written with an escape; every other byte as it came.
    let body = "\u{feff}{\"a\": \"a bluebird\"}\r\n\n {\"b\":[\"\\u0062luebird!\"]}";
    let expected = "\u{feff}{\"a\": \"a [removed]\"}\r\n\n {\"b\":[\"[removed]!\"]}";
    assert_eq!(
        lines(body),
        [Verdict::Observed, Verdict::Blocked, rewritten(expected), rewritten(&expected.replace("[removed]", ""))]
    );
    assert_eq!(report(body, TextFormat::Lines, Action::Redact).hits[0].count, 2);
    let key = "1\n{\"bluebird\":1}";
    assert_eq!(lines(key), [Verdict::Observed, Verdict::Blocked, Verdict::Blocked, Verdict::Blocked]);
}

#[test]
fn a_line_that_is_no_document_is_told_where_it_breaks() {
    for (body, offset) in [("{}\n{\"a\":}\n", 8), ("{}\n{}{}\n", 5), ("{}\r{}", 3)] {
        let Verdict::Malformed(Malformed::Json(error)) = report(body, TextFormat::Lines, Action::Block).verdict else {
            panic!("{body:?} is no NDJSON");
        };
        assert_eq!(error.offset, offset, "{body:?}");
    }
}

#[test]
fn lengths_are_those_of_all_documents() {
    let of = |texts: &[usize]| texts.iter().map(|len| format!("\"{}\"\n", "x".repeat(*len))).collect::<String>();
    let events = |body: &str| body.lines().map(|line| format!("data: {line}\n\n")).collect::<String>();
    for (texts, verdict) in [(&[40, 20][..], Verdict::Clean), (&[41], Verdict::TooLong), (&[40, 21], Verdict::TooLong)]
    {
        let body = of(texts);
        assert_eq!(report(&body, TextFormat::Lines, Action::Block).verdict, verdict, "{texts:?}");
        assert_eq!(report(&events(&body), TextFormat::Events, Action::Redact).verdict, verdict, "{texts:?}");
    }
}

#[test]
fn every_event_is_a_document_or_a_text_of_its_own() {
    let events = |body: &str| verdicts(body, TextFormat::Events);
    for clean in
        ["", "\n", "data: blue\n\ndata: bird\r\r: x\n\nid: 1\ndata\n\n", "data: {\"a\":1}", "data: [DONE]\r\n\r\n"]
    {
        assert_eq!(events(clean), [Verdict::Clean, Verdict::Clean, Verdict::Clean, Verdict::Clean], "{clean:?}");
    }
    for (body, expected) in [
        ("event: a\r\ndata: {\"a\":\"\\u0062luebird\"}\r\n\r\n", "event: a\r\ndata: {\"a\":\"[removed]\"}\r\n\r\n"),
        ("data:a bluebird\n\ndata: bluebird", "data:a [removed]\n\ndata: [removed]"),
    ] {
        let sanitized = rewritten(&expected.replace("[removed]", ""));
        assert_eq!(events(body), [Verdict::Observed, Verdict::Blocked, rewritten(expected), sanitized], "{body:?}");
    }
    // Where the first word goes, the space behind it is part of the text.
    assert_eq!(events("data:bluebird x\n\n")[3], rewritten("data:  x\n\n"));
    for blocked in [
        ": bluebird\n\n",
        "id: bluebird\ndata: x\n\n",
        "data: {\"x\":\ndata: \"bluebird\"}\n\n",
        "data: a\ndata: bluebird\n\n",
    ] {
        assert_eq!(
            events(blocked),
            [Verdict::Observed, Verdict::Blocked, Verdict::Blocked, Verdict::Blocked],
            "{blocked:?}"
        );
    }
    // Over the end of a line within an event, and not over the end of one.
    let rules = RuleSet::compile(vec![Rule::new("word", "blue\nbird")]).unwrap();
    let what = Inspection {
        rules: &rules,
        action: Action::Block,
        max_chars: None,
        max_body_chars: None,
        binary_parts: BinaryParts::Pass,
    };
    let verdict = |body: &'static str| inspect(&Bytes::from(body), TextFormat::Events, &what).verdict;
    assert_eq!(verdict("data: blue\ndata: bird\n\n"), Verdict::Blocked);
    assert_eq!(verdict("data: blue\n\ndata: bird\n\n"), Verdict::Clean);
}

#[test]
fn more_events_than_anybody_sends_are_not_read() {
    let body = "data:1\n\n".repeat(MAX_EVENTS);
    // All of them together are too long, which is only observed.
    assert_eq!(report(&body, TextFormat::Events, Action::Observe).verdict, Verdict::Observed);
    let body = format!("{body}data:1\n\n");
    assert_eq!(report(&body, TextFormat::Events, Action::Observe).verdict, Verdict::Unscannable(TOO_MANY));
}
