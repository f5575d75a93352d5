//! Keys of the embedded store as callers meet them: address ranges, limits of their own, rotation, expiry, uses.

use std::time::Duration;

use keyward::keys::{
    KeyId, KeyLimit, KeyOptions, KeyPrefix, KeyRecord, NewKey, Peppers, Reason, Rotation, Store, SystemRandom,
};
use keyward::time::Clock;
use rusqlite::Connection;

use crate::harness::{Answer, Origin, Proxy, keyward_in, report, within};

const INVALID: &str = "401 INVALID_KEY";
const LIMITED: &str = "429 AI_RATE_LIMITED";
const PASSED: &str = "200";

const OPEN: &str = "
defaults: {upstream: ai, request: {rules: []}, response: {rules: []}}
routes: [{id: all, path: /**, scopes: []}]
";

fn store(proxy: &Proxy) -> Store {
    Store::open_existing(&proxy.store(), Peppers::default()).expect("the proxy's store")
}

/// A proxy whose clock stands still, and which verifies nothing unasked.
async fn still(origin: &Origin, config: &str) -> Proxy {
    let base = "keys: {cache: {refresh_ahead: false}, store:";
    Proxy::builder(origin).base("keys: {store:", base).config(config).manual_clock().start().await
}

/// Makes a key of an organization in the proxy's store.
fn make(proxy: &Proxy, options: KeyOptions) -> (KeyId, String) {
    let now = proxy.clock.now().wall;
    let new = NewKey::new("n", Some("org_1"), None, [""; 0]).expect("a good key").with(options, now);
    let made = store(proxy).create(&new.expect("good options"), &KeyPrefix::default(), now, &mut SystemRandom);
    let made = made.expect("a good store");
    (made.id, made.secret.expose().to_owned())
}

fn rotate(proxy: &Proxy, id: &KeyId, grace: u64) -> String {
    let (now, grace) = (proxy.clock.now().wall, Duration::from_secs(grace));
    match store(proxy).rotate(id, &KeyPrefix::default(), grace, now, &mut SystemRandom).expect("a good store") {
        Rotation::Rotated { key, .. } => key.secret.expose().to_owned(),
        other => panic!("{other:?}"),
    }
}

fn record(proxy: &Proxy, id: &KeyId) -> KeyRecord {
    store(proxy).get(id).expect("a good store").expect("it is there")
}

/// Changes the proxy's store as another program could.
fn tamper(proxy: &Proxy, sql: &str) {
    let connection = Connection::open(proxy.store()).expect("a database");
    connection.busy_timeout(Duration::from_secs(5)).expect("a pragma");
    connection.execute_batch(sql).expect("good SQL");
}

fn summary(answer: &Answer) -> String {
    if answer.status == 200 { PASSED.to_owned() } else { format!("{} {}", answer.status, answer.code()) }
}

async fn outcome(proxy: &Proxy, key: &str) -> String {
    summary(&proxy.get("/").key(key).send().await)
}

/// What a request forwarded for `chain` comes to.
async fn from(proxy: &Proxy, key: &str, chain: &str) -> String {
    summary(&proxy.get("/").key(key).header("X-Forwarded-For", chain).send().await)
}

/// Returns when the proxy has seen all changes so far: it looks for them before it answers about a key that is new.
async fn seen(proxy: &Proxy) {
    let (_, key) = make(proxy, KeyOptions::default());
    assert_eq!(outcome(proxy, &key).await, PASSED);
}

/// Asks until the answer is `wanted`, and prints how long that took.
async fn until(proxy: &Proxy, key: &str, wanted: &str, what: &str) {
    let clock = Clock::system();
    let since = clock.now().monotonic;
    within(what, async { while outcome(proxy, key).await != wanted {} }).await;
    report(format_args!("{what}: seen {:?} after it was done", clock.now().monotonic.duration_since(since)));
}

fn ranges(ranges: &[&str]) -> KeyOptions {
    let allow_from = ranges.iter().map(|range| range.parse().expect("a range")).collect();
    KeyOptions { allow_from, ..KeyOptions::default() }
}

#[tokio::test]
async fn a_key_with_ranges_is_unknown_everywhere_else() {
    let origin = Origin::json("{}").await;
    let config = format!("trusted_proxies: [127.0.0.0/8]\n{OPEN}");
    let proxy = Proxy::builder(&origin).config(&config).start().await;
    let (id, key) = make(&proxy, ranges(&["10.0.0.0/8", "2001:db8::/32"]));
    let (_, unknown) = make(&Proxy::before(&origin).await, KeyOptions::default());

    // The first answer is about a key that is not cached, all others about a cached one.
    for (chain, wanted) in [
        ("203.0.113.9", INVALID),
        ("10.1.2.3", PASSED),
        ("203.0.113.9", INVALID),
        ("203.0.113.9, 10.1.2.3", PASSED),
        ("10.1.2.3, 203.0.113.9", INVALID),
        ("10.1.2.3, 127.0.0.7", PASSED),
        ("::ffff:10.1.2.3", PASSED),
        ("::ffff:11.1.2.3", INVALID),
        ("2001:db8::7", PASSED),
        ("2001:db9::7", INVALID),
        ("junk", INVALID),
    ] {
        assert_eq!(from(&proxy, &key, chain).await, wanted, "{chain}");
    }
    assert_eq!(outcome(&proxy, &key).await, INVALID, "the proxy's own neighbor is no caller of the key");

    // Nothing tells a caller outside from one with a key that nobody made.
    let without_ids = |answer: &Answer| {
        let mut body = answer.json();
        body["request_id"] = "".into();
        let mut fields: Vec<String> =
            answer.head.fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        fields.retain(|field| !field.starts_with("x-request-id") && !field.starts_with("date"));
        (answer.status, body, fields)
    };
    let answer = async |key: &str| proxy.get("/").key(key).header("X-Forwarded-For", "203.0.113.9").send().await;
    assert_eq!(without_ids(&answer(&key).await), without_ids(&answer(&unknown).await));

    tamper(&proxy, &format!(r#"UPDATE key_records SET allow_from = '["203.0.113.0/24"]' WHERE id = '{id}'"#));
    seen(&proxy).await;
    assert_eq!(from(&proxy, &key, "203.0.113.9").await, PASSED);
    assert_eq!(from(&proxy, &key, "10.1.2.3").await, INVALID);
    // A range in another spelling of the same addresses is the same range.
    let (_, mapped) = make(&proxy, ranges(&["::ffff:10.0.0.0/104"]));
    assert_eq!(from(&proxy, &mapped, "10.1.2.3").await, PASSED);
    assert_eq!(from(&proxy, &mapped, "11.1.2.3").await, INVALID);
}

#[tokio::test]
async fn without_a_trusted_proxy_only_the_peer_counts() {
    let origin = Origin::json("{}").await;
    let proxy = Proxy::before(&origin).await;
    let (_, far) = make(&proxy, ranges(&["10.0.0.0/8"]));
    let (_, near) = make(&proxy, ranges(&["127.0.0.1/32"]));
    for chain in ["10.1.2.3", "203.0.113.9", "::1"] {
        assert_eq!(from(&proxy, &far, chain).await, INVALID, "{chain}");
        assert_eq!(from(&proxy, &near, chain).await, PASSED, "{chain}");
    }
}

fn limited(requests: u64, per: u64) -> KeyOptions {
    let limit = KeyLimit::new(requests, Duration::from_secs(per)).expect("a limit");
    KeyOptions { limit: Some(limit), ..KeyOptions::default() }
}

const LIMITS: &str = "
limits: {slow: {requests: 3, per: 1h, by: key}, fast: {requests: 2, per: 1m, by: key}}
defaults: {upstream: ai, request: {rules: []}, response: {rules: []}}
routes:
  - {id: slow, path: /slow, limits: [slow]}
  - {id: fast, path: /fast, limits: [fast]}
  - {id: free, path: /free}
  - {id: admin, path: /admin, scopes: [admin]}
  - {id: root, path: /}
";

#[tokio::test]
async fn a_keys_own_limit_and_the_routes_are_charged_together_or_not_at_all() {
    let origin = Origin::json("{}").await;
    let proxy = still(&origin, LIMITS).await;
    let ask = async |path: &str, key: &str| proxy.get(path).key(key).send().await;
    let field = |answer: &Answer, name: &str| answer.head.field(name).map(str::to_owned);

    // The own limit refuses, and the route's does not pay for it.
    let (_, own) = make(&proxy, limited(2, 60));
    for left in ["1", "0"] {
        let answer = ask("/slow", &own).await;
        assert_eq!((answer.status, field(&answer, "x-ratelimit-remaining").as_deref()), (200, Some(left)));
        assert_eq!(field(&answer, "ratelimit-policy").as_deref(), Some(r#""key's own";q=2;w=60"#));
    }
    for _ in 0..5 {
        let answer = ask("/slow", &own).await;
        assert_eq!(summary(&answer), LIMITED);
        for (name, value) in [
            ("retry-after", "30"),
            ("ratelimit-policy", r#""key's own";q=2;w=60"#),
            ("ratelimit", r#""key's own";r=0;t=30"#),
            ("x-ratelimit-limit", "2"),
            ("x-ratelimit-remaining", "0"),
            ("x-ratelimit-reset", "30"),
        ] {
            assert_eq!(field(&answer, name).as_deref(), Some(value), "{name}");
        }
    }
    proxy.clock.advance(Duration::from_secs(30));
    assert_eq!(ask("/slow", &own).await.status, 200, "the third of the route's three");
    proxy.clock.advance(Duration::from_secs(60));
    let answer = ask("/slow", &own).await;
    assert_eq!((answer.status, field(&answer, "x-ratelimit-limit").as_deref()), (429, Some("3")), "the route's");

    // The route's limit refuses, and the own one does not pay for it.
    let (id, own) = make(&proxy, limited(3, 3600));
    for wanted in [200, 200, 429, 429, 429, 429] {
        assert_eq!(ask("/fast", &own).await.status, wanted);
    }
    proxy.clock.advance(Duration::from_secs(30));
    assert_eq!(ask("/fast", &own).await.status, 200, "the third of its own three");
    proxy.clock.advance(Duration::from_secs(60));
    for path in ["/fast", "/free"] {
        let answer = ask(path, &own).await;
        assert_eq!((answer.status, field(&answer, "retry-after").as_deref()), (429, Some("1110")), "{path}");
    }

    // It outlives the cache entry: a change of the store makes the proxy read the key anew, and the bucket stays.
    seen(&proxy).await;
    assert_eq!(ask("/free", &own).await.status, 429);
    tamper(&proxy, &format!("UPDATE key_records SET limit_requests = 100 WHERE id = '{id}'"));
    within("a changed limit", async { while ask("/free", &own).await.status != 200 {} }).await;
    let answer = ask("/free", &own).await;
    assert_eq!(field(&answer, "x-ratelimit-limit").as_deref(), Some("100"));
    tamper(&proxy, &format!("UPDATE key_records SET limit_requests = NULL, limit_per = NULL WHERE id = '{id}'"));
    seen(&proxy).await;
    assert_eq!(field(&ask("/free", &own).await, "ratelimit"), None);

    // Asking for what one may not have costs a token of it, too.
    let (_, own) = make(&proxy, limited(1, 3600));
    assert_eq!(ask("/admin", &own).await.status, 403);
    assert_eq!(ask("/free", &own).await.status, 429);
}

#[tokio::test]
async fn a_former_text_opens_until_its_grace_time_is_over_and_not_longer_for_being_cached() {
    let origin = Origin::json("{}").await;
    let proxy = still(&origin, OPEN).await;
    let (id, first) = make(&proxy, KeyOptions::default());
    assert_eq!(outcome(&proxy, &first).await, PASSED);
    let second = rotate(&proxy, &id, 30);
    assert_eq!(outcome(&proxy, &second).await, PASSED, "at once");
    // What was verified while the proxy learned of the rotation is not cached.
    seen(&proxy).await;
    assert_eq!(outcome(&proxy, &second).await, PASSED);
    assert_eq!(outcome(&proxy, &first).await, PASSED);
    let verified = proxy.metric(r#"keyward_verifications_total{outcome="valid"}"#).await;
    proxy.clock.advance(Duration::from_secs(29));
    assert_eq!(outcome(&proxy, &first).await, PASSED);
    proxy.clock.advance(Duration::from_secs(1));
    assert_eq!(outcome(&proxy, &first).await, INVALID, "its ttl would be 60 s");
    assert_eq!(outcome(&proxy, &second).await, PASSED);
    assert_eq!(proxy.metric(r#"keyward_verifications_total{outcome="valid"}"#).await, verified, "all from the cache");
    assert!(origin.received().iter().all(|request| request.head.field("x-org-code") == Some("org_1")));

    // A second rotation cuts the grace time of the first short and never makes it longer.
    let third = rotate(&proxy, &id, 100);
    proxy.clock.advance(Duration::from_secs(10));
    let fourth = rotate(&proxy, &id, 1000);
    for key in [&second, &third, &fourth] {
        assert_eq!(outcome(&proxy, key).await, PASSED);
    }
    proxy.clock.advance(Duration::from_secs(90));
    assert_eq!(outcome(&proxy, &second).await, INVALID, "100 s after the rotation that ended it");
    assert_eq!(outcome(&proxy, &third).await, PASSED);
    let fifth = rotate(&proxy, &id, 0);
    assert_eq!(outcome(&proxy, &fifth).await, PASSED);
    for key in [&first, &second, &third, &fourth] {
        assert_eq!(outcome(&proxy, key).await, INVALID, "a rotation without grace ends all of them");
    }

    // A revocation ends all texts, in their grace time or not.
    let sixth = rotate(&proxy, &id, 1000);
    assert_eq!((outcome(&proxy, &fifth).await, outcome(&proxy, &sixth).await), (PASSED.into(), PASSED.into()));
    let reason = Reason::new("lost").expect("a reason");
    store(&proxy).revoke(&id, Some(&reason), proxy.clock.now().wall).expect("a good store");
    seen(&proxy).await;
    assert_eq!((outcome(&proxy, &fifth).await, outcome(&proxy, &sixth).await), (INVALID.into(), INVALID.into()));
}

#[tokio::test]
async fn an_expiry_goes_by_the_wall_clock_as_it_is_set() {
    let origin = Origin::json("{}").await;
    let proxy = still(&origin, OPEN).await;
    let lives = |seconds| {
        let expires = proxy.clock.now().wall + Duration::from_secs(seconds);
        KeyOptions { expires_on: Some(expires), ..KeyOptions::default() }
    };
    let (_, key) = make(&proxy, lives(1000));
    let (_, brief) = make(&proxy, lives(10));
    assert_eq!((outcome(&proxy, &key).await, outcome(&proxy, &brief).await), (PASSED.into(), PASSED.into()));
    proxy.clock.advance(Duration::from_secs(10));
    assert_eq!((outcome(&proxy, &key).await, outcome(&proxy, &brief).await), (PASSED.into(), INVALID.into()));

    // Set forward past the expiry, cached or not, and back again.
    proxy.clock.step_wall(990);
    assert_eq!(outcome(&proxy, &key).await, INVALID, "a cached key ends when its time comes");
    proxy.clock.step_wall(-1);
    assert_eq!(outcome(&proxy, &key).await, PASSED);
    proxy.clock.step_wall(1);
    proxy.clock.advance(Duration::from_secs(60));
    assert_eq!(outcome(&proxy, &key).await, INVALID, "and so says the store");
    proxy.clock.step_wall(-3600);
    proxy.clock.advance(Duration::from_secs(5));
    assert_eq!(outcome(&proxy, &key).await, PASSED, "set back, the key is good again when the refusal is forgotten");

    // A clock that was set back does not stretch what is cached: entries go by monotonic time.
    let verified = proxy.metric(r#"keyward_verifications_total{outcome="valid"}"#).await;
    proxy.clock.step_wall(-100_000);
    proxy.clock.advance(Duration::from_secs(61));
    assert_eq!(outcome(&proxy, &key).await, PASSED);
    assert_eq!(proxy.metric(r#"keyward_verifications_total{outcome="valid"}"#).await, verified + 1.0);
}

#[tokio::test]
async fn another_process_changes_keys_under_a_running_proxy() {
    let origin = Origin::json("{}").await;
    let proxy = Proxy::before(&origin).await;
    let dir = proxy.store().parent().expect("a directory").to_owned();
    let config = "upstreams: {ai: {endpoints: ['http://127.0.0.1:1']}}\nkeys: {store: {url: 'sqlite://keys.db'}}\n\
                  routes: [{id: all, path: /**, upstream: ai, public: true}]\n";
    std::fs::write(dir.join("proxy.yaml"), config).expect("a file");
    let command = |arguments: &[&str]| {
        let output = keyward_in(&dir, &[&["keys"], arguments, &["--json"]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).expect("JSON")
    };
    let text = |answer: &serde_json::Value, field: &str| answer[field].as_str().expect("text").to_owned();
    let made = command(&["create", "--name", "n", "--org-code", "o"]);
    let (id, first) = (text(&made, "id"), text(&made, "key"));
    assert_eq!(outcome(&proxy, &first).await, PASSED, "a new key counts at once");
    let second = text(&command(&["rotate", &id, "--grace", "1h"]), "key");
    assert_eq!((outcome(&proxy, &first).await, outcome(&proxy, &second).await), (PASSED.into(), PASSED.into()));
    let third = text(&command(&["rotate", &id]), "key");
    until(&proxy, &second, INVALID, "a rotation without grace by another process").await;
    assert_eq!((outcome(&proxy, &first).await, outcome(&proxy, &third).await), (INVALID.into(), PASSED.into()));
    command(&["revoke", &id]);
    until(&proxy, &third, INVALID, "a revocation by another process").await;
}

#[tokio::test]
async fn uses_are_written_now_and_then_and_what_cannot_be_written_is_dropped() {
    let origin = Origin::json("{}").await;
    let proxy = still(&origin, OPEN).await;
    let dropped = async || proxy.metric("keyward_key_uses_dropped_total").await;
    let (id, key) = make(&proxy, KeyOptions::default());
    let uses = || record(&proxy, &id).use_count;
    for _ in 0..3 {
        assert_eq!(outcome(&proxy, &key).await, PASSED);
    }
    let last = proxy.clock.now().wall;
    assert_eq!((uses(), record(&proxy, &id).last_used_on), (0, None), "not in the way of a request");
    proxy.clock.advance(Duration::from_secs(5));
    within("the first batch", async {
        while uses() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(uses(), 3, "all in one");
    let written = record(&proxy, &id).last_used_on.expect("it was used");
    assert!(last.duration_since(written).is_ok_and(|late| late < Duration::from_millis(1)), "cut to milliseconds");

    // A store that refuses to be written: keys are verified as before, from the cache and from the store.
    let verified = proxy.metric(r#"keyward_verifications_total{outcome="valid"}"#).await;
    tamper(
        &proxy,
        "CREATE TRIGGER refuse BEFORE UPDATE OF use_count ON key_records BEGIN SELECT RAISE(ABORT, 'no'); END",
    );
    for _ in 0..4 {
        assert_eq!(outcome(&proxy, &key).await, PASSED);
    }
    assert_eq!(
        proxy.metric(r#"keyward_verifications_total{outcome="valid"}"#).await,
        verified,
        "writing uses makes nobody verify anew"
    );
    proxy.clock.advance(Duration::from_secs(5));
    within("the loss", async { while dropped().await < 4.0 {} }).await;
    assert_eq!((dropped().await, uses()), (4.0, 3));
    tamper(&proxy, "DROP TRIGGER refuse");

    // One that somebody keeps locked.
    let holder = Connection::open(proxy.store()).expect("a database");
    holder.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    assert_eq!(outcome(&proxy, &key).await, PASSED);
    proxy.clock.advance(Duration::from_secs(5));
    within("the loss", async {
        while dropped().await < 5.0 {
            assert_eq!(outcome(&proxy, &proxy.org_key).await, PASSED);
        }
    })
    .await;
    let after = proxy.clock.now().wall;
    holder.execute_batch("ROLLBACK").expect("the end of the lock");
    assert_eq!(outcome(&proxy, &key).await, PASSED);
    proxy.clock.advance(Duration::from_secs(5));
    within("the last batch", async {
        while uses() == 3 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(uses(), 4, "what was dropped does not come back");
    assert!(record(&proxy, &id).last_used_on >= Some(after - Duration::from_millis(1)));
}

#[tokio::test]
async fn whoever_guesses_keys_locks_out_only_the_own_address() {
    let origin = Origin::json("{}").await;
    let proxy = Proxy::builder(&origin)
        .config(&format!("trusted_proxies: [127.0.0.0/8]\n{OPEN}"))
        .base("keys: {store:", "keys: {auth_failures: {requests: 3, per: 1h}, store:")
        .manual_clock()
        .start()
        .await;
    let other = Proxy::before(&origin).await;
    let guess = || other.create_key(Some("o"), None, &[]).1;
    let (_, key) = make(&proxy, KeyOptions::default());
    for wanted in [INVALID, INVALID, INVALID, LIMITED, LIMITED] {
        assert_eq!(from(&proxy, &guess(), "203.0.113.9").await, wanted);
    }
    assert_eq!(from(&proxy, &key, "203.0.113.9").await, LIMITED, "the guesser's own, not in the cache");
    assert_eq!(from(&proxy, &key, "203.0.113.8").await, PASSED, "the owner is elsewhere");
    assert_eq!(from(&proxy, &key, "203.0.113.9").await, PASSED, "and what is in the cache pays nothing");
    // Repeating one wrong key costs one token: the cache answers.
    let wrong = guess();
    for _ in 0..10 {
        assert_eq!(from(&proxy, &wrong, "203.0.113.7").await, INVALID);
    }
    assert_eq!(from(&proxy, &guess(), "203.0.113.7").await, INVALID);
    // An IPv6 guesser owns a /64.
    for (n, wanted) in [INVALID, INVALID, INVALID, LIMITED].into_iter().enumerate() {
        assert_eq!(from(&proxy, &guess(), &format!("2001:db8::{n}:1")).await, wanted);
    }
}
