//! From a credential to a permit.
//!
//! Enters: the headers of a request and its route's rules. Leaves: a [`Permit`], the proof that a request may go to
//! the service, which nothing outside this module can make. The key itself is taken out of the request here and
//! goes no further; what is kept of it is a digest under a key that this process made up at its start.
//!
//! Invariant: whatever goes wrong with a verifier is [`AuthError::Unavailable`], never a valid key and never an
//! invalid one.

mod cache;
mod chance;
mod credential;
mod flight;
mod permit;
mod poll;
mod verifier;

pub use cache::{CacheSpec, Purge};
pub use credential::{Credential, KeyText, take_credential};
pub use permit::{Authenticated, Denied, Permit};
pub use verifier::{
    Credentials, ForwardProxy, KindeSpec, KindeVerifier, LookedUp, OnChange, Origin, ProxyCredentials, ServiceClient,
    StoreVerifier, Trouble, TroubleReport, Verifier, VerifierError,
};

use std::net::IpAddr;
use std::sync::Arc;

use tokio::runtime::Handle;

use cache::{CacheKey, Found, KeyCache, Lookup};
use chance::Lots;
use flight::{Flights, Seat, Ticket};

use crate::limit::{Admission, BucketOwner, Charge, Limiter, Refused};
use crate::observe::Metrics;
use crate::policy::{Limit, Principal};
use crate::time::{Clock, Now};

/// Why a credential did not lead to a principal.
#[derive(Debug)]
pub enum AuthError {
    /// No key, or none that could be one.
    Missing,
    /// Two different keys.
    Ambiguous,
    /// Unknown, revoked, expired or inactive; one answer for all, the log knows.
    Invalid,
    /// Too many failures from this address.
    TooManyFailures(Refused),
    /// The verifier could not answer.
    Unavailable(VerifierError),
}

/// Verifies keys: the cache first, then the verifier. Copies share both.
#[derive(Clone, Debug)]
pub struct Authenticator(Arc<Core>);

/// What a verification needs that goes on when its request has ended.
#[derive(Debug)]
struct Core {
    cache: Arc<KeyCache>,
    verifier: Verifier,
    flights: Arc<Flights>,
    limiter: Arc<Limiter>,
    metrics: Arc<Metrics>,
    clock: Clock,
    lots: Lots,
    /// Where verifications run: not on a worker, whose requests they would delay and with whose connections they
    /// would end.
    background: Handle,
}

/// Why a verification begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// A request waits for the answer.
    Answer,
    /// The cache has an answer that will not last.
    Refresh,
}

impl Authenticator {
    /// `start` makes the verifier; what it is given is called when every key may have changed.
    pub fn new(
        spec: &CacheSpec,
        limiter: Arc<Limiter>,
        metrics: Arc<Metrics>,
        clock: Clock,
        background: Handle,
        start: impl FnOnce(OnChange) -> Result<Verifier, VerifierError>,
    ) -> Result<Self, VerifierError> {
        Self::with(spec, limiter, metrics, clock, Lots::default(), background, start)
    }

    fn with(
        spec: &CacheSpec,
        limiter: Arc<Limiter>,
        metrics: Arc<Metrics>,
        clock: Clock,
        lots: Lots,
        background: Handle,
        start: impl FnOnce(OnChange) -> Result<Verifier, VerifierError>,
    ) -> Result<Self, VerifierError> {
        let cache = Arc::new(KeyCache::new(spec)?);
        let purged = Arc::clone(&cache);
        let verifier = start(Arc::new(move || purged.purge(&Purge::All)))?;
        let flights = Flights::new(verifier.concurrency());
        let core = Arc::new(Core { cache, verifier, flights, limiter, metrics, clock, lots, background });
        if let Verifier::Kinde(kinde) = &core.verifier {
            core.background.spawn(KindeVerifier::watch(Arc::downgrade(kinde)));
            if let Some(every) = kinde.poll() {
                core.background.spawn(poll::run(Arc::downgrade(&core), every));
            }
        }
        Ok(Self(core))
    }

    /// Forgets verified keys: the next request with one of them asks the verifier.
    pub fn purge(&self, purge: &Purge) {
        self.0.cache.purge(purge);
    }

    /// Shows the verifier's own credentials anew, where only their secrets have changed.
    ///
    /// # Errors
    /// A token that cannot be sent; the one before stays in use.
    pub fn replace_secrets(&self, credentials: &Credentials) -> Result<(), VerifierError> {
        if let Verifier::Kinde(kinde) = &self.0.verifier
            && kinde.replace_secrets(credentials)?
        {
            tracing::info!("the new credentials for the verifier are in use");
        }
        Ok(())
    }

    /// Writes what is only counted so far, at the end of a process. Bounded in time.
    pub async fn flush(&self) {
        if let Verifier::Store(store) = &self.0.verifier {
            store.flush().await;
        }
    }

