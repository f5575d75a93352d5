//! `defaults` and `routes`: what a request must bring, and what is done with it.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http::header::{self, HeaderName};
use ipnet::IpNet;

use super::assertion::RouteAssertion;
use super::context::Context;
use super::keys::credentials;
use super::name;
use super::peers::{RouteCors, allow_from, client_cert};
use super::process::{located, timeout};
use super::rules::views;
use super::stream::stream;
use crate::config::address::route_host;
use crate::config::field::{At, Field, Spot};
use crate::config::header_name::{header_name, reserved};
use crate::config::mistake::quoted;
use crate::config::section::{Keys, Section};
use crate::config::value::Value;
use crate::policy::{BodyClass, CertificateName, ErrorFormat, PathPattern, Place, Unscannable};
use crate::scan::stream::House;
use crate::scan::{Action, BinaryParts, View};

pub(super) const DEFAULTS: Keys = Keys {
    known: &[
        "upstream",
        "limits",
        "request",
        "response",
        "credentials",
        "echo_identity",
        "format",
        "slow",
        "trailers",
        "allow_from",
        "client_cert",
        "cors",
    ],
    later: &["assertion", "context"],
};
pub(super) const ROUTE: Keys = Keys {
    known: &[
        "id",
        "path",
        "host",
        "methods",
        "scopes",
        "public",
        "auth",
        "limits",
        "request",
        "response",
        "upstream",
        "format",
        "credentials",
        "echo_identity",
        "underscore_headers",
        "assertion",
        "context",
        "slow",
        "upgrade",
        "trailers",
        "allow_from",
        "client_cert",
        "cors",
    ],
    later: &["retries", "rewrite", "timeouts"],
};
pub(super) const SCOPES: Keys = Keys { known: &["any_of"], later: &[] };
pub(super) const REQUEST: Keys = Keys {
    known: &["rules", "action", "max_chars", "max_body_chars", "max_body", "unscannable", "binary_parts", "views"],
    later: &[],
};
pub(super) const RESPONSE: Keys = Keys {
    known: &[
        "rules",
        "action",
        "max_chars",
        "max_body_chars",
        "max_body",
        "unscannable",
        "binary_parts",
        "content_types",
        "stream",
        "views",
    ],
    later: &[],
};

pub(super) const ACTIONS: [(&str, Action); 4] = [
    ("block", Action::Block),
    ("redact", Action::Redact),
    ("sanitize", Action::Sanitize),
    ("observe", Action::Observe),
];
const FORMATS: [(&str, ErrorFormat); 3] =
    [("keyward", ErrorFormat::Keyward), ("openai", ErrorFormat::OpenAi), ("anthropic", ErrorFormat::Anthropic)];
const CONTENT_TYPES: [(&str, BodyClass); 5] = [
    ("application/json", BodyClass::Json),
    ("text/event-stream", BodyClass::EventStream),
    ("application/x-ndjson", BodyClass::Ndjson),
    ("text/plain", BodyClass::Text),
    ("multipart/form-data", BodyClass::Multipart),
];

const GIB: u64 = 1 << 30;
/// More text than any body may have bytes.
const MAX_CHARS: u64 = 64 * GIB;

/// What a route takes unless it says otherwise.
#[derive(Default)]
pub(crate) struct Defaults {
    pub upstream: Field<String>,
    pub limits: Field<Vec<At<String>>>,
    pub request: Inspect,
    pub response: Inspect,
    pub credentials: Field<Vec<At<Place>>>,
    pub echo_identity: Field<bool>,
    pub format: Field<ErrorFormat>,
    pub slow: Field<Duration>,
    pub trailers: Field<Vec<At<HeaderName>>>,
    pub allow_from: Field<Vec<At<IpNet>>>,
    pub client_cert: Field<Vec<CertificateName>>,
    pub cors: Field<RouteCors>,
}

/// One item of `routes`.
pub(crate) struct Route {
    pub spot: Spot,
    pub id: Field<String>,
    pub path: Field<PathPattern>,
    pub host: Field<Box<str>>,
    pub methods: Field<Vec<At<Method>>>,
    pub scopes: Field<Scopes>,
    pub public: Field<bool>,
    pub auth: Field<Auth>,
    pub underscore_headers: Field<Vec<At<HeaderName>>>,
    pub assertion: Field<RouteAssertion>,
    pub context: Field<Context>,
    pub upgrade: Field<Vec<At<Upgrade>>>,
    /// What may also stand in `defaults`.
    pub own: Defaults,
}

