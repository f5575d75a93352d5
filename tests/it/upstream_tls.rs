//! Services behind TLS: whom the proxy believes, what it shows, and how both change.

use crate::harness::{Authority, Kind, Proxy, Service, keyward_in, within};

const PUBLIC: &str = "
defaults: {upstream: ai, request: {rules: []}, response: {rules: []}}
routes: [{id: all, path: /**, public: true}, {id: ws, path: /ws, public: true, upgrade: [websocket]}]
";

async fn code(proxy: &Proxy) -> String {
    let answer = proxy.get("/a").send().await;
    if answer.status == 200 { answer.text() } else { answer.code() }
}

#[tokio::test]
async fn only_the_right_name_by_the_right_authority_is_believed() {
    let service = Service::start(Kind::Https).await;
    let stranger = Authority::new();
    let port = service.address.port();
    for (options, expected) in [
        (format!("endpoints: ['https://localhost:{port}'], tls: {{ca: {{file: service-ca.pem}}}}"), "GET /a 0"),
        (
            format!("endpoints: ['https://127.0.0.1:{port}'], tls: {{ca: {{file: service-ca.pem}}}}"),
            "UPSTREAM_UNREACHABLE",
        ),
        (
            format!(
                "endpoints: ['https://127.0.0.1:{port}'], tls: {{ca: {{file: service-ca.pem}}, server_name: localhost}}"
            ),
            "GET /a 0",
        ),
        (
            format!("endpoints: ['https://localhost:{port}'], tls: {{ca: {{file: stranger.pem}}}}"),
            "UPSTREAM_UNREACHABLE",
        ),
        (
            format!("endpoints: ['https://localhost:{port}'], http2: true, tls: {{ca: {{file: service-ca.pem}}}}"),
            "UPSTREAM_UNREACHABLE",
        ),
        (format!("endpoints: ['http://localhost:{port}']"), "UPSTREAM_BROKEN"),
    ] {
        let builder = Proxy::builder_to(service.address).upstream(&options).config(PUBLIC);
        let builder = builder.file("service-ca.pem", &service.authority.pem());
        let proxy = builder.file("stranger.pem", &stranger.pem()).start().await;
        assert_eq!(code(&proxy).await, expected, "{options}");
    }
}

#[tokio::test]
async fn the_protocol_is_agreed_on_or_insisted_on() {
    for (kind, http2, version) in [
        (Kind::Http2, "auto", http::Version::HTTP_2),
        (Kind::Http2, "true", http::Version::HTTP_2),
        (Kind::Https, "auto", http::Version::HTTP_11),
        (Kind::Https, "false", http::Version::HTTP_11),
    ] {
        let service = Service::start(kind).await;
        let proxy = service.proxy().base("endpoints: [", &format!("http2: {http2}, endpoints: [")).config(PUBLIC);
        let proxy = proxy.start().await;
        for _ in 0..3 {
            assert_eq!(code(&proxy).await, "GET /a 0");
        }
        let seen = service.seen();
        assert!(seen.iter().all(|seen| seen.version == version), "{kind:?} {http2}: {seen:?}");
        assert_eq!(service.connections(), 1, "{kind:?}");
    }
}

#[tokio::test]
async fn a_certificate_is_shown_and_may_change_on_disk() {
    let (authority, ours) = (Authority::new(), Authority::new());
    let certified = authority.certify(&["localhost"]);
    let known = ours.certify(&["keyward"]);
    let unknown = Authority::new().certify(&["keyward"]);
    let service = Service::shown(Kind::Https, authority, certified, Some(&ours)).await;
    let shows = "tls: {cert: {file: own.crt}, key: {file: own.key}, ";
    let proxy = service.proxy().base("tls: {", shows).base("endpoints: [", "keepalive: 0s, endpoints: [");
    let proxy = proxy.file("own.crt", &unknown.cert).file("own.key", &unknown.key).config(PUBLIC).start().await;
    assert_ne!(code(&proxy).await, "GET /a 0");
    let write = |name: &str, text: &str| std::fs::write(proxy.store().with_file_name(name), text).expect("written");
    // Half of a pair is not used; the whole one is.
    write("own.crt", &known.cert);
    let gauge = r#"keyward_upstream_tls_last_reload_success{upstream="ai"}"#;
    let until = |wanted: f64| {
        let proxy = &proxy;
        within("the files to be looked at", async move {
            while proxy.metric(gauge).await != wanted {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
    };
    until(0.0).await;
    write("own.key", &known.key);
    until(1.0).await;
    assert_eq!(code(&proxy).await, "GET /a 0");
}

#[tokio::test]
async fn a_websocket_goes_to_any_kind_of_service_that_speaks_http1() {
    for kind in [Kind::Http1, Kind::Https, Kind::Unix] {
        let service = Service::start(kind).await;
        let proxy = service.proxy().config(PUBLIC).start().await;
        let mut client = crate::harness::Connection::to(proxy.address).await;
        let handshake = proxy.get("/ws").header("Connection", "Upgrade").header("Upgrade", "websocket");
        let handshake = handshake.header("Sec-WebSocket-Version", "13");
        client.send(&handshake.header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")).await;
        assert_eq!(client.head().await.0, 101, "{kind:?}");
        assert_eq!(client.0.exactly(4).await.expect("a message"), b"\x81\x02hi");
        client.write(b"\x81\x83\0\0\0\0abc").await;
        assert_eq!(client.0.exactly(5).await.expect("a message"), b"\x81\x03abc");
    }
}

#[test]
fn check_names_what_cannot_be_used() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (one, two) = (authority.certify(&["a"]), other.certify(&["a"]));
    let dir = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("written");
    for (name, text) in [
        ("ca.pem", authority.pem().as_str()),
        ("a.crt", &one.cert),
        ("a.key", &one.key),
        ("b.key", &two.key),
        ("none", "no"),
    ] {
        write(name, text);
    }
    let says = |options: &str| {
        write(
            "proxy.yaml",
            &format!("upstreams: {{ai: {{{options}}}}}\nroutes: [{{id: a, path: /a, upstream: ai}}]\n"),
        );
        let output = keyward_in(dir.path(), &["check"]);
        let said = [output.stderr, output.stdout].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    };
    let with = |tls: &str| format!("endpoints: [https://a], tls: {{{tls}}}");
    let (code, said) = says(&with("ca: {file: ca.pem}, server_name: a, cert: {file: a.crt}, key: {file: a.key}"));
    assert_eq!(code, Some(0), "{said}");
    for (options, expected) in [
        (with("ca: {file: missing}"), "missing cannot be read"),
        (with("ca: {file: none}"), "none holds no certificate in PEM"),
        (with("cert: {file: a.crt}, key: {file: b.key}"), "b.key does not fit"),
        (with("cert: {file: a.crt}"), "`key` is missing"),
        (with("server_name: 'a b'"), "expected the name in the certificate"),
        ("endpoints: [http://a], tls: {ca: {file: ca.pem}}".to_owned(), "`tls` would mean nothing"),
    ] {
        let (code, said) = says(&options);
        assert!(code == Some(2) && said.contains(expected), "{options}: {said}");
    }
}
