//! Sidecars that verify at the key service and follow its changes. Their clock stands still, so nothing but the stream
//! makes them forget a key.

use std::time::Instant;

use keyward::time::Clock;
use serde_json::{Value, json};

use super::{Keys, READER, SIDECAR, text};
use crate::harness::{Connection, Origin, Proxy, Request, report, within};

async fn sidecar(keys: &Keys, origin: &Origin, more: &str) -> Proxy {
    let url = format!("http://{}", keys.address);
    let kinde = format!("keys: {{verifier: kinde, kinde: {{url: '{url}', auth: {{token: {{file: token}}}}, {more}}}}}");
    let builder = Proxy::builder(origin).base("keys: {store: {url: 'sqlite://keys.db'}}", &kinde);
    builder.file("token", SIDECAR).manual_clock().start().await
}

pub(super) async fn following(keys: &Keys, origin: &Origin) -> Proxy {
    let proxy = sidecar(keys, origin, "revocations: true").await;
    let follows = async { while proxy.metric("keyward_revocation_stream_up").await != 1.0 {} };
    within("the stream", follows).await;
    proxy
}

/// Asks until the answer has this status.
pub(super) async fn becomes(proxy: &Proxy, key: &str, status: u16) {
    let asked = async { while proxy.get("/x").key(key).send().await.status != status {} };
    within("the change", asked).await;
}

async fn status(proxy: &Proxy, key: &str) -> u16 {
    proxy.get("/x").key(key).send().await.status
}

/// How often the service was asked about a key.
async fn verifications(keys: &Keys) -> u64 {
    let health = keys.server.addresses().health.expect("a health listener");
    let metrics = Request::new(health, "GET", "/metrics").send().await.text();
    let line = r#"keyward_keys_api_requests_total{operation="verify",status="200"} "#;
    let count = metrics.lines().find_map(|known| known.strip_prefix(line));
    count.map_or(0, |count| count.parse().expect("a number"))
}

#[tokio::test]
async fn a_revocation_reaches_every_sidecar() {
    let keys = Keys::start().await;
    let origin = Origin::json("{}").await;
    let (first, second) = (following(&keys, &origin).await, following(&keys, &origin).await);
    let (id, key) = keys.create("a").await;
    for proxy in [&first, &second] {
        // Until the change that the new key was has gone by.
        becomes(proxy, &key, 200).await;
        assert_eq!(status(proxy, &key).await, 200);
    }
    let path = format!("/api/v1/api_keys/{id}");
    assert_eq!(keys.admin("DELETE", &path, Value::Null).await.status, 200);
    #[allow(clippy::disallowed_methods, reason = "measures what is printed")]
    let begun = Instant::now();
    becomes(&second, &key, 401).await;
    becomes(&first, &key, 401).await;
    report(format_args!("a revocation reached two sidecars by the key service's stream after {:?}", begun.elapsed()));
    let named = origin.received().last().and_then(|request| request.head.field("x-org-code").map(str::to_owned));
    assert_eq!(named.as_deref(), Some("org_1"));
}

#[tokio::test]
async fn without_the_stream_a_key_stays_cached() {
    let keys = Keys::start().await;
    let origin = Origin::json("{}").await;
    let proxy = sidecar(&keys, &origin, "timeout: 5s").await;
    let (id, key) = keys.create("a").await;
    assert_eq!(status(&proxy, &key).await, 200);
    keys.admin("DELETE", &format!("/api/v1/api_keys/{id}"), Value::Null).await;
    assert_eq!(status(&proxy, &key).await, 200);
    proxy.clock.advance(std::time::Duration::from_secs(61));
    assert_eq!(status(&proxy, &key).await, 401, "the bound of the cache");
}

#[tokio::test]
async fn a_stream_that_is_lost_or_found_again_makes_everything_unknown() {
    let keys = Keys::start().await;
    let origin = Origin::json("{}").await;
    let (_, key) = keys.create("a").await;
    let proxy = following(&keys, &origin).await;
    becomes(&proxy, &key, 200).await;
    let settled = async {
        loop {
            let before = verifications(&keys).await;
            assert_eq!(status(&proxy, &key).await, 200);
            if verifications(&keys).await == before {
                return before;
            }
        }
    };
    let before = within("a cached key", settled).await;

    // Other tokens end every stream.
    let tokens = keys.tokens.replace("reader: {token: {file: reader}", "reader2: {token: {file: reader}");
    keys.server.reload(super::compile(keys.dir.path(), &tokens, "", ""));
    let asked_again = async {
        while verifications(&keys).await == before {
            assert_eq!(status(&proxy, &key).await, 200);
        }
    };
    within("the purge", asked_again).await;
    let follows = async { while proxy.metric("keyward_revocation_stream_up").await != 1.0 {} };
    within("the next stream", follows).await;

    within("the stop", keys.server.stop()).await;
    becomes(&proxy, &key, 503).await;
    assert_eq!(proxy.metric("keyward_revocation_stream_up").await, 0.0);
}

#[tokio::test]
async fn a_sidecar_enforces_what_the_service_tells_of_a_key() {
    let keys = Keys::start().await;
    let origin = Origin::json("{}").await;
    let proxy = sidecar(&keys, &origin, "api_id: ours").await;
    let make = async |more: Value| {
        let mut asked = json!({"name": "n", "org_code": "o", "api_id": "ours"});
        asked.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let made = keys.admin("POST", "/api/v1/api_keys", asked).await;
        assert_eq!(made.status, 201, "{}", made.text());
        text(&made.json()["api_key"]["key"])
    };
    let here = make(json!({"allow_from": ["127.0.0.0/8"]})).await;
    let elsewhere = make(json!({"allow_from": ["10.0.0.0/8"]})).await;
    let other = make(json!({"api_id": "theirs"})).await;
    let limited = make(json!({"limit": {"requests": 2, "per_ms": 60000}})).await;
    let short = keys.admin("GET", "/api/v1/api_keys", Value::Null).await.json()["api_keys"].as_array().map(Vec::len);
    assert_eq!(short, Some(4));
    let statuses = [
        status(&proxy, &here).await,
        status(&proxy, &elsewhere).await,
        status(&proxy, &other).await,
        status(&proxy, &limited).await,
        status(&proxy, &limited).await,
        status(&proxy, &limited).await,
    ];
    assert_eq!(statuses, [200, 401, 401, 200, 200, 429]);
}

#[tokio::test]
async fn the_stream_tells_each_change_and_ends_with_the_service() {
    let keys = Keys::serving("", Clock::system(), &[]).await;
    let request = keys.ask("GET", "/api/v1/api_keys/revocations").key(READER);
    let mut stream = Connection::to(keys.address).await;
    stream.send(&request).await;
    let (status, head) = stream.head().await;
    assert_eq!((status, head.field("content-type")), (200, Some("text/event-stream")));
    let first = within("the first event", stream.0.chunk()).await.expect("an event");
    assert!(first.starts_with(b"event: ready\nid: "), "{}", String::from_utf8_lossy(&first));
    keys.create("a").await;
    let change = async {
        loop {
            let next = stream.0.chunk().await.expect("an event");
            // Comments may come before it.
            if !next.starts_with(b":") {
                return String::from_utf8_lossy(&next).into_owned();
            }
        }
    };
    let next = within("the change", change).await;
    assert!(next.starts_with("event: change\nid: ") && next.contains(r#""purge":"all""#), "{next}");
    let end = async { while stream.0.chunk().await.is_some_and(|data| !data.is_empty()) {} };
    tokio::join!(within("the stop", keys.server.stop()), within("the end of the stream", end));
}
