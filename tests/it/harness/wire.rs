//! HTTP/1.1 messages as bytes: read without judging, so that a test sees what was really sent.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// A message head: the first line and the fields in order, names as they were sent.
#[derive(Clone, Debug, Default)]
pub struct Head {
    pub first_line: String,
    pub fields: Vec<(String, String)>,
}

impl Head {
    /// The value of the only field with this name, ignoring case.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut found = self.fields.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "more than one {name}: {:?}", self.fields);
        value
    }

    fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let mut lines = text.split("\r\n");
        let first_line = lines.next().unwrap_or_default().to_owned();
        let fields = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        Self { first_line, fields }
    }
}

/// How a body is delimited.
pub enum Framing {
    Length(usize),
    Chunked,
    ToEnd,
    Empty,
}

/// Reads messages from a stream and keeps what belongs to the next one.
pub struct Reader<S> {
    stream: S,
    buffer: Vec<u8>,
    trailers: Vec<String>,
}

impl<S: AsyncRead + Unpin> Reader<S> {
    pub fn new(stream: S) -> Self {
        Self { stream, buffer: Vec::new(), trailers: Vec::new() }
    }

    pub fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Whether more bytes came; an end or an error is `false`.
    async fn fill(&mut self) -> bool {
        super::within("the peer's next byte", self.stream.read_buf(&mut self.buffer)).await.is_ok_and(|read| read > 0)
    }

    /// The next head, or `None` at the end of the stream.
    pub async fn head(&mut self) -> Option<Head> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = Head::parse(&self.buffer[..end]);
                self.buffer.drain(..end + 4);
                return Some(head);
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// The next line without its end.
    pub async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|window| window == b"\r\n") {
                let line = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
                self.buffer.drain(..end + 2);
                return Some(line);
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    pub async fn exactly(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < length {
            if !self.fill().await {
                return None;
            }
        }
        Some(self.buffer.drain(..length).collect())
    }

    /// The lines behind the last chunk of the last body in chunks.
    pub fn trailers(&self) -> &[String] {
        &self.trailers
    }

    /// One chunk's data; empty for the last chunk, whose trailers are read too. `None` if the stream broke off.
    pub async fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = self.line().await?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        if size == 0 {
            self.trailers.clear();
            loop {
                match self.line().await? {
                    end if end.is_empty() => break,
                    line => self.trailers.push(line),
                }
            }
            return Some(Vec::new());
        }
        let data = self.exactly(size).await?;
        self.exactly(2).await?;
        Some(data)
    }

    /// A whole body, and whether it ended as its framing says.
    pub async fn body(&mut self, framing: Framing) -> (Vec<u8>, bool) {
        match framing {
            Framing::Empty => (Vec::new(), true),
            Framing::Length(length) => match self.exactly(length).await {
                Some(body) => (body, true),
                None => (std::mem::take(&mut self.buffer), false),
            },
            Framing::Chunked => {
                let mut body = Vec::new();
                loop {
                    match self.chunk().await {
                        None => return (body, false),
                        Some(data) if data.is_empty() => return (body, true),
                        Some(data) => body.extend(data),
                    }
                }
            }
            Framing::ToEnd => {
                while self.fill().await {}
                (std::mem::take(&mut self.buffer), true)
            }
        }
    }

    /// Whether the peer has closed, with nothing left to read.
    pub async fn at_end(&mut self) -> bool {
        self.buffer.is_empty() && !self.fill().await
    }
}

pub fn io_ok<T>(result: io::Result<T>) -> T {
    result.expect("a local socket works")
}
