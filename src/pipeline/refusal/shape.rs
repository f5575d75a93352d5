//! The body of a refusal, in the shape that a route's clients read.

use http::StatusCode;
use serde::Serialize;

use super::Row;
use crate::policy::ErrorFormat;

/// The body, with its members in the order in which people read them.
pub(super) fn body(row: &Row, format: ErrorFormat, request_id: &str) -> Vec<u8> {
    let Row { status, code, message, .. } = row;
    let written = match format {
        ErrorFormat::Keyward => serde_json::to_vec(&Plain { error: message, code, request_id }),
        ErrorFormat::OpenAi => serde_json::to_vec(&OpenAi {
            error: OpenAiError { message, kind: openai_type(*status), param: None, code },
        }),
        ErrorFormat::Anthropic => serde_json::to_vec(&Anthropic {
            kind: "error",
            error: AnthropicError { kind: anthropic_type(*status), message },
            request_id,
        }),
    };
    // Strings always serialize.
    written.unwrap_or_default()
}

/// As [`body`], as a message among others.
pub(super) fn event(row: &Row, format: ErrorFormat, request_id: &str) -> Vec<u8> {
    match format {
        ErrorFormat::Keyward | ErrorFormat::Anthropic => body(row, format, request_id),
        ErrorFormat::OpenAi => {
            let Row { status, code, message, .. } = row;
            let error = OpenAiError { message, kind: openai_type(*status), param: None, code };
            let event_id = format!("event_{request_id}");
            serde_json::to_vec(&Realtime { kind: "error", event_id: &event_id, error }).unwrap_or_default()
        }
    }
}

#[derive(Serialize)]
struct Realtime<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    event_id: &'a str,
    error: OpenAiError<'a>,
}

#[derive(Serialize)]
struct Plain<'a> {
    error: &'a str,
    code: &'a str,
    request_id: &'a str,
}

#[derive(Serialize)]
struct OpenAi<'a> {
    error: OpenAiError<'a>,
}

#[derive(Serialize)]
struct OpenAiError<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    /// Which parameter was wrong; a refusal is never about one.
    param: Option<&'a str>,
    code: &'a str,
}

#[derive(Serialize)]
struct Anthropic<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    error: AnthropicError<'a>,
    request_id: &'a str,
}

#[derive(Serialize)]
struct AnthropicError<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    message: &'a str,
}

/// The `type` that the OpenAI API gives an error of this status.
fn openai_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        _ => "server_error",
    }
}

/// The `error.type` that the Anthropic API gives an error of this status.
fn anthropic_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 => "overloaded_error",
        504 => "timeout_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    }
}
