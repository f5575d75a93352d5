//! The official SDKs from PyPI and npm, unmodified: a stream that was scanned is a stream to them, and one that was
//! blocked ends with its API's own reason. The text is divided into tokens, and the wire into pieces, of every size
//! that matters: within an escape, within a name, within a line's end.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{Origin, Proxy, Received, Reply, node_packages, python, report, repository};

const CONFIG: &str = "
defaults: {upstream: ai, request: {rules: []}, response: {rules: [html]}}
routes:
  - {id: openai, path: /v1/chat/completions, public: true, format: openai}
  - {id: responses, path: /v1/responses, public: true, format: openai}
  - {id: anthropic, path: /v1/messages, public: true, format: anthropic}
  - {id: openai-redacted, path: /redact/v1/chat/completions, public: true, format: openai, response: {action: redact}}
  - {id: responses-redacted, path: /redact/v1/responses, public: true, format: openai, response: {action: redact}}
  - {id: anthropic-redacted, path: /redact/v1/messages, public: true, format: anthropic, response: {action: redact}}
";

/// The sizes of the tokens, in characters, and of the pieces of the wire, in bytes.
const SIZES: [usize; 5] = [1, 2, 3, 7, 20];

/// The events of an API, around the tokens of an answer, or of the input of a tool.
fn events(api: &str, tool: bool, tokens: &[String]) -> Vec<Value> {
    let text = tokens.concat();
    let chat = |delta: Value, reason: Value| {
        json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})
    };
    let response = |status: &str, output: Value| {
        json!({"id": "r", "object": "response", "created_at": 1, "model": "m", "status": status, "output": output,
            "parallel_tool_calls": true, "tool_choice": "auto", "tools": []})
    };
    let part = |kind: &str, name: &str, value: Value| json!({"type": kind, "item_id": "i", "output_index": 0, "content_index": 0, name: value});
    let content = |text: &str| json!({"type": "output_text", "text": text, "annotations": []});
    let message = json!({"id": "x", "type": "message", "role": "assistant", "model": "m", "content": [],
        "stop_reason": null, "usage": {"input_tokens": 1, "output_tokens": 1}});
    match api {
        "chat" => {
            let mut events = vec![chat(json!({"role": "assistant", "content": ""}), Value::Null)];
            let call = |token: &String| json!({"tool_calls": [{"index": 0, "function": {"arguments": token}}]});
            let delta = |token| if tool { call(token) } else { json!({"content": token}) };
            events.extend(tokens.iter().map(|token| chat(delta(token), Value::Null)));
            events.push(chat(json!({}), if tool { "tool_calls".into() } else { "stop".into() }));
            events
        }
        "responses" => {
            let item = |content: Value| json!({"id": "i", "type": "message", "role": "assistant", "content": content});
            let mut events = vec![
                json!({"type": "response.created", "response": response("in_progress", json!([]))}),
                json!({"type": "response.output_item.added", "output_index": 0, "item": item(json!([]))}),
                part("response.content_part.added", "part", content("")),
            ];
            events.extend(tokens.iter().map(|token| part("response.output_text.delta", "delta", token.clone().into())));
            events.push(part("response.output_text.done", "text", text.clone().into()));
            let output = json!([item(json!([content(&text)]))]);
            events.push(json!({"type": "response.completed", "response": response("completed", output)}));
            for (number, event) in events.iter_mut().enumerate() {
                event["sequence_number"] = number.into();
            }
            events
        }
        _ => {
            let (block, kind, name) = match tool {
                false => (json!({"type": "text", "text": ""}), "text_delta", "text"),
                true => (
                    json!({"type": "tool_use", "id": "t", "name": "f", "input": {}}),
                    "input_json_delta",
                    "partial_json",
                ),
            };
            let mut events = vec![
                json!({"type": "message_start", "message": message}),
                json!({"type": "content_block_start", "index": 0, "content_block": block}),
            ];
            let delta =
                |token| json!({"type": "content_block_delta", "index": 0, "delta": {"type": kind, name: token}});
            events.extend(tokens.iter().map(delta));
            events.push(json!({"type": "content_block_stop", "index": 0}));
            let usage = json!({"output_tokens": 5});
            let reason = if tool { "tool_use" } else { "end_turn" };
            events.push(json!({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage}));
            events.push(json!({"type": "message_stop"}));
            events
        }
    }
}

/// The answer to a prompt `size:kind:text`: the text in tokens of that many characters. How many events it has, and
/// all of them as they are written.
fn stream(api: &str, prompt: &str) -> (usize, String) {
    let mut parts = prompt.splitn(3, ':');
    let mut part = || parts.next().expect("a size, a kind and a text");
    let (size, kind, text) = (part(), part(), part());
    let characters: Vec<char> = text.chars().collect();
    let tokens: Vec<String> = characters.chunks(size.parse().expect("a number")).map(|t| t.iter().collect()).collect();
    let events = events(api, kind == "tool", &tokens);
    let mut stream = String::new();
    for event in &events {
        let name = event["type"].as_str().map(|name| format!("event: {name}\n")).unwrap_or_default();
        stream.push_str(&format!("{name}data: {event}\n\n"));
    }
    if api == "chat" {
        stream.push_str("data: [DONE]\n\n");
    }
    (events.len(), stream)
}

