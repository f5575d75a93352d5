//! The request as it is sent to the service.

use std::sync::Arc;

use http::header::{self, HeaderValue};
use http::{Request, Uri, Version, request};
use http_body::Body;

use super::grpc;
use crate::headers::{Announced, Way};
use crate::policy::Route;
use crate::upstream::{GoAhead, RequestBody};

const CONTINUE: &str = "100-continue";

/// What a client says of the way in which its message is sent; it goes with the hop-by-hop headers.
#[derive(Debug)]
pub(super) struct Asked {
    trailers: Announced,
    /// Whether it sends its body only when it is asked for.
    waits: bool,
    is_grpc: bool,
}

impl Asked {
    pub(super) fn read(parts: &request::Parts) -> Self {
        let expects = parts.headers.get(header::EXPECT);
        // A client of HTTP/1.0 means nothing by it (RFC 9110 §10.1.1); the server side of HTTP/2 cannot ask.
        let waits = parts.version == Version::HTTP_11
            && expects.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(CONTINUE.as_bytes()));
        Self {
            trailers: Announced::read(&parts.headers),
            waits,
            is_grpc: parts.version == Version::HTTP_2 && grpc::is_call(&parts.headers),
        }
    }

    /// The request in HTTP/1.1: the canonical path, the final headers. `Some`: its body leaves when the service asks
    /// for it.
    pub(super) fn outgoing(
        &self,
        parts: &mut request::Parts,
        mut body: RequestBody,
        route: &Route,
    ) -> (Request<RequestBody>, Option<Arc<GoAhead>>) {
        let headers = &mut parts.headers;
        if !headers.contains_key(header::HOST) {
            // An HTTP/1.0 client may leave it out; HTTP/1.1 may not.
            if let Ok(host) = HeaderValue::from_str(&route.upstream.authority()) {
                headers.insert(header::HOST, host);
            }
        }
        if body.size_hint().exact().is_none() {
            // Said in words: for methods that seldom have a body, the client library would leave it out.
            headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            let trailer = self.trailers.passed_on(&route.trailers, Way::Request);
            if let Some(trailer) = trailer.filter(|_| body.may_have_trailers()) {
                headers.insert(header::TRAILER, trailer);
            }
        }
        if self.trailers.takes && (self.is_grpc || !route.trailers.is_empty()) {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
            headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
        }
        let go_ahead = if self.waits { body.wait_for_service() } else { None };
        let mut request = Request::new(body);
        *request.method_mut() = parts.method.clone();
        *request.uri_mut() = std::mem::replace(&mut parts.uri, Uri::from_static("/"));
        *request.headers_mut() = std::mem::take(&mut parts.headers);
        if let Some(go_ahead) = &go_ahead {
            request.headers_mut().insert(header::EXPECT, HeaderValue::from_static(CONTINUE));
            let go_ahead = Arc::clone(go_ahead);
            hyper::ext::on_informational(&mut request, move |response| {
                if response.status() == http::StatusCode::CONTINUE {
                    go_ahead.open();
                }
            });
        }
        (request, go_ahead)
    }
}
