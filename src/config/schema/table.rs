//! What each key of `proxy.yaml` takes.

use super::Described;
use super::Type::{self, Any, Boolean, Count, Duration, Items, List, Map, Name, Section, Size, Text, Word};

const SECRET: Type = Section("admin.token");
const FILE: Type = Section("keys.kinde.ca");
const TLS: Type = Section("listen.tls");
const ACTION: Type = Word(&["block", "redact", "sanitize", "observe"]);
const FORMAT: Type = Word(&["keyward", "openai", "anthropic"]);
const BLOCK_OR_PASS: Type = Word(&["block", "pass"]);
const VIEWS: Type = List(&Word(&["json-unescape", "html-entity", "percent", "strip", "fold"]), 0);
const NAMES: Type = List(&Name, 0);
const CREDENTIALS: Type = List(&Text, 1);
/// More than any reader takes; its own bound is narrower, and told better by it.
const MANY: u64 = i64::MAX as u64;

const REQUEST: [super::Row; 8] = [
    ("rules", NAMES, "Rules and presets (seed, html, secrets, context) that are looked for"),
    ("action", ACTION, "What a match does"),
    ("max_chars", Count(1, MANY), "The longest text, in UTF-16 units"),
    ("max_body_chars", Count(1, MANY), "All texts of the body together"),
    ("max_body", Size, "The largest body"),
    ("unscannable", BLOCK_OR_PASS, "What happens to a body that cannot be read"),
    ("binary_parts", BLOCK_OR_PASS, "What happens to parts of a multipart body that are no text"),
    ("views", VIEWS, "In what other ways texts are read"),
];

