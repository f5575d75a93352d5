//! The key service: Kinde's API before the embedded store, for SDKs, sidecars and the command line.

mod bounds;
mod document;
mod errors;
mod fleet;
mod postgres;
mod remote;
mod sdks;

use std::net::SocketAddr;
use std::path::Path;

use keyward::config::{self, Compiled, Mistakes, Overrides};
use keyward::server::Server;
use keyward::time::Clock;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::harness::secrets::Home;
use crate::harness::{Answer, Request, within};

/// A token of each kind.
const ADMIN: &str = "an-admin-token-of-good-length-0001";
const READER: &str = "a-reader-token-of-good-length-0002";
const SIDECAR: &str = "a-sidecar-token-of-good-length-003";
const HASHED: &str = "a-token-that-only-its-hash-is-told";

const TOKENS: &str = "
    admin: {token: {file: admin}, scopes: ['read:api_keys', 'create:api_keys', 'update:api_keys', 'delete:api_keys']}
    reader: {token: {file: reader}, scopes: ['read:api_keys']}
    sidecar: {token: {file: sidecar}, scopes: ['verify:api_keys']}
    hashed: {sha256: 46c2e5a2b9f3f3ae, scopes: ['verify:api_keys']}
";

/// The store of most tests.
const FILE: &str = "'sqlite://keys.db'";

/// A key service in this process, and nothing else.
struct Keys {
    address: SocketAddr,
    server: Server,
    dir: Home,
    tokens: String,
}

fn compile(dir: &Path, tokens: &str, serve: &str, more: &str) -> Result<Compiled, Mistakes> {
    compile_on(FILE, dir, tokens, serve, more)
}

/// `url` is that of the store, as it is written in the configuration.
fn compile_on(url: &str, dir: &Path, tokens: &str, serve: &str, more: &str) -> Result<Compiled, Mistakes> {
    let text = format!(
        "keys:\n  store: {{url: {url}}}\n  serve:\n   address: 127.0.0.1:0\n   {serve}\n   tokens:{tokens}\nusage: off\n\
         health: {{address: '127.0.0.1:0'}}\n{more}"
    );
    config::compile_text("keys.yaml", &text, dir, &|_| None, &Overrides::default())
}

impl Keys {
    async fn start() -> Self {
        Self::serving("", Clock::system(), &[]).await
    }

    /// `serve` are further lines of `keys.serve`.
    async fn serving(serve: &str, clock: Clock, files: &[(&str, &str)]) -> Self {
        Self::serving_store(FILE, serve, clock, files).await
    }

    /// `url` is that of the store, as it is written in the configuration.
    async fn serving_store(url: &str, serve: &str, clock: Clock, files: &[(&str, &str)]) -> Self {
        let dir = Home::new();
        for (name, text) in [("admin", ADMIN), ("reader", READER), ("sidecar", SIDECAR)].iter().chain(files) {
            std::fs::write(dir.path().join(name), text).expect("a file");
        }
        let tokens = TOKENS.replace("46c2e5a2b9f3f3ae", &keyward::key_service::token_digest(HASHED));
        let compiled = compile_on(url, dir.path(), &tokens, serve, "").unwrap_or_else(|mistakes| panic!("{mistakes}"));
        let server = Server::start(compiled, 1, clock).await.expect("the server starts");
        let address = server.addresses().keys.expect("a key service");
        assert!(server.addresses().proxy.is_empty(), "nothing is proxied");
        Self { address, server, dir, tokens }
    }

    fn ask(&self, method: &str, target: &str) -> Request {
        Request::new(self.address, method, target)
    }

    /// A request of the administrator, with a body unless it is null.
    async fn admin(&self, method: &str, target: &str, body: Value) -> Answer {
        let request = self.ask(method, target).key(ADMIN);
        let request = if body.is_null() { request } else { request.json(body.to_string()) };
        request.send().await
    }