/// A protocol that a connection may change to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Upgrade {
    WebSocket,
}

/// Whether a keyless caller is refused.
#[derive(Clone, Copy)]
pub(crate) enum Auth {
    Key,
    Observe,
}

pub(crate) enum Scopes {
    All(Vec<Arc<str>>),
    Any(Vec<Arc<str>>),
}

/// A `request` or `response` section.
#[derive(Clone, Default)]
pub(crate) struct Inspect {
    pub rules: Field<Vec<At<String>>>,
    /// What all of the rules read beside the text as it is.
    pub views: Field<Vec<At<View>>>,
    pub action: Field<Action>,
    pub max_chars: Field<u64>,
    pub max_body_chars: Field<u64>,
    pub max_body: Field<u64>,
    pub unscannable: Field<Unscannable>,
    pub binary_parts: Field<BinaryParts>,
    pub content_types: Field<Vec<At<BodyClass>>>,
    pub stream: Field<House>,
}

impl Defaults {
    /// Reads the keys that `defaults` and a route share.
    pub fn read(section: &Section<'_>) -> Self {
        Self {
            upstream: section.field("upstream", name),
            limits: section.field("limits", |value| value.set(name)),
            request: section.section("request", &REQUEST, Inspect::read_request).unwrap_or_default(),
            response: section.section("response", &RESPONSE, Inspect::read_response).unwrap_or_default(),
            credentials: section.field("credentials", credentials),
            echo_identity: section.field("echo_identity", Value::boolean),
            format: section.field("format", |value| value.word(&FORMATS)),
            slow: section.field("slow", timeout),
            trailers: section.field("trailers", |value| value.set(trailer)),
            allow_from: section.field("allow_from", allow_from),
            client_cert: section.field("client_cert", client_cert),
            cors: section.field("cors", RouteCors::read),
        }
    }
}

impl Route {
    pub fn read(value: &Value<'_>) -> Option<Self> {
        let section = Section::open(value, &ROUTE)?;
        Some(Self {
            spot: section.spot(),
            id: section.required("id", name),
            path: section.required("path", |value| value.parsed("a path such as `/ai/chat`", PathPattern::parse)),
            host: section.field("host", |value| located(value, "a host name", route_host)),
            methods: section.field("methods", methods),
            scopes: section.field("scopes", Scopes::read),
            public: section.field("public", Value::boolean),
            auth: section.field("auth", |value| value.word(&[("key", Auth::Key), ("observe", Auth::Observe)])),
            underscore_headers: section.field("underscore_headers", |value| value.set(underscore_header)),
            assertion: section.field("assertion", RouteAssertion::read),
            context: section.field("context", Context::read),
            upgrade: section
                .field("upgrade", |value| value.set(|item| item.word(&[("websocket", Upgrade::WebSocket)]))),
            own: Defaults::read(&section),
        })
    }
}

pub(super) fn methods(value: &Value<'_>) -> Option<Vec<At<Method>>> {
    let list = value.set(method)?;
    if list.is_empty() {
        return value.refuse(value.mistake("no method at all").help("leave `methods` out to take any method"));
    }
    Some(list)
}

fn method(value: &Value<'_>) -> Option<Method> {
    let text = value.text("a method such as `POST`")?;
    let mistake = |message: &str| value.mistake(format!("{} {message}", quoted(text)));
    match text.to_ascii_uppercase().as_str() {
        "*" | "ANY" | "ALL" => {
            return value.refuse(mistake("is no method").help("leave `methods` out to take any method"));
        }
        "CONNECT" => return value.refuse(mistake("asks for a tunnel, which is never opened")),
        // Methods are compared exactly (RFC 9110 §9.1), so a lower-case one would match nothing.
        upper if upper != text => {
            return value.refuse(mistake("is no method").help(format!("did you mean `{upper}`?")));
        }
        _ => {}
    }
    match Method::from_bytes(text.as_bytes()) {
        Ok(method) => Some(method),
        Err(_) => value.refuse(mistake("is no method")),
    }
}

impl Scopes {
    fn read(value: &Value<'_>) -> Option<Self> {
        if !value.is_map() {
            return scopes(value).map(Self::All);
        }
        let section = Section::open(value, &SCOPES)?;
        let any_of = section.required("any_of", |value| {
            let list = scopes(value)?;
            // Of no scopes none can be held; that everybody may pass must be said otherwise.
            if list.is_empty() { value.refuse(value.mistake("expected at least one scope")) } else { Some(list) }
        });
        any_of.given().map(Self::Any)
    }
}

