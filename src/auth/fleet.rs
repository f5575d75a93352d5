//! What a fleet costs at Kinde, simulated: the real cache, the real token code, an injected clock, seeded lots, and a
//! Kinde without sockets.
//!
//! 100 sidecars with 1,000 keys that are each used once a second for an hour are 360 million lookups, nearly all of
//! which find a fresh entry that is not due. Such a lookup changes nothing, so the fleet is stepped from one moment at
//! which a key is due to the next: the cache itself says when that is. That the calls are the same, second by second,
//! is shown by a smaller sidecar that does every single use through the whole [`Authenticator`].

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::cache::Tail;
use super::verifier::MemoryKinde;
use super::*;
use crate::policy::{Rate, Subject};

const HOUR: usize = 3600;
const TTL: u64 = 60;
const TOKEN_LIFE: u64 = 3600;
const SIDECARS: u64 = 100;
const KEYS: u32 = 1000;

fn spec() -> CacheSpec {
    CacheSpec {
        ttl: Duration::from_secs(TTL),
        negative_ttl: Duration::from_secs(5),
        max_entries: 10_000,
        refresh_ahead: true,
        stale_if_error: Duration::ZERO,
    }
}

/// Verifications of one sidecar in each second of its first hour.
fn hour_of_a_cache(keys: u32, lots: &Lots) -> Vec<u32> {
    let (cache, start) = (KeyCache::new(&spec()).expect("randomness"), Clock::manual().now());
    let found = Found::Valid(Arc::new(Principal::new("k", Some("o"), None, &[], None).expect("valid")));
    let digest = |key: u32| -> CacheKey {
        let mut digest = [0; 16];
        digest[..4].copy_from_slice(&key.to_be_bytes());
        digest
    };
    let mut due: Vec<Vec<u32>> = vec![Vec::new(); HOUR];
    due[0] = (0..keys).collect();
    let mut verified = vec![0; HOUR];
    for second in 0..HOUR {
        let mut now_due = std::mem::take(&mut due[second]);
        now_due.sort_unstable();
        let offset = Duration::from_secs(second as u64);
        let now = Now { monotonic: start.monotonic + offset, wall: start.wall + offset };
        for key in now_due {
            let digest = digest(key);
            let again = match cache.look(&digest, now) {
                Lookup::Fresh { refresh, .. } => refresh,
                _ => true,
            };
            assert!(again, "nothing is verified before it is due");
            cache.insert(digest, Tail::default(), found.clone(), cache.stamp(), now, lots.draw());
            verified[second] += 1;
            let from = cache.refresh_from(&digest).expect("an entry").saturating_duration_since(start.monotonic);
            // The first use that finds it due.
            let next = from.as_secs() as usize + usize::from(from.subsec_nanos() > 0);
            if let Some(then) = due.get_mut(next.max(second + 1)) {
                then.push(key);
            }
        }
    }
    verified
}

#[tokio::test]
async fn stepping_from_due_to_due_makes_the_calls_that_every_single_use_makes() {
    let keys = 40;
    let clock = Clock::manual();
    let (metrics, limiter) = (Arc::new(Metrics::new().expect("metrics")), Arc::new(Limiter::new(1000)));
    let kinde = MemoryKinde::new(&clock, TOKEN_LIFE);
    let verifier = Verifier::Kinde(Arc::new(kinde.verifier(&metrics, Lots::seeded(1))));
    let auth =
        Authenticator::with(&spec(), limiter, metrics, clock.clone(), Lots::seeded(7), Handle::current(), |_| {
            Ok(verifier)
        })
        .expect("an authenticator");
    let failures = Arc::new(Limit {
        name: "auth_failures".into(),
        rate: Rate { requests: 1_000_000, per: Duration::from_secs(60), capacity: 1_000_000 },
        by: Subject::Address,
    });
    for _ in 0..HOUR {
        for key in 0..keys {
            let text = KeyText::of(Zeroizing::new(format!("k_live_of_the_fleet_{key:04}")));
            let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
            let found = auth.authenticate(Credential::Key(text), address, &failures, clock.now()).await;
            assert!(found.is_ok(), "{found:?}");
        }
        // What goes on in the background has no reason to wait.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        clock.advance(Duration::from_secs(1));
    }
    let verified = kinde.verified(HOUR);
    assert_eq!(verified, hour_of_a_cache(keys, &Lots::seeded(7)));
    let total: u32 = verified.iter().sum();
    println!("{keys} keys, every use: {total} verifications, tokens in the seconds {:?}", kinde.tokens());
    assert_eq!(kinde.tokens().len(), 2, "one at the start, one before its end");
}

