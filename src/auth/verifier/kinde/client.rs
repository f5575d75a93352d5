//! One HTTP client for one origin: pooled HTTP/1.1 connections, over TLS unless it is on this machine.
//!
//! Enters: a request without `Host`. Leaves: a whole answer of bounded size, or why there is none. A connection that
//! fails before it has answered is tried once more, within a budget; nothing else is, and no redirect is followed.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, crypto::ring};

use super::Failure;
use super::link::{Answering, Exchange, Reply};
use super::tunnel::ForwardProxy;
use crate::auth::VerifierError;
use crate::time::Clock;
use crate::trust::{TrustedCertificates, system_roots};

const MAX_HEAD: usize = 32 << 10;

/// Idle connections that are kept, and for how long.
const MAX_IDLE: usize = 8;
const MAX_IDLE_TIME: Duration = Duration::from_secs(30);

/// Second attempts that may follow upon each other; each request that needs none gives back a tenth of one.
const RETRIES: u32 = 10;
const TENTHS: u32 = 10;

/// A scheme, a host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    pub tls: bool,
    /// Host name or IP address, without brackets.
    pub host: Box<str>,
    pub port: u16,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, usual) = if self.tls { ("https", 443) } else { ("http", 80) };
        write!(f, "{scheme}://")?;
        if self.host.contains(':') { write!(f, "[{}]", self.host) } else { f.write_str(&self.host) }?;
        if self.port == usual { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

impl Origin {
    /// `host:port`, always with the port.
    fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// A client for one origin.
pub struct Client {
    origin: Origin,
    host_header: HeaderValue,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    proxy: Option<ForwardProxy>,
    clock: Clock,
    /// The lock is held for a push or a pop.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    idle: Vec<(SendRequest<Full<Bytes>>, Instant)>,
    /// In tenths of an attempt.
    spent: u32,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// Why there is no answer.
enum Failed {
    /// The connection failed before it answered.
    Connection(String),
    /// Another attempt would come to the same.
    Finally(Failure),
}

impl Failed {
    fn answer(why: String) -> Self {
        Self::Finally(Failure::Away(why))
    }
}

impl From<Failed> for Failure {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Connection(why) => Self::Away(why),
            Failed::Finally(failure) => failure,
        }
    }
}

impl Exchange for Client {
    fn exchange(&self, request: Request<Full<Bytes>>, limit: usize) -> Answering<'_> {
        Box::pin(self.send(request, limit))
    }
}

impl Client {
    pub fn new(
        origin: Origin,
        ca: Option<&TrustedCertificates>,
        proxy: Option<ForwardProxy>,
        clock: Clock,
    ) -> Result<Self, VerifierError> {
        let tls = origin.tls.then(|| connector(&origin.host, ca)).transpose().map_err(VerifierError::new)?;
        let text = origin.to_string();
        let authority = text.split("://").nth(1).unwrap_or_default();
        let host_header = HeaderValue::from_str(authority).map_err(|error| VerifierError::new(error.to_string()))?;
        Ok(Self { origin, host_header, tls, proxy, clock, state: Mutex::default() })
    }

    /// Sends a request to the origin. Calls only what can be repeated.
    async fn send(&self, mut request: Request<Full<Bytes>>, limit: usize) -> Result<Reply, Failure> {
        request.headers_mut().insert(header::HOST, self.host_header.clone());
        let pooled = self.checkout();
        let was_pooled = pooled.is_some();
        match self.attempt(pooled, request.clone(), limit).await {
            Ok(reply) => {
                let mut state = self.lock();
                state.spent = state.spent.saturating_sub(1);
                Ok(reply)
            }
            Err(Failed::Finally(failure)) => Err(failure),
            // A pooled connection that turns out to be closed says nothing about the origin.
            Err(Failed::Connection(why)) if was_pooled || self.may_retry() => {
                tracing::debug!(%why, "sending once more");
                Ok(self.attempt(None, request, limit).await?)
            }
            Err(failed @ Failed::Connection(_)) => Err(failed.into()),
        }
    }

    /// Sends a request on a connection of its own, once, and leaves the body of the answer to be read.
    pub(super) async fn open(&self, mut request: Request<Full<Bytes>>) -> Result<Response<Incoming>, String> {
        request.headers_mut().insert(header::HOST, self.host_header.clone());
        let mut sender = self.connect().await.map_err(|failed| Failure::from(failed).to_string())?;
        sender.send_request(request).await.map_err(|error| error_chain(&error))
    }

