//! TLS towards clients: real clients, certificates by name and by client, and a change of both while running.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use http_body_util::Full;
use tokio::io::AsyncWriteExt;

use crate::harness::{Authority, Certified, Origin, Proxy, Reader, Reply, keyward_in, shake, within};
use crate::http2::{Client, get};

const PUBLIC: &str = "
defaults: {upstream: ai, request: {rules: []}, response: {rules: []}}
routes: [{id: all, path: /**, public: true}]
";

const LISTEN: &str = "listen: {address: '127.0.0.1:0'";

/// A proxy whose TLS is `tls`, with one certificate of `names` in `a.crt` and `a.key`.
async fn proxy_with(origin: &Origin, tls: &str, certified: &Certified, more: &[(&str, &str)]) -> Proxy {
    let listen = format!("{LISTEN}, tls: {{cert: {{file: a.crt}}, key: {{file: a.key}}{tls}}}");
    let builder = Proxy::builder(origin).config(PUBLIC).base(LISTEN, &listen);
    let builder = builder.file("a.crt", &certified.cert).file("a.key", &certified.key);
    more.iter().fold(builder, |builder, (name, text)| builder.file(name, text)).start().await
}

async fn curl(arguments: Vec<String>) -> String {
    let run = move || Command::new("curl").args(["-sS", "--max-time", "50"]).args(&arguments).output();
    let output = tokio::task::spawn_blocking(run).await.expect("no panic").expect("curl runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[tokio::test]
async fn curl_speaks_every_version_to_it() {
    let authority = Authority::new();
    let origin = Origin::answering(|request| {
        Reply::json(format!("{} {}", request.head.field("x-forwarded-proto").unwrap_or("-"), request.body.len()))
    })
    .await;
    let proxy = proxy_with(&origin, "", &authority.certify(&["localhost"]), &[]).await;
    let ca = proxy.store().with_file_name("ca.pem");
    std::fs::write(&ca, authority.pem()).expect("written");
    let body = proxy.store().with_file_name("body");
    std::fs::write(&body, "x".repeat(2_000_000)).expect("written");
    for (options, version) in [
        (&["--http2", "--tlsv1.3"][..], "2"),
        (&["--http2", "--tls-max", "1.2"], "2"),
        (&["--http1.1"], "1.1"),
        (&["--http2-prior-knowledge"], "2"),
        (&["--no-alpn"], "1.1"),
    ] {
        let mut arguments: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        arguments.extend(["--cacert".to_owned(), ca.display().to_string()]);
        arguments.extend(["--data-binary".to_owned(), format!("@{}", body.display())]);
        arguments.extend(["-w", " %{http_version}"].map(str::to_owned));
        arguments.push(format!("https://localhost:{}/", proxy.address.port()));
        assert_eq!(curl(arguments).await, format!("https 2000000 {version}"), "{options:?}");
    }
}

#[tokio::test]
async fn openssl_speaks_both_versions_to_it_and_no_older_one() {
    let authority = Authority::new();
    let origin = Origin::json("{}").await;
    let proxy = proxy_with(&origin, "", &authority.certify(&["localhost"]), &[]).await;
    let ca = proxy.store().with_file_name("ca.pem");
    std::fs::write(&ca, authority.pem()).expect("written");
    for (version, works) in [("-tls1_3", true), ("-tls1_2", true), ("-tls1_1", false)] {
        let mut client = Command::new("openssl");
        client.args(["s_client", "-quiet", "-verify_return_error", "-verify_hostname", "localhost", version]);
        client.args(["-servername", "localhost", "-connect", &proxy.address.to_string(), "-CAfile"]).arg(&ca);
        client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let run = move || {
            let mut client = client.spawn().expect("openssl runs");
            let mut stdin = client.stdin.take().expect("a pipe");
            // Who is refused may be gone already.
            let _ = stdin.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            // With `-quiet` it reads on after this end.
            drop(stdin);
            client.wait_with_output().expect("it ends")
        };
        let output = within("openssl", tokio::task::spawn_blocking(run)).await.expect("no panic");
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said.starts_with("HTTP/1.1 200 "), works, "{version}: {output:?}");
        assert_eq!(output.status.success(), works, "{version}: {output:?}");
    }
}

/// The names in the certificate that a client sees, as the bytes of the certificate.
async fn shown(authority: &Authority, proxy: &Proxy, name: &str) -> Vec<u8> {
    let stream = shake(&authority.connector(&["h2"], None), proxy.address, name).await.expect("a handshake");
    let (_, session) = stream.get_ref();
    session.peer_certificates().expect("certificates")[0].to_vec()
}

#[tokio::test]
async fn the_name_chooses_the_certificate() {
    let authority = Authority::new();
    let origin = Origin::json("{}").await;
    let (first, wild, exact) = (
        authority.certify(&["127.0.0.1", "a.test"]),
        authority.certify(&["*.b.test"]),
        authority.certify(&["X.b.test"]),
    );
    let proxy = proxy_with(
        &origin,
        ", certificates: [{cert: {file: w.crt}, key: {file: w.key}}, {cert: {file: x.crt}, key: {file: x.key}}]",
        &first,
        &[("w.crt", &wild.cert), ("w.key", &wild.key), ("x.crt", &exact.cert), ("x.key", &exact.key)],
    )
    .await;
    let a = shown(&authority, &proxy, "a.test").await;
    let any = shown(&authority, &proxy, "any.b.test").await;
    let x = shown(&authority, &proxy, "x.b.test").await;
    assert!(a != any && any != x && x != a);
    assert_eq!(shown(&authority, &proxy, "127.0.0.1").await, a, "the first answers who names nobody");
    let deeper = shake(&authority.connector(&["h2"], None), proxy.address, "y.any.b.test").await;
    assert!(deeper.is_err(), "a wildcard is for one label");
}

#[tokio::test]
async fn a_client_without_the_right_certificate_is_not_heard() {
    let (authority, clients, strangers) = (Authority::new(), Authority::new(), Authority::new());
    let origin = Origin::json("{}").await;
    let certified = authority.certify(&["localhost"]);
    let proxy = proxy_with(&origin, ", client_ca: {file: ca.pem}", &certified, &[("ca.pem", &clients.pem())]).await;
    let known = clients.certify(&["client"]);
    let stranger = strangers.certify(&["client"]);
    for (own, heard) in [(Some(&known), true), (Some(&stranger), false), (None, false)] {
        // TLS 1.3 tells a client that it is not wanted only when it reads.
        let answer = async {
            let stream = shake(&authority.connector(&["http/1.1"], own), proxy.address, "localhost").await.ok()?;
            let mut reader = Reader::new(stream);
            reader.stream().write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.ok()?;
            reader.head().await
        };
        assert_eq!(answer.await.is_some(), heard);
    }
    assert_eq!(origin.received().len(), 1);
    assert_eq!(proxy.metric("keyward_tls_handshake_failures_total").await, 2.0);
}

#[tokio::test]
async fn a_certificate_swapped_on_disk_is_served_without_a_failed_handshake() {
    let authority = Authority::new();
    let origin = Origin::json("{}").await;
    let (old, new) = (authority.certify(&["localhost"]), authority.certify(&["localhost"]));
    let proxy = proxy_with(&origin, "", &old, &[]).await;
    let before = shown(&authority, &proxy, "localhost").await;
    let stream = shake(&authority.connector(&["h2"], None), proxy.address, "localhost").await.expect("a handshake");
    let mut open = Client::over(stream).await;
    let place = |name: &str| proxy.store().with_file_name(name);
    let write = |name: &str, text: &str| std::fs::write(place(name), text).expect("written");
    // Half of a new pair fits nothing, and is not served.
    write("a.crt", &new.cert);
    within("the half to be seen", async {
        while proxy.metric("keyward_tls_last_reload_success").await != 0.0 {
            assert_eq!(shown(&authority, &proxy, "localhost").await, before);
        }
    })
    .await;
    assert_eq!(shown(&authority, &proxy, "localhost").await, before);
    write("a.key", &new.key);
    within("the whole to be served", async { while shown(&authority, &proxy, "localhost").await == before {} }).await;
    assert_eq!(proxy.metric("keyward_tls_last_reload_success").await, 1.0);
    assert_eq!(proxy.metric("keyward_tls_handshake_failures_total").await, 0.0);
    let answer = open.send(get("/").body(Full::default()).expect("a request")).await.expect("an answer");
    assert_eq!(answer.status(), 200, "open connections go on");
}

#[tokio::test]
async fn openssl_is_content_with_what_is_offered() {
    let authority = Authority::new();
    let origin = Origin::json("{}").await;
    let proxy = proxy_with(&origin, "", &authority.certify(&["localhost"]), &[]).await;
    let ca = proxy.store().with_file_name("ca.pem");
    std::fs::write(&ca, authority.pem()).expect("written");
    let shake = async |options: &[&str]| {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &proxy.address.to_string(), "-servername", "localhost", "-CAfile"]);
        command.arg(&ca).args(["-verify_return_error", "-verify_hostname", "localhost"]).args(options);
        command.stdin(Stdio::null());
        let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("it runs");
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    for (options, expected) in [
        (&["-tls1_3", "-alpn", "h2,http/1.1"][..], ["TLSv1.3", "ALPN protocol: h2", "Verify return code: 0"]),
        (&["-tls1_2", "-alpn", "http/1.1"], ["TLSv1.2", "ALPN protocol: http/1.1", "Verify return code: 0"]),
    ] {
        let (succeeded, said) = shake(options).await;
        assert!(succeeded && expected.iter().all(|part| said.contains(part)), "{said}");
    }
    for old in [&["-tls1_1"][..], &["-tls1_2", "-cipher", "AES128-SHA"]] {
        assert!(!shake(old).await.0, "{old:?}");
    }
}

#[test]
fn check_names_the_file_that_cannot_be_used() {
    let authority = Authority::new();
    let (one, two) = (authority.certify(&["a"]), authority.certify(&["a"]));
    let dir = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("written");
    for (name, text) in
        [("a.crt", &one.cert), ("a.key", &one.key), ("b.key", &two.key), ("none", &"nothing".to_owned())]
    {
        write(name, text);
    }
    let says = |tls: &str| {
        let rest = "upstreams: {ai: {endpoints: [http://127.0.0.1:1]}}\nroutes: [{id: a, path: /a, upstream: ai}]";
        write("proxy.yaml", &format!("listen: {{tls: {tls}}}\n{rest}\n"));
        let output = keyward_in(Path::new(dir.path()), &["check"]);
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout),
        )
    };
    let files = |cert: &str, key: &str| format!("{{cert: {{file: {cert}}}, key: {{file: {key}}}}}");
    assert_eq!(says(&files("a.crt", "a.key")).0, Some(0));
    for (tls, expected) in [
        (files("missing", "a.key"), "missing cannot be read"),
        (files("none", "a.key"), "none holds no certificate in PEM"),
        (files("a.crt", "none"), "none holds no private key in PEM"),
        (files("a.crt", "b.key"), "b.key does not fit"),
        ("{cert: {file: a.crt}}".to_owned(), "`key` is missing"),
        ("{}".to_owned(), "a certificate and its key are missing"),
        (files("a.crt", "a.key").replace("}}", "}, client_ca: {file: none}}"), "none holds no certificate in PEM"),
    ] {
        let (code, said) = says(&tls);
        assert!(code == Some(2) && said.contains(expected), "{tls}: {said}");
    }
}
