//! Reload, stop, readiness, and the one record that every request leaves.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use keyward::server::Stopped;
use tokio::sync::Notify;

use crate::harness::{Connection, Origin, Proxy, Reader, within};
use crate::http2::{Client, get};

const FIRST: &str = "
limits: {one: {requests: 2, per: 1h, by: key}}
defaults: {upstream: ai, limits: [one]}
routes: [{id: old, path: /old}]
";

const SECOND: &str = "
limits: {one: {requests: 2, per: 1h, by: key}}
defaults: {upstream: ai, limits: [one]}
routes: [{id: new, path: /new}]
";

#[tokio::test]
async fn a_reload_swaps_the_policy_and_a_bad_file_keeps_the_last_good_one() {
    let origin = Origin::json("{}").await;
    let proxy = Proxy::builder(&origin).config(FIRST).manual_clock().start().await;
    let status = async |path: &str| proxy.get(path).key(&proxy.user_key).send().await.status;
    assert_eq!(status("/old").await, 200);
    proxy.reload("routes: [{id: broken, path: relative}]");
    assert_eq!(proxy.metric("keyward_config_last_reload_success").await, 0.0);
    let ready = proxy.health("/readyz").await;
    assert_eq!(ready.status, 200, "the last good policy serves");
    assert!(
        ready.json()["detail"]["reload_failed"].as_str().expect("a reason").contains("mistake"),
        "{}",
        ready.text()
    );
    proxy.reload(SECOND);
    assert_eq!(proxy.metric("keyward_config_last_reload_success").await, 1.0);
    assert_eq!(proxy.health("/readyz").await.json()["detail"].get("reload_failed"), None);
    assert_eq!(status("/new").await, 200);
    assert_eq!(status("/new").await, 429, "buckets outlive a reload");
    assert_eq!(proxy.get("/old").key(&proxy.org_key).send().await.status, 404, "a removed route is gone");
}

