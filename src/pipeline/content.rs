//! What a message says about its content, as far as inspection needs to know.

use http::header::{self, HeaderMap, HeaderValue};

use crate::policy::BodyClass;
use crate::scan::text::charset::Label;
use crate::scan::text::multipart::Boundary;
use crate::scan::text::parameters::{Parameters, is_json, is_token_byte};
use crate::scan::{Codings, TextFormat};

/// Content as its headers declare it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) kind: Kind,
    /// What has to come off before it can be read.
    pub(super) codings: Codings,
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
        let lines = headers.get_all(header::CONTENT_ENCODING);
        let (codings, coding) = match Codings::parse(lines.iter().map(HeaderValue::as_bytes)) {
            Ok(codings) => (codings, None),
            Err(why) => (Codings::default(), Some(why)),
        };
        let of = |kind, problem| Self { kind, codings, problem };
        let mut types = headers.get_all(header::CONTENT_TYPE).iter();
        let declared = types.next();
        if types.next().is_some() {
            return of(Kind::Unclear, Some("more than one Content-Type"));
        }
        let Some(declared) = declared else { return of(Kind::Text(TextFormat::Text), coding) };
        let Ok(declared) = declared.to_str() else {
            return of(Kind::Unclear, Some("Content-Type is not ASCII"));
        };
        let (essence, parameters) = declared.split_once(';').unwrap_or((declared, ""));
        let essence = essence.trim().to_ascii_lowercase();
        if is_grpc(&essence) {
            return of(Kind::Unclear, Some("gRPC messages are not inspected"));
        }
        let kind = kind(&essence);
        if kind == Kind::Unclear {
            return of(kind, Some("Content-Type is malformed"));
        }
        if kind == Kind::Other && is_multipart(declared) {
            return match boundary(declared) {
                Some(boundary) => of(Kind::Text(TextFormat::Multipart(boundary)), coding),
                None => of(Kind::Unclear, Some("a multipart body without a clear boundary")),
            };
        }
        let (kind, charset) = with_charset(kind, parameters);
        of(kind, coding.or(charset))
    }

    /// The class that a response rule's `content_types` speak of, where there is one.
    pub(super) fn class(self) -> Option<BodyClass> {
        match self.kind {
            Kind::Text(TextFormat::Json) => Some(BodyClass::Json),
            Kind::Text(TextFormat::Text | TextFormat::Coded(_)) => Some(BodyClass::Text),
            Kind::Text(TextFormat::Multipart(_)) => Some(BodyClass::Multipart),
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
        json if is_json(json) => Kind::Text(TextFormat::Json),
        "application/x-www-form-urlencoded" => Kind::Text(TextFormat::Form),
        "text/event-stream" => Kind::EventStream,
        "application/x-ndjson"
        | "application/ndjson"
        | "application/jsonl"
        | "application/jsonlines"
        | "application/x-jsonlines"
        | "application/json-seq" => Kind::Ndjson,
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
    let is_token = |text: &str| !text.is_empty() && text.bytes().all(is_token_byte);
    essence.split_once('/').is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype))
}

/// The types whose parts are texts and files; of others a service reads the bytes as they are.
fn is_multipart(declared: &str) -> bool {
    let essence = declared.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    matches!(&*essence, "multipart/form-data" | "multipart/mixed" | "multipart/related" | "multipart/alternative")
}

/// The boundary that every reader of the declaration finds.
fn boundary(declared: &str) -> Option<Boundary> {
    Boundary::new(Parameters::parse(declared.as_bytes())?.get("boundary")?)
}

/// What the declared charset makes of a kind, and why it cannot be read. JSON and events are UTF-8 whatever is declared
/// (RFC 8259 §8.1): a charset in which ASCII would be something else is a contradiction.
fn with_charset(kind: Kind, parameters: &str) -> (Kind, Option<&'static str>) {
    const UNKNOWN: Option<&str> = Some("an unknown charset");
    let mut labels = parameters
        .split(';')
        .filter_map(|parameter| parameter.split_once('='))
        .filter(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))
        .map(|(_, value)| Label::of(value.trim().trim_matches('"').as_bytes()));
    let Some(label) = labels.next() else { return (kind, None) };
    if kind == Kind::Other {
        return (kind, None);
    }
    if labels.any(|other| other != label) {
        return (kind, Some("more than one charset"));
    }
    match (kind, label) {
        (Kind::Text(TextFormat::Text), Label::Other(charset)) => (Kind::Text(TextFormat::Coded(charset)), None),
        (_, label) if label.keeps_ascii() => (kind, None),
        (_, Label::Unknown) => (kind, UNKNOWN),
        _ => (kind, Some("the charset is not UTF-8")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[(&'static str, &'static str)]) -> Content {
        Content::of(
            &lines
                .iter()
                .map(|(name, value)| (header::HeaderName::from_static(name), HeaderValue::from_static(value)))
                .fold(HeaderMap::new(), |mut map, (name, value)| {
                    map.append(name, value);
                    map
                }),
        )
    }

    #[test]
    fn declared_types() {
        let json = Content { kind: Kind::Text(TextFormat::Json), codings: Codings::default(), problem: None };
        assert_eq!(of(&[("content-type", "application/json")]), json);
        assert_eq!(of(&[("content-type", "Application/JSON; charset=\"UTF-8\"")]), json);
        assert_eq!(of(&[("content-type", "application/problem+json")]), json);
        assert_eq!(of(&[("content-type", "text/event-stream; charset=utf-8")]).kind, Kind::EventStream);
        assert_eq!(of(&[]).kind, Kind::Text(TextFormat::Text));
        assert_eq!(of(&[("content-type", "image/png")]).kind, Kind::Other);
        let identity = [("content-type", "text/plain"), ("content-encoding", "Identity")];
        assert_eq!((of(&identity).kind, of(&identity).problem), (Kind::Text(TextFormat::Text), None));
        assert!(of(&identity).codings.is_empty());
        let coded = [("content-type", "text/plain"), ("content-encoding", "gzip"), ("content-encoding", "br")];
        assert_eq!((of(&coded).codings.is_empty(), of(&coded).problem), (false, None));
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
            &[("content-type", "application/json"), ("content-encoding", "compress")],
            &[("content-type", "application/json"), ("content-encoding", "gzip, br"), ("content-encoding", "gzip")],
        ] {
            assert!(of(lines).problem.is_some(), "{lines:?}");
        }
    }
}
