//! Keys in PostgreSQL: what one sidecar or the command line changes, the others know; and while the database is away,
//! nobody is called invalid.

use std::fs;

use keyward::keys::{KeyId, Peppers, PostgresSpec, PostgresTls, Store, StorePlace};
use keyward::time::Clock;

use crate::harness::postgres::{Database, PASSWORD, own, own_with_tls, shared};
use crate::harness::{Authority, Origin, Proxy, keyward_in, report, within};

/// Far longer than any test: what a key's fate depends on is what the database tells.
const LONG_CACHE: &str = "
defaults: {upstream: ai, request: {rules: []}, response: {rules: []}}
routes: [{id: all, path: /**, scopes: []}]
";

async fn sidecar(origin: &Origin, database: &Database) -> Proxy {
    let cache = ("keys: {store:", "keys: {cache: {ttl: 1h, refresh_ahead: false}, store:");
    let builder = Proxy::builder(origin).postgres(&database.url()).base(cache.0, cache.1);
    within("the start", builder.config(LONG_CACHE).start()).await
}

async fn status(proxy: &Proxy, key: &str) -> u16 {
    let answer = proxy.get("/").key(key).send().await;
    if answer.status == 503 {
        assert_eq!(answer.code(), "VERIFIER_UNAVAILABLE", "{}", answer.text());
    }
    answer.status
}

/// Asks until the answer is `expected`; before, it may only be one of `before`.
async fn until(expected: u16, before: &[u16], proxy: &Proxy, key: &str) {
    let what = format!("{expected} after {before:?}");
    within(&what, async {
        loop {
            let status = status(proxy, key).await;
            if status == expected {
                return;
            }
            assert!(before.contains(&status), "{status} on the way to {expected}");
        }
    })
    .await;
}

fn place(url: &str) -> StorePlace {
    PostgresSpec::parse(url).expect("a good URL").into()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

#[tokio::test]
async fn a_revocation_reaches_another_sidecar_at_once() {
    let origin = Origin::json("{}").await;
    let database = shared().database();
    let (one, two) = (sidecar(&origin, &database).await, sidecar(&origin, &database).await);
    let (clock, mut store) =
        (Clock::system(), Store::open(place(&database.url()), Peppers::default()).expect("a store"));
    let mut took = Vec::new();
    for _ in 0..5 {
        let (id, key) = one.create_key(Some("org_1"), None, &[]);
        for proxy in [&one, &two] {
            assert_eq!(status(proxy, &key).await, 200);
        }
        let id = KeyId::parse(&id).expect("an id");
        store.revoke(&id, None, clock.now().wall).expect("a good store");
        let revoked = clock.now().monotonic;
        until(401, &[200], &two, &key).await;
        took.push(clock.now().monotonic - revoked);
        until(401, &[200], &one, &key).await;
    }
    report(format_args!("a revocation on PostgreSQL reached a second sidecar after {took:?}"));
    // Usually some milliseconds. A cache alone would take an hour.
    assert_eq!(status(&two, &two.org_key).await, 200, "no other key is touched");
}

#[tokio::test]
async fn a_database_that_is_away_is_nobodys_fault_and_comes_back() {
    let origin = Origin::json("{}").await;
    let database = own().database();
    let proxy = sidecar(&origin, &database).await;
    let key = proxy.org_key.clone();
    assert_eq!(status(&proxy, &key).await, 200);

    database.cluster.stop();
    // The key is in the cache for an hour; without the database nobody can say that it was not revoked.
    until(503, &[200], &proxy, &key).await;
    assert_eq!(status(&proxy, &proxy.user_key).await, 503);
    database.cluster.resume_after_stop();
    until(200, &[503], &proxy, &key).await;

    database.cluster.pause();
    until(503, &[200], &proxy, &key).await;
    database.cluster.resume();
    until(200, &[503], &proxy, &key).await;

    // Revoked while nobody listens.
    database.cluster.stop();
    until(503, &[200], &proxy, &key).await;
    database.cluster.resume_after_stop();
    database.sql("UPDATE key_records SET revoked_on = 1 WHERE org_code IS NOT NULL");
    until(401, &[503, 200], &proxy, &key).await;
    until(200, &[503], &proxy, &proxy.user_key).await;
}

#[tokio::test]
async fn what_happens_between_two_connections_is_not_missed() {
    let origin = Origin::json("{}").await;
    let database = shared().database();
    let proxy = sidecar(&origin, &database).await;
    let key = proxy.org_key.clone();
    assert_eq!(status(&proxy, &key).await, 200);
    // One transaction: whoever is told of the revocation at its end is no longer connected.
    database.sql(
        "UPDATE key_records SET revoked_on = 1 WHERE org_code IS NOT NULL; \
         SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'keyward' \
         AND datname = current_database()",
    );
    until(401, &[200, 503], &proxy, &key).await;
    until(200, &[503], &proxy, &proxy.user_key).await;
}

#[tokio::test]
async fn a_slow_database_holds_up_only_those_who_need_it() {
    let origin = Origin::json("{}").await;
    let database = shared().database();
    let proxy = sidecar(&origin, &database).await;
    let known = proxy.org_key.clone();
    assert_eq!(status(&proxy, &known).await, 200);
    // Whoever reads the table waits for this lock.
    let lock = database.lock("key_secrets");
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let request = proxy.get("/").key(&proxy.user_key);
        waiting.spawn(async move { request.send().await });
    }
    assert_eq!(proxy.health("/livez").await.status, 200);
    while let Some(answer) = waiting.join_next().await {
        let answer = answer.expect("no panic");
        assert_eq!((answer.status, answer.code().as_str()), (503, "VERIFIER_UNAVAILABLE"), "{}", answer.text());
    }
    drop(lock);
    until(200, &[503], &proxy, &proxy.user_key).await;
    until(200, &[503], &proxy, &known).await;
}

#[test]
fn tls_is_what_the_url_asks_for() {
    let authority = Authority::new();
    let cluster = own_with_tls(|host| {
        let certified = authority.certify(&[host]);
        (certified.cert, certified.key)
    });
    let database = cluster.database();
    let url = |mode: &str| {
        let address = format!("{}:{}", cluster.host(), cluster.port());
        let mut spec = PostgresSpec::parse(&format!("{}?sslmode={mode}", database.tcp_url(address))).expect("a URL");
        spec.password = Some(keyward::policy::SecretString::new(PASSWORD.to_owned()));
        spec
    };
    let trusting = |authority: &Authority| {
        let roots = keyward::trust::TrustedCertificates::from_pem(authority.pem().as_bytes()).expect("PEM");
        PostgresSpec { tls: PostgresTls::Verified(Some(roots)), ..url("verify-full") }
    };
    let open = |spec: PostgresSpec| Store::open(StorePlace::from(spec), Peppers::default());
    let encrypted = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                     WHERE application_name = 'keyward'";
    for (spec, expected) in [(trusting(&authority), "t"), (url("require"), "t"), (url("disable"), "f")] {
        let mode = format!("{:?}", spec.tls);
        let store = open(spec).expect("it is let in");
        assert_eq!(database.sql(encrypted), expected, "{mode}");
        drop(store);
        // The next one shall not be mistaken for this one.
        let open = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'keyward'";
        assert!((0..1_000).any(|_| database.sql(open) == "0"), "{mode}: the connection is closed");
    }
    let error = open(trusting(&Authority::new())).expect_err("another authority").to_string();
    assert!(error.contains("invalid peer certificate"), "{error}");
    let mut elsewhere = trusting(&authority);
    let port = u16::try_from(cluster.port()).expect("a port");
    // 127.0.0.1 is another host, by its name in the certificate.
    let relay = relay(cluster.host().to_owned(), port);
    elsewhere.hosts = vec![keyward::keys::PostgresHost::Tcp { host: "127.0.0.1".to_owned(), port: relay }];
    let error = open(elsewhere).expect_err("another host").to_string();
    assert!(error.contains("certificate") && !error.contains(PASSWORD), "{error}");
}

/// Passes one connection to `127.0.0.1` on to a server.
fn relay(host: String, port: u16) -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        let (client, _) = listener.accept().expect("a client");
        let server = std::net::TcpStream::connect((host, port)).expect("the server listens");
        let pairs = [(client.try_clone(), server.try_clone()), (Ok(server), Ok(client))];
        for (from, to) in pairs {
            let (mut from, mut to) = (from.expect("a stream"), to.expect("a stream"));
            // Either end may go first.
            std::thread::spawn(move || drop(std::io::copy(&mut from, &mut to)));
        }
    });
    address.port()
}

#[test]
fn the_command_line_works_on_it_and_shows_no_password() {
    let dir = tempfile::tempdir().expect("a directory");
    let database = shared().database();
    let url = database.url();
    let open = url.replace(&url[url.find(":correct").expect("a password")..url.find('@').expect("an end")], "");
    fs::write(dir.path().join("password"), PASSWORD).expect("a file");
    let config = |store: &str| {
        let text = format!(
            "upstreams: {{ai: {{endpoints: ['http://127.0.0.1:1']}}}}\nkeys: {{store: {{{store}}}}}\n\
             defaults: {{upstream: ai}}\nroutes: [{{id: a, path: /a}}]\n"
        );
        fs::write(dir.path().join("proxy.yaml"), text).expect("a file");
    };
    let run = |arguments: &[&str]| {
        let output = keyward_in(dir.path(), arguments);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        for secret in [PASSWORD, "correct-h0rse"] {
            assert!(!out.contains(secret) && !err.contains(secret), "{out}{err}");
        }
        (output.status.code(), out, err)
    };

    config(&format!("url: '{open}', password: {{file: password}}"));
    assert_eq!(run(&["check"]).0, Some(0));
    let (code, _, err) = run(&["keys", "list"]);
    assert!(code == Some(1) && err.contains("holds no key store"), "{err}");
    let (code, made, err) = run(&["keys", "create", "--name", "n", "--org-code", "o", "--json"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let made: serde_json::Value = serde_json::from_str(&made).expect("JSON");
    let id = made["id"].as_str().expect("an id");
    assert_eq!(run(&["keys", "rotate", id, "--grace", "1h"]).0, Some(0));
    assert_eq!(run(&["keys", "revoke", id, "--reason", "test"]).0, Some(0));
    let (_, listed, _) = run(&["keys", "list", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    assert_eq!((listed[0]["id"].as_str(), listed[0]["status"].as_str()), (Some(id), Some("revoked")));
    let (code, _, err) = run(&["keys", "show", "api_key_0195ac80a14e8d71f42b98e75d3c61ad"]);
    assert!(code == Some(1) && err.contains("the key store postgres://"), "{err}");

    config(&format!("url: '{url}'"));
    let (code, _, err) = run(&["check"]);
    assert!(code == Some(2) && err.contains("a password is never written in this file"), "{err}");
    config(&format!("url: '{open}&sslmode=prefer'").replacen('&', "?", 1));
    let (code, _, err) = run(&["check"]);
    assert!(code == Some(2) && err.contains("anybody on the way"), "{err}");
    config("url: 'postgres://u@127.0.0.1:1/d', password: {file: password}");
    let (code, _, err) = run(&["keys", "list"]);
    assert!(code == Some(1) && err.contains("PostgreSQL cannot be used"), "{err}");
}