    /// Sends a request that must not be sent twice; reads at most `most` bytes of its answer.
    pub async fn send_once(&self, request: Request<Full<Bytes>>, most: usize) -> Result<Reply, String> {
        read(self.open(request).await?, most).await
    }

    async fn attempt(
        &self,
        pooled: Option<SendRequest<Full<Bytes>>>,
        request: Request<Full<Bytes>>,
        limit: usize,
    ) -> Result<Reply, Failed> {
        let mut sender = match pooled {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let response = sender.send_request(request).await.map_err(|error| Failed::Connection(error_chain(&error)))?;
        let reply = read(response, limit).await.map_err(Failed::answer)?;
        self.put(sender);
        Ok(reply)
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Failed> {
        let failed = |what: &str, error: &dyn std::error::Error| {
            Failed::Connection(format!("{what} {}: {}", self.origin, error_chain(error)))
        };
        let stream = match &self.proxy {
            None => {
                let address = (&*self.origin.host, self.origin.port);
                let stream = TcpStream::connect(address).await.map_err(|error| failed("cannot connect to", &error))?;
                // A request is written at once; waiting to fill a segment only delays it.
                stream.set_nodelay(true).map_err(|error| failed("cannot connect to", &error))?;
                stream
            }
            Some(proxy) => match proxy.connect(&self.origin.authority()).await {
                Ok(stream) => stream,
                Err(Failure::Away(why)) => return Err(Failed::Connection(why)),
                Err(failure) => return Err(Failed::Finally(failure)),
            },
        };
        match &self.tls {
            None => handshake(TokioIo::new(stream)).await,
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await;
                handshake(TokioIo::new(stream.map_err(|error| failed("no TLS with", &error))?)).await
            }
        }
        .map_err(Failed::Connection)
    }

    fn checkout(&self) -> Option<SendRequest<Full<Bytes>>> {
        let now = self.clock.now().monotonic;
        let mut state = self.lock();
        state.idle.retain(|(sender, until)| *until > now && !sender.is_closed());
        let ready = state.idle.iter().rposition(|(sender, _)| sender.is_ready())?;
        Some(state.idle.remove(ready).0)
    }

    fn put(&self, sender: SendRequest<Full<Bytes>>) {
        let until = self.clock.now().monotonic + MAX_IDLE_TIME;
        let mut state = self.lock();
        if state.idle.len() < MAX_IDLE && !sender.is_closed() {
            state.idle.push((sender, until));
        }
    }

    fn may_retry(&self) -> bool {
        let mut state = self.lock();
        let within = state.spent + TENTHS <= RETRIES * TENTHS;
        if within {
            state.spent += TENTHS;
        }
        within
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn handshake(io: impl Read + Write + Unpin + Send + 'static) -> Result<SendRequest<Full<Bytes>>, String> {
    let (sender, connection) =
        http1::Builder::new().max_buf_size(MAX_HEAD).handshake(io).await.map_err(|error| error_chain(&error))?;
    // Ends when the sender is dropped; an error reaches the request through its sender.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

async fn read(response: Response<Incoming>, limit: usize) -> Result<Reply, String> {
    let (head, body) = response.into_parts();
    let body = Limited::new(body, limit).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            format!("an answer of more than {limit} bytes")
        } else {
            format!("the answer broke off: {}", error_chain(&*error))
        }
    })?;
    Ok(Reply { status: head.status, reset: reset(&head.headers), body: body.to_bytes() })
}

/// Seconds until a limit is reset, as Kinde documents it or as everybody else does (RFC 9110 §10.2.3).
fn reset(headers: &HeaderMap) -> Option<Duration> {
    let seconds = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs);
    seconds("ratelimit-reset").or_else(|| seconds("retry-after"))
}

fn connector(host: &str, ca: Option<&TrustedCertificates>) -> Result<(TlsConnector, ServerName<'static>), String> {
    let roots = match ca {
        Some(ca) => ca.roots()?,
        None => system_roots("keys.kinde.ca")?,
    };
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let name = ServerName::try_from(host.to_owned()).map_err(|error| format!("{host}: {error}"))?;
    Ok((TlsConnector::from(Arc::new(config)), name))
}

/// An error with its causes: hyper's own text leaves them out.
fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
