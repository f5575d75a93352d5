//! What the key cache does for Kinde, and when Kinde is away.

use std::time::Duration;

use tokio::task::JoinHandle;

use crate::harness::{Answer, BadKey, Kinde, Origin, Proxy, Reply, Request, report};
use crate::kinde::{Case, case};

const UNAVAILABLE: &str = "503 VERIFIER_UNAVAILABLE";
const INVALID: &str = "401 INVALID_KEY";
const PASSED: &str = "200 -";

/// Kinde knows `k_live_1`, and the token is there.
async fn started(more_keys: &str) -> Case {
    let kinde = Kinde::start().await;
    kinde.know("k_live_1", |_| {});
    kinde.know("k_live_warm", |_| {});
    let case = case(kinde, "timeout: 10s", more_keys).await;
    assert_eq!(case.outcome("k_live_warm").await, PASSED);
    case
}

impl Case {
    fn send(&self, key: &str) -> JoinHandle<Answer> {
        let request = self.proxy.get("/any").key(key);
        tokio::spawn(async move { request.send().await })
    }

    fn pass(&self, seconds: u64) {
        self.proxy.clock.advance(Duration::from_secs(seconds));
    }
}

fn away() -> Reply {
    Reply::new(503, "text/plain", "away")
}

#[tokio::test]
async fn requests_that_come_together_are_one_verification() {
    let case = started("cache: {refresh_ahead: false}").await;
    for (key, status) in [("k_live_1", 200), ("k_live_bad", 401)] {
        let before = case.kinde.verified();
        case.kinde.close_gate();
        let first = case.send(key);
        case.kinde.verified_at_least(before + 1).await;
        let more: Vec<_> = (0..20).map(|_| case.send(key)).collect();
        // They have come as far as the first: all are waiting for the gate.
        while case.proxy.metric("keyward_requests_in_flight").await < 21.0 {}
        case.kinde.open_gate();
        for request in more {
            assert_eq!(request.await.expect("a client's task").status, status, "{key}");
        }
        assert_eq!(first.await.expect("a client's task").status, status, "{key}");
        assert_eq!(case.kinde.verified(), before + 1, "{key}");
    }
    // The same when its time is over.
    case.pass(60);
    let before = case.kinde.verified();
    let again: Vec<_> = (0..20).map(|_| case.send("k_live_1")).collect();
    for request in again {
        assert_eq!(request.await.expect("a client's task").status, 200);
    }
    assert_eq!(case.kinde.verified(), before + 1);
}

#[tokio::test]
async fn a_client_that_leaves_takes_nobodys_answer_with_it() {
    let case = started("").await;
    case.kinde.close_gate();
    let before = case.kinde.verified();
    let first = case.send("k_live_1");
    case.kinde.verified_at_least(before + 1).await;
    let second = case.send("k_live_1");
    while case.proxy.metric("keyward_requests_in_flight").await < 2.0 {}
    first.abort();
    assert!(first.await.is_err());
    case.kinde.open_gate();
    assert_eq!(second.await.expect("a client's task").status, 200);
    assert_eq!(case.kinde.verified(), before + 1);
}

#[tokio::test]
async fn a_revoked_key_passes_no_longer_than_its_ttl() {
    let case = started("cache: {ttl: 60s, refresh_ahead: false, stale_if_error: 1h}").await;
    assert_eq!(case.outcome("k_live_1").await, PASSED);
    case.kinde.forget("k_live_1");
    case.pass(59);
    assert_eq!(case.outcome("k_live_1").await, PASSED, "Kinde tells nobody of a revocation");
    case.pass(1);
    assert_eq!(case.outcome("k_live_1").await, INVALID);
    report(
        "a revocation at Kinde with a ttl of 60 s: passed after 59 s, refused after 60 s, by a clock moved by the test",
    );
    // It stays so, also when Kinde goes away later.
    case.kinde.verify_answers(away());
    assert_eq!(case.outcome("k_live_1").await, INVALID);
    case.pass(5);
    assert_eq!(case.outcome("k_live_1").await, UNAVAILABLE);
}

