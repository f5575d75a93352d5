//! The store under a running `keyward`: imported keys, older and newer files, purges.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use keyward::time::Clock;
use rusqlite::Connection;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::harness::{Answer, Origin, Process, Request, keyward, keyward_in, ready_address, report, within};

const INVALID: &str = "401 INVALID_KEY";
const UNAVAILABLE: &str = "503 VERIFIER_UNAVAILABLE";
const PASSED: &str = "200";

const ROUTES: &str = "routes: [{id: chat, path: /ai/**, scopes: [write:ai_chat]}, {id: any, path: /**, scopes: []}]";

/// A directory with a configuration, before `origin`.
struct Place {
    dir: TempDir,
    origin: SocketAddr,
}

/// A running `keyward`.
struct Running {
    process: Process,
    proxy: SocketAddr,
    admin: SocketAddr,
    health: SocketAddr,
}

impl Place {
    fn before(origin: &Origin) -> Self {
        let place = Self { dir: tempfile::tempdir().expect("a directory"), origin: origin.address };
        place.file("token", "the-admin-token");
        place.configure("");
        place
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn file(&self, name: &str, content: &str) {
        fs::write(self.path().join(name), content).expect("a file");
    }

    /// Writes `proxy.yaml` with more to say about the store.
    fn configure(&self, store: &str) {
        self.file("proxy.yaml", &self.config(store, "127.0.0.1:0"));
    }

    fn config(&self, store: &str, admin: &str) -> String {
        format!(
            "
listen: {{address: '127.0.0.1:0'}}
admin: {{address: '{admin}', token: {{file: token}}}}
health: {{address: '127.0.0.1:0'}}
upstreams: {{ai: {{endpoints: ['http://{}']}}}}
keys: {{cache: {{refresh_ahead: false}}, store: {{url: 'sqlite://keys.db'{store}}}}}
defaults: {{upstream: ai}}
{ROUTES}
",
            self.origin
        )
    }

    /// What a command that works says.
    fn keys(&self, arguments: &[&str]) -> String {
        let output = keyward_in(self.path(), &[&["keys"], arguments].concat());
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.keys(&[arguments, &["--json"]].concat())).expect("JSON")
    }

    /// What `keyward` says that fails.
    fn fails(&self, arguments: &[&str]) -> String {
        let output = keyward_in(self.path(), arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        String::from_utf8(output.stderr).expect("text")
    }

    /// Makes a key; its id and text.
    fn create(&self, more: &[&str]) -> (String, String) {
        let made =
            self.json(&[&["create", "--name", "n", "--org-code", "org_1", "--scope", "write:ai_chat"], more].concat());
        (text(&made, "id"), text(&made, "key"))
    }

    fn run(&self) -> Running {
        let process = Process::start(keyward().current_dir(self.path()).arg("run").env("KEYWARD_LOG", "trace"));
        let ready = process.wait_for("keyward is ready");
        let [proxy, admin, health] = ["proxy", "admin", "health"].map(|name| ready_address(&ready, name));
        Running { process, proxy, admin, health }
    }

    fn tamper(&self, sql: &str) {
        let connection = Connection::open(self.path().join("keys.db")).expect("a database");
        connection.execute_batch(sql).expect("good SQL");
    }
}

impl Running {
    async fn send(&self, key: &str) -> Answer {
        Request::new(self.proxy, "GET", "/ai/chat").key(key).send().await
    }

    async fn outcome(&self, key: &str) -> String {
        let answer = self.send(key).await;
        if answer.status == 200 { PASSED.to_owned() } else { format!("{} {}", answer.status, answer.code()) }
    }

    /// Asks until the answer is `wanted`, and prints how long that took.
    async fn until(&self, key: &str, wanted: &str, what: &str) {
        let clock = Clock::system();
        let since = clock.now().monotonic;
        within(what, async { while self.outcome(key).await != wanted {} }).await;
        report(format_args!("{what}: seen {:?} after it was done", clock.now().monotonic.duration_since(since)));
    }

    async fn metrics(&self) -> String {
        Request::new(self.health, "GET", "/metrics").send().await.text()
    }

