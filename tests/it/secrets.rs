//! No key stands where it does not belong, in whatever form. The harness looks for whole keys in all that the whole
//! test run writes; here one `keyward` at its finest log level does everything that has to do with keys, and not even a
//! part of one may be found.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use base64ct::{Base64, Base64Url, Encoding};
use http_body_util::{BodyExt, Full};
use keyward::keys::{KeyPrefix, KeySecret, SystemRandom};
use memchr::memmem;
use regex::bytes::Regex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::harness::secrets::{files_of, find};
use crate::harness::{Answer, Connection, Origin, Process, Request, keyward, keyward_in, ready_address, within};
use crate::http2;

const TOKEN: &str = "the-one-admin-token-9c8f2b7d61e05a34";
const PEPPER: &str = "pepper-of-the-test-0f1e2d3c4b5a69788796a5b4c3d2e1f0";
/// Made elsewhere: it has no checksum of ours.
const LEGACY: &str = "sk-legacy-Zx81Qw27Er36Ty45Ui54Op63As72Df81";

const CONFIG: &str = "
listen: {address: '127.0.0.1:0'}
admin: {address: '127.0.0.1:0', token: {file: token}}
health: {address: '127.0.0.1:0'}
usage: {file: usage.jsonl}
upstreams: {ai: {endpoints: ['http://ORIGIN']}, dead: {endpoints: ['http://127.0.0.1:1']}}
keys:
  credentials: [bearer, x-api-key]
  store: {url: 'sqlite://keys.db', pepper: {file: pepper}}
  serve:
    address: 127.0.0.1:0
    tokens:
      all: {token: {file: token}, scopes: ['read:api_keys', 'create:api_keys', 'update:api_keys', 'delete:api_keys']}
defaults: {upstream: ai, request: {rules: [html], action: block}, response: {rules: [html], action: block}}
limits: {few: {requests: 3, per: 1h, by: key}}
routes:
  - {id: chat, path: /ai/chat, methods: [POST], scopes: [write:ai_chat]}
  - {id: other, path: /other, scopes: [admin]}
  - {id: dead, path: /dead, upstream: dead, request: {rules: []}, response: {rules: []}}
  - {id: few, path: /few, limits: [few]}
";

/// A `keyward` that proxies and serves keys, and everything that it has said.
struct Running {
    process: Process,
    dir: tempfile::TempDir,
    proxy: SocketAddr,
    admin: SocketAddr,
    health: SocketAddr,
    keys: SocketAddr,
    secrets: Vec<String>,
    said: Vec<(String, Vec<u8>)>,
}

