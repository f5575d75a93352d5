//! Connections to the service: reused, found dead, sent again or not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::sync::Notify;

use crate::harness::{Origin, Proxy, Reader, within};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

/// A service that answers `per_connection` requests and closes when the next one has arrived.
async fn closing_after(per_connection: usize, heads: Arc<AtomicUsize>) -> Origin {
    Origin::raw(move |stream| {
        let heads = Arc::clone(&heads);
        async move {
            let mut reader = Reader::new(stream);
            for answered in 0..=per_connection {
                let Some(head) = reader.head().await else { return };
                heads.fetch_add(1, Ordering::SeqCst);
                if let Some(length) = head.field("content-length") {
                    reader.exactly(length.parse().expect("a length")).await;
                }
                if answered == per_connection {
                    return;
                }
                let _ = reader.stream().write_all(OK).await;
            }
        }
    })
    .await
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let origin = Origin::json("{}").await;
    let proxy = Proxy::before(&origin).await;
    for _ in 0..50 {
        assert_eq!(proxy.post("/").key(&proxy.user_key).json("{}").send().await.status, 200);
    }
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn what_a_request_held_is_given_back_and_what_is_too_long_is_not_begun() {
    let origin = Origin::json("{}").await;
    let proxy = Proxy::builder(&origin)
        .config(
            "
defaults: {upstream: ai}
routes:
  - {id: held, path: /held, public: true}
  - {id: streamed, path: /streamed, public: true, request: {rules: [], max_body: 1KiB}}
",
        )
        .start()
        .await;
    assert_eq!(proxy.post("/held").json("\"held\"").send().await.status, 200);
    assert_eq!(proxy.metric("keyward_held_bytes").await, 0.0);
    let long = "x".repeat(1025);
    assert_eq!(proxy.post("/streamed").json(&long).send().await.code(), "BODY_TOO_LARGE");
    assert_eq!(origin.received().len(), 1, "the declared length was enough to know");
    assert_eq!(proxy.post("/streamed").json(&long[..1024]).send().await.status, 200);
}

#[tokio::test]
async fn a_request_that_met_a_dying_connection_is_sent_again() {
    let heads = Arc::new(AtomicUsize::new(0));
    let origin = closing_after(1, Arc::clone(&heads)).await;
    let proxy = Proxy::builder(&origin)
        .config("\ndefaults: {upstream: ai}\nroutes: [{id: all, path: /**, public: true}]\n")
        .start()
        .await;
    for _ in 0..10 {
        let answer = proxy.post("/").json(r#"{"a":1}"#).send().await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "{}"));
    }
    // Each request but the first met a connection that closed under it.
    assert_eq!((origin.connections(), heads.load(Ordering::SeqCst)), (10, 19));
    assert_eq!(proxy.metric(r#"keyward_upstream_requests_total{connection="resent",upstream="ai"}"#).await, 9.0);
}

#[tokio::test]
async fn a_request_is_not_sent_again_when_the_service_may_have_begun_with_it() {
    let heads = Arc::new(AtomicUsize::new(0));
    // A fresh connection that closes: not a race with an idle timeout, but a service that failed.
    let origin = closing_after(0, Arc::clone(&heads)).await;
    let proxy = Proxy::before(&origin).await;
    let answer = proxy.get("/").key(&proxy.user_key).send().await;
    assert_eq!((answer.code().as_str(), heads.load(Ordering::SeqCst)), ("UPSTREAM_BROKEN", 1));

    // A streamed body is gone once it was sent.
    let heads = Arc::new(AtomicUsize::new(0));
    let origin = closing_after(1, Arc::clone(&heads)).await;
    let proxy = Proxy::before(&origin).await;
    assert_eq!(proxy.get("/").key(&proxy.user_key).send().await.status, 200);
    let answer = proxy.post("/").key(&proxy.user_key).json(r#"{"a":1}"#).send().await;
    assert_eq!((answer.code().as_str(), heads.load(Ordering::SeqCst)), ("UPSTREAM_BROKEN", 2));
}

#[tokio::test]
async fn a_post_that_the_service_has_worked_on_is_not_sent_again() {
    let (arrived, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let heads = Arc::new(AtomicUsize::new(0));
    let (count, at, go) = (Arc::clone(&heads), Arc::clone(&arrived), Arc::clone(&release));
    let origin = Origin::raw(move |stream| {
        let (count, at, go) = (Arc::clone(&count), Arc::clone(&at), Arc::clone(&go));
        async move {
            let mut reader = Reader::new(stream);
            while let Some(head) = reader.head().await {
                reader.exactly(head.field("content-length").expect("held").parse().expect("a length")).await;
                if count.fetch_add(1, Ordering::SeqCst) > 0 {
                    at.notify_one();
                    go.notified().await;
                    return;
                }
                let _ = reader.stream().write_all(OK).await;
            }
        }
    })
    .await;
    let proxy = Proxy::builder(&origin)
        .config("\ndefaults: {upstream: ai}\nroutes: [{id: all, path: /**, public: true}]\n")
        .manual_clock()
        .start()
        .await;
    assert_eq!(proxy.post("/").json("{}").send().await.status, 200);
    let second = proxy.post("/").json("{}");
    let waiting = tokio::spawn(async move { second.send().await });
    within("the request's way", arrived.notified()).await;
    // A worker that is killed after two seconds, say.
    proxy.clock.advance(Duration::from_secs(2));
    release.notify_one();
    let answer = waiting.await.expect("the client's task");
    assert_eq!((answer.code().as_str(), heads.load(Ordering::SeqCst)), ("UPSTREAM_BROKEN", 2));
}

#[tokio::test]
async fn what_a_service_says_unasked_is_nobodys_answer() {
    // Each of these sends more than its framing says, after the answer was delivered.
    for (method, answer) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ] {
        let (delivered, said) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (go, done) = (Arc::clone(&delivered), Arc::clone(&said));
        let connections = Arc::new(AtomicUsize::new(0));
        let origin = Origin::raw(move |stream| {
            let (go, done) = (Arc::clone(&go), Arc::clone(&done));
            let first = connections.fetch_add(1, Ordering::SeqCst) == 0;
            async move {
                let mut reader = Reader::new(stream);
                while reader.head().await.is_some() {
                    if !first {
                        let _ = reader.stream().write_all(OK).await;
                        continue;
                    }
                    let _ = reader.stream().write_all(answer.as_bytes()).await;
                    go.notified().await;
                    let _ = reader.stream().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil").await;
                    done.notify_one();
                }
            }
        })
        .await;
        let proxy = Proxy::before(&origin).await;
        proxy.request(method, "/").key(&proxy.user_key).send().await;
        delivered.notify_one();
        within("the service's word", said.notified()).await;
        for _ in 0..3 {
            let answer = proxy.get("/").key(&proxy.org_key).send().await;
            assert_eq!((answer.status, answer.text().as_str()), (200, "{}"), "after {method} {answer:?}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_has_begun_is_never_asked_for_again() {
    let heads = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&heads);
    let origin = Origin::raw(move |stream| {
        let count = Arc::clone(&count);
        async move {
            let mut reader = Reader::new(stream);
            while reader.head().await.is_some() {
                if count.fetch_add(1, Ordering::SeqCst) == 0 {
                    let _ = reader.stream().write_all(OK).await;
                } else {
                    let _ = reader.stream().write_all(b"HTTP/1.1 200 O").await;
                    return;
                }
            }
        }
    })
    .await;
    let proxy = Proxy::before(&origin).await;
    assert_eq!(proxy.get("/").key(&proxy.user_key).send().await.status, 200);
    let answer = proxy.get("/").key(&proxy.user_key).send().await;
    assert_eq!((answer.code().as_str(), heads.load(Ordering::SeqCst)), ("UPSTREAM_BROKEN", 2));
}

#[tokio::test]
async fn workers_take_connections_by_count() {
    let origin = Origin::json("{}").await;
    let proxy = Proxy::builder(&origin).workers(2).start().await;
    let mut open = Vec::new();
    for _ in 0..6 {
        let mut connection = crate::harness::Connection::to(proxy.address).await;
        let answer = connection.request(&proxy.get("/").key(&proxy.user_key)).await;
        assert_eq!(answer.status, 200);
        open.push(connection);
    }
    assert_eq!(proxy.metric("keyward_connections").await, 6.0);
    // Each worker has a pool of its own, and both were used.
    assert_eq!(origin.connections(), 2);
}
