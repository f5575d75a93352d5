//! A forward proxy that opens tunnels, and keeps what goes through them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::origin::Reply;
use super::wire::{Head, Reader, io_ok};

/// A running proxy; ends with the test's runtime.
#[derive(Clone)]
pub struct Tunnels {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    heads: Vec<Head>,
    /// What clients have sent through all tunnels, and what they were sent.
    carried: Vec<u8>,
    refusal: Option<Reply>,
}

impl Tunnels {
    /// Connects everybody to `target`, whatever name they ask for.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = io_ok(TcpListener::bind("127.0.0.1:0").await);
        let tunnels = Self { address: io_ok(listener.local_addr()), state: Arc::default() };
        let serving = tunnels.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let tunnels = serving.clone();
                tokio::spawn(async move { tunnels.serve(stream, target).await });
            }
        });
        tunnels
    }

    async fn serve(&self, stream: TcpStream, target: SocketAddr) {
        let mut reader = Reader::new(stream);
        let Some(head) = reader.head().await else { return };
        self.lock().heads.push(head);
        let refusal = self.lock().refusal.clone();
        if let Some(reply) = refusal {
            let _ = reader.stream().write_all(&reply.0).await;
            return;
        }
        let client = reader.stream();
        let mut server = io_ok(TcpStream::connect(target).await);
        io_ok(client.write_all(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 test\r\n\r\n").await);
        let (mut there, mut back) = ([0; 4096], [0; 4096]);
        loop {
            tokio::select! {
                read = client.read(&mut there) => match read {
                    Ok(length @ 1..) if server.write_all(&there[..length]).await.is_ok() => self.keep(&there[..length]),
                    _ => return,
                },
                read = server.read(&mut back) => match read {
                    Ok(length @ 1..) if client.write_all(&back[..length]).await.is_ok() => self.keep(&back[..length]),
                    _ => return,
                },
            }
        }
    }

    /// Answers every client with this instead; `None` ends it.
    pub fn refuse_with(&self, reply: impl Into<Option<Reply>>) {
        self.lock().refusal = reply.into();
    }

    /// The heads of all requests to the proxy itself.
    pub fn heads(&self) -> Vec<Head> {
        self.lock().heads.clone()
    }

    /// Whether `text` has gone through any tunnel, as it is.
    pub fn has_seen(&self, text: &str) -> bool {
        self.lock().carried.windows(text.len()).any(|window| window == text.as_bytes())
    }

    /// Bytes that have gone through all tunnels.
    pub fn carried(&self) -> usize {
        self.lock().carried.len()
    }

    fn keep(&self, bytes: &[u8]) {
        self.lock().carried.extend_from_slice(bytes);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no test panics here")
    }
}
