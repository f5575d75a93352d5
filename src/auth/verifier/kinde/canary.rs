//! A key that nobody has made, verified at the start and while Kinde refuses us.
//!
//! It tells whether Kinde can be asked at all, before the first request does, and when a refusal is over, without
//! one. Kinde must call it invalid; if it calls it valid, as a mock of its documented answers does, it would let
//! everybody in, and nothing that it says is believed.

use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::Duration;

use zeroize::Zeroizing;

use super::{Auth, Failure, KindeVerifier};
use crate::auth::KeyText;

/// How often somebody looks whether Kinde refuses us.
const LOOK: Duration = Duration::from_secs(10);

/// How long to wait after the first attempt without an answer; twice as long after each further one.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// How long a Kinde that is away keeps traffic away after the start: behind that, public routes count for more.
const KEEPS_TRAFFIC_AWAY: Duration = Duration::from_secs(30);

pub(super) fn believed() -> Failure {
    Failure::Misconfigured("it calls a key valid that nobody has made; is the URL that of a mock?".to_owned())
}

impl KindeVerifier {
    /// Verifies the canary until Kinde has answered clearly, and again while it refuses us. Ends with the verifier.
    pub(in crate::auth) async fn watch(kinde: Weak<Self>) {
        let Some((clock, lots)) = kinde.upgrade().map(|kinde| (kinde.link.clock.clone(), kinde.link.lots.clone()))
        else {
            return;
        };
        let began = clock.now().monotonic;
        let (mut failures, mut known) = (0, false);
        loop {
            let wait = {
                let Some(kinde) = kinde.upgrade() else { return };
                if known && !kinde.trouble.is_refused() {
                    LOOK
                } else {
                    let answer = kinde.sing().await;
                    match answer {
                        Ok(()) => {
                            (failures, known) = (0, true);
                            LOOK
                        }
                        Err(failure) => {
                            let away_for = clock.now().monotonic.saturating_duration_since(began);
                            // Without credentials only a good key may bring the first clear answer.
                            let keeps_away = away_for < KEEPS_TRAFFIC_AWAY && !matches!(kinde.auth, Auth::Nothing(_));
                            kinde.trouble.still_unknown(&failure.to_string(), keeps_away);
                            let wait = (FIRST_WAIT * 2_u32.pow(failures)).min(LONGEST_WAIT);
                            failures = (failures + 1).min(6);
                            match failure {
                                Failure::Paused(pause) => pause.max(wait),
                                Failure::Misconfigured(_) => wait.max(LOOK),
                                Failure::Away(_) => wait,
                            }
                        }
                    }
                }
            };
            clock.sleep(lots.draw().beyond(wait)).await;
        }
    }

    /// Whether Kinde calls the canary invalid.
    async fn sing(&self) -> Result<(), Failure> {
        let key = canary().ok_or_else(|| Failure::Away("no randomness".to_owned()))?;
        let mut answer = self.answer(&key).await;
        if matches!(answer, Err(Failure::Misconfigured(_))) && self.replace_token().await {
            answer = self.answer(&key).await;
        }
        if let Ok(told) = &answer {
            self.believes_anything.store(told.is_some(), Ordering::Relaxed);
        }
        let answer = answer.and_then(|told| if told.is_none() { Ok(()) } else { Err(believed()) });
        self.note(&answer);
        answer
    }

    /// A scope that somebody has granted since is in the next token only, and this one may live for a day. Whether
    /// there is another token now; not oftener than tokens may be replaced.
    async fn replace_token(&self) -> bool {
        let Auth::Renewed(source) = &self.auth else { return false };
        match source.current().await {
            Ok(token) => source.renew(&token).await.is_ok(),
            Err(_) => false,
        }
    }
}

/// Shaped like a key, and by its randomness nobody's.
fn canary() -> Option<KeyText> {
    let mut random = [0_u8; 16];
    getrandom::fill(&mut random).ok()?;
    Some(KeyText::of(Zeroizing::new(format!("keyward_canary_{:032x}", u128::from_be_bytes(random)))))
}
