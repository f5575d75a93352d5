//! The token that we show to Kinde.
//!
//! Kinde counts and charges tokens, so one is used for its whole life, fetched by one caller for all, and renewed
//! shortly before its end by a call of its own, at a moment that differs between proxies.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::Full;
use tokio::sync::OwnedMutexGuard;
use zeroize::Zeroizing;

use super::link::Link;
use super::{Failure, MAX_ANSWER, VerifierError, Wiped, answer, escape};
use crate::auth::chance::Chance;
use crate::observe::Metrics;
use crate::policy::SecretString;

/// How long everybody is told about a failed attempt before there is another one.
const RETRY_AWAY: Duration = Duration::from_secs(1);
const RETRY_MISCONFIGURED: Duration = Duration::from_secs(10);

/// A token that Kinde rejects although it is younger than this is not replaced: the next one would be rejected too.
/// Doubles with each replacement that did not help.
const REJECTED_TOO_YOUNG: Duration = Duration::from_secs(60);
const MOST_DOUBLINGS: u32 = 4;

/// A token, as a header has it.
pub(super) struct Token {
    header: HeaderValue,
    issued: Instant,
    refresh_from: Option<Instant>,
    ends: Option<Instant>,
    accepted: AtomicBool,
    trial: tokio::sync::Mutex<Trial>,
}

/// The last call that was made to see whether a token is accepted: its place among all events, and what it showed.
type Trial = Option<(u64, Result<bool, Failure>)>;

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    /// A token that is never renewed.
    pub(super) fn fixed(text: &SecretString, now: Instant) -> Result<Self, VerifierError> {
        let header = bearer(text).ok_or_else(|| VerifierError::new("the token cannot stand in a header"))?;
        Ok(Self::new(header, now, None, None))
    }

    fn issued(issued: &answer::Issued, now: Instant, chance: Chance) -> Option<Self> {
        let refresh_from = now + chance.late_in(issued.lifetime);
        let ends = now + issued.lifetime.mul_f64(0.99);
        Some(Self::new(bearer(&issued.text)?, now, Some(refresh_from), Some(ends)))
    }

    fn new(header: HeaderValue, issued: Instant, refresh_from: Option<Instant>, ends: Option<Instant>) -> Self {
        Self { header, issued, refresh_from, ends, accepted: AtomicBool::new(false), trial: Default::default() }
    }

    pub(super) fn header(&self) -> &HeaderValue {
        &self.header
    }

    /// Notes that a call with this token was accepted.
    pub(super) fn accepted(&self) {
        self.accepted.store(true, Ordering::Relaxed);
    }

    fn was_ever_accepted(&self) -> bool {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Held while the token is tried, so that many who doubt it try it once.
    pub(super) fn trial(&self) -> &tokio::sync::Mutex<Trial> {
        &self.trial
    }

    fn is_alive(&self, now: Instant) -> bool {
        self.ends.is_none_or(|end| now < end)
    }
}

/// Fetches tokens by client credentials.
pub(super) struct TokenSource {
    link: Arc<Link>,
    timeout: Duration,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
    /// Held while a token is fetched: whoever waits for it finds the token, or why there is none.
    fetching: Arc<tokio::sync::Mutex<()>>,
}

struct State {
    /// The body of every token request.
    form: Bytes,
    token: Option<Arc<Token>>,
    failed: Option<(Failure, Instant)>,
    /// Replacements of rejected tokens since the last token that was accepted.
    useless: u32,
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = &self.lock().token;
        f.debug_struct("TokenSource").field("token", token).finish_non_exhaustive()
    }
}

impl TokenSource {
    pub(super) fn new(link: Arc<Link>, form: Bytes, timeout: Duration, metrics: Arc<Metrics>) -> Self {
        let state = Mutex::new(State { form, token: None, failed: None, useless: 0 });
        Self { link, timeout, metrics, state, fetching: Arc::default() }
    }

    /// Uses another form from the next token on, and does not wait out what the one before was refused for. The token
    /// in force is used to its end, or until it is rejected. Whether the form is another one at all.
    pub(super) fn replace_form(&self, form: Bytes) -> bool {
        let mut state = self.lock();
        if state.form == form {
            return false;
        }
        let token = state.token.take();
        *state = State { form, token, failed: None, useless: 0 };
        true
    }

    /// The token in force.
    pub(super) async fn current(self: &Arc<Self>) -> Result<Arc<Token>, Failure> {
        if let Some(token) = self.alive() {
            if token.refresh_from.is_some_and(|from| from <= self.link.now()) {
                self.refresh_early();
            }
            return Ok(token);
        }
        let fetching = Arc::clone(&self.fetching).lock_owned().await;
        match self.alive() {
            Some(token) => Ok(token),
            None => self.fetch_for(fetching).await,
        }
    }

    /// Another token than `old`, which Kinde has rejected.
    pub(super) async fn renew(self: &Arc<Self>, old: &Arc<Token>) -> Result<Arc<Token>, Failure> {
        let fetching = Arc::clone(&self.fetching).lock_owned().await;
        if let Some(token) = self.alive().filter(|token| !Arc::ptr_eq(token, old)) {
            return Ok(token);
        }
        let floor = {
            let mut state = self.lock();
            if old.was_ever_accepted() {
                state.useless = 0;
            }
            REJECTED_TOO_YOUNG * 2_u32.pow(state.useless.min(MOST_DOUBLINGS))
        };
        if self.link.now().saturating_duration_since(old.issued) < floor {
            return Err(super::not_accepted());
        }
        self.lock().useless += 1;
        self.fetch_for(fetching).await
    }

