//! What a valid file becomes.

use std::time::Duration;

use http::Method;

use super::*;
use crate::config::{
    AdminSpec, CacheSpec, Credentials, Process, StorePlace, StoreSpec, UsageOutput, VerifierSpec, route_table, summary,
};
use crate::policy::{
    Access, BodyClass, Breaker, Concurrency, Ejection, ErrorFormat, Http2, Matched, Place, Retries, Route, Scopes,
    Subject, Unscannable,
};
use crate::scan::{Action, BinaryParts};

fn store(process: &Process) -> &StoreSpec {
    match &process.verifier {
        VerifierSpec::Store(store) => store,
        other => panic!("{other:?}"),
    }
}

fn route(compiled: &Compiled) -> &Route {
    &compiled.policy.routes.routes()[0]
}

#[test]
fn what_is_left_out_is_safe() {
    let compiled = compile_text(
        "f",
        "upstreams: {ai: {endpoints: [http://127.0.0.1:8000]}}\nroutes: [{id: a, path: /a}]",
        Path::new("/etc/keyward"),
        &env,
        &Overrides::default(),
    )
    .unwrap_or_else(|mistakes| panic!("{mistakes}"));

    let process = &compiled.process;
    assert_eq!(process.listen[0].to_string(), "127.0.0.1:8080");
    assert_eq!((process.max_connections, process.max_header_bytes, process.memory), (10_000, 64 << 10, 48 << 20));
    assert_eq!(process.header_timeout, Duration::from_secs(30));
    assert_eq!(process.body_timeout, Duration::from_secs(30));
    assert_eq!(process.grace, Duration::from_secs(25));
    assert_eq!((&process.admin, &process.health), (&None, &None));
    assert_eq!(store(process).place, StorePlace::from(Path::new("/etc/keyward/keyward.db")));
    assert_eq!(store(process).prefix, "kw_live");
    let (ttl, negative_ttl, stale_if_error) = (Duration::from_secs(60), Duration::from_secs(5), Duration::ZERO);
    let cache = CacheSpec { ttl, negative_ttl, max_entries: 10_000, refresh_ahead: true, stale_if_error };
    assert_eq!(process.cache, cache);
    assert_eq!(process.usage, UsageOutput::Stdout);

    let route = route(&compiled);
    assert_eq!(route.access, Access::Key(Scopes::All(Vec::new())), "a route is never public by omission");
    assert_eq!(&*route.credentials, [Place::Bearer, Place::Header("x-api-key".parse().expect("a name"))]);
    assert_eq!(route.format, ErrorFormat::Keyward);
    assert_eq!(route.slow, Duration::from_secs(5));
    assert!(!route.echo_identity);
    for inspect in [&route.request, &route.response] {
        assert_eq!(inspect.rules.rule_ids().len(), crate::scan::preset("html").expect("a preset").len());
        assert_eq!((inspect.action, inspect.unscannable), (Action::Block, Unscannable::Block));
        assert_eq!((inspect.max_chars, inspect.max_body_chars, inspect.max_body), (None, None, 10 << 20));
        assert_eq!(inspect.content_types.len(), 5);
        assert_eq!((inspect.binary_parts, &inspect.house), (BinaryParts::Pass, &None));
    }
    assert_eq!(&*route.upstream.name, "ai");
    assert_eq!(route.upstream.timeouts.first_byte, Duration::from_secs(300));
    assert_eq!(route.upstream.keepalive, Duration::from_secs(1));
    let failures = &compiled.policy.auth_failures;
    assert_eq!(
        (failures.rate.requests, failures.rate.per, failures.by),
        (100, Duration::from_secs(900), Subject::Address)
    );
    assert!(compiled.policy.unmatched.limits.is_empty());
    assert!(compiled.policy.trusted_proxies.is_empty());
}

