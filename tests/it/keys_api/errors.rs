//! Every "no" of the service, in Kinde's shapes.

use keyward::time::Clock;
use serde_json::{Value, json};

use super::{ADMIN, HASHED, Keys, READER, SIDECAR};
use crate::harness::{Connection, Request};

/// Status and code, in whichever of Kinde's two shapes fits the status.
async fn outcome(request: Request) -> (u16, String) {
    let answer = request.send().await;
    let errors = answer.json()["errors"].clone();
    let error = if answer.status == 404 { errors } else { errors[0].clone() };
    assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{}", answer.text());
    assert_eq!(answer.head.field("content-type"), Some("application/json"));
    (answer.status, super::text(&error["code"]))
}

const ID: &str = "api_key_0195ac80a14e8d71f42b98e75d3c61ad";

#[tokio::test]
async fn what_is_not_there_is_404_or_405() {
    let keys = Keys::start().await;
    for path in ["/", "/api/v1/api_keys/", "/api/v1/apis", "/api/v1/api_keys/a/b", "/metrics", "/API/v1/api_keys"] {
        assert_eq!(outcome(keys.ask("GET", path).key(ADMIN)).await, (404, "ROUTE_NOT_FOUND".into()), "{path}");
    }
    for id in [ID, "kw_live_somebodys_key", "%2e%2e", "verif"] {
        for method in ["GET", "PUT", "DELETE"] {
            let request = keys.ask(method, &format!("/api/v1/api_keys/{id}")).key(ADMIN);
            assert_eq!(outcome(request).await, (404, "API_KEY_NOT_FOUND".into()), "{method} {id}");
        }
    }
    for (path, method, allow) in [
        ("/api/v1/api_keys", "PATCH", "GET, POST"),
        ("/api/v1/api_keys/verify", "GET", "POST"),
        ("/api/v1/api_keys/import", "GET", "POST"),
        ("/api/v1/api_keys/revocations", "POST", "GET"),
        (&format!("/api/v1/api_keys/{ID}"), "POST", "GET, PUT, DELETE"),
        ("/oauth2/token", "GET", "POST"),
        ("/openapi.json", "POST", "GET"),
    ] {
        let answer = keys.ask(method, path).key(ADMIN).send().await;
        assert_eq!((answer.status, answer.head.field("allow")), (405, Some(allow)), "{method} {path}");
    }
}

