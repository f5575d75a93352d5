//! WebSockets as bytes: what no library would send, and what each side of the proxy is told.

use base64ct::{Base64, Encoding};
use serde_json::{Value, json};
use sha1::{Digest, Sha1};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::harness::{Connection, Head, Origin, Proxy, Reader, Reply, Request, within};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

const CONFIG: &str = "
limits: {twice: {requests: 2, per: 1h, by: key}}
defaults: {upstream: ai, request: {rules: []}, response: {rules: []}}
routes:
  - {id: open, path: /open, upgrade: [websocket], request: {max_body: 1KiB}}
  - {id: http, path: /http}
  - {id: scoped, path: /scoped, upgrade: [websocket], scopes: [never]}
  - {id: limited, path: /limited, upgrade: [websocket], limits: [twice]}
  - {id: house, path: /house, upgrade: [websocket], request: {rules: [html], max_body: 1KiB}, response: {rules: [html]}}
  - {id: realtime, path: /realtime, upgrade: [websocket], format: openai, request: {rules: [html]}, response: {rules: [html]}}
  - {id: redacted, path: /redacted, upgrade: [websocket], request: {rules: [html], action: redact}, response: {rules: [html], action: redact}}
  - {id: passing, path: /passing, upgrade: [websocket], request: {rules: [html], unscannable: pass}, response: {rules: [html], unscannable: pass}}
";

fn accept(key: &str) -> String {
    let hash = Sha1::new().chain_update(key).chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize();
    Base64::encode_string(&hash)
}

fn frame(first: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let bit = if mask.is_some() { 0x80 } else { 0 };
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..=125 => frame.push(bit | short as u8),
        longer => {
            frame.push(bit | 126);
            frame.extend((longer as u16).to_be_bytes());
        }
    }
    let mask = mask.inspect(|mask| frame.extend(mask)).unwrap_or_default();
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// A frame as a client sends it.
fn masked(first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(first, payload.as_ref(), Some([9, 8, 7, 6]))
}

fn bare(first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(first, payload.as_ref(), None)
}

/// One frame: its first byte, whether it was masked, and what it says.
type Frame = (u8, bool, Vec<u8>);

/// The next frame, or `None` where the connection ended without one.
async fn next(reader: &mut Reader<TcpStream>) -> Option<Frame> {
    let head = reader.exactly(2).await?;
    let length = match head[1] & 0x7F {
        126 => u16::from_be_bytes(reader.exactly(2).await?.try_into().ok()?) as usize,
        short => usize::from(short),
    };
    let is_masked = head[1] & 0x80 != 0;
    let mask = if is_masked { reader.exactly(4).await? } else { vec![0; 4] };
    let payload = reader.exactly(length).await?;
    Some((head[0], is_masked, payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect()))
}

async fn says(reader: &mut Reader<TcpStream>) -> String {
    let (_, _, payload) = next(reader).await.expect("a message");
    String::from_utf8(payload).expect("text")
}

/// The code and reason of the close frame that comes next.
async fn closes(reader: &mut Reader<TcpStream>) -> (u16, String) {
    let (first, _, payload) = next(reader).await.expect("a close frame");
    assert_eq!(first, 0x88, "{payload:?}");
    let (code, reason) = payload.split_first_chunk::<2>().expect("a code");
    (u16::from_be_bytes(*code), String::from_utf8_lossy(reason).into_owned())
}

/// A service that hands over its side of every WebSocket, with the head that opened it.
async fn service() -> (Origin, tokio::sync::mpsc::UnboundedReceiver<(Head, Reader<TcpStream>)>) {
    let (sender, opened) = tokio::sync::mpsc::unbounded_channel();
    let origin = Origin::raw(move |stream| {
        let sender = sender.clone();
        async move {
            let mut reader = Reader::new(stream);
            let head = reader.head().await.expect("a handshake");
            let accept = accept(head.field("sec-websocket-key").expect("a key"));
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\
                 Sec-WebSocket-Accept: {accept}\r\nX-Org-Code: forged\r\nX-Own: kept\r\n\r\n"
            );
            reader.stream().write_all(answer.as_bytes()).await.expect("it is read");
            let _ = sender.send((head, reader));
        }
    })
    .await;
    (origin, opened)
}