#[tokio::test]
async fn a_key_in_use_is_verified_ahead_and_nobody_waits() {
    let case = started("cache: {ttl: 60s}").await;
    assert_eq!(case.outcome("k_live_1").await, PASSED);
    let before = case.kinde.verified();
    case.pass(59);
    case.kinde.close_gate();
    for _ in 0..5 {
        assert_eq!(case.outcome("k_live_1").await, PASSED, "the cache answers while the gate is closed");
    }
    case.kinde.verified_at_least(before + 1).await;
    case.kinde.open_gate();
    while case.proxy.metric(r#"keyward_verifications_total{outcome="valid"}"#).await < 3.0 {}
    assert_eq!(case.kinde.verified(), before + 1);
    // The answer counts from when it came.
    case.kinde.verify_answers(away());
    case.pass(50);
    assert_eq!(case.outcome("k_live_1").await, PASSED);
}

#[tokio::test]
async fn a_good_key_outlasts_kinde_for_as_long_as_is_said() {
    let case = started("cache: {ttl: 60s, refresh_ahead: false, stale_if_error: 10m}").await;
    assert_eq!(case.outcome("k_live_1").await, PASSED);
    case.kinde.verify_answers(away());
    case.pass(60);
    let before = case.kinde.verified();
    assert_eq!(case.outcome("k_live_1").await, PASSED, "it was asked for, in vain");
    assert_eq!(case.kinde.verified(), before + 1);
    assert_eq!(case.outcome("k_live_1").await, PASSED, "now it is not even asked for");
    assert_eq!(case.kinde.verified(), before + 1);
    assert_eq!(case.proxy.metric(r#"keyward_key_cache_total{result="stale"}"#).await, 2.0);
    assert_eq!(case.outcome("k_live_unknown").await, UNAVAILABLE, "an unknown key is never believed");
    case.pass(599);
    assert_eq!(case.outcome("k_live_1").await, PASSED);
    case.pass(1);
    assert_eq!(case.outcome("k_live_1").await, UNAVAILABLE);
    case.kinde.verify_answers(None);
    assert_eq!(case.outcome("k_live_1").await, PASSED);

    // A clear answer ends it at once.
    case.kinde.verify_answers(away());
    case.pass(60);
    assert_eq!(case.outcome("k_live_1").await, PASSED);
    case.kinde.verify_answers(None);
    case.kinde.forget("k_live_1");
    case.pass(70);
    assert_eq!(case.outcome("k_live_1").await, INVALID);

    // Not believed for longer than it lives itself.
    let expires = humantime_of(&case, 100);
    case.kinde.know("k_live_2", |answer| answer["expires_on"] = expires.into());
    assert_eq!(case.outcome("k_live_2").await, PASSED);
    case.kinde.verify_answers(away());
    case.pass(98);
    assert_eq!(case.outcome("k_live_2").await, PASSED);
    case.pass(2);
    assert_eq!(case.outcome("k_live_2").await, UNAVAILABLE);
}

/// A date that is `seconds` from now, as Kinde writes dates.
fn humantime_of(case: &Case, seconds: u64) -> String {
    // In whole seconds, rounded up.
    let wall = case.proxy.clock.now().wall + Duration::from_secs(seconds) + Duration::from_secs(11 * 3600);
    let text = humantime::format_rfc3339_millis(wall).to_string();
    text.replace('Z', "+11")
}

#[tokio::test]
async fn without_stale_if_error_nothing_outlasts_its_ttl() {
    let case = started("cache: {ttl: 60s}").await;
    assert_eq!(case.outcome("k_live_1").await, PASSED);
    case.kinde.verify_answers(away());
    case.pass(59);
    assert_eq!(case.outcome("k_live_1").await, PASSED);
    case.pass(1);
    assert_eq!(case.outcome("k_live_1").await, UNAVAILABLE);
    case.kinde.verify_answers(None);
    assert_eq!(case.outcome("k_live_1").await, PASSED, "a 503 was not remembered");
}

#[tokio::test]
async fn a_bad_key_is_remembered_for_a_moment() {
    let case = started("cache: {negative_ttl: 5s}").await;
    case.kinde.bad_keys_get(BadKey::Status(400));
    let before = case.kinde.verified();
    assert_eq!(case.outcome("k_live_new").await, INVALID);
    case.kinde.know("k_live_new", |_| {});
    case.pass(4);
    assert_eq!(case.outcome("k_live_new").await, INVALID);
    assert_eq!(case.kinde.verified(), before + 1);
    case.pass(1);
    assert_eq!(case.outcome("k_live_new").await, PASSED);
}

#[tokio::test]
async fn a_flood_of_keys_is_not_passed_on() {
    let case = started("auth_failures: {requests: 1000, per: 1h}").await;
    case.kinde.close_gate();
    let before = case.kinde.verified();
    let held: Vec<_> = (0..64).map(|n| case.send(&format!("k_live_flood_{n}"))).collect();
    case.kinde.verified_at_least(before + 64).await;
    assert_eq!(case.outcome("k_live_one_more").await, UNAVAILABLE);
    assert_eq!(case.outcome("k_live_warm").await, PASSED, "what is cached needs no place");
    assert_eq!(case.kinde.verified(), before + 64);
    case.kinde.open_gate();
    for request in held {
        assert_eq!(request.await.expect("a client's task").status, 401);
    }
    assert_eq!(case.outcome("k_live_1").await, PASSED);
}

#[tokio::test]
async fn a_wrong_key_costs_a_token_of_its_address_and_kindes_absence_none() {
    let case =
        started("auth_failures: {requests: 2, per: 1h}, cache: {refresh_ahead: false, stale_if_error: 1h}").await;
    case.kinde.verify_answers(away());
    for n in 0..5 {
        assert_eq!(case.outcome(&format!("k_live_{n}")).await, UNAVAILABLE);
    }
    case.kinde.verify_answers(None);
    assert_eq!(case.outcome("k_live_bad_1").await, INVALID);
    assert_eq!(case.outcome("k_live_bad_2").await, INVALID);
    assert_eq!(case.outcome("k_live_bad_3").await, "429 AI_RATE_LIMITED");
    assert_eq!(case.outcome("k_live_1").await, "429 AI_RATE_LIMITED", "a key nobody has seen is a guess");
    case.pass(60);
    assert_eq!(case.outcome("k_live_warm").await, PASSED, "one that was good lately is none");
}

#[tokio::test]
async fn a_purge_is_not_undone_by_what_was_under_way() {
    let kinde = Kinde::start().await;
    kinde.know("k_live_1", |_| {});
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("token"), "admin-token").expect("written");
    let origin = Origin::json("{}").await;
    let keys = format!(
        "keys: {{verifier: kinde, kinde: {{url: 'http://{}', auth: none}}}}\nadmin: {{address: '127.0.0.1:0', token: {{file: '{}/token'}}}}",
        kinde.address,
        dir.path().display()
    );
    kinde.want_nothing();
    let proxy = Proxy::builder(&origin).base("keys: {store: {url: 'sqlite://keys.db'}}", &keys).start().await;
    let purge = async |token: &str, body: &str| {
        let request = proxy.admin("POST", "/cache/purge").header("Authorization", token);
        request.json(body).send().await.status
    };
    let admin = "Bearer admin-token";
    let send = || {
        let request = proxy.get("/any").key("k_live_1");
        tokio::spawn(async move { request.send().await.status })
    };
    for body in [r#"{"all":true}"#, r#"{"key_id":"api_key_1"}"#, r#"{"org_code":"org_123"}"#] {
        kinde.know("k_live_1", |_| {});
        kinde.close_gate();
        let before = kinde.verified();
        let early = send();
        kinde.verified_at_least(before + 1).await;
        // Kinde has made its answer; the key is revoked, and somebody says so here.
        kinde.forget("k_live_1");
        assert_eq!(purge(admin, body).await, 200, "{body}");
        let late = send();
        kinde.verified_at_least(before + 2).await;
        kinde.open_gate();
        assert_eq!(early.await.expect("a client's task"), 200, "it came before");
        assert_eq!(late.await.expect("a client's task"), 401, "{body}");
        assert_eq!(send().await.expect("a client's task"), 401, "{body}: nothing came back");
        assert_eq!(purge(admin, r#"{"all":true}"#).await, 200);

        kinde.know("k_live_1", |_| {});
        assert_eq!(send().await.expect("a client's task"), 200);
        kinde.forget("k_live_1");
        assert_eq!(send().await.expect("a client's task"), 200, "it is cached");
        for other in [r#"{"key_id":"api_key_2"}"#, r#"{"org_code":"org_1"}"#] {
            assert_eq!(purge(admin, other).await, 200);
            assert_eq!(send().await.expect("a client's task"), 200, "{other} is not meant");
        }
        assert_eq!(purge(admin, body).await, 200);
        assert_eq!(send().await.expect("a client's task"), 401, "{body}");
        assert_eq!(purge(admin, r#"{"all":true}"#).await, 200);
    }
    for body in ["", "{}", r#"{"all":false}"#, r#"{"key":"x"}"#, r#"{"all":true,"key_id":"x"}"#, &"x".repeat(5000)] {
        assert_eq!(purge(admin, body).await, 400, "{body}");
    }
    assert_eq!(purge("Bearer other", r#"{"all":true}"#).await, 401);
    let get = proxy.admin("GET", "/cache/purge").header("Authorization", admin);
    assert_eq!(get.send().await.status, 405);
    let health = Request::new(proxy.health, "POST", "/cache/purge").json(r#"{"all":true}"#);
    assert_eq!(health.send().await.status, 405, "the health listener does nothing");
}
