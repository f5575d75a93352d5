//! How a stream ends early, in the words of the API that it speaks.
//!
//! What was recognized in the frames so far enters, and why it ends; the frames that end it leave. A reader must
//! never take a torso for the whole, so each end says that it is one, in the way that the API's own SDKs know.

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::text::sse::Framing;
use super::{
    Vendor,
    api::{Api, Sorter},
    document::{Document, Mark},
    house::House,
};

/// Why a stream ends, as far as APIs have words for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// For what it said.
    Blocked,
    /// For its length.
    TooLong,
    /// For a fault of ours or the service's.
    Failed,
}

/// What the end of a stream says.
#[derive(Clone, Copy, Debug)]
pub struct Ending<'a> {
    /// What the API's own words are chosen by.
    pub reason: EndReason,
    /// The refusal's code.
    pub code: &'a str,
    /// The refusal's message.
    pub message: &'a str,
    /// What the log knows the request by.
    pub request_id: &'a str,
}

/// The most answers of one stream that are ended one by one.
const MAX_CHOICES: usize = 128;

/// What the frames so far told.
#[derive(Debug, Default)]
pub(super) struct Seen {
    api: Option<Api>,
    /// What is copied from the first frame.
    head: Head,
    /// In the order of their indices.
    answers: Vec<Answer>,
    sequence: Option<u64>,
    /// The stream has ended by its own account.
    pub done: bool,
}

/// One of several answers.
#[derive(Debug)]
struct Answer {
    index: u64,
    ended: bool,
}

/// What an answer says of itself.
#[derive(Debug, Default)]
struct Head {
    id: Option<Box<str>>,
    model: Box<str>,
    /// Seconds since 1970.
    created: Option<serde_json::Number>,
    /// A completion that is none of a chat.
    legacy: bool,
}

impl Head {
    fn of(api: Api, payload: &[u8]) -> Self {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Members {
            id: Value,
            object: Value,
            created: Value,
            created_at: Value,
            model: Value,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Event {
            response: Members,
        }
        let Members { id, object, created, created_at, model } = match api {
            Api::OpenAiChat => serde_json::from_slice(payload).unwrap_or_default(),
            Api::OpenAiResponses => serde_json::from_slice::<Event>(payload).unwrap_or_default().response,
            _ => return Self::default(),
        };
        let created = if api == Api::OpenAiChat { created } else { created_at };
        Self {
            id: id.as_str().map(Into::into),
            model: model.as_str().unwrap_or_default().into(),
            created: created.as_number().cloned(),
            legacy: object == "text_completion",
        }
    }
}

impl Seen {
    /// Notes what a frame is.
    pub(super) fn frame(&mut self, api: Option<Api>, document: &Document, payload: &[u8]) {
        let Some(api) = api else { return };
        if self.api != Some(api) {
            self.api = Some(api);
            // Once a stream: what the end copies stands in the first frame.
            self.head = Head::of(api, payload);
        }
        if api == Api::OpenAiResponses {
            self.sequence(document.mark(0, Mark::SequenceNumber));
        }
    }

    /// Notes the number of an event.
    pub(super) fn sequence(&mut self, text: Option<&[u8]>) {
        self.sequence = number(text).or(self.sequence);
    }

    /// Whether the API of the last frame that was recognized tells where its texts end.
    pub(super) fn ends_are_told(&self) -> bool {
        self.api == Some(Api::OpenAiRealtime)
    }