    /// Makes a key of an organization; its id and its text.
    async fn create(&self, name: &str) -> (String, String) {
        let answer = self.admin("POST", "/api/v1/api_keys", json!({"name": name, "org_code": "org_1"})).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        let key = answer.json()["api_key"].clone();
        (text(&key["id"]), text(&key["key"]))
    }

    async fn verify(&self, key: &str) -> Value {
        let body = json!({"api_key": key}).to_string();
        let answer = self.ask("POST", "/api/v1/api_keys/verify").key(SIDECAR).json(body).send().await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

#[tokio::test]
async fn a_key_lives_as_at_kinde() {
    let keys = Keys::start().await;
    let asked = json!({
        "name": "né 😀", "type": "user", "api_id": "7ccd126599aa422a771abcb341596881",
        "scope_ids": ["read:users", "write:users"], "user_id": "kp_1", "org_code": "org_1",
        "expires_on": "2999-01-01T00:00:00Z", "allow_from": ["10.0.0.0/8"],
        "limit": {"requests": 5, "per_ms": 60000}, "metadata": {"plan": "gold"},
    });
    let made = keys.admin("POST", "/api/v1/api_keys", asked).await;
    assert_eq!((made.status, made.head.field("content-type")), (201, Some("application/json")));
    assert_eq!(made.head.field("cache-control"), Some("no-store"));
    let made = made.json();
    assert_eq!((&made["code"], &made["message"]), (&"API_KEY_CREATED".into(), &"API key created".into()));
    let (id, secret) = (text(&made["api_key"]["id"]), text(&made["api_key"]["key"]));
    let path = format!("/api/v1/api_keys/{id}");

    let verified = keys.verify(&secret).await;
    let expected = json!({
        "code": "API_KEY_VERIFIED", "message": "API key verified", "is_valid": true, "key_id": id, "status": "active",
        "scopes": ["read:users", "write:users"], "org_code": "org_1", "user_id": "kp_1", "last_verified_on": null,
        "verification_count": 0, "expires_on": "2999-01-01T00:00:00Z", "allow_from": ["10.0.0.0/8"],
        "api_ids": ["7ccd126599aa422a771abcb341596881"], "limit": {"requests": 5, "per_ms": 60000},
    });
    assert_eq!(verified, expected);

    let got = keys.admin("GET", &path, Value::Null).await;
    assert_eq!(got.status, 200);
    let record = got.json()["api_key"].clone();
    for (field, value) in [
        ("name", json!("né 😀")),
        ("type", json!("user")),
        ("status", json!("active")),
        ("key_prefix", json!("kw_live")),
        ("key_suffix", json!(secret[secret.len() - 4..])),
        ("created_by", json!("admin")),
        ("organization_id", json!("org_1")),
        ("user_id", json!("kp_1")),
        ("metadata", json!({"plan": "gold"})),
        ("last_verified_ip", Value::Null),
    ] {
        assert_eq!(record[field], value, "{field}");
    }
    let listed = keys.admin("GET", "/api/v1/api_keys?key_type=user", Value::Null).await;
    assert_eq!(listed.json()["api_keys"], json!([record]));
    assert!(!got.text().contains(&secret) && !listed.text().contains(&secret));

    let rotated = keys.admin("PUT", &path, Value::Null).await;
    assert_eq!((rotated.status, &rotated.json()["code"]), (201, &json!("API_KEY_ROTATED")));
    assert_eq!(rotated.json()["api_key"]["id"], json!(id));
    let second = text(&rotated.json()["api_key"]["key"]);
    assert_eq!(keys.verify(&secret).await["is_valid"], json!(false));
    assert_eq!(keys.verify(&second).await["is_valid"], json!(true));

    let graceful = keys.admin("PUT", &path, json!({"grace_period_seconds": 3600})).await.json();
    let third = text(&graceful["api_key"]["key"]);
    let former = keys.verify(&second).await;
    assert_eq!((&former["is_valid"], &former["expires_on"]), (&json!(true), &graceful["grace_until"]));
    assert_eq!(keys.verify(&third).await["is_valid"], json!(true));

    let deleted = keys.admin("DELETE", &format!("{path}?reason=was%20published"), Value::Null).await;
    let fact = |answer: &Answer, field: &str| answer.json()[field].clone();
    assert_eq!(
        (deleted.status, fact(&deleted, "code"), fact(&deleted, "message")),
        (200, "OK".into(), "Success".into())
    );
    let again = keys.admin("DELETE", &path, Value::Null).await;
    assert_eq!((again.status, fact(&again, "already_revoked")), (200, json!(true)));
    let gone = keys.verify(&third).await;
    assert_eq!(
        (&gone["is_valid"], &gone["status"], &gone["code"]),
        (&json!(false), &"revoked".into(), &"API_KEY_INVALID".into())
    );
    let record = keys.admin("GET", &path, Value::Null).await.json()["api_key"].clone();
    assert_eq!((&record["status"], &record["revoked_reason"]), (&"revoked".into(), &"was published".into()));
    let refused = keys.admin("PUT", &path, Value::Null).await;
    assert_eq!((refused.status, &refused.json()["errors"][0]["code"]), (400, &json!("API_KEY_REVOKED")));
}

#[tokio::test]
async fn an_unknown_key_is_told_as_such_and_nothing_more() {
    let keys = Keys::start().await;
    let (_, real) = keys.create("a").await;
    let other = format!("{}{}", &real[..12], &real[12..].chars().rev().collect::<String>());
    for key in ["", "k_live_0123456789abcdef", &other, "ключ", &"x".repeat(100_000)] {
        let answer = keys.verify(key).await;
        let expected = json!({"code": "API_KEY_INVALID", "message": "API key is not valid", "is_valid": false});
        assert_eq!(answer, expected, "{key}");
    }
}

#[tokio::test]
async fn lists_come_in_pages_and_can_be_filtered() {
    let keys = Keys::start().await;
    let mut ids = Vec::new();
    for n in 0..5 {
        let owner = if n % 2 == 0 { json!({"org_code": "org_even"}) } else { json!({"user_id": "kp_odd"}) };
        let mut asked = owner;
        asked["name"] = format!("key {n}").into();
        let made = keys.admin("POST", "/api/v1/api_keys", asked).await;
        assert_eq!(made.status, 201, "{}", made.text());
        ids.push(text(&made.json()["api_key"]["id"]));
    }
    keys.admin("DELETE", &format!("/api/v1/api_keys/{}", ids[0]), Value::Null).await;
    let list = async |query: &str| {
        let answer = keys.admin("GET", &format!("/api/v1/api_keys{query}"), Value::Null).await;
        assert_eq!(answer.status, 200, "{query}: {}", answer.text());
        answer.json()
    };
    let names = |page: &Value| -> Vec<String> {
        page["api_keys"].as_array().expect("keys").iter().map(|key| text(&key["name"])).collect()
    };
    let mut seen = Vec::new();
    let mut query = "?page_size=2".to_owned();
    loop {
        let page = list(&query).await;
        seen.extend(names(&page));
        if page["has_more"] == json!(false) {
            assert_eq!(page["next_token"], Value::Null);
            break;
        }
        let last = text(&page["api_keys"].as_array().and_then(|keys| keys.last()).expect("a key")["id"]);
        assert_eq!(page["next_token"], json!(last));
        // Both names of the same thing.
        let name = if seen.len() == 2 { "starting_after" } else { "next_token" };
        query = format!("?page_size=2&{name}={last}");
    }
    seen.sort();
    assert_eq!(seen, ["key 0", "key 1", "key 2", "key 3", "key 4"]);
    for (query, count) in [
        ("", 5),
        ("?key_type=organization", 3),
        ("?key_type=user", 2),
        ("?status=revoked", 1),
        ("?status=active", 4),
        ("?status=inactive", 0),
        ("?org_code=org_even&status=active", 2),
        ("?user_id=kp_odd&key_type=organization", 0),
        ("?name_prefix=key+3", 1),
        ("?user_id=&org_code=&page_size=500", 5),
    ] {
        assert_eq!(names(&list(query).await).len(), count, "{query}");
    }
}

#[tokio::test]
async fn a_list_is_imported_by_its_hashes_all_or_nothing() {
    let keys = Keys::start().await;
    let sha256 = |key: &str| -> String { Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect() };
    let line = |key: &str, id: &str| {
        json!({"sha256": sha256(key), "id": format!("api_key_{id:0>32}"), "name": key, "org_code": "o",
            "limit": {"requests": 5, "per_ms": 1000}})
        .to_string()
    };
    let send = async |list: String| {
        keys.ask("POST", "/api/v1/api_keys/import").key(ADMIN).body("application/x-ndjson", list).send().await
    };
    assert_eq!(keys.verify("sk-one").await["is_valid"], json!(false));

    // One bad line, and nothing of the others: neither those before it nor those behind it.
    let bad =
        send([line("sk-one", "1"), r#"{"sha256": "sk-secret", "name": "n"}"#.into(), line("sk-two", "2")].join("\n"));
    let bad = bad.await;
    let hash = "`sha256` must be 64 hex digits, and never the key itself";
    assert_eq!(
        (bad.status, bad.json()),
        (400, json!({"errors": [{"code": "INVALID_LINE", "message": hash, "line": 2}]}))
    );
    // What only the store can see.
    let twice = send([line("sk-one", "1"), line("sk-one", "2")].join("\n")).await;
    let errors = twice.json()["errors"].clone();
    assert_eq!((twice.status, &errors[0]["line"], &errors[1]), (400, &json!(2), &Value::Null), "{errors}");
    assert_eq!(keys.admin("GET", "/api/v1/api_keys", Value::Null).await.json()["api_keys"], json!([]));
    assert_eq!(keys.verify("sk-one").await["is_valid"], json!(false));

    let list = [line("sk-one", "1"), line("sk-two", "2")].join("\n");
    for (added, known) in [(2, 0), (0, 2)] {
        let done = send(list.clone()).await;
        let expected = json!({"code": "OK", "message": "Success", "added": added, "known": known});
        assert_eq!((done.status, done.json()), (200, expected));
    }
    // At once, although no key of such a form was known before.
    let known = keys.verify("sk-two").await;
    assert_eq!((&known["is_valid"], &known["limit"]["requests"]), (&json!(true), &json!(5)));
    let reader =
        keys.ask("POST", "/api/v1/api_keys/import").key(READER).body("application/x-ndjson", list).send().await;
    assert_eq!((reader.status, &reader.json()["errors"][0]["code"]), (403, &json!("SCOPE_MISSING")));
}

#[tokio::test]
async fn tokens_are_exchanged_at_a_reload_without_a_restart() {
    let keys = Keys::start().await;
    let status = async |token: &str| keys.ask("GET", "/api/v1/api_keys").key(token).send().await.status;
    assert_eq!(status(READER).await, 200);
    let tokens = keys.tokens.lines().filter(|line| !line.contains("reader")).collect::<Vec<_>>().join("\n");
    keys.server.reload(compile(keys.dir.path(), &tokens, "", ""));
    assert_eq!((status(READER).await, status(ADMIN).await), (401, 200));
}

#[tokio::test]
async fn a_service_under_load_stops_in_order() {
    let keys = Keys::start().await;
    let (_, key) = keys.create("a").await;
    for _ in 0..3 {
        assert_eq!(keys.verify(&key).await["is_valid"], json!(true));
    }
    let dir = keys.dir;
    within("the stop", keys.server.stop()).await;
    // Uses are on disk when the process has ended.
    let store =
        keyward::keys::Store::open(&dir.path().join("keys.db"), keyward::keys::Peppers::default()).expect("a store");
    let page = store.page(&keyward::keys::KeyFilter::default(), None, 10).expect("a page");
    assert_eq!(page.keys[0].use_count, 3);
}
