//! As much of HTTP/1.1 as both ends here need, RFC 9112: heads, and bodies by length or by chunks.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longer than any answer here takes: whoever hangs is reported instead of waited for.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Connection {
    stream: BufReader<TcpStream>,
    line: Vec<u8>,
}

/// The first line and what of the fields decides where a body ends.
pub struct Head {
    pub first_line: String,
    length: usize,
    is_chunked: bool,
}

impl Head {
    /// Of a response.
    pub fn status(&self) -> u16 {
        self.first_line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
    }
}

impl Connection {
    pub fn open(to: SocketAddr) -> io::Result<Self> {
        Self::over(TcpStream::connect(to)?)
    }

    pub fn over(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream: BufReader::with_capacity(16 << 10, stream), line: Vec::new() })
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// `None` where the other side has closed between two messages.
    pub fn head(&mut self) -> io::Result<Option<Head>> {
        if !self.read_line()? {
            return Ok(None);
        }
        let first_line = String::from_utf8_lossy(&self.line).into_owned();
        let mut head = Head { first_line, length: 0, is_chunked: false };
        loop {
            if !self.read_line()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if self.line.is_empty() {
                return Ok(Some(head));
            }
            let line = self.line.to_ascii_lowercase();
            if let Some(value) = line.strip_prefix(b"content-length:") {
                let length = std::str::from_utf8(value).ok().and_then(|value| value.trim().parse().ok());
                head.length = length.ok_or(io::ErrorKind::InvalidData)?;
            } else if line.starts_with(b"transfer-encoding:") {
                head.is_chunked = line.ends_with(b"chunked");
            }
        }
    }

    /// Reads a body to its end, showing it piece by piece.
    pub fn body(&mut self, head: &Head, mut show: impl FnMut(&[u8])) -> io::Result<()> {
        if !head.is_chunked {
            return self.piece(head.length, &mut show);
        }
        loop {
            if !self.read_line()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let size = std::str::from_utf8(&self.line).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
            let size = size.ok_or(io::ErrorKind::InvalidData)?;
            self.piece(size, &mut show)?;
            self.read_line()?;
            if size == 0 {
                return Ok(());
            }
        }
    }

    /// One request and its whole answer; the status.
    pub fn ask(&mut self, request: &[u8]) -> io::Result<u16> {
        self.send(request)?;
        let head = self.head()?.ok_or(io::ErrorKind::UnexpectedEof)?;
        self.body(&head, |_| ())?;
        Ok(head.status())
    }

    fn piece(&mut self, mut size: usize, show: &mut impl FnMut(&[u8])) -> io::Result<()> {
        while size > 0 {
            let buffer = self.stream.fill_buf()?;
            if buffer.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let taken = buffer.len().min(size);
            show(&buffer[..taken]);
            self.stream.consume(taken);
            size -= taken;
        }
        Ok(())
    }

    /// A line without its end; false at the end of the connection.
    fn read_line(&mut self) -> io::Result<bool> {
        self.line.clear();
        let read = self.stream.by_ref().take(16 << 10).read_until(b'\n', &mut self.line)?;
        while self.line.last().is_some_and(|&end| end == b'\n' || end == b'\r') {
            self.line.pop();
        }
        Ok(read > 0)
    }
}