#[test]
fn a_fleets_verifications_are_what_its_ttl_says_and_come_in_no_burst() {
    let mut fleet = vec![0_u32; HOUR];
    let most = f64::from(KEYS) * 60.0 * 1.1;
    let (mut dearest, mut worst_of_one) = (0, 0.0_f64);
    for sidecar in 0..SIDECARS {
        let verified = hour_of_a_cache(KEYS, &Lots::seeded(sidecar));
        let total: u32 = verified.iter().sum();
        assert!(f64::from(total) <= most, "{total} verifications of one sidecar in its hour, allowed are {most}");
        // Every key is new in the first second, which nothing can spread; from then on nothing comes together.
        assert_eq!(verified[0], KEYS);
        let mean = f64::from(total - verified[0]) / (HOUR - 1) as f64;
        let worst = f64::from(*verified[1..].iter().max().expect("seconds"));
        assert!(worst <= 3.0 * mean, "sidecar {sidecar}: {worst} in one second, {mean} on average");
        dearest = dearest.max(total);
        worst_of_one = worst_of_one.max(worst / mean);
        fleet.iter_mut().zip(&verified).for_each(|(sum, count)| *sum += count);
    }
    let mean = f64::from(fleet[1..].iter().sum::<u32>()) / (HOUR - 1) as f64;
    let worst = f64::from(*fleet[1..].iter().max().expect("seconds"));
    println!(
        "{SIDECARS} sidecars, {KEYS} keys, one hour: at most {dearest} verifications of one sidecar (allowed {most}), \
         its worst second {worst_of_one:.2} times its mean; all together {mean:.0} a second, at most {worst} ({:.2} \
         times)",
        worst / mean
    );
    assert!(worst <= 3.0 * mean, "{worst} in one second, {mean} on average");
}

#[tokio::test]
async fn a_fleet_uses_its_tokens_up() {
    let metrics = Arc::new(Metrics::new().expect("metrics"));
    let starts = Lots::seeded(99);
    let mut fetched = Vec::new();
    for sidecar in 0..SIDECARS {
        // Each began at some time of the hour before the one that counts, and verifies in every second.
        let begins = starts.draw().anywhere_in(Duration::from_secs(HOUR as u64)).as_secs();
        let clock = Clock::manual();
        let kinde = MemoryKinde::new(&clock, TOKEN_LIFE);
        let verifier = kinde.verifier(&metrics, Lots::seeded(1000 + sidecar));
        for _ in begins..2 * HOUR as u64 {
            MemoryKinde::use_token(&verifier).await;
            // A renewal ahead of time is a task of its own.
            tokio::task::yield_now().await;
            clock.advance(Duration::from_secs(1));
        }
        fetched.extend(kinde.tokens().into_iter().map(|second| begins + second));
    }
    let counted: Vec<u64> = fetched.into_iter().filter(|second| *second >= HOUR as u64).collect();
    let mut minutes = [0_u32; 12];
    counted.iter().for_each(|second| minutes[(*second as usize - HOUR) / 300] += 1);
    let (mean, worst) = (counted.len() as f64 / 12.0, minutes.iter().max().expect("minutes"));
    println!("{SIDECARS} sidecars, one hour: {} tokens; {mean:.1} in five minutes, at most {worst}", counted.len());
    assert!(counted.len() as f64 <= SIDECARS as f64 * 1.1, "{} tokens", counted.len());
    assert!(f64::from(*worst) <= 3.0 * mean, "{worst} in five minutes, {mean} on average");
}
