//! A client that sends exactly what it is told.

use std::net::SocketAddr;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::wire::{Framing, Head, Reader, io_ok};

/// A request in the making. Nothing is added but `Host`, and `Content-Length` where there is a body.
#[derive(Clone, Debug)]
pub struct Request {
    address: SocketAddr,
    method: String,
    target: String,
    host: bool,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
    chunked: bool,
}

/// A response as it arrived.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub head: Head,
    pub body: Vec<u8>,
    /// Whether the body ended as its framing says.
    pub complete: bool,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("text")
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The one answer that shows a key: that of the key service when it has made one.
    fn is_a_new_key(&self) -> bool {
        let says = |code: &str| memchr::memmem::find(&self.body, code.as_bytes()).is_some();
        self.status == 201 && (says("API_KEY_CREATED") || says("API_KEY_ROTATED"))
    }

    /// The code of a refusal in the default shape.
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_else(|| panic!("no code: {}", self.text())).to_owned()
    }
}

impl Request {
    pub fn new(address: SocketAddr, method: &str, target: &str) -> Self {
        Self {
            address,
            method: method.to_owned(),
            target: target.to_owned(),
            host: true,
            fields: Vec::new(),
            body: Vec::new(),
            chunked: false,
        }
    }

    pub fn key(self, key: &str) -> Self {
        super::secrets::sent(key);
        self.header("Authorization", &format!("Bearer {key}"))
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn without_host(mut self) -> Self {
        self.host = false;
        self
    }

    pub fn body(mut self, content_type: &str, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self.header("Content-Type", content_type)
    }

    pub fn json(self, body: impl AsRef<[u8]>) -> Self {
        self.body("application/json", body)
    }

    /// Sends the body in chunks instead of with its length.
    pub fn chunked(mut self) -> Self {
        self.chunked = true;
        self
    }

    /// Where the request goes.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn bytes(&self) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if self.host {
            text.push_str("Host: service.example\r\n");
        }
        for (name, value) in &self.fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if self.chunked {
            text.push_str("Transfer-Encoding: chunked\r\n\r\n");
        } else if self.body.is_empty() {
            text.push_str("\r\n");
        } else {
            text.push_str(&format!("Content-Length: {}\r\n\r\n", self.body.len()));
        }
        let mut bytes = text.into_bytes();
        if self.chunked {
            for piece in self.body.chunks(1000) {
                bytes.extend(format!("{:x}\r\n", piece.len()).into_bytes());
                bytes.extend_from_slice(piece);
                bytes.extend(b"\r\n");
            }
            bytes.extend(b"0\r\n\r\n");
        } else {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }

    /// Sends the request on a connection of its own and reads the whole answer.
    pub async fn send(&self) -> Answer {
        let mut connection = Connection::to(self.address).await;
        connection.request(self).await
    }
}

/// One client connection.
pub struct Connection(pub Reader<TcpStream>);

impl Connection {
    pub async fn to(address: SocketAddr) -> Self {
        let stream = io_ok(TcpStream::connect(address).await);
        io_ok(stream.set_nodelay(true));
        Self(Reader::new(stream))
    }

    /// Writes bytes as they are.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        // A proxy that has refused may have closed already; the answer is still to be read.
        let _ = self.0.stream().write_all(bytes.as_ref()).await;
    }

    /// Sends a request without waiting for its answer.
    pub async fn send(&mut self, request: &Request) {
        self.write(request.bytes()).await;
    }

    pub async fn request(&mut self, request: &Request) -> Answer {
        self.send(request).await;
        self.answer(&request.method).await
    }

    /// Reads the next response head.
    pub async fn head(&mut self) -> (u16, Head) {
        let head = self.0.head().await.expect("a response head");
        let status = head.first_line.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, head)
    }

    /// Reads the next response; `method` decides whether it has a body.
    pub async fn answer(&mut self, method: &str) -> Answer {
        let (mut status, mut head) = self.head().await;
        while status == 100 {
            (status, head) = self.head().await;
        }
        let framing = match (head.field("transfer-encoding"), head.field("content-length")) {
            _ if method == "HEAD" || matches!(status, 204 | 304) => Framing::Empty,
            (Some(_), _) => Framing::Chunked,
            (None, Some(length)) => Framing::Length(length.parse().expect("a length")),
            (None, None) => Framing::ToEnd,
        };
        let (body, complete) = self.0.body(framing).await;
        let answer = Answer { status, head, body, complete };
        if !answer.is_a_new_key() {
            super::secrets::expect_none_in("an answer", &answer.body);
        }
        super::secrets::expect_none_in("an answer's head", format!("{:?}", answer.head).as_bytes());
        answer
    }
}
