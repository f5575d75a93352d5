//! No client can say who it is: every trusted name, in every spelling, on every kind of route.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::harness::{Connection, Origin, Proxy};

const CONFIG: &str = "
defaults: {upstream: ai, request: {rules: []}, response: {rules: []}}
routes:
  - {id: keyed, path: /keyed, scopes: []}
  - {id: public, path: /public, public: true}
  - {id: observed, path: /observed, auth: observe}
";

/// Who the caller is, and names that a gateway interface or a framework takes as its own.
const NAMES: [&str; 42] = [
    "x-org-code",
    "x-user-id",
    "x-key-id",
    "x-key-scopes",
    "x-key-anything",
    "x-keyward-assertion",
    "auth-type",
    "document-root",
    "gateway-interface",
    "https",
    "path-info",
    "path-translated",
    "proxy",
    "query-string",
    "raw-uri",
    "remote-addr",
    "remote-host",
    "remote-ident",
    "remote-port",
    "remote-user",
    "request-method",
    "request-scheme",
    "request-uri",
    "script-filename",
    "script-name",
    "script-url",
    "server-addr",
    "server-name",
    "server-port",
    "server-protocol",
    "server-software",
    "wsgi-input",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-method",
    "x-original-uri",
    "x-original-url",
    "x-remote-user",
    "x-rewrite-url",
    "x-script-name",
    "x-forwarded-user",
];

/// The name in any case, with any of its `-` as `_`.
fn spelling(name: &'static str) -> impl Strategy<Value = String> {
    proptest::collection::vec(any::<(bool, bool)>(), name.len()).prop_map(move |choices| {
        name.chars()
            .zip(choices)
            .map(|(c, (upper, under))| match c {
                '-' if under => '_',
                c if upper => c.to_ascii_uppercase(),
                c => c,
            })
            .collect()
    })
}

#[tokio::test]
async fn no_spelling_of_a_trusted_name_reaches_the_service() {
    let origin = Origin::json("{}").await;
    let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
    let mut runner = TestRunner::deterministic();
    let mut sent = 0;
    for name in NAMES {
        for round in 0..6 {
            let spelled = |runner: &mut TestRunner| spelling(name).new_tree(runner).expect("a spelling").current();
            let (first, second) = (spelled(&mut runner), spelled(&mut runner));
            let path = ["/keyed", "/public", "/observed"][round % 3];
            let mut request =
                proxy.post(path).header(&first, "evil-1").header(&second, "evil-2").header(&first, "evil-3");
            if round % 2 == 1 {
                request = request.header("Connection", &format!("keep-alive, {name}, {first}"));
            }
            if path == "/keyed" {
                request = request.key(&proxy.user_key);
            }
            assert_eq!(request.send().await.status, 200, "{first} {second}");
            sent += 1;
            let received = origin.received().pop().expect("a request");
            let text = format!("{received:?}");
            assert!(!text.contains("evil"), "{first} or {second} reached the service on {path}: {text}");
        }
    }
    assert_eq!(origin.received().len(), sent);
}

#[tokio::test]
async fn a_user_key_stamps_a_user_and_no_organization() {
    let origin = Origin::json("{}").await;
    let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
    let forged = |key: &str| {
        proxy
            .get("/keyed")
            .key(key)
            .header("X-Org-Code", "org_evil")
            .header("x_user_id", "evil")
            .header("X-User-Id", "")
    };
    forged(&proxy.user_key).send().await;
    forged(&proxy.org_key).send().await;
    let both = proxy.create_key(Some("org_both"), Some("kp_both"), &[]).1;
    forged(&both).send().await;
    let owners: Vec<_> = origin
        .received()
        .iter()
        .map(|request| {
            let field = |name: &str| request.head.field(name).map(str::to_owned);
            (field("x-org-code"), field("x-user-id"))
        })
        .collect();
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        owners,
        [(None, some("kp_1234567890")), (some("org_customer_abc"), None), (some("org_both"), some("kp_both"))]
    );
}

#[tokio::test]
async fn the_key_goes_no_further() {
    let origin = Origin::json("{}").await;
    let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
    for path in ["/keyed", "/public", "/observed"] {
        let request = proxy.get(path).key(&proxy.user_key).header("X-Api-Key", &proxy.user_key);
        assert_eq!(request.send().await.status, 200);
    }
    for request in origin.received() {
        assert!(!format!("{request:?}").contains("kw_live"), "{request:?}");
    }
    // An Authorization that is not a listed place is the service's own.
    let own = proxy.get("/keyed").header("Authorization", "Basic dXNlcjpwYXNz").header("X-Api-Key", &proxy.user_key);
    assert_eq!(own.send().await.status, 200);
    let last = origin.received().pop().expect("a request");
    assert_eq!(last.head.field("authorization"), Some("Basic dXNlcjpwYXNz"));
}

#[tokio::test]
async fn trailers_carry_nothing_past_the_stages() {
    let origin = Origin::json("{}").await;
    let proxy = Proxy::builder(&origin)
        .config(
            "
defaults: {upstream: ai, response: {rules: []}}
routes:
  - {id: streamed, path: /streamed, public: true, request: {rules: []}}
  - {id: held, path: /held, public: true, request: {rules: [html]}}
",
        )
        .start()
        .await;
    for path in ["/streamed", "/held"] {
        let mut connection = Connection::to(proxy.address).await;
        connection
            .write(format!(
                "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\
                 Trailer: X-Org-Code\r\n\r\n2\r\n{{}}\r\n0\r\nX-Org-Code: evil\r\nX_User_Id: evil\r\n\r\n"
            ))
            .await;
        assert_eq!(connection.answer("POST").await.status, 200, "{path}");
        let received = origin.received().pop().expect("a request");
        assert_eq!(received.body, b"{}");
        assert_eq!(received.head.field("trailer"), None);
        assert!(!format!("{received:?}").contains("evil"), "{received:?}");
    }
}

