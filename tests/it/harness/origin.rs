//! A service that records what reaches it, byte for byte, and answers as it is told.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::wire::{Framing, Head, Reader, io_ok};

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Received {
    pub head: Head,
    pub body: Vec<u8>,
}

/// What the origin writes, verbatim.
#[derive(Clone, Debug)]
pub struct Reply(pub Vec<u8>);

impl Reply {
    pub fn new(status: u16, content_type: &str, body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let mut bytes =
            format!("HTTP/1.1 {status} X\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\r\n", body.len())
                .into_bytes();
        bytes.extend_from_slice(body);
        Self(bytes)
    }

    pub fn json(body: impl AsRef<[u8]>) -> Self {
        Self::new(200, "application/json", body)
    }

    pub fn raw(text: impl Into<String>) -> Self {
        Self(text.into().into_bytes())
    }
}

/// A running origin; ends with the test's runtime.
pub struct Origin {
    pub address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    connections: Arc<AtomicUsize>,
}

impl Origin {
    /// Answers every request with what `answer` makes of it.
    pub async fn answering(answer: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        let received = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&received);
        let answer = Arc::new(answer);
        let origin = Self::raw(move |stream| {
            let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
            async move {
                let mut reader = Reader::new(stream);
                while let Some(head) = reader.head().await {
                    let framing = request_framing(&head);
                    let (body, complete) = reader.body(framing).await;
                    let request = Received { head, body };
                    log.lock().expect("no test panics here").push(request.clone());
                    if !complete {
                        return;
                    }
                    if reader.stream().write_all(&answer(&request).0).await.is_err() {
                        return;
                    }
                }
            }
        })
        .await;
        Self { received, ..origin }
    }

    /// Answers every request with the same JSON.
    pub async fn json(body: &'static str) -> Self {
        Self::answering(move |_| Reply::json(body)).await
    }

    /// Hands every connection to `serve`.
    pub async fn raw<F>(serve: impl Fn(TcpStream) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = io_ok(TcpListener::bind("127.0.0.1:0").await);
        let address = io_ok(listener.local_addr());
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                io_ok(stream.set_nodelay(true));
                tokio::spawn(serve(stream));
            }
        });
        Self { address, received: Arc::default(), connections }
    }

    /// Takes one request a connection, tells that it has come, and answers `done` when it is let go.
    pub async fn held() -> (Self, Arc<Notify>, Arc<Notify>) {
        let (begun, finish) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (began, release) = (Arc::clone(&begun), Arc::clone(&finish));
        let origin = Self::raw(move |stream| {
            let (began, release) = (Arc::clone(&began), Arc::clone(&release));
            async move {
                let mut reader = Reader::new(stream);
                reader.head().await;
                began.notify_one();
                release.notified().await;
                let _ = reader.stream().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone").await;
            }
        })
        .await;
        (origin, begun, finish)
    }

    /// An address where nobody listens: no test uses this part of the loopback network, so the port stays free.
    pub fn nowhere() -> Self {
        let address = SocketAddr::from(([127, 0, 88, 1], 9));
        Self { address, received: Arc::default(), connections: Arc::default() }
    }

    /// What has arrived so far.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().expect("no test panics here").clone()
    }

    /// The only request that has arrived.
    pub fn only(&self) -> Received {
        let received = self.received();
        assert_eq!(received.len(), 1, "{received:?}");
        received.into_iter().next().expect("one")
    }

    /// Connections that were ever made.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn request_framing(head: &Head) -> Framing {
    if head.field("transfer-encoding").is_some() {
        return Framing::Chunked;
    }
    match head.field("content-length") {
        Some(length) => Framing::Length(length.parse().expect("a length")),
        None => Framing::Empty,
    }
}