fn handshake(proxy: &Proxy, path: &str) -> Request {
    proxy
        .get(path)
        .key(&proxy.user_key)
        .header("Connection", "keep-alive, Upgrade")
        .header("Upgrade", "WebSocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", KEY)
}

struct Pair {
    client: Reader<TcpStream>,
    service: Reader<TcpStream>,
}

impl Pair {
    async fn client(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.client.stream().write_all(bytes.as_ref()).await;
    }

    async fn service(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.service.stream().write_all(bytes.as_ref()).await;
    }
}

struct Test {
    proxy: Proxy,
    opened: tokio::sync::mpsc::UnboundedReceiver<(Head, Reader<TcpStream>)>,
    _origin: Origin,
}

impl Test {
    async fn start() -> Self {
        let (origin, opened) = service().await;
        let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
        Self { proxy, opened, _origin: origin }
    }

    async fn open(&mut self, path: &str) -> Pair {
        let mut client = Connection::to(self.proxy.address).await;
        client.send(&handshake(&self.proxy, path)).await;
        let (status, head) = client.head().await;
        assert_eq!((status, head.field("sec-websocket-accept")), (101, Some(&*accept(KEY))));
        let (_, service) = within("the service's side", self.opened.recv()).await.expect("it is open");
        Pair { client: client.0, service }
    }
}

#[tokio::test]
async fn a_handshake_is_made_anew_for_the_service_and_carries_no_forgery() {
    let mut test = Test::start().await;
    let request = handshake(&test.proxy, "/open")
        .header("Connection", "x-secret")
        .header("X-Secret", "1")
        .header("X-User-Id", "forged")
        .header("X_Org_Code", "forged")
        .header("Sec-WebSocket-Protocol", "chat")
        .header("HTTP2-Settings", "AAMAAABkAAQAoAAAAAIAAAAA")
        .header("Sec-WebSocket-Accept", "forged");
    let mut client = Connection::to(test.proxy.address).await;
    // A frame that comes together with the handshake is not lost.
    client.send(&request).await;
    client.write(masked(0x81, "early")).await;
    let (status, answer) = client.head().await;
    assert_eq!(status, 101);
    assert_eq!(answer.field("upgrade"), Some("websocket"));
    assert_eq!(answer.field("connection"), Some("Upgrade"));
    assert_eq!(answer.field("sec-websocket-accept"), Some(&*accept(KEY)));
    assert_eq!((answer.field("x-own"), answer.field("x-org-code")), (Some("kept"), None));
    assert!(answer.field("x-request-id").is_some());
    let (head, mut service) = within("the service's side", test.opened.recv()).await.expect("it is open");
    assert_eq!(head.first_line, "GET /open HTTP/1.1");
    assert_eq!((head.field("upgrade"), head.field("connection")), (Some("websocket"), Some("Upgrade")));
    assert_ne!(head.field("sec-websocket-key"), Some(KEY), "our handshake, our key");
    assert_eq!(head.field("sec-websocket-version"), Some("13"));
    assert_eq!(head.field("sec-websocket-protocol"), Some("chat"));
    assert_eq!(head.field("x-user-id"), Some("kp_1234567890"));
    for gone in ["x-secret", "x_org_code", "x-org-code", "authorization", "sec-websocket-accept"] {
        assert_eq!(head.field(gone), None);
    }
    let (first, is_masked, text) = next(&mut service).await.expect("the early message");
    assert_eq!((first, is_masked, &text[..]), (0x81, true, &b"early"[..]));
}

