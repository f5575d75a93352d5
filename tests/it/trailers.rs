//! Trailers pass by name, and nothing opens a tunnel.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use tokio::io::AsyncWriteExt;

use crate::harness::{Connection, Framing, Origin, Proxy, Reader, Reply, within};
use crate::http2::Client;

const CONFIG: &str = "
defaults: {upstream: ai, request: {rules: []}, response: {rules: []}}
routes:
  - {id: listed, path: /listed, public: true, trailers: [X-Sum]}
  - {id: scanned, path: /scanned, public: true, trailers: [X-Sum], response: {rules: [html]}}
  - {id: none, path: /none, public: true}
";

/// A service that says `data` in chunks, announcing its trailers or not.
async fn service(announced: bool, data: &'static str) -> Origin {
    let announced = if announced { "Trailer: X-Sum, X-Org-Code, X-Other\r\n" } else { "" };
    Origin::answering(move |_| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n";
        let end = "0\r\nX-Sum: 1\r\nX-Org-Code: evil\r\nx_org_code: evil\r\nX-Other: 2\r\nX-Sum: 3\r\n\r\n";
        Reply::raw(format!("{head}{announced}\r\n{:x}\r\n{data}\r\n{end}", data.len()))
    })
    .await
}

#[tokio::test]
async fn listed_trailers_of_a_response_pass_to_those_who_take_them() {
    for announced in [true, false] {
        let origin = service(announced, "data: 1\n\n").await;
        let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
        for (path, te, wanted) in [
            ("/listed", "TE: trailers\r\n", &["x-sum: 1", "x-sum: 3"][..]),
            ("/scanned", "TE: trailers\r\n", &["x-sum: 1", "x-sum: 3"]),
            ("/none", "TE: trailers\r\n", &[]),
            ("/listed", "", &[]),
        ] {
            let mut connection = Connection::to(proxy.address).await;
            connection.write(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{te}\r\n")).await;
            let (status, head) = connection.head().await;
            let (body, complete) = connection.0.body(Framing::Chunked).await;
            assert_eq!((status, &body[..], complete), (200, &b"data: 1\n\n"[..], true), "{path}");
            let got: Vec<_> = connection.0.trailers().iter().map(|line| line.to_lowercase()).collect();
            assert_eq!(got, wanted, "{path} {te} {announced}");
            assert_eq!(head.field("trailer"), (path != "/none").then_some("x-sum"), "{path} {announced}");
            let asked = origin.received().pop().expect("a request").head;
            assert_eq!(asked.field("te"), (path != "/none" && !te.is_empty()).then_some("trailers"));
        }
        // The connection to the service was good for all of them.
        assert_eq!(origin.connections(), 1);
        let (_, records) = proxy.stop().await;
        assert!(records.iter().all(|record| record["outcome"] == "complete"), "{records:?}");
    }
}

#[tokio::test]
async fn http2_carries_them_too_and_what_is_cut_has_none() {
    let origin = service(false, "data: {\"t\":\"<script>\"}\n\n").await;
    let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
    let mut client = Client::to(&proxy).await;
    for (path, wanted) in [("/listed", Some(2)), ("/none", None), ("/scanned", None)] {
        let request = Request::get(format!("http://a{path}")).body(Full::<Bytes>::default()).expect("a request");
        let answer = client.send(request).await.expect("an answer");
        let body = within("the body", answer.into_body().collect()).await.expect("a whole body");
        let sums = body.trailers().map(|trailers| trailers.get_all("x-sum").iter().count());
        assert_eq!(sums, wanted, "{path}");
        assert!(body.trailers().is_none_or(|trailers| trailers.keys_len() == 1), "{:?}", body.trailers());
    }
}

#[tokio::test]
async fn listed_trailers_of_a_request_pass_on() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let origin = Origin::raw(move |stream| {
        let log = Arc::clone(&log);
        async move {
            let mut reader = Reader::new(stream);
            while let Some(head) = reader.head().await {
                let (body, complete) = reader.body(Framing::Chunked).await;
                let trailer = head.field("trailer").map(str::to_owned);
                log.lock().expect("no panic").push((body, complete, trailer, reader.trailers().to_vec()));
                let _ = reader.stream().write_all(b"HTTP/1.1 204 X\r\n\r\n").await;
            }
        }
    })
    .await;
    let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
    for path in ["/listed", "/none"] {
        let mut connection = Connection::to(proxy.address).await;
        let head = "Host: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, X-User-Id";
        let end = "2\r\nab\r\n0\r\nX-Sum: 1\r\nX-User-Id: evil\r\nX_User_Id: evil\r\n\r\n";
        connection.write(format!("POST {path} HTTP/1.1\r\n{head}\r\n\r\n{end}")).await;
        assert_eq!(connection.answer("POST").await.status, 204);
    }
    let mut client = Client::to(&proxy).await;
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "2".parse().expect("a value"));
    trailers.insert("x-org-code", "evil".parse().expect("a value"));
    assert_eq!(client.send_with_trailers("/listed", b"ab", trailers).await.expect("an answer").status(), 204);
    let seen = seen.lock().expect("no panic").clone();
    let line = |sum: &str| vec![format!("x-sum: {sum}")];
    let sum = || Some("x-sum".to_owned());
    let ab = b"ab".to_vec();
    assert_eq!(
        seen,
        [(ab.clone(), true, sum(), line("1")), (ab.clone(), true, None, vec![]), (ab, true, sum(), line("2"))]
    );
}

#[tokio::test]
async fn nobody_gets_a_tunnel() {
    let origin = Origin::json("{}").await;
    let proxy = Proxy::before(&origin).await;
    let mut connection = Connection::to(proxy.address).await;
    let key = &proxy.org_key;
    connection.write(format!("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nX-Api-Key: {key}\r\n\r\n")).await;
    let refused = connection.answer("CONNECT").await;
    assert_eq!((refused.status, refused.code()), (400, "BAD_PATH".to_owned()));
    let mut client = Client::to(&proxy).await;
    let request = Request::builder().method("CONNECT").uri("a:443").header("x-api-key", key);
    let refused = client.send(request.body(Full::default()).expect("a request")).await.expect("an answer");
    assert_eq!(refused.status(), 400);
    assert!(origin.received().is_empty());
}
