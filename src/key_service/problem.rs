//! What is wrong with a request, in Kinde's shapes: a list of errors, and for what is not there a single one.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;
use serde_json::json;

use super::body::of_json;
use crate::keys::ImportMistake;

/// A "no".
#[derive(Debug)]
pub(super) struct Problem {
    pub status: StatusCode,
    code: &'static str,
    message: Cow<'static, str>,
    field: Option<Box<(HeaderName, HeaderValue)>>,
    /// In a list of keys; told in place of the message.
    mistakes: Vec<ImportMistake>,
}

impl Problem {
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, message: message.into(), field: None, mistakes: Vec::new() }
    }

    fn with(self, name: HeaderName, value: impl Into<HeaderValue>) -> Self {
        Self { field: Some(Box::new((name, value.into()))), ..self }
    }

    pub fn bad(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// Nothing of a list was imported.
    pub fn list(mistakes: Vec<ImportMistake>) -> Self {
        Self { mistakes, ..Self::bad("INVALID_LINE", "the list is wrong") }
    }

    pub fn no_route() -> Self {
        Self::new(StatusCode::NOT_FOUND, "ROUTE_NOT_FOUND", "there is nothing here; /openapi.json names what there is")
    }

    pub fn no_key() -> Self {
        Self::new(StatusCode::NOT_FOUND, "API_KEY_NOT_FOUND", "there is no key of this id")
    }

    pub fn method(allowed: &'static str) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", format!("only {allowed} here"))
            .with(header::ALLOW, HeaderValue::from_static(allowed))
    }

    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "INVALID_CREDENTIALS", "a token is needed: `Authorization: Bearer TOKEN`")
            .with(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    }

    pub fn scope(needed: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "SCOPE_MISSING", format!("Scope missing: this needs {needed}"))
    }

    /// `RateLimit-Reset` is what Kinde sends; `Retry-After` what everybody knows.
    pub fn too_many(wait: Duration) -> Self {
        let seconds = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1);
        Self::new(StatusCode::TOO_MANY_REQUESTS, "TOO_MANY_REQUESTS", "too many failed attempts from this address")
            .with(HeaderName::from_static("ratelimit-reset"), seconds)
    }

    pub fn unavailable(message: &'static str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", message).with(header::RETRY_AFTER, 1_u16)
    }

    pub fn into_response(self) -> Response<Full<Bytes>> {
        let error = json!({"code": self.code, "message": self.message});
        let line =
            |mistake: &ImportMistake| json!({"code": self.code, "message": mistake.message, "line": mistake.line});
        let body = if self.status == StatusCode::NOT_FOUND {
            json!({"errors": error})
        } else if self.mistakes.is_empty() {
            json!({"errors": [error]})
        } else {
            json!({"errors": self.mistakes.iter().map(line).collect::<Vec<_>>()})
        };
        let mut response = of_json(self.status, &body);
        if let Some(field) = self.field {
            let (name, value) = *field;
            response.headers_mut().insert(name, value);
        }
        response
    }
}
