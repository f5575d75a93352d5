//! `Expect: 100-continue`: who asks the client for its body, and when.

use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::sync::Notify;

use crate::harness::{Connection, Framing, Origin, Proxy, Reader, Reply};

const CONFIG: &str = "
defaults: {upstream: ai, request: {rules: []}, response: {rules: []}}
routes:
  - {id: streamed, path: /streamed, public: true}
  - {id: held, path: /held, public: true, request: {rules: [html]}}
";

const HEAD: &str = "Host: a\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";

/// A service that asks for the body when it is told to, and answers with it.
async fn asking(ask: Arc<Notify>) -> Origin {
    Origin::raw(move |stream| {
        let ask = Arc::clone(&ask);
        async move {
            let mut reader = Reader::new(stream);
            let Some(head) = reader.head().await else { return };
            assert_eq!(head.field("expect"), Some("100-continue"));
            ask.notified().await;
            let _ = reader.stream().write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await;
            let (body, _) = reader.body(Framing::Length(2)).await;
            let _ = reader.stream().write_all(&Reply::json(body).0).await;
        }
    })
    .await
}

#[tokio::test]
async fn the_service_asks_for_a_body_that_is_forwarded_as_it_comes() {
    let ask = Arc::new(Notify::new());
    let origin = asking(Arc::clone(&ask)).await;
    let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
    let mut connection = Connection::to(proxy.address).await;
    connection.write(format!("POST /streamed HTTP/1.1\r\n{HEAD}")).await;
    ask.notify_one();
    assert_eq!(connection.head().await.0, 100);
    connection.write("{}").await;
    let answer = connection.answer("POST").await;
    assert_eq!((answer.status, answer.text()), (200, "{}".to_owned()));
}

#[tokio::test]
async fn a_service_that_refuses_saves_the_client_its_body() {
    let origin = Origin::raw(|stream| async move {
        let mut reader = Reader::new(stream);
        reader.head().await;
        let _ = reader.stream().write_all(&Reply::new(413, "application/json", "{\"no\":1}").0).await;
        // Whatever else comes is not a body that nobody asked for.
        assert!(reader.at_end().await);
    })
    .await;
    let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
    for _ in 0..2 {
        let mut connection = Connection::to(proxy.address).await;
        connection.write(format!("POST /streamed HTTP/1.1\r\n{HEAD}")).await;
        let (status, head) = connection.head().await;
        assert_eq!((status, head.field("connection")), (413, Some("close")), "no 100 comes before it");
        assert_eq!(connection.0.body(Framing::Length(8)).await, (b"{\"no\":1}".to_vec(), true));
        assert!(connection.0.at_end().await);
    }
    assert_eq!(origin.connections(), 2, "a connection with half a request on it is not used again");
    let (_, records) = proxy.stop().await;
    assert!(records.iter().all(|record| record["status"] == 413 && record["outcome"] == "complete"), "{records:?}");
}

#[tokio::test]
async fn nobody_waits_for_a_service_that_does_not_know_the_question() {
    let origin = Origin::answering(|request| Reply::json(&request.body)).await;
    let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
    // The rules ask for a held body; for the other Keyward does, when the service has said nothing for a while.
    for path in ["/held", "/streamed"] {
        let mut connection = Connection::to(proxy.address).await;
        connection.write(format!("POST {path} HTTP/1.1\r\n{HEAD}")).await;
        assert_eq!(connection.head().await.0, 100, "{path}");
        connection.write("{}").await;
        let answer = connection.answer("POST").await;
        assert_eq!((answer.status, answer.text()), (200, "{}".to_owned()), "{path}");
        // And the connection goes on.
        connection.write("GET /streamed HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(connection.answer("GET").await.status, 200);
    }
    let asked: Vec<_> = origin.received().iter().map(|request| request.head.field("expect").is_some()).collect();
    assert_eq!(asked, [false, false, true, false]);
    // A client of HTTP/1.0 sends its body whatever it says, and so does one that does not wait.
    let mut connection = Connection::to(proxy.address).await;
    connection.write(format!("POST /streamed HTTP/1.0\r\n{HEAD}{{}}")).await;
    assert_eq!(connection.head().await.0, 200);
    let mut connection = Connection::to(proxy.address).await;
    connection.write(format!("POST /streamed HTTP/1.1\r\n{HEAD}{{}}")).await;
    assert_eq!(connection.answer("POST").await.text(), "{}");
}

#[tokio::test]
async fn what_keyward_refuses_is_never_asked_for() {
    let origin = Origin::json("{}").await;
    let proxy = Proxy::before(&origin).await;
    let mut connection = Connection::to(proxy.address).await;
    connection.write(format!("POST / HTTP/1.1\r\n{HEAD}")).await;
    let (status, head) = connection.head().await;
    assert_eq!((status, head.field("connection")), (401, Some("close")));
}