/// Answers a prompt, in pieces of as many bytes as its tokens have characters.
fn answer(request: &Received) -> Reply {
    let body: Value = serde_json::from_slice(&request.body).expect("JSON");
    let prompt = body["messages"][0]["content"].as_str().or(body["input"].as_str()).expect("a prompt");
    let api = match &request.head.first_line {
        line if line.contains("chat") => "chat",
        line if line.contains("responses") => "responses",
        _ => "anthropic",
    };
    let size = prompt.split(':').next().and_then(|size| size.parse().ok()).expect("a size");
    let mut reply = b"HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for piece in stream(api, prompt).1.as_bytes().chunks(size) {
        reply.extend(format!("{:x}\r\n", piece.len()).bytes());
        reply.extend(piece);
        reply.extend(b"\r\n");
    }
    reply.extend(b"0\r\n\r\n");
    Reply(reply)
}

/// What an SDK is asked for, and what its user must see. `events` is how many of them, where that is known.
struct Case {
    path: &'static str,
    api: &'static str,
    prompt: String,
    text: String,
    end: &'static str,
    events: Option<usize>,
}

fn cases() -> Vec<Case> {
    const BLOCKED: &str = "AI response contains potentially harmful content";
    let clean = [("text", "The javascript of é😀 is < fine."), ("tool", r#"{"code":"java é😀 <script"}"#)];
    let harm = [
        ("text", "So: javascript:alert(1)", "So: ", "So: [removed]alert(1)"),
        ("tool", r#"{"u":"javascript:x"}"#, r#"{"u":""#, r#"{"u":"[removed]x"}"#),
    ];
    let apis = [
        ("chat", "text", "stop", "content_filter"),
        ("chat", "tool", "tool_calls", "content_filter"),
        ("responses", "text", "completed", "content_filter"),
        ("anthropic", "text", "end_turn", BLOCKED),
        ("anthropic", "tool", "tool_use", BLOCKED),
    ];
    let mut cases = Vec::new();
    for (api, kind, complete, blocked) in apis {
        for size in SIZES {
            let mut case = |path, text: &str, seen: &str, end, whole| {
                let prompt = format!("{size}:{kind}:{text}");
                let events = if whole { Some(stream(api, &prompt).0) } else { None };
                cases.push(Case { path, api, prompt, text: seen.into(), end, events });
            };
            for (_, text) in clean.iter().filter(|clean| clean.0 == kind) {
                case("", text, text, complete, true);
                case("/redact", text, text, complete, true);
            }
            for (_, text, before, redacted) in harm.iter().filter(|harm| harm.0 == kind) {
                // The tokens before the first one in which the pattern stands.
                case("", text, &before[..before.len() / size * size], blocked, false);
                case("/redact", text, redacted, complete, true);
            }
        }
    }
    cases
}

/// Asks an SDK for everything.
async fn see(sdks: &str, mut command: Command, base: &str) {
    let cases = cases();
    let asked: Vec<_> = cases.iter().map(|case| (case.path, case.api, &case.prompt)).collect();
    let asked = serde_json::to_vec(&asked).expect("JSON");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // The service that it talks to runs on this thread.
    let ran = tokio::task::spawn_blocking(move || {
        let mut child = command.spawn().expect("it starts");
        child.stdin.take().expect("a pipe").write_all(&asked).expect("it reads");
        child.wait_with_output()
    });
    let output = ran.await.expect("no panic").expect("it ends");
    let seen: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{base}: {output:?}"));
    assert_eq!(seen.len(), cases.len());
    for (case, seen) in cases.iter().zip(seen) {
        let name = format!("{} {} {}", case.path, case.api, case.prompt);
        assert_eq!((seen["text"].as_str(), seen["end"].as_str()), (Some(&*case.text), Some(case.end)), "{name}");
        if let Some(events) = case.events {
            assert_eq!(seen["events"], events, "{name}");
        }
    }
    let count = |which: fn(&Case) -> bool| cases.iter().filter(|case| which(case)).count();
    report(format_args!(
        "{sdks}: {} clean streams, {} redacted and {} blocked, at sizes {SIZES:?}: all as they must be\n",
        count(|case| case.prompt.ends_with(&case.text)),
        count(|case| case.events.is_some() && !case.prompt.ends_with(&case.text)),
        count(|case| case.events.is_none()),
    ));
}

async fn proxy() -> (Origin, Proxy, String) {
    let origin = Origin::answering(answer).await;
    let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
    let base = format!("http://{}", proxy.address);
    (origin, proxy, base)
}

#[tokio::test]
async fn pythons_official_sdks_read_scanned_streams_to_their_end() {
    let (_origin, _proxy, base) = proxy().await;
    let mut command = Command::new(python());
    command.arg(repository().join("tests/it/sdks.py")).arg(&base);
    see("openai and anthropic for Python", command, &base).await;
}

#[tokio::test]
async fn nodes_official_sdks_read_scanned_streams_to_their_end() {
    let (_origin, _proxy, base) = proxy().await;
    let mut command = Command::new("node");
    command.arg(repository().join("tests/it/sdks.mjs")).arg(&base).arg(node_packages());
    see("openai and anthropic for Node", command, &base).await;
}

#[tokio::test]
async fn clean_streams_are_the_same_bytes_however_they_arrive() {
    let (_origin, proxy, _) = proxy().await;
    let clean = cases().into_iter().filter(|case| case.events.is_some() && case.prompt.ends_with(&case.text));
    for case in clean {
        let (target, body) = match case.api {
            "chat" => ("/v1/chat/completions", json!({"messages": [{"role": "user", "content": case.prompt}]})),
            "responses" => ("/v1/responses", json!({"input": case.prompt})),
            _ => ("/v1/messages", json!({"messages": [{"role": "user", "content": case.prompt}]})),
        };
        let answer = proxy.post(&format!("{}{target}", case.path)).json(body.to_string()).send().await;
        assert_eq!(answer.text(), stream(case.api, &case.prompt).1, "{} {}", case.path, case.prompt);
    }
}
