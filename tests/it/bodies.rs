//! Bodies that are more than one JSON text: multipart forms, texts in other charsets, streams of a service's own
//! format.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Origin, Proxy, Reply, within};

const CONFIG: &str = "
rules:
  - {id: codename, pattern: '(?i)project\\s+bluebird'}
defaults: {upstream: ai, request: {rules: []}, response: {rules: []}}
routes:
  - {id: block, path: /block, public: true, request: {rules: [html]}, response: {rules: [html]}}
  - {id: strict, path: /strict, public: true, request: {rules: [html], binary_parts: block}}
  - {id: redact, path: /redact, public: true, request: {rules: [codename], action: redact}, response: {rules: [codename], action: redact}}
  - {id: observe, path: /observe, public: true, request: {rules: [html], action: observe}}
  - {id: watch, path: /watch, public: true, response: {rules: [html], action: observe, max_body: 16B}}
";

const FORM: &str = "multipart/form-data; boundary=\"a b\"";

/// A service that answers with the body it received, of the type it received.
async fn echo() -> Origin {
    Origin::answering(|request| {
        Reply::new(200, request.head.field("content-type").unwrap_or("application/json"), &request.body)
    })
    .await
}

fn form(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let part = |(head, content): &(&str, &[u8])| {
        let head = format!("--a b\r\nContent-Disposition: form-data; {head}\r\n\r\n");
        [head.as_bytes(), content, b"\r\n"].concat()
    };
    parts.iter().map(part).chain([b"--a b--\r\n".to_vec()]).collect::<Vec<_>>().concat()
}

const IMAGE: &str = "name=\"image\"; filename=\"cat.png\"\r\nContent-Type: image/png";

