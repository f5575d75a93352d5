//! Asking Kinde about a key.
//!
//! Enters: a key. Leaves: its owner, a clear "invalid", or an error. Kinde answers for a bad key in two shapes (200
//! with `is_valid: false`, or 400/401), and a 401 may mean our own token instead: it is told as "invalid key" only
//! when the token is known to work. Everything that is not a clear answer is an error, and nobody's fault but
//! Kinde's or ours.
//!
//! No copy of a key is kept, and none is logged; what is sent is wiped when it has been sent.

mod answer;
mod client;
mod moment;
mod token;
mod trouble;

pub use client::Origin;
pub use trouble::Trouble;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::Full;
use quick_cache::sync::Cache;
use zeroize::Zeroizing;

use super::VerifierError;
use crate::auth::KeyText;
use crate::observe::Metrics;
use crate::policy::{Principal, SecretString};
use crate::time::Clock;
use crate::trust::TrustedCertificates;
use client::{Client, Reply};
use token::{Token, TokenSource};

/// Calls to Kinde that may be under way at once.
pub(super) const CONCURRENCY: usize = 64;

/// How long one accepted call vouches for its token: what Kinde refuses in this time, it refuses because of the key.
const TRUST: Duration = Duration::from_secs(60);

/// How long to pause after a 429 that does not say.
const PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// Keys whose API is remembered.
const CHECKED_KEYS: usize = 10_000;

const VERIFY: &str = "/api/v1/api_keys/verify";
const LIST: &str = "/api/v1/api_keys?page_size=1";

/// Which Kinde, and how to speak to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KindeSpec {
    pub origin: Origin,
    pub credentials: Credentials,
    /// The API that a key must be for. Without it a key of any API of the same Kinde is taken.
    pub api_id: Option<String>,
    /// Instead of the public certificate authorities.
    pub ca: Option<TrustedCertificates>,
    /// How long one verification may take in all.
    pub timeout: Duration,
}

/// What Kinde is shown.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// Client credentials (RFC 6749 §4.4) of a machine-to-machine application.
    Client {
        id: String,
        secret: SecretString,
        audience: String,
    },
    /// A token that does not change.
    Token(SecretString),
    Nothing,
}

impl PartialEq for Credentials {
    /// Compares two configurations of one operator, never a caller's guess: constant time is not needed here.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Client { id, secret, audience },
                Self::Client { id: other_id, secret: other_secret, audience: other_audience },
            ) => id == other_id && secret.expose() == other_secret.expose() && audience == other_audience,
            (Self::Token(token), Self::Token(other)) => token.expose() == other.expose(),
            (Self::Nothing, Self::Nothing) => true,
            _ => false,
        }
    }
}

impl Eq for Credentials {}

/// Why Kinde gave no answer about a key.
#[derive(Clone, Debug)]
enum Failure {
    /// It is away, overloaded, or talks nonsense.
    Away(String),
    /// It asked to be left alone for this long.
    Paused(Duration),
    /// It refuses us, not the key. Stays so until somebody mends it.
    Misconfigured(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Away(why) => write!(f, "Kinde gave no answer: {why}"),
            Self::Paused(wait) => write!(f, "Kinde limits our requests for another {} s", wait.as_secs_f64().ceil()),
            Self::Misconfigured(why) => write!(f, "Kinde refuses this proxy: {why}"),
        }
    }
}

/// Verifies keys at Kinde.
#[derive(Debug)]
pub struct KindeVerifier {
    link: Arc<Link>,
    auth: Auth,
    api: Option<ApiCheck>,
    trouble: Trouble,
    timeout: Duration,
}

/// What each call carries.
#[derive(Debug)]
enum Auth {
    Renewed(Arc<TokenSource>),
    Fixed(Arc<Token>),
    /// Nothing. True once a call was accepted, which shows that Kinde wants nothing.
    Nothing(AtomicBool),
}

/// The API that keys must be for, and the keys that were asked about. A key's APIs never change.
#[derive(Debug)]
struct ApiCheck {
    id: String,
    checked: Cache<Arc<str>, bool>,
}

/// The way to Kinde, which a 429 closes for a while.
#[derive(Debug)]
struct Link {
    client: Client,
    paused_until: Mutex<Option<Instant>>,
    clock: Clock,
}

