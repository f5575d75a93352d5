//! Reading Kinde's list of active keys, and forgetting the cached ones that it no longer has.
//!
//! Kinde tells nobody that a key was revoked or rotated. Its list does, at one call for 500 keys. Enters: the list,
//! page by page. Leaves: a cache without what is not in it. A list makes no key valid: what is forgotten is verified
//! again when it comes. Memory is bounded by the cache: of a page, only what is cached is kept.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::Core;
use super::cache::Tail;
use super::verifier::{Failure, KindeVerifier, Next, Verifier};

/// More pages than any list has; one that goes on forever ends here.
const MAX_PAGES: usize = 10_000;

/// How long to wait after a reading that failed; twice as long after each further one, until the interval.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// Keys whose listed end is not that of the key which was verified: once is a rotation, twice is not.
type Suspects = HashMap<Arc<str>, u32>;

/// Reads the list `every` so often, until `core` is gone.
pub(super) async fn run(core: Weak<Core>, every: Duration) {
    let Some((clock, lots)) = core.upgrade().map(|core| (core.clock.clone(), core.lots.clone())) else { return };
    let mut suspects = Suspects::new();
    let mut failures = 0;
    // Many that were started together do not ask together.
    let mut wait = lots.draw().anywhere_in(every);
    loop {
        clock.sleep(wait).await;
        let Some(core) = core.upgrade() else { return };
        let Verifier::Kinde(kinde) = &core.verifier else { return };
        let read = core.read_list(kinde, &mut suspects).await;
        core.metrics.key_list(read.is_ok());
        kinde.listed(read.as_ref().copied());
        wait = match read {
            Ok(()) => {
                failures = 0;
                lots.draw().within(every)
            }
            Err(failure) => {
                if failures == 0 {
                    tracing::warn!("the list of active keys cannot be read: {failure}");
                }
                let wait = lots.draw().within((FIRST_WAIT * 2_u32.pow(failures)).min(every));
                failures = (failures + 1).min(12);
                if let Failure::Paused(pause) = failure { pause.max(wait) } else { wait }
            }
        };
    }
}

impl Core {
    /// Reads as much of the list as it takes to see every cached key, and forgets those that are not in it.
    async fn read_list(&self, kinde: &KindeVerifier, suspects: &mut Suspects) -> Result<(), Failure> {
        let asked = self.cache.ids_for_list();
        suspects.retain(|id, _| asked.contains(id));
        let mut active = HashMap::with_capacity(asked.len());
        let mut from: Option<Next> = None;
        for _ in 0..MAX_PAGES {
            let (keys, next) = kinde.page(from.as_ref()).await?;
            for listed in keys {
                if let Some(id) = asked.get(listed.id.as_str()) {
                    // A listed end is compared unless it has been seen to mean something else.
                    let suffix = listed.suffix.filter(|_| suspects.get(id).is_none_or(|times| *times < 2));
                    active.insert(Arc::clone(id), suffix.and_then(|suffix| self.cache.tail(&suffix)));
                }
            }
            if active.len() == asked.len() || next.is_none() {
                self.forget_inactive(&asked, &active, suspects);
                return Ok(());
            }
            if next == from {
                break;
            }
            from = next;
        }
        Err(Failure::Away("its list of keys does not end".to_owned()))
    }

    fn forget_inactive(
        &self,
        asked: &HashSet<Arc<str>>,
        active: &HashMap<Arc<str>, Option<Tail>>,
        suspects: &mut Suspects,
    ) {
        let inactive = self.cache.keep_active(asked, active);
        // A rotation is over when the new key ends as listed. What never does stays known.
        suspects.retain(|id, times| *times >= 2 || !active.contains_key(id) || inactive.rotated.contains(id));
        for id in &inactive.rotated {
            let times = suspects.entry(Arc::clone(id)).or_default();
            *times += 1;
            if *times == 2 {
                tracing::warn!(
                    key_id = &**id,
                    "a valid key does not end as Kinde lists it; its rotation is not looked for"
                );
            }
        }
        self.metrics.key_evictions(inactive.revoked, inactive.rotated.len() as u64);
        if inactive.revoked > 0 || !inactive.rotated.is_empty() {
            tracing::info!(
                revoked = inactive.revoked,
                rotated = inactive.rotated.len(),
                "keys are verified again: Kinde no longer lists them"
            );
        }
    }
}
