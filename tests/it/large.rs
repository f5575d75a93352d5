//! Bodies that are too large to be held for a refusal: scanned while they are forwarded, their end withheld.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use crate::harness::{Connection, Framing, Origin, Process, Proxy, Reader, Reply, keyward, ready_address, within};

const CONFIG: &str = "
rules:
  - {id: codename, pattern: '(?i)project\\s+bluebird'}
defaults: {upstream: ai, request: {rules: [html]}, response: {rules: []}}
routes:
  - {id: block, path: /block, public: true}
  - {id: observe, path: /observe, public: true, request: {action: observe}}
  - {id: redact, path: /redact, public: true, request: {rules: [codename], action: redact}}
  - {id: capped, path: /capped, public: true, request: {max_chars: 2000000}}
  - {id: small, path: /small, public: true, request: {max_body: 2MiB}}
";

const MIB: usize = 1 << 20;

fn document(filler: usize, end: &str) -> String {
    format!("{{\"a\": \"{}{end}", "x ".repeat(filler / 2))
}

fn head(path: &str, length: usize, more: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{more}\r\n"
    )
}

#[tokio::test]
async fn a_clean_body_arrives_byte_for_byte_with_its_length() {
    let origin = Origin::json("{}").await;
    let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
    let body = document(3 * MIB, "\"}\n");
    for (n, path) in ["/block", "/observe", "/redact"].into_iter().enumerate() {
        for content_type in ["application/json", "text/plain"] {
            let answer = proxy.post(path).body(content_type, &body).send().await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        }
        let received = origin.received().pop().expect("a request");
        assert_eq!(origin.received().len(), 2 * n + 2);
        assert!(received.body == body.as_bytes(), "{path}");
        assert_eq!(received.head.field("content-length"), Some(body.len().to_string().as_str()));
        assert_eq!(received.head.field("transfer-encoding"), None);
    }
    let (_, records) = proxy.stop().await;
    for record in &records {
        assert_eq!(record["outcome"], "complete", "{record}");
        assert_eq!(record["request_bytes"], body.len(), "{record}");
        assert_eq!(record["input_length"], 3 * MIB, "{record}");
    }
}

