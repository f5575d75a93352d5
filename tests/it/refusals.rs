//! Every refusal, through a real socket: status, headers and body, in all three shapes.

use serde_json::json;

use tokio::io::AsyncWriteExt;

use crate::harness::{Answer, Connection, Origin, Proxy, Reader, Reply, Request, within};

/// The three error shapes, as route prefixes.
const SHAPES: [&str; 3] = ["default", "openai", "anthropic"];

/// A route of every kind under `/<shape>/…`.
fn config() -> String {
    let mut text = "
limits:
  roomy: {requests: 1000000, per: 1s, by: key}
  once: {requests: 1, per: 1h, by: key}
memory: 1MiB
defaults:
  upstream: ai
  limits: [roomy]
  request: {rules: [html], action: block, max_chars: 100, max_body: 4KiB}
  response: {rules: [html], action: block, max_chars: 100, max_body: 64KiB}
routes:
"
    .to_owned();
    for shape in SHAPES {
        let format = if shape == "default" { String::new() } else { format!(", format: {shape}") };
        for (name, rest) in [
            ("chat", "methods: [POST], scopes: [write:ai_chat]"),
            ("admin", "methods: [GET], scopes: [read:ai_chats, admin:all]"),
            ("either", "methods: [GET], scopes: {any_of: [admin:one, admin:two]}"),
            ("limited", "methods: [GET], limits: [once]"),
            ("get", "methods: [GET]"),
            ("plain", "methods: [POST], request: {rules: [], max_chars: 1000000}"),
        ] {
            text.push_str(&format!("  - {{id: {shape}.{name}, path: /{shape}/{name}, {rest}{format}}}\n"));
        }
        text.push_str(&format!(
            "  - {{id: {shape}.raw, path: /{shape}/raw, request: {{rules: []}}, response: {{rules: []}}, upstream: ai{format}}}\n"
        ));
    }
    text.replace("request: {rules: []}", "request: {rules: [], action: block}")
}

/// What a refusal must be.
struct Expected {
    status: u16,
    code: &'static str,
    message: &'static str,
    openai_type: &'static str,
    anthropic_type: &'static str,
    headers: &'static [(&'static str, &'static str)],
    retry: Retry,
}

#[derive(Clone, Copy, PartialEq)]
enum Retry {
    Never,
    Maybe,
    After,
}

fn check(name: &str, shape: &str, answer: &Answer, expected: &Expected) {
    let context = format!("{name} ({shape}): {:?} {}", answer.head, String::from_utf8_lossy(&answer.body));
    assert_eq!(answer.status, expected.status, "{context}");
    assert_eq!(answer.head.field("content-type"), Some("application/json"), "{context}");
    assert_eq!(answer.head.field("cache-control"), Some("no-store"), "{context}");
    for (header, value) in expected.headers {
        assert_eq!(answer.head.field(header), Some(*value), "{context}");
    }
    if !expected.headers.iter().any(|(header, _)| *header == "www-authenticate") {
        assert_eq!(answer.head.field("www-authenticate"), None, "{context}");
    }
    assert_eq!(answer.head.field("x-should-retry"), (expected.retry == Retry::Never).then_some("false"), "{context}");
    assert_eq!(answer.head.field("retry-after").is_some(), expected.retry == Retry::After, "{context}");
    let id = answer.head.field("x-request-id").unwrap_or_else(|| panic!("no request id: {context}"));
    let (code, message) = (expected.code, expected.message);
    let body = match shape {
        "openai" => {
            json!({"error": {"message": message, "type": expected.openai_type, "param": null, "code": code}})
        }
        "anthropic" => json!({
            "type": "error", "error": {"type": expected.anthropic_type, "message": message}, "request_id": id,
        }),
        _ => json!({"error": message, "code": code, "request_id": id}),
    };
    assert_eq!(answer.json(), body, "{context}");
}

