//! Kinde's list of active keys: what was revoked or rotated there does not pass for the rest of its ttl.

use std::time::Duration;

use crate::harness::{Kinde, Paging, Reply, report, within};
use crate::kinde::{Case, case};

const UNAVAILABLE: &str = "503 VERIFIER_UNAVAILABLE";
const INVALID: &str = "401 INVALID_KEY";
const PASSED: &str = "200 -";

/// Keys live far longer than the test; only the list ends them.
async fn started(keys: usize) -> Case {
    let kinde = Kinde::start().await;
    for n in 0..keys {
        kinde.know(&format!("k_live_{n:04}"), |_| {});
    }
    let case = case(kinde, "poll: 30s", "cache: {ttl: 1h, refresh_ahead: false}").await;
    for n in 0..keys {
        assert_eq!(case.outcome(&format!("k_live_{n:04}")).await, PASSED);
    }
    case
}

impl Case {
    async fn complete(&self) -> f64 {
        self.proxy.metric(r#"keyward_key_lists_total{outcome="complete"}"#).await
    }

    async fn failed(&self) -> f64 {
        self.proxy.metric(r#"keyward_key_lists_total{outcome="failed"}"#).await
    }

    /// Lets one interval pass, in which the list is read.
    async fn interval(&self) {
        let before = self.complete().await;
        self.proxy.clock.advance(Duration::from_secs(30));
        within("a reading of the list", async { while self.complete().await <= before {} }).await;
    }

    async fn key_list_detail(&self) -> Option<String> {
        let ready = self.proxy.health("/readyz").await;
        assert_eq!(ready.status, 200, "{}", ready.text());
        ready.json()["detail"]["key_list"].as_str().map(str::to_owned)
    }
}

#[tokio::test]
async fn a_revoked_key_passes_until_the_next_reading_and_others_are_not_asked_about() {
    let case = started(3).await;
    case.interval().await;
    let verified = case.kinde.verified();
    case.kinde.forget("k_live_0001");
    assert_eq!(case.outcome("k_live_0001").await, PASSED, "Kinde tells nobody");
    case.interval().await;
    assert_eq!(case.outcome("k_live_0001").await, INVALID);
    report("a revocation at Kinde with `poll: 30s` and a ttl of 1 h: refused after the next reading");
    for key in ["k_live_0000", "k_live_0002"] {
        assert_eq!(case.outcome(key).await, PASSED);
    }
    assert_eq!(case.kinde.verified(), verified + 1, "only the revoked one was verified again");
    assert_eq!(case.proxy.metric(r#"keyward_key_evictions_total{reason="revoked"}"#).await, 1.0);
    assert_eq!(case.kinde.tokens(), 1, "the list needs no token of its own");
    assert!(case.kinde.polls().iter().all(|path| path == "/api/v1/api_keys?status=active&page_size=500"));
}

#[tokio::test]
async fn a_rotated_keys_old_secret_passes_until_the_next_reading() {
    let case = started(2).await;
    // The same id behind another secret.
    case.kinde.forget("k_live_0000");
    case.kinde.know("k_live_next", |answer| answer["key_id"] = "api_key_0000".into());
    case.interval().await;
    assert_eq!(case.outcome("k_live_0000").await, INVALID);
    assert_eq!(case.outcome("k_live_next").await, PASSED);
    assert_eq!(case.proxy.metric(r#"keyward_key_evictions_total{reason="rotated"}"#).await, 1.0);
    let verified = case.kinde.verified();
    for _ in 0..3 {
        case.interval().await;
        assert_eq!(case.outcome("k_live_next").await, PASSED);
    }
    assert_eq!(case.kinde.verified(), verified, "the new secret ends as listed");
}

#[tokio::test]
async fn an_end_that_means_something_else_costs_one_verification_and_no_more() {
    let case = started(1).await;
    let row = r#"{"api_keys":[{"id":"api_key_0000","key_suffix":"****"}],"has_more":false}"#;
    case.kinde.list_answers(Reply::json(row));
    for verified in [2, 3, 3, 3] {
        case.interval().await;
        assert_eq!(case.outcome("k_live_0000").await, PASSED);
        assert_eq!(case.kinde.verified(), verified);
    }
    // Its absence still counts.
    case.kinde.forget("k_live_0000");
    case.kinde.list_answers(None);
    case.interval().await;
    assert_eq!(case.outcome("k_live_0000").await, INVALID);
}

#[tokio::test]
async fn the_list_is_read_page_by_page_and_no_further_than_needed() {
    for (paging, second) in [(Paging::After, "&starting_after=api_key_0001"), (Paging::Token, "&next_token=from%202")] {
        let case = started(5).await;
        case.kinde.pages_have(2, paging);
        case.kinde.forget("k_live_0004");
        case.interval().await;
        let polls = case.kinde.polls();
        let first = "/api/v1/api_keys?status=active&page_size=500";
        assert_eq!(polls[..2], [first.to_owned(), format!("{first}{second}")], "{paging:?}");
        assert_eq!(polls.len(), 2, "{paging:?}: two pages are all");
        assert_eq!(case.outcome("k_live_0004").await, INVALID, "{paging:?}");
        for n in 0..4 {
            assert_eq!(case.outcome(&format!("k_live_{n:04}")).await, PASSED, "{paging:?}");
        }
        assert_eq!(case.kinde.verified(), 6, "{paging:?}: only the revoked one was verified again");
        // Once every cached key was seen, the rest of the list is not read.
        for n in 5..20 {
            case.kinde.know(&format!("k_live_{n:04}"), |_| {});
        }
        let before = case.kinde.polled();
        case.interval().await;
        assert_eq!(case.kinde.polled(), before + 2, "{paging:?}");
    }
}

#[tokio::test]
async fn a_list_makes_no_key_valid_and_brings_none_back() {
    let case = started(1).await;
    // Listed as active, and called invalid when it is verified.
    case.kinde.know("k_live_dead", |answer| answer["is_valid"] = false.into());
    let rows = r#"{"api_keys":[{"id":"api_key_0000"},{"id":"api_key_dead"}],"has_more":false}"#;
    case.kinde.list_answers(Reply::json(rows));
    assert_eq!(case.outcome("k_live_dead").await, INVALID);
    case.interval().await;
    assert_eq!(case.outcome("k_live_dead").await, INVALID);
    assert_eq!(case.outcome("k_live_0000").await, PASSED);

    // A verification that was answered before the revocation, and arrives after the reading.
    case.kinde.list_answers(None);
    case.kinde.know("k_live_slow", |_| {});
    case.kinde.close_gate();
    let before = case.kinde.verified();
    let request = case.proxy.get("/any").key("k_live_slow");
    let early = tokio::spawn(async move { request.send().await });
    case.kinde.verified_at_least(before + 1).await;
    case.kinde.forget("k_live_slow");
    case.interval().await;
    case.kinde.open_gate();
    assert_eq!(early.await.expect("a client's task").status, 200, "it came before");
    assert_eq!(case.outcome("k_live_slow").await, INVALID, "and is not remembered");
}

#[tokio::test]
async fn a_list_that_we_may_not_read_is_told_and_stops_nothing() {
    let case = started(1).await;
    case.kinde.list_answers(Reply::new(403, "application/json", r#"{"errors":[{"code":"FORBIDDEN","message":"x"}]}"#));
    case.proxy.clock.advance(Duration::from_secs(30));
    within("the reason", async { while case.key_list_detail().await.is_none() {} }).await;
    let detail = case.key_list_detail().await.expect("a reason");
    assert!(detail.contains("status 403") && detail.contains("`read:api_keys`"), "{detail}");
    case.kinde.know("k_live_other", |_| {});
    assert_eq!(case.outcome("k_live_0000").await, PASSED);
    assert_eq!(case.outcome("k_live_other").await, PASSED, "verification goes on");
    case.kinde.list_answers(None);
    case.interval().await;
    assert_eq!(case.key_list_detail().await, None);
}

#[tokio::test]
async fn a_list_that_cannot_be_read_forgets_nobody_and_is_tried_again_ever_later() {
    let case = started(2).await;
    case.kinde.pages_have(1, Paging::After);
    let page = |body: &str| Reply::json(body);
    for (why, reply) in [
        ("away", Reply::new(503, "text/plain", "x")),
        ("a page", Reply::new(200, "text/html", "<html>")),
        ("no keys", page("{}")),
        ("null", page(r#"{"api_keys":null}"#)),
        ("no id", page(r#"{"api_keys":[{"status":"active"}]}"#)),
        ("more behind nothing", page(r#"{"api_keys":[],"has_more":true}"#)),
        ("the same page for ever", page(r#"{"api_keys":[{"id":"x"}],"has_more":true}"#)),
        ("the same token for ever", page(r#"{"api_keys":[],"next_token":"x"}"#)),
    ] {
        case.kinde.list_answers(reply);
        let before = case.failed().await;
        case.proxy.clock.advance(Duration::from_secs(30));
        within("a failed reading", async { while case.failed().await <= before {} }).await;
        for key in ["k_live_0000", "k_live_0001"] {
            assert_eq!(case.outcome(key).await, PASSED, "{why}");
        }
        assert_eq!(case.key_list_detail().await, None, "{why}: nothing that an operator could mend");
    }
    assert_eq!(case.kinde.verified(), 2, "nobody was forgotten");
    case.kinde.list_answers(None);
    case.interval().await;

    // After one failure it is tried again soon, and not at once.
    case.kinde.list_answers(Reply::new(500, "text/plain", "x"));
    let before = case.failed().await;
    case.proxy.clock.advance(Duration::from_secs(30));
    within("a failed reading", async { while case.failed().await <= before {} }).await;
    case.kinde.list_answers(None);
    let complete = case.complete().await;
    let polled = case.kinde.polled();
    case.proxy.clock.advance(Duration::from_millis(800));
    assert_eq!(case.outcome("k_live_0000").await, PASSED);
    assert_eq!(case.kinde.polled(), polled);
    case.proxy.clock.advance(Duration::from_millis(200));
    within("another attempt", async { while case.complete().await <= complete {} }).await;

    // A limit of Kinde counts for the list as for verifications.
    case.kinde.list_answers(Reply::raw("HTTP/1.1 429 X\r\nRateLimit-Reset: 40\r\ncontent-length: 2\r\n\r\n{}"));
    let before = case.failed().await;
    case.proxy.clock.advance(Duration::from_secs(30));
    within("a failed reading", async { while case.failed().await <= before {} }).await;
    let polled = case.kinde.polled();
    case.proxy.clock.advance(Duration::from_secs(35));
    assert_eq!(case.outcome("k_live_new").await, UNAVAILABLE, "it is left alone");
    case.kinde.list_answers(None);
    let complete = case.complete().await;
    assert_eq!(case.kinde.polled(), polled);
    case.proxy.clock.advance(Duration::from_secs(10));
    within("another attempt", async { while case.complete().await <= complete {} }).await;
}
