//! The configuration as it is written: typed values, names not yet looked up, defaults not yet filled in.
//!
//! One file per section. Each says which keys it knows, which ones a later version will, and how each is read.

mod assertion;
mod context;
mod keys;
mod kinde;
mod limits;
mod peers;
mod process;
mod resilience;
mod routes;
mod rules;
mod serve;
mod stream;
mod upstreams;

pub(super) use assertion::{Assertion, NamedKey, RouteAssertion};
pub(super) use context::Context as PromptContext;
pub(super) use keys::{AuthFailures, KeysSection, Store, Verifier};
pub(super) use kinde::{Kinde, KindeAuth, origin};
pub(super) use limits::Limit;
pub(super) use peers::RouteCors;
pub(super) use process::ProcessSection;
pub(super) use resilience::{Breaker, Eject, Health, Queue, Retries};
pub(super) use routes::{Auth, Defaults, Inspect, Route, Scopes};
pub(super) use rules::Rule;
pub(super) use serve::Serve;
pub(super) use upstreams::Upstream;

use super::field::{At, Field};
use super::section::{Keys, Section};
use super::tree::Node;
use super::value::{Context, Value};

const TOP: Keys = Keys {
    known: &[
        "listen",
        "admin",
        "health",
        "trusted_proxies",
        "memory",
        "shutdown",
        "usage",
        "upstreams",
        "keys",
        "limits",
        "rules",
        "defaults",
        "routes",
    ],
    later: &["assertion", "audit", "context", "otlp", "redis"],
};

/// The whole file.
pub(super) struct Config {
    pub process: ProcessSection,
    pub keys: KeysSection,
    pub upstreams: Field<Vec<Named<Upstream>>>,
    pub limits: Field<Vec<Named<Limit>>>,
    pub rules: Field<Vec<Option<Rule>>>,
    pub defaults: Defaults,
    /// A route that is no mapping is `None`.
    pub routes: Field<Vec<Option<Route>>>,
}

/// An entry of `upstreams` or `limits`. A body that is no mapping is `None`; the name is known nevertheless.
pub(super) struct Named<T> {
    pub name: At<String>,
    pub body: Option<T>,
}

impl Config {
    /// Reads the file; `None` when it is no mapping.
    pub fn read(root: &Node, context: Context<'_>) -> Option<Self> {
        let top = Section::open(&Value::root(root, context), &TOP)?;
        Some(Self {
            process: ProcessSection::read(&top),
            keys: KeysSection::read(&top),
            upstreams: top.field("upstreams", |value| named(value, Upstream::read)),
            limits: top.field("limits", |value| named(value, Limit::read)),
            rules: top.field("rules", |value| Some(value.items("a list of rules")?.iter().map(Rule::read).collect())),
            defaults: top.section("defaults", &routes::DEFAULTS, Defaults::read).unwrap_or_default(),
            routes: top
                .field("routes", |value| Some(value.items("a list of routes")?.iter().map(Route::read).collect())),
        })
    }
}

fn named<T>(value: &Value<'_>, read: impl Fn(&Value<'_>) -> Option<T>) -> Option<Vec<Named<T>>> {
    let entries = named_entries(value, |_, value| read(value))?;
    Some(entries.into_iter().map(|(name, body)| Named { name, body }).collect())
}

/// The entries of a mapping whose keys are names, each with its name.
fn named_entries<T>(
    value: &Value<'_>,
    read: impl Fn(&str, &Value<'_>) -> Option<T>,
) -> Option<Vec<(At<String>, Option<T>)>> {
    let entries = value.entries("a mapping of names")?;
    let mut list = Vec::new();
    for (name, value) in entries {
        if !is_name(name.value) {
            value.context.findings.add(name.spot.mistake(format!("this name {NAME_RULE}")));
        }
        let body = read(name.value, &value);
        list.push((At { value: name.value.to_owned(), spot: name.spot }, body));
    }
    Some(list)
}

/// Names end up in logs, metric labels and on command lines.
fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    (1..=64).contains(&text.len()) && text.bytes().all(plain)
}

const NAME_RULE: &str = "must have 1 to 64 letters, digits, `_`, `-` or `.`";

/// Reads a reference to, or the id of, something.
fn name(value: &Value<'_>) -> Option<String> {
    let text = value.text("a name")?;
    if is_name(text) { Some(text.to_owned()) } else { value.refuse(value.mistake(format!("this name {NAME_RULE}"))) }
}

/// Every section by its path: what the schema and the documentation are compared with.
pub(super) fn all_keys() -> Vec<(&'static str, &'static Keys)> {
    vec![
        ("", &TOP),
        ("listen", &process::LISTEN),
        ("listen.timeouts", &process::LISTEN_TIMEOUTS),
        ("listen.tls", &process::TLS),
        ("listen.tls.certificates[]", &process::CERTIFICATE),
        ("admin", &process::ADMIN),
        ("health", &process::HEALTH),
        ("shutdown", &process::SHUTDOWN),
        ("usage", &process::USAGE),
        ("upstreams.NAME", &upstreams::UPSTREAM),
        ("upstreams.NAME.tls", &upstreams::TLS),
        ("upstreams.NAME.timeouts", &upstreams::TIMEOUTS),
        ("upstreams.NAME.queue", &resilience::QUEUE),
        ("upstreams.NAME.eject", &resilience::EJECT),
        ("upstreams.NAME.breaker", &resilience::BREAKER),
        ("upstreams.NAME.retries", &resilience::RETRIES),
        ("upstreams.NAME.health", &resilience::HEALTH),
        ("upstreams.NAME.headers", &upstreams::HEADERS),
        ("upstreams.NAME.assertion", &assertion::ASSERTION),
        ("upstreams.NAME.assertion.previous", &assertion::PREVIOUS),
        ("keys", &keys::KEYS),
        ("keys.store", &keys::STORE),
        ("keys.kinde", &kinde::KINDE),
        ("keys.kinde.auth", &kinde::AUTH),
        ("keys.kinde.ca", &kinde::CA),
        ("keys.kinde.proxy", &kinde::PROXY),
        ("keys.cache", &keys::CACHE),
        ("keys.auth_failures", &keys::AUTH_FAILURES),
        ("keys.serve", &serve::SERVE),
        ("keys.serve.tokens.NAME", &serve::TOKEN),
        ("limits.NAME", &limits::LIMIT),
        ("rules[]", &rules::RULE),
        ("rules[].examples", &rules::EXAMPLES),
        ("defaults", &routes::DEFAULTS),
        ("routes[]", &routes::ROUTE),
        ("routes[].scopes", &routes::SCOPES),
        ("routes[].cors", &peers::CORS),
        ("routes[].client_cert", &peers::CLIENT_CERT),
        ("routes[].context", &context::CONTEXT),
        ("routes[].context.values.NAME", &context::VALUE),
        ("routes[].request", &routes::REQUEST),
        ("routes[].response", &routes::RESPONSE),
        ("routes[].response.stream", &stream::STREAM),
        ("admin.token", &super::secret::SECRET),
    ]
}
