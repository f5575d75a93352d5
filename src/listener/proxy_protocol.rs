//! The PROXY protocol, versions 1 and 2 (haproxy.org): a load balancer that passes connections on as they are says
//! first whose they are.
//!
//! Read from configured peers only, and always: the protocol leaves no way to tell a header from a client's first
//! bytes. Not a byte behind the header is taken.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use prometheus::IntCounter;
use tokio::io::{AsyncRead, AsyncReadExt};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The longest line of version 1, with its end.
const LONGEST_LINE: usize = 107;

/// The addresses of version 2 and what is told behind them. Balancers send some hundred bytes.
const LONGEST_REST: usize = 4096;

/// Who speaks it.
#[derive(Clone, Debug)]
pub struct ProxyProtocol {
    pub peers: Vec<IpNet>,
    /// Counts connections that began with no header.
    pub failures: IntCounter,
}

impl ProxyProtocol {
    /// Whether a peer begins with a header.
    pub(super) fn is_spoken_by(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.peers.iter().any(|net| net.contains(&peer))
    }
}

/// Reads the header. `None`: the connection is the balancer's own (`LOCAL`, `UNKNOWN`), or of no kind that has an
/// address.
///
/// # Errors
/// If there is no header, or none that makes sense.
pub(super) async fn read_source(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<IpAddr>> {
    // The shortest header of either version is longer.
    let mut start = [0; SIGNATURE.len()];
    stream.read_exact(&mut start).await?;
    if start == *SIGNATURE { binary(stream).await } else { line(start, stream).await }
}

/// Version 1: `PROXY TCP4 SOURCE DESTINATION PORT PORT`.
async fn line(start: [u8; SIGNATURE.len()], stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<IpAddr>> {
    if !start.starts_with(b"PROXY ") {
        return Err(bad("no PROXY header"));
    }
    let mut line = start.to_vec();
    while line.last() != Some(&b'\n') {
        if line.len() == LONGEST_LINE {
            return Err(bad("a PROXY line without an end"));
        }
        line.push(stream.read_u8().await?);
    }
    let line = line.strip_suffix(b"\r\n").and_then(|line| std::str::from_utf8(line).ok());
    let words: Vec<&str> = line.ok_or_else(|| bad("a PROXY line that is no text"))?.split(' ').collect();
    let is_port = |text: &str| text.parse::<u16>().is_ok_and(|port| port.to_string() == text);
    let source = match words[..] {
        ["PROXY", "UNKNOWN", ..] => return Ok(None),
        ["PROXY", "TCP4", source, to, from_port, to_port] if is_port(from_port) && is_port(to_port) => {
            to.parse::<Ipv4Addr>().ok().and_then(|_| source.parse::<Ipv4Addr>().ok()).map(IpAddr::V4)
        }
        ["PROXY", "TCP6", source, to, from_port, to_port] if is_port(from_port) && is_port(to_port) => {
            to.parse::<Ipv6Addr>().ok().and_then(|_| source.parse::<Ipv6Addr>().ok()).map(IpAddr::V6)
        }
        _ => None,
    };
    source.map(Some).ok_or_else(|| bad("a PROXY line that names no address"))
}

/// Version 2: a command, a family, a length, addresses, and more that is skipped.
async fn binary(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<IpAddr>> {
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    let [command, family, high, low] = head;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > LONGEST_REST {
        return Err(bad("a PROXY header that is too long"));
    }
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await?;
    match command {
        0x20 => return Ok(None),
        0x21 => {}
        _ => return Err(bad("a PROXY header of another version or command")),
    }
    match (family, rest.first_chunk::<4>(), rest.first_chunk::<16>()) {
        (0x11, Some(source), _) if length >= 12 => Ok(Some(IpAddr::from(*source))),
        (0x21, _, Some(source)) if length >= 36 => Ok(Some(IpAddr::from(*source))),
        // Unspecified, or a stream over a Unix socket: there is no address to tell.
        (0x00 | 0x31, ..) => Ok(None),
        _ => Err(bad("a PROXY header without a stream's addresses")),
    }
}

fn bad(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What is read of `bytes`, and how many of them are left.
    fn read(mut bytes: &[u8]) -> (Result<Option<String>, io::ErrorKind>, usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let source = runtime.block_on(read_source(&mut bytes));
        (source.map(|source| source.map(|source| source.to_string())).map_err(|error| error.kind()), bytes.len())
    }

    fn version_2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).expect("short").to_be_bytes();
        [SIGNATURE, &[command, family][..], &length, rest].concat()
    }

    #[test]
    fn both_versions_name_the_source_and_leave_the_rest() {
        let v4 = [192, 0, 2, 7, 10, 0, 0, 1, 1, 187, 31, 144];
        let v6 = [[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7].as_slice(), &[0; 20]].concat();
        let with_more = [&v4[..], b"\x04\0\x03abc"].concat();
        for (header, source) in [
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 443 8080\r\n".to_vec(), Some("192.0.2.7")),
            (b"PROXY TCP6 2001:db8::7 ::1 443 8080\r\n".to_vec(), Some("2001:db8::7")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 what ever\r\n".to_vec(), None),
            (version_2(0x21, 0x11, &v4), Some("192.0.2.7")),
            (version_2(0x21, 0x11, &with_more), Some("192.0.2.7")),
            (version_2(0x21, 0x21, &v6), Some("2001:db8::7")),
            (version_2(0x20, 0x00, &[]), None),
            (version_2(0x20, 0x11, &v4), None),
            (version_2(0x21, 0x00, b"anything"), None),
            (version_2(0x21, 0x31, &[0; 216]), None),
        ] {
            let bytes = [&header[..], b"GET /"].concat();
            assert_eq!(read(&bytes), (Ok(source.map(str::to_owned)), 5), "{}", String::from_utf8_lossy(&header));
            for end in 0..header.len() {
                assert_eq!(read(&header[..end]).0, Err(io::ErrorKind::UnexpectedEof), "cut at {end}");
            }
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let too_long = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200], b"\r\n"].concat();
        for bytes in [
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 10.0.0.1 443\r\n".to_vec(),
            b"PROXY TCP4 2001:db8::7 10.0.0.1 443 80\r\n".to_vec(),
            b"PROXY TCP6 192.0.2.7 10.0.0.1 443 80\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 10.0.0.1 443 65536\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 10.0.0.1 +443 80\r\n".to_vec(),
            b"PROXY  TCP4 192.0.2.7 10.0.0.1 443 80\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 10.0.0.1 443 80\n".to_vec(),
            b"proxy TCP4 192.0.2.7 10.0.0.1 443 80\r\n".to_vec(),
            too_long,
            version_2(0x31, 0x11, &[0; 12]),
            version_2(0x22, 0x11, &[0; 12]),
            version_2(0x21, 0x12, &[0; 12]),
            version_2(0x21, 0x11, &[0; 11]),
            version_2(0x21, 0x21, &[0; 35]),
            version_2(0x21, 0x11, &[0; 5000]),
        ] {
            assert_eq!(read(&bytes).0, Err(io::ErrorKind::InvalidData), "{}", String::from_utf8_lossy(&bytes));
        }
    }

    proptest! {
        #[test]
        fn nothing_is_read_beyond_its_bounds(
            bytes in prop_oneof![
                any::<Vec<u8>>(),
                any::<Vec<u8>>().prop_map(|rest| [b"PROXY TCP4 ".as_slice(), &rest].concat()),
                any::<Vec<u8>>().prop_map(|rest| [SIGNATURE.as_slice(), &rest].concat()),
            ]
        ) {
            let (_, left) = read(&bytes);
            prop_assert!(bytes.len() - left <= LONGEST_REST + 16);
        }
    }
}
