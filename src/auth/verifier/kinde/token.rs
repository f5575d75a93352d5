//! The token that we show to Kinde.
//!
//! Kinde counts and charges tokens, so one is used for its whole life, fetched by one caller for all, and renewed
//! shortly before its end by a call of its own, at a moment that differs between proxies.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::Full;
use zeroize::Zeroizing;

use super::{Failure, Link, VerifierError, Wiped, answer};
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
    accepted: Mutex<Option<Instant>>,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    /// A token that is never renewed.
    pub(super) fn fixed(text: &SecretString, now: Instant) -> Result<Self, VerifierError> {
        let header = bearer(text).ok_or_else(|| VerifierError::new("the token cannot stand in a header"))?;
        Ok(Self { header, issued: now, refresh_from: None, ends: None, accepted: Mutex::default() })
    }

    fn issued(issued: &answer::Issued, now: Instant, chance: Chance) -> Option<Self> {
        Some(Self {
            header: bearer(&issued.text)?,
            issued: now,
            refresh_from: Some(now + chance.near_the_end_of(issued.lifetime)),
            ends: Some(now + issued.lifetime.mul_f64(0.99)),
            accepted: Mutex::default(),
        })
    }

    pub(super) fn header(&self) -> &HeaderValue {
        &self.header
    }

    /// Notes that a call with this token was accepted.
    pub(super) fn accepted(&self, now: Instant) {
        *self.accepted.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }

    /// Whether a call was accepted no longer than `trust` ago.
    pub(super) fn was_accepted(&self, now: Instant, trust: Duration) -> bool {
        let accepted = *self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        accepted.is_some_and(|at| now.saturating_duration_since(at) < trust)
    }

    fn was_ever_accepted(&self) -> bool {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn is_alive(&self, now: Instant) -> bool {
        self.ends.is_none_or(|end| now < end)
    }
}

/// Fetches tokens by client credentials.
pub(super) struct TokenSource {
    link: Arc<Link>,
    /// The body of every token request.
    form: Bytes,
    timeout: Duration,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
    /// Held while a token is fetched: whoever waits for it finds the token, or why there is none.
    fetching: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, Default)]
struct State {
    token: Option<Arc<Token>>,
    failed: Option<(Failure, Instant)>,
    /// Replacements of rejected tokens since the last token that was accepted.
    useless: u32,
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSource").field("state", &self.state).finish_non_exhaustive()
    }
}

impl TokenSource {
    pub(super) fn new(link: Arc<Link>, form: Bytes, timeout: Duration, metrics: Arc<Metrics>) -> Self {
        Self { link, form, timeout, metrics, state: Mutex::default(), fetching: Arc::default() }
    }

    /// The token in force.
    pub(super) async fn current(self: &Arc<Self>) -> Result<Arc<Token>, Failure> {
        if let Some(token) = self.alive() {
            if token.refresh_from.is_some_and(|from| from <= self.link.now()) {
                self.refresh_early();
            }
            return Ok(token);
        }
        let _fetching = self.fetching.lock().await;
        match self.alive() {
            Some(token) => Ok(token),
            None => self.fetch().await,
        }
    }

    /// Another token than `old`, which Kinde has rejected.
    pub(super) async fn renew(&self, old: &Arc<Token>) -> Result<Arc<Token>, Failure> {
        let _fetching = self.fetching.lock().await;
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
        self.fetch().await
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
        let mut request = Request::new(Full::new(self.form.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = http::Uri::from_static("/oauth2/token");
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers_mut().insert(header::CONTENT_TYPE, form);
        let reply = self.link.send(request).await?;
        match reply.status {
            StatusCode::OK => {
                let now = self.link.clock.now();
                let unclear = |why| Failure::Away(format!("the token endpoint's answer is unclear: {why}"));
                let issued = answer::issued(&reply.body, now.wall).map_err(unclear)?;
                Token::issued(&issued, now.monotonic, Chance::draw())
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
        for &byte in value.as_bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
                body.push(byte);
            } else {
                const HEX: &[u8; 16] = b"0123456789ABCDEF";
                body.extend([b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
        }
    }
    Bytes::from_owner(Wiped(body))
}
