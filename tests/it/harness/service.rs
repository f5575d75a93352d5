//! A service that speaks any of the protocols that an upstream may, and does at each path what the path says.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use base64ct::{Base64, Encoding};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Version};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use sha1::{Digest, Sha1};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Notify, watch};

use super::proxy::{Proxy, ProxyBuilder};
use super::tls::{Authority, Certified};
use super::wire::io_ok;
use super::within;

/// What a service speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Http1,
    Https,
    /// HTTP/2 over TLS.
    Http2,
    /// HTTP/2 by prior knowledge.
    H2c,
    Unix,
}

impl Kind {
    fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Http2)
    }

    pub fn version(self) -> Version {
        if matches!(self, Self::Http2 | Self::H2c) { Version::HTTP_2 } else { Version::HTTP_11 }
    }
}

/// A request as the service saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: Method,
    pub uri: http::Uri,
    pub version: Version,
    pub headers: HeaderMap,
}

/// What a service has seen, and what it is to do.
#[derive(Debug, Default)]
struct State {
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    /// Requests that wait for an answer that never comes, or for the rest of one.
    waiting: watch::Sender<usize>,
    /// Those of them that were given up.
    abandoned: watch::Sender<usize>,
    /// Cuts every connection, whatever is under way.
    cut: Notify,
}

/// A running service; ends with the test's runtime.
pub struct Service {
    pub kind: Kind,
    pub address: SocketAddr,
    pub authority: Authority,
    state: Arc<State>,
    dir: TempDir,
}

impl Service {
    pub async fn start(kind: Kind) -> Self {
        let authority = Authority::new();
        let certified = authority.certify(&["localhost"]);
        Self::shown(kind, authority, certified, None).await
    }

    /// A service that shows `certified`, and to which clients of `of` alone may speak.
    pub async fn shown(kind: Kind, authority: Authority, certified: Certified, of: Option<&Authority>) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let state = Arc::new(State::default());
        let protocol: &[&str] = if kind == Kind::Http2 { &["h2"] } else { &["http/1.1"] };
        let tls = kind.is_tls().then(|| authority.acceptor(&certified, protocol, of));
        let path = dir.path().join("service.sock");
        let unix = (kind == Kind::Unix).then(|| io_ok(UnixListener::bind(&path)));
        let listener = io_ok(TcpListener::bind("127.0.0.1:0").await);
        let address = io_ok(listener.local_addr());
        let serving = Arc::clone(&state);
        tokio::spawn(async move {
            loop {
                let state = Arc::clone(&serving);
                if let Some(unix) = &unix {
                    let (stream, _) = io_ok(unix.accept().await);
                    tokio::spawn(serve(stream, kind, state));
                    continue;
                }
                let (stream, _) = io_ok(listener.accept().await);
                let tls = tls.clone();
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, kind, state).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, kind, state).await;
                            }
                        }
                    }
                });
            }
        });
        Self { kind, address, authority, state, dir }
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("service.sock")
    }

    /// Its address as an upstream's endpoint.
    pub fn endpoint(&self) -> String {
        match self.kind {
            Kind::Http1 | Kind::H2c => format!("http://{}", self.address),
            Kind::Https | Kind::Http2 => format!("https://localhost:{}", self.address.port()),
            Kind::Unix => format!("unix:{}", self.socket().display()),
        }
    }

    /// The options of an upstream that reaches it.
    pub fn options(&self) -> String {
        let endpoint = self.endpoint();
        match self.kind {
            Kind::Http1 | Kind::Unix => format!("endpoints: ['{endpoint}']"),
            Kind::H2c => format!("endpoints: ['{endpoint}'], http2: true"),
            Kind::Https | Kind::Http2 => format!("endpoints: ['{endpoint}'], tls: {{ca: {{file: service-ca.pem}}}}"),
        }
    }

    /// A proxy before it, in the making.
    pub fn proxy(&self) -> ProxyBuilder {
        Proxy::builder_to(self.address).upstream(&self.options()).file("service-ca.pem", &self.authority.pem())
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().expect("no test panics here").clone()
    }

    /// Connections that were ever made.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// Waits until so many requests have ever waited for an answer.
    pub async fn waiting(&self, count: usize) {
        let mut waiting = self.state.waiting.subscribe();
        let _ = within("the request's way", waiting.wait_for(|waiting| *waiting >= count)).await.expect("it is there");
    }

    /// Waits until so many of them were given up.
    pub async fn abandoned(&self, count: usize) {
        let mut abandoned = self.state.abandoned.subscribe();
        let _ = within("the cancel", abandoned.wait_for(|abandoned| *abandoned >= count)).await.expect("it is there");
    }

    /// Cuts every connection, whatever is under way.
    pub fn cut(&self) {
        self.state.cut.notify_waiters();
    }
}

