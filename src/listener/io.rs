//! The transport below HTTP: one type for every kind of connection.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

/// What an HTTP/2 client with prior knowledge says first (RFC 9113 §3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection, in the clear or encrypted.
#[derive(Debug)]
pub(super) enum Transport {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A transport with what was read ahead from it.
#[derive(Debug)]
pub(super) struct Io {
    transport: Transport,
    ahead: [u8; PREFACE.len()],
    /// The part of `ahead` that is still to be read.
    unread: std::ops::Range<usize>,
}

/// The versions of HTTP that begin differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Http1,
    Http2,
}

impl Io {
    pub(super) fn new(transport: Transport) -> Self {
        Self { transport, ahead: [0; PREFACE.len()], unread: 0..0 }
    }

    /// Tells by the first bytes which version the client speaks. Without a byte there is nothing to answer: `None`.
    /// Everything that was looked at is read again.
    pub(super) async fn version(&mut self) -> io::Result<Option<Version>> {
        let mut read = 0;
        while read < PREFACE.len() && self.ahead[..read] == PREFACE[..read] {
            match self.transport.read(&mut self.ahead[read..]).await? {
                0 if read == 0 => return Ok(None),
                0 => break,
                more => read += more,
            }
        }
        self.unread = 0..read;
        let is_preface = self.ahead[..read] == PREFACE[..];
        Ok(Some(if is_preface { Version::Http2 } else { Version::Http1 }))
    }

    /// Closes in order: the client is told that nothing more comes, and what it still sends is read for a moment. A
    /// socket closed with unread bytes is reset, and a reset can destroy an answer that the client has not yet read.
    pub(super) async fn linger(mut self) {
        const LONGEST: Duration = Duration::from_secs(1);
        const MOST: usize = 1024 * 1024;
        let drain = async {
            if self.transport.shutdown().await.is_err() {
                return;
            }
            let mut scratch = [0; 4096];
            let mut total = 0;
            while let Ok(read) = self.transport.read(&mut scratch).await {
                total += read;
                if read == 0 || total > MOST {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(LONGEST, drain).await;
    }
}

impl AsyncRead for Io {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.unread.is_empty() {
            let length = this.unread.len().min(buf.remaining());
            buf.put_slice(&this.ahead[this.unread.start..this.unread.start + length]);
            this.unread.start += length;
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.transport).poll_read(cx, buf)
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.transport).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.transport).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(cx)
    }
}

/// Calls the same method of whatever transport it is.
macro_rules! each {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self {
            Transport::Tcp($stream) => $call,
            Transport::Unix($stream) => $call,
            Transport::Tls($stream) => $call,
        }
    };
}

impl AsyncRead for Transport {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        each!(this, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        each!(this, stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        each!(this, stream => Pin::new(stream).poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        each!(self, stream => stream.is_write_vectored())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        each!(this, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        each!(this, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn version_of(sent: &[u8]) -> (Option<Version>, Vec<u8>) {
        let (mut client, server) = UnixStream::pair().unwrap();
        for byte in sent {
            client.write_all(&[*byte]).await.unwrap();
        }
        drop(client);
        let mut io = Io::new(Transport::Unix(server));
        let version = io.version().await.unwrap();
        let mut read = Vec::new();
        io.read_to_end(&mut read).await.unwrap();
        (version, read)
    }

    #[tokio::test]
    async fn the_first_bytes_tell_the_version_and_are_not_lost() {
        assert_eq!(version_of(b"").await, (None, Vec::new()));
        let mut long = PREFACE.to_vec();
        long.extend(b"\0\0\0\x04\0");
        assert_eq!(version_of(&long).await, (Some(Version::Http2), long));
        for sent in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rx", b"P", &PREFACE[..23]] {
            assert_eq!(version_of(sent).await, (Some(Version::Http1), sent.to_vec()));
        }
    }
}
