//! The binary as its user meets it: commands, exit codes, signals, and what it never prints.

use std::fs;
use std::path::Path;
use std::time::Duration;

use keyward::time::Clock;
use tempfile::TempDir;

use crate::harness::{Origin, Process, Reply, Request, keyward, keyward_in, ready_address, report, repository};

/// A configuration before `origin`, in a directory of its own.
fn configured(origin: &Origin, extra: &str) -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    write_config(dir.path(), origin, extra);
    dir
}

fn write_config(dir: &Path, origin: &Origin, extra: &str) {
    let config = format!(
        "
listen: {{address: '127.0.0.1:0'}}
health: {{address: '127.0.0.1:0'}}
upstreams: {{ai: {{endpoints: ['http://{}']}}}}
keys: {{store: {{url: 'sqlite://keys.db'}}}}
defaults: {{upstream: ai}}
{extra}
",
        origin.address
    );
    fs::write(dir.join("proxy.yaml"), config).expect("a file");
}

const ROUTES: &str = "routes: [{id: chat, path: /ai/chat, methods: [POST], scopes: [write:ai_chat]}]";

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

#[test]
fn check_prints_the_table_of_a_good_file() {
    let output = keyward_in(repository(), &["check", "--config", "proxy.yaml"]);
    let table = text(&output.stdout);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()), "{table}");
    for part in [
        "METHOD",
        "PATH",
        "SCOPES",
        "LIMITS",
        "UPSTREAM",
        "/ai/chat",
        "write:ai_chat",
        "ai 50/15m by key",
        "sanitize: seed",
        "any of read:ai_chats, admin:ai",
        "http://127.0.0.1:8000",
    ] {
        assert!(table.contains(part), "{part} is missing in\n{table}");
    }
}

#[test]
fn check_reports_every_mistake_at_once() {
    let output = keyward_in(repository(), &["check", "--config", "tests/config/twelve-mistakes.yaml"]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), String::new()));
    let report = text(&output.stderr);
    let places: Vec<&str> =
        report.lines().filter(|line| line.starts_with("tests/config/twelve-mistakes.yaml:")).collect();
    assert_eq!(places.len(), 12, "{report}");
    for place in places {
        let mut parts = place.split(':').skip(1);
        let (line, column) = (parts.next().expect("a line"), parts.next().expect("a column"));
        assert!(line.parse::<u32>().is_ok_and(|line| line > 0), "{place}");
        assert!(column.parse::<u32>().is_ok_and(|column| column > 0), "{place}");
    }
    assert!(report.trim_end().ends_with("12 mistakes in tests/config/twelve-mistakes.yaml"), "{report}");
}

