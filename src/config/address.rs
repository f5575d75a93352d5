//! Addresses: where to listen, where a service is, which host a route is for.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::policy::Endpoint;

/// The system's address of a Unix socket has 108 bytes, one of them for the end (unix(7)).
const LONGEST_SOCKET_PATH: usize = 107;

/// Where to listen. A name is resolved when it is bound; port 0 takes any free port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// Host name or IP address, without brackets.
    pub host: Box<str>,
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Address {
    /// Whether both want the same port of the same host. Two free ports are never the same.
    pub(super) fn collides(&self, other: &Self) -> bool {
        let same_host = match (self.host.parse::<IpAddr>(), other.host.parse::<IpAddr>()) {
            // The unspecified address of a family takes the port of all its addresses.
            (Ok(one), Ok(two)) => {
                one == two || one.is_ipv4() == two.is_ipv4() && (one.is_unspecified() || two.is_unspecified())
            }
            _ => self.host == other.host,
        };
        same_host && self.port == other.port && self.port != 0
    }
}

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        listen(text)
    }
}

/// Why an address is refused, and what was probably meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadAddress {
    pub message: String,
    pub help: Option<String>,
}

impl fmt::Display for BadAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.help.as_ref().map_or(Ok(()), |help| write!(f, " ({help})"))
    }
}

impl std::error::Error for BadAddress {}

impl BadAddress {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None }
    }

    fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }
}

/// Where clients connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    Tcp(Address),
    /// The file of a Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl ListenAddress {
    /// The file of a Unix socket.
    pub fn socket(&self) -> Option<&Path> {
        match self {
            Self::Tcp(_) => None,
            Self::Unix(path) => Some(path),
        }
    }

    /// Whether both want the same place.
    pub(super) fn collides(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tcp(one), Self::Tcp(two)) => one.collides(two),
            (Self::Unix(one), Self::Unix(two)) => one == two,
            (Self::Tcp(_), Self::Unix(_)) | (Self::Unix(_), Self::Tcp(_)) => false,
        }
    }
}

/// Reads `host:port` or `unix:PATH`; a relative path starts at `base_dir`.
pub(super) fn listen_or_unix(text: &str, base_dir: &Path) -> Result<ListenAddress, BadAddress> {
    match text.strip_prefix("unix:") {
        None => listen(text).map(ListenAddress::Tcp),
        Some(path) => socket_path(path, base_dir, "unix:/run/keyward.sock").map(ListenAddress::Unix),
    }
}

/// Reads the path of a Unix socket, what follows `unix:`.
fn socket_path(path: &str, base_dir: &Path, example: &str) -> Result<PathBuf, BadAddress> {
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.is_empty() || path.ends_with('/') {
        return Err(BadAddress::new(format!("expected the path of a socket file, such as `{example}`")));
    }
    let path = base_dir.join(path);
    if path.as_os_str().len() > LONGEST_SOCKET_PATH {
        let message = format!("the path of a Unix socket has at most {LONGEST_SOCKET_PATH} bytes");
        return Err(BadAddress::new(message));
    }
    Ok(path)
}

/// Reads `host:port`, with an IPv6 address in brackets.
pub(super) fn listen(text: &str) -> Result<Address, BadAddress> {
    if text.starts_with("unix:") {
        return Err(BadAddress::new("only `listen` can be a Unix socket"));
    }
    if let Some((_, rest)) = text.split_once("://") {
        let bad = BadAddress::new("expected `host:port`, found a URL");
        let meant = rest.split('/').next().filter(|rest| listen(rest).is_ok());
        return Err(match meant {
            Some(meant) => bad.help(format!("did you mean `{meant}`?")),
            None => bad,
        });
    }
    let bad = || BadAddress::new("expected `host:port`, such as `127.0.0.1:8080` or `[::]:8080`");
    let (host, port) = split_port(text).ok_or_else(bad)?;
    let Ok(port) = port.parse::<u16>() else {
        return Err(BadAddress::new("expected a port from 0 to 65535 after the host"));
    };
    match host {
        "" | "*" => Err(bad().help(format!("did you mean `0.0.0.0:{port}`, every address of this machine?"))),
        host => Ok(Address { host: self::host(host).ok_or_else(bad)?, port }),
    }
}