impl KindeVerifier {
    /// Prepares everything; Kinde is asked nothing before the first key comes.
    pub fn new(spec: &KindeSpec, metrics: Arc<Metrics>, clock: Clock, trouble: Trouble) -> Result<Self, VerifierError> {
        let client = Client::new(spec.origin.clone(), spec.ca.as_ref(), clock.clone())?;
        let link = Arc::new(Link { client, paused_until: Mutex::default(), clock: clock.clone() });
        let auth = match &spec.credentials {
            Credentials::Nothing => Auth::Nothing(AtomicBool::new(false)),
            Credentials::Token(token) => Auth::Fixed(Arc::new(Token::fixed(token, clock.now().monotonic)?)),
            Credentials::Client { id, secret, audience } => Auth::Renewed(Arc::new(TokenSource::new(
                Arc::clone(&link),
                token::form(id, secret, audience),
                spec.timeout,
                metrics,
            ))),
        };
        let api = spec.api_id.clone().map(|id| ApiCheck { id, checked: Cache::new(CHECKED_KEYS) });
        Ok(Self { link, auth, api, trouble, timeout: spec.timeout })
    }

    pub(super) async fn verify(&self, key: &KeyText) -> Result<Option<Principal>, VerifierError> {
        let answer = match tokio::time::timeout(self.timeout, self.ask(key)).await {
            Ok(answer) => answer,
            Err(_) => Err(Failure::Away(format!("nothing within {:?}", self.timeout))),
        };
        match &answer {
            Ok(_) => self.trouble.clear(),
            Err(Failure::Misconfigured(_)) => self.trouble.set(answer.as_ref().err().map(ToString::to_string)),
            // Whether we are refused is not known then.
            Err(Failure::Away(_) | Failure::Paused(_)) => {}
        }
        answer.map_err(|failure| {
            let error = VerifierError::new(failure.to_string());
            if let Failure::Paused(wait) = failure { error.retry_after(wait) } else { error }
        })
    }

    async fn ask(&self, key: &KeyText) -> Result<Option<Principal>, Failure> {
        let body = verify_body(key);
        let mut token = self.token().await?;
        let mut renewed = false;
        loop {
            let reply = self.link.send(request(Method::POST, VERIFY, token.as_deref(), Some(body.clone()))).await?;
            match reply.status {
                StatusCode::OK => {
                    self.accepted(token.as_deref());
                    let Some(owner) = answer::verdict(&reply.body).map_err(Failure::Away)? else { return Ok(None) };
                    let principal = owner.principal().map_err(|error| Failure::Away(error.to_string()))?;
                    return Ok(self.is_for_our_api(&principal, token.as_deref()).await?.then_some(principal));
                }
                StatusCode::BAD_REQUEST if answer::is_object(&reply.body) => return Ok(None),
                StatusCode::UNAUTHORIZED if answer::is_object(&reply.body) => {
                    if self.is_accepted(token.as_deref()).await? {
                        return Ok(None);
                    }
                    let Some(old) = token.filter(|_| !renewed) else { return Err(not_accepted()) };
                    token = Some(self.renew(&old).await?);
                    renewed = true;
                }
                status => return Err(refused(status, "verify keys")),
            }
        }
    }

    async fn token(&self) -> Result<Option<Arc<Token>>, Failure> {
        match &self.auth {
            Auth::Renewed(source) => source.current().await.map(Some),
            Auth::Fixed(token) => Ok(Some(Arc::clone(token))),
            Auth::Nothing(_) => Ok(None),
        }
    }

    async fn renew(&self, old: &Arc<Token>) -> Result<Arc<Token>, Failure> {
        match &self.auth {
            Auth::Renewed(source) => source.renew(old).await,
            Auth::Fixed(_) | Auth::Nothing(_) => Err(not_accepted()),
        }
    }

    /// Notes that Kinde accepted what a call carried.
    fn accepted(&self, token: Option<&Token>) {
        match (&self.auth, token) {
            (Auth::Nothing(accepted), _) => accepted.store(true, Ordering::Relaxed),
            (_, Some(token)) => token.accepted(self.link.now()),
            (_, None) => {}
        }
    }

    /// Whether Kinde accepts what a call carried that it answered with 401. If it does, the key was at fault.
    async fn is_accepted(&self, token: Option<&Token>) -> Result<bool, Failure> {
        let Some(token) = token else {
            let Auth::Nothing(accepted) = &self.auth else { return Ok(false) };
            return if accepted.load(Ordering::Relaxed) {
                Ok(true)
            } else {
                Err(Failure::Misconfigured("it answers 401 to a call without a token (`auth: none`)".to_owned()))
            };
        };
        if token.was_accepted(self.link.now(), TRUST) {
            return Ok(true);
        }
        // Another call with the same token, in which no key is at fault. Asking for a new token instead would be
        // metered, and would let anybody with a wrong key run up a bill.
        let reply = self.link.send(request(Method::GET, LIST, Some(token), None)).await?;
        match reply.status {
            // A scope that is missing is missing from a token that was accepted.
            StatusCode::OK | StatusCode::FORBIDDEN if answer::is_object(&reply.body) => {
                token.accepted(self.link.now());
                Ok(true)
            }
            StatusCode::UNAUTHORIZED => Ok(false),
            status => Err(refused(status, "list keys")),
        }
    }

