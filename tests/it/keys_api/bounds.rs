//! What the key service bounds: how long a change stays unseen, how many may follow, how long a body may take.

use std::time::Duration;

use keyward::time::Clock;
use serde_json::json;

use super::{ADMIN, Keys, READER, text};
use crate::harness::{Connection, Origin, Proxy, report, within};

#[tokio::test]
async fn a_change_in_the_same_process_counts_from_the_next_request_on() {
    let origin = Origin::json("{}").await;
    let serve = "keys: {store: {url: 'sqlite://keys.db'}, serve: {address: '127.0.0.1:0', tokens: {admin: {token: \
                 {file: admin}, scopes: ['create:api_keys', 'update:api_keys', 'delete:api_keys']}}}}";
    let builder = Proxy::builder(&origin).base("keys: {store: {url: 'sqlite://keys.db'}}", serve);
    let proxy = builder.file("admin", ADMIN).start().await;
    let status = async |key: &str| proxy.get("/x").key(key).send().await.status;
    let (clock, mut slowest) = (Clock::system(), Duration::ZERO);
    for n in 0..10 {
        let asked = json!({"name": "n", "org_code": "org_1"}).to_string();
        let made = proxy.keys("POST", "/api/v1/api_keys").key(ADMIN).json(asked).send().await;
        assert_eq!(made.status, 201, "{}", made.text());
        let (id, mut key) = (text(&made.json()["api_key"]["id"]), text(&made.json()["api_key"]["key"]));
        let path = format!("/api/v1/api_keys/{id}");
        // Cached by now.
        assert_eq!((status(&key).await, status(&key).await), (200, 200));
        if n % 2 == 0 {
            let rotated = proxy.keys("PUT", &path).key(ADMIN).send().await;
            assert_eq!(rotated.status, 201, "{}", rotated.text());
            assert_eq!(status(&key).await, 401, "its former text, rotated without grace");
            key = text(&rotated.json()["api_key"]["key"]);
            assert_eq!((status(&key).await, status(&key).await), (200, 200));
        }
        assert_eq!(proxy.keys("DELETE", &path).key(ADMIN).send().await.status, 200);
        let revoked = clock.now().monotonic;
        assert_eq!(status(&key).await, 401, "the next request");
        slowest = slowest.max(clock.now().monotonic - revoked);
    }
    report(format_args!("a revocation in the same process: the next request was refused, after {slowest:?} at most"));
}

#[tokio::test]
async fn followers_leave_room_for_those_who_verify() {
    let keys = Keys::serving("max_connections: 4", Clock::system(), &[]).await;
    let follow = async || {
        let mut stream = Connection::to(keys.address).await;
        stream.send(&keys.ask("GET", "/api/v1/api_keys/revocations").key(READER)).await;
        let (status, _) = within("the head", stream.head()).await;
        (status, stream)
    };
    let ((one, first), (two, _second)) = (follow().await, follow().await);
    assert_eq!((one, two), (200, 200));
    let refused = keys.ask("GET", "/api/v1/api_keys/revocations").key(READER).send().await;
    assert_eq!((refused.status, text(&refused.json()["errors"][0]["code"])), (503, "UNAVAILABLE".to_owned()));
    assert!(refused.head.field("retry-after").is_some(), "{:?}", refused.head);
    let (_, key) = keys.create("a").await;
    assert_eq!(keys.verify(&key).await["is_valid"], json!(true), "all but following goes on");
    drop(first);
    within("a place", async { while follow().await.0 != 200 {} }).await;
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let keys = Keys::start().await;
    let mut connection = Connection::to(keys.address).await;
    let head = format!(
        "POST /api/v1/api_keys HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {ADMIN}\r\n\
         Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{"
    );
    connection.write(head).await;
    let answer = within("the answer", connection.answer("POST")).await;
    assert_eq!((answer.status, text(&answer.json()["errors"][0]["code"])), (408, "REQUEST_TIMEOUT".to_owned()));
}
