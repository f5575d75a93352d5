//! `cors`, `allow_from` and `client_cert` of a route, and of what has none.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::header::{self, HeaderName};

use super::Compiler;
use crate::config::field::{At, Field};
use crate::config::written::{Defaults, RouteCors};
use crate::policy::{Cors, Gatekeeper, Methods, Origins, Place};

/// How long a browser remembers an answer.
const MAX_AGE: Duration = Duration::from_secs(600);

impl Compiler<'_> {
    /// Who may come at all. `own` is a route's part, or the defaults alone where no route is.
    pub(super) fn gatekeeper(&self, own: &Defaults) -> Gatekeeper {
        let addresses = own.allow_from.over(&self.defaults.allow_from).given();
        let certificates = own.client_cert.over(&self.defaults.client_cert);
        if let Field::Given(given) = &certificates
            && !self.asks_for_certificates
        {
            let message = "no client is asked for a certificate, so nobody could have one of these names";
            self.findings.add(given.spot.mistake(message).help("add `client_ca` to `listen.tls`"));
        }
        Gatekeeper {
            addresses: addresses.map(|list| list.into_iter().map(|network| network.value).collect()),
            certificates: certificates.given().map(Arc::from),
        }
    }

    /// What browsers are told.
    pub(super) fn cors(&self, own: &Defaults, methods: &Methods, credentials: &[Place]) -> Option<Arc<Cors>> {
        let RouteCors::On(written) = own.cors.over(&self.defaults.cors).given()? else { return None };
        let origins = written.origins.clone().given()?;
        let with_credentials = written.credentials.clone().or(false);
        if origins == Origins::Any && with_credentials {
            let message = "`credentials` with every origin would let any website act as its visitors";
            let spot = written.credentials.spot().unwrap_or(&written.spot);
            self.findings.add(spot.mistake(message).help("list the origins, or remove `credentials`"));
        }
        let listed = match written.methods.clone().given() {
            Some(list) => Methods::new(list.into_iter().map(|method| method.value).collect()),
            None => methods.clone(),
        };
        let expose = match written.expose.clone().given() {
            Some(list) => plain(list),
            None => vec![crate::headers::names::REQUEST_ID, header::RETRY_AFTER],
        };
        let headers = match written.headers.clone().given() {
            Some(list) => plain(list),
            None => used(credentials),
        };
        Some(Arc::new(Cors {
            origins,
            methods: match listed {
                Methods::Any => None,
                Methods::Listed(_) => HeaderValue::from_str(&listed.to_string()).ok(),
            },
            headers: value(&headers),
            expose: Some(value(&expose)).filter(|value| !value.is_empty()),
            credentials: with_credentials,
            max_age: HeaderValue::from(written.max_age.clone().or(MAX_AGE).as_secs()),
        }))
    }
}

fn plain(list: Vec<At<HeaderName>>) -> Vec<HeaderName> {
    list.into_iter().map(|name| name.value).collect()
}

/// What a client of this route has to send.
fn used(credentials: &[Place]) -> Vec<HeaderName> {
    let places = credentials.iter().map(|place| match place {
        Place::Bearer => header::AUTHORIZATION,
        Place::Header(name) => name.clone(),
    });
    places.chain([header::CONTENT_TYPE]).collect()
}

/// Names are tokens, so their list is a value.
fn value(names: &[HeaderName]) -> HeaderValue {
    let names: Vec<&str> = names.iter().map(HeaderName::as_str).collect();
    HeaderValue::from_str(&names.join(", ")).unwrap_or_else(|_| HeaderValue::from_static(""))
}
