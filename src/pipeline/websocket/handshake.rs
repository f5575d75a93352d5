//! The opening handshake of RFC 6455 §4, once with the client and once with the service.
//!
//! A client's offer enters before its hop-by-hop headers are taken off. Nothing of it is passed on but subprotocols and,
//! where nothing is inspected, extensions: key, version and `Connection` of both handshakes are our own, so that what a
//! client wrote there never reaches the service.

use base64ct::{Base64, Encoding};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Version, request};
use sha1::{Digest, Sha1};

use crate::pipeline::Refusal;

const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
const UPGRADE: HeaderValue = HeaderValue::from_static("Upgrade");

/// What every key is hashed with (§1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A client that asks for a WebSocket.
#[derive(Debug)]
pub(in crate::pipeline) struct Offer {
    /// What the client is to be answered, or why it is refused.
    accept: Result<HeaderValue, Fault>,
}

/// What is wrong with an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Version,
    Other(&'static str),
}

impl Offer {
    /// Reads a request as it came. `None` where it asks for nothing of the kind.
    pub(in crate::pipeline) fn read(parts: &request::Parts) -> Option<Self> {
        let headers = &parts.headers;
        let asks = parts.version == Version::HTTP_11
            && has_token(headers, header::UPGRADE, "websocket")
            && has_token(headers, header::CONNECTION, "upgrade");
        asks.then(|| Self { accept: judge(parts) })
    }

    /// The offer, if it may be taken.
    pub(in crate::pipeline) fn check(self) -> Result<HeaderValue, Refusal> {
        self.accept.map_err(|fault| match fault {
            Fault::Version => Refusal::WebSocketVersion,
            Fault::Other(why) => Refusal::BadWebSocket(why),
        })
    }
}

fn judge(parts: &request::Parts) -> Result<HeaderValue, Fault> {
    let headers = &parts.headers;
    if parts.method != Method::GET {
        return Err(Fault::Other("a handshake is a GET"));
    }
    let length = headers.get(header::CONTENT_LENGTH).is_some_and(|length| length.as_bytes() != b"0");
    if length || headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(Fault::Other("a handshake has no body"));
    }
    match only(headers, header::SEC_WEBSOCKET_VERSION) {
        Some(version) if version.as_bytes().trim_ascii() == b"13" => {}
        _ => return Err(Fault::Version),
    }
    let Some(key) = only(headers, header::SEC_WEBSOCKET_KEY).and_then(|key| key.to_str().ok()) else {
        return Err(Fault::Other("exactly one Sec-WebSocket-Key is required"));
    };
    let key = key.trim();
    let mut bytes = [0; 18];
    match Base64::decode(key, &mut bytes) {
        Ok(bytes) if bytes.len() == 16 => Ok(accept(key)),
        _ => Err(Fault::Other("Sec-WebSocket-Key is not 16 bytes in base64")),
    }
}

/// What the service must answer.
#[derive(Debug)]
pub(super) struct Expected {
    accept: HeaderValue,
    protocols: Vec<Box<str>>,
    /// Names of extensions that were offered.
    extensions: Vec<Box<str>>,
}

/// Turns the headers of a request, stripped before, into those of a handshake with the service.
///
/// `key` is random. Extensions are offered only where nothing is inspected: what they do to messages is not undone here.
pub(super) fn ask(headers: &mut HeaderMap, key: [u8; 16], inspected: bool) -> Expected {
    if inspected {
        headers.remove(header::SEC_WEBSOCKET_EXTENSIONS);
    }
    let list = |name| -> Vec<Box<str>> {
        let items = items(headers, name).map(|item| item.split(';').next().unwrap_or_default().trim());
        items.filter(|item| !item.is_empty()).map(Box::from).collect()
    };
    let (protocols, extensions) = (list(header::SEC_WEBSOCKET_PROTOCOL), list(header::SEC_WEBSOCKET_EXTENSIONS));
    let key = Base64::encode_string(&key);
    headers.remove(header::SEC_WEBSOCKET_ACCEPT);
    headers.insert(header::CONNECTION, UPGRADE);
    headers.insert(header::UPGRADE, WEBSOCKET);
    headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    if let Ok(key) = HeaderValue::from_str(&key) {
        headers.insert(header::SEC_WEBSOCKET_KEY, key);
    }
    Expected { accept: accept(&key), protocols, extensions }
}

/// What both sides have agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Agreed {
    /// Extensions, which may use reserved bits.
    pub extended: bool,
}

impl Expected {
    /// Checks the head of a 101 (§4.1). The error says what is wrong with it.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<Agreed, &'static str> {
        let upgrades =
            only(headers, header::UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
        if !upgrades || !has_token(headers, header::CONNECTION, "upgrade") {
            return Err("it changed to a protocol that was not asked for");
        }
        if only(headers, header::SEC_WEBSOCKET_ACCEPT).is_none_or(|accept| accept != self.accept) {
            return Err("its Sec-WebSocket-Accept does not fit the key");
        }
        match headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().count() {
            0 => {}
            1 if items(headers, header::SEC_WEBSOCKET_PROTOCOL)
                .all(|chosen| self.protocols.iter().any(|offered| **offered == *chosen)) => {}
            _ => return Err("it chose a subprotocol that was not offered"),
        }
        let mut extended = false;
        for chosen in items(headers, header::SEC_WEBSOCKET_EXTENSIONS) {
            let name = chosen.split(';').next().unwrap_or_default().trim();
            if !self.extensions.iter().any(|offered| offered.eq_ignore_ascii_case(name)) {
                return Err("it chose an extension that was not offered");
            }
            extended = true;
        }
        Ok(Agreed { extended })
    }
}