#[test]
fn what_is_written_is_kept() {
    let compiled = valid(
        "
listen:
  address: [127.0.0.1:0, \"[::1]:8443\", localhost:8081]
  max_connections: 7
  max_header_bytes: 16KiB
  timeouts: {header: 5s, body: 1m}
admin: {address: 127.0.0.1:9901, token: {env: TOKEN}}
health: {address: 0.0.0.0:9902}
trusted_proxies: [10.1.2.3/8, 192.0.2.1, \"2001:db8::/32\"]
memory: 20971520
shutdown: {grace: 5s}
usage: {file: usage.jsonl}
upstreams:
  ai:
    endpoints: http://ai_service:8000/
    timeouts: {connect: 500ms, first_byte: 1h30m, idle: 2m}
    keepalive: 0s
    max_concurrent: 0
    headers: {set: {X-Api-Version: \"2\", Authorization: {env: TOKEN}}}
  v6: {endpoints: [\"http://[::1]\"]}
keys:
  verifier: store
  credentials: [X-Key, bearer]
  store: {url: \"sqlite:///var/lib/k.db\", prefix: test_1}
  cache: {ttl: 10s, negative_ttl: 1s, max_entries: 5}
  auth_failures: {requests: 3, per: 1s}
limits:
  ai: {requests: 50, per: 15m}
  org: {requests: 5, per: 1s, by: org, burst: 9}
rules: [{id: word, pattern: bluebird, examples: {match: [a bluebird], pass: [a bird]}}]
defaults: {upstream: ai, limits: ai, slow: 1s, echo_identity: true, request: {rules: [], max_chars: 5}, response: {rules: word, max_body: 1MiB}}
routes:
  - id: one
    path: /one/**
    host: API.example.com.
    methods: [GET, PATCH]
    scopes: {any_of: [\"a:b\", c]}
    auth: observe
    limits: [org, ai]
    request: {action: redact, max_body_chars: 9, unscannable: pass}
    response: {action: observe, content_types: [application/json, text/plain]}
    upstream: v6
    format: anthropic
    credentials: bearer
    underscore_headers: [My_Header]
    slow: 2s
  - {id: two, path: /two, public: true, limits: [], echo_identity: false}
",
    );
    let process = &compiled.process;
    let listen: Vec<String> = process.listen.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["127.0.0.1:0", "[::1]:8443", "localhost:8081"]);
    assert_eq!((process.max_connections, process.max_header_bytes, process.memory), (7, 16 << 10, 20 << 20));
    assert_eq!((process.header_timeout, process.body_timeout), (Duration::from_secs(5), Duration::from_secs(60)));
    assert_eq!(process.usage, UsageOutput::File("/etc/keyward/usage.jsonl".into()));
    assert_eq!(store(process).place, StorePlace::from(Path::new("/var/lib/k.db")));
    assert_eq!(process.cache.max_entries, 5);
    assert!(process.health.is_some());
    let networks: Vec<String> = compiled.policy.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32"]);
    assert_eq!(compiled.policy.auth_failures.rate.requests, 3);
    assert_eq!(compiled.policy.unmatched.limits.len(), 1);
    assert_eq!(compiled.policy.unmatched.credentials.len(), 2);

    let one = route(&compiled);
    assert_eq!((one.host.as_deref(), one.path.as_str()), (Some("api.example.com"), "/one/**"));
    assert_eq!(one.methods.to_string(), "GET, PATCH, HEAD");
    assert_eq!(one.access, Access::Observe(Scopes::Any(vec!["a:b".into(), "c".into()])));
    assert_eq!(one.limits.iter().map(|limit| &*limit.name).collect::<Vec<_>>(), ["org", "ai"]);
    assert_eq!((one.limits[0].rate.capacity, one.limits[0].by), (9, Subject::Organization));
    assert_eq!((one.limits[1].rate.capacity, one.limits[1].by), (50, Subject::Key));
    // Field by field over the defaults.
    assert_eq!((one.request.max_chars, one.request.max_body_chars), (Some(5), Some(9)));
    assert_eq!((one.request.action, one.request.unscannable), (Action::Redact, Unscannable::Pass));
    assert_eq!((one.response.rules.rule_ids()[0].as_ref(), one.response.action), ("word", Action::Observe));
    assert_eq!((one.response.max_body, one.request.max_body), (1 << 20, 10 << 20));
    assert_eq!(one.response.content_types, [BodyClass::Json, BodyClass::Text]);
    assert_eq!(one.upstream.endpoints[0].to_string(), "http://[::1]:80");
    assert_eq!(*one.credentials, [Place::Bearer]);
    assert_eq!(one.underscore_headers, ["my_header"]);
    assert_eq!((one.slow, one.format), (Duration::from_secs(2), ErrorFormat::Anthropic));

    assert!(one.echo_identity);

    let two = &compiled.policy.routes.routes()[1];
    assert_eq!((&two.access, two.echo_identity), (&Access::Public, false));
    assert_eq!(two.slow, Duration::from_secs(1));
    assert_eq!(two.upstream.endpoints[0].to_string(), "http://ai_service:8000");
    assert_eq!(two.upstream.keepalive, Duration::ZERO);
    let headers = &two.upstream.set_headers;
    assert_eq!((headers[1].0.as_str(), headers[1].1.as_bytes()), ("authorization", &b"s3cret"[..]));
    assert!(headers[1].1.is_sensitive());
    let found = compiled.policy.routes.find(None, &Method::GET, "/two");
    assert!(matches!(found, Matched::Route(route) if &*route.id == "two"));
}

#[test]
fn kinde_needs_little_and_takes_much() {
    let short =
        "keys: {verifier: kinde, kinde: {url: 'https://Acme.kinde.com/', client_id: c, client_secret: {env: TOKEN}}}";
    let compiled = valid(short);
    let VerifierSpec::Kinde(kinde) = &compiled.process.verifier else { panic!("{:?}", compiled.process.verifier) };
    assert_eq!(kinde.origin.to_string(), "https://acme.kinde.com");
    assert_eq!((kinde.origin.tls, kinde.origin.port, kinde.timeout), (true, 443, Duration::from_secs(5)));
    assert_eq!((&kinde.api_id, &kinde.ca), (&None, &None));
    let Credentials::Client { id, secret, audience } = &kinde.credentials else { panic!("{kinde:?}") };
    assert_eq!((id.as_str(), secret.expose(), audience.as_str()), ("c", "s3cret", "https://acme.kinde.com/api"));
    assert!(!format!("{compiled:?}").contains("s3cret"), "Debug shows no secret");
    assert!(compiled.warnings.is_empty(), "{:?}", compiled.warnings);
    assert_eq!(valid(short).process, compiled.process);

    let compiled = valid(
        "
keys:
  verifier: kinde
  kinde: {url: 'http://127.0.0.1:4400', auth: {token: {env: TOKEN}}, api_id: a1, timeout: 2s,
    poll: 30s, proxy: {url: 'http://[::1]:3128/', username: u, password: {env: TOKEN}}}
  cache: {refresh_ahead: false, stale_if_error: 10m}
",
    );
    let VerifierSpec::Kinde(kinde) = &compiled.process.verifier else { panic!("{:?}", compiled.process.verifier) };
    assert_eq!(kinde.origin.to_string(), "http://127.0.0.1:4400");
    assert!(matches!(&kinde.credentials, Credentials::Token(token) if token.expose() == "s3cret"), "{kinde:?}");
    assert_eq!((kinde.api_id.as_deref(), kinde.timeout), (Some("a1"), Duration::from_secs(2)));
    let proxy = kinde.proxy.as_ref().expect("a proxy");
    assert_eq!((kinde.poll, proxy.to_string().as_str()), (Some(Duration::from_secs(30)), "[::1]:3128"));
    assert!(
        proxy.credentials.as_ref().is_some_and(|shown| shown.username == "u" && shown.password.expose() == "s3cret")
    );
    let cache = &compiled.process.cache;
    assert_eq!((cache.refresh_ahead, cache.stale_if_error), (false, Duration::from_secs(600)));
    assert_eq!(
        compiled.warnings,
        ["keys.kinde.url: keys and tokens go to http://127.0.0.1:4400 without TLS, within this machine"]
    );

    let custom = valid(
        "keys: {verifier: kinde, kinde: {url: 'https://auth.acme.com', client_id: c, client_secret: {env: TOKEN}, audience: x}}",
    );
    assert_eq!(
        custom.warnings,
        [
            "keys.kinde.url: https://auth.acme.com is not under kinde.com; Kinde issues no token for its API on custom domains"
        ]
    );
    let nothing = valid("keys: {verifier: kinde, kinde: {url: 'https://auth.acme.com', auth: none}}");
    assert!(nothing.warnings.is_empty(), "{:?}", nothing.warnings);
}

#[test]
fn the_only_upstream_needs_no_name() {
    assert_eq!(&*route(&valid("routes: [{id: a, path: /a}]")).upstream.name, "ai");
}

#[test]
fn an_override_takes_the_place_of_every_endpoint() {
    let text = complete(
        "upstreams: {a: {endpoints: [http://a]}, b: {endpoints: [http://b]}}\ndefaults: {upstream: a, request: {rules: []}, response: {rules: []}}",
    );
    let compile = |endpoint: &str| {
        let overrides = Overrides { endpoint: Some(endpoint.to_owned()) };
        compile_text("f", &text, Path::new(""), &env, &overrides)
    };
    let compiled = compile("http://127.0.0.1:4711").unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(route(&compiled).upstream.endpoints[0].to_string(), "http://127.0.0.1:4711");
    let mistakes = compile("nonsense/").expect_err("no endpoint");
    let told: Vec<String> = mistakes.iter().map(told).collect();
    assert_eq!(
        told,
        ["the endpoint override `nonsense/`: expected `http://host:port`, `https://host:port` or `unix:/path`"]
    );
}

#[test]
fn a_reload_sees_what_needs_a_restart() {
    let text = "admin: {address: 127.0.0.1:9901, token: {env: TOKEN}}";
    assert_eq!(valid(text).process, valid(text).process);
    let mut changed = valid(text).process;
    changed.admin = Some(AdminSpec {
        token: crate::policy::SecretString::new("another".to_owned()),
        ..changed.admin.expect("an admin port")
    });
    assert_ne!(changed, valid(text).process);
}

#[test]
fn warnings_say_what_is_not_relied_on() {
    let compiled = valid(
        "
trusted_proxies: [0.0.0.0/0]
upstreams: {ai: {endpoints: [http://a]}, spare: {endpoints: [http://b]}}
limits: {idle: {requests: 1, per: 1s}}
rules: [{id: word, pattern: x}, {id: idle, pattern: y}]
defaults: {upstream: ai, request: {rules: []}, response: {rules: [word]}}
routes:
  - {id: a, path: /a}
  - {id: b, path: /b, response: {rules: [], max_chars: 5}}
  - {id: c, path: /c, response: {action: sanitize}}
  - {id: d, path: /d, response: {content_types: [application/json]}}
  - {id: e, path: /e, response: {rules: [], action: sanitize}}
",
    );
    assert_eq!(
        compiled.warnings,
        [
            "streamed responses are refused on route c: `sanitize` needs a body whole, `redact` does not",
            "trusted_proxies trusts every address: any client can say where it comes from",
            "upstream `spare` is used by no route (line 3)",
            "limit `idle` is used by no route (line 4)",
            "rule `idle` is used by no route (line 5)",
        ]
    );
    assert!(summary(&compiled).contains("\nwarning: limit `idle` is used by no route (line 4)\n"));
}

#[test]
fn the_table_is_aligned() {
    let compiled = valid(
        "
limits: {ai: {requests: 50, per: 15m}, burst: {requests: 1, per: 1h30m, by: address, burst: 5}}
rules: [{id: word, pattern: bluebird}, {id: long, pattern: 'a.*b'}]
routes:
  - {id: chat, path: /ai/chat, methods: [POST], scopes: [\"a:b\"], limits: [ai, burst], request: {rules: [word], max_chars: 9}}
  - {id: any, path: /legacy/**, host: example.com, auth: observe, format: openai, response: {rules: [secrets, long], action: redact}}
  - {id: open, path: /healthz, methods: [GET], public: true}
",
    );
    assert_eq!(
        route_table(&compiled.policy),
        "\
ROUTE         METHOD     PATH                   SCOPES       LIMITS                                              REQUEST               RESPONSE               UPSTREAM
chat          POST       /ai/chat               a:b          ai 50/15m by key, burst 1/1h30m burst 5 by address  block: word, 9 chars  -                      ai http://127.0.0.1:8000
any (openai)  *          example.com/legacy/**  - (observe)  -                                                   -                     redact: secrets, long  ai http://127.0.0.1:8000
open          GET, HEAD  /healthz               public       -                                                   -                     -                      ai http://127.0.0.1:8000

RULES          ACTION  HOLDS BACK
word           block   7 bytes
secrets, long  redact  unbounded
"
    );
}

#[test]
fn a_route_takes_the_assertion_of_its_upstream_or_its_own() {
    let compiled = valid(
        "
upstreams:
  ai: {endpoints: http://a, assertion: {key: {env: SEED}, key_id: k1, previous: {key: {env: OTHER_SEED}, key_id: k0}}}
  plain: {endpoints: http://b}
defaults: {upstream: ai, request: {rules: []}, response: {rules: []}}
routes:
  - {id: a, path: /a}
  - {id: b, path: /b, assertion: off}
  - {id: c, path: /c, assertion: {algorithm: HS256, key: {env: SHARED}, key_id: s, header: X-Key-Other, ttl: 5m, issuer: me, audience: you}}
  - {id: d, path: /d, upstream: plain}
  - {id: e, path: /e, upstream: plain, assertion: {key: {env: SEED}, key_id: k1}}
",
    );
    let told: Vec<_> = compiled
        .policy
        .routes
        .routes()
        .iter()
        .map(|route| {
            let assertion = route.assertion.as_ref()?;
            Some((assertion.header.to_string(), assertion.ttl.as_secs(), &*assertion.issuer, &*assertion.audience))
        })
        .collect();
    let own = "x-key-assertion".to_owned();
    assert_eq!(
        told,
        [
            Some((own.clone(), 60, "keyward", "ai")),
            None,
            Some(("x-key-other".to_owned(), 300, "me", "you")),
            None,
            Some((own, 60, "keyward", "plain")),
        ]
    );
    let set: serde_json::Value = serde_json::from_str(&compiled.policy.key_set).expect("JSON");
    let ids: Vec<_> = set["keys"].as_array().expect("a list").iter().map(|key| key["kid"].clone()).collect();
    assert_eq!(ids, ["k1", "k0"], "a name for each key, and no secret");
    assert!(!format!("{compiled:?}").contains("0123456789abcdef"), "Debug shows no secret");
}

#[test]
fn rules_have_actions_of_their_own_under_that_of_the_section() {
    let compiled = valid(
        "
rules:
  - {id: name, literals: [Bluebird, 'a.b'], ignore_case: true, action: redact}
  - {id: new, pattern: heron, action: observe, views: [percent]}
  - {id: plain, pattern: wren}
  - {id: asked, pattern: robin, direction: request, action: block}
defaults: {request: {rules: [plain, name, new, asked]}, response: {rules: [new], action: redact}}
routes:
  - {id: mixed, path: /mixed}
  - {id: lowered, path: /lowered, request: {action: observe}, response: {max_chars: 5}}
  - {id: same, path: /same, request: {rules: [plain, name], action: redact}, response: {rules: [html, new]}}
  - {id: sanitized, path: /sanitized, request: {rules: [plain, new], action: sanitize}, response: {rules: [html]}}
",
    );
    let routes = compiled.policy.routes.routes();
    let of = |route: usize| {
        let one = |what: &crate::policy::Inspect| {
            let each = |rule| what.rules.action_of(rule, what.action);
            let mut all: Vec<Action> = (0..what.rules.rule_ids().len()).map(each).collect();
            all.dedup();
            (what.action, what.section, all)
        };
        (one(&routes[route].request), one(&routes[route].response))
    };
    use Action::{Block, Observe, Redact, Sanitize};
    // Only observed, and nothing else is asked: the body is not touched.
    let observed = |section| (Observe, section, vec![Observe]);
    assert_eq!(of(0), ((Redact, Block, vec![Block, Redact, Observe, Block]), observed(Redact)));
    // A longest length is not lowered by a rule.
    assert_eq!(of(1), (observed(Observe), (Block, Redact, vec![Observe])));
    assert_eq!(of(2), ((Redact, Redact, vec![Redact]), (Redact, Redact, vec![Redact, Observe])));
    assert_eq!(of(3), ((Sanitize, Sanitize, vec![Sanitize, Observe]), (Redact, Redact, vec![Redact])));
    let table = route_table(&compiled.policy);
    for line in [
        "by rule: plain (block), name (redact), new (observe), asked (block) through percent (1 of 4)",
        "observe: plain, name, new, asked through percent (1 of 4)",
        "by rule: html (redact), new (observe) through percent",
        "redact: plain, name ",
        "by rule: plain (sanitize), new (observe) through percent (1 of 2)",
    ] {
        assert!(table.contains(line), "{line}\n{table}");
    }
}

#[test]
fn what_happens_when_an_upstream_fails() {
    let compiled = valid(
        "
upstreams:
  ai:
    endpoints: [\"https://[::1]\", unix:app.sock, HTTP://b/]
    http2: true
    timeouts: {total: 10m}
    warm: 3
    resolve: 5s
    max_concurrent: 7
    queue: {max: 0, wait: 2s}
    eject: {failures: 2, for: 1s, max_for: 9s, max_share: 34, server_errors: true}
    breaker: {failures: 4, for: 3s, server_errors: true}
    retries: {attempts: 1, budget: 50, backoff: 10ms}
    health: {path: \"/healthz?a=b\", interval: 1s, timeout: 500ms, healthy: 1, unhealthy: 9}
",
    );
    let upstream = &route(&compiled).upstream;
    let endpoints: Vec<String> = upstream.endpoints.iter().map(ToString::to_string).collect();
    assert_eq!(endpoints, ["https://[::1]:443", "unix:/etc/keyward/app.sock", "http://b:80"]);
    assert_eq!(upstream.authority(), "[::1]:443");
    let seconds = Duration::from_secs;
    assert_eq!((upstream.http2, upstream.warm, upstream.resolve), (Http2::Always, 3, seconds(5)));
    assert_eq!(upstream.timeouts.total, Some(seconds(600)));
    assert_eq!(upstream.max_concurrent, Some(Concurrency { max: 7, queue: 0, wait: seconds(2) }));
    let eject = Ejection { failures: 2, time: seconds(1), max_time: seconds(9), max_share: 34, server_errors: true };
    assert_eq!(upstream.eject, Some(eject));
    assert_eq!(upstream.breaker, Some(Breaker { failures: 4, time: seconds(3), server_errors: true }));
    let backoff = Duration::from_millis(10);
    assert_eq!(upstream.retries, Some(Retries { attempts: 1, budget: 50, backoff }));
    let health = upstream.health.as_ref().expect("checks");
    assert_eq!((health.path.as_str(), health.interval, health.timeout), ("/healthz?a=b", seconds(1), backoff * 50));
    assert_eq!((health.healthy, health.unhealthy), (1, 9));

    let compiled = valid("");
    let upstream = &route(&compiled).upstream;
    assert_eq!((upstream.http2, upstream.warm, upstream.max_concurrent), (Http2::Auto, 0, None));
    assert_eq!((upstream.breaker, upstream.retries, &upstream.health), (None, None, &None));
    assert_eq!(upstream.eject.map(|eject| (eject.failures, eject.max_share)), Some((5, 50)));
    assert_eq!(route(&valid("upstreams: {ai: {endpoints: http://a, eject: off}}")).upstream.eject, None);
}
