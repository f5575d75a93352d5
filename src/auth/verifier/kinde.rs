//! Asking Kinde about a key.
//!
//! Enters: a key. Leaves: its owner, a clear "invalid", or an error. Kinde answers for a bad key in two shapes (200
//! with `is_valid: false`, or 400/401), and a 401 may mean our own token instead: it is told as "invalid key" only
//! when the token is found to work afterwards. Everything that is not a clear answer is an error, and nobody's fault but
//! Kinde's or ours.
//!
//! No copy of a key is kept, and none is logged; what is sent is wiped when it has been sent.

mod answer;
mod canary;
mod client;
mod follow;
mod link;
mod list;
#[cfg(test)]
mod memory;
mod moment;
mod token;
mod trouble;
mod tunnel;

pub use client::{Client as ServiceClient, Origin};
pub use trouble::{Trouble, TroubleReport};
pub use tunnel::{ForwardProxy, ProxyCredentials};

pub(in crate::auth) use answer::Next;
pub(in crate::auth) use link::Failure;
#[cfg(test)]
pub(in crate::auth) use memory::MemoryKinde;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::Full;
use prometheus::IntGauge;
use quick_cache::sync::Cache;
use zeroize::Zeroizing;

use super::{OnChange, VerifierError};
use crate::auth::KeyText;
use crate::auth::chance::Lots;
use crate::observe::Metrics;
use crate::policy::{Principal, SecretString};
use crate::time::Clock;
use crate::trust::TrustedCertificates;
use client::Client;
use link::{Exchange, Link};
use token::{Token, TokenSource};

/// Calls to Kinde that may be under way at once.
pub(super) const CONCURRENCY: usize = 64;

/// Keys whose API is remembered.
const CHECKED_KEYS: usize = 10_000;

/// The largest answer that is read; real ones have less than 1 KiB.
const MAX_ANSWER: usize = 64 << 10;

const VERIFY: &str = "/api/v1/api_keys/verify";
/// A call in which no key can be at fault.
const ASK_FOR_ONE: &str = "/api/v1/api_keys?page_size=1";

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
    /// How often the list of active keys is read, if it is. Not without credentials.
    pub poll: Option<Duration>,
    /// What all connections to Kinde go through.
    pub proxy: Option<ForwardProxy>,
    /// Whether it is a key service that tells of changes, which are followed.
    pub follow: bool,
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

impl Credentials {
    /// Whether nothing but the secrets differs.
    pub fn is_same_but_for_secrets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Client { id, audience, .. }, Self::Client { id: other_id, audience: other_audience, .. }) => {
                id == other_id && audience == other_audience
            }
            (Self::Token(_), Self::Token(_)) | (Self::Nothing, Self::Nothing) => true,
            _ => false,
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
    poll: Option<Duration>,
    /// Kinde has called a key valid that nobody can have made.
    believes_anything: AtomicBool,
    /// The way to the stream of changes, where it is followed.
    stream: Option<ServiceClient>,
}

/// What each call carries.
#[derive(Debug)]
enum Auth {
    Renewed(Arc<TokenSource>),
    Fixed(Mutex<Arc<Token>>),
    Nothing(Anonymous),
}

/// What is known about calls that carry nothing.
#[derive(Debug, Default)]
struct Anonymous {
    /// One was accepted, which shows that Kinde wants nothing.
    accepted: AtomicBool,
    /// A bad key was answered otherwise than with 401, which then means us.
    tells_bad_keys: AtomicBool,
}

/// The API that keys must be for, and the keys that were asked about. A key's APIs never change.
#[derive(Debug)]
struct ApiCheck {
    id: String,
    checked: Cache<Arc<str>, bool>,
}

impl KindeVerifier {
    /// Prepares everything. `trouble` says from now on how we stand with Kinde; the authenticator that takes the
    /// verifier has it find out.
    pub fn new(spec: &KindeSpec, metrics: Arc<Metrics>, clock: Clock, trouble: Trouble) -> Result<Self, VerifierError> {
        let client = || Client::new(spec.origin.clone(), spec.ca.as_ref(), spec.proxy.clone(), clock.clone());
        let stream = spec.follow.then(client).transpose()?;
        let verifier = Self::over(Box::new(client()?), spec, metrics, clock.clone(), trouble, Lots::default())?;
        Ok(Self { stream, ..verifier })
    }