#[tokio::test]
async fn a_handshake_passes_every_stage_or_is_refused_as_any_request() {
    let test = Test::start().await;
    let to = |path: &str| {
        test.proxy.get(path).key(&test.proxy.user_key).header("Connection", "Upgrade").header("Upgrade", "websocket")
    };
    let no_key = test.proxy.get("/open").header("Connection", "Upgrade").header("Upgrade", "websocket");
    assert_eq!(no_key.send().await.status, 401);
    assert_eq!(handshake(&test.proxy, "/scoped").send().await.status, 403);
    let old = to("/open").header("Sec-WebSocket-Version", "8").header("Sec-WebSocket-Key", KEY).send().await;
    assert_eq!((old.status, old.head.field("sec-websocket-version")), (400, Some("13")));
    let short = to("/open").header("Sec-WebSocket-Version", "13").header("Sec-WebSocket-Key", "c2hvcnQ=").send().await;
    assert_eq!((short.status, short.code().as_str()), (400, "BAD_WEBSOCKET"));
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut client = Connection::to(test.proxy.address).await;
        client.send(&handshake(&test.proxy, "/limited")).await;
        assert_eq!(client.head().await.0, 101);
        open.push(client);
    }
    assert_eq!(handshake(&test.proxy, "/limited").send().await.status, 429, "a handshake is a request");
    assert_eq!(test.proxy.metric("keyward_websockets{route=\"limited\"}").await, 2.0);
}

#[tokio::test]
async fn elsewhere_an_offer_is_an_ordinary_request_and_a_service_that_misbehaves_is_refused() {
    let origin = Origin::answering(|request| match request.head.field("x-want") {
        Some("no") => Reply::new(403, "text/plain", "not you"),
        want => {
            let key = request.head.field("sec-websocket-key").unwrap_or_default();
            let proof = if want == Some("proof") { accept("other") } else { accept(key) };
            let more = match want {
                Some("extension") => "Sec-WebSocket-Extensions: permessage-deflate\r\n",
                Some("protocol") => "Sec-WebSocket-Protocol: other\r\n",
                _ => "",
            };
            let protocol = if want == Some("h2c") { "h2c" } else { "websocket" };
            Reply::raw(format!(
                "HTTP/1.1 101 X\r\nUpgrade: {protocol}\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {proof}\r\n{more}\r\n"
            ))
        }
    })
    .await;
    let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
    for want in ["proof", "extension", "protocol", "h2c"] {
        let path = if want == "extension" { "/house" } else { "/open" };
        let request = handshake(&proxy, path).header("Sec-WebSocket-Extensions", "permessage-deflate");
        let answer = request.header("X-Want", want).send().await;
        assert_eq!((answer.status, answer.code().as_str()), (502, "UPSTREAM_BROKEN"), "{want}");
    }
    let house =
        origin.received().into_iter().find(|request| request.head.first_line.contains("house")).expect("it came");
    assert_eq!(house.head.field("sec-websocket-extensions"), None, "nothing is compressed where rules apply");
    let refused = handshake(&proxy, "/house").header("X-Want", "no").send().await;
    assert_eq!((refused.status, refused.text().as_str()), (403, "not you"));
    let unasked = handshake(&proxy, "/http").send().await;
    assert_eq!((unasked.status, unasked.code().as_str()), (502, "UPSTREAM_BROKEN"));
    let last = origin.received().pop().expect("it came");
    assert_eq!((last.head.field("upgrade"), last.head.field("connection")), (None, None));
}

