//! `keyward keys … --url`: the same commands, and the same output, as on the store itself.

use std::process::Output;

use serde_json::Value;

use super::{ADMIN, Keys, READER};
use crate::harness::{Origin, Proxy, keyward_in};

impl Keys {
    /// Runs `keyward keys` in the service's directory; off this thread, on which the service runs.
    async fn command(&self, arguments: &[&str]) -> Output {
        let dir = self.dir.path().to_owned();
        let arguments: Vec<String> = ["keys"].iter().chain(arguments).map(|text| (*text).to_owned()).collect();
        let run = move || keyward_in(&dir, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
        tokio::task::spawn_blocking(run).await.expect("no panic")
    }

    pub(super) async fn remote(&self, arguments: &[&str]) -> Output {
        let url = format!("http://{}", self.address);
        self.command(&[arguments, &["--url", &url, "--token-file", "admin"]].concat()).await
    }

    pub(super) async fn local(&self, arguments: &[&str]) -> Output {
        self.command(&[arguments, &["--config", "local.yaml"]].concat()).await
    }
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn json(output: &Output) -> Value {
    serde_json::from_str(&said(output)).expect("one line of JSON")
}

const LOCAL: &str = "
listen: {address: '127.0.0.1:0'}
upstreams: {ai: {endpoints: ['http://127.0.0.1:1']}}
keys: {store: {url: 'sqlite://keys.db'}}
defaults: {upstream: ai}
routes: [{id: all, path: /**}]
";

#[tokio::test]
async fn a_service_and_its_store_are_told_in_the_same_words() {
    let keys = Keys::start().await;
    std::fs::write(keys.dir.path().join("local.yaml"), LOCAL).expect("written");
    let create = "create --name né --org org_1 --user kp_1 --scope a:b --scope c --expires 90d --allow-from 10.0.0.0/8 \
                  --limit 5/1m --meta plan=gold --created-by me --json";
    let made = json(&keys.remote(&create.split_whitespace().collect::<Vec<_>>()).await);
    let id = super::text(&made["id"]);
    for n in 0..3 {
        said(&keys.remote(&["create", "--name", &format!("key {n}"), "--org", "o"]).await);
    }

    let rotated = json(&keys.remote(&["rotate", &id, "--grace", "1h", "--json"]).await);
    assert_eq!(rotated["id"], made["id"]);
    let same: [&[&str]; 8] = [
        &["show", &id],
        &["show", &id, "--json"],
        &["list"],
        &["list", "--json"],
        &["list", "--count", "2"],
        &["list", "--status", "active", "--org", "o", "--json"],
        &["list", "--status", "expired"],
        &["list", "--name-prefix", "né"],
    ];
    for arguments in same {
        assert_eq!(said(&keys.remote(arguments).await), said(&keys.local(arguments).await), "{arguments:?}");
    }
    let revoked = json(&keys.remote(&["revoke", &id, "--reason", "was & ünsafe", "--json"]).await);
    assert_eq!((&revoked["status"], &revoked["already_revoked"]), (&"revoked".into(), &false.into()));
    for arguments in [&["show", &id] as &[&str], &["revoke", &id]] {
        assert_eq!(said(&keys.remote(arguments).await), said(&keys.local(arguments).await), "{arguments:?}");
    }
    // Only now: a use would be written at any moment, between two commands.
    for key in [&made["key"], &rotated["key"]] {
        let verified = keys.verify(key.as_str().expect("a key")).await;
        assert_eq!((&verified["key_id"], &verified["status"]), (&made["id"], &"revoked".into()));
    }
    // The same mistakes, but for the name of the store.
    for arguments in [&["rotate", &id] as &[&str], &["show", "nonsense"]] {
        let (there, here) = (keys.remote(arguments).await, keys.local(arguments).await);
        assert_eq!((there.status.code(), &there.stderr), (Some(1), &here.stderr), "{there:?}");
    }
}

#[tokio::test]
async fn a_list_is_imported_into_a_service_as_into_its_store() {
    let keys = Keys::start().await;
    std::fs::write(keys.dir.path().join("local.yaml"), LOCAL).expect("written");
    let file = |name: &str, text: &str| std::fs::write(keys.dir.path().join(name), text).expect("written");
    let (one, two) = ("a".repeat(64), "b".repeat(64));
    file("list.csv", &format!("\u{feff}sha256,name,org_code\n{one},\"é, \"\"x\"\"\",o\n"));
    file("list.jsonl", &format!("\n{}\n", serde_json::json!({"sha256": two, "name": "b", "user_id": "u"})));
    let done = json(&keys.remote(&["import", "list.csv", "--json"]).await);
    assert_eq!(done, serde_json::json!({"added": 1, "known": 0}));
    assert_eq!(
        said(&keys.remote(&["import", "list.jsonl"]).await),
        "Imported 1 keys; 0 were there already and stayed as they were.\n"
    );
    assert_eq!(
        said(&keys.remote(&["import", "list.csv"]).await),
        said(&keys.local(&["import", "list.csv"]).await),
        "the second time"
    );
    let list = said(&keys.remote(&["list"]).await);
    assert!(list.contains("é, \"x\"") && list.contains("user:u"), "{list}");

    // What is wrong is said in the same words: what can be seen in the list, and what only the store knows.
    let other = "api_key_0195ac80a14e8d71f42b98e75d3c61ad";
    file("conflict", &format!("sha256,name,org_code,id\n{},n,o,\n{one},n,o,{other}\n", "c".repeat(64)));
    file("bad", &format!("sha256,name,org_code\nsk-secret,n,o\n{two},,o\n"));
    for (name, lines) in
        [("conflict", "  line 3: this hash is another key's already\n"), ("bad", "  line 3: `name` is")]
    {
        let (there, here) = (keys.remote(&["import", name]).await, keys.local(&["import", name]).await);
        let error = String::from_utf8_lossy(&there.stderr).into_owned();
        assert!(there.status.code() == Some(1) && error.contains(lines), "{there:?}");
        assert_eq!(there.stderr, here.stderr);
        assert!(!error.contains("sk-secret"), "{error}");
    }
    file("large", &"\n".repeat((4 << 20) + 1));
    for (name, expected) in
        [("large", "large is larger than a key service takes at once (4 MiB)"), ("none", "No such file")]
    {
        let output = keys.remote(&["import", name]).await;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && error.contains(expected), "{name}: {error}");
    }
    assert_eq!(json(&keys.local(&["list", "--json"]).await).as_array().map(Vec::len), Some(2), "nothing of them");
}

#[tokio::test]
async fn a_proxy_is_purged_by_its_url() {
    let origin = Origin::json("{}").await;
    let builder =
        Proxy::builder(&origin).base("usage:", "admin: {address: '127.0.0.1:0', token: {file: token}}\nusage:");
    let proxy = builder.file("token", ADMIN).start().await;
    let dir = tempfile::tempdir().expect("a directory");
    let admin = proxy.admin("POST", "/").address();
    std::fs::write(dir.path().join("admin"), ADMIN).expect("written");
    std::fs::write(dir.path().join("wrong"), "not-the-token").expect("written");
    for (address, file, code, expected) in [
        (admin, "admin", 0, "Purged.\n"),
        (admin, "wrong", 1, "refuses the token"),
        (proxy.health, "admin", 1, "it is no admin API"),
    ] {
        let url = format!("http://{address}");
        let path = dir.path().to_owned();
        let run = move || keyward_in(&path, &["keys", "purge", "--all", "--url", &url, "--token-file", file]);
        let output = tokio::task::spawn_blocking(run).await.expect("no panic");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.code() == Some(code) && said.contains(expected), "{file}: {said}");
        assert!(!said.contains("not-the-token") && !said.contains(ADMIN), "{said}");
    }
}

#[tokio::test]
async fn what_stands_between_is_told() {
    let keys = Keys::start().await;
    let url = format!("http://{}", keys.address);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    for (file, text) in [("reader", READER), ("wrong", "not-a-token"), ("empty", "\u{7f}")] {
        std::fs::write(keys.dir.path().join(file), text).expect("written");
    }
    let origin = format!("http://{}", keys.server.addresses().health.expect("a health listener"));
    for (url, file, expected) in [
        (&url, "wrong", "401 Unauthorized"),
        (&url, "empty", "printable ASCII"),
        (&url, "missing", "cannot read missing"),
        (&format!("http://{closed}"), "admin", "cannot connect"),
        (&origin, "admin", "is no key service"),
        (&"http://keys.example.com".to_owned(), "admin", "did you mean `https://keys.example.com`?"),
        (&"ftp://x".to_owned(), "admin", "--url: expected a URL"),
    ] {
        let output = keys.command(&["list", "--url", url, "--token-file", file]).await;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && error.contains(expected), "{url} {file}: {error}");
        assert!(!error.contains(ADMIN) && !error.contains("not-a-token"), "{error}");
    }
    let output = keys.command(&["create", "--name", "n", "--org", "o", "--url", &url, "--token-file", "reader"]).await;
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("403 Forbidden: Scope missing: this needs create:api_keys"), "{error}");
    for usage in [&["list", "--url", &url] as &[&str], &["prune", "--older-than", "1d", "--url", &url]] {
        assert_eq!(keys.command(usage).await.status.code(), Some(2), "{usage:?}");
    }
}

#[tokio::test]
async fn a_token_is_made_with_its_hash() {
    let keys = Keys::start().await;
    let made = json(&keys.command(&["token", "--json"]).await);
    let token = super::text(&made["token"]);
    assert!(token.starts_with("kw_token_") && token.len() >= 40, "{token}");
    assert_eq!(made["sha256"], keyward::key_service::token_digest(&token).as_str());
}