    /// Notes what a string tells about the answers that go on.
    pub(super) fn string(&mut self, api: Option<Api>, document: &Document, sorter: &Sorter, text: &[u8]) {
        if api != Some(Api::OpenAiChat) || self.answers.len() >= MAX_CHOICES {
            return;
        }
        let (path, containers) = (sorter.last_path(), sorter.last_containers());
        if let (true, Some(&choice)) = (path.starts_with(b"choices[]"), containers.get(2)) {
            let index = number(document.mark(choice, Mark::Index)).unwrap_or(0);
            let at = self.answers.binary_search_by_key(&index, |answer| answer.index).unwrap_or_else(|at| {
                // Most streams have one.
                self.answers.reserve_exact(if self.answers.is_empty() { 1 } else { 0 });
                self.answers.insert(at, Answer { index, ended: false });
                at
            });
            self.answers[at].ended |= path == b"choices[].finish_reason" && !text.is_empty();
        }
    }
}

fn number(text: Option<&[u8]>) -> Option<u64> {
    std::str::from_utf8(text?).ok()?.parse().ok()
}

/// The frames that end the stream.
pub(super) fn bytes(
    framing: Framing,
    declared: Option<Vendor>,
    house: Option<&House>,
    seen: &Seen,
    ending: &Ending<'_>,
) -> Vec<u8> {
    if let Some(house) = house.filter(|house| !house.end.is_empty()) {
        let frame = |text: String| match framing {
            Framing::Lines => format!("{text}\n"),
            Framing::Events => format!("data: {text}\n\n"),
        };
        return house.end.iter().map(|template| frame(template.fill(ending))).collect::<String>().into_bytes();
    }
    if framing == Framing::Lines {
        return line(&plain(ending));
    }
    let api = seen.api.or(match declared {
        Some(Vendor::OpenAi) => Some(Api::OpenAiChat),
        Some(Vendor::Anthropic) => Some(Api::Anthropic),
        None => None,
    });
    match api {
        Some(Api::OpenAiChat) => chat(seen, ending),
        Some(Api::OpenAiResponses) => responses(seen, ending),
        Some(Api::Anthropic) => {
            let error = json!({"type": "api_error", "message": ending.message});
            event("error", &json!({"type": "error", "error": error, "request_id": ending.request_id}))
        }
        Some(Api::Gemini) => {
            let reason = match ending.reason {
                EndReason::Blocked => "SAFETY",
                EndReason::TooLong => "MAX_TOKENS",
                EndReason::Failed => "OTHER",
            };
            data(&json!({"candidates": [{"finishReason": reason, "index": 0}]}))
        }
        Some(Api::OpenAiRealtime | Api::Ollama | Api::Tgi) | None => event("error", &plain(ending)),
    }
}

/// Keyward's own shape.
fn plain(ending: &Ending<'_>) -> Value {
    json!({"error": ending.message, "code": ending.code, "request_id": ending.request_id})
}

fn openai_error(ending: &Ending<'_>) -> Value {
    json!({"message": ending.message, "type": "server_error", "param": null, "code": ending.code})
}

fn chat(seen: &Seen, ending: &Ending<'_>) -> Vec<u8> {
    let reason = match ending.reason {
        EndReason::Blocked => "content_filter",
        EndReason::TooLong => "length",
        EndReason::Failed => return data(&json!({"error": openai_error(ending)})),
    };
    let Head { id, model, created, legacy } = &seen.head;
    let choice = |index: u64| match *legacy {
        true => json!({"index": index, "text": "", "logprobs": null, "finish_reason": reason}),
        false => json!({"index": index, "delta": {}, "logprobs": null, "finish_reason": reason}),
    };
    let mut open: Vec<u64> = seen.answers.iter().filter(|answer| !answer.ended).map(|answer| answer.index).collect();
    if open.is_empty() {
        // Everything has ended, or nothing has begun: somebody has to hear of it nevertheless.
        open.push(0);
    }
    let object = if *legacy { "text_completion" } else { "chat.completion.chunk" };
    let id = id.as_deref().map_or_else(|| format!("chatcmpl-{}", ending.request_id), str::to_owned);
    let chunk = json!({
        "id": id,
        "object": object,
        "created": created.as_ref().and_then(serde_json::Number::as_u64).unwrap_or(0),
        "model": model,
        "choices": open.into_iter().map(choice).collect::<Vec<_>>(),
    });
    [data(&chunk), b"data: [DONE]\n\n".to_vec()].concat()
}

fn responses(seen: &Seen, ending: &Ending<'_>) -> Vec<u8> {
    let sequence = seen.sequence.map_or(0, |sequence| sequence.saturating_add(1));
    let reason = match ending.reason {
        EndReason::Blocked => "content_filter",
        EndReason::TooLong => "max_output_tokens",
        EndReason::Failed => {
            let error = json!({
                "type": "error",
                "code": ending.code,
                "message": ending.message,
                "param": null,
                "sequence_number": sequence,
            });
            return event("error", &error);
        }
    };
    let Head { id, model, created, .. } = &seen.head;
    let id = id.as_deref().map_or_else(|| format!("resp_{}", ending.request_id), str::to_owned);
    let response = json!({
        "id": id,
        "object": "response",
        "created_at": created.as_ref().and_then(serde_json::Number::as_f64).unwrap_or(0.0),
        "status": "incomplete",
        "error": null,
        "incomplete_details": {"reason": reason},
        "instructions": null,
        "metadata": {},
        "model": model,
        "output": [],
        "parallel_tool_calls": true,
        "tool_choice": "auto",
        "tools": [],
    });
    let incomplete = json!({"type": "response.incomplete", "sequence_number": sequence, "response": response});
    event("response.incomplete", &incomplete)
}

fn data(value: &Value) -> Vec<u8> {
    format!("data: {value}\n\n").into_bytes()
}

fn event(name: &str, value: &Value) -> Vec<u8> {
    format!("event: {name}\ndata: {value}\n\n").into_bytes()
}

fn line(value: &Value) -> Vec<u8> {
    format!("{value}\n").into_bytes()
}
