//! The mistakes of each section: where each is told, and in which words.

use super::*;
use crate::context::{Format, Pointer, Source, Template};

#[test]
fn addresses() {
    each(&[
        (
            "listen: {address: \":8080\"}",
            "1:19 listen.address: expected `host:port`, such as `127.0.0.1:8080` or `[::]:8080` | did you mean `0.0.0.0:8080`, every address of this machine?",
        ),
        (
            "listen: {address: 127.0.0.1}",
            "1:19 listen.address: expected `host:port`, such as `127.0.0.1:8080` or `[::]:8080`",
        ),
        (
            "listen: {address: \"::1:80\"}",
            "1:19 listen.address: expected `host:port`, such as `127.0.0.1:8080` or `[::]:8080`",
        ),
        (
            "listen: {address: 1.2.3:80}",
            "1:19 listen.address: expected `host:port`, such as `127.0.0.1:8080` or `[::]:8080`",
        ),
        ("listen: {address: a:99999}", "1:19 listen.address: expected a port from 0 to 65535 after the host"),
        (
            "listen: {address: http://a:80/}",
            "1:19 listen.address: expected `host:port`, found a URL | did you mean `a:80`?",
        ),
        (
            "listen: {address: \"unix:\"}",
            "1:19 listen.address: expected the path of a socket file, such as `unix:/run/keyward.sock`",
        ),
        ("health: {address: unix:/run/k.sock}", "1:19 health.address: only `listen` can be a Unix socket"),
        ("listen: {address: []}", "1:19 listen.address: expected at least one address"),
        (
            "listen: {address: 0.0.0.0:80}\nhealth: {address: 127.0.0.1:80}",
            "2:19 health.address: `127.0.0.1:80` is already taken by `0.0.0.0:80`, listen.address",
        ),
        (
            "trusted_proxies: [example.com]",
            "1:19 trusted_proxies[0]: is neither an address nor a network such as `10.0.0.0/8`",
        ),
        ("trusted_proxies: [10.0.0.0/8, 10.1.0.0/8]", "1:31 trusted_proxies[1]: is listed twice"),
    ]);
}

