//! What decides whether a key is valid: the embedded store, or Kinde.
//!
//! Enters: a key. Leaves: its owner, a clear "invalid", or an error that says why nothing is known. Runs on the
//! background runtime, never on a request's worker.

mod kinde;
mod store;
mod uses;

#[cfg(test)]
pub(super) use kinde::MemoryKinde;
pub use kinde::{
    Credentials, ForwardProxy, KindeSpec, KindeVerifier, Origin, ProxyCredentials, ServiceClient, Trouble,
    TroubleReport,
};
pub(super) use kinde::{Failure, Next};
pub use store::{LookedUp, StoreVerifier};

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::KeyText;
use crate::policy::Principal;

/// Called whenever what was verified before may be wrong.
pub type OnChange = Arc<dyn Fn() + Send + Sync>;

/// The verifier that the configuration chose.
#[derive(Debug)]
pub enum Verifier {
    Store(Arc<StoreVerifier>),
    Kinde(Arc<KindeVerifier>),
}

impl Verifier {
    /// Whether the text can be a key at all, as far as that can be told without asking.
    pub(super) fn could_be_key(&self, key: &KeyText) -> bool {
        match self {
            Self::Store(store) => store.could_be_key(key),
            // Kinde publishes no format; that it is visible ASCII of some length was seen when it was taken.
            Self::Kinde(_) => true,
        }
    }

    /// Verifications that may be under way at once. Beyond, nothing is asked: a flood must not become one at Kinde.
    pub(super) fn concurrency(&self) -> usize {
        match self {
            Self::Store(_) => store::QUEUE,
            Self::Kinde(_) => kinde::CONCURRENCY,
        }
    }

    /// The key's owner, or `None` for a key that is clearly invalid.
    pub(super) async fn verify(&self, key: &KeyText) -> Result<Option<Principal>, VerifierError> {
        match self {
            Self::Store(store) => store.verify(key).await,
            Self::Kinde(kinde) => kinde.verify(key).await,
        }
    }
}

/// The verifier could not answer; says why, for the log.
#[derive(Clone, Debug)]
pub struct VerifierError {
    why: Arc<str>,
    retry_after: Option<Duration>,
}

impl VerifierError {
    pub fn new(why: impl Into<String>) -> Self {
        Self { why: why.into().into(), retry_after: None }
    }

    fn retry_after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    /// When the verifier said that it may be asked again.
    pub fn wait(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl fmt::Display for VerifierError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for VerifierError {}