    /// Turns a credential into a principal. `failures` is what `client` pays from for each verification that it
    /// causes; a key that turns out valid gets its token back.
    pub async fn authenticate(
        &self,
        credential: Credential,
        client: IpAddr,
        failures: &Arc<Limit>,
        now: Now,
    ) -> Result<Arc<Principal>, AuthError> {
        let key = match credential {
            Credential::Missing | Credential::Malformed => return Err(AuthError::Missing),
            Credential::Ambiguous => return Err(AuthError::Ambiguous),
            Credential::Key(key) => key,
        };
        let core = &self.0;
        if !core.verifier.could_be_key(&key) {
            // A typo costs no lookup and no token: it says nothing about any key.
            core.metrics.cache_lookup("malformed");
            return Err(AuthError::Invalid);
        }
        let digest = core.cache.digest(&key);
        let found = match core.cache.look(&digest, now) {
            Lookup::Fresh { found, refresh } => {
                core.metrics.cache_lookup("hit");
                if refresh {
                    core.refresh(&key, digest, now);
                }
                found
            }
            Lookup::Stale { principal, refresh } => {
                core.metrics.cache_lookup("stale");
                if refresh {
                    core.refresh(&key, digest, now);
                }
                Found::Valid(principal)
            }
            // A key that was good until lately is no guess, so nobody pays for it.
            Lookup::Doubtful => match core.verify(&key, digest, None, now).await {
                Err(AuthError::Unavailable(error)) => match core.cache.stale(&digest, core.clock.now()) {
                    Some(principal) => {
                        core.metrics.cache_lookup("stale");
                        Found::Valid(principal)
                    }
                    None => return Err(AuthError::Unavailable(error)),
                },
                verified => {
                    core.metrics.cache_lookup("miss");
                    verified?
                }
            },
            Lookup::Unknown => {
                core.metrics.cache_lookup("miss");
                let charge = Charge { limit: Arc::clone(failures), owner: BucketOwner::address(client) };
                core.verify(&key, digest, Some(charge), now).await?
            }
        };
        match found {
            // Asked of every request, whatever the cache knows: where it comes from is not part of the answer.
            Found::Valid(principal) if principal.is_unexpired(now.wall) && principal.terms.allow(client) => {
                if let Some(uses) = principal.terms.uses() {
                    uses.note(now.wall);
                }
                Ok(principal)
            }
            Found::Valid(_) | Found::Invalid => Err(AuthError::Invalid),
        }
    }
}

impl Core {
    /// Waits for the verifier's answer about a key; begins to verify it unless somebody else has.
    async fn verify(
        self: &Arc<Self>,
        key: &KeyText,
        digest: CacheKey,
        charge: Option<Charge>,
        now: Now,
    ) -> Result<Found, AuthError> {
        let mut paid = None;
        let seat = self.seat(digest, charge, &mut paid, Purpose::Answer, now).map_err(AuthError::TooManyFailures)?;
        match seat {
            Seat::Known(found) => Ok(found),
            Seat::Wait(waiting) => waiting.answer().await.map_err(AuthError::Unavailable),
            Seat::Lead(ticket, waiting) => {
                self.background.spawn(Arc::clone(self).fly(key.clone(), ticket, paid, now));
                waiting.answer().await.map_err(AuthError::Unavailable)
            }
            Seat::Full => Err(AuthError::Unavailable(VerifierError::new("too many verifications are under way"))),
        }
    }

    /// Begins to verify a key that the cache still answers for. Whoever comes while it lasts is answered from there.
    fn refresh(self: &Arc<Self>, key: &KeyText, digest: CacheKey, now: Now) {
        if let Ok(Seat::Lead(ticket, _)) = self.seat(digest, None, &mut None, Purpose::Refresh, now) {
            self.background.spawn(Arc::clone(self).fly(key.clone(), ticket, None, now));
        }
    }

    /// Only whoever leads a verification pays for it; `paid` is what it gets back for a key that is valid.
    fn seat(
        &self,
        digest: CacheKey,
        charge: Option<Charge>,
        paid: &mut Option<Admission>,
        purpose: Purpose,
        now: Now,
    ) -> Result<Seat, Refused> {
        let known = || match (self.cache.look(&digest, now), purpose) {
            (Lookup::Fresh { found, .. }, Purpose::Answer)
            | (Lookup::Fresh { found, refresh: false }, Purpose::Refresh) => Some(found),
            (Lookup::Stale { principal, refresh: false }, Purpose::Refresh) => Some(Found::Valid(principal)),
            _ => None,
        };
        let pay = || {
            *paid = charge.map(|charge| self.limiter.admit(&[charge], now.monotonic)).transpose()?;
            Ok(())
        };
        self.flights.seat(digest, || self.cache.stamp(), known, pay)
    }

    /// One verification, whatever becomes of the request that began it.
    async fn fly(self: Arc<Self>, key: KeyText, ticket: Ticket, paid: Option<Admission>, began: Now) {
        let answer = self.verifier.verify(&key).await;
        // A key is never shorter than what is shown of it.
        let tail = self.cache.tail(key.expose()).unwrap_or_default();
        drop(key);
        let now = self.clock.now();
        let seconds = now.monotonic.saturating_duration_since(began.monotonic).as_secs_f64();
        let outcome = match &answer {
            Ok(Some(_)) => "valid",
            Ok(None) => "invalid",
            Err(_) => "unavailable",
        };
        self.metrics.verification(outcome, seconds);
        if let Some(paid) = paid.filter(|_| !matches!(answer, Ok(None))) {
            self.limiter.give_back(paid);
        }
        let answer = answer.map(|principal| principal.map_or(Found::Invalid, |valid| Found::Valid(Arc::new(valid))));
        match &answer {
            Ok(found) => self.cache.insert(*ticket.key(), tail, found.clone(), ticket.stamp(), now, self.lots.draw()),
            Err(_) => self.cache.failed(ticket.key(), now),
        }
        ticket.land(answer);
    }
}

#[cfg(test)]
mod fleet;