#[test]
fn upstreams() {
    let upstream = |body: &str| format!("upstreams: {{ai: {{{body}}}}}");
    for (body, expected) in [
        (
            "endpoints: [a:80]",
            "1:30 upstreams.ai.endpoints[0]: expected `http://host:port`, `https://host:port` or `unix:/path` | did you mean `http://a:80`?",
        ),
        ("endpoints: []", "1:29 upstreams.ai.endpoints: expected at least one endpoint, found an empty list"),
        (
            "endpoints: [unix:/a/]",
            "1:30 upstreams.ai.endpoints[0]: expected the path of a socket file, such as `unix:/run/app.sock`",
        ),
        ("endpoints: [http://a, http://a:80]", "1:40 upstreams.ai.endpoints[1]: is listed twice"),
        (
            "endpoints: [http://a/api]",
            "1:30 upstreams.ai.endpoints[0]: an endpoint has no path or query: requests keep their own",
        ),
        (
            "endpoints: [https://a:0]",
            "1:30 upstreams.ai.endpoints[0]: expected `http://host:port`, `https://host:port` or `unix:/path`",
        ),
        (
            "endpoints: [\"http://a@b\"]",
            "1:30 upstreams.ai.endpoints[0]: an endpoint has no user or password | what the service wants to see goes into `headers: {set: …}`",
        ),
        (
            "endpoints: http://a, tls: {server_name: b}",
            "1:44 upstreams.ai.tls: no endpoint is `https://`, so `tls` would mean nothing",
        ),
        (
            "endpoints: http://a, http2: maybe",
            "1:46 upstreams.ai.http2: expected `auto`, true or false, found the text `maybe`",
        ),
        (
            "endpoints: http://a, queue: {max: 5}",
            "1:46 upstreams.ai.queue: without `max_concurrent` nobody waits, so `queue` would mean nothing | add `max_concurrent`, the number of requests that the service is given at once",
        ),
        (
            "endpoints: http://a, warm: 1, keepalive: 0s",
            "1:45 upstreams.ai.warm: with `keepalive: 0s` no connection is kept, so none can be ready | give `keepalive` a time, or leave `warm` out",
        ),
        (
            "endpoints: http://a, eject: {for: 10m}",
            "1:52 upstreams.ai.eject.for: `for` is longer than `max_for`, the longest time that it is doubled to",
        ),
        ("endpoints: http://a, eject: on", "1:46 upstreams.ai.eject: expected one of `off`, found the text `on`"),
        ("endpoints: http://a, health: {}", "1:47 upstreams.ai.health: `path` is missing"),
        ("endpoints: http://a, health: {path: a}", "1:54 upstreams.ai.health.path: expected a path such as `/healthz`"),
        (
            "endpoints: http://a, breaker: {failures: 0}",
            "1:59 upstreams.ai.breaker.failures: zero is not a bound: expected 1 to 1000",
        ),
        (
            "endpoints: http://a, retries: {budget: 101}",
            "1:57 upstreams.ai.retries.budget: expected 1 to 100, found the number 101",
        ),
        (
            "endpoints: http://a, headers: {set: {X_Org-Code: a}}",
            "1:55 upstreams.ai.headers.set.X_Org-Code: `X_Org-Code` names the caller: only Keyward itself sets it",
        ),
        (
            "endpoints: http://a, headers: {set: {Host: a}}",
            "1:55 upstreams.ai.headers.set.Host: `Host` says how a message is to be read: only Keyward itself sets it",
        ),
        (
            "endpoints: http://a, headers: {set: {TE: a}}",
            "1:55 upstreams.ai.headers.set.TE: `TE` belongs to one connection: only Keyward itself sets it",
        ),
        (
            "endpoints: http://a, headers: {set: {X-Real-IP: a}}",
            "1:55 upstreams.ai.headers.set.X-Real-IP: `X-Real-IP` says where a request came from: only Keyward itself sets it",
        ),
        (
            "endpoints: http://a, headers: {set: {SCRIPT_NAME: a}}",
            "1:55 upstreams.ai.headers.set.SCRIPT_NAME: `SCRIPT_NAME` would change what the service takes for its own variables",
        ),
        (
            "endpoints: http://a, headers: {set: {\"a b\": a}}",
            "1:55 upstreams.ai.headers.set[\"a b\"]: is not a header name",
        ),
        (
            "endpoints: http://a, headers: {set: {a: \"b \"}}",
            "1:58 upstreams.ai.headers.set.a: is not a header value: printable ASCII without spaces around it",
        ),
        (
            "endpoints: http://a, headers: {set: {a: 2}}",
            "1:58 upstreams.ai.headers.set.a: expected a header value, found the number 2 | put it in quotes to make it text",
        ),
        (
            "endpoints: http://a, headers: {set: {a: b, A: b}}",
            "1:61 upstreams.ai.headers.set.A: `a` is already set, in another case",
        ),
        ("timeouts: {}", "1:17 upstreams.ai: `endpoints` is missing"),
    ] {
        assert_told(&upstream(body), &[expected]);
    }
    each(&[
        (
            "upstreams: {\"a b\": {endpoints: http://a}}",
            "1:13 upstreams[\"a b\"]: this name must have 1 to 64 letters, digits, `_`, `-` or `.`",
        ),
        (
            "upstreams: {}",
            "1:12 upstreams: no upstream is defined: requests would have nowhere to go | add `upstreams: {ai: {endpoints: [http://127.0.0.1:8000]}}`",
        ),
    ]);
}

#[test]
fn places_and_stores() {
    each(&[
        ("keys: {verifier: redis}", "1:18 keys.verifier: expected one of `store`, `kinde`, found the text `redis`"),
        (
            "keys: {credentials: [Authorization]}",
            "1:22 keys.credentials[0]: a key in `Authorization` is named by its scheme | did you mean `bearer`?",
        ),
        (
            "keys: {credentials: [Bearer]}",
            "1:22 keys.credentials[0]: a key in `Authorization` is named by its scheme | did you mean `bearer`?",
        ),
        (
            "keys: {credentials: [x_api_key]}",
            "1:22 keys.credentials[0]: headers with `_` are dropped before a key is looked for | did you mean `x-api-key`?",
        ),
        (
            "keys: {credentials: [x-org-code]}",
            "1:22 keys.credentials[0]: `x-org-code` names the caller: only Keyward itself sets it",
        ),
        (
            "keys: {credentials: [cookie]}",
            "1:22 keys.credentials[0]: `cookie` holds many values: a key needs a header of its own",
        ),
        ("keys: {credentials: [x-key, X-Key]}", "1:29 keys.credentials[1]: is listed twice"),
        (
            "keys: {credentials: []}",
            "1:21 keys.credentials: expected at least one place, or nobody could present a key",
        ),
        (
            "keys: {store: {url: postgres://db}}",
            "1:21 keys.store.url: the URL names no user | write `postgres://USER@HOST/DATABASE`",
        ),
        (
            "keys: {store: {url: \"postgres://u:p@db/k\"}}",
            "1:21 keys.store.url: a password is never written in this file | write `password: {file: PATH}` beside it, or \
             the whole URL as `{env: NAME}`, and change the password if this file was shared",
        ),
        (
            "keys: {store: {url: {env: TOKEN}}}",
            "1:21 keys.store.url: expected a URL such as `postgres://keyward@db.example.com/keyward`",
        ),
        (
            "keys: {store: {url: \"postgres://u@db/k?sslmode=require\", ca: {file: no.pem}}}",
            "1:69 keys.store.ca.file: cannot read /etc/keyward/no.pem: No such file or directory (os error 2)",
        ),
        ("keys: {store: {password: {env: TOKEN}}}", "1:26 keys.store.password: a SQLite file has no `password`"),
        (
            "keys: {store: {url: keyward.db}}",
            "1:21 keys.store.url: expected a URL such as `sqlite://keyward.db` or \
             `postgres://keyward@db.example.com/keyward`",
        ),
        (
            "keys: {store: {url: \"sqlite://\"}}",
            "1:21 keys.store.url: expected the path of a file after `sqlite://`, without options",
        ),
        (
            "keys: {store: {prefix: KW}}",
            "1:24 keys.store.prefix: expected 1 to 32 lower-case letters, digits and `_`, such as `kw_live`",
        ),
    ]);
}

