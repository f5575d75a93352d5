//! Calls of gRPC: how long they may take, and how they end.

use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};

/// What a message of gRPC over HTTP/2 declares itself to be.
const CONTENT_TYPE: &[u8] = b"application/grpc";

/// Longer than any call lasts; a client may name thousands of years.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);

const DEADLINE_EXCEEDED: u8 = 4;

/// Whether a message belongs to a call of gRPC over HTTP/2. gRPC-Web, which browsers speak, is another protocol.
pub(super) fn is_call(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    let (name, rest) = content_type.split_at(content_type.len().min(CONTENT_TYPE.len()));
    name.eq_ignore_ascii_case(CONTENT_TYPE) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
}

/// How long the client waits for the end of the call (`grpc-timeout`): at most eight digits and a unit.
pub(super) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count = digits.parse::<u64>().ok()?;
    let wait = match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    };
    Some(wait.min(LONGEST))
}

/// The status of gRPC that says the same as a refusal.
pub(super) fn status(status: StatusCode, code: &str) -> u8 {
    const INVALID_ARGUMENT: u8 = 3;
    const PERMISSION_DENIED: u8 = 7;
    const RESOURCE_EXHAUSTED: u8 = 8;
    const UNIMPLEMENTED: u8 = 12;
    const INTERNAL: u8 = 13;
    const UNAVAILABLE: u8 = 14;
    const UNAUTHENTICATED: u8 = 16;
    match status.as_u16() {
        401 => UNAUTHENTICATED,
        403 => PERMISSION_DENIED,
        404 | 405 => UNIMPLEMENTED,
        408 | 504 => DEADLINE_EXCEEDED,
        413 | 429 => RESOURCE_EXHAUSTED,
        400..=499 => INVALID_ARGUMENT,
        503 => UNAVAILABLE,
        // It was never reached, so a client may try again.
        502 if code == "UPSTREAM_UNREACHABLE" => UNAVAILABLE,
        _ => INTERNAL,
    }
}

/// The fields that end a call.
pub(super) fn end(status: u8, message: &str) -> HeaderMap {
    let mut end = HeaderMap::new();
    end.insert(HeaderName::from_static("grpc-status"), HeaderValue::from(u16::from(status)));
    if let Ok(message) = HeaderValue::from_str(&escaped(message)) {
        end.insert(HeaderName::from_static("grpc-message"), message);
    }
    end
}

/// A response that is nothing but the end of its call.
pub(super) fn trailers_only(end: HeaderMap) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.headers_mut() = end;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// The fields that end a call whose client has stopped waiting.
pub(super) fn end_late() -> HeaderMap {
    end(DEADLINE_EXCEEDED, "The deadline of the call is over")
}

/// `Percent-Encoded` as gRPC defines it: space to tilde as they are, but for the percent sign.
fn escaped(message: &str) -> String {
    let mut text = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b'%' | 0..b' ' | 0x7f.. => {
                // Writing to a string cannot fail.
                let _ = write!(text, "%{byte:02X}");
            }
            plain => text.push(char::from(plain)),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))])
    }

    #[test]
    fn what_a_call_is() {
        for yes in ["application/grpc", "application/grpc+proto", "Application/GRPC; x=y"] {
            assert!(is_call(&map("content-type", yes)), "{yes}");
        }
        for no in ["application/grpc-web", "application/grpcx", "application/json", "application/grp", ""] {
            assert!(!is_call(&map("content-type", no)), "{no}");
        }
        assert!(!is_call(&HeaderMap::new()));
    }

    #[test]
    fn timeouts() {
        let read = |text| timeout(&map("grpc-timeout", text));
        assert_eq!(read("100m"), Some(Duration::from_millis(100)));
        assert_eq!(read("2S"), Some(Duration::from_secs(2)));
        assert_eq!(read("99999999H"), Some(LONGEST));
        assert_eq!(read("7u"), Some(Duration::from_micros(7)));
        for text in ["", "m", "1", "1s", "-1m", "+1m", "1.5S", "123456789m", "1 m"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn messages_are_escaped() {
        let end = end(16, "a %\u{e9}~\n");
        assert_eq!(
            (&end["grpc-status"], &end["grpc-message"]),
            (&"16".parse().unwrap(), &"a %25%C3%A9~%0A".parse().unwrap())
        );
    }
}
