//! How many further attempts there may be: a share of the requests, so that a failing service is not asked twice as
//! often for it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::policy::Retries;

/// Thousandths of an attempt.
const ONE: u64 = 1000;

/// Attempts that may be saved up, and that there are at the start.
const MOST: u64 = 10 * ONE;

#[derive(Debug)]
pub(super) struct Budget {
    pub(super) rule: Retries,
    saved: AtomicU64,
}

impl Budget {
    pub(super) fn new(rule: Retries) -> Self {
        Self { rule, saved: AtomicU64::new(MOST) }
    }

    /// A request has come.
    pub(super) fn earn(&self) {
        if self.saved.load(Relaxed) < MOST {
            // Workers that come at once may save a little too much.
            self.saved.fetch_add(self.rule.budget * ONE / 100, Relaxed);
        }
    }

    /// Takes one attempt, if there is one.
    pub(super) fn spend(&self) -> bool {
        self.saved.fetch_update(Relaxed, Relaxed, |saved| saved.checked_sub(ONE)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn attempts_are_a_share_of_requests() {
        let budget = Budget::new(Retries { attempts: 2, budget: 20, backoff: Duration::ZERO });
        let spent = (0..20).filter(|_| budget.spend()).count();
        assert_eq!(spent, 10, "what was saved at the start");
        let spent = (0..1000)
            .filter(|_| {
                budget.earn();
                budget.spend()
            })
            .count();
        assert_eq!(spent, 200);
    }
}
