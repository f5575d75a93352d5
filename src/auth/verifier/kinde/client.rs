//! One HTTP client for one origin: pooled HTTP/1.1 connections, over TLS unless it is on this machine.
//!
//! Enters: a request without `Host`. Leaves: a whole answer of bounded size, or why there is none. A connection that
//! fails before it has answered is tried once more, within a budget; nothing else is, and no redirect is followed.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, crypto::ring};

use crate::auth::VerifierError;
use crate::time::Clock;
use crate::trust::{TrustedCertificates, system_roots};

/// The largest answer that is read; real ones have less than 1 KiB.
const MAX_ANSWER: usize = 64 << 10;
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

/// An answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    /// What the answer says about when to ask again.
    pub(super) reset: Option<Duration>,
    pub(super) body: Bytes,
}

pub(super) struct Client {
    origin: Origin,
    host_header: HeaderValue,
    tls: Option<(TlsConnector, ServerName<'static>)>,
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
    Answer(String),
}

impl Client {
    pub(super) fn new(origin: Origin, ca: Option<&TrustedCertificates>, clock: Clock) -> Result<Self, VerifierError> {
        let tls = origin.tls.then(|| connector(&origin.host, ca)).transpose().map_err(VerifierError::new)?;
        let text = origin.to_string();
        let authority = text.split("://").nth(1).unwrap_or_default();
        let host_header = HeaderValue::from_str(authority).map_err(|error| VerifierError::new(error.to_string()))?;
        Ok(Self { origin, host_header, tls, clock, state: Mutex::default() })
    }

    /// Sends a request to the origin. Calls only what can be repeated.
    pub(super) async fn send(&self, mut request: Request<Full<Bytes>>) -> Result<Reply, String> {
        request.headers_mut().insert(header::HOST, self.host_header.clone());
        let pooled = self.checkout();
        let was_pooled = pooled.is_some();
        match self.attempt(pooled, request.clone()).await {
            Ok(reply) => {
                let mut state = self.lock();
                state.spent = state.spent.saturating_sub(1);
                Ok(reply)
            }
            Err(Failed::Answer(why)) => Err(why),
            // A pooled connection that turns out to be closed says nothing about the origin.
            Err(Failed::Connection(why)) if was_pooled || self.may_retry() => {
                tracing::debug!(%why, "sending once more");
                self.attempt(None, request).await.map_err(|(Failed::Connection(why) | Failed::Answer(why))| why)
            }
            Err(Failed::Connection(why)) => Err(why),
        }
    }

    async fn attempt(
        &self,
        pooled: Option<SendRequest<Full<Bytes>>>,
        request: Request<Full<Bytes>>,
    ) -> Result<Reply, Failed> {
        let mut sender = match pooled {
            Some(sender) => sender,
            None => self.connect().await.map_err(Failed::Connection)?,
        };
        let response = sender.send_request(request).await.map_err(|error| Failed::Connection(error_chain(&error)))?;
        let reply = read(response).await.map_err(Failed::Answer)?;
        self.put(sender);
        Ok(reply)
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, String> {
        let address = (&*self.origin.host, self.origin.port);
        let failed =
            |what: &str, error: &dyn std::error::Error| format!("{what} {}: {}", self.origin, error_chain(error));
        let stream = TcpStream::connect(address).await.map_err(|error| failed("cannot connect to", &error))?;
        // A request is written at once; waiting to fill a segment only delays it.
        stream.set_nodelay(true).map_err(|error| failed("cannot connect to", &error))?;
        match &self.tls {
            None => handshake(TokioIo::new(stream)).await,
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await;
                handshake(TokioIo::new(stream.map_err(|error| failed("no TLS with", &error))?)).await
            }
        }
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

async fn read(response: Response<Incoming>) -> Result<Reply, String> {
    let (head, body) = response.into_parts();
    let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            format!("an answer of more than {MAX_ANSWER} bytes")
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
