//! `POST /v1/chat/completions`, in the shape that OpenAI's SDKs expect.
//!
//! Enters: a chat request. Leaves: one completion, or the events of a streamed one: the role, the content token by
//! token, the reason of the end, the usage if it was asked for, and `[DONE]`.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response};
use serde_json::{Value, json};

use super::model::{self, Identity};
use super::service::{Content, Fault, object, ok};

pub(super) const PATH: &str = "/v1/chat/completions";

/// The model's name where the request gives none.
const MODEL: &str = "keyward-sample";

pub(super) fn complete(body: &[u8], identity: &Identity, now: SystemTime) -> Result<Response<Content>, Fault> {
    let request = Value::Object(object(body)?);
    let messages = request["messages"].as_array().ok_or(Fault::Request("messages must be a list"))?;
    let prompts: Vec<String> = messages.iter().map(|message| content(&message["content"])).collect();
    let prompt = messages.iter().zip(&prompts).rfind(|(message, _)| message["role"] == "user");
    let (_, prompt) = prompt.ok_or(Fault::Request("messages must have one with the role user"))?;

    let reply = model::reply(prompt, identity);
    let mut tokens = model::tokens(&reply);
    let most = ["max_completion_tokens", "max_tokens"].into_iter().find_map(|name| request[name].as_u64());
    let finish_reason = match most.and_then(|most| usize::try_from(most).ok()) {
        Some(most) if most < tokens.len() => {
            tokens.truncate(most);
            "length"
        }
        _ => "stop",
    };
    let prompt_tokens: usize = prompts.iter().map(|prompt| model::tokens(prompt).len()).sum();
    let completion = Completion {
        id: format!("chatcmpl-{:08x}", model::number(&reply)),
        created: now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        model: request["model"].as_str().unwrap_or(MODEL),
        usage: json!({
            "prompt_tokens": prompt_tokens,
            "completion_tokens": tokens.len(),
            "total_tokens": prompt_tokens + tokens.len(),
        }),
        tokens,
        finish_reason,
    };
    Ok(if request["stream"] == true {
        completion.stream(request["stream_options"]["include_usage"] == true)
    } else {
        completion.whole()
    })
}

/// An error in OpenAI's shape; all of ours are the client's.
pub(super) fn error(message: &str) -> Value {
    json!({"error": {"message": message, "type": "invalid_request_error", "param": null, "code": null}})
}

/// A message's text: a string, or the text parts of a list.
fn content(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => String::new(),
    }
}

struct Completion<'a> {
    id: String,
    created: u64,
    model: &'a str,
    tokens: Vec<&'a str>,
    finish_reason: &'static str,
    usage: Value,
}

impl Completion<'_> {
    fn whole(&self) -> Response<Content> {
        ok(&json!({
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "choices": [{
                "index": 0,
                "message": {"role": "assistant", "content": self.tokens.concat(), "refusal": null},
                "logprobs": null,
                "finish_reason": self.finish_reason,
            }],
            "usage": self.usage,
        }))
    }

    fn stream(&self, include_usage: bool) -> Response<Content> {
        let chunk = |choices: Value, usage: &Value| {
            let mut chunk = json!({
                "id": self.id,
                "object": "chat.completion.chunk",
                "created": self.created,
                "model": self.model,
                "choices": choices,
            });
            // Where usage is asked for, every chunk has the member and only the last one has the numbers.
            if include_usage {
                chunk["usage"] = usage.clone();
            }
            event(&chunk.to_string())
        };
        let choice = |delta: Value, finish_reason: Option<&str>| {
            let choice = json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason});
            chunk(json!([choice]), &Value::Null)
        };

        let mut events = vec![choice(json!({"role": "assistant", "content": ""}), None)];
        events.extend(self.tokens.iter().map(|token| choice(json!({"content": token}), None)));
        events.push(choice(json!({}), Some(self.finish_reason)));
        if include_usage {
            events.push(chunk(json!([]), &self.usage));
        }
        events.push(event("[DONE]"));

        let mut response = Response::new(Content::Events(events));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        response
    }
}

fn event(data: &str) -> Bytes {
    Bytes::from(format!("data: {data}\n\n"))
}