    fn over(
        exchange: Box<dyn Exchange>,
        spec: &KindeSpec,
        metrics: Arc<Metrics>,
        clock: Clock,
        trouble: Trouble,
        lots: Lots,
    ) -> Result<Self, VerifierError> {
        let link = Arc::new(Link::new(exchange, clock, lots));
        let auth = match &spec.credentials {
            Credentials::Nothing => Auth::Nothing(Anonymous::default()),
            Credentials::Token(token) => Auth::Fixed(Mutex::new(Arc::new(Token::fixed(token, link.now())?))),
            Credentials::Client { id, secret, audience } => Auth::Renewed(Arc::new(TokenSource::new(
                Arc::clone(&link),
                token::form(id, secret, audience),
                spec.timeout,
                metrics,
            ))),
        };
        let api = spec.api_id.clone().map(|id| ApiCheck { id, checked: Cache::new(CHECKED_KEYS) });
        trouble.start();
        Ok(Self {
            link,
            auth,
            api,
            trouble,
            timeout: spec.timeout,
            poll: spec.poll,
            believes_anything: AtomicBool::new(false),
            stream: None,
        })
    }

    /// Shows Kinde other secrets from now on, and says whether they are others. Credentials of another kind are for a
    /// verifier of their own, and change nothing.
    pub(in crate::auth) fn replace_secrets(&self, credentials: &Credentials) -> Result<bool, VerifierError> {
        match (&self.auth, credentials) {
            (Auth::Renewed(source), Credentials::Client { id, secret, audience }) => {
                Ok(source.replace_form(token::form(id, secret, audience)))
            }
            (Auth::Fixed(token), Credentials::Token(text)) => {
                let new = Token::fixed(text, self.link.now())?;
                let mut token = lock(token);
                let is_new = token.header() != new.header();
                if is_new {
                    *token = Arc::new(new);
                }
                Ok(is_new)
            }
            _ => Ok(false),
        }
    }

    /// Follows the changes of a key service for as long as this verifier is in use. `on_change` is called whenever what
    /// was verified before may be wrong. Needs a runtime.
    pub fn follow(self: &Arc<Self>, on_change: OnChange, up: IntGauge) {
        tokio::spawn(follow::follow(Arc::downgrade(self), on_change, up));
    }

    pub(super) async fn verify(&self, key: &KeyText) -> Result<Option<Principal>, VerifierError> {
        let answer = self.answer(key).await;
        let answer = match answer {
            Ok(_) if self.believes_anything.load(Ordering::Relaxed) => Err(canary::believed()),
            answer => answer,
        };
        self.note(&answer);
        answer.map_err(|failure| {
            let error = VerifierError::new(failure.to_string());
            if let Failure::Paused(wait) = failure { error.retry_after(wait) } else { error }
        })
    }

    /// What Kinde says about a key, in bounded time.
    async fn answer(&self, key: &KeyText) -> Result<Option<Principal>, Failure> {
        match tokio::time::timeout(self.timeout, self.ask(key)).await {
            Ok(answer) => answer,
            Err(_) => Err(Failure::Away(format!("nothing within {:?}", self.timeout))),
        }
    }

    /// Notes what an answer says about us.
    fn note<T>(&self, answer: &Result<T, Failure>) {
        match answer {
            Ok(_) => self.trouble.clear(),
            Err(failure @ Failure::Misconfigured(_)) => self.trouble.refused(failure.to_string()),
            // Whether we are refused is not known then.
            Err(Failure::Away(_) | Failure::Paused(_)) => {}
        }
    }

