//! The cache at chosen moments.

use super::*;
use crate::auth::{Credential, take_credential};
use crate::policy::Place;
use crate::time::Clock;

fn key(text: &str) -> KeyText {
    let mut headers = http::HeaderMap::new();
    headers.insert("authorization", format!("Bearer {text}").parse().expect("a value"));
    match take_credential(&mut headers, &[Place::Bearer]) {
        Credential::Key(key) => key,
        other => panic!("{other:?}"),
    }
}

fn of(id: &str, org: &str) -> Found {
    Found::Valid(Arc::new(Principal::new(id, Some(org), None, &[], None).expect("valid")))
}

fn valid() -> Found {
    of("api_key_1", "org_1")
}

fn cache(max_entries: usize, refresh_ahead: bool, stale: u64) -> KeyCache {
    let spec = CacheSpec {
        ttl: Duration::from_secs(60),
        negative_ttl: Duration::from_secs(5),
        max_entries,
        refresh_ahead,
        stale_if_error: Duration::from_secs(stale),
    };
    KeyCache::new(&spec).expect("randomness")
}

/// What `look` says, in a word.
fn word(cache: &KeyCache, key: &CacheKey, now: Now) -> &'static str {
    match cache.look(key, now) {
        Lookup::Fresh { found: Found::Valid(_), refresh: false } => "valid",
        Lookup::Fresh { found: Found::Valid(_), refresh: true } => "valid, refresh",
        Lookup::Fresh { found: Found::Invalid, .. } => "invalid",
        Lookup::Stale { refresh: false, .. } => "stale",
        Lookup::Stale { refresh: true, .. } => "stale, refresh",
        Lookup::Doubtful => "doubtful",
        Lookup::Unknown => "unknown",
    }
}

const LOT: Chance = Chance(u32::MAX / 2);

#[test]
fn entries_live_as_long_as_their_kind_allows() {
    let (cache, clock) = (cache(10, false, 0), Clock::manual());
    let (good, bad) = (cache.digest(&key("kw_good_key")), cache.digest(&key("kw_bad_key")));
    cache.insert(good, Tail(0), valid(), cache.stamp(), clock.now(), LOT);
    cache.insert(bad, Tail(0), Found::Invalid, cache.stamp(), clock.now(), LOT);
    let words = |after: u64| {
        clock.advance(Duration::from_secs(after));
        (word(&cache, &good, clock.now()), word(&cache, &bad, clock.now()))
    };
    assert_eq!(words(4), ("valid", "invalid"));
    assert_eq!(words(1), ("valid", "unknown"));
    assert_eq!(words(54), ("valid", "unknown"));
    assert_eq!(words(1), ("unknown", "unknown"));
    cache.failed(&good, clock.now());
    assert_eq!(words(0), ("unknown", "unknown"), "a failure makes nothing good");
    assert!(cache.stale(&good, clock.now()).is_none());
}

#[test]
fn no_entry_outlives_its_key() {
    let (cache, clock) = (cache(10, true, 600), Clock::manual());
    let digest = cache.digest(&key("kw_good_key"));
    let expires = clock.now().wall + Duration::from_secs(30);
    let principal = Principal::new("api_key_1", Some("o"), None, &[], Some(expires)).expect("valid");
    cache.insert(digest, Tail(0), Found::Valid(Arc::new(principal)), cache.stamp(), clock.now(), Chance(u32::MAX));
    clock.advance(Duration::from_secs(29));
    assert_eq!(word(&cache, &digest, clock.now()), "valid");
    cache.failed(&digest, clock.now());
    // A step of the wall clock counts at once.
    let stepped = Now { wall: expires, ..clock.now() };
    assert_eq!(word(&cache, &digest, stepped), "invalid");
    assert!(cache.stale(&digest, stepped).is_none());
    clock.advance(Duration::from_secs(1));
    assert_eq!(word(&cache, &digest, clock.now()), "unknown");
    assert!(cache.stale(&digest, clock.now()).is_none());
}

#[test]
fn a_key_in_use_is_refreshed_before_its_end() {
    let (cache, clock) = (cache(10, true, 0), Clock::manual());
    let digest = cache.digest(&key("kw_good_key"));
    for (lot, first, later) in [(0, 0.0, 54.0), (u32::MAX / 2, 29.1, 56.1), (u32::MAX, 58.2, 58.2)] {
        for refresh_after in [first, later, later] {
            cache.insert(digest, Tail(0), valid(), cache.stamp(), clock.now(), Chance(lot));
            let at = |seconds: f64| {
                let offset = Duration::from_secs_f64(seconds);
                Now { monotonic: clock.now().monotonic + offset, wall: clock.now().wall + offset }
            };
            if refresh_after > 0.0 {
                assert_eq!(word(&cache, &digest, at(refresh_after - 0.1)), "valid", "{lot} {refresh_after}");
            }
            assert_eq!(word(&cache, &digest, at(refresh_after + 0.1)), "valid, refresh", "{lot} {refresh_after}");
            assert_eq!(word(&cache, &digest, at(60.0)), "unknown");
        }
        cache.purge(&Purge::All);
    }
    cache.insert(digest, Tail(0), Found::Invalid, cache.stamp(), clock.now(), LOT);
    clock.advance(Duration::from_secs(5));
    assert_eq!(word(&cache, &digest, clock.now()), "unknown", "an invalid key is not asked about ahead");
}