    async fn misses(&self) -> f64 {
        let line = r#"keyward_key_cache_total{result="miss"} "#;
        let metrics = self.metrics().await;
        metrics.lines().find_map(|known| known.strip_prefix(line)).map_or(0.0, |value| value.parse().expect("a number"))
    }

    /// Stops it as a supervisor does; everything that it has printed.
    fn stop(mut self) -> String {
        self.process.signal("TERM");
        assert_eq!(self.process.wait().code(), Some(0), "{}", self.process.said());
        self.process.said()
    }
}

fn text(answer: &Value, field: &str) -> String {
    answer[field].as_str().expect("text").to_owned()
}

fn sha256(key: &str) -> String {
    Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A line of a list to be imported.
fn imported(key: &str) -> String {
    json!({"sha256": sha256(key), "name": key[..4], "org_code": "org_1", "scopes": ["write:ai_chat"]}).to_string()
}

#[tokio::test]
async fn imported_keys_open_under_a_running_proxy_and_uses_are_written_at_its_end() {
    let origin = Origin::json("{}").await;
    let place = Place::before(&origin);
    let running = place.run();
    let legacy = ["sk-legacy-key-1", "k_live_0123456789", "eyJhbGciOiJIUzI1NiJ9.e30.c2ln"];
    for key in legacy {
        assert_eq!(running.outcome(key).await, INVALID, "{key}");
    }
    let own = "kw_live_without-a-checksum";
    let list: Vec<String> = legacy.iter().chain([&own]).map(|key| imported(key)).collect();
    place.file("list.jsonl", &list.join("\r\n"));
    assert_eq!(place.json(&["import", "list.jsonl"]), json!({"added": 4, "known": 0}));
    running.until(legacy[0], PASSED, "an import by another process").await;
    for key in legacy {
        assert_eq!(running.outcome(key).await, PASSED, "{key}");
    }
    assert_eq!(running.outcome(own).await, INVALID, "what begins with our prefix needs our checksum");
    assert_eq!(running.outcome("sk-legacy-key-2").await, INVALID);
    assert_eq!(origin.received().last().and_then(|request| request.head.field("x-org-code")), Some("org_1"));

    let listed = place.json(&["list"]);
    let id = |name: &str| {
        text(listed.as_array().and_then(|all| all.iter().find(|key| key["name"] == name)).expect("it"), "id")
    };
    place.json(&["revoke", &id("eyJh")]);
    running.until(legacy[2], INVALID, "the revocation of an imported key").await;
    let new = text(&place.json(&["rotate", &id("k_li"), "--grace", "1h"]), "key");
    assert_eq!((running.outcome(&new).await, running.outcome(legacy[1]).await), (PASSED.into(), PASSED.into()));

    let (made, key) = place.create(&[]);
    for _ in 0..3 {
        assert_eq!(running.outcome(&key).await, PASSED);
    }
    assert_eq!(Request::new(running.proxy, "GET", "/ai/x").key("kw_live_typo").send().await.status, 401);
    running.stop();
    let shown = place.json(&["show", &made]);
    assert_eq!(shown["verification_count"], 3);
    assert!(shown["last_verified_on"].is_string(), "{shown}");
    assert!(place.keys(&["show", &made]).contains("3 times, last on "), "{}", place.keys(&["show", &made]));
    assert_eq!(place.json(&["show", &id("k_li")])["verification_count"], 3, "all texts of a key count as one");
}

/// A store as the first release left it, with one key: `kw_live_0123456789ABCDEFGHIJKLMNOPQRST19V1x7`.
fn first_release(place: &Place) {
    place.tamper(include_str!("../../src/keys/schema/v1.sql"));
    place.tamper(
        "INSERT INTO api_keys VALUES ('api_key_0195ac80a14e8d71f42b98e75d3c61ad',
             x'5da55f33f7fd263ebcc64a23e63e94ccccf80e7a17a47265fbfd79564f60364d', 'hmac-sha256', 'Größe',
             'organization', 'org_1', NULL, '[\"write:ai_chat\"]', 'kw_live', 'V1x7', 'active', 1700000000000, NULL,
             NULL, NULL);
         PRAGMA user_version = 1; PRAGMA application_id = 1264013892;",
    );
}

#[tokio::test]
async fn a_store_of_the_first_release_goes_on_and_one_of_a_later_release_is_refused() {
    let origin = Origin::json("{}").await;
    let place = Place::before(&origin);
    first_release(&place);
    let key = "kw_live_0123456789ABCDEFGHIJKLMNOPQRST19V1x7";
    let running = place.run();
    assert_eq!(running.outcome(key).await, PASSED);
    let shown = place.json(&["show", "api_key_0195ac80a14e8d71f42b98e75d3c61ad"]);
    assert_eq!((&shown["name"], &shown["created_on"]), (&json!("Größe"), &json!("2023-11-14T22:13:20Z")));
    let new = text(&place.json(&["rotate", "api_key_0195ac80a14e8d71f42b98e75d3c61ad", "--grace", "1h"]), "key");
    assert_eq!((running.outcome(&new).await, running.outcome(key).await), (PASSED.into(), PASSED.into()));

    // A later release takes the file over under a running proxy: what it read before is not believed any longer.
    place.tamper("PRAGMA user_version = 99");
    running.until(key, UNAVAILABLE, "a later schema").await;
    assert_eq!(running.outcome(&new).await, UNAVAILABLE);
    let expected = "a later release of keyward wrote it (schema 99, this release knows ";
    running.process.wait_for(expected);
    // Whoever closes the file last moves its log into it.
    running.stop();
    let before = fs::read(place.path().join("keys.db")).expect("the file");
    for command in [&["run"][..], &["keys", "list"], &["keys", "create", "--name", "n", "--org-code", "o"]] {
        let said = place.fails(command);
        assert!(said.contains(expected) && said.contains("run that release or a later one"), "{said}");
    }
    assert_eq!(fs::read(place.path().join("keys.db")).expect("the file"), before, "it is left as it was");
}

#[tokio::test]
async fn a_purge_by_command_makes_the_proxy_ask_again() {
    let origin = Origin::json("{}").await;
    let place = Place::before(&origin);
    let (id, key) = place.create(&[]);
    let running = place.run();
    let admin = format!("{}", running.admin);
    place.file("known.yaml", &place.config("", &admin));
    let purge = |arguments: &[&str]| place.keys(&[&["purge", "--config", "known.yaml"], arguments].concat());
    assert_eq!(running.outcome(&key).await, PASSED);
    for (arguments, is_asked) in [
        (&["--key", id.as_str()][..], true),
        (&["--org", "org_1"], true),
        (&["--org-code", "org_2"], false),
        (&["--key", "api_key_0195ac80a14e8d71f42b98e75d3c61ad"], false),
        (&["--all"], true),
    ] {
        let before = running.misses().await;
        assert_eq!(purge(arguments), "Purged.\n");
        assert_eq!(running.outcome(&key).await, PASSED);
        assert_eq!(running.misses().await - before, f64::from(u8::from(is_asked)), "{arguments:?}");
    }
    assert_eq!(purge(&["--all", "--json"]), "{\"purged\": true}\n");

    // The command tells what is wrong on the way.
    let fails = |arguments: &[&str]| place.fails(&[&["keys", "purge", "--config", "known.yaml"], arguments].concat());
    assert!(fails(&["--key", &key]).contains("shows the ids"), "a key is no id");
    place.file("token", "another-token");
    let refused = format!("keyward: the admin API at {admin} refuses `admin.token`: the proxy runs with another one\n");
    assert_eq!(fails(&["--all"]), refused);
    place.file("known.yaml", &place.config("", &format!("{}", running.health)));
    let said = fails(&["--all"]);
    assert!(said.contains("answered with status 405"), "{said}");
    let said = running.stop();
    assert!(!said.contains(&key[8..28]), "{said}");
    assert!(fails(&["--all"]).contains("cannot reach the admin API at "), "{}", fails(&["--all"]));
}