    async fn ask(&self, key: &KeyText) -> Result<Option<Principal>, Failure> {
        let body = verify_body(key);
        let mut token = self.token().await?;
        let mut renewed = false;
        loop {
            let request = request(Method::POST, VERIFY, token.as_deref(), Some(body.clone()));
            let reply = self.link.send(request, MAX_ANSWER).await?;
            match reply.status {
                StatusCode::OK => {
                    self.accepted(token.as_deref());
                    let owner = answer::verdict(&reply.body).map_err(unusable)?;
                    let Some(owner) = owner else {
                        self.bad_key_told();
                        return Ok(None);
                    };
                    let principal = owner.principal().map_err(|error| unusable(error.to_string()))?;
                    let told = owner.api_ids.as_deref();
                    return Ok(self.is_for_our_api(&principal, told, token.as_deref()).await?.then_some(principal));
                }
                StatusCode::BAD_REQUEST if answer::is_object(&reply.body) => {
                    self.bad_key_told();
                    return Ok(None);
                }
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

    /// The token in force, if calls carry one.
    async fn token(&self) -> Result<Option<Arc<Token>>, Failure> {
        match &self.auth {
            Auth::Renewed(source) => source.current().await.map(Some),
            Auth::Fixed(token) => Ok(Some(Arc::clone(&lock(token)))),
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
            (Auth::Nothing(known), _) => known.accepted.store(true, Ordering::Relaxed),
            (_, Some(token)) => token.accepted(),
            (_, None) => {}
        }
    }

    /// Notes that a bad key was answered as one, and not with 401.
    fn bad_key_told(&self) {
        if let Auth::Nothing(known) = &self.auth {
            known.tells_bad_keys.store(true, Ordering::Relaxed);
        }
    }

    /// Whether Kinde accepts what a call carried that it has just answered with 401. If it does, the key was at
    /// fault.
    async fn is_accepted(&self, token: Option<&Token>) -> Result<bool, Failure> {
        if let Auth::Nothing(known) = &self.auth {
            let why = "it answers 401 to a call without a token (`auth: none`)".to_owned();
            return match (known.tells_bad_keys.load(Ordering::Relaxed), known.accepted.load(Ordering::Relaxed)) {
                (true, _) => Err(Failure::Misconfigured(why)),
                (false, true) => Ok(true),
                // It may be the key or us, and only a good key will tell.
                (false, false) => Err(Failure::Away(why)),
            };
        }
        let Some(token) = token else { return Ok(false) };
        // That the token was accepted before says nothing: it may have been taken back since. One call that begins
        // after the 401 tells, and serves all that wait for it. Asking for a new token instead would be metered, and
        // would let anybody with a wrong key run up a bill.
        let heard = self.link.event();
        let mut last = token.trial().lock().await;
        if let Some((asked, accepted)) = &*last
            && *asked > heard
        {
            return accepted.clone();
        }
        let asked = self.link.event();
        let accepted = self.try_token(token).await;
        *last = Some((asked, accepted.clone()));
        accepted
    }

    /// Another call with the same token, in which no key is at fault.
    async fn try_token(&self, token: &Token) -> Result<bool, Failure> {
        let reply = self.link.send(request(Method::GET, ASK_FOR_ONE, Some(token), None), MAX_ANSWER).await?;
        match reply.status {
            // A scope that is missing is missing from a token that was accepted.
            StatusCode::OK | StatusCode::FORBIDDEN if answer::is_object(&reply.body) => {
                token.accepted();
                Ok(true)
            }
            StatusCode::UNAUTHORIZED => Ok(false),
            status => Err(refused(status, "list keys")),
        }
    }

    async fn is_for_our_api(
        &self,
        principal: &Principal,
        told: Option<&[String]>,
        token: Option<&Token>,
    ) -> Result<bool, Failure> {
        let Some(api) = &self.api else { return Ok(true) };
        if let Some(told) = told {
            // A key service of ours tells with every answer.
            return Ok(told.contains(&api.id));
        }
        if let Some(ours) = api.checked.get(&*principal.key_id) {
            return Ok(ours);
        }
        if !answer::is_plain(&principal.key_id) {
            return Err(Failure::Away("the key's id is no id".to_owned()));
        }
        let path = format!("/api/v1/api_keys/{}", principal.key_id);
        let reply = self.link.send(request(Method::GET, &path, token, None), MAX_ANSWER).await?;
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

fn lock(token: &Mutex<Arc<Token>>) -> MutexGuard<'_, Arc<Token>> {
    // Held for one assignment.
    token.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Kinde calls a key valid, and says things about it that cannot be believed.
fn unusable(why: String) -> Failure {
    tracing::error!("Kinde's answer about a key cannot be used: {why}");
    Failure::Away(why)
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

/// `path` is constant, or made of checked and encoded parts.
fn request(method: Method, path: &str, token: Option<&Token>, body: Option<Bytes>) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body.unwrap_or_default()));
    *request.method_mut() = method;
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

/// Writes `text` as a part of a query or a form: everything but unreserved characters is escaped (RFC 3986 §2.3).
fn escape(text: &[u8], into: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in text {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            into.push(byte);
        } else {
            into.extend([b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
}

/// Lets a wiped buffer own a [`Bytes`].
struct Wiped(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
