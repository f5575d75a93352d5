//! Signed assertions, and the middleware that checks them, under the servers that people run.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64ct::{Base64UrlUnpadded, Encoding};
use keyward::assertion::{Algorithm, Assertion, Key, Request as Statement, Signer};
use keyward::time::Clock;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Origin, Process, Proxy, Request, python, repository};

/// Seeds of Ed25519 keys in base64, one of them in no configuration.
const SEED: &str = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";
const OLD_SEED: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const FOREIGN_SEED: &str = "HxwdHhobHBkYFxYVFBMSERAPDg0MCwoJCAcGBQQDAgE=";
const SECRET: &str = "a secret of both sides, long enough";

const ROTATING: &str = "upstreams: {ai: {assertion: {key: {file: key}, key_id: key-2, previous: {key: {file: old-key}, key_id: key-1}}, endpoints:";
const ROTATED: &str = "upstreams: {ai: {assertion: {key: {file: key}, key_id: key-2}, endpoints:";
const UPSTREAM: &str = "upstreams: {ai: {endpoints:";

const ROUTES: &str = "
defaults: {upstream: ai, request: {rules: [html]}, response: {rules: []}}
routes:
  - {id: ai, path: /ai/**, scopes: []}
  - {id: streamed, path: /ai/streamed, scopes: [], request: {rules: []}}
  - {id: shared, path: /ai/shared, scopes: [], assertion: {algorithm: HS256, key: {file: secret}, key_id: shared, ttl: 30s}}
  - {id: unsigned, path: /ai/unsigned, scopes: [], assertion: off}
  - {id: observed, path: /ai/observed, auth: observe}
  - {id: health, path: /healthz, public: true}
";

async fn proxy_before(address: SocketAddr) -> Proxy {
    Proxy::builder_to(address)
        .file("key", &format!("{SEED}\n"))
        .file("old-key", OLD_SEED)
        .file("secret", SECRET)
        .file("token", "let me in")
        .base(UPSTREAM, ROTATING)
        .base("usage:", "admin: {address: '127.0.0.1:0', token: {file: token}}\nusage:")
        .config(ROUTES)
        .start()
        .await
}

async fn key_set(proxy: &Proxy) -> String {
    let answer = proxy.admin("GET", "/jwks.json").header("Authorization", "Bearer let me in").send().await;
    assert_eq!((answer.status, answer.head.field("content-type")), (200, Some("application/jwk-set+json")));
    answer.text()
}

/// The claims of the only token that reached an origin.
fn claims(head: &crate::harness::Head) -> Value {
    let token = head.field("x-key-assertion").expect("an assertion");
    let claims = token.split('.').nth(1).expect("three parts");
    serde_json::from_slice(&Base64UrlUnpadded::decode_vec(claims).expect("base64url")).expect("JSON")
}

#[tokio::test]
async fn an_assertion_says_what_was_verified_and_what_is_sent() {
    let origin = Origin::json("{}").await;
    let proxy = proxy_before(origin.address).await;
    let (both_id, both_key) = proxy.create_key(Some("org_both"), Some("kp_both"), &["a:b", "c"]);
    let body = r#"{"message":"grüß"}"#;
    let request = proxy.post("/ai/%7Ex/../chat?q=%2f&r").key(&both_key).json(body).chunked();
    let answer = request.header("X-Key-Assertion", "evil").header("X_Key-Assertion", "evil").send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let received = origin.only();
    let said = claims(&received.head);
    let id = received.head.field("x-request-id").expect("an id");
    let now = Clock::system().now().wall.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    let (issued, expires) = (said["iat"].as_u64().expect("a time"), said["exp"].as_u64().expect("a time"));
    assert!(now - issued < 30 && expires - issued == 60, "{said}");
    assert_eq!(
        said,
        json!({
            "iss": "keyward", "aud": "ai", "iat": issued, "exp": expires, "jti": id, "request_id": id,
            "key_id": both_id, "org_code": "org_both", "user_id": "kp_both", "scopes": ["a:b", "c"],
            "route": "ai", "method": "POST", "path": received.head.first_line.split(' ').nth(1),
            "body_sha256": "-4l9fDbUzMZVZJVgBbfJ89YvqeiVIGEWQstsZc6HX5w",
        })
    );
    assert_eq!(said["path"], "/ai/chat?q=%2f&r", "as it was matched and sent");
    assert!(!format!("{received:?}").contains("evil"));
}

#[tokio::test]
async fn who_gets_an_assertion() {
    let origin = Origin::json("{}").await;
    let proxy = proxy_before(origin.address).await;
    for (path, keyed, signed) in [
        ("/ai/x", true, true),
        ("/ai/streamed", true, true),
        ("/ai/shared", true, true),
        ("/ai/observed", true, true),
        // Nobody is no caller, and a signature under nothing would only be mistaken for one.
        ("/ai/observed", false, false),
        ("/ai/unsigned", true, false),
        ("/healthz", false, false),
    ] {
        let mut request = proxy.post(path).json("{}").header("x_key_assertion", "evil");
        if keyed {
            request = request.key(&proxy.user_key);
        }
        assert_eq!(request.send().await.status, 200, "{path}");
        let received = origin.received().pop().expect("a request");
        assert_eq!(received.head.field("x-key-assertion").is_some(), signed, "{path}");
        assert!(!format!("{received:?}").contains("evil"), "{path}");
        if signed {
            let claims = claims(&received.head);
            assert_eq!(claims.get("body_sha256").is_some(), path != "/ai/streamed", "{path}");
            assert_eq!((claims.get("org_code"), &claims["user_id"]), (None, &json!("kp_1234567890")));
            let ttl = claims["exp"].as_u64().expect("a time") - claims["iat"].as_u64().expect("a time");
            assert_eq!(ttl, if path == "/ai/shared" { 30 } else { 60 });
        }
    }
    // An id that a trusted peer chose may come twice; the token's own never does.
    let proxy = {
        let trusting = format!("trusted_proxies: [127.0.0.0/8]\n{ROUTES}");
        Proxy::builder(&origin).file("key", SEED).file("secret", SECRET).base(UPSTREAM, ROTATED).config(&trusting)
    };
    let proxy = proxy.start().await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        proxy.get("/ai/x").key(&proxy.user_key).header("X-Request-Id", "mine").send().await;
        let claims = claims(&origin.received().pop().expect("a request").head);
        assert_eq!(claims["request_id"], "mine");
        ids.push(claims["jti"].clone());
    }
    assert_ne!(ids[0], ids[1]);
}

#[tokio::test]
async fn the_key_set_needs_the_token_and_follows_a_reload() {
    let origin = Origin::json("{}").await;
    let proxy = proxy_before(origin.address).await;
    assert_eq!(proxy.admin("GET", "/jwks.json").send().await.status, 401);
    assert_eq!(proxy.health("/jwks.json").await.status, 404, "public keys too are told to the operator only");
    let ids = |set: &str| -> Vec<Value> {
        let set: Value = serde_json::from_str(set).expect("JSON");
        set["keys"].as_array().expect("a list").iter().map(|key| key["kid"].clone()).collect()
    };
    let set = key_set(&proxy).await;
    assert_eq!(ids(&set), ["key-2", "key-1"], "a shared secret is not published");
    assert!(!set.contains("\"d\"") && !set.contains(SECRET), "{set}");
    proxy.reload_base(ROTATING, ROTATED, ROUTES);
    assert_eq!(ids(&key_set(&proxy).await), ["key-2"]);
}

/// A service with the middleware, and Keyward before it.
struct Guarded {
    service: SocketAddr,
    proxy: Proxy,
    dir: TempDir,
    process: Process,
}

impl Guarded {
    async fn start(server: &[&str], announced: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut command = Command::new(python());
        command
            .current_dir(repository().join("examples/identity"))
            .args(server)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("KEYWARD_JWKS", dir.path().join("jwks.json"))
            .env("KEYWARD_SECRETS", json!({"shared": SECRET}).to_string());
        let process = Process::start(&mut command);
        let service = process.announced_address(announced);
        let proxy = proxy_before(service).await;
        let guarded = Self { service, proxy, dir, process };
        guarded.publish_keys().await;
        guarded
    }

    /// What the operator does after a change of keys.
    async fn publish_keys(&self) {
        fs::write(self.dir.path().join("jwks.json"), key_set(&self.proxy).await).expect("a file");
    }

    fn direct(&self, method: &str, target: &str) -> Request {
        Request::new(self.service, method, target)
    }

    /// A direct request with an assertion that is right for it.
    fn signed(&self, method: &str, target: &str, body: &str, token: &str) -> Request {
        let request = self.direct(method, target).header("X-Key-Assertion", token);
        if body.is_empty() { request } else { request.json(body) }
    }
}

/// An assertion as Keyward would make it, about `POST /ai/chat` and `{}`, changed by `change`.
fn token(signer: Signer, change: impl FnOnce(&mut Assertion, &mut Statement<'_>, &mut SystemTime)) -> String {
    let mut assertion = Assertion {
        header: "x-key-assertion".parse().expect("a name"),
        signer,
        ttl: Duration::from_secs(60),
        issuer: "keyward".into(),
        audience: "ai".into(),
    };
    let scopes: [Arc<str>; 1] = ["a:b".into()];
    let id = uuid::Uuid::from_u128(next_id()).to_string();
    let mut now = Clock::system().now().wall;
    let mut statement = Statement {
        key_id: "api_key_1",
        org_code: Some("org_signed"),
        user_id: None,
        scopes: &scopes,
        route: "ai",
        method: "POST",
        path: "/ai/chat",
        request_id: &id,
        token_id: &id,
        body: Some(b"{}"),
    };
    change(&mut assertion, &mut statement, &mut now);
    assertion.state(&statement, now).to_str().expect("ASCII").to_owned()
}

fn next_id() -> u128 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed).into()
}

fn signer(id: &str, seed: &str) -> Signer {
    Signer::new(id, Key::read(Algorithm::EdDsa, seed).expect("a key"))
}

fn hs256(id: &str, secret: &str) -> Signer {
    Signer::new(id, Key::read(Algorithm::Hs256, secret).expect("a secret"))
}

fn good() -> Signer {
    signer("key-2", SEED)
}

/// A token with a header of the attacker's choice and the given signature.
fn forged(header: &Value, signature: &str) -> String {
    let real = token(good(), |_, _, _| {});
    let claims = real.split('.').nth(1).expect("three parts").to_owned();
    format!("{}.{claims}.{signature}", Base64UrlUnpadded::encode_string(header.to_string().as_bytes()))
}

async fn accepts_what_comes_through_keyward(guarded: &Guarded) {
    let proxy = &guarded.proxy;
    let (_, both_key) = proxy.create_key(Some("org_both"), Some("kp_both"), &[]);
    let owners = [
        (&proxy.org_key, json!("org_customer_abc"), Value::Null),
        (&proxy.user_key, Value::Null, json!("kp_1234567890")),
        (&both_key, json!("org_both"), json!("kp_both")),
    ];
    for (key, org, user) in owners {
        for (method, target, body) in [
            ("GET", "/ai/a%20b/%C3%BC?x=%2F&y=a+b", ""),
            ("GET", "/ai/a?", ""),
            ("POST", "/ai/chat", r#"{"message":"grüß dich 😀"}"#),
            ("POST", "/ai/chat", ""),
            ("PUT", "/ai/./x/../%63hat", "[1]"),
            ("POST", "/ai/shared", "{}"),
            ("POST", "/ai/observed", "{}"),
        ] {
            let request = proxy.request(method, target).key(key).header("X-Org-Code", "org_evil");
            let request = if body.is_empty() { request } else { request.json(body).chunked() };
            let answer = request.send().await;
            assert_eq!(answer.status, 200, "{method} {target}: {} {}", answer.text(), guarded.process.said());
            let answer = answer.json();
            assert_eq!((&answer["organization"], &answer["user_id"]), (&org, &user), "{target}: {answer}");
            assert_eq!((answer["body"].as_str(), answer["method"].as_str()), (Some(body), Some(method)));
        }
    }
    // What Keyward does not sign, the service does not take: each of them fails closed.
    for (path, key) in [("/ai/unsigned", Some(&proxy.org_key)), ("/ai/observed", None)] {
        let request = proxy.post(path).json("{}");
        let request = key.into_iter().fold(request, |request, key| request.key(key));
        assert_eq!(request.send().await.status, 401, "{path}");
    }
    let streamed = proxy.post("/ai/streamed").key(&proxy.org_key).json("{}").send().await;
    assert_eq!(streamed.status, 401, "a body that was not known, and a verifier that was not told to take it");
    let open = proxy.get("/healthz").header("X-Org-Code", "org_evil").send().await;
    assert_eq!((open.status, &open.json()["organization"]), (200, &Value::Null));
}

async fn refuses_everything_else(guarded: &Guarded) {
    let foreign_x = {
        let set: Value = serde_json::from_str(&key_set(&guarded.proxy).await).expect("JSON");
        set["keys"][0]["x"].as_str().expect("a public key").to_owned()
    };
    let raw_public = Base64UrlUnpadded::decode_vec(&foreign_x).expect("base64url");
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA{}=\n-----END PUBLIC KEY-----\n",
        foreign_x.replace('-', "+").replace('_', "/")
    );
    let latin: String = raw_public.iter().map(|byte| char::from(*byte)).collect();
    let hour = Duration::from_secs(3600);
    let plain = || token(good(), |_, _, _| {});
    let none = |alg: &str| forged(&json!({"alg": alg, "kid": "key-2", "typ": "JWT"}), "");
    let cases: Vec<(&str, Request)> = vec![
        ("a direct call", guarded.direct("POST", "/ai/chat").json("{}")),
        ("a direct call with identity", guarded.direct("POST", "/ai/chat").header("X-Org-Code", "org_evil").json("{}")),
        ("expired", guarded.signed("POST", "/ai/chat", "{}", &token(good(), |_, _, now| *now -= hour))),
        ("from the future", guarded.signed("POST", "/ai/chat", "{}", &token(good(), |_, _, now| *now += hour))),
        ("another path", guarded.signed("POST", "/ai/other", "{}", &plain())),
        ("another spelling of the path", guarded.signed("POST", "/ai/%63hat", "{}", &plain())),
        ("another query", guarded.signed("POST", "/ai/chat?x=1", "{}", &plain())),
        ("another method", guarded.signed("PUT", "/ai/chat", "{}", &plain())),
        ("an altered body", guarded.signed("POST", "/ai/chat", "{ }", &plain())),
        ("an altered body in chunks", guarded.signed("POST", "/ai/chat", "[]", &plain()).chunked()),
        ("no body", guarded.signed("POST", "/ai/chat", "", &plain())),
        ("an unnamed body", guarded.signed("POST", "/ai/chat", "{}", &token(good(), |_, said, _| said.body = None))),
        ("alg none", guarded.signed("POST", "/ai/chat", "{}", &none("none"))),
        ("alg None", guarded.signed("POST", "/ai/chat", "{}", &none("None"))),
        ("HS256 with the public key", {
            guarded.signed("POST", "/ai/chat", "{}", &token(hs256("key-2", &pem), |_, _, _| {}))
        }),
        ("HS256 with the JWK's x", {
            guarded.signed("POST", "/ai/chat", "{}", &token(hs256("key-2", &foreign_x), |_, _, _| {}))
        }),
        ("HS256 with the public bytes", {
            guarded.signed("POST", "/ai/chat", "{}", &token(hs256("key-2", &latin), |_, _, _| {}))
        }),
        ("EdDSA under the name of a secret", {
            guarded.signed("POST", "/ai/chat", "{}", &token(signer("shared", SEED), |_, _, _| {}))
        }),
        ("an unknown key", guarded.signed("POST", "/ai/chat", "{}", &token(signer("key-9", SEED), |_, _, _| {}))),
        ("a foreign key under a known name", {
            guarded.signed("POST", "/ai/chat", "{}", &token(signer("key-2", FOREIGN_SEED), |_, _, _| {}))
        }),
        ("no key id", guarded.signed("POST", "/ai/chat", "{}", &forged(&json!({"alg": "EdDSA"}), "AA"))),
        ("a key in the token", {
            let header = json!({"alg": "EdDSA", "kid": "x", "jwk": {"kty": "OKP", "crv": "Ed25519", "x": foreign_x}});
            guarded.signed("POST", "/ai/chat", "{}", &forged(&header, "AA"))
        }),
        ("another audience", {
            guarded.signed("POST", "/ai/chat", "{}", &token(good(), |with, _, _| with.audience = "other".into()))
        }),
        ("another issuer", {
            guarded.signed("POST", "/ai/chat", "{}", &token(good(), |with, _, _| with.issuer = "other".into()))
        }),
        ("two assertions", guarded.signed("POST", "/ai/chat", "{}", &plain()).header("X-Key-Assertion", &plain())),
        ("nonsense", guarded.signed("POST", "/ai/chat", "{}", "a.b.c")),
        ("a moved application", guarded.signed("POST", "/ai/chat", "{}", &plain()).header("SCRIPT_NAME", "/ai")),
    ];
    for (what, request) in cases {
        let answer = request.send().await;
        // gunicorn and uvicorn ignore a SCRIPT_NAME that they do not know, and then nothing was moved.
        let harmless = what == "a moved application" && answer.status == 200 && answer.json()["route"] == "ai";
        assert!(answer.status == 401 || harmless, "{what}: {} {}", answer.status, answer.text());
    }
}

async fn accepts_an_assertion_once(guarded: &Guarded) {
    let token = token(good(), |_, _, _| {});
    // Whose headers they are is what was signed, whatever stands beside it.
    let request = guarded.signed("POST", "/ai/chat", "{}", &token).header("X-Org-Code", "org_evil");
    let request = request.header("X-User-Id", "kp_evil").header("X-Key-Scopes", "admin");
    let first = request.send().await;
    assert_eq!((first.status, &first.json()["organization"]), (200, &json!("org_signed")), "{}", first.text());
    assert_eq!(first.json()["user_id"], Value::Null);
    assert_eq!(request.send().await.status, 401, "a replay");
}

async fn refuses_a_key_that_was_rotated_out(guarded: &Guarded) {
    let old = || token(signer("key-1", OLD_SEED), |_, _, _| {});
    assert_eq!(guarded.signed("POST", "/ai/chat", "{}", &old()).send().await.status, 200, "still published");
    guarded.proxy.reload_base(ROTATING, ROTATED, ROUTES);
    guarded.publish_keys().await;
    assert_eq!(guarded.signed("POST", "/ai/chat", "{}", &old()).send().await.status, 401);
    let through = guarded.proxy.post("/ai/chat").key(&guarded.proxy.org_key).json("{}").send().await;
    assert_eq!(through.status, 200, "{}", through.text());
}

async fn the_whole_matrix(server: &[&str], announced: &str) {
    let guarded = Guarded::start(server, announced).await;
    accepts_what_comes_through_keyward(&guarded).await;
    refuses_everything_else(&guarded).await;
    accepts_an_assertion_once(&guarded).await;
    refuses_a_key_that_was_rotated_out(&guarded).await;
}

const GUNICORN: [&str; 7] = ["-m", "gunicorn", "--bind", "127.0.0.1:0", "--threads", "2", "--no-control-socket"];

#[tokio::test]
async fn flask_under_gunicorn() {
    the_whole_matrix(&[&GUNICORN[..], &["--header-map", "dangerous", "flask_app:app"]].concat(), "Listening at:").await;
}

#[tokio::test]
async fn django_under_gunicorn() {
    the_whole_matrix(&[&GUNICORN[..], &["django_app:application"]].concat(), "Listening at:").await;
}

#[tokio::test]
async fn fastapi_under_uvicorn() {
    let server = ["-m", "uvicorn", "--host", "127.0.0.1", "--port", "0", "fastapi_app:app"];
    the_whole_matrix(&server, "Uvicorn running on").await;
}