#[tokio::test]
async fn other_names_with_an_underscore_need_permission() {
    let origin = Origin::json("{}").await;
    let proxy = Proxy::builder(&origin)
        .config(
            "
defaults: {upstream: ai, request: {rules: []}, response: {rules: []}}
routes:
  - {id: strict, path: /strict, public: true}
  - {id: lax, path: /lax, public: true, underscore_headers: [x_trace]}
",
        )
        .start()
        .await;
    for path in ["/strict", "/lax"] {
        let request = proxy.get(path).header("X_Trace", "1").header("x_other", "2").header("X-Plain", "3");
        assert_eq!(request.send().await.status, 200);
    }
    let received = origin.received();
    assert_eq!(received[0].head.field("x_trace"), None);
    assert_eq!(received[1].head.field("x_trace"), Some("1"));
    for request in received {
        assert_eq!(request.head.field("x_other"), None);
        assert_eq!(request.head.field("x-plain"), Some("3"));
    }
}

#[tokio::test]
async fn provenance_is_written_anew_and_believed_only_from_trusted_peers() {
    let origin = Origin::json("{}").await;
    for (trusted, client, id) in
        [("[]", "127.0.0.1", None), ("[127.0.0.0/8]", "203.0.113.9", Some("id-from-the-ingress"))]
    {
        let proxy = Proxy::builder(&origin).config(&format!("trusted_proxies: {trusted}\n{CONFIG}")).start().await;
        let request = proxy
            .get("/public")
            .header("X-Forwarded-For", "198.51.100.1, 203.0.113.9")
            .header("X_Forwarded_For", "198.51.100.7")
            .header("X-Real-IP", "198.51.100.2")
            .header("Forwarded", "for=198.51.100.1, for=203.0.113.9")
            .header("X-Request-Id", "id-from-the-ingress");
        let answer = request.send().await;
        let received = origin.received().pop().expect("a request");
        assert_eq!(received.head.field("x-real-ip"), Some(client));
        assert!(received.head.field("x-forwarded-for").expect("stamped").ends_with("127.0.0.1"));
        assert_eq!(received.head.field("x-forwarded-host"), Some("service.example"));
        assert_eq!(received.head.field("x_forwarded_for"), None);
        let stamped = received.head.field("x-request-id").expect("stamped");
        assert_eq!(answer.head.field("x-request-id"), Some(stamped));
        assert_eq!(id.is_some_and(|id| id == stamped), id.is_some());
        assert_ne!(stamped, "");
    }
}

#[tokio::test]
async fn the_host_that_the_service_is_told_is_the_one_that_was_matched() {
    let origin = Origin::json("{}").await;
    let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
    let request = proxy.get("http://asked.example/public").without_host();
    request.header("Host", "other.example").header("Host", "third.example").send().await;
    let head = origin.only().head;
    assert_eq!((head.field("host"), head.field("x-forwarded-host")), (Some("asked.example"), Some("asked.example")));
}

#[tokio::test]
async fn a_key_that_is_given_must_be_one_also_where_none_is_needed() {
    let origin = Origin::json("{}").await;
    let proxy = Proxy::builder(&origin).config(CONFIG).start().await;
    assert_eq!(proxy.get("/observed").send().await.status, 200);
    for given in ["Bearer short", "Bearer", "Bearer kw_live_not_a_key"] {
        assert_eq!(proxy.get("/observed").header("Authorization", given).send().await.status, 401, "{given}");
    }
    assert_eq!(origin.received().len(), 1);
}

#[tokio::test]
async fn a_service_cannot_speak_in_our_name_to_the_client() {
    let origin = Origin::answering(|_| {
        crate::harness::Reply::raw(
            "HTTP/1.1 200 OK\r\nX-Org-Code: org_other\r\nX_User_Id: other\r\nX-Request-Id: mine\r\nX_Request_Id: mine\r\nX-Fine: 1\r\n\
             Connection: X-Hop\r\nX-Hop: 1\r\nContent-Length: 0\r\n\r\n",
        )
    })
    .await;
    let config = format!("{CONFIG}  - {{id: echo, path: /echo, echo_identity: true}}\n");
    let config = format!("{config}  - {{id: both, path: /both, auth: observe, echo_identity: true}}\n");
    let proxy = Proxy::builder(&origin).config(&config).start().await;
    let answer = proxy.get("/public").send().await;
    for name in ["x-org-code", "x_user_id", "x_request_id", "x-hop"] {
        assert_eq!(answer.head.field(name), None);
    }
    assert_eq!(answer.head.field("x-fine"), Some("1"));
    assert_ne!(answer.head.field("x-request-id"), Some("mine"));

    // Where the client is told whose key it used, it is told the truth, each name at most once.
    let (_, both_key) = proxy.create_key(Some("org_both"), Some("kp_both"), &[]);
    for (path, key, org, user) in [
        ("/keyed", &proxy.org_key, None, None),
        ("/echo", &proxy.org_key, Some("org_customer_abc"), None),
        ("/echo", &proxy.user_key, None, Some("kp_1234567890")),
        ("/both", &both_key, Some("org_both"), Some("kp_both")),
    ] {
        let answer = proxy.get(path).key(key).send().await;
        assert_eq!((answer.head.field("x-org-code"), answer.head.field("x-user-id")), (org, user), "{path}");
        assert!(!format!("{:?}", answer.head).contains("other"), "{:?}", answer.head);
    }
    let keyless = proxy.get("/both").send().await;
    assert_eq!((keyless.head.field("x-org-code"), keyless.head.field("x-user-id")), (None, None));
}
