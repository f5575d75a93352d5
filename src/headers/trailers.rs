//! Fields behind a body (RFC 9110 §6.5): only those that a route lists, and never one that says who is calling.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::{NameClass, classify};

/// How a call of gRPC ended. They pass behind every response: without them no call has an end.
const OF_GRPC: [HeaderName; 3] = [
    HeaderName::from_static("grpc-status"),
    HeaderName::from_static("grpc-message"),
    HeaderName::from_static("grpc-status-details-bin"),
];

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Request,
    Response,
}

/// What a peer says of trailers in the head of its message. Read before the head is stripped.
#[derive(Clone, Debug, Default)]
pub struct Announced {
    /// Whether it takes trailers in return (`TE: trailers`).
    pub takes: bool,
    /// The names that it will send, where it says so.
    names: Option<Vec<HeaderName>>,
}

impl Announced {
    pub fn read(headers: &HeaderMap) -> Self {
        let tokens = |name: HeaderName| -> Vec<&[u8]> {
            let lines = headers.get_all(name).iter();
            lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii).collect()
        };
        let names = headers.contains_key(header::TRAILER).then(|| {
            let names = tokens(header::TRAILER).into_iter();
            names.filter_map(|name| HeaderName::from_bytes(name).ok()).collect()
        });
        Self { takes: tokens(header::TE).iter().any(|token| token.eq_ignore_ascii_case(b"trailers")), names }
    }

    /// The value of `Trailer` for the message as it goes on: of the announced names those that pass, or all that the
    /// route lists where none is announced. HTTP/1.1 carries no other trailers.
    pub fn passed_on(&self, listed: &[HeaderName], way: Way) -> Option<HeaderValue> {
        let names: Vec<&str> = match &self.names {
            Some(names) => names.iter().filter(|name| passes(name, listed, way)).map(HeaderName::as_str).collect(),
            None => listed.iter().map(HeaderName::as_str).collect(),
        };
        // Names are tokens, so their list is a value.
        HeaderValue::from_str(&names.join(", ")).ok().filter(|value| !value.is_empty())
    }
}

/// Of these trailers those that may pass, if there are any.
pub fn keep_listed(trailers: HeaderMap, listed: &[HeaderName], way: Way) -> Option<HeaderMap> {
    let mut kept = HeaderMap::new();
    let mut last = None;
    for (name, value) in trailers {
        // A name stands before the first of its values only.
        last = name.or(last);
        if let Some(name) = last.as_ref().filter(|name| passes(name, listed, way)) {
            kept.append(name.clone(), value);
        }
    }
    (!kept.is_empty()).then_some(kept)
}

fn passes(name: &HeaderName, listed: &[HeaderName], way: Way) -> bool {
    let named = listed.contains(name) || (way == Way::Response && OF_GRPC.contains(name));
    named && classify(name.as_str()) == NameClass::Ordinary
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn only_what_is_listed_passes() {
        let listed = [HeaderName::from_static("x-sum"), HeaderName::from_static("x-org-code")];
        let lines = [("x-sum", "1"), ("x-org-code", "evil"), ("x-sum", "2"), ("grpc-status", "0"), ("x-other", "3")];
        let kept = keep_listed(map(&lines), &listed, Way::Response).expect("some");
        assert_eq!(kept, map(&[("x-sum", "1"), ("x-sum", "2"), ("grpc-status", "0")]));
        let kept = keep_listed(map(&lines), &listed, Way::Request).expect("some");
        assert_eq!(kept, map(&[("x-sum", "1"), ("x-sum", "2")]));
        assert_eq!(keep_listed(map(&lines[1..2]), &listed, Way::Response), None);
    }

    #[test]
    fn what_is_announced_is_what_passes() {
        let listed = [HeaderName::from_static("x-sum"), HeaderName::from_static("x-end")];
        let head = map(&[("trailer", "X-Sum, X-Org-Code"), ("trailer", "x-other"), ("te", "gzip, Trailers")]);
        let announced = Announced::read(&head);
        assert!(announced.takes);
        assert_eq!(announced.passed_on(&listed, Way::Response).expect("a value"), "x-sum");
        assert_eq!(announced.passed_on(&[], Way::Response), None);
        let silent = Announced::read(&HeaderMap::new());
        assert!(!silent.takes);
        assert_eq!(silent.passed_on(&listed, Way::Request).expect("a value"), "x-sum, x-end");
    }
}
