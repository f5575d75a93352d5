//! The schema against the parser, in both directions.

use regex::Regex;
use serde_json::{Map, Value, json};

use super::*;
use crate::config::mistake::Findings;
use crate::config::schema::{Type, schema, table};
use crate::config::snippet::Source;
use crate::config::tree::{self, Node};
use crate::config::value::Context;
use crate::config::written::{Config, all_keys};

/// A validator for as much of JSON Schema as the schema uses; anything else is refused.
fn is_valid(schema: &Value, root: &Value, value: &Value) -> bool {
    let schema = schema.as_object().expect("a schema is an object");
    schema.iter().all(|(keyword, wanted)| {
        let count = || wanted.as_u64().expect("a bound");
        match (keyword.as_str(), value) {
            ("$schema" | "title" | "description" | "$defs", _) => true,
            ("$ref", _) => {
                let name = wanted.as_str().and_then(|text| text.strip_prefix("#/$defs/")).expect("a reference");
                is_valid(&root["$defs"][name], root, value)
            }
            ("anyOf", _) => wanted.as_array().expect("a list").iter().any(|one| is_valid(one, root, value)),
            ("enum", _) => wanted.as_array().expect("a list").contains(value),
            ("const", _) => wanted == value,
            ("type", _) => match wanted.as_str().expect("a type") {
                "object" => value.is_object(),
                "array" => value.is_array(),
                "string" => value.is_string(),
                "boolean" => value.is_boolean(),
                "integer" => value.is_i64() || value.is_u64(),
                other => panic!("the type {other}"),
            },
            ("properties", Value::Object(entries)) => {
                entries.iter().all(|(key, value)| wanted.get(key).is_none_or(|schema| is_valid(schema, root, value)))
            }
            ("additionalProperties", Value::Object(entries)) => {
                let known = schema.get("properties").and_then(Value::as_object);
                let mut others = entries.iter().filter(|(key, _)| known.is_none_or(|known| !known.contains_key(*key)));
                others.all(|(_, value)| *wanted != json!(false) && is_valid(wanted, root, value))
            }
            ("required", Value::Object(entries)) => {
                wanted.as_array().expect("a list").iter().all(|key| entries.contains_key(key.as_str().expect("a key")))
            }
            ("items", Value::Array(items)) => items.iter().all(|item| is_valid(wanted, root, item)),
            ("minItems", Value::Array(items)) => items.len() as u64 >= count(),
            ("minLength", Value::String(text)) => text.chars().count() as u64 >= count(),
            ("pattern", Value::String(text)) => {
                Regex::new(wanted.as_str().expect("a pattern")).expect("a regular expression").is_match(text)
            }
            ("minimum", Value::Number(number)) => number.as_u64().is_some_and(|number| number >= count()),
            ("maximum", Value::Number(number)) => number.as_u64().is_some_and(|number| number <= count()),
            ("properties" | "additionalProperties" | "required" | "items", _) => true,
            ("minItems" | "minLength" | "pattern" | "minimum" | "maximum", _) => true,
            (other, _) => panic!("the keyword {other}"),
        }
    })
}

fn as_json(node: &Node) -> Value {
    match &node.value {
        tree::Value::Null => Value::Null,
        tree::Value::Bool(value) => json!(value),
        tree::Value::Int(number) => i64::try_from(*number).map_or_else(|_| json!(1e30), |number| json!(number)),
        tree::Value::Float(number) => json!(number),
        tree::Value::Text(text) => json!(text),
        tree::Value::List(items) => items.iter().map(as_json).collect(),
        tree::Value::Map(entries) => {
            let entries = entries
                .iter()
                .map(|(key, value)| (as_json(key).as_str().unwrap_or_default().to_owned(), as_json(value)));
            Value::Object(entries.collect::<Map<_, _>>())
        }
    }
}

#[track_caller]
fn assert_taken(schema: &Value, name: &str, text: &str) -> Value {
    let value = as_json(&tree::parse(text).unwrap_or_else(|mistake| panic!("{name}: {mistake:?}")));
    assert!(is_valid(schema, schema, &value), "the schema refuses {name}:\n{text}");
    value
}

/// A file with every key, of which no two exclude each other where the schema could tell.
const EVERYTHING: &str = "
listen:
  address: [127.0.0.1:0, 'unix:/run/keyward.sock']
  max_connections: 7
  max_header_bytes: 16KiB
  max_streams: 5
  timeouts: {handshake: 1s, header: 5s, body: 1m, write: 1m30s}
