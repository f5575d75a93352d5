//! Mistakes that any section can hold, how they are reported, and what they must not cause.

use super::*;

#[test]
fn keys() {
    each(&[
        ("memry: 1MiB", "1:1 memry: unknown key `memry` | did you mean `memory`?"),
        ("listen:\n  adress: 127.0.0.1:80", "2:3 listen.adress: unknown key `adress` | did you mean `address`?"),
        (
            "listen: {zzz: 1}",
            "1:10 listen.zzz: unknown key `zzz` | known here: address, max_connections, max_header_bytes, max_streams, timeouts, tls, proxy_protocol",
        ),
        // Misspelled is not missing as well.
        (
            "admin: {addres: 127.0.0.1:1, token: {env: TOKEN}}",
            "1:9 admin.addres: unknown key `addres` | did you mean `address`?",
        ),
        ("usage: {path: x}", "1:9 usage.path: unknown key `path` | did you mean `file`?"),
        (
            "memory: 20MiB\nmemory: 30MiB",
            "2:1 memory: `memory` is already set on line 1 | keep one of them: programs disagree about which one counts",
        ),
        ("7: 1", "1:1 expected a key, found the number 7 | put it in quotes to make it text"),
        ("[a]: 1", "1:1 expected a key, found a list | put it in quotes to make it text"),
        (
            "\"a\\nb\": 1",
            "1:1 [\"a\\nb\"]: unknown key `a\\nb` | known here: listen, admin, health, trusted_proxies, memory, shutdown, usage, upstreams, keys, limits, rules, defaults, routes",
        ),
        ("admin: {token: {env: TOKEN}}", "1:8 admin: `address` is missing"),
        ("health: {address: 'a:1', tls: {}}", "1:26 health.tls: `tls` is not supported yet"),
        ("otlp: {}", "1:1 otlp: `otlp` is not supported yet"),
    ]);
}

#[test]
fn types() {
    each(&[
        (
            "listen: 8080",
            "1:9 listen: expected a mapping with keys such as `address`, `max_connections`, `max_header_bytes`, found the number 8080",
        ),
        (
            "listen: {max_connections: \"50\"}",
            "1:27 listen.max_connections: expected a whole number, found the text `50` | write the number without quotes",
        ),
        (
            "listen: {max_connections: 1.5}",
            "1:27 listen.max_connections: expected a whole number, found the number 1.5",
        ),
        ("listen: {max_connections: -1}", "1:27 listen.max_connections: expected a whole number, found the number -1"),
        (
            "listen: {max_connections: 99999999999999999999}",
            "1:27 listen.max_connections: expected a whole number, found the number 100000000000000000000",
        ),
        (
            "listen: {address: [[127.0.0.1:1]]}",
            "1:20 listen.address[0]: expected an address `host:port` or `unix:PATH`, found a list",
        ),
        ("usage: off please", "1:8 usage: expected one of `stdout`, `off`, found the text `off please`"),
        ("usage: false", "1:8 usage: expected one of `stdout`, `off`, found `false`"),
        ("limits:", "1:7 limits: expected a mapping of names, found nothing | give it a value, or remove it"),
        ("routes: {id: a}", "1:9 routes: expected a list of routes, found a mapping"),
        (
            "routes: [a]",
            "1:10 routes[0]: expected a mapping with keys such as `id`, `path`, `host`, found the text `a`",
        ),
        (
            "routes: [{id: 7, path: /a}]",
            "1:15 routes[0].id: expected a name, found the number 7 | put it in quotes to make it text",
        ),
        (
            "routes: [{id: a, path: /a, public: yes}]",
            "1:36 routes[0].public: expected true or false, found the text `yes` | did you mean `true`, without quotes?",
        ),
        (
            "routes: [{id: a, path: /a, scopes: }]",
            "1:34 routes[0].scopes: expected a list, found nothing | give it a value, or remove it",
        ),
        (
            "routes: [{id: a, path: /a, auth: none}]",
            "1:34 routes[0].auth: expected one of `key`, `observe`, found the text `none`",
        ),
    ]);
}

