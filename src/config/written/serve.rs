//! `keys.serve`: the key service, and who may use it.

use super::named_entries;
use super::process::{address, tls};
use crate::config::address::Address;
use crate::config::field::{At, Field, Spot};
use crate::config::secret::secret;
use crate::config::section::{Keys, Section};
use crate::config::value::Value;
use crate::key_service::{AdminToken, Scope};
use crate::listener::TlsSpec;

pub(super) const SERVE: Keys = Keys { known: &["address", "tls", "tokens", "max_connections"], later: &[] };
pub(super) const TOKEN: Keys = Keys { known: &["token", "sha256", "scopes"], later: &[] };

pub(crate) struct Serve {
    pub address: Field<Address>,
    pub tls: Field<TlsSpec>,
    /// A token that is broken is `None`.
    pub tokens: Field<Vec<(Spot, Option<AdminToken>)>>,
    pub max_connections: Field<u64>,
}

impl Serve {
    pub fn read(section: &Section<'_>) -> Self {
        Self {
            address: section.required("address", address),
            tls: section.field("tls", tls),
            tokens: section.required("tokens", tokens),
            max_connections: section.field("max_connections", |value| value.count(1..=100_000)),
        }
    }
}

fn tokens(value: &Value<'_>) -> Option<Vec<(Spot, Option<AdminToken>)>> {
    let named = named_entries(value, token)?;
    if named.is_empty() {
        let help = "write `tokens: {sidecars: {token: {file: PATH}, scopes: [verify:api_keys]}}`";
        return value.refuse(value.mistake("without a token nobody could use the service").help(help));
    }
    Some(named.into_iter().map(|(name, token)| (name.spot, token)).collect())
}

fn token(name: &str, value: &Value<'_>) -> Option<AdminToken> {
    let section = Section::open(value, &TOKEN)?;
    let scopes = section.required("scopes", scopes);
    let secret = section.field("token", |value| secret(value).map(|secret| At { value: secret, spot: value.spot() }));
    let digest = section.field("sha256", |value| {
        let text = value.text("the SHA-256 of a token in hex")?;
        Some(At { value: text.to_owned(), spot: value.spot() })
    });
    match (&secret, &digest) {
        (Field::Broken, _) | (_, Field::Broken) => return None,
        (Field::Missing, Field::Missing) => {
            let help = "write `token: {file: PATH}`, or `sha256: HEX` as `keyward keys token` shows it";
            return value.refuse(value.mistake("the token is missing").help(help));
        }
        (Field::Given(_), Field::Given(at)) => {
            return value.refuse(at.spot.mistake("`token` is given, so `sha256` would mean nothing"));
        }
        _ => {}
    }
    let scopes = scopes.given()?;
    let (made, spot) = match (secret.given(), digest.given()) {
        (Some(secret), _) => (AdminToken::of_secret(name, &secret.value, scopes), secret.spot),
        (None, Some(digest)) => (AdminToken::of_digest(name, &digest.value, scopes), digest.spot),
        (None, None) => return None,
    };
    match made {
        Ok(token) => Some(token),
        Err(error) => value.refuse(spot.mistake(error.to_string())),
    }
}

fn scopes(value: &Value<'_>) -> Option<Vec<Scope>> {
    let scopes = value.set(|value| value.word(&Scope::ALL))?;
    if scopes.is_empty() {
        return value.refuse(value.mistake("a token without a scope could do nothing"));
    }
    Some(scopes.into_iter().map(|scope| scope.value).collect())
}