impl Running {
    fn start(origin: &Origin) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let config = CONFIG.replace("ORIGIN", &origin.address.to_string());
        for (name, text) in [("proxy.yaml", config.as_str()), ("token", TOKEN), ("pepper", PEPPER)] {
            fs::write(dir.path().join(name), text).expect("a file");
        }
        let process = Process::start(keyward().current_dir(dir.path()).arg("run").env("KEYWARD_LOG", "trace"));
        let ready = process.wait_for("keyward is ready");
        let [proxy, admin, health, keys] = ["proxy", "admin", "health", "keys"].map(|name| ready_address(&ready, name));
        Self { process, dir, proxy, admin, health, keys, secrets: vec![LEGACY.to_owned()], said: Vec::new() }
    }

    fn hear(&mut self, what: &str, answer: &Answer) {
        self.said.push((what.to_owned(), [format!("{:?}", answer.head).as_bytes(), &answer.body].concat()));
    }

    /// Asks, and expects this status. The answer must show no key.
    async fn ask(&mut self, request: Request, status: u16) -> Answer {
        let answer = within("the answer", request.send()).await;
        let what = format!("the answer of status {status} from {}", request.address());
        assert_eq!(answer.status, status, "{}", answer.text());
        self.hear(&what, &answer);
        answer
    }

    fn api(&self, method: &str, target: &str) -> Request {
        Request::new(self.keys, method, target).key(TOKEN)
    }

    /// Asks for what shows a new key.
    async fn new_key(&mut self, request: Request) -> (String, String) {
        let answer = within("the answer", request.send()).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        self.learn(&answer.json()["api_key"])
    }

    fn learn(&mut self, key: &Value) -> (String, String) {
        let text = |field: &str| key[field].as_str().expect("text").to_owned();
        self.secrets.push(text("key"));
        (text("id"), text("key"))
    }

    /// Runs a command that shows no key.
    fn command(&mut self, arguments: &[&str], code: i32) {
        let output = keyward_in(self.dir.path(), &[&["keys"], arguments].concat());
        let said = [output.stdout, output.stderr].concat();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", String::from_utf8_lossy(&said));
        self.said.push((format!("`keys {}`", arguments[0]), said));
    }

    /// Runs a command that shows a new key.
    fn new_key_by_command(&mut self, arguments: &[&str]) -> (String, String) {
        let output = keyward_in(self.dir.path(), &[&["keys"], arguments, &["--json"]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        self.said.push((format!("standard error of `keys {}`", arguments[0]), output.stderr));
        self.learn(&serde_json::from_slice(&output.stdout).expect("JSON"))
    }

    fn hear_files(&mut self) {
        let files = files_of(self.dir.path());
        assert!(files.iter().any(|(name, bytes)| name == "keys.db" && !bytes.is_empty()), "the store is there");
        self.said.extend(files);
    }
}

/// The forms in which a key could stand somewhere: every long part of what is secret of it, and the encodings of it.
fn forms(secret: &str) -> Vec<Vec<u8>> {
    let body = secret.rsplit(['_', '-']).next().expect("a body").as_bytes();
    assert!(body.len() >= 30, "{secret}");
    let hex = |upper: bool| -> String {
        body.iter().map(|byte| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") }).collect()
    };
    // Whatever has 17 characters in a row has one of these.
    let mut forms: Vec<Vec<u8>> = body.windows(12).step_by(6).map(<[u8]>::to_vec).collect();
    forms.extend([hex(false).into_bytes(), hex(true).into_bytes()]);
    forms.push(body.iter().map(|byte| format!("%{byte:02X}")).collect::<String>().into_bytes());
    forms.push(format!("{body:?}").trim_matches(['[', ']']).as_bytes().to_vec());
    forms.push(body.iter().rev().copied().collect());
    for shift in 0..3 {
        // The body alone, at each place that it can have within a longer text that is encoded.
        let padded = [&b"xxx"[..shift], body].concat();
        let keep = |text: String| text.as_bytes()[4..text.len() - 4].to_vec();
        forms.extend([keep(Base64::encode_string(&padded)), keep(Base64Url::encode_string(&padded))]);
    }
    forms
}

/// Every form of some secrets, looked for in one pass: a log of the finest level has many MiB.
struct Forms {
    all: Vec<(usize, Vec<u8>)>,
    any: Regex,
}

impl Forms {
    fn of(secrets: &[String]) -> Self {
        let all: Vec<_> = secrets
            .iter()
            .enumerate()
            .flat_map(|(at, secret)| forms(secret).into_iter().map(move |form| (at, form)))
            .collect();
        let literal = |form: &[u8]| regex::escape(std::str::from_utf8(form).expect("ASCII"));
        let any = all.iter().map(|(_, form)| literal(form)).collect::<Vec<_>>().join("|");
        Self { all, any: Regex::new(&any).expect("a pattern") }
    }

    fn expect_none_in(&self, what: &str, bytes: &[u8]) {
        let Some(found) = self.any.find(bytes) else { return };
        let number = self.all.iter().find(|(_, form)| form == found.as_bytes()).map(|(number, _)| number);
        let before = String::from_utf8_lossy(&bytes[found.start().saturating_sub(200)..found.start()]);
        panic!("{what} holds a form of key {number:?}, behind this: {before}");
    }
}

#[test]
fn what_looks_for_keys_finds_them() {
    let key = KeySecret::generate(&KeyPrefix::default(), &mut SystemRandom).expect("randomness");
    let key = key.expose();
    for text in [key.to_owned(), format!("Bearer {key}\n"), format!("api_keyNULL{key}active"), format!("é_{key}é")] {
        assert!(find(text.as_bytes()).is_some(), "{}", text.len());
    }
    assert!(find(format!("{}x{}", &key[..20], &key[21..]).as_bytes()).is_none(), "what has a typo opens nothing");
    assert!(find(&key.as_bytes()[1..]).is_none());
    let secret = Forms::of(&[key.to_owned()]);
    let body = key.rsplit('_').next().expect("a body");
    let encoded = Base64::encode_string(format!("Authorization: Bearer {key}").as_bytes());
    let hex: String = body.bytes().map(|byte| format!("{byte:02x}")).collect();
    for leak in [key, body, &body[5..22], &encoded, &hex, &format!("{:?}", body.as_bytes())] {
        let found = std::panic::catch_unwind(|| secret.expect_none_in("a text", leak.as_bytes()));
        assert!(found.is_err(), "{} bytes", leak.len());
    }
    secret.expect_none_in("a text", format!("{}…{}", &key[..7], &body[32..]).as_bytes());
}

/// Between two questions: each is many lines of the finest log, all of which are looked through.
async fn seldom() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

#[tokio::test]
async fn nothing_that_a_running_keyward_writes_holds_any_part_of_a_key() {
    let origin = Origin::json(r#"{"answer": "fine"}"#).await;
    let mut it = Running::start(&origin);

    // Made, imported, rotated: by the API and by command.
    let create = |fields: Value| {
        let mut asked = json!({"name": "n", "org_code": "org_1", "scope_ids": ["write:ai_chat"]});
        asked.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        asked.to_string()
    };
    let (first_id, first) = it.new_key(it.api("POST", "/api/v1/api_keys").json(create(json!({})))).await;
    let limited = json!({"limit": {"requests": 1, "per_ms": 3_600_000}, "allow_from": ["127.0.0.0/8"]});
    let (_, limited) = it.new_key(it.api("POST", "/api/v1/api_keys").json(create(limited))).await;
    let (second_id, second) =
        it.new_key_by_command(&["create", "--name", "c", "--user-id", "kp_1", "--scope", "write:ai_chat"]);
    let sha256: String = Sha256::digest(LEGACY).iter().map(|byte| format!("{byte:02x}")).collect();
    let line = json!({"sha256": sha256, "name": "legacy", "org_code": "org_2", "scopes": ["write:ai_chat"]});
    fs::write(it.dir.path().join("list.jsonl"), line.to_string()).expect("a file");
    it.command(&["import", "list.jsonl"], 0);
    let path = format!("/api/v1/api_keys/{first_id}");
    let graceful = json!({"grace_period_seconds": 3600}).to_string();
    let (_, rotated) = it.new_key(it.api("PUT", &path).json(graceful)).await;
    let (_, rotated_again) = it.new_key_by_command(&["rotate", &second_id, "--grace", "1h"]);
    // Of the right form, and in no store.
    let nobodys = KeySecret::generate(&KeyPrefix::default(), &mut SystemRandom).expect("randomness");
    let nobodys = nobodys.expose().to_owned();
    let typo = format!("{}{}", &first[..first.len() - 1], if first.ends_with('0') { '1' } else { '0' });
    it.secrets.extend([nobodys.clone(), typo.clone()]);

    // At the proxy: passed and refused, in every place of a request.
    let (proxy, prompt) = (it.proxy, r#"{"message": "hello"}"#);
    let post = |key: &str, body: &str| Request::new(proxy, "POST", "/ai/chat").key(key).json(body);
    let chat = |key: &str| post(key, prompt);
    within("the import", async {
        while chat(LEGACY).send().await.status != 200 {
            seldom().await;
        }
    })
    .await;
    for key in [&first, &rotated, &second, &rotated_again] {
        it.ask(chat(key), 200).await;
    }
    it.ask(Request::new(proxy, "POST", "/ai/chat").header("X-Api-Key", &first).json(prompt), 200).await;
    for key in [&nobodys, &typo] {
        it.ask(chat(key), 401).await;
    }
    it.ask(chat(&first).header("X-Api-Key", &second), 400).await;
    it.ask(post(&first, &format!(r#"{{"message": "<script>{second}"}}"#)), 400).await;
    it.ask(Request::new(proxy, "POST", "/ai/chat").header("Authorization", &format!("Basic {first}")).json("{}"), 401)
        .await;
    it.ask(Request::new(proxy, "GET", &format!("/{first}?key={second}")).key(&first), 404).await;
    it.ask(Request::new(proxy, "GET", &format!("/{first}?key={second}")), 401).await;
    it.ask(Request::new(proxy, "GET", "/ai/chat").key(&first), 405).await;
    it.ask(Request::new(proxy, "GET", "/other").key(&first), 403).await;
    it.ask(Request::new(proxy, "GET", "/dead").key(&first), 503).await;
    it.ask(Request::new(proxy, "GET", "/few").key(&limited), 200).await;
    it.ask(Request::new(proxy, "GET", "/few").key(&limited), 429).await;
    let mut raw = Connection::to(proxy).await;
    raw.write(format!("GET /ai/chat HTTP/1.1\r\nAuthorization: Bearer {first}\r\nnot a header: {first}\r\n\r\n")).await;
    let broken = within("the answer", raw.answer("GET")).await;
    assert_eq!(broken.status, 400);
    it.hear("the answer to a broken head", &broken);
    let stream = tokio::net::TcpStream::connect(proxy).await.expect("a connection");
    let mut http2 = http2::Client::over(stream).await;
    for (key, status) in [(&first, 200), (&nobodys, 401)] {
        let request = http2::get("/ai/chat").method("POST").header("authorization", format!("Bearer {key}"));
        let request = request.header("content-type", "application/json").body(Full::from(prompt)).expect("a request");
        let answer = http2.send(request).await.expect("an answer");
        assert_eq!(answer.status(), status);
        let head = format!("{:?}", answer.headers()).into_bytes();
        let body = within("the body", answer.into_body().collect()).await.expect("a body").to_bytes();
        it.said.push(("an answer over HTTP/2".to_owned(), [&head, &body[..]].concat()));
    }

    // At the key service: verified, and pasted where something else belongs.
    let verify = |key: &str| json!({"api_key": key}).to_string();
    for (key, is_valid) in [(&first, true), (&rotated, true), (&nobodys, false), (&typo, false)] {
        let answer = it.ask(it.api("POST", "/api/v1/api_keys/verify").json(verify(key)), 200).await;
        assert_eq!(answer.json()["is_valid"], json!(is_valid));
    }
    it.ask(it.api("POST", "/api/v1/api_keys/verify").json(verify(LEGACY)), 200).await;
    for (method, target, body, status) in [
        ("GET", format!("/api/v1/api_keys/{first}"), String::new(), 404),
        ("PUT", format!("/api/v1/api_keys/{first}"), String::new(), 404),
        ("DELETE", format!("/api/v1/api_keys/{first}"), String::new(), 404),
        ("GET", format!("/{first}"), String::new(), 404),
        ("GET", format!("/api/v1/api_keys?starting_after={first}"), String::new(), 400),
        ("GET", format!("/api/v1/api_keys?{first}=1"), String::new(), 400),
        ("GET", format!("/api/v1/api_keys?status={first}"), String::new(), 400),
        ("POST", "/api/v1/api_keys/verify".to_owned(), format!(r#"{{"api_key": "{first}""#), 400),
        ("POST", "/api/v1/api_keys/verify".to_owned(), format!(r#"{{"{first}": 1, "api_key": ["{first}"]}}"#), 400),
        ("POST", "/api/v1/api_keys".to_owned(), create(json!({first.as_str(): 1, "type": first.as_str()})), 400),
        ("POST", "/api/v1/api_keys".to_owned(), create(json!({"expires_on": first.as_str()})), 400),
        ("POST", "/api/v1/api_keys".to_owned(), create(json!({"allow_from": [first.as_str()]})), 400),
    ] {
        let request = it.api(method, &target);
        it.ask(if body.is_empty() { request } else { request.json(body) }, status).await;
    }
    let (keys, admin, health) = (it.keys, it.admin, it.health);
    it.ask(Request::new(keys, "GET", "/api/v1/api_keys").key(&first), 401).await;
    let form = format!("grant_type=client_credentials&client_id=all&client_secret={first}");
    let form = Request::new(keys, "POST", "/oauth2/token").body("application/x-www-form-urlencoded", form);
    it.ask(form, 401).await;
    it.ask(it.api("GET", "/api/v1/api_keys"), 200).await;
    it.ask(it.api("GET", &path), 200).await;

    // By command, pasted where an id belongs, or into a list to be imported.
    for command in ["show", "rotate", "revoke"] {
        it.command(&[command, &first], 1);
    }
    it.command(&["purge", "--key", &first], 1);
    it.command(&["list", "--after", &first], 1);
    for (name, line) in [("pasted.jsonl", json!({"sha256": first, "name": "n"})), ("word.jsonl", json!(first))] {
        fs::write(it.dir.path().join(name), line.to_string()).expect("a file");
        it.command(&["import", name], 1);
    }
    it.command(&["list", "--json"], 0);
    it.command(&["show", &second_id], 0);
    it.command(&["peppers"], 0);

    // Revoked, and refused; purged.
    it.ask(it.api("DELETE", &format!("{path}?reason=was%20lost")), 200).await;
    it.command(&["revoke", &second_id, "--reason", "was lost"], 0);
    for key in [&first, &rotated, &second, &rotated_again] {
        within("the revocation", async {
            while chat(key).send().await.status != 401 {
                seldom().await;
            }
        })
        .await;
        it.ask(chat(key), 401).await;
        it.ask(it.api("POST", "/api/v1/api_keys/verify").json(verify(key)), 200).await;
    }
    for what in
        [json!({"key_id": first}), json!({"key_id": first_id}), json!({first.as_str(): 1}), json!({"all": true})]
    {
        let request = Request::new(admin, "POST", "/cache/purge").key(TOKEN).json(what.to_string());
        let answer = within("the answer", request.send()).await;
        it.hear("the answer to a purge", &answer);
    }
    it.ask(Request::new(admin, "GET", &format!("/{first}")).key(&first), 401).await;
    for path in ["/metrics", "/readyz", "/livez"] {
        it.ask(Request::new(health, "GET", path), 200).await;
        it.ask(Request::new(admin, "GET", path).key(TOKEN), 200).await;
    }

    // The store as it is while it is open, with its log; and when it is closed.
    it.hear_files();
    it.process.signal("TERM");
    assert_eq!(it.process.wait().code(), Some(0));
    it.hear_files();
    it.said.push(("the log".to_owned(), it.process.all_said().into_bytes()));
    let log = String::from_utf8_lossy(&it.said.last().expect("the log").1).into_owned();
    for part in ["TRACE", "DEBUG", "a key was changed"] {
        assert!(log.contains(part), "the log says nothing of {part}");
    }
    let mut records = it.said.iter().filter(|(name, _)| name == "usage.jsonl").map(|(_, bytes)| bytes);
    let records = String::from_utf8_lossy(records.next_back().expect("records")).into_owned();
    for code in ["INVALID_KEY", "AMBIGUOUS_KEY", "AI_INPUT_BLOCKED", "INSUFFICIENT_SCOPE", "UPSTREAM_UNREACHABLE"] {
        assert!(records.contains(code), "no record of {code}");
    }
    let forms = Forms::of(&it.secrets);
    for (what, bytes) in &it.said {
        forms.expect_none_in(what, bytes);
    }
    for secret in [TOKEN, PEPPER] {
        for (what, bytes) in &it.said {
            assert!(memmem::find(bytes, secret.as_bytes()).is_none(), "{what} holds a secret of the configuration");
        }
    }
}