#[test]
fn durations_sizes_and_bounds() {
    each(&[
        (
            "shutdown: {grace: 15 minutes}",
            "1:19 shutdown.grace: expected a duration such as `500ms`, `15m` or `1h30m`, found the text `15 minutes` | did you mean `15m`?",
        ),
        (
            "shutdown: {grace: 25}",
            "1:19 shutdown.grace: expected a duration such as `500ms`, `15m` or `1h30m`, found the number 25 | did you mean `25s`?",
        ),
        ("shutdown: {grace: 0}", "1:19 shutdown.grace: zero is not a bound: expected 1ms to 365d"),
        (
            "shutdown: {delay: 5s, grace: 5s}",
            "1:19 shutdown.delay: the delay is a part of `grace`, which must be longer | `grace` is 5s",
        ),
        ("shutdown: {grace: 400d}", "1:19 shutdown.grace: expected 1ms to 365d, found the text `400d`"),
        ("memory: 48 megs", "1:9 memory: expected a size such as `512B`, `50KiB` or `10MiB`, found the text `48 megs`"),
        (
            "memory: 48M",
            "1:9 memory: expected a size such as `512B`, `50KiB` or `10MiB`, found the text `48M` | did you mean `48MiB`?",
        ),
        ("memory: 0", "1:9 memory: zero is not a bound: expected 1MiB to 1024GiB"),
        ("memory: -5", "1:9 memory: expected a size such as `512B`, `50KiB` or `10MiB`, found the number -5"),
        (
            "listen: {max_header_bytes: 1KiB}",
            "1:28 listen.max_header_bytes: expected 8KiB to 1MiB, found the text `1KiB`",
        ),
        ("listen: {timeouts: {header: 0s}}", "1:29 listen.timeouts.header: zero is not a bound: expected 1ms to 365d"),
        ("keys: {cache: {ttl: 0s}}", "1:21 keys.cache.ttl: zero is not a bound: expected 1ms to 365d"),
        ("keys: {cache: {max_entries: 0}}", "1:29 keys.cache.max_entries: zero is not a bound: expected 1 to 10000000"),
        (
            "keys: {auth_failures: {requests: 0}}",
            "1:34 keys.auth_failures.requests: zero is not a bound: expected 1 to 1000000000",
        ),
        (
            "upstreams: {ai: {endpoints: [http://a], timeouts: {idle: 0s}}}",
            "1:58 upstreams.ai.timeouts.idle: zero is not a bound: expected 1ms to 365d",
        ),
        (
            "limits: {a: {requests: 0, per: 1s}}",
            "1:24 limits.a.requests: zero is not a bound: expected 1 to 1000000000",
        ),
        ("limits: {a: {requests: 1, per: 0s}}", "1:32 limits.a.per: zero is not a bound: expected 1ms to 365d"),
        (
            "limits: {a: {requests: 1, per: 1s, burst: 0}}",
            "1:43 limits.a.burst: zero is not a bound: expected 1 to 1000000000",
        ),
        (
            "limits: {a: {requests: 1000000001, per: 1s}}",
            "1:24 limits.a.requests: expected 1 to 1000000000, found the number 1000000001",
        ),
        (
            "routes: [{id: a, path: /a, request: {max_body: 0}}]",
            "1:48 routes[0].request.max_body: zero is not a bound: expected 1B to 64GiB",
        ),
        ("routes: [{id: a, path: /a, slow: 0s}]", "1:34 routes[0].slow: zero is not a bound: expected 1ms to 365d"),
    ]);
}

