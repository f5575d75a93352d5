//! What browsers ask before they let a script read an answer, and what they are told.

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode, request, response};

use super::{Pipeline, Refusal, exchange::Exchange, target};
use crate::headers::{Provenance, names};
use crate::policy::{Cors, Matched, Origins, Policy};

/// The one origin that a request comes from.
pub(super) fn origin(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut values = headers.get_all(header::ORIGIN).iter();
    let first = values.next().cloned();
    if values.next().is_some() { None } else { first }
}

impl Pipeline {
    /// Answers the question that a browser asks first, which carries no key: whether a script may send a request like
    /// the one that it describes. `None`: this is no such question, or not one for us.
    pub(super) fn preflight(
        &self,
        policy: &Policy,
        parts: &mut request::Parts,
        provenance: &Provenance,
        certificate: &[Box<str>],
        exchange: &mut Exchange,
    ) -> Result<Option<response::Parts>, Refusal> {
        if parts.method != Method::OPTIONS {
            return Ok(None);
        }
        let Some(origin) = origin(&parts.headers) else { return Ok(None) };
        let wanted = parts.headers.get(header::ACCESS_CONTROL_REQUEST_METHOD);
        let Some(method) = wanted.and_then(|method| Method::from_bytes(method.as_bytes()).ok()) else {
            return Ok(None);
        };
        let host = target::settle(parts)?;
        let Matched::Route(route) = policy.routes.find(host.as_deref(), &method, parts.uri.path()) else {
            return Ok(None);
        };
        let Some(cors) = &route.cors else { return Ok(None) };
        exchange.route = Some(std::sync::Arc::clone(route));
        route.gatekeeper.check(provenance.client, certificate)?;
        if !cors.origins.allow(&origin) {
            return Err(Refusal::OriginNotAllowed);
        }
        let mut head = http::Response::new(()).into_parts().0;
        head.status = StatusCode::NO_CONTENT;
        let headers = &mut head.headers;
        let methods = cors.methods.clone().or_else(|| HeaderValue::from_str(method.as_str()).ok());
        if let Some(methods) = methods {
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
        }
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, cors.headers.clone());
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, cors.max_age.clone());
        headers.insert(names::REQUEST_ID, exchange.request_id.clone());
        exchange.answered(head.status.as_u16(), None);
        Ok(Some(head))
    }
}

/// Tells a browser whether scripts of `origin` may read this answer, whatever the service says about it.
pub(super) fn stamp(headers: &mut HeaderMap, cors: &Cors, origin: Option<&HeaderValue>) {
    for name in [
        header::ACCESS_CONTROL_ALLOW_ORIGIN,
        header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
    ] {
        headers.remove(name);
    }
    if cors.origins != Origins::Any {
        // For caches: another origin gets another answer, and so does a request without one.
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
    let Some(origin) = origin.filter(|origin| cors.origins.allow(origin)) else { return };
    let allowed = match cors.origins {
        Origins::Any => HeaderValue::from_static("*"),
        Origins::Listed(_) => origin.clone(),
    };
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
    if cors.credentials {
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    if let Some(expose) = &cors.expose {
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
    }
}
