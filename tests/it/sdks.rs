//! The official SDKs from PyPI, unmodified: a stream that was scanned is a stream to them, and one that was blocked
//! ends with its API's own reason.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{Origin, Proxy, Received, Reply, python, repository};

const CONFIG: &str = "
defaults: {upstream: ai, request: {rules: []}, response: {rules: [html]}}
routes:
  - {id: openai, path: /v1/chat/completions, public: true, format: openai}
  - {id: responses, path: /v1/responses, public: true, format: openai}
  - {id: anthropic, path: /v1/messages, public: true, format: anthropic}
  - {id: redacted, path: /redact/v1/chat/completions, public: true, format: openai, response: {action: redact}}
";

/// The events of an API, around the tokens of an answer.
fn events(api: &str, tokens: &[String]) -> Vec<Value> {
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
            events.extend(tokens.iter().map(|token| chat(json!({"content": token}), Value::Null)));
            events.push(chat(json!({}), "stop".into()));
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
            let mut events = vec![
                json!({"type": "message_start", "message": message}),
                json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
            ];
            events.extend(tokens.iter().map(
                |token| json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": token}}),
            ));
            events.push(json!({"type": "content_block_stop", "index": 0}));
            let usage = json!({"output_tokens": 5});
            events.push(json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage}));
            events.push(json!({"type": "message_stop"}));
            events
        }
    }
}

/// Answers a prompt `N:text` with that text in tokens of N characters.
fn answer(request: &Received) -> Reply {
    let body: Value = serde_json::from_slice(&request.body).expect("JSON");
    let prompt = body["messages"][0]["content"].as_str().or(body["input"].as_str()).expect("a prompt");
    let (size, text) = prompt.split_once(':').expect("a size");
    let characters: Vec<char> = text.chars().collect();
    let tokens: Vec<String> = characters.chunks(size.parse().expect("a number")).map(|t| t.iter().collect()).collect();
    let api = match &request.head.first_line {
        line if line.contains("chat") => "chat",
        line if line.contains("responses") => "responses",
        _ => "anthropic",
    };
    let mut stream = String::new();
    for event in events(api, &tokens) {
        let name = event["type"].as_str().map(|name| format!("event: {name}\n")).unwrap_or_default();
        stream.push_str(&format!("{name}data: {event}\n\n"));
    }
    if api == "chat" {
        stream.push_str("data: [DONE]\n\n");
    }
    Reply::new(200, "text/event-stream", stream)
}

async fn sees(base: &str, api: &str, prompt: &str) -> Value {
    let mut command = Command::new(python());
    command.arg(repository().join("tests/it/sdks.py")).args([base, api, prompt]).stdin(Stdio::null());
    // The service that it talks to runs on this thread.
    let ran = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic");
    let output = ran.expect("Python runs");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

#[tokio::test]
async fn official_sdks_read_scanned_streams_to_their_end() {
    let origin = Origin::answering(answer).await;
    let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
    let base = format!("http://{}", proxy.address);
    let (clean, harm) = ("The javascript of é😀 is < fine.", "So: javascript:alert(1)");
    let message = "AI response contains potentially harmful content";
    for (api, complete, blocked) in [
        ("chat", "stop", "content_filter"),
        ("responses", "completed", "content_filter"),
        ("anthropic", "end_turn", message),
    ] {
        let seen = sees(&base, api, &format!("3:{clean}")).await;
        assert_eq!(seen, json!({"text": clean, "end": complete}), "{api}");
        for (size, left) in [(1, "So: "), (3, "So:"), (20, "")] {
            let seen = sees(&base, api, &format!("{size}:{harm}")).await;
            assert_eq!(seen, json!({"text": left, "end": blocked}), "{api}, tokens of {size}");
        }
    }
    let redacted = sees(&format!("{base}/redact"), "chat", &format!("7:{harm}")).await;
    assert_eq!(redacted, json!({"text": "So: [removed]alert(1)", "end": "stop"}));
}
