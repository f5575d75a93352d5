//! `assertion`: what signs who the caller is.

use std::time::Duration;

use http::HeaderName;

use super::name;
use crate::assertion::{Algorithm, Key};
use crate::config::field::{Field, Spot};
use crate::config::header_name::header_name;
use crate::config::mistake::quoted;
use crate::config::secret::lines;
use crate::config::section::{Keys, Section};
use crate::config::value::Value;
use crate::headers::{NameClass, classify, names};

pub(super) const ASSERTION: Keys =
    Keys { known: &["header", "algorithm", "key", "key_id", "previous", "ttl", "issuer", "audience"], later: &[] };
pub(super) const PREVIOUS: Keys = Keys { known: &["key", "key_id"], later: &[] };

const ALGORITHMS: [(&str, Algorithm); 2] = [("EdDSA", Algorithm::EdDsa), ("HS256", Algorithm::Hs256)];

/// Long enough for a clock that is a little off, short enough to be worthless when it is found in a log.
const TTL: std::ops::RangeInclusive<Duration> = Duration::from_secs(30)..=Duration::from_secs(5 * 60);

/// An `assertion` section.
#[derive(Clone)]
pub(crate) struct Assertion {
    pub spot: Spot,
    pub header: Field<HeaderName>,
    pub key: NamedKey,
    pub previous: Option<NamedKey>,
    pub ttl: Field<Duration>,
    pub issuer: Field<String>,
    pub audience: Field<String>,
}

/// A key and what it is called.
#[derive(Clone)]
pub(crate) struct NamedKey {
    pub id: Field<String>,
    pub key: Field<Key>,
}

/// What a route says about it.
#[derive(Clone)]
pub(crate) enum RouteAssertion {
    Off,
    /// In the place of the upstream's, as a whole.
    Own(Box<Assertion>),
}

impl Assertion {
    pub fn read(value: &Value<'_>) -> Option<Self> {
        let section = Section::open(value, &ASSERTION)?;
        let algorithm = section.field("algorithm", |value| value.word(&ALGORITHMS));
        Some(Self {
            spot: section.spot(),
            header: section.field("header", header),
            key: NamedKey::read(&section, &algorithm),
            previous: section.section("previous", &PREVIOUS, |previous| NamedKey::read(previous, &algorithm)),
            ttl: section.field("ttl", |value| value.duration(TTL)),
            issuer: section.field("issuer", claim),
            audience: section.field("audience", claim),
        })
    }
}

impl NamedKey {
    fn read(section: &Section<'_>, algorithm: &Field<Algorithm>) -> Self {
        Self {
            id: section.required("key_id", name),
            key: section.required("key", |value| {
                let text = lines(value)?;
                // What is no algorithm was told; no key can be right or wrong then.
                let algorithm = match algorithm {
                    Field::Given(algorithm) => algorithm.value,
                    Field::Missing => Algorithm::default(),
                    Field::Broken => return None,
                };
                match Key::read(algorithm, text.expose()) {
                    Ok(key) => Some(key),
                    Err(bad) => {
                        let mistake = value.mistake(bad.to_string());
                        value.refuse(match algorithm {
                            Algorithm::EdDsa => mistake.help("`openssl genpkey -algorithm ed25519` makes one"),
                            Algorithm::Hs256 => mistake.help("`openssl rand -base64 32` makes one"),
                        })
                    }
                }
            }),
        }
    }
}

impl RouteAssertion {
    pub fn read(value: &Value<'_>) -> Option<Self> {
        if value.is_map() {
            return Assertion::read(value).map(|own| Self::Own(Box::new(own)));
        }
        match value.as_text() {
            Some("off") => Some(Self::Off),
            _ => value.wrong_type("`off`, or a mapping with keys such as `key`, `key_id`"),
        }
    }
}

/// A name that is dropped from every request, so that only Keyward can set it.
fn header(value: &Value<'_>) -> Option<HeaderName> {
    let name = header_name(value)?;
    let taken = [names::ORG_CODE, names::USER_ID, names::KEY_ID, names::KEY_SCOPES];
    let reason = if classify(name.as_str()) != NameClass::Identity {
        "is not dropped from what clients send: expected a name that begins with `X-Key-`"
    } else if name.as_str().contains('_') {
        "has a `_`, which many services drop: write `-`"
    } else if taken.contains(&name) {
        "already says something else"
    } else {
        return Some(name);
    };
    value.refuse(value.mistake(format!("{} {reason}", quoted(name.as_str()))))
}

fn claim(value: &Value<'_>) -> Option<String> {
    value.text("a text").map(str::to_owned)
}
