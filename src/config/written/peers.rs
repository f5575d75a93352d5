//! `cors`, `allow_from` and `client_cert`: who may come, before any key is looked at.

use std::time::Duration;

use http::{HeaderName, Method};
use ipnet::IpNet;

use super::process::network;
use super::routes::methods;
use crate::config::field::{At, Field, Spot};
use crate::config::header_name::header_name;
use crate::config::section::{Keys, Section};
use crate::config::value::Value;
use crate::policy::{CertificateName, OriginPattern, Origins};

pub(super) const CORS: Keys =
    Keys { known: &["origins", "methods", "headers", "expose", "credentials", "max_age"], later: &[] };
pub(super) const CLIENT_CERT: Keys = Keys { known: &["san"], later: &[] };

/// Browsers forget after a day at most.
const DAY: Duration = Duration::from_secs(86_400);

/// `cors`, which a route can switch off.
#[derive(Clone)]
pub(crate) enum RouteCors {
    Off,
    On(Box<Cors>),
}

#[derive(Clone)]
pub(crate) struct Cors {
    pub spot: Spot,
    pub origins: Field<Origins>,
    pub methods: Field<Vec<At<Method>>>,
    pub headers: Field<Vec<At<HeaderName>>>,
    pub expose: Field<Vec<At<HeaderName>>>,
    pub credentials: Field<bool>,
    pub max_age: Field<Duration>,
}

impl RouteCors {
    pub fn read(value: &Value<'_>) -> Option<Self> {
        if value.as_text() == Some("off") {
            return Some(Self::Off);
        }
        if !value.is_map() {
            return value.wrong_type("`off`, or a mapping with keys such as `origins`, `headers`");
        }
        let section = Section::open(value, &CORS)?;
        Some(Self::On(Box::new(Cors {
            spot: section.spot(),
            origins: section.required("origins", origins),
            methods: section.field("methods", methods),
            headers: section.field("headers", |value| value.set(no_star)),
            expose: section.field("expose", |value| value.set(no_star)),
            credentials: section.field("credentials", Value::boolean),
            max_age: section.field("max_age", |value| value.duration(Duration::ZERO..=DAY)),
        })))
    }
}

fn origins(value: &Value<'_>) -> Option<Origins> {
    if value.as_text() == Some("*") {
        return Some(Origins::Any);
    }
    let list = value.set(|item| {
        if item.as_text() == Some("*") {
            let help = "write `origins: \"*\"` to let every website in";
            return item.refuse(item.mistake("`*` stands alone, not in a list").help(help));
        }
        item.parsed("an origin such as `https://app.example.com`", OriginPattern::parse)
    })?;
    if list.is_empty() {
        return value.refuse(value.mistake("expected at least one origin").help("write `cors: off` to have none"));
    }
    Some(Origins::Listed(list.into_iter().map(|origin| origin.value).collect()))
}

/// With credentials browsers read `*` as a name, and without them it leaves `Authorization` out: it is not what
/// anybody means.
fn no_star(value: &Value<'_>) -> Option<HeaderName> {
    let name = header_name(value)?;
    if name.as_str().contains('*') {
        return value.refuse(value.mistake("`*` does not mean every header to browsers").help("list them"));
    }
    Some(name)
}

/// Networks of which one has to hold the client's address.
pub(super) fn allow_from(value: &Value<'_>) -> Option<Vec<At<IpNet>>> {
    let list = value.set(network)?;
    if list.is_empty() {
        let help = "leave it out, or write `[0.0.0.0/0, \"::/0\"]` where `defaults` have a list";
        return value.refuse(value.mistake("an empty list would let nobody in").help(help));
    }
    Some(list)
}

/// Names of which the client's certificate has to have one.
pub(super) fn client_cert(value: &Value<'_>) -> Option<Vec<CertificateName>> {
    let section = Section::open(value, &CLIENT_CERT)?;
    let san = section.required("san", |value| {
        let list = value.set(|item| item.parsed("a name such as `client.example.com`", CertificateName::parse))?;
        if list.is_empty() { value.refuse(value.mistake("expected at least one name")) } else { Some(list) }
    });
    san.given().map(|list| list.into_iter().map(|name| name.value).collect())
}
