use super::*;
use crate::policy::{Access, ErrorFormat, Inspect, PathPattern, Scopes, Timeouts, Unscannable, Upstream};
use crate::scan::{Action, BinaryParts, RuleSet};
use proptest::prelude::*;
use std::time::Duration;

fn route(id: &str, host: Option<&str>, path: &str, methods: &[Method]) -> Arc<Route> {
    let inspect = Inspect {
        rules: Arc::new(RuleSet::compile(Vec::new()).expect("no rules")),
        action: Action::Block,
        section: Action::Block,
        max_chars: None,
        max_body_chars: None,
        max_body: 1,
        content_types: Vec::new(),
        unscannable: Unscannable::Block,
        binary_parts: BinaryParts::Pass,
        house: None,
    };
    let second = Duration::from_secs(1);
    Arc::new(Route {
        id: id.into(),
        host: host.map(Into::into),
        path: PathPattern::parse(path).expect("a pattern"),
        methods: Methods::new(methods.to_vec()),
        access: Access::Key(Scopes::All(Vec::new())),
        credentials: Arc::new([]),
        limits: Arc::new([]),
        request: inspect.clone(),
        response: inspect,
        upstream: Arc::new(Upstream {
            name: "ai".into(),
            endpoints: Vec::new(),
            tls: crate::policy::UpstreamTls::default(),
            http2: crate::policy::Http2::Auto,
            timeouts: Timeouts { connect: second, first_byte: second, idle: second, total: None },
            keepalive: second,
            warm: 0,
            resolve: second,
            max_concurrent: None,
            eject: None,
            breaker: None,
            retries: None,
            health: None,
            set_headers: Vec::new(),
            assertion: None,
        }),
        format: ErrorFormat::Keyward,
        underscore_headers: Vec::new(),
        trailers: Arc::new([]),
        gatekeeper: crate::policy::Gatekeeper::default(),
        cors: None,
        websocket: false,
        echo_identity: false,
        assertion: None,
        context: None,
        slow: second,
    })
}

fn found(table: &RouteTable, method: &Method, path: &str) -> String {
    match table.find(None, method, path) {
        Matched::Route(route) => route.id.to_string(),
        Matched::OtherMethods(allow) => format!("405 {allow}"),
        Matched::Nothing => "404".to_owned(),
    }
}

#[test]
fn methods_take_part_in_the_choice() {
    let table = RouteTable::new(vec![
        route("get", None, "/a/{x}", &[Method::GET]),
        route("post", None, "/a/b", &[Method::POST]),
        route("any", None, "/c", &[]),
        route("put", None, "/c", &[Method::PUT]),
    ])
    .expect("no ties");
    assert_eq!(found(&table, &Method::GET, "/a/b"), "get");
    assert_eq!(found(&table, &Method::POST, "/a/b"), "post");
    assert_eq!(found(&table, &Method::PUT, "/a/b"), "405 GET, HEAD, POST");
    assert_eq!(found(&table, &Method::PUT, "/c"), "put");
    assert_eq!(found(&table, &Method::from_bytes(b"BREW").expect("a method"), "/c"), "any");
    assert_eq!(found(&table, &Method::GET, "/a"), "404");
    assert_eq!(found(&table, &Method::GET, "/a/"), "404", "a parameter is never empty");
}

#[test]
fn ties_are_errors_and_near_ties_are_not() {
    let ties =
        |second: Arc<Route>| RouteTable::new(vec![route("first", None, "/a/{x}", &[Method::GET]), second]).is_err();
    assert!(ties(route("same", None, "/a/{y}", &[Method::GET, Method::POST])));
    assert!(ties(route("head", None, "/a/{y}", &[Method::HEAD])), "GET includes HEAD");
    assert!(!ties(route("other method", None, "/a/{y}", &[Method::POST])));
    assert!(!ties(route("any method", None, "/a/{y}", &[])));
    assert!(!ties(route("literal", None, "/a/x", &[Method::GET])));
    assert!(!ties(route("prefix", None, "/a/**", &[Method::GET])));
    assert!(!ties(route("host", Some("h"), "/a/{x}", &[Method::GET])));
}

/// Every route that could take the path, by brute force; the least by specificity wins.
fn reference(patterns: &[&'static str], path: &str) -> Option<&'static str> {
    let segments: Vec<&str> = path[1..].split('/').collect();
    patterns
        .iter()
        .copied()
        .filter_map(|pattern| {
            let (base, prefix) = pattern.strip_suffix("/**").map_or((pattern, false), |base| (base, true));
            let wanted: Vec<&str> = base.split('/').skip(1).collect();
            let long_enough = if prefix { segments.len() >= wanted.len() } else { segments.len() == wanted.len() };
            let matches = wanted
                .iter()
                .zip(&segments)
                .all(|(wanted, segment)| wanted == segment || (wanted.starts_with('{') && !segment.is_empty()));
            // Literal before parameter before the end of a prefix, from the left.
            let mut rank: Vec<u8> = wanted.iter().map(|wanted| u8::from(wanted.starts_with('{'))).collect();
            rank.push(if prefix { 2 } else { 0 });
            (long_enough && matches).then_some((rank, pattern))
        })
        .min()
        .map(|(_, pattern)| pattern)
}

const PATTERNS: [&str; 12] =
    ["/", "/**", "/a", "/a/**", "/a/b", "/a/{x}", "/{x}", "/{x}/b", "/{x}/**", "/a/{x}/c", "/a/b/**", "/{x}/{y}/c"];

proptest! {
    #[test]
    fn the_tree_agrees_with_trying_every_route(
        chosen in proptest::sample::subsequence(&PATTERNS[..], 0..PATTERNS.len()),
        segments in proptest::collection::vec(proptest::sample::select(vec!["a", "b", "c", "d", ""]), 1..4),
    ) {
        let table = RouteTable::new(chosen.iter().map(|path| route(path, None, path, &[])).collect()).expect("no ties");
        // Only the last segment of a canonical path may be empty.
        let last = segments.len() - 1;
        let path: String = segments.iter().enumerate().filter(|(at, segment)| *at == last || !segment.is_empty())
            .map(|(_, segment)| format!("/{segment}")).collect();
        let expected = reference(&chosen, &path).unwrap_or("404");
        prop_assert_eq!(found(&table, &Method::GET, &path), expected, "{}", path);
    }
}
