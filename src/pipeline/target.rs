//! Where a request wants to go: one host, one canonical path.

use std::borrow::Cow;

use http::header::{self, HeaderMap, HeaderValue};
use http::uri::{Authority, PathAndQuery};
use http::{Method, Uri, Version, request};

use super::Refusal;
use crate::policy::{BadPath, canonical_path};

/// Settles the request's host and path (RFC 9112 §3.2, §3.2.2): afterwards the URI is in origin form with the
/// canonical path, and `Host` is what the client asked for. Returns the host without port.
pub(super) fn settle(parts: &mut request::Parts) -> Result<Option<String>, Refusal> {
    if parts.method == Method::CONNECT {
        return Err(Refusal::BadPath(BadPath::NotAbsolute));
    }
    let host = host(parts)?;
    let path = canonical_path(parts.uri.path()).map_err(Refusal::BadPath)?;
    let settled = match (&path, parts.uri.authority()) {
        (Cow::Borrowed(_), None) => None,
        (path, _) => Some(match parts.uri.query() {
            Some(query) => format!("{path}?{query}"),
            None => path.clone().into_owned(),
        }),
    };
    if let Some(target) = settled {
        let target = PathAndQuery::try_from(target).map_err(|_| Refusal::BadPath(BadPath::NotAbsolute))?;
        parts.uri = Uri::from(target);
    }
    Ok(host)
}

fn host(parts: &mut request::Parts) -> Result<Option<String>, Refusal> {
    if let Some(authority) = parts.uri.authority() {
        // The absolute form wins over whatever `Host` says.
        let value = HeaderValue::from_str(authority.as_str()).map_err(|_| Refusal::BadHost)?;
        let host = hostname(authority)?;
        parts.headers.insert(header::HOST, value);
        return Ok(Some(host));
    }
    match one_host(&parts.headers)? {
        Some(value) => {
            let authority = Authority::try_from(value.as_bytes()).map_err(|_| Refusal::BadHost)?;
            hostname(&authority).map(Some)
        }
        None if parts.version == Version::HTTP_10 => Ok(None),
        None => Err(Refusal::BadHost),
    }
}

fn one_host(headers: &HeaderMap) -> Result<Option<&HeaderValue>, Refusal> {
    let mut values = headers.get_all(header::HOST).iter();
    let first = values.next();
    if values.next().is_some() { Err(Refusal::BadHost) } else { Ok(first) }
}

/// No user information: it is deprecated in HTTP, and services disagree on where the host begins after it.
fn hostname(authority: &Authority) -> Result<String, Refusal> {
    if authority.as_str().contains('@') || authority.host().is_empty() {
        return Err(Refusal::BadHost);
    }
    Ok(authority.host().to_owned())
}
