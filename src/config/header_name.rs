//! Header names that a file may use, and for what.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::headers::{NameClass, classify, remove_hop_by_hop};

use super::value::Value;

/// Reads a header name in any case.
pub(super) fn header_name(value: &Value<'_>) -> Option<HeaderName> {
    value.parsed("a header name", |text| {
        HeaderName::from_bytes(text.as_bytes())
            .map_err(|_| "is not a header name: letters, digits, `-` and a few marks")
    })
}

/// Why a name cannot be the operator's, if it cannot. `-` and `_` make no difference, because a service behind
/// WSGI sees none.
pub(super) fn reserved(name: &HeaderName) -> Option<&'static str> {
    let folded = folded(name);
    match classify(&folded) {
        NameClass::Identity => return Some("names the caller: only Keyward itself sets it"),
        NameClass::Interpreter => return Some("would change what the service takes for its own variables"),
        NameClass::Provenance => return Some("says where a request came from: only Keyward itself sets it"),
        NameClass::Ordinary => {}
    }
    let Ok(name) = HeaderName::from_bytes(folded.as_bytes()) else { return None };
    if is_hop_by_hop(&name) {
        return Some("belongs to one connection: only Keyward itself sets it");
    }
    const FRAMING: [HeaderName; 6] = [
        header::HOST,
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::CONTENT_ENCODING,
        header::RANGE,
        header::IF_RANGE,
    ];
    // A service that reads a body otherwise than it was inspected was not protected by the inspection.
    FRAMING.contains(&name).then_some("says how a message is to be read: only Keyward itself sets it")
}

/// The name as WSGI, and so an attacker, may spell it.
pub(super) fn folded(name: &HeaderName) -> String {
    name.as_str().replace('_', "-")
}

/// Asks the boundary itself, so that there is one list.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    let mut headers = HeaderMap::new();
    headers.insert(name.clone(), HeaderValue::from_static("x"));
    remove_hop_by_hop(&mut headers);
    headers.is_empty()
}