pub(in crate::config) const SECTIONS: &[Described] = &[
    Described {
        path: "",
        required: &[],
        rows: &[
            ("listen", Section("listen"), "Where clients connect"),
            ("admin", Section("admin"), "The admin API"),
            ("health", Section("health"), "Probes and metrics, without a token"),
            ("trusted_proxies", List(&Text, 0), "Peers whose Forwarded headers are believed: addresses and networks"),
            ("memory", Size, "One budget for all bodies that are held; when it is used up, requests get 503"),
            ("shutdown", Section("shutdown"), "How the process ends"),
            ("usage", Any(&[Word(&["stdout", "off"]), Section("usage")]), "Where usage records go"),
            ("upstreams", Map(&Section("upstreams.NAME")), "The services behind Keyward, by name"),
            ("keys", Section("keys"), "Where keys stand in a request, and who verifies them"),
            ("limits", Map(&Section("limits.NAME")), "Token buckets, by name"),
            ("rules", Items(&Section("rules[]")), "Rules of your own"),
            ("defaults", Section("defaults"), "What a route takes unless it says otherwise"),
            ("routes", Items(&Section("routes[]")), "Who may use what"),
        ],
    },
    Described {
        path: "listen",
        required: &[],
        rows: &[
            ("address", List(&Text, 1), "host:port or unix:PATH, or several"),
            ("max_connections", Count(1, MANY), "Open client connections; more wait"),
            ("max_header_bytes", Size, "The head of a request"),
            ("max_streams", Count(1, MANY), "Requests that one HTTP/2 connection may have open"),
            ("timeouts", Section("listen.timeouts"), "How long clients may take"),
            ("tls", TLS, "Certificates"),
        ],
    },
    Described {
        path: "listen.timeouts",
        required: &[],
        rows: &[
            ("handshake", Duration, "For the TLS handshake"),
            ("header", Duration, "For the head of a request"),
            ("body", Duration, "Between two pieces of a request's body"),
            ("write", Duration, "While nothing of a response is taken"),
        ],
    },
    Described {
        path: "listen.tls",
        required: &[],
        rows: &[
            ("cert", FILE, "The chain, PEM"),
            ("key", FILE, "Its key, PEM"),
            ("certificates", Items(&Section("listen.tls.certificates[]")), "More of them, chosen by name"),
            ("client_ca", FILE, "Authorities of the certificates that clients have to show"),
        ],
    },
    Described {
        path: "listen.tls.certificates[]",
        required: &["cert", "key"],
        rows: &[("cert", FILE, "The chain, PEM"), ("key", FILE, "Its key, PEM")],
    },
    Described {
        path: "admin",
        required: &["address", "token"],
        rows: &[("address", Text, "host:port"), ("token", SECRET, "What every request has to show")],
    },
    Described {
        path: "admin.token",
        required: &[],
        rows: &[("env", Text, "The environment variable that holds it"), ("file", Text, "The file that holds it")],
    },
    Described {
        path: "health",
        required: &["address"],
        rows: &[
            ("address", Text, "host:port"),
            (
                "exposed",
                Word(&["warn", "refuse", "ignore"]),
                "What /readyz makes of a service that answers elsewhere too",
            ),
        ],
    },
    Described {
        path: "shutdown",
        required: &[],
        rows: &[
            ("delay", Duration, "How long new connections are still taken"),
            ("grace", Duration, "How long requests may go on, the delay included"),
        ],
    },
    Described { path: "usage", required: &["file"], rows: &[("file", Text, "A file that usage records are added to")] },
    Described {
        path: "upstreams.NAME",
        required: &["endpoints"],
        rows: &[
            ("endpoints", List(&Text, 1), "http://host:port"),
            ("timeouts", Section("upstreams.NAME.timeouts"), "How long the service may take"),
            ("keepalive", Duration, "How long an idle connection is kept: shorter than the service keeps it"),
            ("max_concurrent", Count(0, 0), "0: no limit"),
            ("headers", Section("upstreams.NAME.headers"), "What is set on every request"),
            ("assertion", Section("upstreams.NAME.assertion"), "Tells the service under a signature who is calling"),
        ],
    },
    Described {
        path: "upstreams.NAME.timeouts",
        required: &[],
        rows: &[
            ("connect", Duration, "For a connection"),
            ("first_byte", Duration, "From the end of the request to the head of the response"),
            ("idle", Duration, "Between two pieces of a body"),
        ],
    },
    Described {
        path: "upstreams.NAME.headers",
        required: &[],
        rows: &[("set", Map(&Any(&[Text, SECRET])), "Values by header name; credentials as secrets")],
    },
    Described {
        path: "upstreams.NAME.assertion",
        required: &["key", "key_id"],
        rows: &[
            ("header", Text, "The header that carries it"),
            ("algorithm", Word(&["EdDSA", "HS256"]), "How it is signed"),
            ("key", SECRET, "What signs"),
            ("key_id", Name, "Which key it was"),
            ("previous", Section("upstreams.NAME.assertion.previous"), "A key that is on its way in or out"),
            ("ttl", Duration, "How long an assertion is good"),
            ("issuer", Text, "The claim iss"),
            ("audience", Text, "The claim aud"),
        ],
    },
    Described {
        path: "upstreams.NAME.assertion.previous",
        required: &["key", "key_id"],
        rows: &[("key", SECRET, "What signed"), ("key_id", Name, "Which key it was")],
    },
    Described {
        path: "keys",
        required: &[],
        rows: &[
            ("verifier", Word(&["store", "kinde"]), "Who decides whether a key is valid"),
            ("credentials", CREDENTIALS, "Where a key may stand: bearer, or the name of a header"),
            ("store", Section("keys.store"), "The embedded store"),
            ("kinde", Section("keys.kinde"), "Which Kinde, or key service, is asked"),
            ("cache", Section("keys.cache"), "How long answers are believed"),
            ("auth_failures", Section("keys.auth_failures"), "How many wrong keys one address may try"),
            ("serve", Section("keys.serve"), "Offers this store to other proxies"),
        ],
    },
    Described {
        path: "keys.store",
        required: &[],
        rows: &[
            ("url", Any(&[Text, SECRET]), "sqlite://PATH or postgres://USER@HOST/DATABASE"),
            ("password", SECRET, "Of the database"),
            ("ca", FILE, "Certificates to trust, PEM"),
            ("prefix", Text, "What new keys begin with"),
            ("pepper", List(&SECRET, 1), "Secrets that digests are computed with, the present one first"),
        ],
    },
    Described {
        path: "keys.kinde",
        required: &["url"],
        rows: &[
            ("url", Text, "https://NAME.kinde.com, or that of a key service"),
            ("client_id", Text, "Of a machine-to-machine application"),
            ("client_secret", SECRET, "Its secret"),
            ("auth", Any(&[Word(&["m2m", "none"]), Section("keys.kinde.auth")]), "What Kinde is shown"),
            ("audience", Text, "Of the token"),
            ("api_id", Text, "The API that a key must be for"),
            ("ca", FILE, "Certificates to trust, PEM"),
            ("timeout", Duration, "For one verification in all"),
            ("poll", Duration, "How often the list of active keys is read"),
            ("proxy", Any(&[Text, Section("keys.kinde.proxy")]), "A forward proxy"),
            ("revocations", Boolean, "Follow the changes of a key service"),
        ],
    },
    Described {
        path: "keys.kinde.auth",
        required: &["token"],
        rows: &[("token", SECRET, "A token that does not change")],
    },
    Described { path: "keys.kinde.ca", required: &["file"], rows: &[("file", Text, "The path of a file")] },
    Described {
        path: "keys.kinde.proxy",
        required: &["url"],
        rows: &[
            ("url", Text, "http://host:port"),
            ("username", Text, "The name that the proxy knows"),
            ("password", SECRET, "Its password"),
        ],
    },
    Described {
        path: "keys.cache",
        required: &[],
        rows: &[
            ("ttl", Duration, "How long a valid key is believed"),
            ("negative_ttl", Duration, "How long an invalid key is remembered"),
            ("max_entries", Count(1, MANY), "Keys that are remembered"),
            ("refresh_ahead", Boolean, "Verify keys in use again before their time is over"),
            ("stale_if_error", Duration, "How much longer a known key is believed while nobody can verify it"),
        ],
    },
    Described {
        path: "keys.auth_failures",
        required: &[],
        rows: &[("requests", Count(1, MANY), "How many"), ("per", Duration, "In how long")],
    },
    Described {
        path: "keys.serve",
        required: &["address", "tokens"],
        rows: &[
            ("address", Text, "host:port"),
            ("tls", TLS, "Certificates"),
            ("tokens", Map(&Section("keys.serve.tokens.NAME")), "Who may use the service"),
            ("max_connections", Count(1, MANY), "Open connections; more wait"),
        ],
    },
    Described {
        path: "keys.serve.tokens.NAME",
        required: &["scopes"],
        rows: &[
            ("token", SECRET, "At least 32 characters"),
            ("sha256", Text, "The hash of the token in hex, as `keyward keys token` shows it"),
            (
                "scopes",
                List(
                    &Word(&[
                        "read:api_keys",
                        "create:api_keys",
                        "update:api_keys",
                        "delete:api_keys",
                        "verify:api_keys",
                    ]),
                    1,
                ),
                "What it may do",
            ),
        ],
    },
    Described {
        path: "limits.NAME",
        required: &["requests", "per"],
        rows: &[
            ("requests", Count(1, MANY), "How many requests"),
            ("per", Duration, "In how long"),
            (
                "by",
                Word(&["key", "organization", "org", "user", "route", "address", "ip"]),
                "Whose requests are counted together",
            ),
            ("burst", Count(1, MANY), "How many at once"),
        ],
    },
    Described {
        path: "rules[]",
        required: &["id"],
        rows: &[
            ("id", Name, "Its name"),
            ("pattern", Text, "A regular expression"),
            ("literals", List(&Text, 1), "Texts that are looked for as they are"),
            ("ignore_case", Boolean, "Of literals"),
            ("action", ACTION, "What a match does, instead of the route's action"),
            ("direction", Word(&["request", "response", "both"]), "Where it is looked for"),
            ("views", VIEWS, "In what other ways texts are read"),
            ("examples", Section("rules[].examples"), "Texts that it has to match, and to let pass"),
        ],
    },
    Described {
        path: "rules[].examples",
        required: &[],
        rows: &[("match", List(&Text, 0), "Has to match"), ("pass", List(&Text, 0), "Has to pass")],
    },
    Described {
        path: "defaults",
        required: &[],
        rows: &[
            ("upstream", Name, "Where requests go"),
            ("limits", NAMES, "Which limits count"),
            ("request", Section("routes[].request"), "How requests are inspected"),
            ("response", Section("routes[].response"), "How responses are inspected"),
            ("credentials", CREDENTIALS, "Where a key may stand: bearer, or the name of a header"),
            ("echo_identity", Boolean, "Say in the response whose key it was"),
            ("format", FORMAT, "The shape of refusals"),
            ("slow", Duration, "When a response is worth a warning"),
        ],
    },
    Described {
        path: "routes[]",
        required: &["id", "path"],
        rows: &[
            ("id", Name, "Its name in logs and metrics"),
            ("path", Text, "/exact, /with/{parameter} or /prefix/**"),
            ("host", Text, "Only for this host"),
            ("methods", List(&Text, 1), "Only with these methods"),
            ("scopes", Any(&[List(&Text, 0), Section("routes[].scopes")]), "What a key must have"),
            ("public", Boolean, "Open to everybody"),
            ("auth", Word(&["key", "observe"]), "observe: keyless requests pass and are counted"),
            ("limits", NAMES, "Which limits count"),
            ("request", Section("routes[].request"), "How requests are inspected"),
            ("response", Section("routes[].response"), "How responses are inspected"),
            ("upstream", Name, "Where requests go"),
            ("format", FORMAT, "The shape of refusals"),
            ("credentials", CREDENTIALS, "Where a key may stand: bearer, or the name of a header"),
            ("echo_identity", Boolean, "Say in the response whose key it was"),
            ("underscore_headers", List(&Text, 0), "Headers with _ that the service needs"),
            ("assertion", Any(&[Word(&["off"]), Section("upstreams.NAME.assertion")]), "Instead of the upstream's"),
            ("context", Section("routes[].context"), "Tells the prompt on whose behalf it is"),
            ("slow", Duration, "When a response is worth a warning"),
            ("upgrade", List(&Word(&["websocket"]), 0), "What a connection may become"),
        ],
    },
    Described {
        path: "routes[].scopes",
        required: &["any_of"],
        rows: &[("any_of", List(&Text, 1), "One of them is enough")],
    },
    Described {
        path: "routes[].context",
        required: &["format"],
        rows: &[
            ("format", Word(&["openai", "responses", "anthropic", "json"]), "Where the prompt stands"),
            ("at", Text, "With format json: the place, such as /prompt"),
            ("template", Text, "What is written, with {owner}"),
            ("values", Map(&Any(&[Text, Section("routes[].context.values.NAME")])), "What else the template names"),
        ],
    },
    Described {
        path: "routes[].context.values.NAME",
        required: &["header"],
        rows: &[("header", Text, "The header whose value it is")],
    },
    Described { path: "routes[].request", required: &[], rows: &REQUEST },
    Described {
        path: "routes[].response",
        required: &[],
        rows: &[
            REQUEST[0],
            REQUEST[1],
            REQUEST[2],
            REQUEST[3],
            REQUEST[4],
            REQUEST[5],
            REQUEST[6],
            REQUEST[7],
            (
                "content_types",
                List(
                    &Word(&[
                        "application/json",
                        "text/event-stream",
                        "application/x-ndjson",
                        "text/plain",
                        "multipart/form-data",
                    ]),
                    0,
                ),
                "Which responses the rules apply to",
            ),
            ("stream", Section("routes[].response.stream"), "Where the texts of a stream's events stand"),
        ],
    },
    Described {
        path: "routes[].response.stream",
        required: &["join"],
        rows: &[
            ("join", List(&Text, 1), "Places whose texts go on from event to event"),
            ("channel", List(&Text, 0), "Places that tell streams in one stream apart"),
            ("opaque", List(&Text, 0), "Places that hold ids"),
            ("done", Text, "What the last event holds"),
            ("end", List(&Text, 0), "Lines that end a stream that is cut"),
        ],
    },
];
