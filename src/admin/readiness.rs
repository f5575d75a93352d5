//! Whether traffic should be sent here.

use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use super::Exposed;
use crate::auth::{Trouble, TroubleReport};
use crate::upstream::Upstreams;

/// The state behind `/readyz`. Copies share it.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    state: Arc<Mutex<State>>,
    verifier: Trouble,
    upstreams: Option<Arc<Upstreams>>,
    /// Whether an exposed service takes traffic away.
    refuses_exposed: bool,
}

/// The lock is held to copy or set a few words.
#[derive(Clone, Debug, Default, Serialize)]
struct State {
    draining: bool,
    /// Why the last reload did not take effect; the policy before it is still in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    reload_failed: Option<String>,
    /// Why keys cannot be verified. A reason to take traffic away while the verifier refuses this proxy, and for a
    /// bounded time after the start; the verifier itself finds out when it is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    verifier: Option<String>,
    /// Why revoked keys are not looked for. No reason to take traffic away: keys are verified as ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_list: Option<String>,
    /// Upstreams of which every endpoint fails its checks. A reason to take traffic away.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failing_upstreams: Vec<Arc<str>>,
    /// Upstreams whose service answers where nobody needs a key.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    exposed: Vec<String>,
}

impl Readiness {
    pub fn new(verifier: Trouble, upstreams: Option<Arc<Upstreams>>, exposed: Exposed) -> Self {
        let refuses_exposed = exposed == Exposed::Refuse;
        Self { state: Arc::default(), verifier, upstreams, refuses_exposed }
    }

    /// From now on, traffic should go elsewhere.
    pub fn drain(&self) {
        self.lock().draining = true;
    }

    /// Notes how the last reload ended. A failed one is told, and is no reason to take traffic away.
    pub fn reloaded(&self, result: Result<(), String>) {
        self.lock().reload_failed = result.err();
    }

    /// Notes the upstreams whose service can be reached past us.
    pub(super) fn exposed(&self, upstreams: Vec<String>) {
        self.lock().exposed = upstreams;
    }

    /// Whether ready, and the detail as JSON.
    pub(super) fn report(&self) -> (bool, String) {
        let TroubleReport { ready, verifier, list } = self.verifier.report();
        let failing_upstreams = self.upstreams.as_ref().map(|upstreams| upstreams.failing()).unwrap_or_default();
        let state = State { verifier, key_list: list, failing_upstreams, ..self.lock().clone() };
        let exposed = self.refuses_exposed && !state.exposed.is_empty();
        let ready = ready && !state.draining && state.failing_upstreams.is_empty() && !exposed;
        // Plain fields always serialize.
        let detail = serde_json::to_value(&state).unwrap_or_default();
        (ready, serde_json::json!({"ready": ready, "detail": detail}).to_string())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
