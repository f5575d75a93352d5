//! `keys`: where a key stands in a request, and what decides whether it is valid.

use std::time::Duration;

use http::header;

use super::kinde::{KINDE, Kinde, ca};
use super::process::timeout;
use super::serve::{SERVE, Serve};
use crate::config::field::{At, Field, Spot};
use crate::config::header_name::{header_name, reserved};
use crate::config::process::{StorePlace, TrustedCertificates};
use crate::config::secret::secret;
use crate::config::section::{Keys, Section};
use crate::config::value::{Value, YEAR};
use crate::keys::{Peppers, PostgresSpec};
use crate::policy::{Place, SecretString};

pub(super) const KEYS: Keys =
    Keys { known: &["verifier", "credentials", "store", "kinde", "cache", "auth_failures", "serve"], later: &[] };
pub(super) const STORE: Keys = Keys { known: &["url", "password", "ca", "prefix", "pepper"], later: &[] };
pub(super) const CACHE: Keys =
    Keys { known: &["ttl", "negative_ttl", "max_entries", "refresh_ahead", "stale_if_error"], later: &[] };
pub(super) const AUTH_FAILURES: Keys = Keys { known: &["requests", "per"], later: &[] };

/// The longest that a verifier may be away before keys that were good count as unknown.
const DAY: Duration = Duration::from_secs(86_400);

/// More requests than any bucket is meant to hold.
pub(super) const MAX_REQUESTS: u64 = 1_000_000_000;

#[derive(Default)]
pub(crate) struct KeysSection {
    pub verifier: Field<Verifier>,
    pub credentials: Field<Vec<At<Place>>>,
    pub store: Store,
    /// Where `store` stands, if it was written.
    pub store_spot: Option<Spot>,
    /// `None` also when it is no mapping.
    pub kinde: Option<Kinde>,
    pub kinde_spot: Option<Spot>,
    pub cache: Cache,
    pub auth_failures: AuthFailures,
    /// `None` also when it is no mapping.
    pub serve: Option<Serve>,
    pub serve_spot: Option<Spot>,
}

/// The word for what verifies keys; for Kinde with its place, which may have to be named.
#[derive(Clone)]
pub(crate) enum Verifier {
    Store,
    Kinde(Spot),
}

#[derive(Default)]
pub(crate) struct Store {
    /// As its URL has it.
    pub place: Field<StorePlace>,
    pub password: Field<SecretString>,
    pub ca: Field<TrustedCertificates>,
    pub prefix: Field<String>,
    /// The present one first.
    pub pepper: Field<Vec<SecretString>>,
}

#[derive(Default)]
pub(crate) struct Cache {
    pub ttl: Field<Duration>,
    pub negative_ttl: Field<Duration>,
    pub max_entries: Field<u64>,
    pub refresh_ahead: Field<bool>,
    pub stale_if_error: Field<Duration>,
}

#[derive(Default)]
pub(crate) struct AuthFailures {
    pub requests: Field<u64>,
    pub per: Field<Duration>,
}

impl KeysSection {
    pub fn read(top: &Section<'_>) -> Self {
        top.section("keys", &KEYS, |keys| Self {
            verifier: keys.field("verifier", verifier),
            credentials: keys.field("credentials", credentials),
            store: keys.section("store", &STORE, Store::read).unwrap_or_default(),
            store_spot: keys.get("store").map(Value::spot),
            kinde: keys.section("kinde", &KINDE, Kinde::read),
            kinde_spot: keys.get("kinde").map(Value::spot),
            cache: keys.section("cache", &CACHE, Cache::read).unwrap_or_default(),
            auth_failures: keys.section("auth_failures", &AUTH_FAILURES, AuthFailures::read).unwrap_or_default(),
            serve: keys.section("serve", &SERVE, Serve::read),
            serve_spot: keys.get("serve").map(Value::spot),
        })
        .unwrap_or_default()
    }
}

fn verifier(value: &Value<'_>) -> Option<Verifier> {
    const WORDS: [(&str, bool); 2] = [("store", false), ("kinde", true)];
    let kinde = value.word(&WORDS)?;
    Some(if kinde { Verifier::Kinde(value.spot()) } else { Verifier::Store })
}

/// The places where a key may stand.
pub(super) fn credentials(value: &Value<'_>) -> Option<Vec<At<Place>>> {
    let places = value.set(place)?;
    if places.is_empty() {
        return value.refuse(value.mistake("expected at least one place, or nobody could present a key"));
    }
    Some(places)
}