#[test]
fn a_good_key_outlasts_a_verifier_that_is_away_and_no_longer() {
    let (cache, clock) = (cache(10, true, 600), Clock::manual());
    let (good, bad) = (cache.digest(&key("kw_good_key")), cache.digest(&key("kw_bad_key")));
    cache.insert(good, Tail(0), valid(), cache.stamp(), clock.now(), Chance(u32::MAX));
    cache.insert(bad, Tail(0), Found::Invalid, cache.stamp(), clock.now(), LOT);
    clock.advance(Duration::from_secs(59));
    assert_eq!(word(&cache, &good, clock.now()), "valid, refresh");
    cache.failed(&good, clock.now());
    assert_eq!(word(&cache, &good, clock.now()), "valid", "it is left alone for a moment");
    clock.advance(Duration::from_secs(1));
    assert_eq!(word(&cache, &good, clock.now()), "stale, refresh");
    cache.failed(&good, clock.now());
    assert_eq!(word(&cache, &good, clock.now()), "stale");
    clock.advance(Duration::from_secs(70));
    assert_eq!(word(&cache, &good, clock.now()), "doubtful", "a failure long ago excuses nobody from asking");
    assert!(cache.stale(&good, clock.now()).is_some());
    clock.advance(Duration::from_secs(529));
    cache.failed(&good, clock.now());
    assert_eq!(word(&cache, &good, clock.now()), "stale");
    clock.advance(Duration::from_secs(1));
    assert_eq!(word(&cache, &good, clock.now()), "unknown");
    assert!(cache.stale(&good, clock.now()).is_none() && cache.stale(&bad, clock.now()).is_none());
    cache.insert(good, Tail(0), Found::Invalid, cache.stamp(), clock.now(), LOT);
    assert!(cache.stale(&good, clock.now()).is_none());
}

#[test]
fn a_verification_under_way_cannot_bring_back_a_purged_key() {
    let (cache, clock) = (cache(10, false, 600), Clock::manual());
    let digest = cache.digest(&key("kw_good_key"));
    for purge in [Purge::All, Purge::KeyId("api_key_1".to_owned()), Purge::Organization("org_1".to_owned())] {
        let before = cache.stamp();
        cache.purge(&purge);
        cache.insert(digest, Tail(0), valid(), before, clock.now(), LOT);
        cache.failed(&digest, clock.now());
        assert_eq!(word(&cache, &digest, clock.now()), "unknown", "{purge:?}");
        cache.insert(digest, Tail(0), valid(), cache.stamp(), clock.now(), LOT);
        assert_eq!(word(&cache, &digest, clock.now()), "valid", "{purge:?}");
        cache.purge(&purge);
        assert_eq!(word(&cache, &digest, clock.now()), "unknown", "{purge:?}");
        assert!(cache.stale(&digest, clock.now()).is_none(), "{purge:?}");
    }
}

#[test]
fn a_purge_forgets_what_it_names_and_nothing_else() {
    let (cache, clock) = (cache(10, false, 0), Clock::manual());
    let digest = |n: u32| cache.digest(&key(&format!("kw_key_{n}")));
    for (n, found) in [(0, of("a", "x")), (1, of("b", "x")), (2, of("c", "y")), (3, Found::Invalid)] {
        cache.insert(digest(n), Tail(0), found, cache.stamp(), clock.now(), LOT);
    }
    let known = || -> Vec<u32> { (0..4).filter(|n| word(&cache, &digest(*n), clock.now()) != "unknown").collect() };
    cache.purge(&Purge::KeyId("b".to_owned()));
    assert_eq!(known(), [0, 2, 3]);
    cache.purge(&Purge::Organization("x".to_owned()));
    assert_eq!(known(), [2, 3]);
    cache.purge(&Purge::All);
    assert!(known().is_empty());
}

#[test]
fn the_number_of_entries_is_bounded() {
    let (cache, clock) = (cache(100, true, 0), Clock::manual());
    for n in 0..10_000 {
        cache.insert(
            cache.digest(&key(&format!("kw_key_{n}"))),
            Tail(0),
            Found::Invalid,
            cache.stamp(),
            clock.now(),
            LOT,
        );
    }
    assert!(cache.entries.len() <= 100);
}