#[tokio::test]
async fn a_form_passes_byte_for_byte_or_not_at_all() {
    let origin = echo().await;
    let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
    let clean = form(&[("name=\"prompt\"", b"what is this?"), (IMAGE, b"\x89PNG\r\n\xFF\0")]);
    let answer = proxy.post("/block").body(FORM, &clean).send().await;
    assert_eq!((answer.status, &answer.body), (200, &clean));
    assert_eq!(origin.only().body, clean);
    for direction in ["request", "response"] {
        let line = format!(r#"keyward_unscanned_bytes_total{{direction="{direction}",reason="binary_part"}}"#);
        assert_eq!(proxy.metric(&line).await, 8.0, "{direction}");
    }
    for (parts, code) in [
        (&[("name=\"prompt\"", &b"<script>"[..])][..], "AI_INPUT_BLOCKED"),
        (&[("name=\"f\"; filename=\"<script>\"", b"x")], "AI_INPUT_BLOCKED"),
        (&[(IMAGE, b"<svg><script>")], "AI_INPUT_BLOCKED"),
        (&[("name=\"f\"\r\nContent-Transfer-Encoding: base64", b"eA==")], "UNSCANNABLE_BODY"),
        (&[("name=f g", b"x")], "BAD_BODY"),
    ] {
        assert_eq!(proxy.post("/block").body(FORM, form(parts)).send().await.code(), code, "{parts:?}");
    }
    assert_eq!(proxy.post("/block").body(FORM, "--a b\n\nx\n--a b--").send().await.code(), "BAD_BODY");
    for declared in
        ["multipart/form-data", "multipart/form-data; boundary=a; boundary=b", "multipart/mixed; boundary=\"\""]
    {
        let answer = proxy.post("/block").body(declared, &clean).send().await;
        assert_eq!(answer.code(), "UNSCANNABLE_BODY", "{declared}");
    }
    assert_eq!(proxy.post("/strict").body(FORM, &clean).send().await.code(), "UNSCANNABLE_BODY");
    assert_eq!(origin.received().len(), 1, "nothing of a refused body reaches the service");
}

#[tokio::test]
async fn a_part_is_redacted_in_its_place() {
    let origin = echo().await;
    let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
    let texts = |a: &[u8], b: &[u8]| {
        form(&[("name=\"a\"", a), (IMAGE, b"\xFF\xFE\0"), ("name=\"b\"\r\nContent-Type: application/json", b)])
    };
    let sent = texts(b"the project bluebird!", b"{\"x\": \"Project\\nBluebird\"}");
    let redacted = texts(b"the [removed]!", b"{\"x\": \"[removed]\"}");
    let answer = proxy.post("/redact").body(FORM, &sent).chunked().send().await;
    assert_eq!(String::from_utf8_lossy(&answer.body), String::from_utf8_lossy(&redacted));
    let received = origin.only();
    assert_eq!(received.body, redacted);
    assert_eq!(received.head.field("content-length"), Some(redacted.len().to_string().as_str()));
}

#[tokio::test]
async fn observing_a_form_counts_and_changes_nothing() {
    let origin = echo().await;
    let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
    let sent = form(&[("name=\"<script>\"", b"<script>"), ("name=\"b\"\r\nContent-Encoding: gzip", b"x")]);
    assert_eq!(proxy.post("/observe").body(FORM, &sent).send().await.body, sent);
    let line = r#"keyward_rule_hits_total{action="observe",direction="request",rule="html-script"}"#;
    assert_eq!(proxy.metric(line).await, 2.0);
}

#[tokio::test]
async fn a_text_is_read_in_its_charset() {
    let origin = echo().await;
    let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
    let wide = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let utf16 = "text/plain; charset=utf-16le";
    assert_eq!(proxy.post("/block").body(utf16, wide("<script>")).send().await.code(), "AI_INPUT_BLOCKED");
    assert_eq!(proxy.post("/block").body(utf16, wide("hello é")).send().await.body, wide("hello é"));
    assert_eq!(proxy.post("/block").body("text/plain; charset=latin1", b"caf\xE9").send().await.body, b"caf\xE9");
    let redacted = proxy.post("/redact").body(utf16, wide("é Project Bluebird.")).send().await;
    assert_eq!(redacted.body, wide("é [removed]."));
    assert_eq!(proxy.post("/block").body("text/plain; charset=utf-7", "+ADw-").send().await.code(), "UNSCANNABLE_BODY");
    // JSON is UTF-8; a charset with the same ASCII changes nothing, any other contradicts.
    let json = r#"{"a":"é"}"#;
    assert_eq!(proxy.post("/block").body("application/json; charset=iso-8859-1", json).send().await.text(), json);
    let answer = proxy.post("/block").body("application/json; charset=utf-16", json).send().await;
    assert_eq!(answer.code(), "UNSCANNABLE_BODY");
}

#[tokio::test]
async fn a_stream_of_a_described_format_is_joined_and_ended_as_described() {
    let config = r#"
routes:
  - id: legacy
    path: /**
    public: true
    response: {rules: [html], stream: {join: $.result.tok, channel: result.no, done: '[END]', end: ['{"err":"{code}"}', '[END]']}}
"#;
    let tok = |no: &str, tok: &str| format!("data: {{\"result\":{{\"tok\":\"{tok}\",\"no\":{no}}}}}\n\n");
    let clean = tok("0", "a <scr") + &tok("1", "ipt> b") + "data: [END]\n\n";
    let harmful = tok("0", "a") + &tok("0", " <scr") + &tok("0.0", "ipt> b");
    let answers = [clean.clone(), harmful];
    let origin = Origin::answering(move |request| {
        Reply::new(200, "text/event-stream", &answers[usize::from(request.head.first_line.contains("harmful"))])
    })
    .await;
    let proxy = Proxy::builder(&origin).config(config).start().await;
    assert_eq!(proxy.get("/clean").send().await.text(), clean);
    let end = "data: {\"err\":\"AI_RESPONSE_BLOCKED\"}\n\ndata: [END]\n\n";
    assert_eq!(proxy.get("/harmful").send().await.text(), tok("0", "a") + end);
}

#[tokio::test]
async fn an_answer_that_is_only_observed_is_neither_late_nor_too_large() {
    let (rest, ask) = tokio::sync::oneshot::channel::<()>();
    let ask = std::sync::Mutex::new(Some(ask));
    let origin = Origin::raw(move |mut stream| {
        let ask = ask.lock().expect("no test panics here").take();
        async move {
            let mut read = [0; 4096];
            let asked = stream.read(&mut read).await.is_ok_and(|read| read > 0);
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 41\r\n\r\n{\"a\":\"<scr";
            if asked && stream.write_all(head.as_bytes()).await.is_ok() {
                if let Some(ask) = ask {
                    ask.await.ok();
                }
                stream.write_all(b"ipt>alert(1)</script>\", \"b\": 1}").await.ok();
                // The connection stays open until the proxy closes it.
                while stream.read(&mut read).await.is_ok_and(|read| read > 0) {}
            }
        }
    })
    .await;
    let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
    let mut client = within("connecting", TcpStream::connect(proxy.address)).await.expect("a connection");
    client.write_all(b"GET /watch HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.expect("a request");
    let mut received = Vec::new();
    while !received.ends_with(b"<scr") {
        // The service sends no more before this has arrived.
        let read = within("the first half", client.read_buf(&mut received)).await.expect("bytes");
        assert!(read > 0, "{}", String::from_utf8_lossy(&received));
    }
    rest.send(()).expect("the service waits");
    within("the rest", client.read_to_end(&mut received)).await.expect("bytes");
    let received = String::from_utf8(received).expect("text");
    assert!(received.ends_with("{\"a\":\"<script>alert(1)</script>\", \"b\": 1}"), "{received}");
    let line = r#"keyward_rule_hits_total{action="observe",direction="response",rule="html-script"}"#;
    assert_eq!(proxy.metric(line).await, 1.0);
}
