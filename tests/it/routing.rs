//! Which route a request takes, and what the service then receives.

use crate::harness::{Connection, Origin, Proxy};

const CONFIG: &str = "
defaults: {upstream: ai, request: {rules: []}, response: {rules: []}}
routes:
  - {id: exact, path: /ai/chat, public: true}
  - {id: param, path: '/ai/{name}', public: true, methods: [GET, DELETE]}
  - {id: deeper, path: '/ai/{name}/history', public: true}
  - {id: prefix, path: /ai/**, public: true}
  - {id: any-post, path: /ai/posted, public: true}
  - {id: listed-post, path: /ai/posted, public: true, methods: [POST]}
  - {id: host, host: api.example, path: /**, public: true}
";

/// The route that a request took, by the usage metric.
async fn route_of(proxy: &Proxy, method: &str, target: &str, host: &str) -> String {
    const ROUTES: [&str; 7] = ["exact", "param", "deeper", "prefix", "any-post", "listed-post", "host"];
    let line = |route: &str| format!(r#"keyward_requests_total{{refusal="",route="{route}",status="2xx"}}"#);
    let mut before = Vec::new();
    for route in ROUTES {
        before.push(proxy.metric(&line(route)).await);
    }
    let answer = proxy.request(method, target).without_host().header("Host", host).send().await;
    for (route, before) in ROUTES.into_iter().zip(before) {
        if proxy.metric(&line(route)).await > before {
            return route.to_owned();
        }
    }
    answer.status.to_string()
}

#[tokio::test]
async fn the_most_specific_route_wins() {
    let origin = Origin::json("{}").await;
    let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
    for (method, target, host, route) in [
        ("GET", "/ai/chat", "a", "exact"),
        ("GET", "/ai/%63hat", "a", "exact"),
        ("GET", "/ai/x/../chat", "a", "exact"),
        ("GET", "/ai/other", "a", "param"),
        ("HEAD", "/ai/other", "a", "param"),
        ("POST", "/ai/other", "a", "prefix"),
        ("GET", "/ai/other/history", "a", "deeper"),
        ("GET", "/ai/other/else", "a", "prefix"),
        ("GET", "/ai/other/", "a", "prefix"),
        ("GET", "/ai", "a", "prefix"),
        ("GET", "/ai/", "a", "prefix"),
        ("GET", "/ai/posted", "a", "any-post"),
        ("POST", "/ai/posted", "a", "listed-post"),
        ("POST", "/ai/chat", "API.example:8080", "host"),
        ("GET", "/anything", "api.example.", "host"),
        ("GET", "/aix", "a", "401"),
        ("GET", "/", "a", "401"),
    ] {
        assert_eq!(route_of(&proxy, method, target, host).await, route, "{method} {target} at {host}");
    }
}

#[tokio::test]
async fn the_service_receives_what_was_matched() {
    let origin = Origin::json("{}").await;
    let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
    for (target, forwarded) in [
        ("/ai/chat?a=%2F&b=//x&c=%zz", "/ai/chat?a=%2F&b=//x&c=%zz"),
        ("/ai/./x/../chat?", "/ai/chat?"),
        ("/ai/caf%c3%a9", "/ai/caf%C3%A9"),
        ("/ai/a%3Ab%20c", "/ai/a:b%20c"),
        ("http://other.example/ai/chat?q=1", "/ai/chat?q=1"),
    ] {
        assert_eq!(proxy.get(target).send().await.status, 200, "{target}");
        let received = origin.received().pop().expect("a request");
        assert_eq!(received.head.first_line, format!("GET {forwarded} HTTP/1.1"));
    }
    // The absolute form decides the host, whatever the field says.
    assert_eq!(origin.received().pop().expect("a request").head.field("host"), Some("other.example"));
}

#[tokio::test]
async fn connections_are_kept_and_pipelined_requests_answered_in_order() {
    let origin = Origin::answering(|request| {
        crate::harness::Reply::json(format!("{:?}", request.head.first_line.split(' ').nth(1).expect("a target")))
    })
    .await;
    let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
    let mut connection = Connection::to(proxy.address).await;
    let targets: Vec<String> = (0..20).map(|n| format!("/ai/{n}")).collect();
    let burst: String = targets.iter().map(|target| format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    connection.write(burst).await;
    for target in &targets {
        assert_eq!(connection.answer("GET").await.text(), format!("{target:?}"));
    }
    assert_eq!(origin.connections(), 1, "one connection to the service serves one after the other");
}

#[tokio::test]
async fn a_body_that_nobody_read_does_not_confuse_the_next_request() {
    let origin = Origin::json("{}").await;
    let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
    let mut connection = Connection::to(proxy.address).await;
    // Refused before its body was looked at: small bodies are drained and the connection is kept.
    let smuggled = "GET /ai/smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    connection
        .write(format!("POST /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{smuggled}", smuggled.len()))
        .await;
    connection.write("GET /ai/chat HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(connection.answer("POST").await.code(), "MISSING_KEY");
    assert_eq!(connection.answer("GET").await.status, 200);
    assert_eq!(origin.only().head.first_line, "GET /ai/chat HTTP/1.1");
    // A large one is not: the answer arrives, and then the end.
    let mut connection = Connection::to(proxy.address).await;
    connection.write("POST /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\nstart").await;
    let answer = connection.answer("POST").await;
    assert_eq!((answer.code().as_str(), answer.head.field("connection")), ("MISSING_KEY", Some("close")));
    assert!(connection.0.at_end().await);
    // Neither is one that the client has not begun to send.
    let mut connection = Connection::to(proxy.address).await;
    connection.write("POST /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n").await;
    let (status, head) = connection.head().await;
    assert_eq!((status, head.field("connection")), (401, Some("close")), "refused without asking for the body");
}

#[tokio::test]
async fn bodies_arrive_whatever_the_method_and_only_with_codings_that_are_undone() {
    let origin = Origin::json("{}").await;
    let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
    for method in ["GET", "DELETE", "POST"] {
        assert_eq!(proxy.request(method, "/ai/posted").body("text/plain", "abc").chunked().send().await.status, 200);
        assert_eq!(origin.received().pop().expect("a request").body, b"abc", "{method}");
    }
    let sent = origin.received().len();
    let mut connection = Connection::to(proxy.address).await;
    connection.write("POST /ai/posted HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n").await;
    assert_eq!(connection.answer("POST").await.code(), "BAD_BODY");
    assert_eq!(origin.received().len(), sent);
}

#[tokio::test]
async fn the_chunks_of_a_response_count_and_not_the_length_beside_them() {
    let origin = Origin::answering(|_| {
        crate::harness::Reply::raw(
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
        )
    })
    .await;
    let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
    let answer = proxy.get("/ai/chat").send().await;
    assert_eq!((answer.text().as_str(), answer.complete), ("abcde", true));
}

#[tokio::test]
async fn head_and_expect() {
    let origin = Origin::answering(|request| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n";
        let body = if request.head.first_line.starts_with("HEAD") { "" } else { "{\"a\":1}" };
        crate::harness::Reply::raw(format!("{head}{body}"))
    })
    .await;
    let proxy = Proxy::builder(&origin)
        .config(
            "
defaults: {upstream: ai}
routes: [{id: all, path: /**, public: true}]
",
        )
        .start()
        .await;
    let mut connection = Connection::to(proxy.address).await;
    connection.write("HEAD /x HTTP/1.1\r\nHost: a\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let head = connection.answer("HEAD").await;
    assert_eq!((head.status, head.head.field("content-length")), (200, Some("7")));
    assert_eq!(connection.answer("GET").await.text(), r#"{"a":1}"#, "no body of the HEAD answer is in the way");
    let refused = proxy.request("HEAD", "/a//b").send().await;
    assert_eq!((refused.status, refused.body.len()), (400, 0));

    let mut connection = Connection::to(proxy.address).await;
    connection.write("POST /x HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n").await;
    assert_eq!(connection.head().await.0, 100);
    connection.write("{}").await;
    assert_eq!(connection.answer("POST").await.status, 200);
    let received = origin.received().pop().expect("a request");
    assert_eq!((received.body.as_slice(), received.head.field("expect")), (&b"{}"[..], None));
}

#[tokio::test]
async fn an_old_client_gets_what_it_can_read() {
    let origin = Origin::answering(|_| {
        crate::harness::Reply::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
    })
    .await;
    let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
    let mut connection = Connection::to(proxy.address).await;
    connection.write("GET /ai/chat HTTP/1.0\r\n\r\n").await;
    let answer = connection.answer("GET").await;
    let host = origin.address.to_string();
    assert_eq!(origin.only().head.field("host"), Some(host.as_str()), "HTTP/1.1 wants a host");
    assert_eq!((answer.status, answer.text().as_str()), (200, "abc"));
    assert_eq!(answer.head.field("transfer-encoding"), None);
}
