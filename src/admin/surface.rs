//! The endpoints.

use std::convert::Infallible;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Full, Limited};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Deserialize;
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::Readiness;
use crate::auth::{Authenticator, Purge};
use crate::observe::Metrics;
use crate::pipeline::Pipeline;
use crate::policy::SecretString;

/// Who may ask.
#[derive(Clone, Debug)]
pub enum Access {
    Anyone,
    /// `Authorization: Bearer TOKEN`.
    Token(SecretString),
}

/// Probes and scrapes are few; more connections than this are somebody's mistake.
const MAX_CONNECTIONS: usize = 64;

/// Short, so that silent connections cannot keep a probe waiting.
const HEADER_TIMEOUT: Duration = Duration::from_secs(1);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// More than any request to the admin API has.
const MAX_BODY: usize = 4096;

/// What a listener answers with.
#[derive(Clone, Debug)]
pub struct Answers {
    pub access: Access,
    pub readiness: Readiness,
    pub metrics: Arc<Metrics>,
    /// Whose cache may be purged here; nobody's on the health listener.
    pub auth: Option<Authenticator>,
    /// Whose policy names the keys of `/jwks.json`; nobody's where that is not told.
    /// Weak: an open admin connection must not keep the pipeline, and with it the usage writer, from ending.
    pub keys: Option<Weak<Pipeline>>,
}

/// Answers on `listener` until it is dropped.
pub async fn serve(listener: TcpListener, answers: Answers) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let answers = Arc::new(answers);
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::error!(%error, "cannot accept a connection on the admin or health listener");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let answers = Arc::clone(&answers);
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                let answers = Arc::clone(&answers);
                async move { Ok::<_, Infallible>(answers.answer(request).await) }
            });
            // A client that goes away is no concern of ours.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            drop(slot);
        });
    }
}

impl Answers {
    async fn answer<B: Body<Error: Into<BoxError>>>(&self, request: Request<B>) -> Response<Full<Bytes>> {
        if !is_allowed(&request, &self.access) {
            let mut response = text(StatusCode::UNAUTHORIZED, "the admin token is required\n");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return response;
        }
        if let (Some(auth), "/cache/purge") = (&self.auth, request.uri().path()) {
            return purge(request, auth).await;
        }
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return only("GET, HEAD");
        }
        match request.uri().path() {
            "/livez" => text(StatusCode::OK, "ok\n"),
            "/readyz" => {
                let (ready, detail) = self.readiness.report();
                let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                of_type("application/json", status, detail)
            }
            "/metrics" => match self.metrics.render() {
                Ok(text) => of_type("text/plain; version=0.0.4", StatusCode::OK, text),
                Err(error) => {
                    tracing::error!(%error, "cannot render metrics");
                    text(StatusCode::INTERNAL_SERVER_ERROR, "cannot render metrics; see the log\n")
                }
            },
            "/jwks.json" if let Some(pipeline) = self.keys.as_ref().and_then(Weak::upgrade) => {
                of_type("application/jwk-set+json", StatusCode::OK, pipeline.key_set())
            }
            _ => text(StatusCode::NOT_FOUND, "try /livez, /readyz or /metrics\n"),
        }
    }
}

