//! `/openapi.json` and the service say the same.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::{ADMIN, Keys};
use crate::harness::{Answer, python};

/// Follows a reference.
fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(reference) => document.pointer(&reference[1..]).unwrap_or_else(|| panic!("{reference} leads nowhere")),
        None => schema,
    }
}

/// Everything in `value` that `schema` does not allow.
fn wrong(document: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let schema = resolved(document, schema);
    if let Some(choices) = schema["oneOf"].as_array() {
        let fits = choices.iter().filter(|choice| wrong(document, choice, value, at).is_empty()).count();
        return if fits == 1 { Vec::new() } else { vec![format!("{at}: {fits} choices fit {value}")] };
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => panic!("{at} has no type"),
    };
    let mut wrongs = Vec::new();
    if !kinds.contains(&kind) {
        wrongs.push(format!("{at}: {value} is no {kinds:?}"));
    }
    if schema.get("const").is_some_and(|only| only != value) {
        wrongs.push(format!("{at}: {value} is not {}", schema["const"]));
    }
    if schema["enum"].as_array().is_some_and(|all| !all.contains(value)) {
        wrongs.push(format!("{at}: {value} is none of {}", schema["enum"]));
    }
    if let (Some(items), Some(list)) = (schema.get("items"), value.as_array()) {
        wrongs.extend(list.iter().flat_map(|item| wrong(document, items, item, &format!("{at}[]"))));
    }
    if let Some(object) = value.as_object() {
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !object.contains_key(name) {
                wrongs.push(format!("{at}: {name} is missing"));
            }
        }
        for (name, value) in object {
            let at = format!("{at}.{name}");
            match (schema["properties"].get(name), &schema["additionalProperties"]) {
                (Some(schema), _) => wrongs.extend(wrong(document, schema, value, &at)),
                (None, Value::Object(_)) => wrongs.extend(wrong(document, &schema["additionalProperties"], value, &at)),
                (None, _) => wrongs.push(format!("{at} is not in the document")),
            }
        }
    }
    wrongs
}

/// Calls and what came of them: method, path of the document, status.
type Seen = BTreeSet<(String, String, u16)>;

struct Walk {
    keys: Keys,
    document: Value,
    seen: Seen,
}

impl Walk {
    async fn call(&mut self, method: &str, template: &str, query: &str, body: Value, status: u16) -> Answer {
        let id = query.strip_prefix('/').unwrap_or_default();
        let path = if id.is_empty() { format!("{template}{query}") } else { template.replace("{key_id}", id) };
        let request = self.keys.ask(method, &path).key(ADMIN);
        let request = if body.is_null() { request } else { request.json(body.to_string()) };
        let answer = request.send().await;
        self.check(method, template, status, &answer);
        answer
    }

    /// The answer is one that the document has, in all its fields.
    fn check(&mut self, method: &str, template: &str, status: u16, answer: &Answer) {
        assert_eq!(answer.status, status, "{method} {template}: {}", answer.text());
        let operation = &self.document["paths"][template][method.to_lowercase()];
        let response = resolved(&self.document, &operation["responses"][status.to_string()]);
        let schema = &response["content"]["application/json"]["schema"];
        assert!(schema.is_object(), "{method} {template} {status} is not in the document");
        if template.contains("openapi") {
            assert_eq!(answer.json(), self.document);
        } else {
            let wrongs = wrong(&self.document, schema, &answer.json(), "");
            assert!(wrongs.is_empty(), "{method} {template} {status}: {wrongs:#?}");
        }
        self.seen.insert((method.to_owned(), template.to_owned(), status));
    }
}

/// A line of a list, with everything that the document says it can have.
fn imported(document: &Value) -> String {
    let line = json!({"sha256": "a".repeat(64), "id": "api_key_0195ac80a14e8d71f42b98e75d3c61ad", "name": "n",
        "org_code": "o", "user_id": "u", "scopes": ["s"], "api_ids": ["a"], "allow_from": ["10.0.0.0/8"],
        "metadata": {"a": "b"}, "limit": {"requests": 1, "per_ms": 1}, "expires_on": "2999-01-01T00:00:00Z",
        "created_on": "2020-01-01T00:00:00Z", "created_by": "me", "key_prefix": "sk", "key_suffix": "abcd"});
    let known = &document["components"]["schemas"]["ImportedKey"];
    assert_eq!(wrong(document, known, &line, ""), Vec::<String>::new());
    for name in known["properties"].as_object().expect("properties").keys() {
        assert!(line.get(name).is_some(), "the test does not try {name}");
    }
    line.to_string()
}