#[tokio::test]
async fn frames_pass_as_they_come_and_a_broken_protocol_is_told() {
    let mut test = Test::start().await;
    let mut pair = test.open("/open").await;
    pair.client([masked(0x01, "one "), masked(0x89, "ping"), masked(0x80, "two")].concat()).await;
    for expected in [(0x01, true, b"one ".to_vec()), (0x89, true, b"ping".to_vec()), (0x80, true, b"two".to_vec())] {
        assert_eq!(next(&mut pair.service).await, Some(expected));
    }
    pair.service([bare(0x8A, "ping"), bare(0x88, b"\x0f\xa1bye")].concat()).await;
    assert_eq!(next(&mut pair.client).await, Some((0x8A, false, b"ping".to_vec())));
    assert_eq!(closes(&mut pair.client).await, (4001, "bye".to_owned()));
    pair.client(masked(0x88, b"\x0f\xa1")).await;
    assert_eq!(closes(&mut pair.service).await, (4001, String::new()));
    assert!(pair.client.at_end().await && pair.service.at_end().await);

    for (what, bytes, code, service) in [
        ("an unmasked frame", bare(0x81, "x"), 1002, Some(1001)),
        ("a reserved bit", masked(0xC1, "x"), 1002, Some(1001)),
        ("a reserved opcode", masked(0x83, "x"), 1002, Some(1001)),
        ("a long ping", masked(0x89, [0; 126]), 1002, Some(1001)),
        ("no text", masked(0x81, [0xFF]), 1007, None),
        ("a long message", masked(0x82, [0; 1025]), 1009, Some(1001)),
    ] {
        let mut pair = test.open("/open").await;
        pair.client(bytes).await;
        assert_eq!(closes(&mut pair.client).await.0, code, "{what}");
        assert!(pair.client.at_end().await, "{what}");
        match service {
            Some(code) => assert_eq!(closes(&mut pair.service).await.0, code, "{what}"),
            // Its frame had begun, and cannot be interrupted by another.
            None => assert_eq!(next(&mut pair.service).await, None, "{what}"),
        }
    }
    let mut pair = test.open("/open").await;
    pair.service(frame(0x81, b"x", Some([1; 4]))).await;
    assert_eq!(closes(&mut pair.client).await.0, 1014);
    assert_eq!(closes(&mut pair.service).await.0, 1002);
    let (_, records) = test.proxy.stop().await;
    let codes: Vec<&str> = records.iter().filter_map(|record| record["refusal"].as_str()).collect();
    assert_eq!(codes.iter().filter(|code| **code == "BAD_WEBSOCKET").count(), 5, "{codes:?}");
    assert!(codes.contains(&"BODY_TOO_LARGE") && codes.contains(&"UPSTREAM_BROKEN"), "{codes:?}");
}

#[tokio::test]
async fn a_side_that_is_gone_takes_the_other_along_without_a_word() {
    let mut test = Test::start().await;
    let mut pair = test.open("/open").await;
    pair.client([masked(0x81, "last"), masked(0x01, "half")].concat()).await;
    drop(pair.client);
    assert_eq!(says(&mut pair.service).await, "last");
    assert_eq!(says(&mut pair.service).await, "half");
    assert_eq!(next(&mut pair.service).await, None, "no close frame");
    let mut pair = test.open("/house").await;
    // "java" may become something that nobody may read, and nobody will.
    pair.service([bare(0x81, "last"), bare(0x81, "java")].concat()).await;
    assert_eq!(says(&mut pair.client).await, "last");
    drop(pair.service);
    assert_eq!(next(&mut pair.client).await, None, "no close frame");
    let (_, records) = test.proxy.stop().await;
    let outcomes: Vec<&Value> = records.iter().map(|record| &record["outcome"]).collect();
    assert_eq!(outcomes, ["client_closed", "upstream_aborted"]);
    assert_eq!((&records[0]["request_messages"], &records[0]["request_bytes"]), (&json!(1), &json!(8)));
}

