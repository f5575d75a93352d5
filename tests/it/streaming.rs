//! Streams, both ways: an event leaves when it arrives, a slow reader slows the service, and whoever leaves is missed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::sync::{Notify, mpsc};

use crate::harness::{Connection, Origin, Proxy, Reader, within};

const SSE_HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Rules apply, and only observe.
const OBSERVED: &str = "
defaults: {upstream: ai, request: {rules: []}, response: {rules: [html], action: observe}}
routes: [{id: stream, path: /**, public: true}]
";

fn chunk(data: &str) -> String {
    format!("{:x}\r\n{data}\r\n", data.len())
}

#[tokio::test]
async fn ten_thousand_events_each_leave_before_the_next_is_sent() {
    const EVENTS: usize = 10_000;
    let (send, events) = mpsc::channel::<String>(1);
    let events = Arc::new(tokio::sync::Mutex::new(events));
    let origin = Origin::raw(move |stream| {
        let events = Arc::clone(&events);
        async move {
            let mut reader = Reader::new(stream);
            reader.head().await;
            let _ = reader.stream().write_all(SSE_HEAD.as_bytes()).await;
            let mut events = events.lock().await;
            while let Some(event) = events.recv().await {
                let _ = reader.stream().write_all(chunk(&event).as_bytes()).await;
            }
            let _ = reader.stream().write_all(b"0\r\n\r\n").await;
        }
    })
    .await;
    let proxy = Proxy::builder(&origin).config(OBSERVED).start().await;
    let mut connection = Connection::to(proxy.address).await;
    connection.write("GET /events HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(connection.head().await.0, 200, "the head comes before the first event");
    within("the stream", async {
        for n in 0..EVENTS {
            // The service sends an event only when the client has the one before it.
            let event = format!("data: {{\"n\": {n}}}\n\n");
            send.send(event.clone()).await.expect("the origin listens");
            assert_eq!(connection.0.chunk().await.expect("an event"), event.as_bytes());
        }
        drop(send);
        assert_eq!(connection.0.chunk().await, Some(Vec::new()), "the end");
    })
    .await;
    let (_, records) = proxy.stop().await;
    assert_eq!(records.len(), 1);
    assert_eq!((&records[0]["outcome"], &records[0]["status"]), (&"complete".into(), &200.into()));
    assert!(records[0]["response_bytes"].as_f64().is_some_and(|bytes| bytes > 100_000.0), "{}", records[0]);
}

#[tokio::test]
async fn a_client_that_leaves_is_missed_at_once() {
    let gone = Arc::new(Notify::new());
    let noticed = Arc::clone(&gone);
    let origin = Origin::raw(move |stream| {
        let noticed = Arc::clone(&noticed);
        async move {
            let mut reader = Reader::new(stream);
            let head = reader.head().await.expect("a request");
            if head.first_line.contains("/streamed") {
                let _ = reader.stream().write_all(format!("{SSE_HEAD}{}", chunk("data: 1\n\n")).as_bytes()).await;
            }
            assert!(reader.at_end().await, "nothing more is sent on this connection");
            noticed.notify_one();
        }
    })
    .await;
    let proxy = Proxy::builder(&origin).config(OBSERVED).start().await;
    for path in ["/streamed", "/silent"] {
        let mut connection = Connection::to(proxy.address).await;
        connection.write(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        if path == "/streamed" {
            assert_eq!(connection.head().await.0, 200);
            assert_eq!(connection.0.chunk().await.as_deref(), Some(&b"data: 1\n\n"[..]));
        } else {
            within("the request's way", async {
                while proxy.metric(r#"keyward_upstream_requests_total{connection="new",upstream="ai"}"#).await < 2.0 {
                    tokio::task::yield_now().await;
                }
            })
            .await;
        }
        drop(connection);
        // Half of the time after which the connection would end anyway.
        tokio::time::timeout(Duration::from_secs(5), gone.notified()).await.expect("the service sees it");
    }
    let (_, records) = proxy.stop().await;
    let ends: Vec<_> = records.iter().map(|record| (record["status"].clone(), record["outcome"].clone())).collect();
    assert_eq!(ends, [(200.into(), "client_closed".into()), (499.into(), "client_closed".into())]);
}

#[tokio::test]
async fn a_slow_reader_slows_the_service() {
    /// Far more than all socket buffers on the way hold.
    const TOTAL: usize = 64 * 1024 * 1024;
    const PIECE: usize = 64 * 1024;
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let origin = Origin::raw(move |stream| {
        let count = Arc::clone(&count);
        async move {
            let mut reader = Reader::new(stream);
            reader.head().await;
            let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: {TOTAL}\r\n\r\n");
            let _ = reader.stream().write_all(head.as_bytes()).await;
            let piece = vec![b'.'; PIECE];
            for _ in 0..TOTAL / PIECE {
                if reader.stream().write_all(&piece).await.is_err() {
                    return;
                }
                count.fetch_add(PIECE, Ordering::SeqCst);
            }
        }
    })
    .await;
    let proxy = Proxy::builder(&origin).config(OBSERVED).start().await;
    let mut connection = Connection::to(proxy.address).await;
    connection.write("GET /big HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(connection.head().await.0, 200);
    // Nobody reads: the service gets stuck when the buffers on the way are full. It is stuck when it has not sent
    // anything while many other requests were served by the same worker.
    let mut before = usize::MAX;
    while before != sent.load(Ordering::SeqCst) {
        before = sent.load(Ordering::SeqCst);
        for _ in 0..50 {
            assert_eq!(proxy.get("/a//b").send().await.status, 400);
        }
    }
    assert!(before < TOTAL / 2, "the service could send {before} bytes that nobody read");
    let (body, complete) = within("reading", connection.0.body(crate::harness::Framing::Length(TOTAL))).await;
    assert_eq!((body.len(), complete), (TOTAL, true));
}

#[tokio::test]
async fn a_request_body_streams_through_where_nothing_inspects_it() {
    let (seen, mut pieces) = mpsc::channel::<Vec<u8>>(1);
    let origin = Origin::raw(move |stream| {
        let seen = seen.clone();
        async move {
            let mut reader = Reader::new(stream);
            let head = reader.head().await.expect("a request");
            assert_eq!(head.field("transfer-encoding"), Some("chunked"));
            while let Some(piece) = reader.chunk().await.filter(|piece| !piece.is_empty()) {
                let _ = seen.send(piece).await;
            }
            let _ = reader.stream().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        }
    })
    .await;
    let proxy = Proxy::before(&origin).await;
    let mut connection = Connection::to(proxy.address).await;
    connection
        .write(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nX-Api-Key: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
            proxy.user_key
        ))
        .await;
    for n in 0..100 {
        let piece = format!("piece {n}");
        connection.write(chunk(&piece)).await;
        assert_eq!(within("a piece", pieces.recv()).await, Some(piece.into_bytes()));
    }
    connection.write("0\r\n\r\n").await;
    assert_eq!(connection.answer("POST").await.status, 200);
    let (_, records) = proxy.stop().await;
    assert_eq!(records[0]["request_bytes"].as_u64(), Some((0..100).map(|n| format!("piece {n}").len() as u64).sum()));
}

#[tokio::test]
async fn a_client_that_never_reads_does_not_hold_the_service_for_ever() {
    let closed = Arc::new(Notify::new());
    let noticed = Arc::clone(&closed);
    let origin = Origin::raw(move |stream| {
        let noticed = Arc::clone(&noticed);
        async move {
            let mut reader = Reader::new(stream);
            reader.head().await;
            let _ = reader.stream().write_all(SSE_HEAD.as_bytes()).await;
            let event = chunk(&"x".repeat(60_000));
            while reader.stream().write_all(event.as_bytes()).await.is_ok() {}
            noticed.notify_one();
        }
    })
    .await;
    let proxy = Proxy::builder(&origin).config(OBSERVED).base("body: 20s", "body: 20s, write: 200ms").start().await;
    let mut connection = Connection::to(proxy.address).await;
    connection.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(connection.head().await.0, 200);
    within("the end", closed.notified()).await;
    let (_, records) = proxy.stop().await;
    assert_eq!(records[0]["outcome"], "client_closed");
}

#[tokio::test]
async fn a_held_response_is_paid_for_until_the_client_has_taken_it() {
    let origin = Origin::answering(|_| crate::harness::Reply::json(format!("\"{}\"", "x".repeat(9_000_000)))).await;
    let proxy = Proxy::builder(&origin)
        .config("\ndefaults: {upstream: ai}\nroutes: [{id: all, path: /**, public: true}]\n")
        .start()
        .await;
    let mut connection = Connection::to(proxy.address).await;
    connection.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(connection.head().await.0, 200);
    assert!(proxy.metric("keyward_held_bytes").await >= 9_000_000.0, "nobody has read it");
    assert_eq!(proxy.metric("keyward_requests_in_flight").await, 1.0);
    let (body, complete) = connection.0.body(crate::harness::Framing::Length(9_000_002)).await;
    assert_eq!((body.len(), complete), (9_000_002, true));
    proxy.until_nothing_is_held().await;
}

#[tokio::test]
async fn a_client_that_leaves_during_its_request_is_on_record_as_gone() {
    let origin = Origin::json("{}").await;
    let proxy = Proxy::builder(&origin)
        .config("\ndefaults: {upstream: ai}\nroutes: [{id: all, path: /**, public: true}]\n")
        .start()
        .await;
    let mut connection = Connection::to(proxy.address).await;
    connection
        .write("POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{")
        .await;
    within("the request", async {
        while proxy.metric("keyward_held_bytes").await < 1.0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(connection);
    within("the end", async {
        while proxy.metric("keyward_requests_in_flight").await > 0.0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let (_, records) = proxy.stop().await;
    assert_eq!((&records[0]["status"], &records[0]["outcome"]), (&499.into(), &"client_closed".into()));
    assert!(origin.received().is_empty());
}

#[tokio::test]
async fn a_stream_that_the_service_breaks_off_ends_broken() {
    let origin = Origin::raw(|stream| async move {
        let mut reader = Reader::new(stream);
        reader.head().await;
        let _ = reader.stream().write_all(format!("{SSE_HEAD}{}", chunk("data: 1\n\n")).as_bytes()).await;
    })
    .await;
    let proxy = Proxy::builder(&origin).config(OBSERVED).start().await;
    let answer = proxy.get("/").send().await;
    assert_eq!((answer.status, answer.complete), (200, false), "the client must not take a torso for the whole");
    let (_, records) = proxy.stop().await;
    assert_eq!(records[0]["outcome"], "upstream_aborted");
}

// ---- Scanned on the way ----

/// One route per action, rules on.
const SCANNED: &str = "
defaults: {upstream: ai, request: {rules: []}, response: {rules: [html], action: block, max_chars: 1000}}
routes:
  - {id: block, path: /block, public: true}
  - {id: openai, path: /openai, public: true, format: openai}
  - {id: anthropic, path: /anthropic, public: true, format: anthropic}
  - {id: redact, path: /redact, public: true, response: {action: redact}}
  - {id: sanitize, path: /sanitize, public: true, response: {action: sanitize}}
";

fn head(content_type: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n")
}

/// A service that answers each request with a stream that the test writes piece by piece. An empty piece ends it as it
/// should, a dropped sender breaks it off; `gone` tells when the connection was closed on it.
struct Service {
    proxy: Proxy,
    pieces: mpsc::UnboundedSender<String>,
    gone: Arc<Notify>,
}

impl Service {
    async fn new(content_type: &'static str) -> Self {
        Self::configured(content_type, SCANNED).await
    }

    async fn configured(content_type: &'static str, config: &str) -> Self {
        // Without a bound: a service that has been cut off takes no more, and the test must not wait for it.
        let (pieces, queue) = mpsc::unbounded_channel::<String>();
        let queue = Arc::new(tokio::sync::Mutex::new(queue));
        let gone = Arc::new(Notify::new());
        let noticed = Arc::clone(&gone);
        let origin = Origin::raw(move |stream| {
            let (queue, noticed) = (Arc::clone(&queue), Arc::clone(&noticed));
            async move {
                let mut reader = Reader::new(stream);
                reader.head().await;
                let _ = reader.stream().write_all(head(content_type).as_bytes()).await;
                let mut queue = queue.lock().await;
                loop {
                    tokio::select! {
                        piece = queue.recv() => {
                            let Some(piece) = piece else { return };
                            let end = piece.is_empty();
                            let piece = if end { "0\r\n\r\n".to_owned() } else { chunk(&piece) };
                            let _ = reader.stream().write_all(piece.as_bytes()).await;
                        }
                        closed = reader.at_end() => {
                            assert!(closed);
                            noticed.notify_one();
                            return;
                        }
                    }
                }
            }
        })
        .await;
        let proxy = Proxy::builder(&origin).config(config).start().await;
        Self { proxy, pieces, gone }
    }

    async fn open(&self, path: &str) -> Connection {
        let mut connection = Connection::to(self.proxy.address).await;
        connection.write(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        let (status, head) = connection.head().await;
        assert_eq!((status, head.field("content-length")), (200, None));
        connection
    }

    fn send(&self, piece: impl Into<String>) {
        self.pieces.send(piece.into()).expect("the service listens");
    }
}

fn chat(index: u32, text: &str) -> String {
    format!(
        "data: {}\n\n",
        json!({"id": "c1", "model": "m", "choices": [{"index": index, "delta": {"content": text}}]})
    )
}

/// Everything that is left of a stream, and whether it ended as its framing says.
async fn rest(mut connection: Connection) -> (String, bool) {
    let (body, complete) = within("the end", connection.0.body(crate::harness::Framing::Chunked)).await;
    (String::from_utf8(body).expect("text"), complete)
}

#[tokio::test]
async fn ten_thousand_clean_events_each_leave_before_the_next_is_sent() {
    let service = Service::new("text/event-stream").await;
    for path in ["/block", "/redact"] {
        let mut connection = service.open(path).await;
        within("the stream", async {
            for n in 0..10_000 {
                // A new text each time, so that none grows beyond its limit.
                let event = format!("data: {{\"type\": \"t{}\", \"text\": \"token {n} < \\u00e9\"}}\r\n\r\n", n % 200);
                service.send(event.clone());
                assert_eq!(connection.0.chunk().await.expect("an event"), event.as_bytes());
            }
        })
        .await;
        service.send("");
        assert_eq!(rest(connection).await, (String::new(), true));
    }
    assert_eq!(service.proxy.metric("keyward_held_bytes").await, 0.0);
    let (_, records) = service.proxy.stop().await;
    assert_eq!((&records[0]["outcome"], &records[0]["refusal"]), (&"complete".into(), &Value::Null));
    assert!(records[0]["response_length"].as_u64().is_some_and(|length| length > 100_000), "{}", records[0]);
}

#[tokio::test]
async fn a_pattern_that_is_split_over_events_never_leaves_and_the_stream_ends_as_its_api_ends_one() {
    let responses = |text: &str| {
        format!("data: {}\n\n", json!({"type": "response.output_text.delta", "sequence_number": 6, "delta": text}))
    };
    let anthropic = |text: &str| {
        format!("data: {}\n\n", json!({"type": "content_block_delta", "index": 0, "delta": {"text": text}}))
    };
    let gemini = |text: &str| {
        format!("data: {}\n\n", json!({"candidates": [{"content": {"parts": [{"text": text}]}, "index": 0}]}))
    };
    let house = |text: &str| format!("event: token\r\ndata: {{\"token\": \"{text}\"}}\r\n\r\n");
    let chat = |text: &str| chat(3, text);
    type Shape<'a> = (&'a str, &'a dyn Fn(&str) -> String, &'a [&'a str]);
    let shapes: [Shape<'_>; 5] = [
        (
            "/openai",
            &chat,
            &["\"finish_reason\":\"content_filter\"", "\"index\":3", "\"id\":\"c1\"", "data: [DONE]\n\n"],
        ),
        (
            "/openai",
            &responses,
            &["event: response.incomplete\n", "\"reason\":\"content_filter\"", "\"sequence_number\":7"],
        ),
        ("/anthropic", &anthropic, &["event: error\n", "\"type\":\"api_error\"", "\"type\":\"error\""]),
        ("/block", &gemini, &["\"finishReason\":\"SAFETY\""]),
        ("/block", &house, &["event: error\n", "\"code\":\"AI_RESPONSE_BLOCKED\"", "\"request_id\""]),
    ];
    for (path, shape, expected) in shapes {
        let service = Service::new("text/event-stream").await;
        let mut connection = service.open(path).await;
        service.send(shape("clean "));
        assert_eq!(connection.0.chunk().await.as_deref(), Some(shape("clean ").as_bytes()));
        for piece in ["java", "script", ":alert(1)"] {
            service.send(shape(piece));
        }
        let (end, complete) = rest(connection).await;
        assert!(complete, "{end}");
        for part in expected {
            assert!(end.contains(part), "{path}: {part} is not in {end}");
        }
        assert!(!end.contains("java") && !end.contains("alert"), "{end}");
        within("the service to be told", service.gone.notified()).await;
        let id = service.proxy.stop().await.1.remove(0);
        assert_eq!(
            (&id["outcome"], &id["refusal"], &id["status"], &id["response_length"]),
            (&"aborted".into(), &"AI_RESPONSE_BLOCKED".into(), &200.into(), &6.into()),
            "{id}"
        );
        assert_eq!(id["rules"][0]["count"], 1, "{id}");
    }
}

#[tokio::test]
async fn a_pattern_is_cut_out_of_a_stream_that_goes_on() {
    let service = Service::new("text/event-stream").await;
    let connection = service.open("/redact").await;
    let events = [chat(0, "see javasc"), chat(1, "other"), chat(0, "ript:"), chat(0, "x <scr"), chat(1, "ipt>")];
    for event in &events {
        service.send(event.clone());
    }
    service.send("data: [DONE]\n\n");
    service.send("");
    let expected =
        [chat(0, "see [removed]"), chat(1, "other"), chat(0, ""), chat(0, "x <scr"), chat(1, "ipt>")].concat();
    assert_eq!(rest(connection).await, (expected + "data: [DONE]\n\n", true));
    let (_, records) = service.proxy.stop().await;
    assert_eq!((&records[0]["outcome"], &records[0]["rules"][0]["count"]), (&"complete".into(), &1.into()));
}

#[tokio::test]
async fn lines_and_lengths_end_in_their_own_words() {
    let service = Service::new("application/x-ndjson").await;
    let connection = service.open("/block").await;
    let line = |text: &str| format!("{}\n", json!({"model": "m", "response": text, "done": false}));
    for piece in ["a", "java", "script:"] {
        service.send(line(piece));
    }
    let (body, complete) = rest(connection).await;
    let (clean, end) = body.split_once('\n').expect("two lines");
    let end: Value = serde_json::from_str(end).expect("a line of JSON");
    assert_eq!((format!("{clean}\n"), complete, &end["code"]), (line("a"), true, &"AI_RESPONSE_BLOCKED".into()));

    let service = Service::new("text/event-stream").await;
    let connection = service.open("/openai").await;
    for _ in 0..11 {
        service.send(chat(0, &"x".repeat(100)));
    }
    let (body, complete) = rest(connection).await;
    assert!(complete && body.contains("\"finish_reason\":\"length\""), "{body}");
    let (_, records) = service.proxy.stop().await;
    assert_eq!(
        (&records[0]["refusal"], &records[0]["response_length"]),
        (&"AI_RESPONSE_TOO_LONG".into(), &1000.into())
    );
}

#[tokio::test]
async fn what_comes_with_the_head_is_refused_with_a_status() {
    let harm = chat(0, "javascript:");
    for (content_type, body) in [
        ("text/event-stream", &*harm),
        ("text/plain", "say javascript:"),
        ("text/plain", r#"{"a":"java\u0073cript:"}"#),
    ] {
        let answer = format!("{}{}0\r\n\r\n", head(content_type), chunk(body));
        let origin = Origin::answering(move |_| crate::harness::Reply::raw(answer.clone())).await;
        let proxy = Proxy::builder(&origin).config(SCANNED).start().await;
        let refused = proxy.get("/block").send().await;
        assert_eq!((refused.status, refused.code().as_str()), (502, "AI_RESPONSE_BLOCKED"), "{body}");
        let (_, records) = proxy.stop().await;
        assert_eq!((&records[0]["outcome"], &records[0]["rules"][0]["count"]), (&"refused".into(), &1.into()));
    }
    let origin = Origin::answering(move |_| crate::harness::Reply::new(200, "text/event-stream", "data: 1\n\n")).await;
    let proxy = Proxy::builder(&origin).config(SCANNED).start().await;
    assert_eq!(proxy.get("/sanitize").send().await.code(), "UNSCANNABLE_RESPONSE");
    assert_eq!(proxy.get("/block").send().await.text(), "data: 1\n\n");
}

#[tokio::test]
async fn a_text_is_let_go_byte_by_byte_and_breaks_where_it_is_blocked() {
    let service = Service::new("text/plain").await;
    let mut connection = Connection::to(service.proxy.address).await;
    connection.write("GET /block HTTP/1.1\r\nHost: a\r\n\r\n").await;
    service.send("say java");
    assert_eq!(connection.head().await.0, 200);
    assert_eq!(connection.0.chunk().await.as_deref(), Some(&b"say "[..]));
    service.send("s, not ja");
    assert_eq!(connection.0.chunk().await.as_deref(), Some(&b"javas, not "[..]));
    service.send("vascript:alert(1)");
    assert_eq!(rest(connection).await, (String::new(), false));
    within("the service to be told", service.gone.notified()).await;
    let (_, records) = service.proxy.stop().await;
    assert_eq!((&records[0]["outcome"], &records[0]["refusal"]), (&"aborted".into(), &"AI_RESPONSE_BLOCKED".into()));
}

#[tokio::test]
async fn what_is_withheld_is_lost_when_the_service_or_the_client_leaves() {
    let Service { proxy, pieces, gone: _ } = Service::new("text/event-stream").await;
    let mut connection = Connection::to(proxy.address).await;
    connection.write("GET /block HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(connection.head().await.0, 200);
    for piece in ["a", "java"] {
        pieces.send(chat(0, piece)).expect("the service listens");
    }
    drop(pieces);
    assert_eq!(rest(connection).await, (chat(0, "a"), false));
    let (_, records) = proxy.stop().await;
    assert_eq!((&records[0]["outcome"], &records[0]["response_length"]), (&"upstream_aborted".into(), &1.into()));

    let service = Service::new("text/event-stream").await;
    let mut connection = service.open("/block").await;
    service.send(chat(0, "a"));
    assert!(connection.0.chunk().await.is_some());
    service.send(chat(0, "java"));
    within("the event to be held", async {
        while service.proxy.metric("keyward_held_bytes").await == 0.0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(connection);
    within("the service to be told", service.gone.notified()).await;
    let (_, records) = service.proxy.stop().await;
    assert_eq!((&records[0]["outcome"], &records[0]["response_length"]), (&"client_closed".into(), &1.into()));
}

#[tokio::test]
async fn what_is_withheld_is_paid_from_the_memory_budget() {
    let config = "
memory: 1MiB
defaults: {upstream: ai, request: {rules: [html], max_body: 900KiB}, response: {rules: [html], max_body: 900KiB}}
routes: [{id: all, path: /**, public: true, format: openai}]
";
    let service = Service::configured("text/event-stream", config).await;
    let mut other = Connection::to(service.proxy.address).await;
    let half = "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 900000\r\n\r\n";
    other.write(format!("{half}{}", "[".repeat(800_000))).await;
    within("most of the budget to be taken", async {
        while service.proxy.metric("keyward_held_bytes").await < 800_000.0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut connection = service.open("/").await;
    service.send(chat(0, "a"));
    assert!(connection.0.chunk().await.is_some());
    service.send(chat(0, "java"));
    for _ in 0..100 {
        service.send(chat(1, &"x".repeat(10_000)));
    }
    let (end, complete) = rest(connection).await;
    assert!(complete && end.contains("\"code\":\"OVERLOADED\"") && !end.contains("java"), "{end}");
    assert!(service.proxy.metric("keyward_held_bytes").await <= 900_000.0, "what was withheld is given back");
    let (_, records) = service.proxy.stop().await;
    let streamed = records.iter().find(|record| record["method"] == "GET").expect("its record");
    assert_eq!((&streamed["outcome"], &streamed["refusal"]), (&"aborted".into(), &"OVERLOADED".into()));
}

#[tokio::test]
async fn a_slow_reader_of_a_scanned_stream_slows_the_service() {
    let origin_sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&origin_sent);
    const EVENTS: usize = 200_000;
    let origin = Origin::raw(move |stream| {
        let count = Arc::clone(&count);
        async move {
            let mut reader = Reader::new(stream);
            reader.head().await;
            let _ = reader.stream().write_all(head("text/event-stream").as_bytes()).await;
            let event = chunk(&format!("data: {{\"status\": \"{}\"}}\n\n", ".".repeat(300)));
            for _ in 0..EVENTS {
                if reader.stream().write_all(event.as_bytes()).await.is_err() {
                    return;
                }
                count.fetch_add(1, Ordering::SeqCst);
            }
            let _ = reader.stream().write_all(b"0\r\n\r\n").await;
        }
    })
    .await;
    let proxy = Proxy::builder(&origin).config(SCANNED).start().await;
    let mut connection = Connection::to(proxy.address).await;
    connection.write("GET /block HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(connection.head().await.0, 200);
    let mut before = usize::MAX;
    while before != origin_sent.load(Ordering::SeqCst) {
        before = origin_sent.load(Ordering::SeqCst);
        for _ in 0..50 {
            assert_eq!(proxy.get("/a//b").send().await.status, 400);
        }
    }
    assert!(before < EVENTS / 2, "the service could send {before} events that nobody read");
    let (body, complete) = within("reading", connection.0.body(crate::harness::Framing::Chunked)).await;
    assert_eq!((body.len(), complete), (EVENTS * (300 + "data: {\"status\": \"\"}\n\n".len()), true));
}

#[tokio::test]
async fn formats_that_nobody_declared_do_not_let_a_pattern_slip_through() {
    let field = |name: &'static str| move |text: &str| format!("data: {}\n\n", json!({name: text}));
    let azure =
        |text: &str| format!("data: {}\n\n", json!({"choices": [{"messages": [{"delta": {"content": text}}]}]}));
    let message = |text: &str| format!("data: {}\n\n", json!({"choices": [{"message": {"content": text}}]}));
    // Python writes this without being asked, and reads it back.
    let not_a_number = |text: &str| format!("data: {{\"token\":\"{text}\",\"logprob\":-Infinity}}\n\n");
    let padded = |text: &str| format!("data: \u{a0}{{\"content\":\"{text}\",\"n\":NaN}}\n\n");
    let (answer, v, mixed) = (field("answer"), field("v"), field("Content"));
    let shapes: [&dyn Fn(&str) -> String; 7] = [&azure, &message, &not_a_number, &padded, &answer, &v, &mixed];
    for shape in shapes {
        let service = Service::new("text/event-stream").await;
        let connection = service.open("/block").await;
        for piece in ["java", "script", ":alert(1)"] {
            service.send(shape(piece));
        }
        let (end, _) = rest(connection).await;
        assert!(!end.contains("alert") && !end.contains("script\""), "{}: {end}", shape("x"));
        let (_, records) = service.proxy.stop().await;
        assert!(records[0]["refusal"].is_string(), "{}: {}", shape("x"), records[0]);
    }
}
