//! What the sample service answers, as a pure function of the request and the time.
//!
//! Enters: a whole request and the wall clock's time. Leaves: the response, with its events still to be paced if it
//! is a stream. It never waits, and does no I/O.

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use serde_json::{Map, Value, json};

use super::completions;
use super::model::{self, Identity};

/// The days that the analytics endpoint pretends to have looked at.
const ANALYZED: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The body of an answer.
#[derive(Debug)]
pub enum Content {
    /// Sent at once, with its length.
    Whole(Bytes),
    /// Sent one by one, with a pause between them.
    Events(Vec<Bytes>),
}

/// The service's answer to a request, given the wall clock's time.
pub fn answer(request: &Request<Bytes>, now: SystemTime) -> Response<Content> {
    route(request, now).unwrap_or_else(|fault| fault.response(request.uri().path()))
}

fn route(request: &Request<Bytes>, now: SystemTime) -> Result<Response<Content>, Fault> {
    let identity = &Identity::of(request.headers());
    let body = request.body();
    let path = request.uri().path();
    match path {
        "/healthz" => allow(request, Read).map(|()| ok(&json!({"status": "ok"}))),
        "/ai/analytics" => allow(request, Read).map(|()| analytics(identity, now)),
        "/ai/support" => allow(request, Write).and_then(|()| support(body, identity)),
        "/ai/workflow" => allow(request, Write).and_then(|()| workflow(body, identity, now)),
        "/ai/chat" => allow(request, Write).and_then(|()| chat(body, identity)),
        "/ai/process" => allow(request, Write).and_then(|()| process(body, identity)),
        completions::PATH => allow(request, Write).and_then(|()| completions::complete(body, identity, now)),
        _ => match path.strip_prefix("/ai/chats/") {
            Some(id) if !id.is_empty() && !id.contains('/') => allow(request, Read).map(|()| history(id, identity)),
            _ => Err(Fault::NotFound),
        },
    }
}

use Action::{Read, Write};

/// What an endpoint does, which decides its methods.
enum Action {
    Read,
    Write,
}

fn allow(request: &Request<Bytes>, action: Action) -> Result<(), Fault> {
    match (action, request.method()) {
        (Read, &Method::GET | &Method::HEAD) | (Write, &Method::POST) => Ok(()),
        (Read, _) => Err(Fault::Method { allowed: "GET, HEAD" }),
        (Write, _) => Err(Fault::Method { allowed: "POST" }),
    }
}

fn support(body: &[u8], identity: &Identity) -> Result<Response<Content>, Fault> {
    let message = text(object(body)?, "message")?;
    Ok(ok(&json!({
        "response": model::reply(&message, identity),
        "organization": identity.organization,
        "user_id": identity.user_id,
        "data_sources": ["support_history", "profile"],
    })))
}

fn analytics(identity: &Identity, now: SystemTime) -> Response<Content> {
    let owner = identity.owner();
    let total_records = 100 + model::number(&owner) % 900;
    let from = now.checked_sub(ANALYZED).unwrap_or(now);
    ok(&json!({
        "insights": [
            format!("{total_records} records of {owner} were analyzed."),
            "Most questions are asked on Mondays.",
        ],
        "organization": identity.organization,
        "user_id": identity.user_id,
        "data_summary": {
            "total_records": total_records,
            "date_range": {"from": timestamp(from), "to": timestamp(now)},
        },
    }))
}

fn workflow(body: &[u8], identity: &Identity, now: SystemTime) -> Result<Response<Content>, Fault> {
    let description = match object(body)?.remove("workflow") {
        None | Some(Value::Null) => return Err(Fault::Request("workflow is missing")),
        Some(Value::String(name)) => name,
        Some(structure) => structure.to_string(),
    };
    let id = format!("wf_{:08x}", model::number(&format!("{} {description}", identity.owner())));
    Ok(ok(&json!({
        "result": {"id": id, "status": "completed", "summary": model::reply(&description, identity)},
        "organization": identity.organization,
        "user_id": identity.user_id,
        "workflow_id": id,
        "execution_time": timestamp(now),
    })))
}

fn chat(body: &[u8], identity: &Identity) -> Result<Response<Content>, Fault> {
    let message = text(object(body)?, "message")?;
    Ok(ok(&json!({
        "response": model::reply(&message, identity),
        "organization": identity.organization,
        "user_id": identity.user_id,
    })))
}

fn history(id: &str, identity: &Identity) -> Response<Content> {
    let question = "How are we doing?";
    ok(&json!({
        "id": id,
        "messages": [
            {"role": "user", "content": question},
            {"role": "assistant", "content": model::reply(question, identity)},
        ],
        "organization": identity.organization,
        "user_id": identity.user_id,
    }))
}

fn process(body: &[u8], identity: &Identity) -> Result<Response<Content>, Fault> {
    let input = text(object(body)?, "input")?;
    let mut result = format!("Processed: {input}");
    model::misbehave(&input, &mut result);
    Ok(ok(&json!({
        "result": result,
        "organization": identity.organization,
        "user_id": identity.user_id,
    })))
}

/// A request that the service refuses, always by the client's fault.
#[derive(Debug)]
pub(super) enum Fault {
    Request(&'static str),
    NotText { member: &'static str },
    NotFound,
    Method { allowed: &'static str },
    TooLarge,
}

impl Fault {
    /// The fault in the shape of the API that the path belongs to.
    pub fn response(self, path: &str) -> Response<Content> {
        let (status, message) = match self {
            Self::Request(message) => (StatusCode::BAD_REQUEST, Cow::Borrowed(message)),
            Self::NotText { member } => (StatusCode::BAD_REQUEST, Cow::Owned(format!("{member} must be a string"))),
            Self::NotFound => (StatusCode::NOT_FOUND, Cow::Borrowed("Not found")),
            Self::Method { .. } => (StatusCode::METHOD_NOT_ALLOWED, Cow::Borrowed("Method not allowed")),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, Cow::Borrowed("Request body too large")),
        };
        let body = if path == completions::PATH { completions::error(&message) } else { json!({"error": message}) };
        let mut response = ok(&body);
        *response.status_mut() = status;
        if let Self::Method { allowed } = self {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
        }
        response
    }
}

pub(super) fn ok(body: &Value) -> Response<Content> {
    let mut response = Response::new(Content::Whole(Bytes::from(body.to_string())));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

pub(super) fn object(body: &[u8]) -> Result<Map<String, Value>, Fault> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) | Err(_) => Err(Fault::Request("The body must be a JSON object")),
    }
}

fn text(mut members: Map<String, Value>, name: &'static str) -> Result<String, Fault> {
    match members.remove(name) {
        Some(Value::String(text)) => Ok(text),
        _ => Err(Fault::NotText { member: name }),
    }
}

/// The form of JavaScript's `toISOString`: UTC with milliseconds.
fn timestamp(time: SystemTime) -> String {
    // The formatter has no form for a time before 1970, which a machine without a battery may well be near.
    humantime::format_rfc3339_millis(time.max(UNIX_EPOCH)).to_string()
}