#[tokio::test]
async fn what_a_client_must_not_say_never_reaches_the_service() {
    let mut test = Test::start().await;
    let mut pair = test.open("/house").await;
    // In fragments, with a ping between them that does not wait.
    pair.client([masked(0x01, r#"{"q":"java"#), masked(0x89, "")].concat()).await;
    assert_eq!(next(&mut pair.service).await, Some((0x89, true, Vec::new())));
    pair.client(masked(0x80, r#"script"}"#)).await;
    assert_eq!(next(&mut pair.service).await, Some((0x81, true, br#"{"q":"javascript"}"#.to_vec())));
    pair.client(masked(0x81, r#"{"q":"\u006aavascript:"}"#)).await;
    let told: Value = serde_json::from_str(&says(&mut pair.client).await).expect("JSON");
    assert_eq!(
        (&told["code"], &told["error"]),
        (&json!("AI_INPUT_BLOCKED"), &json!("Input contains potentially harmful content"))
    );
    assert!(told["request_id"].is_string());
    assert_eq!(closes(&mut pair.client).await, (1008, "AI_INPUT_BLOCKED".to_owned()));
    assert_eq!(closes(&mut pair.service).await.0, 1001);

    let mut pair = test.open("/realtime").await;
    let item =
        json!({"type": "conversation.item.create", "item": {"content": [{"type": "input_text", "text": "<script>"}]}});
    pair.client(masked(0x81, item.to_string())).await;
    let told: Value = serde_json::from_str(&says(&mut pair.client).await).expect("JSON");
    assert_eq!((&told["type"], &told["error"]["code"]), (&json!("error"), &json!("AI_INPUT_BLOCKED")));
    assert_eq!(told["error"]["type"], "invalid_request_error");
    assert_eq!(closes(&mut pair.client).await.0, 1008);

    for (path, opcode) in [("/house", 0x89), ("/redacted", 0x8A)] {
        let mut pair = test.open(path).await;
        pair.client([masked(opcode, "mark 7"), masked(opcode, "javascript:7")].concat()).await;
        assert_eq!(next(&mut pair.service).await, Some((opcode, true, b"mark 7".to_vec())), "{path}");
        assert!(says(&mut pair.client).await.contains("AI_INPUT_BLOCKED"), "{path}");
        assert_eq!(closes(&mut pair.client).await, (1008, "AI_INPUT_BLOCKED".to_owned()), "{path}");
        assert_eq!(closes(&mut pair.service).await.0, 1001, "what the ping said is not passed on");
    }

    let mut pair = test.open("/house").await;
    pair.client(masked(0x82, [1])).await;
    assert!(says(&mut pair.client).await.contains("UNSCANNABLE_BODY"));
    assert_eq!(closes(&mut pair.client).await.0, 1003);
    assert_eq!(closes(&mut pair.service).await.0, 1001);
    let mut pair = test.open("/passing").await;
    pair.client(masked(0x82, [1, 2, 3])).await;
    assert_eq!(next(&mut pair.service).await, Some((0x82, true, vec![1, 2, 3])));
    pair.client(masked(0x88, [])).await;
    assert_eq!(next(&mut pair.service).await, Some((0x88, true, Vec::new())));
    pair.service(bare(0x88, [])).await;
    assert_eq!(next(&mut pair.client).await, Some((0x88, false, Vec::new())));
    assert!(pair.client.at_end().await);
    let line = r#"keyward_unscanned_bytes_total{direction="request",reason="unscannable"}"#;
    assert_eq!(test.proxy.metric(line).await, 3.0);
}

#[tokio::test]
async fn an_answer_is_one_text_however_it_is_cut_into_messages() {
    let mut test = Test::start().await;
    let delta = |text: &str| json!({"type": "response.output_text.delta", "item_id": "i", "delta": text}).to_string();
    let done = json!({"type": "response.output_text.done", "item_id": "i", "text": ""}).to_string();
    let mut pair = test.open("/realtime").await;
    for text in ["I like java", " beans", "java"] {
        pair.service(bare(0x81, delta(text))).await;
    }
    pair.service(bare(0x81, &done)).await;
    for expected in [delta("I like java"), delta(" beans"), delta("java"), done.clone()] {
        assert_eq!(says(&mut pair.client).await, expected);
    }
    pair.service([bare(0x81, delta("So ")), bare(0x81, delta("java")), bare(0x81, delta("script:"))].concat()).await;
    assert_eq!(says(&mut pair.client).await, delta("So "));
    let told: Value = serde_json::from_str(&says(&mut pair.client).await).expect("JSON");
    assert_eq!((&told["type"], &told["error"]["code"]), (&json!("error"), &json!("AI_RESPONSE_BLOCKED")));
    assert_eq!(closes(&mut pair.client).await, (1008, "AI_RESPONSE_BLOCKED".to_owned()));
    assert_eq!(closes(&mut pair.service).await.0, 1001);

    let mut pair = test.open("/redacted").await;
    pair.service([bare(0x81, "So java"), bare(0x81, "script:x")].concat()).await;
    assert_eq!([says(&mut pair.client).await, says(&mut pair.client).await], ["So [removed]", "x"]);
    pair.client(masked(0x81, r#"{"q":"a javascript:b"}"#)).await;
    assert_eq!(says(&mut pair.service).await, r#"{"q":"a [removed]b"}"#);

    let mut pair = test.open("/house").await;
    pair.service(bare(0x89, "<script>")).await;
    assert!(says(&mut pair.client).await.contains("AI_RESPONSE_BLOCKED"));
    assert_eq!(closes(&mut pair.client).await.0, 1008);

    let mut pair = test.open("/house").await;
    pair.service(bare(0x82, [1])).await;
    assert!(says(&mut pair.client).await.contains("UNSCANNABLE_RESPONSE"));
    assert_eq!(closes(&mut pair.client).await.0, 1008);
    assert_eq!(closes(&mut pair.service).await.0, 1003);
}

#[tokio::test]
async fn a_silence_is_ended_and_both_sides_are_told() {
    let (origin, mut opened) = service().await;
    let proxy = Proxy::builder(&origin).config(CONFIG).base("idle: 10s", "idle: 300ms").start().await;
    let mut client = Connection::to(proxy.address).await;
    client.send(&handshake(&proxy, "/open")).await;
    assert_eq!(client.head().await.0, 101);
    let (_, mut service) = within("the service's side", opened.recv()).await.expect("it is open");
    assert_eq!(closes(&mut client.0).await, (1001, "idle".to_owned()));
    assert_eq!(closes(&mut service).await, (1001, "idle".to_owned()));
    drop((client, service));
    let (_, records) = proxy.stop().await;
    assert_eq!((records.len(), &records[0]["refusal"]), (1, &json!("WEBSOCKET_IDLE")));
}

#[tokio::test]
async fn a_stop_says_that_it_goes_away_when_the_grace_time_is_over() {
    let (origin, mut opened) = service().await;
    let proxy = Proxy::builder(&origin).config(CONFIG).base("usage:", "shutdown: {grace: 100ms}\nusage:").start().await;
    let mut client = Connection::to(proxy.address).await;
    client.send(&handshake(&proxy, "/open")).await;
    assert_eq!(client.head().await.0, 101);
    let (_, mut service) = within("the service's side", opened.recv()).await.expect("it is open");
    let stop = tokio::spawn(proxy.stop());
    assert_eq!(closes(&mut client.0).await, (1001, "going away".to_owned()));
    assert_eq!(closes(&mut service).await, (1001, "going away".to_owned()));
    drop((client, service));
    let (_, records) = stop.await.expect("the stop's task");
    assert_eq!(
        (records.len(), &records[0]["refusal"], &records[0]["outcome"]),
        (1, &json!("DRAINING"), &json!("aborted"))
    );
}

/// gRPC cannot be read, so the policy for what cannot be read decides.
#[tokio::test]
async fn grpc_where_rules_apply_follows_the_policy() {
    let config = "
defaults: {upstream: ai, request: {rules: [html]}, response: {rules: []}}
routes:
  - {id: blocked, path: /blocked}
  - {id: passed, path: /passed, request: {unscannable: pass}}
";
    let origin = Origin::json("{}").await;
    let proxy = Proxy::builder(&origin).config(config).start().await;
    for kind in ["application/grpc", "application/grpc+proto", "application/grpc-web", "application/grpc-web-text"] {
        let send =
            async |path: &str| proxy.post(path).key(&proxy.user_key).body(kind, b"\0\0\0\0\x02\x0a\0").send().await;
        let answer = send("/blocked").await;
        assert_eq!((answer.status, answer.code().as_str()), (415, "UNSCANNABLE_BODY"), "{kind}");
        assert_eq!(send("/passed").await.status, 200, "{kind}");
    }
    assert_eq!(origin.received().len(), 4);
    let grpc = Origin::answering(|_| Reply::new(200, "application/grpc+proto", b"\0\0\0\0\x02\x0a\0")).await;
    let config = "
defaults: {upstream: ai, request: {rules: []}, response: {rules: [html]}}
routes:
  - {id: blocked, path: /blocked}
  - {id: passed, path: /passed, response: {unscannable: pass}}
";
    let answering = Proxy::builder(&grpc).config(config).start().await;
    let blocked = answering.get("/blocked").key(&answering.user_key).send().await;
    assert_eq!((blocked.status, blocked.code().as_str()), (502, "UNSCANNABLE_RESPONSE"));
    assert_eq!(answering.get("/passed").key(&answering.user_key).send().await.status, 200);
    let line = r#"keyward_unscanned_bytes_total{direction="response",reason="unscannable"}"#;
    assert_eq!(answering.metric(line).await, 7.0);
    let line = r#"keyward_unscanned_bytes_total{direction="request",reason="unscannable"}"#;
    assert_eq!(proxy.metric(line).await, 28.0);
}
