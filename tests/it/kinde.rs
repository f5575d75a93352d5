//! Keys that Kinde verifies: every shape of its answers, through the real proxy over real sockets.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use keyward::time::Clock;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::harness::{
    Answer, BadKey, CLIENT_SECRET, Kinde, Origin, Process, Proxy, Reply, Request, jwt, keyward, keyward_in,
    ready_address, within,
};

const ROUTES: &str = "
defaults: {upstream: ai}
routes:
  - {id: chat, path: /ai/chat, methods: [POST], scopes: [write:ai_chat]}
  - {id: any, path: /any, methods: [GET]}
";

/// A proxy that asks `kinde`.
pub struct Case {
    pub kinde: Kinde,
    pub proxy: Proxy,
    pub origin: Origin,
    /// With `client-secret`.
    pub files: TempDir,
}

/// `kinde_keys` and `more_keys` are further lines of `keys.kinde` and `keys`.
pub async fn case(kinde: Kinde, kinde_keys: &str, more_keys: &str) -> Case {
    let files = tempfile::tempdir().expect("a directory");
    let m2m = format!("client_id: my client, client_secret: {{file: '{}'}}", secret_file(&files));
    let credentials = if kinde_keys.contains("auth:") { String::new() } else { m2m.replace("my client", "my-client") };
    let url = if kinde_keys.contains("url:") { String::new() } else { format!("url: 'http://{}',", kinde.address) };
    let keys = format!("keys: {{verifier: kinde, kinde: {{{url} {credentials}, {kinde_keys}}}, {more_keys}}}");
    let keys = keys.replace(" , ", " ").replace(", }", "}");
    let origin = Origin::json("{}").await;
    let builder = Proxy::builder(&origin).base("keys: {store: {url: 'sqlite://keys.db'}}", &keys);
    let proxy = builder.config(ROUTES).manual_clock().start().await;
    let case = Case { kinde, proxy, origin, files };
    // What the proxy asks of its own at its start is over.
    let settled = async { while case.verifier_detail().await.is_some_and(|why| why.contains("not answered yet")) {} };
    within("the canary", settled).await;
    case
}

fn secret_file(files: &TempDir) -> String {
    let path = files.path().join("client-secret");
    fs::write(&path, CLIENT_SECRET).expect("written");
    path.display().to_string()
}

impl Case {
    pub async fn get(&self, key: &str) -> Answer {
        self.proxy.get("/any").key(key).send().await
    }

    /// Status and code; `200 -` for what passed.
    pub async fn outcome(&self, key: &str) -> String {
        let answer = self.get(key).await;
        if answer.status == 200 { "200 -".to_owned() } else { format!("{} {}", answer.status, answer.code()) }
    }

    pub async fn verifier_detail(&self) -> Option<String> {
        self.readiness().await.1
    }

    /// The status of `/readyz`, and what it says about the verifier.
    pub async fn readiness(&self) -> (u16, Option<String>) {
        let ready = self.proxy.health("/readyz").await;
        let detail = ready.json()["detail"]["verifier"].as_str().map(str::to_owned);
        assert!(ready.status == 200 || detail.is_some(), "{}", ready.text());
        (ready.status, detail)
    }
}

const UNAVAILABLE: &str = "503 VERIFIER_UNAVAILABLE";
const INVALID: &str = "401 INVALID_KEY";
const PASSED: &str = "200 -";