#[tokio::test]
async fn a_service_never_has_all_of_a_refused_body() {
    let origin = Origin::json("{}").await;
    let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
    let harmful = document(3 * MIB, " <scr\\u0069pt>\"}");
    for (path, body, code) in [
        ("/block", harmful.clone(), "AI_INPUT_BLOCKED"),
        ("/block", document(3 * MIB, "\"} {"), "BAD_BODY"),
        ("/block", document(3 * MIB, "\""), "BAD_BODY"),
        ("/capped", document(3 * MIB, "\"}"), "AI_INPUT_TOO_LONG"),
    ] {
        let answer = proxy.post(path).json(&body).send().await;
        assert_eq!((answer.status, answer.code().as_str()), (400, code));
    }
    // The service reads what it gets, and finds that it is not all.
    within("the service's end of four requests", async {
        while origin.received().len() < 4 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let match_begins = harmful.find("<scr").expect("a match");
    for received in origin.received() {
        assert!(received.body.len() <= match_begins, "{} bytes arrived", received.body.len());
        let length: usize = received.head.field("content-length").and_then(|text| text.parse().ok()).expect("a length");
        assert!(received.body.len() < length);
    }
    // A mistake at the beginning is found before anything is sent.
    let early = format!("[\"<script>\", \"{}\"]", "x".repeat(3 * MIB));
    assert_eq!(proxy.post("/block").json(early).send().await.code(), "AI_INPUT_BLOCKED");
    assert_eq!(proxy.post("/small").json(document(3 * MIB, "\"}")).send().await.code(), "BODY_TOO_LARGE");
    // Without its length a body is held, so that it can be sent with one.
    assert_eq!(proxy.post("/block").json(&harmful).chunked().send().await.code(), "AI_INPUT_BLOCKED");
    assert_eq!(origin.connections(), 4);
    let clean = document(3 * MIB, "\"}");
    assert_eq!(proxy.post("/block").json(&clean).chunked().send().await.status, 200);
    let received = origin.received().pop().expect("a request");
    assert_eq!(received.head.field("content-length"), Some(clean.len().to_string().as_str()));
    let (_, records) = proxy.stop().await;
    assert_eq!((&records[0]["outcome"], &records[0]["refusal"]), (&"refused".into(), &"AI_INPUT_BLOCKED".into()));
    assert_eq!(records[0]["rules"][0]["count"], 1, "{}", records[0]);
    assert_eq!(records[0]["request_bytes"], harmful.len(), "{}", records[0]);
}

#[tokio::test]
async fn the_connection_lives_on_behind_a_body_that_was_read_to_its_end() {
    let origin = Origin::json("{}").await;
    let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
    let mut connection = Connection::to(proxy.address).await;
    let refused = connection.request(&proxy.post("/block").json(document(2 * MIB, "<script>\"}"))).await;
    assert_eq!(refused.code(), "AI_INPUT_BLOCKED");
    assert_eq!(refused.head.field("connection"), None);
    assert_eq!(connection.request(&proxy.post("/block").json(document(2 * MIB, "\"}"))).await.status, 200);
}

#[tokio::test]
async fn a_client_that_asks_before_it_sends_is_asked_to_go_on() {
    let origin = Origin::json("{}").await;
    let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
    let body = document(2 * MIB, "\"}");
    let mut connection = Connection::to(proxy.address).await;
    connection.write(head("/block", body.len(), "Expect: 100-continue\r\n")).await;
    assert_eq!(connection.head().await.0, 100);
    connection.write(&body).await;
    assert_eq!(connection.answer("POST").await.status, 200);
    let mut connection = Connection::to(proxy.address).await;
    connection.write(head("/block", 11 * MIB, "Expect: 100-continue\r\n")).await;
    assert_eq!(connection.head().await.0, 413, "what is too large is not asked for");
}

#[tokio::test]
async fn the_service_reads_while_the_client_sends() {
    let (seen, mut begun) = mpsc::channel::<bool>(4);
    let origin = Origin::raw(move |stream| {
        let seen = seen.clone();
        async move {
            let mut reader = Reader::new(stream);
            let Some(head) = reader.head().await else { return };
            let length: usize = head.field("content-length").and_then(|text| text.parse().ok()).expect("a length");
            let _ = seen.send(reader.exactly(MIB / 2).await.is_some()).await;
            let (_, complete) = reader.body(Framing::Length(length - MIB / 2)).await;
            let _ = seen.send(complete).await;
            let _ = reader.stream().write_all(&Reply::json("{}").0).await;
        }
    })
    .await;
    let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
    for path in ["/block", "/observe"] {
        let end = if path == "/observe" { "<script>\"}" } else { "\"}" };
        let body = document(3 * MIB, end).into_bytes();
        let mut connection = Connection::to(proxy.address).await;
        connection.write(head(path, body.len(), "")).await;
        connection.write(&body[..2 * MIB]).await;
        assert_eq!(within("what was sent first", begun.recv()).await, Some(true), "{path}");
        connection.write(&body[2 * MIB..]).await;
        assert_eq!(within("the rest", begun.recv()).await, Some(true), "{path}");
        assert_eq!(connection.answer("POST").await.status, 200);
    }
    let line = r#"keyward_rule_hits_total{action="observe",direction="request",rule="html-script"}"#;
    assert_eq!(proxy.metric(line).await, 1.0);
    // A client that leaves in the middle leaves the service without an end.
    let mut connection = Connection::to(proxy.address).await;
    connection.write(head("/block", 3 * MIB, "")).await;
    connection.write(&document(2 * MIB, "")).await;
    assert_eq!(within("what was sent first", begun.recv()).await, Some(true));
    drop(connection);
    assert_eq!(within("the end", begun.recv()).await, Some(false));
}

#[tokio::test]
async fn a_service_may_answer_before_it_has_read_all() {
    let (seen, mut complete) = mpsc::channel::<bool>(4);
    let origin = Origin::raw(move |stream| {
        let seen = seen.clone();
        async move {
            let mut reader = Reader::new(stream);
            let Some(head) = reader.head().await else { return };
            let length: usize = head.field("content-length").and_then(|text| text.parse().ok()).expect("a length");
            // A head, and of its body only a half.
            let answer = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 10\r\n\r\nhalf.";
            let _ = reader.stream().write_all(answer.as_bytes()).await;
            let (_, whole) = reader.body(Framing::Length(length)).await;
            let _ = seen.send(whole).await;
            if whole {
                let _ = reader.stream().write_all(b"half.").await;
            }
        }
    })
    .await;
    let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
    for (end, whole) in [("\"}", true), ("<script>\"}", false)] {
        let body = document(3 * MIB, end).into_bytes();
        let mut connection = Connection::to(proxy.address).await;
        connection.write(head("/block", body.len(), "")).await;
        connection.write(&body[..2 * MIB]).await;
        let (status, _) = connection.head().await;
        assert_eq!(status, 200, "the answer is there before the request is");
        connection.write(&body[2 * MIB..]).await;
        assert_eq!(within("the request's end", complete.recv()).await, Some(whole));
        let (text, ended) = connection.0.body(Framing::Length(10)).await;
        assert_eq!(ended, whole, "{:?}", String::from_utf8_lossy(&text));
    }
    let (_, records) = proxy.stop().await;
    assert_eq!(records[0]["outcome"], "complete", "{}", records[0]);
    assert_eq!(records[1]["outcome"], "aborted", "{}", records[1]);
    assert_eq!((&records[1]["refusal"], &records[1]["status"]), (&"AI_INPUT_BLOCKED".into(), &200.into()));
    assert_eq!(records[1]["rules"][0]["rule"], "html-script", "{}", records[1]);
}

/// Two hundred MiB through a process: its memory must not follow.
#[tokio::test]
async fn two_hundred_mib_take_constant_memory() {
    const PIECE: usize = 64 << 10;
    const PIECES: usize = 3200;
    let received = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&received);
    let origin = Origin::raw(move |stream| {
        let count = Arc::clone(&count);
        async move {
            let mut reader = Reader::new(stream);
            let Some(head) = reader.head().await else { return };
            let length: usize = head.field("content-length").and_then(|text| text.parse().ok()).expect("a length");
            let mut left = length;
            while left > 0 {
                let Some(piece) = reader.exactly(left.min(PIECE)).await else { return };
                left -= piece.len();
                count.fetch_add(piece.len() as u64, Ordering::SeqCst);
            }
            let _ = reader.stream().write_all(&Reply::json("{}").0).await;
        }
    })
    .await;
    let dir = tempfile::tempdir().expect("a directory");
    let config = format!(
        "listen: {{address: '127.0.0.1:0'}}\nmemory: 256MiB\nusage: off\n\
         upstreams: {{ai: {{endpoints: ['http://{}']}}}}\n\
         defaults: {{request: {{max_body: 256MiB}}, response: {{rules: []}}}}\n\
         routes: [{{id: block, path: /block, public: true}}]\n",
        origin.address
    );
    std::fs::write(dir.path().join("proxy.yaml"), config).expect("a file");
    let process = Process::start(keyward().current_dir(&dir).arg("run"));
    let address = ready_address(&process.wait_for("keyward is ready"), "proxy");
    let before = process.peak_memory();
    let piece = format!("\"{}\",", "y".repeat(PIECE));
    let length = 1 + PIECES * piece.len() + "1]".len();
    let mut connection = Connection::to(address).await;
    connection.write(head("/block", length, "")).await;
    connection.write("[").await;
    for _ in 0..PIECES {
        connection.write(&piece).await;
    }
    connection.write("1]").await;
    assert_eq!(connection.answer("POST").await.status, 200);
    assert_eq!(received.load(Ordering::SeqCst), length as u64);
    let grown = process.peak_memory() - before;
    assert!(grown < 16 << 20, "200 MiB made the process grow by {grown} bytes");
}
