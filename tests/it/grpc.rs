//! gRPC: the library `grpcio` on both sides, and what Keyward says itself in its place.

use std::process::{Command, Stdio};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use tokio::io::AsyncWriteExt;

use crate::harness::{Origin, Process, Proxy, Reader, python, repository, within};
use crate::http2::{Client, get};

const CONFIG: &str = "
limits: {once: {requests: 1, per: 1h, by: key}}
defaults: {upstream: ai, request: {rules: [], max_body: 32MiB}, response: {rules: []}, trailers: [X-Sum]}
routes:
  - {id: unary, path: /test.Echo/Unary, methods: [POST]}
  - {id: server, path: /test.Echo/Server, methods: [POST]}
  - {id: client, path: /test.Echo/Client, methods: [POST]}
  - {id: both, path: /test.Echo/Both, methods: [POST]}
  - {id: guarded, path: /test.Guarded/Unary, scopes: [admin:ai]}
  - {id: scanned, path: /test.Scanned/Unary, request: {rules: [html]}}
  - {id: limited, path: /test.Limited/Unary, limits: [once]}
";

fn script(arguments: &[&str]) -> Command {
    let mut command = Command::new(python());
    command.arg(repository().join("tests/it/grpc_ends.py")).args(arguments).stdin(Stdio::null());
    command
}

#[tokio::test]
async fn every_kind_of_call_and_every_end_of_one() {
    let service = Process::start(&mut script(&["serve"]));
    let address = service.announced_address("listening");
    let upstream = format!("endpoints: ['http://{address}'], http2: true");
    let proxy = Proxy::builder_to(address).upstream(&upstream).config(CONFIG).start().await;
    let mut client = script(&["call", &proxy.address.to_string(), &proxy.org_key]);
    // The proxy accepts on this thread.
    let ran = tokio::task::spawn_blocking(move || client.output()).await.expect("no panic");
    let output = ran.expect("Python runs");
    assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stderr), service.said());
    // Both calls that were given up reached the service as what they were.
    service.wait_for("ended");
    service.wait_for("ended");
    let (_, records) = proxy.stop().await;
    let ends: Vec<_> = records.iter().filter_map(|record| record["refusal"].as_str()).collect();
    for code in
        ["MISSING_KEY", "INVALID_KEY", "ROUTE_NOT_FOUND", "INSUFFICIENT_SCOPE", "UNSCANNABLE_BODY", "AI_RATE_LIMITED"]
    {
        assert_eq!(ends.iter().filter(|end| **end == code).count(), 1, "{code}: {ends:?}");
    }
    assert!(records.iter().filter(|record| record["outcome"] == "complete").count() >= 8, "{records:#?}");
}

const PUBLIC: &str = "
defaults: {upstream: ai, request: {rules: []}, response: {rules: []}}
routes: [{id: all, path: /**, public: true}]
";

fn call(path: &str, timeout: &str) -> http::Request<Full<Bytes>> {
    let request = get(path).method("POST").header("content-type", "application/grpc").header("te", "trailers");
    request.header("grpc-timeout", timeout).body(Full::from("\0\0\0\0\0")).expect("a request")
}

/// A service that answers with a piece of a stream, if the path says so, and never with the end of it.
async fn endless() -> Origin {
    Origin::raw(|stream| async move {
        let mut reader = Reader::new(stream);
        let Some(head) = reader.head().await else { return };
        assert_eq!((head.field("te"), head.field("grpc-timeout")), (Some("trailers"), Some("300m")));
        if head.first_line.contains("/begun") {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n";
            let _ = reader.stream().write_all(format!("{head}5\r\n\0\0\0\0\0\r\n").as_bytes()).await;
        }
        // Until the connection is closed.
        while reader.line().await.is_some() {}
    })
    .await
}

#[tokio::test]
async fn a_call_ends_when_its_client_stops_waiting() {
    let origin = endless().await;
    let proxy = Proxy::builder(&origin).config(PUBLIC).start().await;
    let mut client = Client::to(&proxy).await;
    let late = client.send(call("/silent", "300m")).await.expect("an answer");
    let field = |name: &str| late.headers()[name].to_str().expect("text").to_owned();
    assert_eq!((late.status().as_u16(), field("content-type")), (200, "application/grpc".to_owned()));
    assert_eq!(
        (field("grpc-status"), field("grpc-message")),
        ("4".to_owned(), "The deadline of the call is over".to_owned())
    );
    let begun = client.send(call("/begun", "300m")).await.expect("an answer");
    assert!(begun.headers().get("grpc-status").is_none());
    let body = within("the end", begun.into_body().collect()).await.expect("an orderly end");
    assert_eq!(body.trailers().expect("trailers")["grpc-status"], "4");
    assert_eq!(body.to_bytes(), "\0\0\0\0\0");
    let (_, records) = proxy.stop().await;
    let ends: Vec<_> = records.iter().map(|record| (record["outcome"].clone(), record["refusal"].clone())).collect();
    let late = |outcome: &str| (outcome.into(), "DEADLINE_EXCEEDED".into());
    assert_eq!(ends, [late("refused"), late("aborted")]);
}

#[tokio::test]
async fn only_calls_over_http2_are_answered_as_such() {
    let origin = Origin::json("{}").await;
    let proxy = Proxy::before(&origin).await;
    let mut client = Client::to(&proxy).await;
    for (content_type, status) in [("application/grpc+proto", 200), ("application/grpc-web", 401), ("text/plain", 401)]
    {
        let request = get("/").method("POST").header("content-type", content_type).body(Full::default());
        let answer = client.send(request.expect("a request")).await.expect("an answer");
        assert_eq!(answer.status(), status, "{content_type}");
        let told = answer.headers().get("grpc-status").map(|status| status.to_str().expect("text").to_owned());
        assert_eq!(told.as_deref(), (status == 200).then_some("16"), "{content_type}");
        let body = within("the body", answer.into_body().collect()).await.expect("a whole body").to_bytes();
        assert_eq!(body.is_empty(), status == 200);
    }
    let old = proxy.post("/").body("application/grpc", "x").send().await;
    assert_eq!((old.status, old.code()), (401, "MISSING_KEY".to_owned()));
}
