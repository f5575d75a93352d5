//! Limits: the source document's numbers, whose bucket pays, and what the headers say.

use std::time::Duration;

use crate::harness::{Origin, Proxy};

const DOCUMENT: &str = "
limits: {ai: {requests: 50, per: 15m, by: key}}
defaults: {upstream: ai, limits: [ai]}
routes:
  - {id: chat, path: /ai/chat, scopes: [write:ai_chat]}
  - {id: admin, path: /ai/admin, scopes: [admin:ai]}
  - {id: free, path: /free, public: true, limits: []}
";

#[tokio::test]
async fn fifty_pass_and_the_fifty_first_is_told_when_to_come_back() {
    let origin = Origin::json("{}").await;
    let proxy = Proxy::builder(&origin).config(DOCUMENT).manual_clock().start().await;
    let chat = |key: &str| proxy.get("/ai/chat").key(key);
    for left in (0..50).rev() {
        let answer = chat(&proxy.user_key).send().await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.head.field("x-ratelimit-remaining"), Some(left.to_string().as_str()));
        assert_eq!(answer.head.field("ratelimit-policy"), Some(r#""ai";q=50;w=900"#));
    }
    let refused = chat(&proxy.user_key).send().await;
    assert_eq!((refused.status, refused.head.field("retry-after")), (429, Some("18")));
    assert_eq!(chat(&proxy.org_key).send().await.status, 200, "another key has its own bucket");
    // The promise is true: a second before it is too early, and then one request passes, not two.
    proxy.clock.advance(Duration::from_secs(17));
    assert_eq!(chat(&proxy.user_key).send().await.head.field("retry-after"), Some("1"));
    proxy.clock.advance(Duration::from_secs(1));
    assert_eq!(chat(&proxy.user_key).send().await.status, 200);
    assert_eq!(chat(&proxy.user_key).send().await.status, 429);
    assert_eq!(origin.received().len(), 52, "a refused request does not reach the service");
    assert_eq!(proxy.get("/free").send().await.head.field("ratelimit"), None);
}

#[tokio::test]
async fn asking_for_what_one_may_not_have_costs_a_token() {
    let origin = Origin::json("{}").await;
    let proxy = Proxy::builder(&origin).config(DOCUMENT).manual_clock().start().await;
    for n in 0..50 {
        let (path, status) = [("/ai/admin", 403), ("/nowhere", 404)][n % 2];
        assert_eq!(proxy.get(path).key(&proxy.user_key).send().await.status, status);
    }
    for path in ["/ai/chat", "/ai/admin", "/nowhere"] {
        assert_eq!(proxy.get(path).key(&proxy.user_key).send().await.status, 429, "{path}");
    }
    assert!(origin.received().is_empty());
}

#[tokio::test]
async fn every_subject_counts_its_own() {
    let origin = Origin::json("{}").await;
    for (by, same, other) in [
        ("key", [("org_1", "u_1", 0), ("org_1", "u_1", 0)], ("org_1", "u_1", 1)),
        ("organization", [("org_1", "u_1", 0), ("org_1", "u_2", 0)], ("org_2", "u_1", 0)),
        ("user", [("org_1", "u_1", 0), ("org_2", "u_1", 0)], ("org_1", "u_2", 0)),
    ] {
        let config = format!(
            "
limits: {{one: {{requests: 1, per: 1h, by: {by}}}}}
defaults: {{upstream: ai, limits: [one]}}
routes: [{{id: all, path: /**}}]
"
        );
        let proxy = Proxy::builder(&origin).config(&config).manual_clock().start().await;
        let mut keys = std::collections::HashMap::new();
        let mut key = |owner: (&'static str, &'static str, i32)| {
            keys.entry(owner).or_insert_with(|| proxy.create_key(Some(owner.0), Some(owner.1), &[]).1).clone()
        };
        let (first, second, third) = (key(same[0]), key(same[1]), key(other));
        let status = async |key: &str| proxy.get("/").key(key).send().await.status;
        assert_eq!(status(&first).await, 200, "{by}");
        assert_eq!(status(&second).await, 429, "{by}: the same bucket");
        assert_eq!(status(&third).await, 200, "{by}: another bucket");
    }
    for by in ["route", "address"] {
        let config = format!(
            "
limits: {{one: {{requests: 1, per: 1h, by: {by}}}}}
defaults: {{upstream: ai, limits: [one]}}
routes: [{{id: a, path: /a}}, {{id: b, path: /b, public: true}}]
"
        );
        let proxy = Proxy::builder(&origin).config(&config).manual_clock().start().await;
        assert_eq!(proxy.get("/a").key(&proxy.user_key).send().await.status, 200);
        assert_eq!(proxy.get("/a").key(&proxy.org_key).send().await.status, 429, "{by}: whoever asks");
        let other_route = if by == "route" { 200 } else { 429 };
        assert_eq!(proxy.get("/b").send().await.status, other_route, "{by}");
    }
}

#[tokio::test]
async fn guessing_keys_runs_dry_and_locks_nobody_out() {
    let origin = Origin::json("{}").await;
    let proxy = Proxy::builder(&origin)
        .config("\ndefaults: {upstream: ai}\nroutes: [{id: all, path: /**}]\n")
        .base("keys: {store:", "keys: {auth_failures: {requests: 3, per: 1h}, store:")
        .manual_clock()
        .start()
        .await;
    let status = async |key: &str| proxy.get("/").key(key).send().await.status;
    assert_eq!(status(&proxy.user_key).await, 200);
    // Well-formed keys of another store: only those cost a lookup.
    let other = Proxy::before(&origin).await;
    for n in 0..3 {
        assert_eq!(status(&other.create_key(Some("o"), None, &[]).1).await, 401, "{n}");
    }
    let dry = proxy.get("/").key(&other.org_key).send().await;
    assert_eq!((dry.status, dry.head.field("retry-after")), (429, Some("1200")));
    assert_eq!(status(&proxy.user_key).await, 200, "a key in the cache pays nothing");
    assert_eq!(status("kw_live_a-typo-costs-nothing").await, 401);
    proxy.clock.advance(Duration::from_secs(1200));
    assert_eq!(status(&proxy.org_key).await, 200, "a valid key gets its token back");
    assert_eq!(status(&proxy.create_key(Some("o"), None, &[]).1).await, 200);
}