/// Each text breaks one section as a whole, and something elsewhere relies on it.
#[test]
fn one_mistake_is_told_once() {
    let routes = "routes: [{id: a, path: /a, upstream: ai, limits: [l], request: {rules: [w]}}, {id: b, path: /b}]";
    for broken in [
        "listen: 5",
        "admin: 5",
        "health: 5",
        "trusted_proxies: {a: b}",
        "memory: much",
        "shutdown: 5",
        "usage: 5",
        "upstreams: 5",
        "upstreams: {ai: 5}",
        "upstreams: {ai: {endpoints: 5}}",
        "keys: 5",
        "keys: {store: 5}",
        "keys: {cache: 5}",
        "keys: {credentials: 5}",
        "keys: {auth_failures: 5}",
        "limits: 5",
        "limits: {l: 5}",
        "limits: {l: {requests: 1, per: 5}}",
        "rules: 5",
        "rules: [5]",
        "rules: [{id: w, pattern: '['}]",
        "rules: [{id: [w], pattern: x}]",
        "defaults: 5",
        "defaults: {limits: [nobody], request: {rules: []}, response: {rules: []}}",
        "defaults: {request: {rules: [nobody]}, response: {rules: []}}",
        "defaults: {request: {rules: []}, response: {rules: [], action: nothing}}",
    ] {
        let mut text = broken.to_owned();
        for (key, section) in [
            ("upstreams", "upstreams: {ai: {endpoints: [http://a]}}"),
            ("limits", "limits: {l: {requests: 1, per: 1s}}"),
            ("rules", "rules: [{id: w, pattern: x}]"),
        ] {
            if !broken.starts_with(key) {
                text.push_str(&format!("\n{section}"));
            }
        }
        text.push_str(&format!("\n{routes}"));
        let mistakes = refused(&text);
        assert_eq!(mistakes.len(), 1, "{broken}\n{mistakes}");
    }
    for broken in [
        "routes: 5",
        "routes: [5]",
        "routes: [{id: a, path: 5}, {id: b, path: /b}]",
        "routes: [{pth: /a, id: a}]",
        "upstreams: {a: {endpoints: http://a}, b: {endpoints: http://b}}\nroutes: [{id: a, path: /a, upstream: [a]}]",
    ] {
        let mistakes = refused(broken);
        assert_eq!(mistakes.len(), 1, "{broken}\n{mistakes}");
    }
}

/// A route with one mistake is still compared with the others.
#[test]
fn a_mistake_hides_no_other() {
    assert_told(
        "routes:\n  - {id: a, path: /a, limits: [x]}\n  - {id: b, path: /a, slow: 1, methods: }\n  - {id: c, path: /a, upstream: y}",
        &[
            "2:32 routes[0].limits[0]: unknown limit `x` | no limit is defined",
            "3:29 routes[1].slow: expected a duration such as `500ms`, `15m` or `1h30m`, found the number 1 | did you mean `1s`?",
            "3:39 routes[1].methods: expected a list, found nothing | give it a value, or remove it",
            "4:19 routes[2].path: takes the same requests as the route `a` on line 2",
            "4:33 routes[2].upstream: unknown upstream `y` | known: ai",
        ],
    );
    assert_told(
        "limits: {a: {requests: 1, per: 1s}}\nroutes: [{id: r, path: /r, limits: [a, a, b]}]",
        &["2:40 routes[0].limits[1]: is listed twice", "2:43 routes[0].limits[2]: unknown limit `b` | known: a"],
    );
    // What a route takes is broken, and what it names is unknown.
    assert_told(
        "routes: [{id: a, path: b, limits: [x], upstream: y, request: {rules: [z]}, public: true, auth: key}]",
        &[
            "1:24 routes[0].path: a path starts with `/`",
            "1:36 routes[0].limits[0]: unknown limit `x` | no limit is defined",
            "1:50 routes[0].upstream: unknown upstream `y` | known: ai",
            "1:71 routes[0].request.rules[0]: unknown rule `z` | known: seed, html, secrets, context",
            "1:96 routes[0].auth: a public route looks at no key, so `auth` would mean nothing | remove `auth`, or `public: true`",
        ],
    );
}

#[test]
fn the_report() {
    let long = format!("listen: {{address: {}, tls: 1}}", "x".repeat(200));
    let text = format!("memory: \"much\tmore\"\n{long}\n");
    assert_eq!(
        refused(&text).to_string(),
        format!(
            "\
proxy.yaml:1:9: memory: expected a size such as `512B`, `50KiB` or `10MiB`, found the text `much\\tmore`
  1 | memory: \"much more\"
    |         ^^^^^^^^^^^

proxy.yaml:2:19: listen.address: expected `host:port`, such as `127.0.0.1:8080` or `[::]:8080`
  2 | listen: {{address: {}…
    |                   {}

proxy.yaml:2:226: listen.tls: expected a mapping with keys such as `cert`, `key`, `certificates`, found the number 1
  2 | …{}, tls: 1}}
    |                                          ^

3 mistakes in proxy.yaml",
            "x".repeat(92),
            "^".repeat(92),
            "x".repeat(33),
        )
    );
}
