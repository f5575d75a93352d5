//! Who may come before any key is looked at: addresses, certificates, websites, and what a balancer says of them.

use http_body_util::Full;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::harness::{Authority, Connection, Origin, Proxy, Reader, Reply, shake};
use crate::http2::{Client, get};

const CORS: &str = "
trusted_proxies: [127.0.0.1]
defaults:
  upstream: ai
  request: {rules: []}
  response: {rules: []}
  cors: {origins: ['https://app.example.com', 'https://*.example.org']}
routes:
  - {id: chat, path: /chat, methods: [POST], scopes: []}
  - {id: all, path: /any/**, public: true, cors: {origins: '*', headers: [X-A], expose: [], max_age: 1h}}
  - id: session
    path: /session
    methods: [GET, PUT]
    cors: {origins: ['http://localhost:3000'], methods: [PUT], credentials: true, expose: [X-B, X-C]}
  - {id: plain, path: /plain, methods: [GET, OPTIONS], public: true, cors: off}
  - {id: office, path: /office, allow_from: [198.51.100.0/24], methods: [GET]}
";

/// A service with an opinion of its own about websites.
async fn opinionated() -> Origin {
    Origin::answering(|_| {
        Reply::raw(
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nVary: Accept\r\nAccess-Control-Allow-Origin: https://evil.test\r\n\
             Access-Control-Allow-Credentials: true\r\n\r\n{}",
        )
    })
    .await
}

const FIELDS: [&str; 6] = [
    "access-control-allow-origin",
    "access-control-allow-methods",
    "access-control-allow-headers",
    "access-control-max-age",
    "access-control-allow-credentials",
    "access-control-expose-headers",
];

#[tokio::test]
async fn a_browser_is_answered_before_any_key_and_told_of_every_answer() {
    let origin = opinionated().await;
    let proxy = Proxy::builder(&origin).config(CORS).start().await;
    let app = "https://app.example.com";
    for (path, method, from, status, told) in [
        (
            "/chat",
            "POST",
            app,
            204,
            [
                Some(app),
                Some("POST"),
                Some("authorization, x-api-key, content-type"),
                Some("600"),
                None,
                Some("x-request-id, retry-after"),
            ],
        ),
        ("/chat", "POST", "https://evil.test", 403, [None; 6]),
        ("/chat", "POST", "https://a.b.example.org", 403, [None; 6]),
        (
            "/any/x",
            "DELETE",
            "https://evil.test",
            204,
            [Some("*"), Some("DELETE"), Some("x-a"), Some("3600"), None, None],
        ),
        (
            "/session",
            "PUT",
            "http://localhost:3000",
            204,
            [
                Some("http://localhost:3000"),
                Some("PUT"),
                Some("authorization, x-api-key, content-type"),
                Some("600"),
                Some("true"),
                Some("x-b, x-c"),
            ],
        ),
        // No route takes these, and a preflight tells no more than any other request without a key.
        ("/nowhere", "POST", app, 401, [Some(app), None, None, None, None, Some("x-request-id, retry-after")]),
        ("/chat", "GET", app, 401, [Some(app), None, None, None, None, Some("x-request-id, retry-after")]),
        ("/office", "GET", app, 403, [Some(app), None, None, None, None, Some("x-request-id, retry-after")]),
    ] {
        let asked = proxy.request("OPTIONS", path).header("Origin", from);
        let answer = asked.header("Access-Control-Request-Method", method).send().await;
        let got = FIELDS.map(|name| answer.head.field(name));
        assert_eq!((answer.status, got), (status, told), "{path} {method} {from}");
    }
    assert!(origin.received().is_empty());
    // A route without it answers for itself.
    let asked = proxy.request("OPTIONS", "/plain").header("Origin", app).header("Access-Control-Request-Method", "GET");
    let answer = asked.send().await;
    assert_eq!((answer.status, answer.head.field(FIELDS[0])), (200, Some("https://evil.test")));

    for (from, allowed) in [(app, Some(app)), ("https://b.example.org", Some("https://b.example.org")), ("null", None)]
    {
        for (key, status) in [(Some(&proxy.org_key), 200), (None, 401)] {
            let request = proxy.post("/chat").header("Origin", from).json("{}");
            let answer = key.map_or(request.clone(), |key| request.key(key)).send().await;
            assert_eq!((answer.status, answer.head.field(FIELDS[0])), (status, allowed), "{from}");
            assert_eq!(answer.head.field(FIELDS[4]), None);
            let vary: Vec<_> =
                answer.head.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("vary")).collect();
            assert_eq!(vary.last().map(|(_, value)| value.as_str()), Some("Origin"), "{vary:?}");
        }
    }
    // Two origins are none.
    let two = proxy.post("/chat").header("Origin", app).header("Origin", app).json("{}").send().await;
    assert_eq!(two.head.field(FIELDS[0]), None);
    let anybody = proxy.get("/any/x").header("Origin", "https://evil.test").send().await;
    assert_eq!(
        (anybody.status, anybody.head.field(FIELDS[0]), anybody.head.field("vary")),
        (200, Some("*"), Some("Accept"))
    );
    let (_, records) = proxy.stop().await;
    assert_eq!((&records[0]["route"], &records[0]["status"]), (&"chat".into(), &204.into()));
}

#[tokio::test]
async fn a_route_takes_clients_of_its_networks_only() {
    let origin = Origin::json("{}").await;
    let proxy = Proxy::builder(&origin)
        .config(
            "
trusted_proxies: [127.0.0.1]
defaults: {upstream: ai, request: {rules: []}, response: {rules: []}, allow_from: [192.0.2.0/24, '2001:db8::/32']}
routes:
  - {id: all, path: /**}
  - {id: open, path: /open, public: true, allow_from: [0.0.0.0/0]}
",
        )
        .start()
        .await;
    let key = proxy.org_key.clone();
    let from = |path: &str, address: &str| proxy.get(path).key(&key).header("X-Forwarded-For", address);
    for (path, address, status) in [
        ("/a", "192.0.2.200", 200),
        ("/a", "2001:db8::1", 200),
        ("/a", "192.0.2.1, 198.51.100.1", 403),
        ("/a", "198.51.100.1, 192.0.2.1", 200),
        ("/a", "::ffff:192.0.2.1", 200),
        ("/open", "198.51.100.1", 200),
        ("/open", "2001:db8::1", 403),
    ] {
        let answer = from(path, address).send().await;
        assert_eq!(answer.status, status, "{path} {address}");
        assert!(status == 200 || answer.code() == "ADDRESS_NOT_ALLOWED", "{path} {address}");
    }
    // Nobody learns there whether a key is good, or what routes there are.
    assert_eq!(
        from("/a", "198.51.100.1").header("X-Api-Key", "kw_live_other").send().await.code(),
        "ADDRESS_NOT_ALLOWED"
    );
    proxy.reload(
        "
defaults: {upstream: ai, request: {rules: []}, response: {rules: []}, allow_from: [192.0.2.0/24]}
routes: [{id: all, path: /only, allow_from: [127.0.0.0/8]}]
",
    );
    assert_eq!(proxy.get("/other").key(&key).send().await.code(), "ADDRESS_NOT_ALLOWED");
    assert_eq!(proxy.get("/only").key(&key).send().await.status, 200);
    // What a client says of itself counts no more.
    assert_eq!(proxy.get("/other").key(&key).header("X-Forwarded-For", "192.0.2.1").send().await.status, 403);
}

#[tokio::test]
async fn a_route_takes_certificates_of_its_names_only() {
    let authority = Authority::new();
    let origin = Origin::json("{}").await;
    let server = authority.certify(&["localhost"]);
    let listen = "listen: {address: '127.0.0.1:0'";
    let tls = "tls: {cert: {file: a.crt}, key: {file: a.key}, client_ca: {file: ca.crt}}";
    let proxy = Proxy::builder(&origin)
        .config(
            "
defaults: {upstream: ai, request: {rules: []}, response: {rules: []}}
routes:
  - {id: named, path: /named, public: true, client_cert: {san: [a.clients.test, '*.b.test', 'spiffe://x/y']}}
  - {id: any, path: /any, public: true}
",
        )
        .base(listen, &format!("{listen}, {tls}"))
        .file("a.crt", &server.cert)
        .file("a.key", &server.key)
        .file("ca.crt", &authority.pem())
        .start()
        .await;
    for (names, status) in [
        (&["A.clients.test"][..], 200),
        (&["other.test", "c.b.test"], 200),
        (&["b.test"], 403),
        (&["c.c.b.test"], 403),
        (&["127.0.0.1"], 403),
    ] {
        let own = authority.certify(names);
        for protocol in ["http/1.1", "h2"] {
            let stream = shake(&authority.connector(&[protocol], Some(&own)), proxy.address, "localhost").await;
            let stream = stream.expect("a handshake");
            let (named, any) = if protocol == "h2" {
                let mut client = Client::over(stream).await;
                let request = |path| get(path).header("x-forwarded-client-cert", "DNS=a.clients.test");
                let named = client.send(request("/named").body(Full::default()).expect("a request")).await;
                let any = client.send(request("/any").body(Full::default()).expect("a request")).await;
                (named.expect("an answer").status().as_u16(), any.expect("an answer").status().as_u16())
            } else {
                let mut reader = Reader::new(stream);
                let mut statuses = [0; 2];
                for (path, status) in ["/named", "/any"].iter().zip(&mut statuses) {
                    let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\nX-SSL-Client-DN: CN=a\r\n\r\n");
                    reader.stream().write_all(head.as_bytes()).await.expect("written");
                    let head = reader.head().await.expect("a head");
                    let length = head.field("content-length").and_then(|length| length.parse().ok());
                    *status = head.first_line[9..12].parse().expect("a status");
                    reader.exactly(length.expect("a length")).await.expect("a body");
                }
                (statuses[0], statuses[1])
            };
            assert_eq!((named, any), (status, 200), "{names:?} {protocol}");
        }
    }
    for request in origin.received() {
        assert!(request.head.fields.iter().all(|(name, _)| !name.contains("client")), "{:?}", request.head);
    }
}

const PROXIED: &str = "
defaults: {upstream: ai, request: {rules: []}, response: {rules: []}}
routes: [{id: all, path: /**, public: true}]
";

/// A proxy whose peers at 127.0.0.1 speak the PROXY protocol, and an echo of the client's address behind it.
async fn balanced(timeouts: &str) -> Proxy {
    let origin = Origin::answering(|request| {
        Reply::json(format!("{:?}", request.head.field("x-forwarded-for").unwrap_or_default()))
    })
    .await;
    let listen = "listen: {address: '127.0.0.1:0'";
    let spoken = format!("{listen}, proxy_protocol: [127.0.0.1, 192.0.2.0/24]");
    Proxy::builder(&origin).config(PROXIED).base(listen, &spoken).base("body: 20s", timeouts).start().await
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n";

#[tokio::test]
async fn a_balancer_says_whose_connection_it_is() {
    let proxy = balanced("body: 20s").await;
    let mut version_2 =
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0f\xcb\0\x71\x07\x0a\0\0\x01\x01\xbb\x1f\x90\x04\0\0".to_vec();
    version_2.extend(GET.as_bytes());
    for (bytes, client) in [
        (format!("PROXY TCP4 203.0.113.9 10.0.0.1 443 80\r\n{GET}").into_bytes(), "203.0.113.9"),
        (format!("PROXY TCP6 2001:db8::9 ::1 443 80\r\n{GET}").into_bytes(), "2001:db8::9"),
        (format!("PROXY UNKNOWN\r\n{GET}").into_bytes(), "127.0.0.1"),
        (version_2, "203.0.113.7"),
    ] {
        for pieces in [bytes.len(), 5] {
            let mut connection = Connection::to(proxy.address).await;
            for piece in bytes.chunks(pieces) {
                connection.write(piece).await;
                tokio::task::yield_now().await;
            }
            assert_eq!(connection.answer("GET").await.text(), format!("{client:?}"));
            // It is said once for a connection.
            connection.write(GET).await;
            assert_eq!(connection.answer("GET").await.text(), format!("{client:?}"));
        }
    }
    // HTTP/2 may follow.
    let mut stream = TcpStream::connect(proxy.address).await.expect("a connection");
    stream.write_all(b"PROXY TCP4 203.0.113.9 10.0.0.1 443 80\r\n").await.expect("written");
    let mut client = Client::over(stream).await;
    let answer = client.send(get("/").body(Full::default()).expect("a request")).await.expect("an answer");
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn a_balancer_without_a_header_is_not_served() {
    let proxy = balanced("handshake: 200ms").await;
    for bytes in [GET, "PROXY TCP4 here 10.0.0.1 443 80\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "PROXY TCP4 203", ""] {
        let mut connection = Connection::to(proxy.address).await;
        connection.write(bytes).await;
        assert!(connection.0.at_end().await, "{bytes}");
    }
    assert_eq!(proxy.metric("keyward_proxy_protocol_failures_total").await, 4.0);
    assert_eq!(proxy.metric("keyward_client_timeouts_total{wait=\"handshake\"}").await, 2.0);
    let (_, records) = proxy.stop().await;
    assert!(records.is_empty());
}

#[tokio::test]
async fn others_do_not_speak_it_and_gain_nothing_by_it() {
    let origin = Origin::json("{}").await;
    let listen = "listen: {address: '127.0.0.1:0'";
    let spoken = format!("{listen}, proxy_protocol: [192.0.2.0/24]");
    let proxy = Proxy::builder(&origin).config(PROXIED).base(listen, &spoken).start().await;
    assert_eq!(proxy.get("/").send().await.status, 200);
    let mut connection = Connection::to(proxy.address).await;
    connection.write(format!("PROXY TCP4 203.0.113.9 10.0.0.1 443 80\r\n{GET}")).await;
    assert_eq!(connection.head().await.0, 400);
    assert_eq!(origin.received().len(), 1);
}