#[tokio::test]
async fn a_key_is_verified_once_with_a_token_that_is_fetched_once() {
    let case = case(Kinde::start().await, "", "").await;
    case.kinde.know("k_live_1", |_| {});
    case.kinde.know("k_live_\"quoted\\2", |answer| answer["key_id"] = "api_key_2".into());
    for key in ["k_live_1", "k_live_\"quoted\\2", "k_live_1"] {
        let answer = case.proxy.post("/ai/chat").key(key).json("{}").send().await;
        assert_eq!(answer.status, 200, "{key}: {}", answer.text());
    }
    let first = &case.origin.received()[0].head;
    assert_eq!((first.field("x-org-code"), first.field("x-user-id")), (Some("org_123"), None));
    assert_eq!((first.field("x-key-id"), first.field("authorization")), (Some("api_key_1"), None));
    assert_eq!((case.kinde.tokens(), case.kinde.verified(), case.kinde.calls()), (1, 2, 3));
    assert_eq!(
        case.kinde.forms(),
        [format!(
            "grant_type=client_credentials&client_id=my-client&client_secret=kinde-client-secret-%26%3D%25%2B\
             &audience=http%3A%2F%2F127.0.0.1%3A{}%2Fapi&scope=read%3Aapi_keys",
            case.kinde.address.port()
        )]
    );
    let heads = case.kinde.heads();
    assert_eq!(heads[0].field("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(heads[1].field("host"), Some(case.kinde.address.to_string().as_str()));
    assert_eq!(heads[1].field("authorization"), Some("Bearer secret-token-0"));
    assert_eq!(case.proxy.metric(r#"keyward_verifier_tokens_total{outcome="issued"}"#).await, 1.0);
    assert_eq!(case.proxy.metric(r#"keyward_verifications_total{outcome="valid"}"#).await, 2.0);
}

#[tokio::test]
async fn owners_and_scopes_in_every_combination() {
    let case = case(Kinde::start().await, "", "").await;
    type Change = fn(&mut Value);
    let cases: [(&str, Change, &str); 13] = [
        ("organization", |_| {}, "200 org_123 -"),
        ("user", |a| (a["org_code"], a["user_id"]) = (Value::Null, "kp_1".into()), "200 - kp_1"),
        ("both", |a| a["user_id"] = "kp_1".into(), "200 org_123 kp_1"),
        ("neither", |a| a["org_code"] = Value::Null, "403 TRUSTED_CONTEXT_REQUIRED"),
        ("neither-and-missing", |a| remove(a, &["org_code", "user_id"]), "403 TRUSTED_CONTEXT_REQUIRED"),
        ("empty", |a| a["org_code"] = "".into(), "403 TRUSTED_CONTEXT_REQUIRED"),
        ("no-scopes", |a| remove(a, &["scopes"]), "403 INSUFFICIENT_SCOPE"),
        ("null-scopes", |a| a["scopes"] = Value::Null, "403 INSUFFICIENT_SCOPE"),
        ("other-scopes", |a| a["scopes"] = json!(["read:ai_chat"]), "403 INSUFFICIENT_SCOPE"),
        (
            "little",
            |a| remove(a, &["code", "message", "user_id", "last_verified_on", "verification_count"]),
            "200 org_123 -",
        ),
        ("nulls", |a| (a["last_verified_on"], a["verification_count"]) = (Value::Null, Value::Null), "200 org_123 -"),
        ("unknown", |a| a["later"] = json!({"is_valid": false, "deep": [1]}), "200 org_123 -"),
        ("odd-dates", |a| (a["expires_on"], a["last_verified_on"]) = (Value::Null, "+11?".into()), "200 org_123 -"),
    ];
    for (name, change, expected) in cases {
        let key = format!("k_live_{name}");
        case.kinde.know(&key, change);
        let before = case.origin.received().len();
        let answer = case.proxy.post("/ai/chat").key(&key).json("{}").send().await;
        let told = match case.origin.received().get(before) {
            None => format!("{} {}", answer.status, answer.code()),
            Some(received) => {
                let field = |name| received.head.field(name).unwrap_or("-").to_owned();
                format!("{} {} {}", answer.status, field("x-org-code"), field("x-user-id"))
            }
        };
        assert_eq!(told, expected, "{name}");
    }
    assert_eq!(case.kinde.tokens(), 1);
}

fn remove(answer: &mut Value, fields: &[&str]) {
    for field in fields {
        answer.as_object_mut().expect("an object").remove(*field);
    }
}

#[tokio::test]
async fn a_bad_key_is_invalid_in_every_shape_and_costs_no_token() {
    for shape in [BadKey::NotValid, BadKey::Status(400), BadKey::Status(401)] {
        let case = case(Kinde::start().await, "", "").await;
        case.kinde.bad_keys_get(shape);
        case.kinde.know("k_live_good", |_| {});
        // Nothing is known about the token yet.
        for n in 0..5 {
            assert_eq!(case.outcome(&format!("k_live_bad_{n}")).await, INVALID, "{shape:?}");
        }
        assert_eq!(case.outcome("k_live_good").await, PASSED, "{shape:?}");
        case.proxy.clock.advance(Duration::from_secs(59));
        assert_eq!(case.outcome("k_live_bad_6").await, INVALID, "{shape:?}");
        assert_eq!(case.kinde.tokens(), 1, "{shape:?}");
        // A 401 may mean the token, which is tried each time by a call that costs nothing.
        let tried = if shape == BadKey::Status(401) { 6 } else { 0 };
        assert_eq!((case.kinde.verified(), case.kinde.listed()), (7, tried), "{shape:?}");
        assert_eq!(case.verifier_detail().await, None);
    }
    let case = case(Kinde::start().await, "", "").await;
    for status in ["inactive", "revoked", "anything"] {
        let key = format!("k_live_{status}");
        case.kinde.know(&key, |answer| answer["status"] = status.into());
        assert_eq!(case.outcome(&key).await, INVALID, "{status}");
    }
    case.kinde.know("k_live_not_valid", |answer| answer["is_valid"] = false.into());
    assert_eq!(case.outcome("k_live_not_valid").await, INVALID);
    case.kinde.know("k_live_expired", |answer| answer["expires_on"] = "2020-01-01T00:00:00+11".into());
    assert_eq!(case.outcome("k_live_expired").await, INVALID);
}

#[tokio::test]
async fn a_rejected_token_is_replaced_once_and_blames_no_key() {
    let case = case(Kinde::start().await, "", "").await;
    for key in ["k_live_1", "k_live_2", "k_live_3", "k_live_4"] {
        case.kinde.know(key, |_| {});
    }
    assert_eq!(case.outcome("k_live_1").await, PASSED);
    case.proxy.clock.advance(Duration::from_secs(61));
    case.kinde.reject_tokens();
    assert_eq!(case.outcome("k_live_2").await, PASSED);
    assert_eq!((case.kinde.tokens(), case.kinde.verified(), case.kinde.listed()), (2, 3, 1));

    // Kinde issues tokens that it does not accept, as for another audience.
    case.proxy.clock.advance(Duration::from_secs(61));
    case.kinde.token_answers(Reply::json(r#"{"access_token":"secret-token-x","expires_in":3600}"#));
    case.kinde.reject_tokens();
    assert_eq!(case.outcome("k_live_3").await, UNAVAILABLE);
    let (status, detail) = case.readiness().await;
    let detail = detail.expect("a reason");
    assert!(status == 503 && detail.contains("does not accept our token; is the audience right?"), "{detail}");
    for _ in 0..5 {
        assert_eq!(case.outcome("k_live_3").await, UNAVAILABLE);
    }
    assert_eq!(case.kinde.tokens(), 3, "the next token would be rejected too, and tokens are metered");
    assert_eq!(case.outcome("k_live_2").await, UNAVAILABLE, "its time is over, and nothing else was asked for");

    case.kinde.accept_token("secret-token-x");
    assert_eq!(case.outcome("k_live_4").await, PASSED);
    assert_eq!(case.readiness().await, (200, None));
}

#[tokio::test]
async fn a_token_that_is_taken_back_after_it_was_accepted_blames_no_key() {
    for shape in [BadKey::NotValid, BadKey::Status(401)] {
        let case = case(Kinde::start().await, "", "").await;
        case.kinde.bad_keys_get(shape);
        case.kinde.know("k_live_1", |_| {});
        case.kinde.know("k_live_2", |_| {});
        // Old enough to be replaced, and accepted in this moment.
        case.proxy.clock.advance(Duration::from_secs(600));
        assert_eq!(case.outcome("k_live_1").await, PASSED);
        case.kinde.reject_tokens();
        assert_eq!(case.outcome("k_live_2").await, PASSED, "{shape:?}: the token was replaced, the key is good");
        assert_eq!(case.kinde.tokens(), 2);
        // Now it is too young to be replaced: nobody is told anything about a key.
        case.kinde.reject_tokens();
        case.kinde.know("k_live_3", |_| {});
        assert_eq!(case.outcome("k_live_3").await, UNAVAILABLE, "{shape:?}");
        assert_eq!(case.outcome("k_live_bad").await, UNAVAILABLE, "{shape:?}");
        case.kinde.accept_token("secret-token-1");
        assert_eq!(case.outcome("k_live_3").await, PASSED, "{shape:?}: nothing of it was kept");
        assert_eq!(case.outcome("k_live_bad").await, INVALID, "{shape:?}");
    }
}

#[tokio::test]
async fn a_missing_scope_is_our_fault() {
    let case = case(Kinde::start().await, "", "").await;
    case.kinde.know("k_live_1", |_| {});
    let forbidden = r#"{"errors":[{"code":"FORBIDDEN","message":"Scope missing"}]}"#;
    case.kinde.verify_answers(Reply::new(403, "application/json", forbidden));
    assert_eq!(case.outcome("k_live_1").await, UNAVAILABLE);
    let detail = case.verifier_detail().await.expect("a reason");
    assert!(detail.contains("status 403") && detail.contains("`read:api_keys`"), "{detail}");
    case.kinde.verify_answers(Reply::new(404, "text/html", "no such page"));
    assert_eq!(case.outcome("k_live_1").await, UNAVAILABLE);
    let detail = case.verifier_detail().await.expect("a reason");
    assert!(detail.contains("status 404"), "{detail}");
    case.kinde.verify_answers(None);
    assert_eq!(case.outcome("k_live_1").await, PASSED);
    assert_eq!(case.verifier_detail().await, None);
}

#[tokio::test]
async fn a_limit_of_kinde_is_kept_by_asking_nothing() {
    let case = case(Kinde::start().await, "", "").await;
    case.kinde.know("k_live_1", |_| {});
    let limited = |header: &str| Reply::raw(format!("HTTP/1.1 429 X\r\n{header}content-length: 2\r\n\r\n{{}}"));
    case.kinde.verify_answers(limited("RateLimit-Reset: 17\r\nRetry-After: 99\r\n"));
    let wait = async |key: &str| {
        let answer = case.get(key).await;
        assert_eq!((answer.status, answer.code().as_str()), (503, "VERIFIER_UNAVAILABLE"));
        answer.head.field("retry-after").expect("a wait").parse::<u64>().expect("seconds")
    };
    // A little is added, so that many proxies do not come back together.
    assert!((17..=19).contains(&wait("k_live_1").await));
    case.kinde.verify_answers(None);
    case.proxy.clock.advance(Duration::from_secs(16));
    let calls = case.kinde.calls();
    assert!((1..=3).contains(&wait("k_live_1").await) && (1..=3).contains(&wait("k_live_other").await));
    assert_eq!(case.kinde.calls(), calls, "nothing is asked meanwhile");
    case.proxy.clock.advance(Duration::from_secs(3));
    assert_eq!(case.outcome("k_live_1").await, PASSED);
    // However the wait is told, and if it is not.
    for (header, expected) in [
        ("Retry-After: 9\r\n", 9..=10),
        ("", 5..=6),
        ("RateLimit-Reset: soon\r\n", 5..=6),
        // Nobody is left without keys for eleven days by one header: it is asked again after a minute.
        ("RateLimit-Reset: 999999\r\n", 60..=66),
    ] {
        case.kinde.verify_answers(limited(header));
        let told = wait("k_live_2").await;
        assert!(expected.contains(&told), "{header}: {told}");
        case.proxy.clock.advance(Duration::from_secs(told));
    }
}

#[tokio::test]
async fn what_is_no_answer_refuses_nobody_for_good() {
    let case = case(Kinde::start().await, "timeout: 500ms", "").await;
    let large = format!(r#"{{"is_valid":false,"more":"{}"}}"#, "x".repeat(64 << 10));
    let json = |body: &str| Reply::json(body);
    let valid = |more: Value| {
        let mut answer = json!({"is_valid": true, "status": "active", "key_id": "k", "org_code": "o"});
        answer.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        Reply::json(answer.to_string())
    };
    let page = |status: u16| Reply::new(status, "text/html", "<html>is_valid</html>");
    let redirect = "HTTP/1.1 302 X\r\nlocation: https://evil.example/\r\ncontent-length: 0\r\n\r\n";
    for (name, reply) in [
        ("500", Reply::new(500, "application/json", r#"{"is_valid":false}"#)),
        ("502", page(502)),
        ("503", page(503)),
        ("a page with 200", page(200)),
        ("a page with 400", page(400)),
        ("a page with 401", page(401)),
        ("a redirect", Reply::raw(redirect)),
        ("204", Reply::raw("HTTP/1.1 204 X\r\n\r\n")),
        ("nothing", json("")),
        ("nothing said", json("{}")),
        ("null", json("null")),
        ("a list", json("[]")),
        ("is_valid null", json(r#"{"is_valid":null,"status":"active","key_id":"k"}"#)),
        ("is_valid a word", json(r#"{"is_valid":"false"}"#)),
        ("is_valid twice", json(r#"{"is_valid":false,"is_valid":true,"status":"active","key_id":"k","org_code":"o"}"#)),
        ("no status", json(r#"{"is_valid":true,"key_id":"k","org_code":"o"}"#)),
        ("no id", json(r#"{"is_valid":true,"status":"active","org_code":"o"}"#)),
        ("scopes a word", json(r#"{"is_valid":true,"status":"active","key_id":"k","org_code":"o","scopes":"a"}"#)),
        (
            "two scopes in one",
            json(r#"{"is_valid":true,"status":"active","key_id":"k","org_code":"o","scopes":["a b"]}"#),
        ),
        ("org no header", json(r#"{"is_valid":true,"status":"active","key_id":"k","org_code":"o\r\nX-User-Id: u"}"#)),
        ("org of two words", valid(json!({"org_code": "o p"}))),
        ("org too long", valid(json!({"org_code": "o".repeat(257)}))),
        ("user too long", valid(json!({"user_id": "u".repeat(257)}))),
        ("id too long", valid(json!({"key_id": "k".repeat(257)}))),
        ("scope too long", valid(json!({"scopes": ["s".repeat(257)]}))),
        ("scopes too many", valid(json!({"scopes": vec!["scope:with:a:name"; 500]}))),
        ("expiry a word", valid(json!({"expires_on": "someday"}))),
        ("expiry a number", valid(json!({"expires_at": 1_900_000_000}))),
        ("user no ASCII", json(r#"{"is_valid":true,"status":"active","key_id":"k","user_id":"é"}"#)),
        ("id with spaces", json(r#"{"is_valid":true,"status":"active","key_id":" k","org_code":"o"}"#)),
        ("too large", json(&large)),
        ("cut short", Reply::raw("HTTP/1.1 200 X\r\ncontent-length: 999\r\n\r\n{\"is_valid\":false}")),
        ("no HTTP", Reply::raw("is_valid: false\r\n\r\n")),
        ("closed", Reply::raw("")),
    ] {
        case.kinde.verify_answers(reply);
        let key = format!("k_live_{}", name.replace(' ', "_"));
        let answer = case.get(&key).await;
        assert_eq!((answer.status, answer.code().as_str()), (503, "VERIFIER_UNAVAILABLE"), "{name}");
        assert_eq!(answer.head.field("retry-after"), Some("1"), "{name}");
        case.kinde.verify_answers(None);
        case.kinde.know(&key, |_| {});
        assert_eq!(case.outcome(&key).await, PASSED, "{name}: nothing of it was kept");
    }
    assert!(case.verifier_detail().await.is_none());

    case.kinde.know("k_live_slow", |_| {});
    case.kinde.close_gate();
    assert_eq!(case.outcome("k_live_slow").await, UNAVAILABLE);
    case.kinde.open_gate();
    assert_eq!(case.outcome("k_live_slow").await, PASSED);
}

#[tokio::test]
async fn a_connection_that_fails_is_tried_once_more() {
    let case = case(Kinde::start().await, "", "").await;
    case.kinde.know("k_live_1", |_| {});
    case.kinde.verify_answers(Reply::raw(""));
    assert_eq!(case.outcome("k_live_1").await, UNAVAILABLE);
    assert_eq!(case.kinde.verified(), 2);
    // The budget is ten such attempts; a pooled connection was never in it.
    for _ in 0..20 {
        assert_eq!(case.outcome("k_live_1").await, UNAVAILABLE);
    }
    assert!((30..=32).contains(&case.kinde.verified()), "{}", case.kinde.verified());

    let nobody = Origin::nowhere();
    let url = format!("url: 'http://{}', auth: none", nobody.address);
    let away = self::case(Kinde::start().await, &url, "").await;
    assert_eq!(away.outcome("k_live_1").await, UNAVAILABLE);
}

#[tokio::test]
async fn a_token_is_used_for_its_life_and_renewed_before_its_end() {
    let case = case(Kinde::start().await, "", "").await;
    for n in 0..20 {
        case.kinde.know(&format!("k_live_{n}"), |_| {});
    }
    assert_eq!(case.outcome("k_live_0").await, PASSED);
    case.proxy.clock.advance(Duration::from_secs(3600 * 90 / 100 - 1));
    assert_eq!(case.outcome("k_live_1").await, PASSED);
    assert_eq!(case.kinde.tokens(), 1);
    // From 98 hundredths of its life on it is renewed, whatever lot was drawn; once, for everybody.
    case.proxy.clock.advance(Duration::from_secs(3600 * 8 / 100 + 2));
    let send = |n| {
        let request = case.proxy.get("/any").key(&format!("k_live_{n}"));
        tokio::spawn(async move { request.send().await })
    };
    let sent: Vec<_> = (2..10).map(send).collect();
    for answer in sent {
        assert_eq!(answer.await.expect("a client's task").status, 200);
    }
    case.kinde.tokens_at_least(2).await;
    assert_eq!(case.outcome("k_live_10").await, PASSED);
    assert_eq!(case.kinde.tokens(), 2);

    // A renewal that fails costs nothing while the token lives.
    case.proxy.clock.advance(Duration::from_secs(3600 * 98 / 100 + 1));
    case.kinde.token_answers(Reply::new(500, "text/plain", "x"));
    assert_eq!(case.outcome("k_live_11").await, PASSED);
    case.kinde.tokens_at_least(3).await;
    assert_eq!(case.outcome("k_live_12").await, PASSED);
    case.proxy.clock.advance(Duration::from_secs(3600));
    assert_eq!(case.outcome("k_live_13").await, UNAVAILABLE, "the token is dead");
    assert_eq!(case.verifier_detail().await, None, "an endpoint that is away refuses nobody");
    case.kinde.token_answers(None);
    let tokens = case.kinde.tokens();
    assert_eq!(case.outcome("k_live_13").await, UNAVAILABLE, "it has just failed");
    assert_eq!(case.kinde.tokens(), tokens);
    case.proxy.clock.advance(Duration::from_secs(1));
    assert_eq!(case.outcome("k_live_13").await, PASSED);
}

#[tokio::test]
async fn a_tokens_life_is_what_kinde_says() {
    let kinde = Kinde::start().await;
    for n in 0..9 {
        kinde.know(&format!("k_live_{n}"), |_| {});
    }
    // No `expires_in`: the token itself says.
    let token = jwt(&Clock::manual(), 600);
    kinde.accept_token(&token);
    kinde.token_answers(Reply::json(json!({"access_token": token}).to_string()));
    let case = case(kinde, "", "").await;
    assert_eq!(case.outcome("k_live_0").await, PASSED);
    case.proxy.clock.advance(Duration::from_secs(530));
    assert_eq!((case.outcome("k_live_1").await.as_str(), case.kinde.tokens()), (PASSED, 1));
    case.proxy.clock.advance(Duration::from_secs(70));
    for (why, answer) in [
        ("an ended token", json!({"access_token": token})),
        ("no lifetime", json!({"access_token": "secret-opaque"})),
        ("no lifetime", json!({"access_token": "secret.not-json.x"})),
        ("no time", json!({"access_token": "secret-x", "expires_in": 0})),
        ("no number", json!({"access_token": "secret-x", "expires_in": "3600"})),
        ("no token", json!({"expires_in": 3600})),
        ("no header", json!({"access_token": "secret\r\nx: y", "expires_in": 3600})),
        ("no bearer", json!({"access_token": "secret-x", "expires_in": 3600, "token_type": "mac"})),
    ] {
        case.kinde.token_answers(Reply::json(answer.to_string()));
        assert_eq!(case.outcome("k_live_2").await, UNAVAILABLE, "{why}");
        case.proxy.clock.advance(Duration::from_secs(2));
    }
    assert_eq!(case.verifier_detail().await, None);
    case.kinde.token_answers(Reply::new(
        401,
        "application/json",
        r#"{"error":"invalid_client","error_description":"x"}"#,
    ));
    assert_eq!(case.outcome("k_live_2").await, UNAVAILABLE);
    let detail = case.verifier_detail().await.expect("a reason");
    assert!(detail.contains("token endpoint answers 401 Unauthorized: invalid_client"), "{detail}");
    case.kinde.tokens_live(Some(60));
    case.kinde.token_answers(None);
    case.proxy.clock.advance(Duration::from_secs(10));
    assert_eq!(case.outcome("k_live_2").await, PASSED);
    let tokens = case.kinde.tokens();
    case.proxy.clock.advance(Duration::from_secs(60));
    assert_eq!(case.outcome("k_live_3").await, PASSED);
    assert_eq!(case.kinde.tokens(), tokens + 1, "a short life is believed too");
    assert_eq!(case.verifier_detail().await, None);
}

#[tokio::test]
async fn other_ways_to_be_let_in() {
    let kinde = Kinde::start().await;
    kinde.want_nothing();
    kinde.bad_keys_get(BadKey::Status(401));
    kinde.know("k_live_1", |_| {});
    let case = case(kinde, "auth: none", "").await;
    assert_eq!(case.outcome("k_live_bad").await, UNAVAILABLE, "it may mean that a token is wanted");
    assert!(case.verifier_detail().await.expect("a reason").contains("`auth: none`"));
    assert_eq!(case.outcome("k_live_1").await, PASSED);
    assert_eq!(case.outcome("k_live_bad").await, INVALID, "nothing is wanted, as has been seen");
    assert!(case.kinde.heads().iter().all(|head| head.field("authorization").is_none()));

    let kinde = Kinde::start().await;
    kinde.accept_token(CLIENT_SECRET);
    kinde.bad_keys_get(BadKey::Status(401));
    kinde.know("k_live_1", |_| {});
    let files = tempfile::tempdir().expect("a directory");
    let case = self::case(kinde, &format!("auth: {{token: {{file: '{}'}}}}", secret_file(&files)), "").await;
    assert_eq!(case.outcome("k_live_bad").await, INVALID);
    assert_eq!(case.outcome("k_live_1").await, PASSED);
    case.kinde.reject_tokens();
    case.proxy.clock.advance(Duration::from_secs(61));
    assert_eq!(case.outcome("k_live_1").await, UNAVAILABLE);
    assert!(case.verifier_detail().await.expect("a reason").contains("does not accept our token"));
    assert_eq!(case.kinde.tokens(), 0);
}

#[tokio::test]
async fn a_key_of_another_api_is_none_of_ours() {
    let case = case(Kinde::start().await, "api_id: api_ours", "cache: {ttl: 10s, refresh_ahead: false}").await;
    for (key, apis) in
        [("1", Some(&["api_other", "api_ours"][..])), ("2", Some(&["api_other"])), ("3", Some(&[])), ("4", None)]
    {
        case.kinde.know(&format!("k_live_{key}"), |_| {});
        if let Some(apis) = apis {
            case.kinde.key_is_for(&format!("api_key_{key}"), apis);
        }
    }
    assert_eq!(case.outcome("k_live_1").await, PASSED);
    assert_eq!(case.outcome("k_live_2").await, INVALID);
    assert_eq!(case.outcome("k_live_3").await, INVALID);
    assert_eq!(case.outcome("k_live_4").await, UNAVAILABLE, "Kinde knows a key and knows it not");
    case.kinde.know("k_live_5", |answer| answer["key_id"] = "../other?x".into());
    assert_eq!(case.outcome("k_live_5").await, UNAVAILABLE);
    assert_eq!(case.kinde.looked_at(), 4);
    case.proxy.clock.advance(Duration::from_secs(10));
    assert_eq!((case.outcome("k_live_1").await.as_str(), case.outcome("k_live_2").await.as_str()), (PASSED, INVALID));
    assert_eq!(case.kinde.looked_at(), 4, "a key's APIs never change");
}

/// An authority, and a server certificate of it for loopback and `kinde.test`.
pub fn authority(name: &str) -> (String, TlsAcceptor) {
    let mut ca = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().expect("a key")).expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let server = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned(), "kinde.test".to_owned()])
        .expect("names");
    let server = server.signed_by(&key, &ca).expect("a certificate");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![server.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .expect("a server configuration");
    (ca.pem(), TlsAcceptor::from(Arc::new(config)))
}

#[tokio::test]
async fn tls_trusts_whom_it_is_told_to_trust_and_nobody_else() {
    let files = tempfile::tempdir().expect("a directory");
    let (ca, acceptor) = authority("ours");
    let (other_ca, _) = authority("theirs");
    let kinde = Kinde::with_tls(acceptor).await;
    kinde.know("k_live_1", |_| {});
    let with = async |host: &str, ca: Option<&str>| {
        let ca = ca.map_or(String::new(), |pem| {
            fs::write(files.path().join("ca.pem"), pem).expect("written");
            format!(", ca: {{file: '{}'}}", files.path().join("ca.pem").display())
        });
        let url = format!("url: 'https://{host}:{}'", kinde.address.port());
        case(kinde.clone(), &format!("{url}{ca}"), "").await
    };
    let trusted = with("127.0.0.1", Some(&ca)).await;
    assert_eq!(trusted.outcome("k_live_1").await, PASSED);
    assert_eq!(with("localhost", Some(&format!("{other_ca}{ca}"))).await.outcome("k_live_1").await, PASSED);
    let calls = kinde.calls();
    assert_eq!(with("127.0.0.1", Some(&other_ca)).await.outcome("k_live_1").await, UNAVAILABLE, "another authority");
    assert_eq!(with("127.0.0.1", None).await.outcome("k_live_1").await, UNAVAILABLE, "no public authority");
    assert_eq!(with("127.0.0.2", Some(&ca)).await.outcome("k_live_1").await, UNAVAILABLE, "another name");
    assert_eq!(kinde.calls(), calls, "nothing was said to a stranger");
}

#[tokio::test]
async fn no_secret_is_printed_or_kept() {
    let kinde = Kinde::start().await;
    kinde.know("k_live_secret-of-a-good-key", |answer| answer["key_id"] = "api_key_1".into());
    kinde.bad_keys_get(BadKey::Status(401));
    let origin = Origin::json("{}").await;
    let dir = tempfile::tempdir().expect("a directory");
    let config = format!(
        "
listen: {{address: '127.0.0.1:0'}}
health: {{address: '127.0.0.1:0'}}
usage: {{file: usage.jsonl}}
upstreams: {{ai: {{endpoints: ['http://{}']}}}}
keys: {{verifier: kinde, kinde: {{url: 'http://{}', client_id: c, client_secret: {{env: KINDE_SECRET}}, timeout: 500ms}}}}
defaults: {{upstream: ai}}
routes: [{{id: any, path: /any}}]
",
        origin.address, kinde.address
    );
    fs::write(dir.path().join("proxy.yaml"), config).expect("a file");
    let mut proxy = Process::start(
        keyward().current_dir(&dir).arg("run").env("KEYWARD_LOG", "trace").env("KINDE_SECRET", CLIENT_SECRET),
    );
    let ready = proxy.wait_for("keyward is ready");
    let (address, health) = (ready_address(&ready, "proxy"), ready_address(&ready, "health"));
    let mut said = String::new();
    let mut ask = async |key: &str, expected: u16| {
        let answer = Request::new(address, "GET", "/any").key(key).send().await;
        assert_eq!(answer.status, expected, "{key}: {}", answer.text());
        said.push_str(&answer.text());
        said.push_str(&Request::new(health, "GET", "/readyz").send().await.text());
    };
    let echo = r#"{"is_valid":"secret-of-an-echo","key":"k_live_secret-of-a-third-key"}"#;
    ask("k_live_secret-of-a-good-key", 200).await;
    ask("k_live_secret-of-a-bad-key", 401).await;
    for reply in [
        Reply::new(500, "text/plain", echo),
        Reply::new(403, "application/json", echo),
        Reply::json(echo),
        Reply::new(200, "x", &echo[..echo.len() - 1]),
        Reply::raw(""),
    ] {
        kinde.verify_answers(reply);
        ask("k_live_secret-of-a-third-key", 503).await;
    }
    kinde.close_gate();
    kinde.verify_answers(None);
    ask("k_live_secret-of-a-slow-key", 503).await;
    said.push_str(&Request::new(health, "GET", "/metrics").send().await.text());
    proxy.signal("TERM");
    assert_eq!(proxy.wait().code(), Some(0));
    said.push_str(&proxy.said());
    said.push_str(&fs::read_to_string(dir.path().join("usage.jsonl")).expect("the usage file"));
    assert!(
        said.contains("VERIFIER_UNAVAILABLE") && said.contains("api_key_1") && said.contains("status 403"),
        "{said}"
    );
    for secret in ["secret-of", "secret-token", CLIENT_SECRET, "kinde-client-secret"] {
        assert!(!said.contains(secret), "{secret} was printed:\n{said}");
    }
}

#[tokio::test]
async fn keys_are_made_where_they_live() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = "
upstreams: {ai: {endpoints: ['http://127.0.0.1:1']}}
keys: {verifier: kinde, kinde: {url: 'https://acme.kinde.com', auth: none}}
routes: [{id: any, path: /any}]
";
    fs::write(dir.path().join("proxy.yaml"), config).expect("a file");
    for command in [&["list"][..], &["revoke", "api_key_1"], &["create", "--name", "n", "--org-code", "o"]] {
        let output = keyward_in(dir.path(), &[&["keys"][..], command].concat());
        let said = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(1), "{command:?}");
        assert!(said.contains("live in Kinde or a key service (https://acme.kinde.com)"), "{said}");
    }
    assert!(!dir.path().join("keyward.db").exists());
}