async fn serve<S>(stream: S, kind: Kind, state: Arc<State>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    state.connections.fetch_add(1, Ordering::SeqCst);
    let cut = Arc::clone(&state);
    let mut cut = std::pin::pin!(cut.cut.notified());
    cut.as_mut().enable();
    let service = service_fn(move |request| answer(request, Arc::clone(&state)));
    let io = TokioIo::new(stream);
    if kind.version() == Version::HTTP_2 {
        let connection = http2::Builder::new(TokioExecutor::new()).serve_connection(io, service);
        tokio::select! {
            _ = connection => {}
            () = cut => {}
        }
    } else {
        let connection = http1::Builder::new().timer(TokioTimer::new()).serve_connection(io, service).with_upgrades();
        tokio::select! {
            _ = connection => {}
            () = cut => {}
        }
    }
}

/// Counts a request that waits for ever.
struct Waiting(Arc<State>);

impl Waiting {
    fn begin(state: Arc<State>) -> Self {
        state.waiting.send_modify(|waiting| *waiting += 1);
        Self(state)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.abandoned.send_modify(|abandoned| *abandoned += 1);
    }
}

/// A body in pieces, which may have no end.
struct Pieces {
    pieces: std::vec::IntoIter<&'static str>,
    length: Option<u64>,
    endless: Option<Waiting>,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.pieces.next() {
            Some(piece) => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(piece.as_bytes()))))),
            None if self.endless.is_some() => Poll::Pending,
            None => Poll::Ready(None),
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

type Answer = Response<http_body_util::combinators::BoxBody<Bytes, Infallible>>;

fn full(status: u16, text: String) -> Answer {
    let body = http_body_util::Full::from(text).boxed();
    Response::builder().status(status).header("content-type", "text/plain").body(body).expect("a response")
}

fn pieces(list: Vec<&'static str>, length: Option<u64>, endless: Option<Waiting>) -> Answer {
    let kind = if length.is_some() { "text/plain" } else { "text/event-stream" };
    let body = Pieces { pieces: list.into_iter(), length, endless }.boxed();
    Response::builder().header("content-type", kind).body(body).expect("a response")
}

async fn answer(mut request: Request<Incoming>, state: Arc<State>) -> Result<Answer, Infallible> {
    let seen = Seen {
        method: request.method().clone(),
        uri: request.uri().clone(),
        version: request.version(),
        headers: request.headers().clone(),
    };
    state.seen.lock().expect("no test panics here").push(seen);
    let path = request.uri().path().to_owned();
    Ok(match path.as_str() {
        "/events" => pieces(vec!["data: 1\n\n", "data: 2\n\n", "data: 3\n\n"], None, None),
        "/half" => pieces(vec!["data: 1\n\n"], None, Some(Waiting::begin(state))),
        "/half/length" => pieces(vec!["12345"], Some(10), Some(Waiting::begin(state))),
        "/silent" => {
            let _waiting = Waiting::begin(state);
            std::future::pending().await
        }
        // Without a look at the body.
        "/early" => full(413, "early".to_owned()),
        "/ws" => websocket(&mut request),
        path if path.starts_with("/status/") => full(path[8..].parse().expect("a status"), "status".to_owned()),
        path => {
            let method = request.method().clone();
            let body = request.into_body().collect().await;
            let length = body.map_or(0, |body| body.to_bytes().len());
            let mut answer = full(200, format!("{method} {path} {length}"));
            if method == Method::HEAD {
                // In HTTP/2 hyper leaves it to the service to send no body.
                let length = answer.body().size_hint().exact().unwrap_or_default();
                answer.headers_mut().insert("content-length", length.into());
                *answer.body_mut() = http_body_util::Empty::new().boxed();
            }
            answer
        }
    })
}

/// Says `hi`, and the next message back.
fn websocket(request: &mut Request<Incoming>) -> Answer {
    let key = request.headers()["sec-websocket-key"].to_str().expect("a key");
    let hash = Sha1::new().chain_update(key).chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize();
    let upgrade = hyper::upgrade::on(request);
    tokio::spawn(async move {
        let mut stream = TokioIo::new(upgrade.await.expect("an upgrade"));
        stream.write_all(b"\x81\x02hi").await.expect("it is read");
        let mut frame = [0; 2];
        stream.read_exact(&mut frame).await.expect("a frame");
        let mut masked = vec![0; 4 + usize::from(frame[1] & 0x7F)];
        stream.read_exact(&mut masked).await.expect("a message");
        let (mask, text) = masked.split_at(4);
        let text: Vec<u8> = text.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        stream.write_all(&[&[0x81, text.len() as u8][..], &text].concat()).await.expect("it is read");
        let _ = stream.read_u8().await;
    });
    Response::builder()
        .status(101)
        .header("upgrade", "websocket")
        .header("connection", "upgrade")
        .header("sec-websocket-accept", Base64::encode_string(&hash))
        .body(http_body_util::Empty::new().boxed())
        .expect("a response")
}