/// `POST /cache/purge` with `{"key_id": …}`, `{"org_code": …}` or `{"all": true}`.
async fn purge<B: Body<Error: Into<BoxError>>>(request: Request<B>, auth: &Authenticator) -> Response<Full<Bytes>> {
    if request.method() != Method::POST {
        return only("POST");
    }
    let read = Limited::new(request.into_body(), MAX_BODY).collect();
    let body = match tokio::time::timeout(HEADER_TIMEOUT, read).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) | Err(_) => return text(StatusCode::BAD_REQUEST, "the body is too long, too slow, or broke off\n"),
    };
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        key_id: Option<String>,
        org_code: Option<String>,
        all: Option<bool>,
    }
    let purge = match serde_json::from_slice(&body) {
        Ok(Wanted { key_id: Some(id), org_code: None, all: None }) => Purge::KeyId(id),
        Ok(Wanted { key_id: None, org_code: Some(org), all: None }) => Purge::Organization(org),
        Ok(Wanted { key_id: None, org_code: None, all: Some(true) }) => Purge::All,
        Ok(_) | Err(_) => {
            let expected = "expected {\"key_id\": \"…\"}, {\"org_code\": \"…\"} or {\"all\": true}\n";
            return text(StatusCode::BAD_REQUEST, expected);
        }
    };
    auth.purge(&purge);
    // What was asked for stays out of the log: somebody may have put a key where an id belongs.
    let what = match purge {
        Purge::All => "all keys",
        Purge::KeyId(_) => "a key",
        Purge::Organization(_) => "an organization's keys",
    };
    tracing::info!(what, "cached keys were purged");
    of_type("application/json", StatusCode::OK, r#"{"purged":true}"#)
}

fn only(methods: &'static str) -> Response<Full<Bytes>> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "not with this method\n");
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
    response
}

fn is_allowed<B>(request: &Request<B>, access: &Access) -> bool {
    let Access::Token(token) = access else { return true };
    let given = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
    let Some((scheme, given)) = given.split_at_checked(7) else { return false };
    scheme.eq_ignore_ascii_case(b"bearer ") && bool::from(given.ct_eq(token.expose().as_bytes()))
}

fn text(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    of_type("text/plain; charset=utf-8", status, text)
}

fn of_type(kind: &'static str, status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::Exposed;

    async fn ask(path: &str, token: Option<&str>, access: &Access, readiness: &Readiness) -> StatusCode {
        let mut request = Request::get(path).body(Full::new(Bytes::new())).expect("a request");
        if let Some(token) = token {
            request.headers_mut().insert("authorization", token.parse().expect("a value"));
        }
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        let answers = Answers { access: access.clone(), readiness: readiness.clone(), metrics, auth: None, keys: None };
        answers.answer(request).await.status()
    }

    #[tokio::test]
    async fn the_token_is_asked_for_before_anything_is_told() {
        let access = Access::Token(SecretString::new("s3cret".to_owned()));
        let readiness = Readiness::default();
        for path in ["/livez", "/readyz", "/metrics", "/nothing"] {
            for token in [None, Some("Bearer wrong!"), Some("Bearer s3cre"), Some("s3cret"), Some("Basic s3cret")] {
                assert_eq!(ask(path, token, &access, &readiness).await, StatusCode::UNAUTHORIZED, "{path} {token:?}");
            }
        }
        assert_eq!(ask("/livez", Some("Bearer s3cret"), &access, &readiness).await, StatusCode::OK);
        assert_eq!(ask("/nothing", Some("bearer s3cret"), &access, &readiness).await, StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn draining_takes_traffic_away_and_a_failed_reload_does_not() {
        let readiness = Readiness::default();
        readiness.reloaded(Err("2 mistakes".to_owned()));
        assert_eq!(ask("/readyz", None, &Access::Anyone, &readiness).await, StatusCode::OK);
        assert!(readiness.report().1.contains("2 mistakes"));
        readiness.exposed(vec!["ai".to_owned()]);
        assert_eq!(ask("/readyz", None, &Access::Anyone, &readiness).await, StatusCode::OK, "a warning");
        assert!(readiness.report().1.contains(r#""exposed":["ai"]"#), "{}", readiness.report().1);
        let strict = Readiness::new(Default::default(), None, Exposed::Refuse);
        assert_eq!(ask("/readyz", None, &Access::Anyone, &strict).await, StatusCode::OK);
        strict.exposed(vec!["ai".to_owned()]);
        assert_eq!(ask("/readyz", None, &Access::Anyone, &strict).await, StatusCode::SERVICE_UNAVAILABLE);
        readiness.drain();
        assert_eq!(ask("/readyz", None, &Access::Anyone, &readiness).await, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(ask("/livez", None, &Access::Anyone, &readiness).await, StatusCode::OK);
    }
}