    async fn is_for_our_api(&self, principal: &Principal, token: Option<&Token>) -> Result<bool, Failure> {
        let Some(api) = &self.api else { return Ok(true) };
        if let Some(ours) = api.checked.get(&*principal.key_id) {
            return Ok(ours);
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if principal.key_id.is_empty() || !principal.key_id.bytes().all(plain) {
            return Err(Failure::Away("the key's id is no id".to_owned()));
        }
        let path = format!("/api/v1/api_keys/{}", principal.key_id);
        let reply = self.link.send(request(Method::GET, &path, token, None)).await?;
        if reply.status != StatusCode::OK {
            return Err(refused(reply.status, "look at a key"));
        }
        let apis = answer::api_ids(&reply.body, &principal.key_id).map_err(Failure::Away)?;
        let ours = apis.contains(&api.id);
        if !ours {
            tracing::warn!(key_id = &*principal.key_id, "a valid key of another API was refused");
        }
        api.checked.insert(Arc::clone(&principal.key_id), ours);
        Ok(ours)
    }
}

impl Link {
    fn now(&self) -> Instant {
        self.clock.now().monotonic
    }

    /// Sends a request, unless Kinde has asked for a pause. What comes back is an answer of Kinde itself: neither a
    /// 429 nor a 5xx.
    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Reply, Failure> {
        if let Some(wait) = self.pause() {
            return Err(Failure::Paused(wait));
        }
        let reply = self.client.send(request).await.map_err(Failure::Away)?;
        match reply.status {
            StatusCode::TOO_MANY_REQUESTS => {
                let wait = reply.reset.unwrap_or(PAUSE).clamp(Duration::from_secs(1), LONGEST_PAUSE);
                *self.lock() = Some(self.now() + wait);
                tracing::warn!(seconds = wait.as_secs(), "Kinde limits our requests; uncached keys get 503 meanwhile");
                Err(Failure::Paused(wait))
            }
            status if status.is_server_error() => Err(Failure::Away(format!("status {status}"))),
            _ => Ok(reply),
        }
    }

    fn pause(&self) -> Option<Duration> {
        let until = (*self.lock())?;
        Some(until.saturating_duration_since(self.now())).filter(|left| !left.is_zero())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.paused_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn not_accepted() -> Failure {
    Failure::Misconfigured("it does not accept our token; is the audience right?".to_owned())
}

/// An answer that says nothing about the key.
fn refused(status: StatusCode, what: &str) -> Failure {
    match status {
        StatusCode::FORBIDDEN => Failure::Misconfigured(format!(
            "status 403: we may not {what}; the application needs the scope `read:api_keys`"
        )),
        StatusCode::NOT_FOUND => Failure::Misconfigured(format!("status 404: it offers no way to {what}")),
        status => Failure::Away(format!("status {status} without an answer")),
    }
}

fn request(method: Method, path: &str, token: Option<&Token>, body: Option<Bytes>) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body.unwrap_or_default()));
    *request.method_mut() = method;
    // Constant paths, and one that was checked above.
    *request.uri_mut() = path.parse().unwrap_or_default();
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(token) = token {
        headers.insert(header::AUTHORIZATION, token.header().clone());
    }
    request
}

/// `{"api_key":"…"}`, wiped when the last copy is dropped.
fn verify_body(key: &KeyText) -> Bytes {
    let key = key.expose().as_bytes();
    // Never grown: growing would leave a copy behind.
    let mut body = Zeroizing::new(Vec::with_capacity(2 * key.len() + 16));
    body.extend_from_slice(b"{\"api_key\":\"");
    for &byte in key {
        // A key is visible ASCII, of which JSON escapes two.
        if matches!(byte, b'"' | b'\\') {
            body.push(b'\\');
        }
        body.push(byte);
    }
    body.extend_from_slice(b"\"}");
    Bytes::from_owner(Wiped(body))
}

/// Lets a wiped buffer own a [`Bytes`].
struct Wiped(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
