//! `keyward keys purge`: one request to the admin API of the proxy that the configuration describes.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use super::args::PurgeWhat;
use crate::config::{Address, AdminSpec};

/// A purge takes milliseconds; a proxy that takes longer is stuck, or is none.
const TIMEOUT: Duration = Duration::from_secs(5);

/// More than any answer of the admin API to this request.
const MAX_ANSWER: u64 = 16 << 10;

/// What the admin API is asked for.
pub(super) fn wanted(what: &PurgeWhat) -> serde_json::Value {
    match what {
        PurgeWhat { key_id: Some(id), .. } => serde_json::json!({ "key_id": id }),
        PurgeWhat { org_code: Some(org), .. } => serde_json::json!({ "org_code": org }),
        PurgeWhat { .. } => serde_json::json!({ "all": true }),
    }
}

/// Sends the request; the `Err` is for the operator.
pub(super) fn purge(what: &PurgeWhat, admin: &AdminSpec) -> Result<(), String> {
    let address = &admin.address;
    let away = |error: io::Error| {
        format!("cannot reach the admin API at {address} ({error}); `admin.address` names it, and the proxy must run")
    };
    let head = ask(address, admin.token.expose(), &wanted(what).to_string()).map_err(away)?;
    match head.split_whitespace().nth(1) {
        Some("200") => Ok(()),
        Some("401") => {
            Err(format!("the admin API at {address} refuses `admin.token`: the proxy runs with another one"))
        }
        Some(status) => Err(format!("the admin API at {address} answered with status {status}")),
        None => Err(format!("what listens at {address} is no admin API")),
    }
}

fn ask(address: &Address, token: &str, body: &str) -> io::Result<String> {
    let mut stream = connect(address)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(
        stream,
        "POST /cache/purge HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    Ok(answer.lines().next().filter(|line| line.starts_with("HTTP/1.1 ")).unwrap_or_default().to_owned())
}

/// The first address that answers. One that means "everywhere" to a listener means this machine to us.
fn connect(address: &Address) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for mut to in (&*address.host, address.port).to_socket_addrs()? {
        if to.ip().is_unspecified() {
            to.set_ip(if to.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() });
        }
        match TcpStream::connect_timeout(&to, TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}