#[tokio::test]
async fn a_stop_waits_for_what_has_begun() {
    let (origin, begun, finish) = Origin::held().await;
    // A part of the loopback network that no other test listens on: a port that is free again stays free.
    let proxy = Proxy::builder(&origin)
        .base("listen: {address: '127.0.0.1:0'", "listen: {address: '127.0.77.1:0'")
        .start()
        .await;
    let (address, health) = (proxy.address, proxy.health);
    let mut idle = Connection::to(address).await;
    assert_eq!(idle.request(&proxy.get("/a//b")).await.status, 400);
    let request = proxy.get("/").key(&proxy.user_key);
    let busy = tokio::spawn(async move { request.send().await });
    within("the request's way", begun.notified()).await;
    let stop = tokio::spawn(proxy.stop());
    assert!(idle.0.at_end().await, "an idle connection is closed at once");
    // Readiness has failed by the time that idle connections close.
    let ready = crate::harness::Request::new(health, "GET", "/readyz").send().await;
    assert_eq!(ready.status, 503);
    finish.notify_one();
    let answer = busy.await.expect("the client's task");
    assert_eq!((answer.status, answer.text().as_str()), (200, "done"));
    assert_eq!(answer.head.field("connection"), Some("close"));
    let (stopped, records) = stop.await.expect("the stop's task");
    assert_eq!((stopped, records.len()), (Stopped::Drained, 2));
    let late = tokio::net::TcpStream::connect(address).await.expect_err("nobody listens any more");
    assert_eq!(late.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn who_leaves_serves_as_before_and_sends_its_clients_elsewhere() {
    let origin = Origin::json("{}").await;
    let proxy = Proxy::before(&origin).await;
    let request = proxy.get("/").key(&proxy.user_key);
    let (mut open, mut idle) = (Connection::to(proxy.address).await, Connection::to(proxy.address).await);
    for connection in [&mut open, &mut idle] {
        assert_eq!(connection.request(&request).await.head.field("connection"), None);
    }
    let mut h2 = Client::to(&proxy).await;
    let ask = || get("/").header("x-api-key", &proxy.user_key).body(Full::default()).expect("a request");
    assert_eq!(h2.send(ask()).await.expect("an answer").status(), 200);

    proxy.leave();
    assert_eq!(proxy.health("/readyz").await.status, 503);
    assert_eq!(proxy.health("/livez").await.status, 200);
    within("GOAWAY", h2.ended).await.expect("the client's task").expect("an orderly end");
    let answer = open.request(&request).await;
    assert_eq!((answer.status, answer.head.field("connection")), (200, Some("close")));
    assert!(open.0.at_end().await, "the connection ends with the answer");
    let new = request.send().await;
    assert_eq!((new.status, new.head.field("connection")), (200, Some("close")), "new connections are served");
    let mut new = Client::to(&proxy).await;
    assert_eq!(new.send(ask()).await.expect("an answer").status(), 200);
    within("GOAWAY", new.ended).await.expect("the client's task").expect("an orderly end");
    assert_eq!(idle.request(&request).await.status, 200, "an idle connection was not closed under its client");
}

#[tokio::test]
async fn a_stop_takes_new_connections_until_its_delay_is_over() {
    let origin = Origin::json("{}").await;
    let proxy = Proxy::builder(&origin)
        .base("listen: {address: '127.0.0.1:0'", "listen: {address: '127.0.78.1:0'")
        .base("usage:", "shutdown: {delay: 5s}\nusage:")
        .manual_clock()
        .start()
        .await;
    let (address, health, clock) = (proxy.address, proxy.health, proxy.clock.clone());
    let request = proxy.get("/").key(&proxy.user_key);
    let stop = tokio::spawn(proxy.stop());
    let ready = crate::harness::Request::new(health, "GET", "/readyz");
    within("readiness to fail", async { while ready.send().await.status == 200 {} }).await;
    clock.advance(Duration::from_millis(4999));
    let answer = request.send().await;
    assert_eq!((answer.status, answer.head.field("connection")), (200, Some("close")));
    clock.advance(Duration::from_millis(1));
    let (stopped, records) = stop.await.expect("the stop's task");
    assert_eq!((stopped, records.len()), (Stopped::Drained, 1));
    let late = tokio::net::TcpStream::connect(address).await.expect_err("nobody listens any more");
    assert_eq!(late.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn an_open_admin_connection_does_not_keep_the_process_alive() {
    let origin = Origin::json("{}").await;
    let proxy = Proxy::builder(&origin)
        .base("health:", "admin: {address: '127.0.0.1:0', token: {file: token}}\nhealth:")
        .file("token", "let me in")
        .start()
        .await;
    let request = proxy.admin("GET", "/livez").header("Authorization", "Bearer let me in");
    let mut open = Connection::to(request.address()).await;
    assert_eq!(open.request(&request).await.status, 200);
    assert_eq!(proxy.get("/").key(&proxy.user_key).send().await.status, 200);
    let (stopped, records) = proxy.stop().await;
    assert_eq!((stopped, records.len()), (Stopped::Drained, 1));
}

#[tokio::test]
async fn a_stop_does_not_wait_for_ever() {
    let begun = Arc::new(Notify::new());
    let began = Arc::clone(&begun);
    let origin = Origin::raw(move |stream| {
        let began = Arc::clone(&began);
        async move {
            let mut reader = Reader::new(stream);
            reader.head().await;
            began.notify_one();
            reader.at_end().await;
        }
    })
    .await;
    let proxy = Proxy::builder(&origin).base("usage:", "shutdown: {grace: 100ms}\nusage:").start().await;
    let request = proxy.get("/").key(&proxy.user_key);
    let busy = tokio::spawn(async move {
        let mut connection = Connection::to(request.address()).await;
        connection.send(&request).await;
        connection.0.at_end().await
    });
    within("the request's way", begun.notified()).await;
    let (stopped, records) = proxy.stop().await;
    assert_eq!(stopped, Stopped::Cut);
    assert_eq!((records.len(), &records[0]["status"]), (1, &499.into()), "what was cut is on record too");
    assert!(busy.await.expect("the client's task"), "the connection was cut");
}

#[tokio::test]
async fn every_request_leaves_one_record() {
    let origin = Origin::json(r#"{"response":"caf\u00e9 \ud83d\ude00"}"#).await;
    let proxy = Proxy::builder(&origin)
        .config(
            "
defaults: {upstream: ai}
routes:
  - {id: chat, path: /ai/chat, methods: [POST], scopes: [write:ai_chat]}
  - {id: roll-out, path: /roll-out, auth: observe}
",
        )
        .start()
        .await;
    proxy.post("/ai/chat?q=1").key(&proxy.org_key).json(r#"{"message":"hello"}"#).send().await;
    proxy.post("/ai/chat").json("{}").send().await;
    proxy.get("/nothing").key(&proxy.user_key).send().await;
    proxy.request("HEAD", "/roll-out").send().await;
    proxy.get("/roll-out").key("kw_live_wrong_key").send().await;
    assert_eq!(proxy.metric(r#"keyward_keyless_requests_total{route="roll-out"}"#).await, 1.0);
    let (_, records) = proxy.stop().await;
    let brief: Vec<_> = records
        .iter()
        .map(|record| {
            let text = |name: &str| record[name].as_str().unwrap_or("-").to_owned();
            format!(
                "{} {} {} {} {} {}",
                text("route"),
                record["status"],
                text("refusal"),
                text("org_code"),
                text("user_id"),
                text("outcome")
            )
        })
        .collect();
    assert_eq!(
        brief,
        [
            "chat 200 - org_customer_abc - complete",
            "chat 401 MISSING_KEY - - refused",
            "- 404 ROUTE_NOT_FOUND - kp_1234567890 refused",
            "roll-out 200 - - - complete",
            "roll-out 401 INVALID_KEY - - refused",
        ]
    );
    let first = &records[0];
    assert_eq!((&first["input_length"], &first["response_length"]), (&5.into(), &7.into()));
    assert_eq!(
        (&first["path"], &first["method"], &first["upstream"]),
        (&"/ai/chat".into(), &"POST".into(), &"ai".into())
    );
    assert!(first["key_id"].as_str().expect("an id").starts_with("api_key_"));
    assert!(first["first_byte_ms"].as_f64().expect("a time") <= first["duration_ms"].as_f64().expect("a time"));
}

#[tokio::test]
async fn live_ready_and_metrics_answer_without_a_token_on_the_health_listener() {
    let origin = Origin::json("{}").await;
    let proxy = Proxy::before(&origin).await;
    assert_eq!(proxy.health("/livez").await.text(), "ok\n");
    assert_eq!(proxy.health("/readyz").await.json()["ready"], true);
    assert!(proxy.health("/metrics").await.text().contains("keyward_requests_in_flight 0"));
    assert_eq!(proxy.health("/other").await.status, 404);
}