#[test]
fn kinde() {
    let kinde = |body: &str| format!("keys: {{verifier: kinde, kinde: {{{body}}}}}");
    let good = "url: https://a.kinde.com, client_id: c, client_secret: {env: TOKEN}";
    let mut wrong = Vec::new();
    for (body, expected) in [
        ("auth: none", "1:32 keys.kinde: `url` is missing"),
        (
            "url: https://a.kinde.com, client_id: c",
            "1:32 keys.kinde: `client_secret` is missing | or say what Kinde is shown instead: `auth: none` or `auth: {token: …}`",
        ),
        (
            "url: a.kinde.com, auth: none",
            "1:38 keys.kinde.url: expected a URL such as `https://acme.kinde.com` | did you mean `https://a.kinde.com`?",
        ),
        ("url: ftp://a, auth: none", "1:38 keys.kinde.url: expected a URL such as `https://acme.kinde.com`"),
        (
            "url: http://a.kinde.com, auth: none",
            "1:38 keys.kinde.url: keys and tokens would go over the network unencrypted | did you mean `https://a.kinde.com`?",
        ),
        (
            "url: https://a.kinde.com/api/v1, auth: none",
            "1:38 keys.kinde.url: only scheme and host: the paths are Kinde's own | did you mean `https://a.kinde.com`?",
        ),
        ("url: 'https://a@b', auth: none", "1:38 keys.kinde.url: a URL with a user or password is never written here"),
        (
            "url: https://a.kinde.com, auth: oauth",
            "1:65 keys.kinde.auth: expected one of `m2m`, `none`, found the text `oauth`",
        ),
        ("url: https://a.kinde.com, auth: {}", "1:65 keys.kinde.auth: `token` is missing"),
        (
            "url: https://a.kinde.com, auth: {token: {env: NOBODY}}",
            "1:79 keys.kinde.auth.token.env: this environment variable is not set",
        ),
        (
            "url: https://a.kinde.com, auth: none, client_id: c",
            "1:82 keys.kinde.client_id: only `auth: m2m` asks for a token, so `client_id` would mean nothing",
        ),
        (&format!("{good}, api_id: a b"), "1:110 keys.kinde.api_id: must be visible ASCII without spaces"),
        (&format!("{good}, timeout: 2m"), "1:111 keys.kinde.timeout: expected 1ms to 1m, found the text `2m`"),
        (
            &format!("{good}, ca: {{file: nobody}}"),
            "1:113 keys.kinde.ca.file: cannot read /etc/keyward/nobody: No such file or directory (os error 2)",
        ),
        (
            &format!("{good}, ca: {{file: {}/Cargo.toml}}", env!("CARGO_MANIFEST_DIR")),
            &format!("1:113 keys.kinde.ca.file: {}/Cargo.toml holds no certificate", env!("CARGO_MANIFEST_DIR")),
        ),
        (&format!("{good}, poll: 1s"), "1:108 keys.kinde.poll: expected 5s to 1h, found the text `1s`"),
        (
            "url: https://a.kinde.com, auth: none, poll: 30s",
            "1:77 keys.kinde.poll: Kinde lists keys to nobody without a token | remove `poll`, or give `auth` a token",
        ),
        (
            &format!("{good}, proxy: 'http://proxy'"),
            "1:109 keys.kinde.proxy: the port of the proxy is missing | such as `http://proxy:3128`",
        ),
        (
            &format!("{good}, proxy: 'proxy:3128'"),
            "1:109 keys.kinde.proxy: expected a URL such as `http://proxy.internal:3128` | did you mean `http://proxy:3128`?",
        ),
        (
            &format!("{good}, proxy: 'https://proxy:3128'"),
            "1:109 keys.kinde.proxy: a proxy that is spoken to in TLS is not supported; Kinde is, through it",
        ),
        (
            &format!("{good}, proxy: 'http://u:hunter2@proxy:3128'"),
            "1:109 keys.kinde.proxy: a URL with a user or password is never written here | write `proxy: {url: …, username: …, password: {file: …}}`",
        ),
        (
            &format!("{good}, proxy: {{url: 'http://proxy:3128', username: u}}"),
            "1:146 keys.kinde.proxy.username: means nothing without `password`",
        ),
        (
            &format!("{good}, proxy: {{url: 'http://proxy:3128', username: 'a:b', password: {{env: TOKEN}}}}"),
            "1:146 keys.kinde.proxy.username: a name with `:` cannot be told from its password (RFC 7617)",
        ),
        (
            &format!("{good}, domain: x"),
            "1:102 keys.kinde.domain: unknown key `domain` | known here: url, client_id, client_secret, auth, audience, api_id, ca, timeout, poll, proxy, revocations",
        ),
    ] {
        let told: Vec<String> = refused(&kinde(body)).iter().map(told).collect();
        if told != [expected] {
            wrong.push(format!("{body}\n  expected: {expected}\n  told: {told:?}\n"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.concat());
    each(&[
        (
            "keys: {verifier: kinde}",
            "1:18 keys.verifier: the verifier `kinde` needs the section `kinde` | add `kinde: {url: https://NAME.kinde.com, client_id: …, client_secret: {env: …}}`",
        ),
        (
            "keys: {kinde: {url: https://a.kinde.com, auth: none}}",
            "1:15 keys.kinde: the verifier is the store, so `kinde` would mean nothing | write `verifier: kinde`, or remove `kinde`",
        ),
        (
            "keys: {verifier: kinde, kinde: {url: https://a.kinde.com, auth: none}, store: {prefix: a}}",
            "1:79 keys.store: the verifier is Kinde, so `store` would mean nothing | remove `store`, or write `verifier: store`",
        ),
        (
            "keys: {cache: {refresh_ahead: 5s}}",
            "1:31 keys.cache.refresh_ahead: expected true or false, found the text `5s`",
        ),
        (
            "keys: {cache: {stale_if_error: 2d}}",
            "1:32 keys.cache.stale_if_error: expected 0s to 1d, found the text `2d`",
        ),
    ]);
    // An `http://` URL and a certificate contradict each other.
    let pem = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate").cert.pem();
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("ca.pem"), pem).expect("written");
    let ca = |url: &str| {
        let text = complete(&kinde(&format!("url: '{url}', auth: none, ca: {{file: ca.pem}}")));
        compile_text("f", &text, dir.path(), &env, &Overrides::default())
    };
    assert!(ca("https://localhost").is_ok());
    assert!(ca("http://localhost").expect_err("a contradiction").to_string().contains("has no certificate to check"));
}

#[test]
fn limits() {
    each(&[
        (
            "limits: {a: {requests: 1, per: 1s, by: kye}}",
            "1:40 limits.a.by: expected one of `key`, `organization`, `org`, `user`, `route`, `address`, `ip`, found the text `kye` | did you mean `key`?",
        ),
        ("limits: {a: {per: 1s}}", "1:13 limits.a: `requests` is missing"),
        (
            "limits: {auth_failures: {requests: 1, per: 1s}}",
            "1:10 limits.auth_failures: this name is Keyward's own | its numbers are `keys.auth_failures`",
        ),
        (
            "limits: {a: {requests: 1, per: 1s}}\nroutes: [{id: r, path: /r, limits: [a, a]}]",
            "2:40 routes[0].limits[1]: is listed twice",
        ),
        (
            "limits: {ai: {requests: 1, per: 1s}}\nroutes: [{id: r, path: /r, limits: [a1]}]",
            "2:37 routes[0].limits[0]: unknown limit `a1` | did you mean `ai`?",
        ),
        (
            "routes: [{id: r, path: /r, limits: [a]}]",
            "1:37 routes[0].limits[0]: unknown limit `a` | no limit is defined",
        ),
    ]);
}

#[test]
fn rules() {
    each(&[
        (
            "rules: [{id: a, pattern: '['}]",
            "1:26 rules[0].pattern: unclosed character class (at byte 0 of the pattern)",
        ),
        ("rules: [{id: a, pattern: 'x*'}]", "1:26 rules[0].pattern: the pattern matches the empty text"),
        (
            "rules: [{id: a, pattern: x}, {id: a, pattern: y}]",
            "1:35 rules[1].id: the rule `a` is already defined on line 1",
        ),
        ("rules: [{id: html, pattern: x}]", "1:14 rules[0].id: `html` belongs to the preset `html`"),
        (
            "rules: [{id: script-element, pattern: x}]",
            "1:14 rules[0].id: `script-element` belongs to the preset `seed`",
        ),
        (
            "rules: [{id: a b, pattern: x}]",
            "1:14 rules[0].id: this name must have 1 to 64 letters, digits, `_`, `-` or `.`",
        ),
        ("rules: [{id: a}]", "1:9 rules[0]: `pattern` is missing | write `pattern`, or `literals`"),
        ("rules: [{id: a, patern: x}]", "1:17 rules[0].patern: unknown key `patern` | did you mean `pattern`?"),
        (
            "rules: [{id: a, pattern: x, literals: [y]}]",
            "1:39 rules[0].literals: a rule has a `pattern` or `literals`, and not both | make two rules of it, or write the literals into the pattern",
        ),
        ("rules: [{id: a, literals: []}]", "1:27 rules[0].literals: expected at least one text to look for"),
        (
            "rules: [{id: a, literals: [x, '']}]",
            "1:31 rules[0].literals[1]: expected a text to look for, found an empty text",
        ),
        ("rules: [{id: a, literals: [x, x]}]", "1:31 rules[0].literals[1]: is listed twice"),
        (
            "rules: [{id: a, pattern: x, ignore_case: true}]",
            "1:42 rules[0].ignore_case: `ignore_case` is for `literals` | begin the pattern with `(?i)`",
        ),
        (
            "rules: [{id: a, pattern: x, direction: out}]",
            "1:40 rules[0].direction: expected one of `request`, `response`, `both`, found the text `out`",
        ),
        (
            "rules: [{id: a, pattern: x, direction: request}]\nroutes: [{id: r, path: /r, response: {rules: [a]}}]",
            "2:47 routes[0].response.rules[0]: the rule `a` is for requests only | remove it here, or `direction: request` there",
        ),
        (
            "rules: [{id: a, pattern: x, direction: response}]\ndefaults: {request: {rules: [a]}}",
            "2:30 defaults.request.rules[0]: the rule `a` is for responses only | remove it here, or `direction: response` there",
        ),
        (
            "rules: [{id: a, pattern: x, action: drop}]",
            "1:37 rules[0].action: expected one of `block`, `redact`, `sanitize`, `observe`, found the text `drop`",
        ),
        (
            "rules: [{id: a, pattern: x, action: redact}]\nroutes: [{id: r, path: /r, request: {rules: [seed, a], action: sanitize}}]",
            "2:46 routes[0].request.rules[0]: the rule `seed` sanitizes and `a` redacts, which one list of rules cannot do both | give both the same `action`",
        ),
        (
            "routes: [{id: r, path: /r, request: {encodings: [gzip]}}]",
            "1:38 routes[0].request.encodings: unknown key `encodings` | known here: rules, action, max_chars, max_body_chars, max_body, unscannable, binary_parts, views",
        ),
        (
            "rules: [{id: a, pattern: x, examples: {match: [ax, b]}}]",
            "1:52 rules[0].examples.match[1]: the pattern does not match this example",
        ),
        (
            "rules: [{id: a, pattern: 'x+', examples: {pass: [b, axx]}}]",
            "1:53 rules[0].examples.pass[1]: the pattern must not match this example, and matches `x`",
        ),
        (
            "rules: [{id: word, pattern: x}]\nroutes: [{id: r, path: /r, request: {rules: [words]}}]",
            "2:46 routes[0].request.rules[0]: unknown rule `words` | did you mean `word`?",
        ),
        (
            "routes: [{id: r, path: /r, request: {rules: [zzz]}}]",
            "1:46 routes[0].request.rules[0]: unknown rule `zzz` | known: seed, html, secrets, context",
        ),
        (
            "routes: [{id: r, path: /r, request: {rules: [seed, seed]}}]",
            "1:52 routes[0].request.rules[1]: is listed twice",
        ),
    ]);
}

#[test]
fn routes() {
    let route = |body: &str| format!("routes: [{{id: r, path: /r, {body}}}]");
    for (body, expected) in [
        ("methods: [post]", "1:38 routes[0].methods[0]: `post` is no method | did you mean `POST`?"),
        ("methods: [CONNECT]", "1:38 routes[0].methods[0]: `CONNECT` asks for a tunnel, which is never opened"),
        ("methods: '*'", "1:37 routes[0].methods: `*` is no method | leave `methods` out to take any method"),
        ("methods: [\"A B\"]", "1:38 routes[0].methods[0]: `A B` is no method"),
        ("methods: []", "1:37 routes[0].methods: no method at all | leave `methods` out to take any method"),
        ("methods: [GET, GET]", "1:43 routes[0].methods[1]: is listed twice"),
        (
            "host: example.com:80",
            "1:34 routes[0].host: a route's host has no port: it matches on every port | did you mean `example.com`?",
        ),
        ("host: \"*.example.com\"", "1:34 routes[0].host: a wildcard in a host is not supported yet"),
        ("host: http://a", "1:34 routes[0].host: expected a host name such as `api.example.com`"),
        (
            "scopes: [a b]",
            "1:37 routes[0].scopes[0]: `a b` is no scope: one word of visible ASCII without quotes | write a list: `[a, b]`",
        ),
        ("scopes: {any_of: []}", "1:45 routes[0].scopes.any_of: expected at least one scope"),
        ("scopes: {all_of: [a]}", "1:37 routes[0].scopes.all_of: unknown key `all_of` | did you mean `any_of`?"),
        ("scopes: [a, a]", "1:40 routes[0].scopes[1]: is listed twice"),
        (
            "public: true, scopes: [a]",
            "1:50 routes[0].scopes: a public route looks at no key, so `scopes` would mean nothing | remove `scopes`, or `public: true`",
        ),
        (
            "public: true, auth: key",
            "1:48 routes[0].auth: a public route looks at no key, so `auth` would mean nothing | remove `auth`, or `public: true`",
        ),
        (
            "public: true, echo_identity: true",
            "1:57 routes[0].echo_identity: a public route looks at no key, so `echo_identity` would mean nothing | remove `echo_identity`, or `public: true`",
        ),
        (
            "underscore_headers: [x-a]",
            "1:49 routes[0].underscore_headers[0]: `x-a` has no `_`: only names with one are dropped unless they are listed here",
        ),
        (
            "underscore_headers: [X_User_Id]",
            "1:49 routes[0].underscore_headers[0]: `x_user_id` names the caller: only Keyward itself sets it",
        ),
        (
            "underscore_headers: [content_length]",
            "1:49 routes[0].underscore_headers[0]: `content_length` says how a message is to be read: only Keyward itself sets it",
        ),
        (
            "underscore_headers: [x_api_key]",
            "1:49 routes[0].underscore_headers[0]: a service may take `x_api_key` for `x-api-key`, which a key stands in",
        ),
        (
            "format: openapi",
            "1:36 routes[0].format: expected one of `keyward`, `openai`, `anthropic`, found the text `openapi` | did you mean `openai`?",
        ),
        ("upgrade: [h2c]", "1:38 routes[0].upgrade[0]: expected one of `websocket`, found the text `h2c`"),
        (
            "methods: [POST], upgrade: [websocket]",
            "1:54 routes[0].upgrade: a WebSocket begins with a GET, which is not among the `methods` | add `GET` to `methods`, or leave `methods` out",
        ),
        (
            "upgrade: [websocket], response: {rules: [html], action: sanitize}",
            "1:37 routes[0].upgrade: `sanitize` needs a body whole, and a WebSocket has none: see `response` | use `redact` or `block` in `response`",
        ),
        (
            "upgrade: [websocket], context: {format: openai}",
            "1:59 routes[0].context: messages of a WebSocket get no context, so `context` would mean nothing to them | remove `context`, or `upgrade`",
        ),
        ("upstream: ia", "1:38 routes[0].upstream: unknown upstream `ia` | did you mean `ai`?"),
        (
            "request: {action: blok}",
            "1:46 routes[0].request.action: expected one of `block`, `redact`, `sanitize`, `observe`, found the text `blok` | did you mean `block`?",
        ),
        (
            "request: {content_types: [text/plain]}",
            "1:38 routes[0].request.content_types: unknown key `content_types` | known here: rules, action, max_chars, max_body_chars, max_body, unscannable, binary_parts, views",
        ),
        (
            "response: {binary_parts: block, unscannable: pass}",
            "1:53 routes[0].response.binary_parts: `unscannable: pass` lets binary parts pass too | remove one of the two",
        ),
        (
            "response: {stream: {join: ['a[0]']}}",
            "1:55 routes[0].response.stream.join[0]: expected member names with dots between them and `[]` behind arrays, such as `choices[].text`",
        ),
        (
            "response: {stream: {join: t, end: ['{\"a\": \"{reason}\"}']}}",
            "1:63 routes[0].response.stream.end[0]: names something else than `{message}`, `{code}` and `{request_id}`",
        ),
        ("response: {stream: {}}", "1:47 routes[0].response.stream: `join` is missing"),
        ("response: {stream: {join: []}}", "1:54 routes[0].response.stream.join: expected at least one place"),
        (
            "response: {content_types: [text/html]}",
            "1:55 routes[0].response.content_types[0]: expected one of `application/json`, `text/event-stream`, `application/x-ndjson`, `text/plain`, `multipart/form-data`, found the text `text/html`",
        ),
    ] {
        assert_told(&route(body), &[expected]);
    }
    each(&[
        (
            "routes: []",
            "1:9 routes: there is no route: every request would be refused | add at least one under `routes`",
        ),
        ("routes: [{path: /a}]", "1:10 routes[0]: `id` is missing"),
        (
            "routes:\n  - {id: a, path: /a}\n  - {id: a, path: /b}",
            "3:10 routes[1].id: the id `a` is already taken on line 2",
        ),
        ("routes: [{id: a, path: a}]", "1:24 routes[0].path: a path starts with `/`"),
        (
            "routes: [{id: a, path: /a/../b}]",
            "1:24 routes[0].path: no request can match this path: requests are matched in canonical form, here `/b`",
        ),
        (
            "routes: [{id: a, path: /a//b}]",
            "1:24 routes[0].path: no request can match this path: such a spelling is refused before routing",
        ),
        ("routes: [{id: a, path: /a/**/b}]", "1:24 routes[0].path: `**` stands only at the end, as `/**`"),
        (
            "routes:\n  - {id: a, path: \"/x/{a}\", methods: [GET]}\n  - {id: b, path: \"/x/{b}\", methods: [HEAD]}",
            "3:19 routes[1].path: takes the same requests as the route `a` on line 2",
        ),
        (
            "defaults: {context: {}, request: {rules: []}, response: {rules: []}}",
            "1:12 defaults.context: `context` is not supported yet",
        ),
        (
            "upstreams: {a: {endpoints: http://a}, b: {endpoints: http://b}}\nroutes: [{id: r, path: /r}]",
            "2:10 routes[0]: names no `upstream`, nor does `defaults`, and there are several | defined: a, b",
        ),
    ]);
    let set = "upstreams: {ai: {endpoints: http://a, headers: {set: {X-Version: a}}}}\n";
    assert_told(
        &format!("{set}{}", route("underscore_headers: [x_version]")),
        &[
            "2:49 routes[0].underscore_headers[0]: a service may take `x_version` for `x-version`, which the upstream is given",
        ],
    );
    assert_told(
        "\nroutes: []\ndefaults: {upstream: ai}",
        &["2:9 routes: there is no route: every request would be refused | add at least one under `routes`"],
    );
}

#[test]
fn bodies_that_never_fit() {
    each(&[
        (
            "memory: 5MiB\nroutes: [{id: a, path: /a, request: {max_chars: 1, max_body: 6MiB}}]",
            "2:62 routes[0].request.max_body: a body of this size never fits into `memory`, 5MiB",
        ),
        (
            "routes: [{id: a, path: /a, request: {max_chars: 1, max_body: 49MiB}}]",
            "1:62 routes[0].request.max_body: a body of this size never fits into `memory`, 48MiB",
        ),
        (
            "memory: 5MiB\nroutes: [{id: a, path: /a, request: {max_chars: 1}}, {id: b, path: /b, request: {max_chars: 1}}]",
            "1:9 memory: holds no body of `max_body`, which is 10MiB by default | write a smaller `max_body` into \
             `defaults.request` and `defaults.response`",
        ),
    ]);
    // What nothing inspects is never held.
    valid("memory: 5MiB\nroutes: [{id: a, path: /a, request: {max_body: 1GiB}}]");
}

#[test]
fn assertions() {
    let upstream = |body: &str| format!("upstreams: {{ai: {{endpoints: http://a, assertion: {{{body}}}}}}}");
    let key = "key: {env: SEED}, key_id: k";
    for (body, expected) in [
        ("key_id: k".to_owned(), "1:50 upstreams.ai.assertion: `key` is missing"),
        ("key: {env: SEED}".to_owned(), "1:50 upstreams.ai.assertion: `key_id` is missing"),
        (
            "key: hunter2, key_id: k".to_owned(),
            "1:56 upstreams.ai.assertion.key: a secret is never written in this file | write `{file: PATH}` or `{env: NAME}`, and change the secret if this file was shared",
        ),
        (
            "key: {env: TOKEN}, key_id: k".to_owned(),
            "1:56 upstreams.ai.assertion.key: is no Ed25519 private key: expected PKCS#8 in PEM, or 32 bytes in base64 | `openssl genpkey -algorithm ed25519` makes one",
        ),
        (
            "algorithm: HS256, key: {env: TOKEN}, key_id: k".to_owned(),
            "1:74 upstreams.ai.assertion.key: is too short for HS256: expected at least 32 characters | `openssl rand -base64 32` makes one",
        ),
        (
            format!("algorithm: none, {key}"),
            "1:62 upstreams.ai.assertion.algorithm: expected one of `EdDSA`, `HS256`, found the text `none`",
        ),
        (
            format!("{key}, header: X-Assertion"),
            "1:88 upstreams.ai.assertion.header: `x-assertion` is not dropped from what clients send: expected a name that begins with `X-Key-`",
        ),
        (
            format!("{key}, header: X_Key_Assertion"),
            "1:88 upstreams.ai.assertion.header: `x_key_assertion` has a `_`, which many services drop: write `-`",
        ),
        (
            format!("{key}, header: X-Key-Id"),
            "1:88 upstreams.ai.assertion.header: `x-key-id` already says something else",
        ),
        (format!("{key}, ttl: 10m"), "1:85 upstreams.ai.assertion.ttl: expected 30s to 5m, found the text `10m`"),
        (
            format!("{key}, previous: {{key: {{env: SEED}}, key_id: old}}"),
            "1:96 upstreams.ai.assertion.previous.key: is the key that `key` names already: nothing was rotated | remove `previous`",
        ),
        (
            format!("{key}, previous: {{key: {{env: OTHER_SEED}}, key_id: k}}"),
            "1:123 upstreams.ai.assertion.previous.key_id: `k` already names another key, on line 1",
        ),
    ] {
        assert_told(&upstream(&body), &[expected]);
    }
    each(&[
        (
            "routes: [{id: r, path: /r, assertion: on}]",
            "1:39 routes[0].assertion: expected `off`, or a mapping with keys such as `key`, `key_id`, found the text `on`",
        ),
        (
            "routes: [{id: r, path: /r, public: true, assertion: {key: {env: SEED}, key_id: k}}]",
            "1:53 routes[0].assertion: a public route looks at no key, so `assertion` would mean nothing | remove `assertion`, or `public: true`",
        ),
    ]);
}

#[test]
fn contexts() {
    let route = |body: &str| format!("routes: [{{id: r, path: /r, context: {{{body}}}}}]");
    for (body, expected) in [
        ("values: {a: b}", "1:37 routes[0].context: `format` is missing"),
        (
            "format: opnai",
            "1:46 routes[0].context.format: expected one of `openai`, `responses`, `anthropic`, `json`, found the text `opnai` | did you mean `openai`?",
        ),
        ("format: json", "1:37 routes[0].context: `at` is missing | write where the prompt stands, such as `/prompt`"),
        (
            "format: json, at: prompt",
            "1:56 routes[0].context.at: is no JSON pointer to a member: expected one such as `/prompt` or `/input/0/text`",
        ),
        (
            "format: json, at: /a~2",
            "1:56 routes[0].context.at: is no JSON pointer to a member: expected one such as `/prompt` or `/input/0/text`",
        ),
        (
            "format: openai, at: /prompt",
            "1:58 routes[0].context.at: this format has its own place: only `format: json` takes an `at`",
        ),
        ("format: openai, template: Hello", "1:64 routes[0].context.template: has no `{owner}`"),
        (
            "format: json, at: /p, template: \"{owner}\"",
            "1:70 routes[0].context.template: has no `{text}`, where the user's text goes",
        ),
        (
            "format: json, at: /p, template: \"{text} {owner}\"",
            "1:70 routes[0].context.template: has `{owner}` or `{context}` behind `{text}`, where a user could forge it",
        ),
        (
            "format: openai, values: {a: 1}",
            "1:66 routes[0].context.values.a: expected a text, or `{header: NAME}`, found the number 1 | put it in quotes to make it text",
        ),
        (
            "format: openai, values: {a: {header: X-Org-Code}}",
            "1:75 routes[0].context.values.a.header: `x-org-code` names the caller: only Keyward itself sets it",
        ),
        (
            "format: openai, values: {a: {header: Authorization}}",
            "1:75 routes[0].context.values.a.header: `authorization` carries a secret, which belongs in no prompt",
        ),
    ] {
        assert_told(&route(body), &[expected]);
    }
    each(&[
        (
            "routes: [{id: r, path: /r, public: true, context: {format: openai}}]",
            "1:51 routes[0].context: a public route looks at no key, so `context` would mean nothing | remove `context`, or `public: true`",
        ),
        (
            "routes: [{id: r, path: /r, auth: observe, context: {format: openai}}]",
            "1:52 routes[0].context: a caller without a key has no owner that a prompt could name | remove `context`, or `auth: observe`",
        ),
    ]);
    let compiled =
        valid(&route("format: json, at: /a/b, template: '{owner}: {text}', values: {a: b, c: {header: X-C}}"));
    let context = compiled.policy.routes.routes()[0].context.as_ref().expect("a context");
    assert_eq!(context.format, Format::Json(Pointer::parse("/a/b").expect("a pointer")));
    assert_eq!(context.template, Template::parse("{owner}: {text}", &context.format).expect("a template"));
    let values: Vec<_> = context.values.iter().map(|(name, source)| (&**name, source.clone())).collect();
    assert_eq!(values, [("a", Source::Text("b".into())), ("c", Source::Header("x-c".parse().expect("a name")))]);
}
