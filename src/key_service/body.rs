//! Bodies: read within bounds, wiped where they may hold a key.

use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use zeroize::Zeroizing;

use super::problem::Problem;

/// Far more than the largest key that can be made.
pub(super) const MAX_BODY: usize = 128 << 10;

/// A body this small comes at once.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A list of keys to be imported: some twenty thousand of them.
pub const MAX_LIST: usize = 4 << 20;
const LIST_TIMEOUT: Duration = Duration::from_secs(60);

/// How such a list is written.
pub(super) const LIST_TYPES: [&str; 2] = ["application/x-ndjson", "text/csv"];

/// Reads a whole body of the type `expected`. No copy of it is left behind.
pub(super) async fn read<B: Body<Data = Bytes> + Unpin>(
    headers: &HeaderMap,
    body: B,
    expected: &'static str,
) -> Result<Zeroizing<Vec<u8>>, Problem> {
    expect_type(headers, &[expected])?;
    read_any(body).await
}

/// Reads a whole list of keys. They should be hashes, but whoever is mistaken sends the keys themselves.
pub(super) async fn read_list<B: Body<Data = Bytes> + Unpin>(
    headers: &HeaderMap,
    body: B,
) -> Result<Zeroizing<Vec<u8>>, Problem> {
    expect_type(headers, &LIST_TYPES)?;
    bounded(body, MAX_LIST, LIST_TIMEOUT).await
}

/// Reads a whole body, whatever its type.
pub(super) async fn read_any<B: Body<Data = Bytes> + Unpin>(body: B) -> Result<Zeroizing<Vec<u8>>, Problem> {
    bounded(body, MAX_BODY, TIMEOUT).await
}

async fn bounded<B: Body<Data = Bytes> + Unpin>(
    body: B,
    most: usize,
    time: Duration,
) -> Result<Zeroizing<Vec<u8>>, Problem> {
    let slow = || Problem::new(StatusCode::REQUEST_TIMEOUT, "REQUEST_TIMEOUT", "the body took too long");
    tokio::time::timeout(time, collect(body, most)).await.unwrap_or_else(|_| Err(slow()))
}

async fn collect<B: Body<Data = Bytes> + Unpin>(mut body: B, most: usize) -> Result<Zeroizing<Vec<u8>>, Problem> {
    let large = || {
        let message = format!("a body has at most {most} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", message)
    };
    // Never grown: growing would leave a copy behind.
    let room = match body.size_hint().exact() {
        Some(length) => usize::try_from(length).ok().filter(|&length| length <= most).ok_or_else(large)?,
        None => most,
    };
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Problem::bad("BODY_INCOMPLETE", "the body broke off"))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > room {
            return Err(large());
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

fn expect_type(headers: &HeaderMap, expected: &[&str]) -> Result<(), Problem> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let given = given.split(';').next().unwrap_or_default().trim();
    if expected.iter().any(|expected| given.eq_ignore_ascii_case(expected)) {
        return Ok(());
    }
    let message = format!("the body must be `Content-Type: {}`", expected.join("` or `"));
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", message))
}

/// An answer in JSON. Nothing here may be kept by a cache on the way.
pub(super) fn of_json(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    of_bytes(status, Bytes::from(body.to_string()))
}

/// An answer whose JSON holds a secret; wiped when it has been sent.
pub(super) fn of_secret_json(status: StatusCode, body: Zeroizing<Vec<u8>>) -> Response<Full<Bytes>> {
    of_bytes(status, Bytes::from_owner(Wiped(body)))
}

fn of_bytes(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Lets a wiped buffer own a [`Bytes`].
struct Wiped(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