#[tokio::test]
async fn every_answer_is_in_the_document_and_every_operation_answers() {
    let keys = Keys::start().await;
    let document = keys.ask("GET", "/openapi.json").send().await.json();
    let mut walk = Walk { keys, document, seen: Seen::new() };
    let (all, one, verify) = ("/api/v1/api_keys", "/api/v1/api_keys/{key_id}", "/api/v1/api_keys/verify");
    walk.call("GET", "/openapi.json", "", Value::Null, 200).await;
    walk.call("GET", "/api/v1/openapi.json", "", Value::Null, 200).await;
    let full = json!({"name": "n", "type": "organization", "api_id": "a", "scope_ids": ["s"], "org_code": "o",
        "expires_on": "2999-01-01T00:00:00Z", "allow_from": ["10.0.0.0/8"], "limit": {"requests": 1, "per_ms": 1},
        "metadata": {"a": "b"}, "created_by": "me"});
    // What the document allows in a request is what the service takes: all of it, and nothing else.
    let new = &walk.document["components"]["schemas"]["NewKey"]["properties"];
    let known: Vec<String> = new.as_object().expect("properties").keys().cloned().collect();
    for name in known.iter().filter(|name| *name != "name" && *name != "org_code") {
        if *name != "user_id" {
            assert!(full.get(name).is_some(), "the test does not try {name}");
        }
    }
    let made = walk.call("POST", all, "", full.clone(), 201).await.json();
    let id = format!("/{}", super::text(&made["api_key"]["id"]));
    let nulls = json!({"name": "n", "type": null, "api_id": null, "scope_ids": null, "user_id": "u", "org_code": null,
        "expires_on": null, "allow_from": null, "limit": null, "metadata": null, "created_by": null});
    walk.call("POST", all, "", nulls, 201).await;
    walk.call("POST", all, "", json!({}), 400).await;
    walk.call("GET", all, "", Value::Null, 200).await;
    walk.call("GET", all, "?page_size=1", Value::Null, 200).await;
    walk.call("GET", all, "?page_size=0", Value::Null, 400).await;
    let key = json!({"api_key": super::text(&made["api_key"]["key"])});
    walk.call("POST", verify, "", key.clone(), 200).await;
    walk.call("POST", verify, "", json!({"api_key": "x"}), 200).await;
    walk.call("POST", verify, "", json!({}), 400).await;
    walk.call("GET", one, &id, Value::Null, 200).await;
    walk.call("GET", one, &format!("{id}?x=1"), Value::Null, 400).await;
    walk.call("DELETE", one, &format!("{id}?x=1"), Value::Null, 400).await;
    walk.call("PUT", one, &id, json!({"grace_period_seconds": 60}), 201).await;
    walk.call("PUT", one, &id, json!({"grace_period_seconds": null}), 201).await;
    walk.call("PUT", one, &id, json!({"later": 1}), 400).await;
    walk.call("DELETE", one, &id, Value::Null, 200).await;
    walk.call("GET", one, &id, Value::Null, 200).await;
    walk.call("PUT", one, &id, Value::Null, 400).await;
    walk.call("POST", verify, "", key, 200).await;
    for method in ["GET", "PUT", "DELETE"] {
        walk.call(method, one, "/nobody", Value::Null, 404).await;
    }
    for (method, template) in [("POST", all), ("POST", verify), ("PUT", one)] {
        let path = template.replace("{key_id}", &id[1..]);
        let text = walk.keys.ask(method, &path).key(ADMIN).body("text/plain", "x").send().await;
        walk.check(method, template, 415, &text);
        let large = walk.keys.ask(method, &path).key(ADMIN).json("x".repeat(200_000)).send().await;
        walk.check(method, template, 413, &large);
    }
    let import = "/api/v1/api_keys/import";
    let list = |kind: &str, list: String| walk.keys.ask("POST", import).key(ADMIN).body(kind, list);
    let line = imported(&walk.document);
    for (request, status) in [
        (list("application/x-ndjson", line.clone()), 200),
        (list("text/csv; charset=utf-8", format!("sha256,name,org_code\n{},c,o\n", "b".repeat(64))), 200),
        (list("application/x-ndjson", format!("{line}\n{line}\n{{}}\n")), 400),
        (list("application/json", line), 415),
        (list("text/csv", "x".repeat(5 << 20)), 413),
    ] {
        let answer = request.send().await;
        walk.check("POST", import, status, &answer);
    }
    let form = "application/x-www-form-urlencoded";
    for (body, status) in [
        (format!("grant_type=client_credentials&client_id=admin&client_secret={ADMIN}"), 200),
        ("grant_type=x".to_owned(), 400),
        ("grant_type=client_credentials".to_owned(), 401),
        ("x".repeat(200_000), 413),
    ] {
        let answer = walk.keys.ask("POST", "/oauth2/token").body(form, body).send().await;
        walk.check("POST", "/oauth2/token", status, &answer);
    }
    let typed = walk.keys.ask("POST", "/oauth2/token").json("{}").send().await;
    walk.check("POST", "/oauth2/token", 415, &typed);
    for (method, template) in
        [("GET", all), ("POST", all), ("POST", import), ("POST", verify), ("GET", one), ("PUT", one), ("DELETE", one)]
    {
        let path = template.replace("{key_id}", &id[1..]);
        let bare = walk.keys.ask(method, &path).send().await;
        walk.check(method, template, 401, &bare);
        let other = if template == verify { None } else { Some(super::SIDECAR) };
        if let Some(token) = other {
            let answer = walk.keys.ask(method, &path).key(token).send().await;
            walk.check(method, template, 403, &answer);
        }
    }

    // What was not called: only what this test cannot bring about at will.
    let follow = "/api/v1/api_keys/revocations";
    let mut left = BTreeMap::new();
    for (path, operations) in walk.document["paths"].as_object().expect("paths") {
        for (method, operation) in
            operations.as_object().expect("operations").iter().filter(|(name, _)| *name != "parameters")
        {
            for status in operation["responses"].as_object().expect("responses").keys() {
                let number: u16 = status.parse().expect("a status");
                if !walk.seen.contains(&(method.to_uppercase(), path.clone(), number))
                    && ![408, 429, 503].contains(&number)
                {
                    left.entry(path.clone()).or_insert_with(Vec::new).push(format!("{method} {status}"));
                }
            }
        }
    }
    left.remove(follow);
    let one_of_verify = vec!["post 403".to_owned()];
    assert_eq!(left.remove(verify), Some(one_of_verify), "every token of this test may verify");
    assert_eq!(left, BTreeMap::new());
}

#[test]
fn the_document_is_openapi() {
    let check = "import json, sys; from openapi_spec_validator import validate; validate(json.load(sys.stdin))";
    let mut child = Command::new(python())
        .args(["-c", check])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("Python runs");
    serde_json::to_writer(child.stdin.take().expect("a pipe"), keyward::key_service::document()).expect("written");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