#[test]
fn a_bad_configuration_never_starts() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("proxy.yaml"), "routes: [").expect("a file");
    for command in [&["run"][..], &["check"], &["keys", "list"]] {
        let output = keyward_in(dir.path(), command);
        assert_eq!(output.status.code(), Some(2), "{command:?}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains("proxy.yaml:1:"), "{}", text(&output.stderr));
    }
    let missing = keyward_in(dir.path(), &["run", "--config", "nothing.yaml"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(text(&missing.stderr).contains("nothing.yaml"), "{}", text(&missing.stderr));
}

#[tokio::test]
async fn keys_made_and_revoked_by_command_count_in_a_running_proxy() {
    let origin = Origin::json("{}").await;
    let dir = configured(&origin, ROUTES);
    let proxy = Process::start(keyward().current_dir(&dir).arg("run"));
    let address = ready_address(&proxy.wait_for("keyward is ready"), "proxy");
    let made = keyward_in(
        dir.path(),
        &["keys", "create", "--name", "Customer ABC", "--org-code", "org_abc", "--scope", "write:ai_chat", "--json"],
    );
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    let made: serde_json::Value = serde_json::from_slice(&made.stdout).expect("one line of JSON");
    let (id, key) = (made["id"].as_str().expect("an id"), made["key"].as_str().expect("a key"));
    assert_eq!(made.as_object().expect("an object").len(), 2);

    let request = Request::new(address, "POST", "/ai/chat").key(key).json("{}");
    assert_eq!(request.send().await.status, 200);
    assert_eq!(origin.only().head.field("x-org-code"), Some("org_abc"));

    let listed = text(&keyward_in(dir.path(), &["keys", "list"]).stdout);
    assert!(listed.contains(id) && listed.contains("Customer ABC") && !listed.contains(key), "{listed}");

    let revoked = keyward_in(dir.path(), &["keys", "revoke", id]);
    assert_eq!(revoked.status.code(), Some(0), "{}", text(&revoked.stderr));
    let clock = Clock::system();
    let since = clock.now().monotonic;
    let waited = || clock.now().monotonic.duration_since(since);
    while request.send().await.status != 401 {
        assert!(waited() < Duration::from_secs(5), "a revoked key is still accepted");
    }
    report(format_args!("a revocation by command: refused {:?} after the command had ended", waited()));
}

#[tokio::test]
async fn signals_reload_and_stop() {
    let origin = Origin::json("{}").await;
    let dir = configured(&origin, "routes: [{id: old, path: /old, public: true}]");
    let mut proxy = Process::start(keyward().current_dir(&dir).arg("run"));
    let address = ready_address(&proxy.wait_for("keyward is ready"), "proxy");
    let status = async |path: &str| Request::new(address, "GET", path).send().await.status;
    assert_eq!((status("/old").await, status("/new").await), (200, 401));
    write_config(dir.path(), &origin, "routes: [{id: broken, paht: /x}]");
    proxy.signal("HUP");
    proxy.wait_for("did you mean `path`?");
    assert_eq!(status("/old").await, 200, "a bad file keeps the last good one");
    write_config(dir.path(), &origin, "routes: [{id: new, path: /new, public: true}]");
    proxy.signal("HUP");
    proxy.wait_for("the new configuration is in force");
    assert_eq!((status("/old").await, status("/new").await), (401, 200));
    proxy.signal("TERM");
    assert_eq!(proxy.wait().code(), Some(0), "{}", proxy.said());
    let is_record = |line: &&str| serde_json::from_str::<serde_json::Value>(line).is_ok();
    assert_eq!(
        proxy.said().lines().filter(is_record).count(),
        5,
        "each request has its line on standard output: {}",
        proxy.said()
    );
}

#[tokio::test]
async fn nothing_that_is_printed_holds_a_key_or_a_body() {
    let origin = Origin::json(r#"{"answer":"a-secret-answer"}"#).await;
    let dir = configured(&origin, ROUTES);
    let mut proxy = Process::start(keyward().current_dir(&dir).arg("run").env("KEYWARD_LOG", "trace"));
    let ready = proxy.wait_for("keyward is ready");
    let (address, health) = (ready_address(&ready, "proxy"), ready_address(&ready, "health"));
    let created = keyward_in(
        dir.path(),
        &["keys", "create", "--name", "n", "--user-id", "kp_1", "--scope", "write:ai_chat", "--json"],
    );
    let created: serde_json::Value = serde_json::from_slice(&created.stdout).expect("JSON");
    let key = created["key"].as_str().expect("a key").to_owned();
    let wrong = format!("{}X", &key[..key.len() - 1]);
    for (key, body) in [
        (&key, r#"{"message":"a-secret-prompt"}"#),
        (&wrong, "{}"),
        (&key, r#"{"message":"<script>a-secret-prompt"}"#),
        (&key, "{a-secret-prompt"),
    ] {
        Request::new(address, "POST", "/ai/chat").key(key).header("X-Api-Key", key).json(body).send().await;
    }
    Request::new(address, "POST", "/ai/chat").key(&key).header("X-Api-Key", &wrong).json("{}").send().await;
    let metrics = Request::new(health, "GET", "/metrics").send().await.text();
    proxy.signal("TERM");
    proxy.wait();
    let said = proxy.said() + &metrics;
    assert!(said.contains("AI_INPUT_BLOCKED") && said.contains("AMBIGUOUS_KEY"), "{said}");
    let secret_part = key.rsplit('_').next().expect("a secret part");
    for secret in [&secret_part[..20], "a-secret"] {
        assert!(!said.contains(secret), "{secret} was printed:\n{said}");
    }
    for file in fs::read_dir(&dir).expect("the directory") {
        let bytes = fs::read(file.expect("an entry").path()).expect("a file");
        assert!(!bytes.windows(20).any(|window| window == &secret_part.as_bytes()[..20]), "a file holds the key");
    }
}

#[tokio::test]
async fn a_slow_response_is_a_warning_and_a_failed_one_an_error() {
    let origin = Origin::answering(|request| {
        let clock = Clock::system();
        let begun = clock.now().monotonic;
        while clock.now().monotonic.duration_since(begun) < Duration::from_millis(5) {
            std::hint::spin_loop();
        }
        let status = if request.head.first_line.contains("failing") { 500 } else { 200 };
        Reply::new(status, "application/json", "{}")
    })
    .await;
    let routes = "routes: [{id: slow, path: /slow, public: true, slow: 1ms}, {id: fine, path: /**, public: true}]";
    let dir = configured(&origin, routes);
    let proxy = Process::start(keyward().current_dir(&dir).arg("run"));
    let address = ready_address(&proxy.wait_for("keyward is ready"), "proxy");
    for path in ["/fine", "/slow", "/failing"] {
        Request::new(address, "GET", path).send().await;
    }
    let slow = proxy.wait_for("Slow AI response");
    assert!(slow.contains("WARN") && slow.contains("route=\"slow\"") && slow.contains("threshold_ms=1"), "{slow}");
    let failed = proxy.wait_for("AI request failed");
    assert!(failed.contains("ERROR") && failed.contains("status=500"), "{failed}");
    assert_eq!(proxy.said().matches("Slow AI response").count(), 1, "{}", proxy.said());
}

#[test]
fn a_taken_port_is_explained() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let dir = tempfile::tempdir().expect("a directory");
    let config = format!(
        "listen: {{address: '127.0.0.1:{port}'}}\nupstreams: {{ai: {{endpoints: ['http://127.0.0.1:1']}}}}\n\
         defaults: {{upstream: ai}}\nroutes: [{{id: all, path: /**, public: true}}]\n"
    );
    fs::write(dir.path().join("proxy.yaml"), config).expect("a file");
    let output = keyward_in(dir.path(), &["run"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains(&format!("port {port}")), "{}", text(&output.stderr));
}

#[test]
fn schema_prints_a_json_schema_of_the_configuration() {
    let output = keyward_in(repository(), &["schema"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["properties"]["routes"]["items"]["$ref"], "#/$defs/routes");
    assert_eq!(schema["$defs"]["routes"]["properties"]["public"]["description"], "Open to everybody");
}
