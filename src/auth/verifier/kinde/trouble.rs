//! How we stand with Kinde, for people.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Whether keys can be verified: said in the log when it changes, and by `/readyz` while it lasts. Copies share it.
/// A verifier that never says anything is in no trouble.
#[derive(Clone, Debug, Default)]
pub struct Trouble(Arc<Mutex<State>>);

/// The lock is held to copy or set a few words.
#[derive(Clone, Debug, Default)]
struct State {
    standing: Standing,
    /// Why the list of active keys is not read.
    list: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Standing {
    #[default]
    Good,
    /// Nothing was answered since the start. Keeps traffic away for a bounded time.
    Unknown { why: String, keeps_traffic_away: bool },
    /// Kinde refuses us. Stays so until somebody mends it.
    Refused(String),
}

/// What `/readyz` tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TroubleReport {
    /// Whether keys can be verified, or might be.
    pub ready: bool,
    /// Why they cannot.
    pub verifier: Option<String>,
    /// Why revoked keys are not looked for in the list of active ones.
    pub list: Option<String>,
}

impl Trouble {
    pub fn report(&self) -> TroubleReport {
        let State { standing, list } = self.lock().clone();
        let (ready, verifier) = match standing {
            Standing::Good => (true, None),
            Standing::Unknown { why, keeps_traffic_away } => (!keeps_traffic_away, Some(why)),
            Standing::Refused(why) => (false, Some(why)),
        };
        TroubleReport { ready, verifier, list }
    }

    /// From now until the first clear answer, nothing is known.
    pub(super) fn start(&self) {
        let why = "Kinde has not answered yet".to_owned();
        self.lock().standing = Standing::Unknown { why, keeps_traffic_away: true };
    }

    /// Notes why there is still no first answer. What is known by now stays as it is.
    pub(super) fn still_unknown(&self, reason: &str, keeps_traffic_away: bool) {
        let mut state = self.lock();
        if let Standing::Unknown { why, .. } = &state.standing {
            if *why != reason {
                tracing::warn!("no key can be verified since the start: {reason}");
            }
            state.standing = Standing::Unknown { why: reason.to_owned(), keeps_traffic_away };
        }
    }

    pub(super) fn refused(&self, why: String) {
        let mut state = self.lock();
        let refused = Standing::Refused(why);
        if state.standing != refused {
            if let Standing::Refused(why) = &refused {
                tracing::error!("no key can be verified: {why}");
            }
            state.standing = refused;
        }
    }

    pub(super) fn is_refused(&self) -> bool {
        matches!(self.lock().standing, Standing::Refused(_))
    }

    pub(super) fn clear(&self) {
        let mut state = self.lock();
        if state.standing != Standing::Good {
            if !matches!(state.standing, Standing::Unknown { keeps_traffic_away: true, .. }) {
                tracing::info!("keys can be verified again");
            }
            state.standing = Standing::Good;
        }
    }

    /// Notes whether the list of active keys can be read.
    pub(in crate::auth) fn list(&self, why: Option<String>) {
        let mut state = self.lock();
        if state.list == why {
            return;
        }
        match &why {
            Some(why) => tracing::error!("revoked keys are not looked for, and pass until their ttl ends: {why}"),
            None => tracing::info!("revoked keys are looked for again"),
        }
        state.list = why;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
