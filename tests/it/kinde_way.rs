//! The way to Kinde: whether it can be used at all, and what lies on it.

use std::fs;
use std::time::Duration;

use serde_json::json;

use crate::harness::{BadKey, CLIENT_SECRET, Kinde, Origin, Proxy, Reply, Tunnels, forbidden, within};
use crate::kinde::{Case, authority, case};

const UNAVAILABLE: &str = "503 VERIFIER_UNAVAILABLE";
const INVALID: &str = "401 INVALID_KEY";
const PASSED: &str = "200 -";

impl Case {
    async fn becomes_ready(&self) {
        within("readiness", async { while self.readiness().await != (200, None) {} }).await;
    }
}

#[tokio::test]
async fn a_proxy_is_ready_once_kinde_has_called_a_key_of_nobody_invalid() {
    for shape in [BadKey::NotValid, BadKey::Status(400), BadKey::Status(401)] {
        let kinde = Kinde::start().await;
        kinde.bad_keys_get(shape);
        let case = case(kinde, "", "").await;
        assert_eq!(case.readiness().await, (200, None), "{shape:?}");
        assert_eq!((case.kinde.canaries(), case.kinde.tokens()), (1, 1), "{shape:?}");
        // Once is enough, and it is no verification of anybody's key.
        case.proxy.clock.advance(Duration::from_secs(3600));
        case.kinde.know("k_live_1", |_| {});
        assert_eq!(case.outcome("k_live_1").await, PASSED);
        assert_eq!((case.kinde.canaries(), case.kinde.verified()), (1, 1), "{shape:?}");
    }
}