admin: {address: 127.0.0.1:9901, token: {env: TOKEN}}
health: {address: 0.0.0.0:9902, exposed: refuse}
trusted_proxies: [10.1.2.3/8, 192.0.2.1]
memory: 20971520
shutdown: {delay: 1s, grace: 5s}
usage: {file: usage.jsonl}
upstreams:
  ai:
    endpoints: http://127.0.0.1:8000/
    timeouts: {connect: 500ms, first_byte: 1h30m, idle: 2m}
    keepalive: 0s
    max_concurrent: 0
    headers: {set: {X-Api-Version: '2', Authorization: {env: TOKEN}}}
    assertion:
      header: X-Key-Assertion
      algorithm: HS256
      key: {env: SHARED}
      key_id: one
      previous: {key: {env: SEED}, key_id: two}
      ttl: 30s
      issuer: keyward
      audience: service
keys:
  verifier: store
  credentials: [X-Key, bearer]
  store: {url: 'sqlite:///var/lib/k.db', prefix: test_1, pepper: [{env: SHARED}]}
  cache: {ttl: 10s, negative_ttl: 1s, max_entries: 5, refresh_ahead: false, stale_if_error: 1m}
  auth_failures: {requests: 3, per: 1s}
  serve:
    address: 127.0.0.1:9444
    max_connections: 5
    tokens: {admin: {token: {env: SHARED}, scopes: ['read:api_keys']}}
limits:
  ai: {requests: 50, per: 15m, by: org, burst: 9}
rules:
  - {id: word, pattern: bluebird, action: block, direction: both, views: [fold], examples: {match: [a bluebird], pass: [a bird]}}
  - {id: words, literals: [one, two], ignore_case: true}
defaults:
  upstream: ai
  limits: ai
  slow: 1s
  echo_identity: true
  format: openai
  credentials: bearer
  request: {rules: [], action: redact, max_chars: 5, max_body_chars: 9, max_body: 1MiB, unscannable: block, binary_parts: block, views: []}
  response: {rules: word}