#[tokio::test]
async fn each_operation_needs_its_scope() {
    let keys = Keys::start().await;
    let key = format!("/api/v1/api_keys/{ID}");
    let new = json!({"name": "n", "org_code": "o"});
    // Which tokens may do what, and the status of who may: there is no key of this id.
    let cases = [
        ("GET", "/api/v1/api_keys", Value::Null, "admin reader", 200),
        ("POST", "/api/v1/api_keys", new, "admin", 201),
        ("GET", &key, Value::Null, "admin reader", 404),
        ("PUT", &key, Value::Null, "admin", 404),
        ("DELETE", &key, Value::Null, "admin", 404),
        ("POST", "/api/v1/api_keys/verify", json!({"api_key": "x"}), "admin reader sidecar hashed", 200),
    ];
    for (method, path, body, may, status) in cases {
        for (name, token) in [("admin", ADMIN), ("reader", READER), ("sidecar", SIDECAR), ("hashed", HASHED)] {
            let request = keys.ask(method, path).key(token);
            let request = if body.is_null() { request } else { request.json(body.to_string()) };
            if may.split(' ').any(|one| one == name) {
                assert_eq!(request.send().await.status, status, "{name} {method} {path}");
            } else {
                assert_eq!(outcome(request).await, (403, "SCOPE_MISSING".into()), "{name} {method} {path}");
            }
        }
        let bare = keys.ask(method, path);
        for request in
            [bare.clone(), bare.clone().key("wrong"), bare.clone().key(""), bare.header("Authorization", ADMIN)]
        {
            assert_eq!(outcome(request).await, (401, "INVALID_CREDENTIALS".into()), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn bodies_and_parameters_are_read_strictly() {
    let keys = Keys::start().await;
    let post = |path: &str| keys.ask("POST", &format!("/api/v1/api_keys{path}")).key(ADMIN);
    let form = "application/x-www-form-urlencoded";
    let large = format!(r#"{{"api_key": "{}"}}"#, "x".repeat(200_000));
    let cases = [
        (post("").json("{"), 400, "INVALID_JSON"),
        (post("").json([0xff, 0xfe]), 400, "INVALID_JSON"),
        (post("").json(r#"{"name": "n"}"#), 400, "INVALID_FIELD"),
        (post("").json(r#"{"name": "n", "org_code": "o", "expires": "1h"}"#), 400, "INVALID_FIELD"),
        (post("").json(r#"{"name": "\u202e", "org_code": "o"}"#), 400, "INVALID_FIELD"),
        (post("").json(format!(r#"{{"name": "{}", "org_code": "o"}}"#, "n".repeat(201))), 400, "INVALID_FIELD"),
        (post("").body("application/json", ""), 400, "INVALID_JSON"),
        (post("").body("text/plain", "{}"), 415, "UNSUPPORTED_MEDIA_TYPE"),
        (post(""), 415, "UNSUPPORTED_MEDIA_TYPE"),
        (post("/verify").body(form, "api_key=x"), 415, "UNSUPPORTED_MEDIA_TYPE"),
        (post("/verify").json(r#"{"key": "x"}"#), 400, "INVALID_JSON"),
        (post("/verify").json(r#"{"api_key": null}"#), 400, "INVALID_JSON"),
        (post("/verify").json(&large), 413, "PAYLOAD_TOO_LARGE"),
        (post("/verify").json(&large).chunked(), 413, "PAYLOAD_TOO_LARGE"),
        (post("/verify?x=1").json(r#"{"api_key": "x"}"#), 400, "INVALID_PARAMETER"),
        (keys.ask("GET", "/api/v1/api_keys?page_size=0").key(ADMIN), 400, "INVALID_PARAMETER"),
        (keys.ask("GET", "/api/v1/api_keys?org=acme").key(ADMIN), 400, "INVALID_PARAMETER"),
        (keys.ask("DELETE", &format!("/api/v1/api_keys/{ID}?because=x")).key(ADMIN), 400, "INVALID_PARAMETER"),
        (keys.ask("PUT", &format!("/api/v1/api_keys/{ID}")).key(ADMIN).json(r#"{"grace": 5}"#), 400, "INVALID_FIELD"),
    ];
    for (number, (request, status, code)) in cases.into_iter().enumerate() {
        assert_eq!(outcome(request).await, (status, code.to_owned()), "case {number}");
    }
    let page = keys.admin("GET", "/api/v1/api_keys", Value::Null).await.json();
    assert_eq!(page["api_keys"], json!([]), "nothing was made by a refused request");
}

#[tokio::test]
async fn guesses_are_limited_and_good_tokens_are_not() {
    let keys = Keys::serving("", Clock::manual(), &[]).await;
    let guess = || outcome(keys.ask("GET", "/api/v1/api_keys").key("guess"));
    for _ in 0..100 {
        assert_eq!(guess().await.0, 401);
    }
    assert_eq!(guess().await, (429, "TOO_MANY_REQUESTS".into()));
    let answer = keys.ask("GET", "/api/v1/api_keys").key("guess").send().await;
    let reset: u64 = answer.head.field("ratelimit-reset").expect("a time").parse().expect("seconds");
    assert!((1..=900).contains(&reset), "{reset}");
    assert_eq!(keys.ask("GET", "/api/v1/api_keys").key(ADMIN).send().await.status, 200);
}

async fn token(keys: &Keys, form: &str) -> (u16, Value) {
    let kind = "application/x-www-form-urlencoded; charset=UTF-8";
    let answer = keys.ask("POST", "/oauth2/token").body(kind, form).send().await;
    (answer.status, answer.json())
}

#[tokio::test]
async fn clients_get_tokens_that_end() {
    let clock = Clock::manual();
    let keys = Keys::serving("", clock.clone(), &[]).await;
    let good = format!(
        "grant_type=client_credentials&client_id=admin&client_secret={ADMIN}&scope=&audience=https%3A%2F%2Fa%2Fapi"
    );
    let (status, issued) = token(&keys, &good).await;
    assert_eq!(
        (status, &issued["token_type"], &issued["expires_in"]),
        (200, &json!("Bearer"), &json!(3600)),
        "{issued}"
    );
    let issued = super::text(&issued["access_token"]);
    assert!(!issued.contains(ADMIN) && issued.split('.').count() == 3);
    let status = async |token: &str| keys.ask("GET", "/api/v1/api_keys").key(token).send().await.status;
    assert_eq!(status(&issued).await, 200);
    clock.advance(std::time::Duration::from_secs(3601));
    assert_eq!(status(&issued).await, 401);

    for (form, status, error) in [
        (good.replace(ADMIN, READER), 401, "invalid_client"),
        (good.replace("client_id=admin", "client_id=nobody"), 401, "invalid_client"),
        (good.replace("scope=", "scope=verify%3Aapi_keys"), 400, "invalid_scope"),
        (good.replace("client_credentials", "password"), 400, "unsupported_grant_type"),
        (good.replace("grant_type=", "grant="), 400, "invalid_request"),
        (format!("{good}&client_id=admin"), 400, "invalid_request"),
        ("%zz".to_owned(), 400, "invalid_request"),
        (good.replace("=admin", "=hashed").replace(ADMIN, HASHED), 400, "unauthorized_client"),
    ] {
        let answer = token(&keys, &form).await;
        assert_eq!((answer.0, &answer.1["error"]), (status, &json!(error)), "{form}");
    }
}

#[tokio::test]
async fn a_client_that_only_connects_is_cut_off_and_the_service_goes_on() {
    let keys = Keys::start().await;
    let mut slow = Connection::to(keys.address).await;
    slow.write(format!("POST /api/v1/api_keys/verify HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN}\r\n")).await;
    slow.write("Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{").await;
    let mut garbage = Connection::to(keys.address).await;
    garbage.write("\0\0\0\r\n\r\n").await;
    assert_eq!(garbage.answer("GET").await.status, 400);
    assert_eq!(keys.create("a").await.0.len(), ID.len());
}