const CHALLENGE: &[(&str, &str)] = &[("www-authenticate", "Bearer")];
const INVALID: &[(&str, &str)] = &[("www-authenticate", r#"Bearer error="invalid_token""#)];

const fn client_error(status: u16, code: &'static str, message: &'static str) -> Expected {
    Expected {
        status,
        code,
        message,
        openai_type: "invalid_request_error",
        anthropic_type: "invalid_request_error",
        headers: &[],
        retry: Retry::Never,
    }
}

fn expected_unauthorized(code: &'static str, message: &'static str, headers: &'static [(&str, &str)]) -> Expected {
    let types = ("authentication_error", "authentication_error");
    Expected { openai_type: types.0, anthropic_type: types.1, headers, ..client_error(401, code, message) }
}

fn expected_forbidden(code: &'static str, message: &'static str, headers: &'static [(&str, &str)]) -> Expected {
    let types = ("permission_error", "permission_error");
    Expected { openai_type: types.0, anthropic_type: types.1, headers, ..client_error(403, code, message) }
}

fn expected_server(status: u16, code: &'static str, message: &'static str, retry: Retry) -> Expected {
    let anthropic_type = match status {
        503 => "overloaded_error",
        504 => "timeout_error",
        _ => "api_error",
    };
    Expected { openai_type: "server_error", anthropic_type, retry, ..client_error(status, code, message) }
}

/// Runs one case in all three shapes.
async fn case(name: &str, expected: Expected, send: impl AsyncFn(&str) -> Answer) {
    for shape in SHAPES {
        let answer = send(shape).await;
        check(name, shape, &answer, &expected);
    }
}

#[tokio::test]
async fn credentials_and_scopes() {
    let origin = Origin::json("{}").await;
    let proxy = Proxy::builder(&origin).config(&config()).start().await;
    let key = proxy.user_key.clone();
    let (revoked_id, revoked) = proxy.create_key(Some("org_1"), None, &["write:ai_chat"]);
    revoke(&proxy, &revoked_id);

    let missing = || expected_unauthorized("MISSING_KEY", "Missing API key", CHALLENGE);
    let invalid = || expected_unauthorized("INVALID_KEY", "Invalid API key", INVALID);
    let chat = |shape: &str| proxy.post(&format!("/{shape}/chat")).json("{}");
    case("no key", missing(), async |shape| chat(shape).send().await).await;
    case("no key, empty bearer", missing(), async |shape| chat(shape).header("Authorization", "Bearer").send().await)
        .await;
    case("too short", missing(), async |shape| chat(shape).key("short").send().await).await;
    case("an own scheme", missing(), async |shape| chat(shape).header("Authorization", "Basic eDp5").send().await)
        .await;
    case("junk", invalid(), async |shape| chat(shape).key("kw_live_not-a-key-of-this-store").send().await).await;
    case("another prefix", invalid(), async |shape| chat(shape).key(&key.replace("kw_live", "kw_test")).send().await)
        .await;
    case("revoked", invalid(), async |shape| chat(shape).key(&revoked).send().await).await;
    let ambiguous = || client_error(400, "AMBIGUOUS_KEY", "Ambiguous credentials");
    case("two keys", ambiguous(), async |shape| chat(shape).key(&key).header("X-Api-Key", &proxy.org_key).send().await)
        .await;
    case("two bearers", ambiguous(), async |shape| chat(shape).key(&key).key(&proxy.org_key).send().await).await;

    let scope = expected_forbidden(
        "INSUFFICIENT_SCOPE",
        "Insufficient scope: admin:all",
        &[("www-authenticate", r#"Bearer error="insufficient_scope", scope="admin:all""#)],
    );
    case("scope", scope, async |shape| proxy.get(&format!("/{shape}/admin")).key(&key).send().await).await;
    let either = expected_forbidden(
        "INSUFFICIENT_SCOPE",
        "Insufficient scope: one of admin:one, admin:two",
        &[("www-authenticate", r#"Bearer error="insufficient_scope", scope="admin:one admin:two""#)],
    );
    case("any of", either, async |shape| proxy.get(&format!("/{shape}/either")).key(&key).send().await).await;

    let ownerless = ownerless_key(&proxy);
    let context = expected_forbidden(
        "TRUSTED_CONTEXT_REQUIRED",
        "Trusted context required (user-level or org-level API key)",
        &[],
    );
    case("no owner", context, async |shape| chat(shape).key(&ownerless).send().await).await;
    assert!(origin.received().is_empty(), "a refused request reached the service");
}

#[tokio::test]
async fn routes_cannot_be_probed_without_a_key() {
    let origin = Origin::json("{}").await;
    let proxy = Proxy::builder(&origin).config(&config()).start().await;
    // Refusals without a route have the default shape: there is no route to declare another.
    let key = proxy.user_key.clone();
    check(
        "unknown path, no key",
        "default",
        &proxy.get("/nothing").send().await,
        &expected_unauthorized("MISSING_KEY", "Missing API key", CHALLENGE),
    );
    check(
        "unknown path, bad key",
        "default",
        &proxy.get("/nothing").key("kw_live_no_such_key").send().await,
        &expected_unauthorized("INVALID_KEY", "Invalid API key", INVALID),
    );
    check(
        "unknown path",
        "default",
        &proxy.get("/nothing").key(&key).send().await,
        &client_error(404, "ROUTE_NOT_FOUND", "No such route"),
    );
    check(
        "other method, no key",
        "default",
        &proxy.request("DELETE", "/default/get").send().await,
        &expected_unauthorized("MISSING_KEY", "Missing API key", CHALLENGE),
    );
    let not_allowed = Expected {
        headers: &[("allow", "GET, HEAD")],
        ..client_error(405, "METHOD_NOT_ALLOWED", "Method not allowed on this route")
    };
    check("other method", "default", &proxy.request("DELETE", "/default/get").key(&key).send().await, &not_allowed);
    for (target, why) in [
        ("/default//get", "empty path segment"),
        ("/default/%2e%2e/get", "escaped dot, slash, backslash or control character"),
        ("/default%2Fget", "escaped dot, slash, backslash or control character"),
        ("/default/ge%00t", "escaped dot, slash, backslash or control character"),
        ("/default/ge%zz", "invalid percent escape"),
        ("*", "the request target is not an absolute path"),
    ] {
        let answer = proxy.request("OPTIONS", target).key(&key).send().await;
        let message: &'static str = Box::leak(format!("Bad request path: {why}").into_boxed_str());
        check(target, "default", &answer, &client_error(400, "BAD_PATH", message));
    }
    let bad_host = client_error(400, "BAD_HOST", "Exactly one valid Host header is required");
    let twice = proxy.get("/default/get").header("Host", "other").key(&key).send().await;
    check("two hosts", "default", &twice, &bad_host);
    let none = proxy.get("/default/get").without_host().key(&key).send().await;
    check("no host", "default", &none, &bad_host);
    let user = proxy.get("/default/get").without_host().header("Host", "me@service.example").key(&key).send().await;
    check("a user in the host", "default", &user, &bad_host);
    assert!(origin.received().is_empty(), "a refused request reached the service");
}

#[tokio::test]
async fn input() {
    let origin = Origin::json("{}").await;
    let proxy = Proxy::builder(&origin).config(&config()).start().await;
    let key = proxy.user_key.clone();
    let chat = |shape: &str| proxy.post(&format!("/{shape}/chat")).key(&key);
    let blocked = || client_error(400, "AI_INPUT_BLOCKED", "Input contains potentially harmful content");
    case("script", blocked(), async |shape| {
        chat(shape).json(r#"{"message":"<script>alert(1)</script>"}"#).send().await
    })
    .await;
    case("escaped", blocked(), async |shape| chat(shape).json(r#"{"message":"\u003cscript>"}"#).send().await).await;
    case("in a key", blocked(), async |shape| chat(shape).json(r#"{"<script>":1}"#).send().await).await;
    case("nested", blocked(), async |shape| chat(shape).json(r#"[[{"a":[1,"<SCRIPT src=x>"]}]]"#).send().await).await;
    case("as text", blocked(), async |shape| chat(shape).body("text/plain", "<script>x").send().await).await;
    case("JSON said to be text", blocked(), async |shape| {
        chat(shape).body("text/plain", r#"{"a":"\u003cscript>"}"#).send().await
    })
    .await;
    case("no type", blocked(), async |shape| {
        chat(shape).json(r#"{"a":"<script>"}"#).header("Connection", "content-type").send().await
    })
    .await;
    for (why, content_type, body) in [
        ("several documents", "text/plain", "{} {\"a\":\"\\u003cscript>\"}".to_owned()),
        ("not a number", "text/plain", "{\"n\":NaN,\"a\":\"\\u003cscript>\"}".to_owned()),
    ] {
        case(why, blocked(), async |shape| chat(shape).body(content_type, &body).send().await).await;
    }
    case("in the query", blocked(), async |shape| {
        proxy.get(&format!("/{shape}/get?q=%3Cscript%3Ealert(1)")).key(&key).send().await
    })
    .await;
    case("in a form", blocked(), async |shape| {
        chat(shape).body("application/x-www-form-urlencoded", "a=1&b=%3Cscript%3E").send().await
    })
    .await;
    let long = format!(r#"{{"message":"{}"}}"#, "x".repeat(101));
    let too_long = client_error(400, "AI_INPUT_TOO_LONG", "Input too long");
    case("too long", too_long, async |shape| chat(shape).json(&long).send().await).await;
    for shape in SHAPES {
        let answer = chat(shape).json(r#"{"message": nope}"#).send().await;
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert!(answer.text().contains("Bad request body: "), "{}", answer.text());
    }
    let unscannable = |why: &'static str| client_error(415, "UNSCANNABLE_BODY", why);
    let coding = "Request body cannot be inspected: the content is not valid gzip";
    case("coding", unscannable(coding), async |shape| {
        chat(shape).header("Content-Encoding", "gzip").json("{}").send().await
    })
    .await;
    let kind = "Request body cannot be inspected: this content type cannot be inspected";
    case("type", unscannable(kind), async |shape| chat(shape).body("application/octet-stream", "x").send().await).await;
    // Python's JSON reader recognizes UTF-16 and UTF-32 without being told.
    let wide = "Request body cannot be inspected: text with zero bytes, which may be UTF-16 or UTF-32";
    let utf16: Vec<u8> = r#"{"m":"<script>alert(1)</script>"}"#.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for content_type in ["text/plain", "application/x-www-form-urlencoded"] {
        case("UTF-16", unscannable(wide), async |shape| chat(shape).body(content_type, &utf16).send().await).await;
    }
    let twice = "Request body cannot be inspected: more than one Content-Type";
    case("two types", unscannable(twice), async |shape| {
        chat(shape).body("image/png", "{}").header("Content-Type", "application/json").send().await
    })
    .await;
    let charset = "Request body cannot be inspected: the charset is not UTF-8";
    case("charset", unscannable(charset), async |shape| {
        chat(shape).body("application/json; charset=utf-16", "{}").send().await
    })
    .await;
    let too_large = || Expected {
        anthropic_type: "request_too_large",
        ..client_error(413, "BODY_TOO_LARGE", "Request body too large")
    };
    let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(5000));
    case("length", too_large(), async |shape| chat(shape).json(&large).send().await).await;
    case("chunked", too_large(), async |shape| chat(shape).json(&large).chunked().send().await).await;
    assert!(origin.received().is_empty(), "a refused request reached the service: {:?}", origin.received());
}

#[tokio::test]
async fn a_slow_body() {
    let origin = Origin::json("{}").await;
    let proxy = Proxy::builder(&origin).config(&config()).base("body: 20s", "body: 300ms").start().await;
    let slow = Expected { retry: Retry::Maybe, ..client_error(408, "REQUEST_TIMEOUT", "Request body came too slowly") };
    case("slow body", slow, async |shape| {
        let mut connection = Connection::to(proxy.address).await;
        connection.write(format!("POST /{shape}/chat HTTP/1.1\r\nHost: a\r\nX-Api-Key: {}\r\n", proxy.user_key)).await;
        connection.write("Content-Type: application/json\r\nContent-Length: 10\r\n\r\n{").await;
        let answer = connection.answer("POST").await;
        assert!(connection.0.at_end().await, "the connection has to close");
        answer
    })
    .await;
    assert!(origin.received().is_empty());
}

#[tokio::test]
async fn limits() {
    let origin = Origin::json("{}").await;
    let proxy = Proxy::builder(&origin).config(&config()).manual_clock().start().await;
    for (shape, key) in
        SHAPES.into_iter().zip([&proxy.user_key, &proxy.org_key, &proxy.create_key(Some("o"), None, &[]).1])
    {
        let request = proxy.get(&format!("/{shape}/limited")).key(key);
        assert_eq!(request.send().await.status, 200);
        let expected = Expected {
            openai_type: "rate_limit_error",
            anthropic_type: "rate_limit_error",
            headers: &[
                ("retry-after", "3600"),
                ("ratelimit-policy", r#""once";q=1;w=3600"#),
                ("ratelimit", r#""once";r=0;t=3600"#),
                ("x-ratelimit-limit", "1"),
                ("x-ratelimit-remaining", "0"),
                ("x-ratelimit-reset", "3600"),
            ],
            retry: Retry::After,
            ..client_error(429, "AI_RATE_LIMITED", "AI rate limit exceeded")
        };
        check("limit", shape, &request.send().await, &expected);
    }
    assert_eq!(origin.received().len(), 3);
}

#[tokio::test]
async fn output() {
    let origin = Origin::answering(|request| match request.head.field("x-want") {
        Some("script") => Reply::json(r#"{"response":"<script>alert(1)</script>"}"#),
        Some("long") => Reply::json(format!(r#"{{"response":"{}"}}"#, "y".repeat(101))),
        Some("large") => Reply::json(format!(r#"{{"response":"{}"}}"#, "y".repeat(70_000))),
        Some("broken json") => Reply::json(r#"{"response":"#),
        Some("gzip") => Reply::raw(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx",
        ),
        Some("two types") => Reply::raw(
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
        ),
        Some("malformed type") => Reply::new(200, "application/json, text/html", "{}"),
        Some("a part") => Reply::new(206, "multipart/byteranges; boundary=x", "--x--"),
        Some("upgrade") => Reply::raw("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
        Some("stream") => Reply::new(200, "text/event-stream", "data: {\"a\": \"javascript:\"}\n\n"),
        Some("garbage") => Reply::raw("not HTTP at all\r\n\r\n"),
        Some("short") => Reply::raw(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\nConnection: close\r\n\r\n{}",
        ),
        other => panic!("{other:?}"),
    })
    .await;
    let proxy = Proxy::builder(&origin).config(&config()).start().await;
    let ask = |shape: &str, want: &str| proxy.get(&format!("/{shape}/get")).key(&proxy.user_key).header("X-Want", want);
    let blocked = "AI response contains potentially harmful content";
    let broken = "Service answer was broken";
    for (want, code, message, retry) in [
        ("script", "AI_RESPONSE_BLOCKED", blocked, Retry::Never),
        ("long", "AI_RESPONSE_TOO_LONG", "AI response too long", Retry::Never),
        ("large", "AI_RESPONSE_TOO_LONG", "AI response too long", Retry::Never),
        ("broken json", "UNSCANNABLE_RESPONSE", "AI response cannot be inspected", Retry::Never),
        ("gzip", "UNSCANNABLE_RESPONSE", "AI response cannot be inspected", Retry::Never),
        ("two types", "UNSCANNABLE_RESPONSE", "AI response cannot be inspected", Retry::Never),
        ("malformed type", "UNSCANNABLE_RESPONSE", "AI response cannot be inspected", Retry::Never),
        ("a part", "UNSCANNABLE_RESPONSE", "AI response cannot be inspected", Retry::Never),
        ("stream", "AI_RESPONSE_BLOCKED", blocked, Retry::Never),
        ("garbage", "UPSTREAM_BROKEN", broken, Retry::Maybe),
        ("upgrade", "UPSTREAM_BROKEN", broken, Retry::Maybe),
    ] {
        case(want, expected_server(502, code, message, retry), async |shape| ask(shape, want).send().await).await;
    }
}

#[tokio::test]
async fn a_service_that_is_away_slow_or_cut_off() {
    let silent = Origin::raw(|stream| async move {
        // Takes the request and never answers.
        let mut stream = stream;
        let mut sink = Vec::new();
        let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut sink).await;
    })
    .await;
    let proxy = Proxy::builder(&silent).config(&config()).base("first_byte: 10s", "first_byte: 150ms").start().await;
    let timeout = expected_server(504, "UPSTREAM_TIMEOUT", "Service timed out", Retry::Maybe);
    case("silent", timeout, async |shape| proxy.get(&format!("/{shape}/get")).key(&proxy.user_key).send().await).await;

    let closing = Origin::raw(|stream| async move { drop(stream) }).await;
    let proxy = Proxy::builder(&closing).config(&config()).start().await;
    let broken = expected_server(502, "UPSTREAM_BROKEN", "Service answer was broken", Retry::Maybe);
    case("closing", broken, async |shape| proxy.get(&format!("/{shape}/get")).key(&proxy.user_key).send().await).await;

    let nowhere = Origin::nowhere();
    let proxy = Proxy::builder(&nowhere).config(&config()).start().await;
    let unreachable = expected_server(503, "UPSTREAM_UNREACHABLE", "Service unreachable", Retry::After);
    case("nowhere", unreachable, async |shape| proxy.get(&format!("/{shape}/get")).key(&proxy.user_key).send().await)
        .await;

    let stalled = Origin::raw(|stream| async move {
        let mut reader = Reader::new(stream);
        reader.head().await;
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{";
        let _ = reader.stream().write_all(head.as_bytes()).await;
        assert!(reader.at_end().await, "one request");
    })
    .await;
    let proxy = Proxy::builder(&stalled).config(&config()).base("idle: 10s", "idle: 150ms").start().await;
    let timeout = expected_server(504, "UPSTREAM_TIMEOUT", "Service timed out", Retry::Maybe);
    case("stalled body", timeout, async |shape| proxy.get(&format!("/{shape}/get")).key(&proxy.user_key).send().await)
        .await;
}

#[tokio::test]
async fn a_key_store_that_is_away_is_never_an_invalid_key() {
    let origin = Origin::json("{}").await;
    let proxy = Proxy::builder(&origin).config(&config()).start().await;
    let request = |shape: &str| proxy.get(&format!("/{shape}/get")).key(&proxy.user_key);
    assert_eq!(request("default").send().await.status, 200);
    let aside = proxy.store().with_extension("aside");
    std::fs::rename(proxy.store(), &aside).expect("the store moves");
    until_status(&request("default"), 503).await;
    let away =
        || expected_server(503, "VERIFIER_UNAVAILABLE", "API keys cannot be verified at the moment", Retry::After);
    case("store away", away(), async |shape| request(shape).send().await).await;
    std::fs::write(proxy.store(), "not a database").expect("a file");
    case("store broken", away(), async |shape| request(shape).send().await).await;
    std::fs::rename(&aside, proxy.store()).expect("the store comes back");
    until_status(&request("default"), 200).await;
}

#[tokio::test]
async fn memory_for_held_bodies_is_bounded() {
    let origin = Origin::json("{}").await;
    let text = config().replace("max_body: 4KiB", "max_body: 1MiB");
    let proxy = Proxy::builder(&origin).config(&text).start().await;
    // One body that takes most of the budget and does not end, and one that needs more than is left.
    let mut first = Connection::to(proxy.address).await;
    let part = format!("{{\"a\":\"{}", "x".repeat(700_000));
    first.write(format!("POST /default/plain HTTP/1.1\r\nHost: a\r\nX-Api-Key: {}\r\n", proxy.user_key)).await;
    first.write("Content-Type: application/json\r\nContent-Length: 700010\r\n\r\n").await;
    let feed = tokio::spawn(async move {
        first.write(part).await;
        first
    });
    within("most of the budget to be taken", async {
        while proxy.metric("keyward_held_bytes").await < 600_000.0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let body = format!("{{\"a\":\"{}\"}}", "x".repeat(500_000));
    let answer = proxy.post("/default/plain").key(&proxy.user_key).json(&body).send().await;
    check("memory", "default", &answer, &expected_server(503, "OVERLOADED", "Overloaded", Retry::After));
    drop(feed.await.expect("the writer ends"));
    proxy.until_nothing_is_held().await;
    assert!(origin.received().is_empty());
}

#[tokio::test]
async fn heads_that_are_not_http() {
    let origin = Origin::json("{}").await;
    let proxy = Proxy::before(&origin).await;
    for (head, status) in [
        ("GET / HTTP/1.1\r\nHost: a\r\nbad name: 1\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost: a\r\n folded: 1\r\n\r\n".to_owned(), 400),
        ("nonsense\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n".to_owned(), 400),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nLong: {}\r\n\r\n", "x".repeat(70_000)), 431),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: 1\r\n".repeat(200)), 431),
    ] {
        let mut connection = Connection::to(proxy.address).await;
        connection.write(&head).await;
        let answer = connection.answer("GET").await;
        assert_eq!(answer.status, status, "{}", &head[..head.len().min(80)]);
        assert!(answer.body.is_empty());
        assert!(connection.0.at_end().await, "the connection has to close");
    }
    assert!(origin.received().is_empty());
}

/// Asks until the answer has this status: the store's watch is a thread of its own.
async fn until_status(request: &Request, status: u16) {
    let asked = async {
        while request.send().await.status != status {
            tokio::task::yield_now().await;
        }
    };
    within("the status", asked).await;
}

fn revoke(proxy: &Proxy, id: &str) {
    let mut store = keyward::keys::Store::open(&proxy.store(), keyward::keys::Peppers::default()).expect("the store");
    let id = keyward::keys::KeyId::parse(id).expect("an id");
    store.revoke(&id, None, proxy.clock.now().wall).expect("revoked");
}

/// A key of nobody, which no command makes: written past the store's own checks.
fn ownerless_key(proxy: &Proxy) -> String {
    let (id, key) = proxy.create_key(Some("org_gone"), None, &["write:ai_chat"]);
    let store = rusqlite::Connection::open(proxy.store()).expect("the store");
    store.pragma_update(None, "ignore_check_constraints", true).expect("a pragma");
    let changed = store.execute("UPDATE key_records SET org_code = NULL WHERE id = ?1", [id]).expect("an update");
    assert_eq!(changed, 1);
    key
}
