//! One request in two spellings.

use http::header::{self, HeaderName, HeaderValue};
use http::uri::{Authority, Parts, PathAndQuery, Scheme};
use http::{HeaderMap, Request, Uri, Version};
use http_body::Body;

use super::RequestBody;
use super::member::{Member, Speaks};
use crate::policy::{Endpoint, Http2, Upstream};

/// What HTTP/2 has no place for (RFC 9113 §8.2.2).
const OF_HTTP1: [HeaderName; 5] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Whether connections to `member` are probably shared.
pub(super) fn is_likely(upstream: &Upstream, member: &Member) -> bool {
    upstream.http2 == Http2::Always || member.speaks() == Speaks::Http2
}

/// Spells a request for the connection that it goes on. Either spelling may come in: a request that was not sent may
/// be sent on another connection.
pub(super) fn spell(request: &mut Request<RequestBody>, http2: bool, endpoint: &Endpoint) {
    match (http2, request.version() == Version::HTTP_2) {
        (true, false) => for_http2(request, endpoint),
        (false, true) => for_http1(request),
        _ => {}
    }
}

/// The host goes from its header into the URI (§8.3.1). The client library hears nothing of HTTP/2 before an answer, so
/// nobody waits for a 100.
fn for_http2(request: &mut Request<RequestBody>, endpoint: &Endpoint) {
    *request.version_mut() = Version::HTTP_2;
    request.body().ask_for_it();
    let headers = request.headers_mut();
    let host = headers.remove(header::HOST);
    OF_HTTP1.iter().for_each(|name| drop(headers.remove(name)));
    keep_trailers_only(headers);
    headers.remove(header::EXPECT);
    let named = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let scheme = if endpoint.is_tls() { Scheme::HTTPS } else { Scheme::HTTP };
    let path = request.uri().path_and_query().cloned();
    if let Some(authority) = named.or_else(|| endpoint.authority().parse().ok()) {
        set_uri(request, Some((scheme, authority)), path);
    }
}

fn for_http1(request: &mut Request<RequestBody>) {
    *request.version_mut() = Version::HTTP_11;
    let uri = request.uri().clone();
    if let Some(host) = uri.authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok()) {
        request.headers_mut().insert(header::HOST, host);
    }
    set_uri(request, None, uri.path_and_query().cloned());
    if request.body().size_hint().exact().is_none() {
        request.headers_mut().insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// `TE` may say only that trailers are welcome.
fn keep_trailers_only(headers: &mut HeaderMap) {
    if headers.get(header::TE).is_some_and(|te| !te.as_bytes().eq_ignore_ascii_case(b"trailers")) {
        headers.remove(header::TE);
    }
}

fn set_uri(request: &mut Request<RequestBody>, to: Option<(Scheme, Authority)>, path: Option<PathAndQuery>) {
    let (scheme, authority) = to.unzip();
    let mut parts = Parts::default();
    parts.scheme = scheme;
    parts.authority = authority;
    parts.path_and_query = Some(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    // Parts that came from URIs make one.
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn the_spelling_changes_and_the_request_does_not() {
        let endpoint = Endpoint::Tcp { tls: true, host: "model.internal".into(), port: 443 };
        let mut request = Request::post("/chat?a=b").body(RequestBody::held_bytes(Bytes::new())).expect("a request");
        for (name, value) in [
            ("host", "ai.example:8443"),
            ("transfer-encoding", "chunked"),
            ("connection", "close"),
            ("keep-alive", "5"),
            ("te", "gzip, trailers"),
            ("x-org-code", "a"),
        ] {
            request.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        spell(&mut request, true, &endpoint);
        assert_eq!(request.uri(), "https://ai.example:8443/chat?a=b");
        assert_eq!(request.headers().keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-org-code"]);
        spell(&mut request, true, &endpoint);
        assert_eq!(request.uri(), "https://ai.example:8443/chat?a=b");
        spell(&mut request, false, &endpoint);
        assert_eq!((request.uri().to_string().as_str(), request.version()), ("/chat?a=b", Version::HTTP_11));
        assert_eq!(request.headers()["host"], "ai.example:8443");

        request.headers_mut().insert("te", HeaderValue::from_static("Trailers"));
        request.headers_mut().insert("host", HeaderValue::from_static("not a host"));
        spell(&mut request, true, &endpoint);
        assert_eq!(request.uri(), "https://model.internal:443/chat?a=b");
        assert_eq!(request.headers()["te"], "Trailers");
    }
}
