//! A tunnel through a forward proxy (RFC 9110 §9.3.6), through which everything else is said as without one.
//!
//! Enters: a connection to the proxy. Leaves: the same connection, at whose other end is Kinde. The proxy learns
//! Kinde's host and port, and under TLS nothing else.

use std::fmt;

use base64ct::{Base64, Encoding};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use super::Failure;
use crate::policy::SecretString;

/// The longest head of a proxy's answer.
const MAX_HEAD: usize = 8 << 10;

/// A forward proxy, spoken to in plain HTTP: what it carries is encrypted by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardProxy {
    /// Host name or IP address, without brackets.
    pub host: Box<str>,
    pub port: u16,
    pub credentials: Option<ProxyCredentials>,
}

/// What a forward proxy is shown (RFC 7617).
#[derive(Clone, Debug)]
pub struct ProxyCredentials {
    pub username: String,
    pub password: SecretString,
}

impl PartialEq for ProxyCredentials {
    /// Compares two configurations of one operator, never a caller's guess: constant time is not needed here.
    fn eq(&self, other: &Self) -> bool {
        self.username == other.username && self.password.expose() == other.password.expose()
    }
}

impl Eq for ProxyCredentials {}

impl fmt::Display for ForwardProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl ForwardProxy {
    /// Connects to `target`, a `host:port`.
    pub(super) async fn connect(&self, target: &str) -> Result<TcpStream, Failure> {
        let failed = |error: std::io::Error| Failure::Away(format!("cannot connect to the proxy {self}: {error}"));
        let mut stream = TcpStream::connect((&*self.host, self.port)).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        stream.write_all(&self.request(target)).await.map_err(failed)?;
        let mut head = Vec::with_capacity(256);
        while !head.ends_with(b"\r\n\r\n") {
            // One byte at a time: the next one may be Kinde's. Once per connection, and the system buffers.
            match stream.read_u8().await {
                Ok(byte) if head.len() < MAX_HEAD => head.push(byte),
                Ok(_) => return Err(Failure::Away(format!("the proxy {self} answers without an end"))),
                Err(error) => return Err(failed(error)),
            }
        }
        match status(&head) {
            Some(200..=299) => Ok(stream),
            Some(407) if self.credentials.is_none() => {
                Err(Failure::Misconfigured(format!("the proxy {self} wants credentials (status 407)")))
            }
            Some(407) => {
                Err(Failure::Misconfigured(format!("the proxy {self} does not accept our credentials (status 407)")))
            }
            Some(status) if (400..500).contains(&status) => Err(Failure::Misconfigured(format!(
                "the proxy {self} does not connect us to {target} (status {status})"
            ))),
            Some(status) => Err(Failure::Away(format!("the proxy {self} cannot reach {target} (status {status})"))),
            None => Err(Failure::Away(format!("the proxy {self} does not speak HTTP"))),
        }
    }

    fn request(&self, target: &str) -> Zeroizing<Vec<u8>> {
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").into_bytes();
        let Some(ProxyCredentials { username, password }) = &self.credentials else {
            request.extend_from_slice(b"\r\n");
            return Zeroizing::new(request);
        };
        let mut pair = Zeroizing::new(Vec::with_capacity(username.len() + 1 + password.expose().len()));
        pair.extend_from_slice(username.as_bytes());
        pair.push(b':');
        pair.extend_from_slice(password.expose().as_bytes());
        let pair = Zeroizing::new(Base64::encode_string(&pair));
        const NAME: &[u8] = b"Proxy-Authorization: Basic ";
        // Grown before a secret is in it: growing later would leave a copy behind.
        request.reserve_exact(NAME.len() + pair.len() + 4);
        let mut request = Zeroizing::new(request);
        request.extend_from_slice(NAME);
        request.extend_from_slice(pair.as_bytes());
        request.extend_from_slice(b"\r\n\r\n");
        request
    }
}

/// The status of an HTTP/1 answer.
fn status(head: &[u8]) -> Option<u16> {
    let line = head.strip_prefix(b"HTTP/1.")?;
    let code = line.get(2..5).filter(|code| code.iter().all(u8::is_ascii_digit))?;
    let ends = line.get(5).is_some_and(|byte| matches!(byte, b' ' | b'\r'));
    std::str::from_utf8(code).ok()?.parse().ok().filter(|_| ends && line[1] == b' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_three_digits_of_http_1() {
        for (head, expected) in [
            ("HTTP/1.1 200 Connection established\r\n\r\n", Some(200)),
            ("HTTP/1.0 407 X\r\n\r\n", Some(407)),
            ("HTTP/1.1 200\r\n\r\n", Some(200)),
            ("HTTP/1.1 2000 X\r\n\r\n", None),
            ("HTTP/1.1  20\r\n\r\n", None),
            ("HTTP/2 200 X\r\n\r\n", None),
            ("SSH-2.0-x\r\n\r\n", None),
            ("HTTP/1.", None),
        ] {
            assert_eq!(status(head.as_bytes()), expected, "{head:?}");
        }
    }

    #[test]
    fn no_secret_is_shown() {
        let credentials = ProxyCredentials { username: "u".to_owned(), password: SecretString::new("p4ss".to_owned()) };
        let proxy = ForwardProxy { host: "::1".into(), port: 3128, credentials: Some(credentials) };
        let shown = format!("{proxy:?} {proxy}");
        assert!(!shown.contains("p4ss") && shown.ends_with(" [::1]:3128"), "{shown}");
        let request = String::from_utf8(proxy.request("a.kinde.com:443").to_vec()).expect("text");
        assert_eq!(
            request,
            "CONNECT a.kinde.com:443 HTTP/1.1\r\nHost: a.kinde.com:443\r\nProxy-Authorization: Basic dTpwNHNz\r\n\r\n"
        );
    }
}