/// Makes the service's head, stripped before, the client's: `accept` fits the key that the client sent.
pub(super) fn answer(headers: &mut HeaderMap, accept: HeaderValue) {
    headers.insert(header::CONNECTION, UPGRADE);
    headers.insert(header::UPGRADE, WEBSOCKET);
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
}

/// The proof that whoever answers has understood the key.
fn accept(key: &str) -> HeaderValue {
    let hash = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    // Base64 is visible ASCII.
    HeaderValue::from_str(&Base64::encode_string(&hash)).unwrap_or(HeaderValue::from_static(""))
}

fn only(headers: &HeaderMap, name: HeaderName) -> Option<&HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// The items of a comma-separated list, over all its lines.
fn items(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|item| !item.is_empty())
}

fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    items(headers, name).any(|item| item.eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6455 §1.3.
    #[test]
    fn the_accept_value_of_the_standard() {
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    fn offer(change: impl FnOnce(&mut request::Parts)) -> Option<Result<HeaderValue, Fault>> {
        let request = http::Request::builder()
            .header("Connection", "keep-alive, UPGRADE")
            .header("Upgrade", "h2c, WebSocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
            .body(());
        let mut parts = request.expect("a request").into_parts().0;
        change(&mut parts);
        Offer::read(&parts).map(|offer| offer.accept)
    }

    #[test]
    fn an_offer_is_taken_exactly_as_the_standard_says() {
        let set = |name: &'static str, value: &'static str| {
            move |parts: &mut request::Parts| {
                parts.headers.insert(name, HeaderValue::from_static(value));
            }
        };
        let add = |name: &'static str, value: &'static str| {
            move |parts: &mut request::Parts| {
                parts.headers.append(name, HeaderValue::from_static(value));
            }
        };
        assert_eq!(offer(|_| {}), Some(Ok(HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="))));
        assert_eq!(offer(set("connection", "close")), None, "an upgrade that Connection does not name is none");
        assert_eq!(offer(set("upgrade", "h2c")), None);
        assert_eq!(offer(|parts| parts.version = Version::HTTP_10), None);
        assert_eq!(offer(set("sec-websocket-version", "8")), Some(Err(Fault::Version)));
        assert_eq!(offer(add("sec-websocket-version", "13")), Some(Err(Fault::Version)));
        for wrong in ["dGhlIHNhbXBsZSBub25j", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZSE=", "!", ""] {
            assert!(matches!(offer(set("sec-websocket-key", wrong)), Some(Err(Fault::Other(_)))), "{wrong}");
        }
        assert!(matches!(offer(add("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")), Some(Err(Fault::Other(_)))));
        assert!(matches!(offer(set("content-length", "1")), Some(Err(Fault::Other(_)))));
        assert!(matches!(offer(set("transfer-encoding", "chunked")), Some(Err(Fault::Other(_)))));
        assert!(matches!(offer(|parts| parts.method = Method::POST), Some(Err(Fault::Other(_)))));
    }

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_service_must_answer_what_was_asked() {
        let offered = [
            ("sec-websocket-protocol", "chat, superchat"),
            ("sec-websocket-extensions", "permessage-deflate; client_max_window_bits"),
        ];
        let mut headers = map(&offered);
        let open = ask(&mut headers, [1; 16], false);
        assert_eq!(headers["sec-websocket-extensions"], offered[1].1);
        let inspected = ask(&mut headers, [1; 16], true);
        assert!(!headers.contains_key("sec-websocket-extensions"));
        assert_eq!(headers["sec-websocket-protocol"], offered[0].1);
        assert_eq!(headers["sec-websocket-key"], "AQEBAQEBAQEBAQEBAQEBAQ==");
        let good = || {
            let mut head = map(&[("upgrade", "WebSocket"), ("connection", "upgrade")]);
            head.insert(header::SEC_WEBSOCKET_ACCEPT, accept("AQEBAQEBAQEBAQEBAQEBAQ=="));
            head
        };
        let with = |name: &'static str, value: &'static str| {
            let mut head = good();
            head.insert(name, HeaderValue::from_static(value));
            head
        };
        assert_eq!(inspected.check(&good()), Ok(Agreed { extended: false }));
        assert_eq!(inspected.check(&with("sec-websocket-protocol", "superchat")), Ok(Agreed { extended: false }));
        let deflate = with("sec-websocket-extensions", "permessage-deflate");
        assert_eq!(open.check(&deflate), Ok(Agreed { extended: true }));
        for (head, what) in [
            (deflate, "an extension"),
            (with("sec-websocket-protocol", "other"), "another subprotocol"),
            (with("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "another key's proof"),
            (with("upgrade", "h2c"), "another protocol"),
            (with("connection", "close"), "no upgrade"),
        ] {
            assert!(inspected.check(&head).is_err(), "{what}");
        }
    }
}