routes:
  - id: one
    path: /one/**
    host: api.example.com
    methods: [GET, PATCH]
    scopes: {any_of: ['a:b', c]}
    auth: key
    limits: [ai]
    request: {rules: []}
    response: {rules: [], content_types: [application/json]}
    upstream: ai
    format: anthropic
    credentials: bearer
    echo_identity: false
    underscore_headers: [My_Header]
    assertion: off
    context: {format: json, at: /prompt, template: 'for {owner}, {team}: {text}', values: {team: {header: X-Team}}}
    slow: 2s
  - {id: two, path: /two, public: true, limits: [], upgrade: [websocket]}
";

const KINDE: &str = "
upstreams: {ai: {endpoints: [http://127.0.0.1:8000]}}
keys:
  verifier: kinde
  kinde:
    url: https://acme.kinde.com
    client_id: id
    client_secret: {env: TOKEN}
    auth: m2m
    audience: https://acme.kinde.com/api
    api_id: api
    timeout: 5s
    poll: 60s
    proxy: {url: 'http://proxy:3128', username: u, password: {env: TOKEN}}
routes:
  - id: only
    path: /only
    request: {rules: []}
    response: {rules: [], stream: {join: 'choices[].text', channel: id, opaque: id, done: '[END]', end: ['data']}}
";

#[test]
fn every_key_has_a_type_and_a_description_and_no_other_has() {
    for (path, keys) in all_keys() {
        let described = table::SECTIONS.iter().find(|described| described.path == path);
        let described = described.unwrap_or_else(|| panic!("the section {path:?} has no row in the schema's table"));
        let mut known: Vec<_> = keys.known.to_vec();
        let mut typed: Vec<_> = described.rows.iter().map(|(key, ..)| *key).collect();
        known.sort_unstable();
        typed.sort_unstable();
        assert_eq!(known, typed, "{path:?}");
        assert!(described.required.iter().all(|key| known.contains(key)), "{path:?}");
        assert!(described.rows.iter().all(|(.., description)| !description.is_empty()), "{path:?}");
    }
    assert_eq!(table::SECTIONS.len(), all_keys().len());
}

#[test]
fn every_reference_has_its_definition() {
    fn sections(of: &Type, found: &mut Vec<&'static str>) {
        match of {
            Type::Section(path) => found.push(path),
            Type::Map(of) | Type::Items(of) | Type::List(of, _) => sections(of, found),
            Type::Any(types) => types.iter().for_each(|of| sections(of, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    table::SECTIONS.iter().flat_map(|described| described.rows).for_each(|(_, of, _)| sections(of, &mut found));
    for path in found {
        assert!(table::SECTIONS.iter().any(|described| described.path == path), "{path}");
    }
}

#[test]
fn published_files_are_taken() {
    let schema = schema();
    for (name, text) in [
        ("proxy.yaml", include_str!("../../../proxy.yaml")),
        ("examples/flask", include_str!("../../../examples/flask/proxy.yaml")),
        ("examples/fastapi", include_str!("../../../examples/fastapi/proxy.yaml")),
        ("examples/identity", include_str!("../../../examples/identity/proxy.yaml")),
        ("deploy/component", include_str!("../../../deploy/kustomize/component/proxy.yaml")),
        ("deploy/kinde", include_str!("../../../deploy/kustomize/overlays/kinde/proxy.yaml")),
        ("deploy/key-service", include_str!("../../../deploy/kustomize/key-service/proxy.yaml")),
        ("deploy/overlays/key-service", include_str!("../../../deploy/kustomize/overlays/key-service/proxy.yaml")),
    ] {
        assert_taken(&schema, name, text);
    }
    for block in include_str!("../../../docs/configuration.md").split("```yaml\n").skip(1) {
        assert_taken(&schema, "docs/configuration.md", block.split("```").next().unwrap_or_default());
    }
    let refused = include_str!("../../../tests/config/twelve-mistakes.yaml");
    assert!(!is_valid(&schema, &schema, &as_json(&tree::parse(refused).expect("YAML"))));
}

/// Everything that one change makes of a file: another value in a place, a key more, a key less.
fn mutants(value: &Value) -> Vec<Value> {
    let mut made: Vec<Value> = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(3),
        json!(1.5),
        json!(""),
        json!("word"),
        json!("1m"),
        json!([]),
        json!(["word"]),
        json!([["word"]]),
        json!({}),
        json!({"unknown": 1}),
        json!([{"unknown": 1}]),
        json!({"env": "TOKEN"}),
    ]
    .into();
    match value {
        Value::Object(entries) => {
            for (key, below) in entries {
                made.extend(mutants(below).into_iter().map(|below| {
                    let mut entries = entries.clone();
                    entries.insert(key.clone(), below);
                    Value::Object(entries)
                }));
                let mut fewer = entries.clone();
                fewer.remove(key);
                made.push(Value::Object(fewer));
            }
            let mut more = entries.clone();
            more.insert("unknown_key".to_owned(), json!(1));
            made.push(Value::Object(more));
        }
        Value::Array(items) => {
            for (index, below) in items.iter().enumerate() {
                made.extend(mutants(below).into_iter().map(|below| {
                    let mut items = items.clone();
                    items[index] = below;
                    Value::Array(items)
                }));
            }
        }
        _ => {}
    }
    made
}

/// A mistake that is about one value alone: its type, its key, or that it is missing. Bounds and spellings that a schema
/// could not tell as well are the parser's.
fn is_shape(mistake: &Mistake) -> bool {
    let message = &mistake.message;
    let shape = [
        "expected a mapping",
        "expected a list",
        "expected true or false",
        "expected one of",
        "expected a whole number, found",
    ];
    let found = ["found nothing", "found a list", "found a mapping", "found `true`", "found an empty text"];
    message.starts_with("unknown key")
        || shape.iter().any(|begin| message.starts_with(begin))
        || message.starts_with("expected") && found.iter().any(|end| message.ends_with(end))
}

/// What reading finds, before names are looked up and rules are compiled, which takes far longer.
fn reading(text: &str) -> Vec<Mistake> {
    let findings = Findings::default();
    let root = tree::parse(text).unwrap_or_else(|mistake| panic!("{mistake:?}"));
    let context = Context { findings: &findings, base_dir: Path::new("/nowhere"), env: &env };
    let _ = Config::read(&root, context);
    findings.finish(&Source::parsed("f", text, &root)).iter().cloned().collect()
}

#[test]
fn what_the_parser_takes_the_schema_takes_and_what_has_a_wrong_shape_neither_does() {
    let schema = schema();
    let (mut taken, mut refused) = (0, 0);
    for text in [EVERYTHING, KINDE] {
        if let Err(mistakes) = compile_text("f", text, Path::new("/nowhere"), &env, &Overrides::default()) {
            panic!("{mistakes}");
        }
        let value = assert_taken(&schema, "the whole", text);
        for mutant in mutants(&value) {
            // JSON is YAML.
            let text = mutant.to_string();
            let valid = is_valid(&schema, &schema, &mutant);
            let mistakes = reading(&text);
            if mistakes.is_empty() {
                assert!(valid, "the parser takes it, the schema does not:\n{text}");
                taken += 1;
            } else if mistakes.iter().any(is_shape) {
                assert!(!valid, "the schema takes it:\n{text}\n{mistakes:#?}");
                refused += 1;
            }
        }
    }
    assert!(taken > 100 && refused > 1000, "{taken} taken, {refused} refused");
}