    /// Fetches a token, also when whoever asks for it goes away: it is paid for.
    async fn fetch_for(self: &Arc<Self>, fetching: OwnedMutexGuard<()>) -> Result<Arc<Token>, Failure> {
        let source = Arc::clone(self);
        let fetched = tokio::spawn(async move {
            let fetched = source.fetch().await;
            drop(fetching);
            fetched
        });
        fetched.await.unwrap_or_else(|_| Err(Failure::Away("the token request was abandoned".to_owned())))
    }

    /// Fetches the next token in the background, unless somebody does or has just failed to.
    fn refresh_early(self: &Arc<Self>) {
        let Ok(fetching) = Arc::clone(&self.fetching).try_lock_owned() else { return };
        if self.recent_failure().is_some() {
            return;
        }
        let source = Arc::clone(self);
        tokio::spawn(async move {
            // Somebody else may have fetched it between the look at it and the lock.
            let due = source.alive().is_none_or(|token| token.refresh_from.is_some_and(|at| at <= source.link.now()));
            if due && let Err(failure) = source.fetch().await {
                tracing::warn!("the token is still good, but could not be renewed: {failure}");
            }
            drop(fetching);
        });
    }

    /// Fetches a token; the caller holds `fetching`.
    async fn fetch(&self) -> Result<Arc<Token>, Failure> {
        if let Some(failure) = self.recent_failure() {
            return Err(failure);
        }
        let fetched = match tokio::time::timeout(self.timeout, self.ask()).await {
            Ok(fetched) => fetched,
            Err(_) => Err(Failure::Away(format!("no token within {:?}", self.timeout))),
        };
        self.metrics.verifier_token(fetched.is_ok());
        let mut state = self.lock();
        match fetched {
            Ok(token) => {
                let token = Arc::new(token);
                state.failed = None;
                state.token = Some(Arc::clone(&token));
                Ok(token)
            }
            Err(failure) => {
                let wait = match &failure {
                    Failure::Away(_) => RETRY_AWAY,
                    Failure::Misconfigured(_) => RETRY_MISCONFIGURED,
                    Failure::Paused(wait) => *wait,
                };
                state.failed = Some((failure.clone(), self.link.now() + wait));
                Err(failure)
            }
        }
    }

    async fn ask(&self) -> Result<Token, Failure> {
        let mut request = Request::new(Full::new(self.lock().form.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = http::Uri::from_static("/oauth2/token");
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers_mut().insert(header::CONTENT_TYPE, form);
        let reply = self.link.send(request, MAX_ANSWER).await?;
        match reply.status {
            StatusCode::OK => {
                let now = self.link.clock.now();
                let unclear = |why| Failure::Away(format!("the token endpoint's answer is unclear: {why}"));
                let issued = answer::issued(&reply.body, now.wall).map_err(unclear)?;
                Token::issued(&issued, now.monotonic, self.link.lots.draw())
                    .ok_or_else(|| unclear("the token cannot stand in a header".to_owned()))
            }
            status if status.is_client_error() => {
                let code = answer::refusal_code(&reply.body).unwrap_or_else(|| "no reason given".to_owned());
                Err(Failure::Misconfigured(format!("the token endpoint answers {status}: {code}")))
            }
            status => Err(Failure::Away(format!("the token endpoint answers {status}"))),
        }
    }

    fn alive(&self) -> Option<Arc<Token>> {
        let now = self.link.now();
        self.lock().token.clone().filter(|token| token.is_alive(now))
    }

    fn recent_failure(&self) -> Option<Failure> {
        let now = self.link.now();
        self.lock().failed.clone().filter(|(_, until)| now < *until).map(|(failure, _)| failure)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bearer(text: &SecretString) -> Option<HeaderValue> {
    let text = text.expose().as_bytes();
    let mut value = Zeroizing::new(Vec::with_capacity(text.len() + 7));
    value.extend_from_slice(b"Bearer ");
    value.extend_from_slice(text);
    let mut header = HeaderValue::from_maybe_shared(Bytes::from_owner(Wiped(value))).ok()?;
    header.set_sensitive(true);
    Some(header)
}

/// The body of a token request. Kinde takes only this encoding.
pub(super) fn form(id: &str, secret: &SecretString, audience: &str) -> Bytes {
    let fields = [
        ("grant_type", "client_credentials"),
        ("client_id", id),
        ("client_secret", secret.expose()),
        ("audience", audience),
        ("scope", "read:api_keys"),
    ];
    // Never grown: growing would leave a copy of the secret behind.
    let room = fields.iter().map(|(name, value)| name.len() + 3 * value.len() + 2).sum();
    let mut body = Zeroizing::new(Vec::with_capacity(room));
    for (name, value) in fields {
        if !body.is_empty() {
            body.push(b'&');
        }
        body.extend_from_slice(name.as_bytes());
        body.push(b'=');
        escape(value.as_bytes(), &mut body);
    }
    Bytes::from_owner(Wiped(body))
}