fn place(value: &Value<'_>) -> Option<Place> {
    let text = value.text("`bearer` or the name of a header")?;
    if text == "bearer" {
        return Some(Place::Bearer);
    }
    let name = header_name(value)?;
    if name == header::AUTHORIZATION || name.as_str() == "bearer" {
        return value
            .refuse(value.mistake("a key in `Authorization` is named by its scheme").help("did you mean `bearer`?"));
    }
    if name.as_str().contains('_') {
        let mistake = value.mistake("headers with `_` are dropped before a key is looked for");
        return value.refuse(mistake.help(format!("did you mean `{}`?", name.as_str().replace('_', "-"))));
    }
    if name == header::COOKIE {
        return value.refuse(value.mistake("`cookie` holds many values: a key needs a header of its own"));
    }
    match reserved(&name) {
        Some(reason) => value.refuse(value.mistake(format!("`{name}` {reason}"))),
        None => Some(Place::Header(name)),
    }
}

impl Store {
    fn read(section: &Section<'_>) -> Self {
        Self {
            place: section.field("url", store_place),
            password: section.field("password", secret),
            ca: section.field("ca", ca),
            prefix: section.field("prefix", prefix),
            pepper: section.field("pepper", peppers),
        }
    }
}

/// One secret, or a list of them.
fn peppers(value: &Value<'_>) -> Option<Vec<SecretString>> {
    let secrets: Vec<SecretString> = value.list(secret)?.into_iter().map(|secret| secret.value).collect();
    if secrets.is_empty() {
        return value.refuse(value.mistake("expected at least one pepper").help("remove `pepper` to have none"));
    }
    match Peppers::new(&secrets) {
        Ok(_) => Some(secrets),
        Err(error) => value.refuse(value.mistake(error.to_string())),
    }
}

/// A URL. One with a password in it comes as a secret does.
fn store_place(value: &Value<'_>) -> Option<StorePlace> {
    const EXPECTED: &str = "a URL such as `sqlite://keyward.db` or `postgres://keyward@db.example.com/keyward`";
    if value.is_map() {
        let url = secret(value)?;
        return postgres(value, url.expose()).map(StorePlace::from);
    }
    let text = value.text(EXPECTED)?;
    if ["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme)) {
        let spec = postgres(value, text)?;
        if spec.password.is_some() {
            let help = "write `password: {file: PATH}` beside it, or the whole URL as `{env: NAME}`, and change the password if this \
                        file was shared";
            return value.refuse(value.mistake("a password is never written in this file").help(help));
        }
        return Some(spec.into());
    }
    let Some(path) = text.strip_prefix("sqlite://") else {
        return value.refuse(value.mistake(format!("expected {EXPECTED}")));
    };
    if path.is_empty() || path.contains(['?', '#', '\0']) || path == ":memory:" {
        let message = "expected the path of a file after `sqlite://`, without options";
        return value.refuse(value.mistake(message));
    }
    Some(StorePlace::File(value.context.base_dir.join(path)))
}

fn postgres(value: &Value<'_>, url: &str) -> Option<PostgresSpec> {
    match PostgresSpec::parse(url) {
        Ok(spec) => Some(spec),
        Err(error) => {
            let mistake = value.mistake(error.message);
            value.refuse(match error.help {
                Some(help) => mistake.help(help),
                None => mistake,
            })
        }
    }
}

fn prefix(value: &Value<'_>) -> Option<String> {
    const LONGEST: usize = 32;
    let text = value.text("a prefix such as `kw_live`")?;
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if text.len() <= LONGEST && text.bytes().all(plain) {
        return Some(text.to_owned());
    }
    value.refuse(value.mistake("expected 1 to 32 lower-case letters, digits and `_`, such as `kw_live`"))
}

impl Cache {
    fn read(section: &Section<'_>) -> Self {
        Self {
            ttl: section.field("ttl", timeout),
            negative_ttl: section.field("negative_ttl", timeout),
            max_entries: section.field("max_entries", |value| value.count(1..=10_000_000)),
            refresh_ahead: section.field("refresh_ahead", Value::boolean),
            // Zero is no missing bound here: it is off.
            stale_if_error: section.field("stale_if_error", |value| value.duration(Duration::ZERO..=DAY)),
        }
    }
}

impl AuthFailures {
    fn read(section: &Section<'_>) -> Self {
        Self { requests: section.field("requests", requests), per: section.field("per", window) }
    }
}

/// How many requests a bucket grants or holds.
pub(super) fn requests(value: &Value<'_>) -> Option<u64> {
    value.count(1..=MAX_REQUESTS)
}

/// The time in which a bucket is refilled.
pub(super) fn window(value: &Value<'_>) -> Option<Duration> {
    value.duration(Duration::from_millis(1)..=YEAR)
}
