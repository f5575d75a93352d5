//! `keyward keys … --url`: the same commands, and the same output, as on the store itself.

use std::process::Output;

use serde_json::Value;

use super::{ADMIN, Keys, READER};
use crate::harness::keyward_in;

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
