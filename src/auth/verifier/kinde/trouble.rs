//! What is wrong with our standing at Kinde, for people.

use std::sync::{Arc, Mutex, PoisonError};

/// Why Kinde refuses us, if it does: said in the log when it changes, and by `/readyz` while it lasts. Copies share it.
#[derive(Clone, Debug, Default)]
pub struct Trouble(Arc<Mutex<Option<String>>>);

impl Trouble {
    /// What is wrong now.
    pub fn current(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set(&self, why: Option<String>) {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *current == why {
            return;
        }
        match &why {
            Some(why) => tracing::error!("no key can be verified: {why}"),
            None => tracing::info!("keys can be verified again"),
        }
        *current = why;
    }

    pub(super) fn clear(&self) {
        self.set(None);
    }
}
