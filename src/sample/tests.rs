//! Each endpoint through the pure core, and the service on a real socket.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderName, Method, Request, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::{Content, UNSAFE_OUTPUT, UNSAFE_TRIGGER, answer, model, serve};
use crate::time::Clock;

const ORG: (&str, &str) = ("x-org-code", "org_acme");
const USER: (&str, &str) = ("x-user-id", "kp_1");

/// 2026-01-31T12:00:00Z.
fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_769_860_800)
}

fn request(method: Method, path: &str, headers: &[(&'static str, &str)], body: &[u8]) -> Request<Bytes> {
    let mut request = Request::new(Bytes::copy_from_slice(body));
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().unwrap();
    for (name, value) in headers {
        request.headers_mut().append(HeaderName::from_static(name), value.parse().unwrap());
    }
    request
}

fn whole(request: &Request<Bytes>) -> (StatusCode, Value) {
    let response = answer(request, now());
    let status = response.status();
    assert_eq!(response.headers()["content-type"], "application/json");
    let Content::Whole(body) = response.into_body() else { panic!("{} answered with a stream", request.uri()) };
    (status, serde_json::from_slice(&body).unwrap())
}

fn get(path: &str, headers: &[(&'static str, &str)]) -> Value {
    let (status, body) = whole(&request(Method::GET, path, headers, b""));
    assert_eq!(status, StatusCode::OK, "{body}");
    body
}

fn post(path: &str, headers: &[(&'static str, &str)], body: &Value) -> Value {
    let (status, body) = whole(&request(Method::POST, path, headers, body.to_string().as_bytes()));
    assert_eq!(status, StatusCode::OK, "{body}");
    body
}

fn events(body: &Value) -> Vec<String> {
    let response = answer(&request(Method::POST, "/v1/chat/completions", &[], body.to_string().as_bytes()), now());
    assert_eq!(response.headers()["content-type"], "text/event-stream; charset=utf-8");
    let Content::Events(events) = response.into_body() else { panic!("not a stream") };
    let data = |event: &Bytes| {
        let event = std::str::from_utf8(event).unwrap();
        event.strip_prefix("data: ").and_then(|event| event.strip_suffix("\n\n")).unwrap().to_owned()
    };
    events.iter().map(data).collect()
}

#[test]
fn support() {
    let body = post("/ai/support", &[ORG], &json!({"message": "Where is my order?"}));
    assert_eq!(
        body,
        json!({
            "response": "I looked at the data of organization org_acme and all is well. You asked: Where is my order?",
            "organization": "org_acme",
            "user_id": null,
            "data_sources": ["support_history", "profile"],
        })
    );
}

#[test]
fn analytics() {
    let body = get("/ai/analytics", &[USER]);
    let records = body["data_summary"]["total_records"].as_u64().unwrap();
    assert_eq!(
        body,
        json!({
            "insights": [
                format!("{records} records of user kp_1 were analyzed."),
                "Most questions are asked on Mondays.",
            ],
            "organization": null,
            "user_id": "kp_1",
            "data_summary": {
                "total_records": records,
                "date_range": {"from": "2026-01-01T12:00:00.000Z", "to": "2026-01-31T12:00:00.000Z"},
            },
        })
    );
    assert_ne!(get("/ai/analytics", &[ORG])["data_summary"]["total_records"], records);
    // Thirty days before the epoch cannot be written, and must not end the service.
    answer(&request(Method::GET, "/ai/analytics", &[], b""), UNIX_EPOCH);
}

#[test]
fn workflow() {
    for workflow in [json!("monthly report"), json!({"steps": ["collect", "send"]})] {
        let body = post("/ai/workflow", &[ORG], &json!({"workflow": workflow}));
        assert_eq!(body["workflow_id"], body["result"]["id"]);
        assert_eq!(body["result"]["status"], "completed");
        assert_eq!(body["execution_time"], "2026-01-31T12:00:00.000Z");
        assert_eq!((&body["organization"], &body["user_id"]), (&json!("org_acme"), &Value::Null));
    }
}

#[test]
fn chat() {
    let body = post("/ai/chat", &[ORG, USER], &json!({"message": "Hello"}));
    assert_eq!(
        body,
        json!({
            "response": "I looked at the data of organization org_acme and all is well. You asked: Hello",
            "organization": "org_acme",
            "user_id": "kp_1",
        })
    );
}

#[test]
fn history() {
    let body = get("/ai/chats/42", &[USER]);
    assert_eq!((&body["id"], &body["user_id"]), (&json!("42"), &json!("kp_1")));
    assert_eq!(body["messages"].as_array().unwrap().len(), 2);
}

#[test]
fn process_repeats_the_whole_input() {
    let input = "é".repeat(20_000);
    let body = post("/ai/process", &[], &json!({"input": input}));
    assert_eq!(body, json!({"result": format!("Processed: {input}"), "organization": null, "user_id": null}));
}

#[test]
fn health() {
    assert_eq!(get("/healthz", &[]), json!({"status": "ok"}));
}

#[test]
fn completion() {
    let body = post(
        "/v1/chat/completions",
        &[ORG],
        &json!({"model": "m", "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]},
        ]}),
    );
    let text = "I looked at the data of organization org_acme and all is well. You asked: Hello";
    assert_eq!((&body["object"], &body["model"]), (&json!("chat.completion"), &json!("m")));
    assert_eq!(body["created"], 1_769_860_800);
    assert_eq!(body["choices"][0]["message"], json!({"role": "assistant", "content": text, "refusal": null}));
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
    let completion_tokens = model::tokens(text).len();
    assert_eq!(
        body["usage"],
        json!({
            "prompt_tokens": 3,
            "completion_tokens": completion_tokens,
            "total_tokens": completion_tokens + 3,
        })
    );
}

#[test]
fn completion_stops_at_max_tokens() {
    let body = json!({"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2});
    let body = post("/v1/chat/completions", &[], &body);
    assert_eq!(body["choices"][0]["message"]["content"], "I looked");
    assert_eq!(
        (&body["choices"][0]["finish_reason"], &body["usage"]["completion_tokens"]),
        (&json!("length"), &json!(2))
    );
}

#[test]
fn streamed_completion_is_the_whole_one_in_pieces() {
    let mut request = json!({"messages": [{"role": "user", "content": format!("please {UNSAFE_TRIGGER}")}]});
    let whole = post("/v1/chat/completions", &[], &request);
    request["stream"] = json!(true);
    request["stream_options"] = json!({"include_usage": true});

    let mut events = events(&request);
    assert_eq!(events.pop().unwrap(), "[DONE]");
    let chunks: Vec<Value> = events.iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    let [first, contents @ .., end, usage] = chunks.as_slice() else { panic!("{chunks:?}") };
    assert_eq!(first["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    let content = |chunk: &Value| chunk["choices"][0]["delta"]["content"].as_str().unwrap().to_owned();
    let text: String = contents.iter().map(content).collect();
    assert_eq!(whole["choices"][0]["message"]["content"], text);
    assert_eq!((&end["choices"][0]["delta"], &end["choices"][0]["finish_reason"]), (&json!({}), &json!("stop")));
    assert_eq!((&usage["choices"], &usage["usage"]), (&json!([]), &whole["usage"]));
    assert!(chunks.iter().all(|chunk| chunk["id"] == whole["id"] && chunk["object"] == "chat.completion.chunk"));

    // The harmful output is there, and in no single event: a guard that looks at events one by one misses it.
    assert!(text.contains(UNSAFE_OUTPUT));
    assert!(!contents.iter().any(|chunk| content(chunk).contains(UNSAFE_OUTPUT)));
}

#[test]
fn stream_has_usage_only_if_asked() {
    let events = events(&json!({"messages": [{"role": "user", "content": "Hello"}], "stream": true}));
    assert!(!events.iter().any(|event| event.contains("usage")));
}

#[test]
fn trigger_makes_every_model_misbehave() {
    let text = format!("do {UNSAFE_TRIGGER} now");
    for (path, body) in [
        ("/ai/support", json!({"message": text})),
        ("/ai/workflow", json!({"workflow": text})),
        ("/ai/chat", json!({"message": text})),
        ("/ai/process", json!({"input": text})),
        ("/v1/chat/completions", json!({"messages": [{"role": "user", "content": text}]})),
    ] {
        assert!(post(path, &[], &body).to_string().contains(UNSAFE_OUTPUT), "{path}");
    }
}

#[test]
fn tokens_join_to_their_text() {
    for text in ["", " ", "a", "a b", "  two  spaces ", "averylongwordwithoutspaces", "ééééééééé 漢字"] {
        assert_eq!(model::tokens(text).concat(), text);
        assert!(model::tokens(text).iter().all(|token| !token.is_empty() && token.chars().count() <= 8));
    }
}

#[test]
fn bad_requests_are_refused_in_json() {
    let deep = "[".repeat(100_000);
    for (method, path, body, status, message) in [
        (Method::GET, "/", "", 404, "Not found"),
        (Method::GET, "/ai/chats/", "", 404, "Not found"),
        (Method::GET, "/ai/chats/1/2", "", 404, "Not found"),
        (Method::GET, "/ai/chat/", "", 404, "Not found"),
        (Method::GET, "/ai/chat", "", 405, "Method not allowed"),
        (Method::POST, "/ai/analytics", "{}", 405, "Method not allowed"),
        (Method::POST, "/ai/chat", "", 400, "The body must be a JSON object"),
        (Method::POST, "/ai/chat", "{", 400, "The body must be a JSON object"),
        (Method::POST, "/ai/chat", "[]", 400, "The body must be a JSON object"),
        (Method::POST, "/ai/chat", &deep, 400, "The body must be a JSON object"),
        (Method::POST, "/ai/chat", "{}", 400, "message must be a string"),
        (Method::POST, "/ai/process", r#"{"input": 1}"#, 400, "input must be a string"),
        (Method::POST, "/ai/workflow", r#"{"workflow": null}"#, 400, "workflow is missing"),
    ] {
        let answered = whole(&request(method, path, &[], body.as_bytes()));
        assert_eq!(answered, (StatusCode::from_u16(status).unwrap(), json!({"error": message})), "{path}");
    }
    let (status, body) = whole(&request(Method::POST, "/v1/chat/completions", &[], br#"{"messages": []}"#));
    assert_eq!((status, &body["error"]["type"]), (StatusCode::BAD_REQUEST, &json!("invalid_request_error")));
    let response = answer(&request(Method::GET, "/ai/chat", &[], b""), now());
    assert_eq!(response.headers()["allow"], "POST");
}

#[tokio::test]
async fn serves_streams_and_stops_on_a_socket() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let service = tokio::spawn(serve(listener, Clock::manual(), async { _ = stopped.await }));

    // A connection that says nothing, and one that says nonsense, hold up nobody.
    let mut silent = TcpStream::connect(address).await.unwrap();
    assert!(exchange(address, "nonsense\r\n\r\n").await.starts_with("HTTP/1.1 400 "));

    let chat = "POST /ai/chat HTTP/1.1\r\nhost: a\r\nx-org-code: org_acme\r\nconnection: close\r\n\
                content-length: 20\r\n\r\n{\"message\": \"Hello\"}";
    let response = exchange(address, chat).await;
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n") && response.contains(r#""organization":"org_acme""#));

    let too_large = "POST /ai/chat HTTP/1.1\r\nhost: a\r\ncontent-length: 1048577\r\n\r\n";
    assert!(exchange(address, too_large).await.starts_with("HTTP/1.1 413 "));

    // The first event of a stream arrives while the later ones are still to come; a stopping service finishes it.
    let mut streaming = TcpStream::connect(address).await.unwrap();
    let body = r#"{"stream": true, "max_tokens": 4, "messages": [{"role": "user", "content": "Hello"}]}"#;
    let head = format!("POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len());
    streaming.write_all((head + body).as_bytes()).await.unwrap();
    let mut received = Vec::new();
    while !received.windows(9).any(|window| window == b"assistant") {
        assert_ne!(streaming.read_buf(&mut received).await.unwrap(), 0);
    }
    assert!(!received.windows(6).any(|window| window == b"[DONE]"));
    stop.send(()).unwrap();
    streaming.read_to_end(&mut received).await.unwrap();
    let received = String::from_utf8(received).unwrap();
    assert!(received.contains("transfer-encoding: chunked") && received.ends_with("data: [DONE]\n\n\r\n0\r\n\r\n"));

    assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
    service.await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

/// Sends the text and reads until the service closes the connection.
async fn exchange(address: std::net::SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    response
}