fn scopes(value: &Value<'_>) -> Option<Vec<Arc<str>>> {
    let list = value.set(|item| item.text("a scope such as `read:chats`").and_then(|text| scope(item, text)))?;
    Some(list.into_iter().map(|scope| scope.value).collect())
}

/// A scope token (RFC 6749 §3.3).
fn scope(value: &Value<'_>, text: &str) -> Option<Arc<str>> {
    let allowed = |byte: u8| byte == 0x21 || (0x23..=0x5b).contains(&byte) || (0x5d..=0x7e).contains(&byte);
    if text.bytes().all(allowed) {
        return Some(text.into());
    }
    let mistake = value.mistake(format!("{} is no scope: one word of visible ASCII without quotes", quoted(text)));
    if text.contains([' ', ',']) {
        let items: Vec<&str> = text.split([' ', ',']).filter(|item| !item.is_empty()).collect();
        return value.refuse(mistake.help(format!("write a list: {}", quoted(&format!("[{}]", items.join(", "))))));
    }
    value.refuse(mistake)
}

/// A name that means nothing to whoever reads the head of a message (RFC 9110 §6.5.1).
fn trailer(value: &Value<'_>) -> Option<HeaderName> {
    const OF_THE_HEAD: [HeaderName; 12] = [
        header::AGE,
        header::AUTHORIZATION,
        header::CACHE_CONTROL,
        header::CONTENT_RANGE,
        header::COOKIE,
        header::DATE,
        header::EXPIRES,
        header::LOCATION,
        header::MAX_FORWARDS,
        header::RETRY_AFTER,
        header::SET_COOKIE,
        header::WWW_AUTHENTICATE,
    ];
    let name = header_name(value)?;
    let why = match reserved(&name) {
        Some(reason) => reason,
        None if OF_THE_HEAD.contains(&name) => "has to stand in the head of a message",
        None if name.as_str().contains('_') => "has a `_`, which many services read as `-`",
        None => return Some(name),
    };
    value.refuse(value.mistake(format!("`{name}` {why}")))
}

fn underscore_header(value: &Value<'_>) -> Option<HeaderName> {
    let name = header_name(value)?;
    if !name.as_str().contains('_') {
        let message = format!("`{name}` has no `_`: only names with one are dropped unless they are listed here");
        return value.refuse(value.mistake(message));
    }
    match reserved(&name) {
        Some(reason) => value.refuse(value.mistake(format!("`{name}` {reason}"))),
        None => Some(name),
    }
}

impl Inspect {
    fn read_request(section: &Section<'_>) -> Self {
        Self {
            rules: section.field("rules", |value| value.set(name)),
            views: section.field("views", views),
            action: section.field("action", |value| value.word(&ACTIONS)),
            max_chars: section.field("max_chars", |value| value.count(1..=MAX_CHARS)),
            max_body_chars: section.field("max_body_chars", |value| value.count(1..=MAX_CHARS)),
            max_body: section.field("max_body", |value| value.size(1..=64 * GIB)),
            unscannable: section.field("unscannable", |value| {
                value.word(&[("block", Unscannable::Block), ("pass", Unscannable::Pass)])
            }),
            binary_parts: section.field("binary_parts", |value| {
                value.word(&[("pass", BinaryParts::Pass), ("block", BinaryParts::Block)])
            }),
            content_types: Field::Missing,
            stream: Field::Missing,
        }
    }

    fn read_response(section: &Section<'_>) -> Self {
        let content_types = section.field("content_types", |value| value.set(|item| item.word(&CONTENT_TYPES)));
        Self { content_types, stream: section.field("stream", stream), ..Self::read_request(section) }
    }

    /// This section's fields, and those of `below` where it has none.
    pub fn over(&self, below: &Self) -> Self {
        Self {
            rules: self.rules.over(&below.rules),
            views: self.views.over(&below.views),
            action: self.action.over(&below.action),
            max_chars: self.max_chars.over(&below.max_chars),
            max_body_chars: self.max_body_chars.over(&below.max_body_chars),
            max_body: self.max_body.over(&below.max_body),
            unscannable: self.unscannable.over(&below.unscannable),
            binary_parts: self.binary_parts.over(&below.binary_parts),
            content_types: self.content_types.over(&below.content_types),
            stream: self.stream.over(&below.stream),
        }
    }
}
