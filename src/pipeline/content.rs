//! What a message says about its content, as far as inspection needs to know.

use http::header::{self, HeaderMap};

use crate::policy::BodyClass;
use crate::scan::TextFormat;

/// Content as its headers declare it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) kind: Kind,
    /// Why it cannot be read for certain: a coding, a charset, a declaration that readers understand differently.
    pub(super) problem: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text(TextFormat),
    EventStream,
    Ndjson,
    /// A type that has no text to scan, as far as we know.
    Other,
    /// A declaration that readers understand differently, or texts in a form that is not read here.
    Unclear,
}

impl Content {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let coding = coding_problem(headers);
        let mut types = headers.get_all(header::CONTENT_TYPE).iter();
        let declared = types.next();
        if types.next().is_some() {
            return Self { kind: Kind::Unclear, problem: Some("more than one Content-Type") };
        }
        let Some(declared) = declared else { return Self { kind: Kind::Text(TextFormat::Text), problem: coding } };
        let Ok(declared) = declared.to_str() else {
            return Self { kind: Kind::Unclear, problem: Some("Content-Type is not ASCII") };
        };
        let (essence, parameters) = declared.split_once(';').unwrap_or((declared, ""));
        let essence = essence.trim().to_ascii_lowercase();
        if is_grpc(&essence) {
            return Self { kind: Kind::Unclear, problem: Some("gRPC messages are not inspected") };
        }
        let kind = kind(&essence);
        if kind == Kind::Unclear {
            return Self { kind, problem: Some("Content-Type is malformed") };
        }
        let charset = (kind != Kind::Other && !is_utf8(parameters)).then_some("the charset is not UTF-8");
        Self { kind, problem: coding.or(charset) }
    }

    /// The class that a response rule's `content_types` speak of, where there is one.
    pub(super) fn class(self) -> Option<BodyClass> {
        match self.kind {
            Kind::Text(TextFormat::Json) => Some(BodyClass::Json),
            Kind::Text(TextFormat::Text) => Some(BodyClass::Text),
            Kind::EventStream => Some(BodyClass::EventStream),
            Kind::Ndjson => Some(BodyClass::Ndjson),
            Kind::Text(TextFormat::Form) | Kind::Other | Kind::Unclear => None,
        }
    }

    /// Whether the content comes in events that a client reads one by one.
    pub(super) fn is_stream(self) -> bool {
        matches!(self.kind, Kind::EventStream | Kind::Ndjson)
    }
}

fn kind(essence: &str) -> Kind {
    match essence {
        "" | "text/plain" => Kind::Text(TextFormat::Text),
        "application/json" | "application/x-json" | "text/json" | "text/x-json" => Kind::Text(TextFormat::Json),
        "application/x-www-form-urlencoded" => Kind::Text(TextFormat::Form),
        "text/event-stream" => Kind::EventStream,
        "application/x-ndjson"
        | "application/ndjson"
        | "application/jsonl"
        | "application/jsonlines"
        | "application/x-jsonlines"
        | "application/json-seq" => Kind::Ndjson,
        json if json.ends_with("+json") => Kind::Text(TextFormat::Json),
        other if is_media_type(other) => Kind::Other,
        _ => Kind::Unclear,
    }
}

/// gRPC over HTTP/2, its form for browsers, and either with its messages' coding.
fn is_grpc(essence: &str) -> bool {
    let rest = essence.strip_prefix("application/grpc");
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', '-', '.']))
}

/// `type/subtype`, each a token (RFC 9110 §8.3.1).
fn is_media_type(essence: &str) -> bool {
    let is_token = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
    };
    essence.split_once('/').is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype))
}

fn coding_problem(headers: &HeaderMap) -> Option<&'static str> {
    let plain = headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .all(|value| value.as_bytes().trim_ascii().is_empty() || value.as_bytes().eq_ignore_ascii_case(b"identity"));
    (!plain).then_some("compressed content is not decoded yet")
}

/// No `charset`, UTF-8, or its subset ASCII.
fn is_utf8(parameters: &str) -> bool {
    parameters
        .split(';')
        .filter_map(|parameter| parameter.split_once('='))
        .filter(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))
        .all(|(_, value)| {
            let value = value.trim().trim_matches('"');
            ["utf-8", "utf8", "us-ascii"].iter().any(|known| value.eq_ignore_ascii_case(known))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[(&'static str, &'static str)]) -> Content {
        Content::of(
            &lines
                .iter()
                .map(|(name, value)| (header::HeaderName::from_static(name), header::HeaderValue::from_static(value)))
                .fold(HeaderMap::new(), |mut map, (name, value)| {
                    map.append(name, value);
                    map
                }),
        )
    }

    #[test]
    fn declared_types() {
        let json = Content { kind: Kind::Text(TextFormat::Json), problem: None };
        assert_eq!(of(&[("content-type", "application/json")]), json);
        assert_eq!(of(&[("content-type", "Application/JSON; charset=\"UTF-8\"")]), json);
        assert_eq!(of(&[("content-type", "application/problem+json")]), json);
        assert_eq!(of(&[("content-type", "text/event-stream; charset=utf-8")]).kind, Kind::EventStream);
        assert_eq!(of(&[]).kind, Kind::Text(TextFormat::Text));
        assert_eq!(of(&[("content-type", "image/png")]).kind, Kind::Other);
        let identity = [("content-type", "text/plain"), ("content-encoding", "Identity")];
        assert_eq!(of(&identity), Content { kind: Kind::Text(TextFormat::Text), problem: None });
    }

    #[test]
    fn what_readers_disagree_on_is_a_problem() {
        for lines in [
            &[("content-type", "application/json"), ("content-type", "text/plain")][..],
            &[("content-type", "application/json; charset=utf-16")],
            &[("content-type", "application/json, text/plain")],
            &[("content-type", "application/json charset=utf-8")],
            &[("content-type", "json")],
            &[("content-type", "text/plain; charset=utf-7")],
            &[("content-type", "application/grpc")],
            &[("content-type", "application/GRPC+proto")],
            &[("content-type", "application/grpc-web-text")],
            &[("content-type", "application/json"), ("content-encoding", "gzip")],
            &[("content-type", "application/json"), ("content-encoding", "identity, br")],
        ] {
            assert!(of(lines).problem.is_some(), "{lines:?}");
        }
    }
}