/// Reads `http://host:port`, `https://host:port` or `unix:PATH`. The port may be left out; a relative path starts at
/// `base_dir`.
pub(super) fn endpoint(text: &str, base_dir: &Path) -> Result<Endpoint, BadAddress> {
    const EXPECTED: &str = "expected `http://host:port`, `https://host:port` or `unix:/path`";
    if let Some(path) = text.strip_prefix("unix:") {
        return socket_path(path, base_dir, "unix:/run/app.sock").map(Endpoint::Unix);
    }
    let (tls, rest) = match text.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
        _ => {
            let bad = BadAddress::new(EXPECTED);
            let meant = authority(text, 80).is_some();
            return Err(if meant { bad.help(format!("did you mean `http://{text}`?")) } else { bad });
        }
    };
    if rest.contains('@') {
        return Err(BadAddress::new("an endpoint has no user or password")
            .help("what the service wants to see goes into `headers: {set: …}`"));
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '?', '#']) {
        return Err(BadAddress::new("an endpoint has no path or query: requests keep their own"));
    }
    let (host, port) = authority(rest, if tls { 443 } else { 80 }).ok_or_else(|| BadAddress::new(EXPECTED))?;
    Ok(Endpoint::Tcp { tls, host, port })
}

/// Reads `host` or `host:port` of a URL.
pub(super) fn authority(text: &str, default_port: u16) -> Option<(Box<str>, u16)> {
    let (host, port) = match split_port(text) {
        Some((host, port)) => (host, port.parse().ok().filter(|port| *port != 0)?),
        None => (text, default_port),
    };
    Some((self::host(host)?, port))
}

/// Splits `host:port` at the last colon, which in a bare IPv6 address is not one.
fn split_port(text: &str) -> Option<(&str, &str)> {
    let (host, port) = text.rsplit_once(':')?;
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    (digits && (bracketed || !host.contains(':'))).then_some((host, port))
}

/// A host name, an IPv4 address, or an IPv6 address in brackets; without them in the result.
fn host(text: &str) -> Option<Box<str>> {
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inner.parse::<Ipv6Addr>().ok().map(|address| address.to_string().into());
    }
    is_host_name(text).then(|| text.into())
}

/// Reads the name that a certificate is for: a host name or an IP address.
pub(super) fn server_name(text: &str) -> Result<Box<str>, BadAddress> {
    if text.parse::<IpAddr>().is_ok() || is_host_name(text) {
        return Ok(text.into());
    }
    Err(BadAddress::new("expected the name in the certificate, such as `model.internal`"))
}

/// Reads the host of a route: what a client writes into `Host`, without the port.
pub(super) fn route_host(text: &str) -> Result<Box<str>, BadAddress> {
    if text.contains('*') {
        return Err(BadAddress::new("a wildcard in a host is not supported yet"));
    }
    if let Some((host, _)) = split_port(text) {
        return Err(BadAddress::new("a route's host has no port: it matches on every port")
            .help(format!("did you mean `{host}`?")));
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    if !is_host_name(name) {
        return Err(BadAddress::new("expected a host name such as `api.example.com`"));
    }
    // Requests are compared in lower case.
    Ok(name.to_ascii_lowercase().into())
}

/// Letters, digits, `-` and `_` in labels of at most 63 (RFC 1123 §2.1; container networks also use `_`), and no
/// number where an address is meant.
fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let numeric = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    text.len() <= 253 && text.split('.').all(label) && (!numeric || text.parse::<Ipv4Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        for (text, host, port) in
            [("127.0.0.1:8080", "127.0.0.1", 8080), ("[::1]:0", "::1", 0), ("localhost:1", "localhost", 1)]
        {
            let address: Address = text.parse().expect(text);
            assert_eq!((&*address.host, address.port), (host, port));
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn two_listeners_cannot_share_a_port() {
        for (one, two, collide) in [
            ("a:1", "a:1", true),
            ("a:1", "a:2", false),
            ("a:1", "b:1", false),
            ("a:0", "a:0", false),
            ("0.0.0.0:1", "127.0.0.1:1", true),
            ("[::]:1", "[::1]:1", true),
            ("0.0.0.0:1", "[::1]:1", false),
            ("127.0.0.1:1", "127.0.0.2:1", false),
        ] {
            let (first, second): (Address, Address) = (one.parse().expect(one), two.parse().expect(two));
            assert_eq!((first.collides(&second), second.collides(&first)), (collide, collide), "{one} {two}");
        }
    }

    #[test]
    fn hosts_are_names_or_addresses() {
        let long = format!("{}.a", "x".repeat(64));
        for (text, host) in [
            ("API.example.com.", Some("api.example.com")),
            ("192.0.2.1", Some("192.0.2.1")),
            ("my_service", Some("my_service")),
            ("1.2.3", None),
            ("a..b", None),
            ("-a", None),
            ("a/b", None),
            ("é", None),
            ("", None),
            (&long, None),
        ] {
            assert_eq!(route_host(text).ok().as_deref(), host, "{text}");
        }
    }
}