#[tokio::test]
async fn a_proxy_that_kinde_refuses_is_not_ready_and_finds_out_by_itself_when_that_is_over() {
    type Refuse = fn(&Kinde);
    let refusals: [(Refuse, &str); 3] = [
        (|kinde| kinde.verify_answers(forbidden()), "`read:api_keys`"),
        (
            |kinde| kinde.token_answers(Reply::new(401, "application/json", r#"{"error":"invalid_client"}"#)),
            "invalid_client",
        ),
        (
            |kinde| kinde.token_answers(Reply::json(json!({"access_token": "other", "expires_in": 3600}).to_string())),
            "audience",
        ),
    ];
    for (refuse, reason) in refusals {
        let kinde = Kinde::start().await;
        kinde.know("k_live_1", |_| {});
        refuse(&kinde);
        let case = case(kinde, "", "").await;
        let (status, detail) = case.readiness().await;
        let detail = detail.expect("a reason");
        assert!(status == 503 && detail.contains(reason), "{reason}: {detail}");
        assert_eq!(case.outcome("k_live_1").await, UNAVAILABLE, "it serves, whatever readiness says");
        case.kinde.verify_answers(None);
        case.kinde.token_answers(None);
        case.kinde.accept_token("other");
        // Nobody asks for anything.
        for _ in 0..12 {
            case.proxy.clock.advance(Duration::from_secs(10));
        }
        case.becomes_ready().await;
        assert_eq!(case.outcome("k_live_1").await, PASSED);
    }
}

#[tokio::test]
async fn a_scope_that_is_granted_later_comes_with_another_token() {
    let kinde = Kinde::start().await;
    kinde.know("k_live_1", |_| {});
    kinde.grants(false);
    let case = case(kinde, "", "").await;
    assert_eq!(case.readiness().await.0, 503);
    case.kinde.grants(true);
    assert_eq!(case.outcome("k_live_1").await, UNAVAILABLE, "the token does not know of it");
    assert_eq!(case.kinde.tokens(), 1);
    case.proxy.clock.advance(Duration::from_secs(90));
    case.becomes_ready().await;
    assert_eq!(case.outcome("k_live_1").await, PASSED);
    assert_eq!(case.kinde.tokens(), 2);
}

#[tokio::test]
async fn a_refusal_that_begins_later_is_found_out_to_be_over_too() {
    let case = case(Kinde::start().await, "", "").await;
    case.kinde.know("k_live_1", |_| {});
    case.kinde.verify_answers(forbidden());
    assert_eq!(case.outcome("k_live_1").await, UNAVAILABLE);
    assert_eq!(case.readiness().await.0, 503);
    let canaries = case.kinde.canaries();
    for _ in 0..3 {
        case.proxy.clock.advance(Duration::from_secs(11));
    }
    case.kinde.canaries_at_least(canaries + 1).await;
    assert_eq!(case.readiness().await.0, 503);
    case.kinde.verify_answers(None);
    case.proxy.clock.advance(Duration::from_secs(120));
    case.becomes_ready().await;
}

#[tokio::test]
async fn kindes_absence_at_the_start_keeps_traffic_away_for_a_while_only() {
    let kinde = Kinde::start().await;
    kinde.verify_answers(Reply::new(503, "text/plain", "away"));
    let case = case(kinde, "", "").await;
    let (status, detail) = case.readiness().await;
    assert!(status == 503 && detail.as_ref().is_some_and(|why| why.contains("status 503")), "{status} {detail:?}");
    let canaries = case.kinde.canaries();
    case.proxy.clock.advance(Duration::from_secs(35));
    case.kinde.canaries_at_least(canaries + 1).await;
    within("the end of patience", async { while case.readiness().await.0 != 200 {} }).await;
    assert!(case.verifier_detail().await.expect("a reason").contains("status 503"), "it is still told");
    case.kinde.verify_answers(None);
    case.proxy.clock.advance(Duration::from_secs(70));
    case.becomes_ready().await;
}

#[tokio::test]
async fn a_mock_that_calls_every_key_valid_is_believed_nothing() {
    let kinde = Kinde::start().await;
    let valid = json!({"is_valid": true, "status": "active", "key_id": "api_key_1", "org_code": "org_123"});
    kinde.verify_answers(Reply::json(valid.to_string()));
    let case = case(kinde, "", "").await;
    assert_eq!(case.outcome("k_live_any").await, UNAVAILABLE);
    let (status, detail) = case.readiness().await;
    assert!(status == 503 && detail.expect("a reason").contains("a key valid that nobody has made"));
    case.kinde.verify_answers(None);
    case.proxy.clock.advance(Duration::from_secs(70));
    case.becomes_ready().await;
    assert_eq!(case.outcome("k_live_any").await, INVALID);
}

#[tokio::test]
async fn a_forward_proxy_sees_nothing_but_whom_we_speak_to() {
    let files = tempfile::tempdir().expect("a directory");
    let (ca, acceptor) = authority("ours");
    fs::write(files.path().join("ca.pem"), ca).expect("written");
    let kinde = Kinde::with_tls(acceptor).await;
    kinde.know("k_live_1", |_| {});
    let tunnels = Tunnels::to(kinde.address).await;
    // A name that only the proxy can resolve.
    let keys = format!(
        "url: 'https://kinde.test:8443', ca: {{file: '{}'}}, proxy: 'http://{}'",
        files.path().join("ca.pem").display(),
        tunnels.address
    );
    let case = case(kinde, &keys, "").await;
    assert_eq!(case.outcome("k_live_1").await, PASSED);
    assert_eq!(case.outcome("k_live_bad").await, INVALID);
    let heads = tunnels.heads();
    assert!(!heads.is_empty());
    for head in &heads {
        assert_eq!(head.first_line, "CONNECT kinde.test:8443 HTTP/1.1");
        assert_eq!(head.field("host"), Some("kinde.test:8443"));
        assert_eq!(head.field("proxy-authorization"), None);
    }
    assert!(tunnels.carried() > 1000, "everything went through it");
    for secret in ["k_live_1", "api_key", "secret-token", "Bearer", "client_credentials", "HTTP/1.1"] {
        assert!(!tunnels.has_seen(secret), "{secret}");
    }
    assert_eq!(case.kinde.heads()[1].field("host"), Some("kinde.test:8443"));
}

#[tokio::test]
async fn a_forward_proxy_is_shown_who_asks_and_its_refusal_is_ours_to_mend() {
    let kinde = Kinde::start().await;
    kinde.know("k_live_1", |_| {});
    let tunnels = Tunnels::to(kinde.address).await;
    tunnels.refuse_with(Reply::raw("HTTP/1.1 407 X\r\nProxy-Authenticate: Basic\r\ncontent-length: 0\r\n\r\n"));
    let files = tempfile::tempdir().expect("a directory");
    fs::write(files.path().join("password"), CLIENT_SECRET).expect("written");
    let keys = format!(
        "url: 'http://{}', proxy: {{url: 'http://{}', username: keyward, password: {{file: '{}/password'}}}}",
        kinde.address,
        tunnels.address,
        files.path().display()
    );
    let case = case(kinde, &keys, "").await;
    let (status, detail) = case.readiness().await;
    let detail = detail.expect("a reason");
    assert!(status == 503 && detail.contains("does not accept our credentials (status 407)"), "{detail}");
    assert!(!detail.contains(CLIENT_SECRET), "{detail}");
    assert_eq!(case.outcome("k_live_1").await, UNAVAILABLE);
    tunnels.refuse_with(None);
    case.proxy.clock.advance(Duration::from_secs(70));
    case.becomes_ready().await;
    assert_eq!(case.outcome("k_live_1").await, PASSED);
    assert!(tunnels.has_seen("k_live_1"), "to a Kinde without TLS, it carries what it is given");
    for head in tunnels.heads() {
        let shown = head.field("proxy-authorization").expect("credentials");
        assert_eq!(shown, "Basic a2V5d2FyZDpraW5kZS1jbGllbnQtc2VjcmV0LSY9JSs=");
    }
}

#[tokio::test]
async fn a_forward_proxy_that_fails_calls_no_key_invalid() {
    let kinde = Kinde::start().await;
    kinde.know("k_live_1", |_| {});
    for (reply, reason) in [
        (Reply::raw("HTTP/1.1 502 X\r\ncontent-length: 0\r\n\r\n"), "cannot reach"),
        (Reply::raw("HTTP/1.1 403 X\r\ncontent-length: 0\r\n\r\n"), "does not connect us"),
        (Reply::raw("HTTP/1.1 407 X\r\ncontent-length: 0\r\n\r\n"), "wants credentials"),
        (Reply::raw("SSH-2.0-OpenSSH\r\n\r\n"), "does not speak HTTP"),
        (Reply::raw(format!("HTTP/1.1 200 X\r\nx: {}", "y".repeat(9000))), "without an end"),
        (Reply::raw(""), "cannot connect to the proxy"),
    ] {
        let tunnels = Tunnels::to(kinde.address).await;
        tunnels.refuse_with(reply);
        let case = case(kinde.clone(), &format!("proxy: 'http://{}'", tunnels.address), "").await;
        let detail = case.verifier_detail().await.expect("a reason");
        assert!(detail.contains(reason), "{reason}: {detail}");
        assert_eq!(case.outcome("k_live_1").await, UNAVAILABLE, "{reason}");
    }
    let nobody = Origin::nowhere();
    let case = case(kinde, &format!("proxy: 'http://{}'", nobody.address), "").await;
    assert!(case.verifier_detail().await.expect("a reason").contains("cannot connect to the proxy"));
}

#[tokio::test]
async fn a_token_is_for_the_audience_that_is_said() {
    let case = case(Kinde::start().await, "audience: 'https://acme.kinde.com/api/v1'", "").await;
    assert_eq!(case.readiness().await, (200, None));
    let forms = case.kinde.forms();
    assert!(forms[0].contains("&audience=https%3A%2F%2Facme.kinde.com%2Fapi%2Fv1&"), "{forms:?}");
}

#[tokio::test]
async fn keys_of_every_documented_shape_are_asked_about_and_other_texts_are_not() {
    let case = case(Kinde::start().await, "", "").await;
    let longest = format!("k_live_{}", "a".repeat(505));
    for (index, key) in [
        "k_live_0123456789abcdef",
        "k_live_0123456789abcdef0123456789abcdef",
        "k_live_12345678abcdefghijkl",
        "kinde_abcdefgh",
        "eight-ch",
        &longest,
    ]
    .into_iter()
    .enumerate()
    {
        case.kinde.know(key, |answer| answer["key_id"] = format!("api_key_{index}").into());
        assert_eq!(case.outcome(key).await, PASSED, "{key}");
    }
    let verified = case.kinde.verified();
    for key in ["seven-c", "two words-12345678", &format!("{longest}a")] {
        assert_eq!(case.outcome(key).await, "401 MISSING_KEY", "{key}");
    }
    assert_eq!(case.kinde.verified(), verified);
}

#[tokio::test]
async fn a_store_is_no_kinde_and_is_ready_at_once() {
    let origin = Origin::json("{}").await;
    let proxy = Proxy::before(&origin).await;
    assert_eq!(proxy.health("/readyz").await.status, 200);
}
