//! Inspection in both directions: what is changed, what is only counted, what stays byte for byte.

use crate::harness::{Origin, Proxy, Reply};

const CONFIG: &str = "
rules:
  - {id: codename, pattern: '(?i)project\\s+bluebird', examples: {match: [project  Bluebird], pass: [projects]}}
defaults: {upstream: ai, request: {rules: []}, response: {rules: []}}
routes:
  - {id: sanitize, path: /sanitize, public: true, request: {rules: [seed], action: sanitize, max_chars: 12}}
  - {id: redact, path: /redact, public: true, request: {rules: [codename], action: redact}, response: {rules: [codename], action: redact}}
  - {id: observe, path: /observe, public: true, request: {rules: [html, codename], action: observe, max_chars: 5},
     response: {rules: [html, codename], action: observe, max_chars: 5}}
  - {id: emoji, path: /emoji, public: true, response: {rules: [seed], action: block, max_chars: 50000}}
  - {id: total, path: /total, public: true, request: {rules: [], max_body_chars: 10}}
  - {id: html, path: /html, public: true, response: {rules: [html], action: block}}
  - {id: pass, path: /pass, public: true, request: {rules: [html], unscannable: pass}, response: {rules: [html], unscannable: pass}}
";

/// A service that answers with the body it received, of the type it received.
async fn echo() -> Origin {
    Origin::answering(|request| {
        Reply::new(200, request.head.field("content-type").unwrap_or("application/json"), &request.body)
    })
    .await
}

