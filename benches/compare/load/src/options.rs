//! What stands behind the subcommand.

use std::fs;
use std::io;
use std::net::SocketAddr;

/// All options; each subcommand takes what it needs.
pub struct Options {
    to: Option<u16>,
    path: String,
    body: Vec<u8>,
    keys: Vec<String>,
    pub rate: u32,
    pub seconds: u32,
    pub connections: u32,
    pub count: Option<usize>,
    /// Where the service behind the proxy takes what a reader tells it.
    pub steps: Option<u16>,
}

impl Options {
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> io::Result<Self> {
        let mut options = Self {
            to: None,
            path: "/".to_owned(),
            body: Vec::new(),
            keys: Vec::new(),
            rate: 1000,
            seconds: 1,
            connections: 1,
            count: None,
            steps: None,
        };
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| io::Error::other(format!("{name} needs a value")))?;
            let count = || match value.parse::<u32>() {
                Ok(count) if count > 0 => Ok(count),
                _ => Err(io::Error::other(format!("{name} needs a number, not {value:?}"))),
            };
            match name.as_str() {
                "--count" => options.count = usize::try_from(count()?).ok(),
                "--steps" => options.steps = u16::try_from(count()?).ok(),
                "--to" => options.to = u16::try_from(count()?).ok(),
                "--path" => options.path = value,
                "--body" => options.body = fs::read(value)?,
                "--keys" => options.keys = fs::read_to_string(value)?.lines().map(str::to_owned).collect(),
                "--rate" => options.rate = count()?,
                "--seconds" => options.seconds = count()?,
                "--connections" => options.connections = count()?,
                _ => return Err(io::Error::other(format!("unknown option {name}"))),
            }
        }
        Ok(options)
    }

    /// The proxy, always on this machine.
    pub fn target(&self) -> io::Result<SocketAddr> {
        let port = self.to.ok_or_else(|| io::Error::other("--to PORT is missing"))?;
        Ok(SocketAddr::from(([127, 0, 0, 1], port)))
    }

    /// A request for each key, head and body in one piece.
    pub fn requests(&self) -> Vec<Vec<u8>> {
        let method = if self.body.is_empty() { "GET" } else { "POST" };
        let entity = match self.body.len() {
            0 => String::new(),
            length => format!("Content-Type: application/json\r\nContent-Length: {length}\r\n"),
        };
        let request = |key: &str| {
            let path = &self.path;
            let key = if key.is_empty() { String::new() } else { format!("X-Api-Key: {key}\r\n") };
            let head = format!("{method} {path} HTTP/1.1\r\nHost: bench\r\n{key}{entity}\r\n");
            [head.as_bytes(), &self.body].concat()
        };
        if self.keys.is_empty() { vec![request("")] } else { self.keys.iter().map(|key| request(key)).collect() }
    }
}
