//! What Kinde is shown can be replaced while the proxy runs.

use std::fs;
use std::time::Duration;

use crate::harness::{Kinde, Reply};
use crate::kinde::case;

const ROUTES: &str = "
defaults: {upstream: ai}
routes: [{id: any, path: /any, methods: [GET]}]
";

#[tokio::test]
async fn another_client_secret_is_in_use_after_a_reload() {
    let case = case(Kinde::start().await, "", "").await;
    for key in ["k_live_1", "k_live_2", "k_live_3"] {
        case.kinde.know(key, |_| {});
    }
    assert_eq!(case.outcome("k_live_1").await, "200 -");
    assert!(!case.kinde.forms()[0].contains("client_secret=another&"));

    fs::write(case.files.path().join("client-secret"), "another\n").expect("written");
    case.proxy.reload(ROUTES);
    assert_eq!(case.outcome("k_live_2").await, "200 -");
    assert_eq!(case.kinde.tokens(), 1, "a token that is good is paid for, and used");

    case.proxy.clock.advance(Duration::from_secs(61));
    case.kinde.reject_tokens();
    assert_eq!(case.outcome("k_live_3").await, "200 -");
    assert!(case.kinde.forms()[1].contains("client_secret=another&"), "{:?}", case.kinde.forms());
}

#[tokio::test]
async fn a_secret_that_was_wrong_is_mended_by_a_reload() {
    let kinde = Kinde::start().await;
    kinde.token_answers(Reply::new(401, "application/json", r#"{"error":"invalid_client"}"#));
    let case = case(kinde, "", "").await;
    case.kinde.know("k_live_1", |_| {});
    assert_eq!(case.outcome("k_live_1").await, "503 VERIFIER_UNAVAILABLE");
    case.kinde.token_answers(None);
    assert_eq!(case.outcome("k_live_1").await, "503 VERIFIER_UNAVAILABLE", "nobody asks again so soon");
    fs::write(case.files.path().join("client-secret"), "another\n").expect("written");
    case.proxy.reload(ROUTES);
    assert_eq!(case.outcome("k_live_1").await, "200 -", "with another secret there is no reason to wait");
}

#[tokio::test]
async fn another_token_is_in_use_after_a_reload() {
    let files = tempfile::tempdir().expect("a directory");
    let token = files.path().join("token");
    fs::write(&token, "first-token-of-the-service\n").expect("written");
    let kinde = Kinde::start().await;
    kinde.accept_token("first-token-of-the-service");
    let case = case(kinde, &format!("auth: {{token: {{file: '{}'}}}}", token.display()), "").await;
    for key in ["k_live_1", "k_live_2"] {
        case.kinde.know(key, |_| {});
    }
    assert_eq!(case.outcome("k_live_1").await, "200 -");
    fs::write(&token, "second-token-of-the-service\n").expect("written");
    case.kinde.accept_token("second-token-of-the-service");
    case.proxy.reload(ROUTES);
    assert_eq!(case.outcome("k_live_2").await, "200 -");
    let heads = case.kinde.heads();
    let shown = heads.last().and_then(|head| head.field("authorization"));
    assert_eq!(shown, Some("Bearer second-token-of-the-service"));
}