#[tokio::test]
async fn sanitize_removes_exactly_what_the_source_document_removes() {
    let origin = echo().await;
    let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
    for (sent, forwarded) in [
        (r#"{ "input" : "a<script>x</script>b" , "n":1e400 }"#, r#"{ "input" : "ab" , "n":1e400 }"#),
        (r#"{"input":"javaJAVASCRIPT:script:"}"#, r#"{"input":"javascript:"}"#),
        (r#"{"input":"onx =1 caf\u00e9"}"#, r#"{"input":"1 caf\u00e9"}"#),
        (r#"{"input":"clean","deep":[{"a":"\uD83D\uDE00"}]}"#, r#"{"input":"clean","deep":[{"a":"\uD83D\uDE00"}]}"#),
    ] {
        assert_eq!(proxy.post("/sanitize").json(sent).send().await.status, 200, "{sent}");
        let received = origin.received().pop().expect("a request");
        assert_eq!(String::from_utf8_lossy(&received.body), forwarded);
        assert_eq!(received.head.field("content-length"), Some(forwarded.len().to_string().as_str()));
        assert_eq!(received.head.field("transfer-encoding"), None);
    }
    // The length is that of the sanitized text.
    let long = r#"{"input":"0123456789ab<script>x</script>"}"#;
    assert_eq!(proxy.post("/sanitize").json(long).chunked().send().await.status, 200);
    assert_eq!(proxy.post("/sanitize").json(r#"{"input":"0123456789abc"}"#).send().await.code(), "AI_INPUT_TOO_LONG");
}

#[tokio::test]
async fn redact_cuts_out_the_match_and_nothing_else() {
    let origin = echo().await;
    let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
    let sent = "{\"a\":\"the Project\\n\\tBluebird!\",\r\n \"b\": [1.50, \"x\"]}";
    let answer = proxy.post("/redact").json(sent).send().await;
    let redacted = "{\"a\":\"the [removed]!\",\r\n \"b\": [1.50, \"x\"]}";
    assert_eq!(answer.text(), redacted);
    assert_eq!(String::from_utf8_lossy(&origin.only().body), redacted);
    let text = proxy.post("/redact").body("text/plain", "project bluebird and project  bluebird").send().await;
    assert_eq!(text.text(), "[removed] and [removed]");
    // A key or a query cannot be rewritten without changing what it means.
    assert_eq!(proxy.post("/redact").json(r#"{"project bluebird":1}"#).send().await.code(), "AI_INPUT_BLOCKED");
    assert_eq!(proxy.get("/redact?q=project+bluebird").send().await.code(), "AI_INPUT_BLOCKED");
}

#[tokio::test]
async fn observe_counts_and_changes_nothing() {
    let origin = echo().await;
    let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
    let body = r#"{"a":"<script>alert(1)</script> project bluebird"}"#;
    assert_eq!(proxy.post("/observe").json(body).send().await.text(), body);
    for (content_type, body) in [("application/json", "{nope"), ("image/png", "\u{1}\u{2}")] {
        assert_eq!(proxy.post("/observe").body(content_type, body).send().await.text(), body);
    }
    for direction in ["request", "response"] {
        for rule in ["html-script", "codename"] {
            let line = format!(r#"keyward_rule_hits_total{{action="observe",direction="{direction}",rule="{rule}"}}"#);
            assert_eq!(proxy.metric(&line).await, 1.0, "{line}");
        }
    }
    let (_, records) = proxy.stop().await;
    let hits: Vec<_> = records[0]["rules"].as_array().expect("hits").iter().map(|hit| hit["rule"].as_str()).collect();
    assert_eq!(hits.len(), 4, "{hits:?}");
    assert!(!records[0].to_string().contains("alert"), "a record never holds the text");
    assert_eq!((&records[0]["input_length"], &records[0]["response_length"]), (&42.into(), &42.into()));
}

#[tokio::test]
async fn lengths_are_utf_16_units() {
    let origin = Origin::answering(|request| {
        let count: usize = request.head.field("x-emoji").expect("a count").parse().expect("a number");
        Reply::json(format!(r#"{{"response":"{}"}}"#, "\u{1F600}".repeat(count)))
    })
    .await;
    let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
    for (count, status) in [("25000", 200), ("25001", 502)] {
        assert_eq!(proxy.get("/emoji").header("X-Emoji", count).send().await.status, status, "{count}");
    }
    let origin = echo().await;
    let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
    assert_eq!(proxy.post("/total").json(r#"["12345","67890"]"#).send().await.status, 200);
    assert_eq!(proxy.post("/total").json(r#"["12345","678901"]"#).send().await.code(), "AI_INPUT_TOO_LONG");
}

#[tokio::test]
async fn content_that_rules_do_not_apply_to_passes_and_is_counted() {
    let origin = Origin::answering(|_| Reply::new(200, "text/html", "<script>alert(1)</script>")).await;
    let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
    assert_eq!(proxy.get("/html").send().await.text(), "<script>alert(1)</script>");
    assert_eq!(
        proxy.metric(r#"keyward_unscanned_bytes_total{direction="response",reason="content_type"}"#).await,
        25.0
    );
}

#[tokio::test]
async fn unscannable_pass_is_a_choice_that_is_counted() {
    let origin = Origin::answering(|_| {
        Reply::raw(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: br\r\nContent-Length: 3\r\n\r\nabc",
        )
    })
    .await;
    let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
    let request = proxy.post("/pass").header("Content-Encoding", "gzip").json("packed");
    assert_eq!(request.send().await.text(), "abc");
    for (direction, bytes) in [("request", 6.0), ("response", 3.0)] {
        let line = format!(r#"keyward_unscanned_bytes_total{{direction="{direction}",reason="unscannable"}}"#);
        assert_eq!(proxy.metric(&line).await, bytes, "{direction}");
    }
}

#[tokio::test]
async fn the_service_is_asked_for_what_can_be_scanned() {
    let origin = echo().await;
    let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
    for (path, range, encoding) in [("/html", None, "identity"), ("/sanitize", Some("bytes=0-1"), "gzip, br")] {
        let request =
            proxy.get(path).header("Range", "bytes=0-1").header("If-Range", "x").header("Accept-Encoding", "gzip, br");
        request.send().await;
        let head = origin.received().pop().expect("a request").head;
        assert_eq!((head.field("range"), head.field("accept-encoding")), (range, Some(encoding)), "{path}");
    }
}

#[tokio::test]
async fn validators_of_the_old_bytes_do_not_stay_on_rewritten_ones() {
    let origin = Origin::answering(|request| {
        let body = if request.head.first_line.contains("clean") { r#"{"a":"b"}"# } else { r#"{"a":"project bluebird"}"# };
        Reply::raw(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nETag: \"1\"\r\nContent-MD5: x\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    })
    .await;
    let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
    let rewritten = proxy.get("/redact").send().await;
    assert_eq!((rewritten.text().as_str(), rewritten.head.field("etag")), (r#"{"a":"[removed]"}"#, None));
    assert_eq!(rewritten.head.field("content-md5"), None);
    assert_eq!(proxy.get("/redact?clean").send().await.head.field("etag"), Some("\"1\""));
}

#[tokio::test]
async fn each_rule_has_its_own_action_and_one_that_observes_changes_nothing() {
    const CONFIG: &str = "
rules:
  - {id: codename, literals: [Project Bluebird, bluebird], ignore_case: true, action: redact}
  - {id: new, pattern: heron, action: observe}
  - {id: asked, pattern: robin, direction: request}
defaults: {upstream: ai, request: {rules: []}, response: {rules: []}}
routes:
  - {id: mixed, path: /mixed, public: true, request: {rules: [codename, new, asked]}, response: {rules: [new]}}
";
    let origin = echo().await;
    let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
    let sent = r#"{"a": "heron, project BLUEBIRD and heron\u0021"}"#;
    let answer = proxy.post("/mixed").json(sent).send().await;
    assert_eq!(answer.text(), r#"{"a": "heron, [removed] and heron\u0021"}"#);
    let untouched = "{\"a\":\t\"heron \\u0068eron\"}";
    assert_eq!(proxy.post("/mixed").json(untouched).send().await.text(), untouched);
    let blocked = proxy.post("/mixed").json(r#"{"a": "robin, heron and bluebird"}"#).send().await;
    assert_eq!(blocked.code(), "AI_INPUT_BLOCKED");
    for (rule, direction, action, count) in [
        ("codename", "request", "redact", 1.0),
        ("asked", "request", "block", 1.0),
        ("new", "request", "observe", 5.0),
        ("new", "response", "observe", 4.0),
    ] {
        let line = format!(r#"keyward_rule_hits_total{{action="{action}",direction="{direction}",rule="{rule}"}}"#);
        assert_eq!(proxy.metric(&line).await, count, "{line}");
    }
}

#[tokio::test]
async fn requests_of_lines_and_events_are_read_document_by_document() {
    let origin = echo().await;
    let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
    let clean = "\u{feff}{\"a\":\"project\"}\r\n\r\n{\"a\":\"bluebird\"}";
    for kind in ["application/x-ndjson", "application/jsonl", "application/json-seq"] {
        let answer = proxy.post("/html").body(kind, clean).send().await;
        assert_eq!((answer.status, answer.text()), (200, clean.to_owned()), "{kind}");
        proxy.post("/redact").body(kind, "{\"a\":1}\n{\"a\":\"project\\u0020bluebird!\"}\n").send().await;
        let received = origin.received().pop().expect("a request");
        assert_eq!(String::from_utf8_lossy(&received.body), "{\"a\":1}\n{\"a\":\"[removed]!\"}\n", "{kind}");
        let broken = proxy.post("/redact").body(kind, "{\"a\":1}{}\n").send().await;
        assert!(broken.status == 400 && broken.text().contains("Bad request body"), "{}", broken.text());
    }
    proxy.post("/redact").body("text/event-stream", "data: project bluebird\n\n").send().await;
    let received = origin.received().pop().expect("a request");
    assert_eq!(String::from_utf8_lossy(&received.body), "data: [removed]\n\n");
    proxy.post("/sanitize").body("text/event-stream", "data: a<script>x</script>b\n\n").send().await;
    let received = origin.received().pop().expect("a request");
    assert_eq!(String::from_utf8_lossy(&received.body), "data: ab\n\n");
}
