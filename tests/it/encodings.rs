//! Content codings both ways: what is coded is read as what it decodes to, and only that goes on.

use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use crate::harness::{CODINGS, Connection, Origin, Proxy, Reader, Reply, encode, encode_events, within};

const CONFIG: &str = "
defaults: {upstream: ai, request: {rules: [html]}, response: {rules: [html]}}
routes:
  - {id: block, path: /block, public: true, request: {max_body: 1MiB}, response: {max_body: 1MiB}}
  - {id: openai, path: /openai, public: true, format: openai}
  - {id: redact, path: /redact, public: true, request: {action: redact}, response: {action: redact}}
  - {id: observe, path: /observe, public: true, request: {action: observe}, response: {action: observe}}
  - {id: pass, path: /pass, public: true, request: {unscannable: pass}, response: {unscannable: pass}}
  - {id: none, path: /none, public: true, request: {rules: []}, response: {rules: []}}
  - {id: context, path: /context, scopes: [], request: {rules: []}, response: {rules: []}, context: {format: openai}}
";

const CLEAN: &str = r#"{"input":"a quiet text, a quiet text"}"#;
const HARMFUL: &str = r#"{"input":"<script>alert(1)</script>"}"#;

/// A service that answers with this body under these further head lines.
async fn answering(head: &str, body: Vec<u8>) -> Origin {
    let mut reply = format!("HTTP/1.1 200 OK\r\n{head}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
    reply.extend(body);
    Origin::answering(move |_| Reply(reply.clone())).await
}

async fn unscanned(proxy: &Proxy, direction: &str) -> f64 {
    let line = format!(r#"keyward_unscanned_bytes_total{{direction="{direction}",reason="unscannable"}}"#);
    proxy.metric(&line).await
}

#[tokio::test]
async fn a_coded_request_is_read_and_goes_on_decoded() {
    let origin = Origin::json("{}").await;
    let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
    for coding in CODINGS {
        for chunked in [false, true] {
            let request = proxy.post("/block").header("Content-Encoding", coding).header("Content-MD5", "x");
            let request = request.header("Content-Digest", "sha-256=:x:").json(encode(coding, CLEAN));
            let request = if chunked { request.chunked() } else { request };
            assert_eq!(request.send().await.status, 200, "{coding}");
            let received = origin.received().pop().expect("a request");
            assert_eq!(String::from_utf8_lossy(&received.body), CLEAN, "{coding}");
            let length = CLEAN.len().to_string();
            for (name, value) in [
                ("content-length", Some(length.as_str())),
                ("transfer-encoding", None),
                ("content-encoding", None),
                ("content-md5", None),
                ("content-digest", None),
            ] {
                assert_eq!(received.head.field(name), value, "{coding} {name}");
            }
        }
        let harmful = proxy.post("/block").header("Content-Encoding", coding).json(encode(coding, HARMFUL));
        assert_eq!(harmful.send().await.code(), "AI_INPUT_BLOCKED", "{coding}");
        let redacted = proxy.post("/redact").header("Content-Encoding", coding).json(encode(coding, HARMFUL));
        assert_eq!(redacted.send().await.status, 200);
        let received = origin.received().pop().expect("a request");
        assert_eq!(String::from_utf8_lossy(&received.body), r#"{"input":"[removed]alert(1)</script>"}"#, "{coding}");
    }
    // Two codings over two lines, with what a list may have around its members.
    let twice = encode("zstd", encode("gzip", HARMFUL));
    let request =
        proxy.post("/block").header("Content-Encoding", "X-GZIP , identity").header("Content-Encoding", ",zstd");
    assert_eq!(request.json(&twice).send().await.code(), "AI_INPUT_BLOCKED");
    let (_, records) = proxy.stop().await;
    let last = records.last().expect("a record");
    // What came, and what it says.
    assert_eq!(last["request_bytes"], twice.len());
    assert_eq!(records[0]["request_bytes"], encode("gzip", CLEAN).len());
    assert_eq!(records[0]["input_length"], "a quiet text, a quiet text".len());
}

#[tokio::test]
async fn harm_cannot_hide_between_members_behind_an_end_or_in_a_form() {
    let origin = Origin::json("{}").await;
    let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
    let (start, end) = HARMFUL.split_at(14);
    for coding in ["gzip", "zstd"] {
        let members = [encode(coding, start), encode(coding, end)].concat();
        let request = proxy.post("/block").header("Content-Encoding", coding).json(members);
        assert_eq!(request.send().await.code(), "AI_INPUT_BLOCKED", "{coding}");
    }
    let form = encode("br", "a=1&b=%3Cscript%3Ealert(1)%3C/script%3E");
    let form = proxy.post("/block").header("Content-Encoding", "br").body("application/x-www-form-urlencoded", form);
    assert_eq!(form.send().await.code(), "AI_INPUT_BLOCKED");
    for coding in CODINGS {
        let whole = encode(coding, CLEAN);
        let bodies = [[&whole[..], HARMFUL.as_bytes()].concat(), whole[..whole.len() - 1].to_vec(), CLEAN.into()];
        for body in bodies {
            let answer = proxy.post("/block").header("Content-Encoding", coding).json(&body).send().await;
            assert_eq!((answer.status, answer.code().as_str()), (415, "UNSCANNABLE_BODY"), "{coding} {body:?}");
        }
    }
    for codings in ["compress", "gzip, gzip, gzip", "gzip;q=1", "br, aes128gcm"] {
        let answer = proxy.post("/block").header("Content-Encoding", codings).json(CLEAN).send().await;
        assert_eq!((answer.status, answer.code().as_str()), (415, "UNSCANNABLE_BODY"), "{codings}");
    }
    assert!(origin.received().is_empty());
}

#[tokio::test]
async fn what_is_not_decided_goes_on_as_it_came() {
    let origin = Origin::json("{}").await;
    let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
    let coded = encode("gzip", HARMFUL);
    for path in ["/observe", "/none"] {
        let request = proxy.post(path).header("Content-Encoding", "gzip").header("Content-MD5", "x").json(&coded);
        assert_eq!(request.send().await.status, 200, "{path}");
        let received = origin.received().pop().expect("a request");
        assert!(received.body == coded, "{path}");
        assert_eq!(received.head.field("content-encoding"), Some("gzip"), "{path}");
        assert_eq!(received.head.field("content-md5"), Some("x"), "{path}");
    }
    let hit = r#"keyward_rule_hits_total{action="observe",direction="request",rule="html-script"}"#;
    assert_eq!(proxy.metric(hit).await, 1.0, "what is observed is decoded to be read");
    assert_eq!(unscanned(&proxy, "request").await, 0.0);
    let mut bytes = 0;
    for path in ["/pass", "/observe"] {
        // Readable at first, and not to its end: all of it goes on, and none of it counts as read.
        let broken = &coded[..coded.len() - 3];
        let request = proxy.post(path).header("Content-Encoding", "gzip").json(broken);
        assert_eq!(request.send().await.status, 200, "{path}");
        let received = origin.received().pop().expect("a request");
        assert!(received.body == broken, "{path}");
        assert_eq!(received.head.field("content-encoding"), Some("gzip"), "{path}");
        bytes += broken.len();
    }
    assert_eq!(unscanned(&proxy, "request").await, bytes as f64);
    // What can be read is decided about, whatever becomes of the rest.
    let harmful = proxy.post("/pass").header("Content-Encoding", "gzip").json(&coded);
    assert_eq!(harmful.send().await.code(), "AI_INPUT_BLOCKED");
}

#[tokio::test]
async fn a_body_counts_as_what_it_decodes_to() {
    let origin = Origin::json("{}").await;
    let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
    let most = format!("\"{}\"", "x".repeat((1 << 20) - 2));
    for coding in CODINGS {
        let fits = proxy.post("/block").header("Content-Encoding", coding).json(encode(coding, &most));
        assert_eq!(fits.send().await.status, 200, "{coding}");
        let large = proxy.post("/block").header("Content-Encoding", coding).json(encode(coding, format!("{most} ")));
        assert_eq!(large.send().await.code(), "BODY_TOO_LARGE", "{coding}");
    }
    proxy.until_nothing_is_held().await;
    let large =
        answering("Content-Type: application/json\r\nContent-Encoding: br\r\n", encode("br", format!("{most} "))).await;
    let proxy = Proxy::builder(&large).config(CONFIG).start().await;
    assert_eq!(proxy.get("/block").send().await.code(), "AI_RESPONSE_TOO_LONG");
}

#[tokio::test]
async fn decoders_are_paid_from_the_memory_budget() {
    const HELD: usize = 1_045_000;
    let origin = Origin::json("{}").await;
    let config = CONFIG.replace("rules: [html]}", "rules: [html], max_body: 1MiB}");
    let proxy = Proxy::builder(&origin).config(&format!("memory: 1MiB\n{config}")).start().await;
    // All but 3 KiB of the budget is held for a client that has not finished.
    let mut other = Connection::to(proxy.address).await;
    let head = format!("Content-Type: application/json\r\nContent-Length: {}", HELD + 1);
    other.write(format!("POST /block HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n{}", " ".repeat(HELD))).await;
    within("the budget's use", async {
        while proxy.metric("keyward_held_bytes").await < HELD as f64 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(proxy.post("/block").json(CLEAN).send().await.status, 200);
    for coding in CODINGS {
        let request = proxy.post("/block").header("Content-Encoding", coding).json(encode(coding, CLEAN));
        let answer = request.send().await;
        assert_eq!((answer.status, answer.code().as_str()), (503, "OVERLOADED"), "{coding}");
    }
    other.write("1").await;
    assert_eq!(other.answer("POST").await.status, 200);
    proxy.until_nothing_is_held().await;
}

#[tokio::test]
async fn a_coded_answer_is_delivered_decoded_with_a_head_that_says_so() {
    const LINES: &str = "Content-Type: application/json\r\nVary: Accept-Encoding\r\nAccept-Ranges: bytes\r\n\
                         Repr-Digest: x\r\n";
    for coding in CODINGS {
        for (tag, kept) in [("\"strong\"", None), ("W/\"weak\"", Some("W/\"weak\""))] {
            let head = format!("{LINES}ETag: {tag}\r\nContent-Encoding: {coding}\r\n");
            let origin = answering(&head, encode(coding, CLEAN)).await;
            let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
            let answer = proxy.get("/block").send().await;
            assert_eq!((answer.status, answer.text().as_str()), (200, CLEAN), "{coding}");
            for (name, value) in [
                ("content-length", Some(CLEAN.len().to_string().as_str())),
                ("etag", kept),
                ("vary", Some("Accept-Encoding")),
                ("content-encoding", None),
                ("accept-ranges", None),
                ("repr-digest", None),
            ] {
                assert_eq!(answer.head.field(name), value, "{coding} {name}");
            }
            let passed = proxy.get("/none").send().await;
            assert!(passed.body == encode(coding, CLEAN), "{coding}");
            assert_eq!((passed.head.field("etag"), passed.head.field("content-encoding")), (Some(tag), Some(coding)));
            let observed = proxy.get("/observe").send().await;
            assert!(observed.body == encode(coding, CLEAN), "{coding}");
            assert_eq!(observed.head.field("content-encoding"), Some(coding));
        }
        let head = format!("Content-Type: application/json\r\nContent-Encoding: {coding}\r\n");
        let origin = answering(&head, encode(coding, HARMFUL)).await;
        let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
        assert_eq!(proxy.get("/block").send().await.code(), "AI_RESPONSE_BLOCKED", "{coding}");
        assert_eq!(proxy.get("/redact").send().await.text(), r#"{"input":"[removed]alert(1)</script>"}"#, "{coding}");
        let broken = encode(coding, CLEAN);
        let broken = broken[..broken.len() - 1].to_vec();
        let origin = answering(&head, broken.clone()).await;
        let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
        let answer = proxy.get("/block").send().await;
        assert_eq!((answer.status, answer.code().as_str()), (502, "UNSCANNABLE_RESPONSE"), "{coding}");
        let passed = proxy.get("/pass").send().await;
        assert!(passed.body == broken, "{coding}");
        assert_eq!(passed.head.field("content-encoding"), Some(coding));
        assert_eq!(unscanned(&proxy, "response").await, broken.len() as f64, "{coding}");
    }
}

#[tokio::test]
async fn a_head_without_a_body_describes_the_decoded_one() {
    let origin = Origin::answering(|request| {
        let lines =
            "Content-Type: application/json\r\nContent-Encoding: gzip\r\nETag: \"1\"\r\nVary: Accept-Encoding\r\n";
        let unchanged = request.head.field("if-none-match").is_some();
        Reply::raw(match unchanged {
            true => format!("HTTP/1.1 304 Not Modified\r\n{lines}\r\n"),
            false => format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: 60\r\n\r\n"),
        })
    })
    .await;
    let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
    for (path, coding, tag, length) in
        [("/block", None, None, None), ("/none", Some("gzip"), Some("\"1\""), Some("60"))]
    {
        let head = proxy.request("HEAD", path).send().await.head;
        assert_eq!((head.field("content-encoding"), head.field("etag")), (coding, tag), "{path}");
        assert_eq!((head.field("content-length"), head.field("vary")), (length, Some("Accept-Encoding")), "{path}");
        let answer = proxy.get(path).header("If-None-Match", "\"1\"").send().await;
        assert_eq!(
            (answer.status, answer.head.field("content-encoding"), answer.head.field("etag")),
            (304, coding, tag)
        );
    }
}

#[tokio::test]
async fn the_context_goes_into_a_coded_prompt() {
    let origin = Origin::json("{}").await;
    let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
    let prompt = r#"{"messages":[{"role":"user","content":"hi"}]}"#;
    let post = |body: Vec<u8>| proxy.post("/context").key(&proxy.org_key).header("Content-Encoding", "br").json(body);
    assert_eq!(post(encode("br", prompt)).send().await.status, 200);
    let received = origin.only();
    let body = String::from_utf8_lossy(&received.body).into_owned();
    assert!(body.contains("org_customer_abc") && body.contains(r#""content":"hi""#), "{body}");
    assert_eq!(received.head.field("content-encoding"), None);
    assert_eq!(received.head.field("content-length"), Some(body.len().to_string().as_str()));
    assert_eq!(post(prompt.into()).send().await.code(), "UNSCANNABLE_BODY");
}

/// A service that streams what the test hands it, piece by piece; an empty piece is the end.
async fn streaming(content_type: &'static str, coding: &'static str) -> (Origin, mpsc::UnboundedSender<Vec<u8>>) {
    let (pieces, queue) = mpsc::unbounded_channel::<Vec<u8>>();
    let queue = Arc::new(tokio::sync::Mutex::new(queue));
    let origin = Origin::raw(move |stream| {
        let queue = Arc::clone(&queue);
        async move {
            let mut reader = Reader::new(stream);
            reader.head().await;
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Encoding: {coding}\r\n\
                 Transfer-Encoding: chunked\r\n\r\n"
            );
            let _ = reader.stream().write_all(head.as_bytes()).await;
            let mut queue = queue.lock().await;
            while let Some(piece) = queue.recv().await {
                let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
                chunk.extend_from_slice(&piece);
                chunk.extend(b"\r\n");
                let _ = reader.stream().write_all(&chunk).await;
                if piece.is_empty() {
                    return;
                }
            }
        }
    })
    .await;
    (origin, pieces)
}

fn token(text: &str) -> String {
    format!("data: {{\"id\":\"1\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n")
}

#[tokio::test]
async fn each_event_leaves_before_the_next_one_is_sent() {
    let events: Vec<String> = (0..40).map(|n| token(&format!("word{n} "))).collect();
    for (coding, pieces) in CODINGS.map(|coding| (coding, encode_events(coding, &events))).into_iter().chain([
        // An encoder around an encoder.
        ("gzip, br", encode_events("br", &encode_events("gzip", &events)[..events.len()])),
    ]) {
        let (origin, send) = streaming("text/event-stream", coding).await;
        let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
        let mut connection = Connection::to(proxy.address).await;
        connection.write("GET /block HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let (status, head) = connection.head().await;
        assert_eq!((status, head.field("content-encoding")), (200, None), "{coding}");
        within("the stream", async {
            for (event, piece) in events.iter().zip(&pieces) {
                send.send(piece.clone()).expect("the origin listens");
                let mut got = Vec::new();
                while got.len() < event.len() {
                    got.extend(connection.0.chunk().await.expect("an event"));
                }
                assert_eq!(String::from_utf8_lossy(&got), *event, "{coding}");
            }
        })
        .await;
        if coding == "gzip, br" {
            continue;
        }
        send.send(pieces[events.len()].clone()).expect("the origin listens");
        send.send(Vec::new()).expect("the origin listens");
        assert_eq!(connection.0.chunk().await, Some(Vec::new()), "{coding}: the end");
    }
}

#[tokio::test]
async fn a_coded_stream_ends_before_its_harm_or_its_damage() {
    let events = [token("a quiet text "), token("java"), token("script"), token(":alert(1)"), token("more")];
    for coding in CODINGS {
        let pieces = encode_events(coding, &events);
        let (origin, send) = streaming("text/event-stream", coding).await;
        let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
        pieces.into_iter().chain([Vec::new()]).for_each(|piece| send.send(piece).expect("the origin listens"));
        let answer = proxy.get("/openai").send().await;
        let text = answer.text();
        assert!(answer.complete && text.contains("a quiet text") && !text.contains("java"), "{coding}: {text}");
        assert!(text.contains("content_filter") && text.ends_with("data: [DONE]\n\n"), "{coding}: {text}");

        // Broken in its middle, and broken off: what was well has left, and the end says that it is none.
        let pieces = encode_events(coding, &events[..1]);
        for tail in [Some(&b"\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"[..]), None] {
            let (origin, send) = streaming("text/event-stream", coding).await;
            let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
            let mut connection = Connection::to(proxy.address).await;
            connection.write("GET /block HTTP/1.1\r\nHost: a\r\n\r\n").await;
            send.send(pieces[0].clone()).expect("the origin listens");
            assert_eq!(connection.head().await.0, 200);
            let first = connection.0.chunk().await.expect("an event");
            assert_eq!(String::from_utf8_lossy(&first), events[0], "{coding}");
            tail.into_iter().map(<[u8]>::to_vec).chain([Vec::new()]).for_each(|piece| {
                let _ = send.send(piece);
            });
            let (rest, _) = connection.0.body(crate::harness::Framing::Chunked).await;
            let rest = String::from_utf8_lossy(&rest).into_owned();
            assert!(rest.contains("UNSCANNABLE_RESPONSE"), "{coding}: {rest}");
            drop(connection);
            let (_, records) = proxy.stop().await;
            assert_eq!(
                (&records[0]["outcome"], &records[0]["refusal"]),
                (&"aborted".into(), &"UNSCANNABLE_RESPONSE".into())
            );
        }
        // Nothing of it is what it should be, and nothing has left: a plain refusal.
        let (origin, send) = streaming("text/plain", coding).await;
        send.send(b"not coded at all".to_vec()).expect("the origin listens");
        send.send(Vec::new()).expect("the origin listens");
        let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
        assert_eq!(proxy.get("/block").send().await.code(), "UNSCANNABLE_RESPONSE", "{coding}");
    }
}

#[tokio::test]
async fn a_stream_that_is_only_observed_keeps_its_coding() {
    let events = [token("javascript:alert(1)"), token("more")];
    for coding in CODINGS {
        let mut pieces = encode_events(coding, &events);
        let hit = r#"keyward_rule_hits_total{action="observe",direction="response",rule="html-javascript-url"}"#;
        for damage in [&b""[..], b"behind the end"] {
            pieces.push(damage.to_vec());
            let (origin, send) = streaming("text/event-stream", coding).await;
            let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
            pieces.iter().filter(|piece| !piece.is_empty()).for_each(|piece| {
                send.send(piece.clone()).expect("the origin listens");
            });
            send.send(Vec::new()).expect("the origin listens");
            let answer = proxy.get("/observe").send().await;
            assert_eq!(answer.head.field("content-encoding"), Some(coding));
            assert!(answer.complete && answer.body == pieces.concat(), "{coding}");
            assert_eq!(proxy.metric(hit).await, 1.0, "{coding}");
            assert_eq!(unscanned(&proxy, "response").await > 0.0, !damage.is_empty(), "{coding}");
        }
    }
}

#[tokio::test]
async fn a_bomb_in_a_stream_is_noticed_and_ended() {
    for coding in CODINGS {
        let line = format!("{}\n", token(&"x".repeat(1000)).trim());
        let (origin, send) = streaming("text/plain", coding).await;
        let bomb = encode(coding, format!("plain: {}", line.repeat(4000)));
        send.send(bomb).expect("the origin listens");
        send.send(Vec::new()).expect("the origin listens");
        let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
        let answer = proxy.get("/block").send().await;
        assert!(!answer.complete && answer.body.len() < 2 << 20, "{coding}: {}", answer.body.len());
        let (_, records) = proxy.stop().await;
        assert_eq!(records[0]["refusal"], "UNSCANNABLE_RESPONSE", "{coding}");
    }
}
