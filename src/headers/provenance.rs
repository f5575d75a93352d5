//! Where a request came from: believed from trusted peers only, then written anew.

use std::fmt::Write;
use std::net::{IpAddr, Ipv6Addr};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

use super::{names, push_number};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Longest request id that is taken over from a trusted peer.
const LONGEST_REQUEST_ID: usize = 128;

/// The scheme in which the client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// What is known about the way a request took, read before the headers that say so are dropped.
#[derive(Debug)]
pub struct Provenance {
    /// The nearest address that is not a trusted proxy's.
    pub client: IpAddr,
    /// Addresses from the client to the peer, the peer last.
    chain: Vec<IpAddr>,
    scheme: Scheme,
    /// The host that a trusted peer says the client asked for.
    host: Option<HeaderValue>,
    /// A request id from a trusted peer.
    pub request_id: Option<HeaderValue>,
}

impl Provenance {
    /// Reads the provenance of a request from `peer`. Headers count only when the peer is trusted; from the chain
    /// they name, the rightmost address that is not trusted is the client.
    pub fn read(headers: &HeaderMap, peer: IpAddr, scheme: Scheme, trusted: &[IpNet]) -> Self {
        let peer = peer.to_canonical();
        let mut own = Self { client: peer, chain: vec![peer], scheme, host: None, request_id: None };
        if !is_trusted(peer, trusted) {
            return own;
        }
        let mut chain = forwarded_chain(headers);
        chain.push(peer);
        own.client = chain.iter().rev().find(|address| !is_trusted(**address, trusted)).copied().unwrap_or(chain[0]);
        own.chain = chain;
        match headers.get(FORWARDED_PROTO).map(HeaderValue::as_bytes) {
            Some(b"https") => own.scheme = Scheme::Https,
            Some(b"http") => own.scheme = Scheme::Http,
            _ => {}
        }
        own.host = headers.get(FORWARDED_HOST).cloned();
        own.request_id = headers.get(names::REQUEST_ID).filter(|id| is_request_id(id)).cloned();
        own
    }

    /// Writes `X-Forwarded-For`, `-Proto`, `-Host`, `X-Real-IP` and `Forwarded` (RFC 7239) for the service.
    pub fn stamp(&self, headers: &mut HeaderMap) {
        let mut for_list = String::with_capacity(LONGEST_IPV4 * self.chain.len());
        let mut forwarded = String::with_capacity(2 * LONGEST_IPV4 * self.chain.len() + ";proto=https".len());
        for address in &self.chain {
            if !for_list.is_empty() {
                for_list.push_str(", ");
                forwarded.push_str(", ");
            }
            let from = for_list.len();
            push_address(&mut for_list, *address);
            let (open, close) = if address.is_ipv4() { ("for=", "") } else { ("for=\"[", "]\"") };
            forwarded.push_str(open);
            forwarded.push_str(&for_list[from..]);
            forwarded.push_str(close);
        }
        forwarded.push_str(";proto=");
        forwarded.push_str(self.scheme.as_str());
        let mut client = String::with_capacity(LONGEST_IPV4);
        push_address(&mut client, self.client);
        let mut set = |name: HeaderName, text: &str| {
            if let Ok(value) = HeaderValue::from_str(text) {
                headers.insert(name, value);
            }
        };
        set(FORWARDED_FOR, &for_list);
        set(header::FORWARDED, &forwarded);
        set(REAL_IP, &client);
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static(self.scheme.as_str()));
        // Without a trusted peer's word it is the host that the route was found by.
        if let Some(host) = self.host.as_ref().or_else(|| headers.get(header::HOST)).cloned() {
            headers.insert(FORWARDED_HOST, host);
        }
    }
}

/// With its separator.
const LONGEST_IPV4: usize = "255.255.255.255, ".len();

/// As `Display` writes it, which pads and counts on the way and takes many times as long.
fn push_address(text: &mut String, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            for (n, octet) in address.octets().into_iter().enumerate() {
                if n > 0 {
                    text.push('.');
                }
                push_number(text, octet.into());
            }
        }
        // Writing to a string cannot fail.
        IpAddr::V6(address) => drop(write!(text, "{address}")),
    }
}

fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|net| net.contains(&address))
}

fn is_request_id(id: &HeaderValue) -> bool {
    !id.is_empty() && id.len() <= LONGEST_REQUEST_ID && id.as_bytes().iter().all(u8::is_ascii_graphic)
}

/// The addresses of `X-Forwarded-For` or of `Forwarded`. A proxy that writes one of them passes the other on as the
/// client sent it, so where both stand and differ, neither is believed.
fn forwarded_chain(headers: &HeaderMap) -> Vec<IpAddr> {
    let listed = chain_of(headers, &FORWARDED_FOR, address);
    let forwarded = chain_of(headers, &header::FORWARDED, forwarded_for);
    match (headers.contains_key(FORWARDED_FOR), headers.contains_key(header::FORWARDED)) {
        (true, true) if listed != forwarded => Vec::new(),
        (true, _) => listed,
        (false, _) => forwarded,
    }
}

/// The addresses in the lines of one field. Everything left of an element that is not an address is dropped: nobody
/// vouches for it.
fn chain_of(headers: &HeaderMap, name: &HeaderName, read: fn(&str) -> Option<IpAddr>) -> Vec<IpAddr> {
    let elements = headers.get_all(name).iter().flat_map(|line| line.to_str().unwrap_or("?").split(',')).map(read);
    let mut chain = Vec::new();
    for element in elements {
        match element {
            Some(address) => chain.push(address),
            None => chain.clear(),
        }
    }
    chain
}

/// The `for` parameter of one `Forwarded` element (RFC 7239 §4).
fn forwarded_for(element: &str) -> Option<IpAddr> {
    element
        .split(';')
        .filter_map(|pair| pair.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))
        .and_then(|(_, value)| address(unquoted(value.trim())?))
}

/// What stands between two quotes, or has none.
fn unquoted(text: &str) -> Option<&str> {
    match text.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"'),
        None => Some(text).filter(|text| !text.ends_with('"')),
    }
}

/// An address with or without brackets and a port, which may be a hidden one (RFC 7239 §6.3).
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, behind) = rest.split_once(']')?;
            let host = host.parse::<Ipv6Addr>().ok()?;
            (IpAddr::V6(host), if behind.is_empty() { None } else { Some(behind.strip_prefix(':')?) })
        }
        // An address of version 6 without brackets has no port: it could not be told from its last part.
        None => match text.parse::<IpAddr>() {
            Ok(host) => (host, None),
            Err(_) => {
                let (host, port) = text.split_once(':')?;
                (IpAddr::V4(host.parse().ok()?), Some(port))
            }
        },
    };
    port.is_none_or(is_port).then(|| host.to_canonical())
}

fn is_port(text: &str) -> bool {
    let hidden = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    match text.strip_prefix('_') {
        Some(name) => !name.is_empty() && hidden(name),
        None => text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok(),
    }
}

#[cfg(test)]
mod tests;
