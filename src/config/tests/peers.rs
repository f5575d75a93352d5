//! `listen.proxy_protocol`, `allow_from`, `client_cert`, `cors` and `trailers`: their mistakes, and what they become.

use super::*;
use crate::policy::{Origins, TurnedAway};

fn mistake_of(route: &str) -> String {
    let text = format!("routes: [{{id: r, path: /r, {route}}}]");
    let mistakes = refused(&text);
    let first = mistakes.iter().next().expect("a mistake");
    format!("{}: {}", first.path.strip_prefix("routes[0].").unwrap_or("?"), first.message)
}

#[test]
fn mistakes_of_each() {
    for (route, told) in [
        ("allow_from: []", "allow_from: an empty list would let nobody in"),
        ("allow_from: [10.0.0.0/99]", "allow_from[0]: is neither an address nor a network such as `10.0.0.0/8`"),
        (
            "client_cert: {san: [a.test]}",
            "client_cert: no client is asked for a certificate, so nobody could have one of these names",
        ),
        ("client_cert: {san: []}", "client_cert.san: expected at least one name"),
        (
            "client_cert: {san: [a b]}",
            "client_cert.san[0]: is neither a DNS name, such as `client.example.com`, nor a URI",
        ),
        ("client_cert: {}", "client_cert: `san` is missing"),
        ("cors: {}", "cors: `origins` is missing"),
        ("cors: on", "cors: expected `off`, or a mapping with keys such as `origins`, `headers`, found the text `on`"),
        ("cors: {origins: []}", "cors.origins: expected at least one origin"),
        ("cors: {origins: ['https://a.test', '*']}", "cors.origins[1]: `*` stands alone, not in a list"),
        ("cors: {origins: ['https://*.test']}", "cors.origins[0]: would let a whole top-level domain in"),
        (
            "cors: {origins: '*', credentials: true}",
            "cors.credentials: `credentials` with every origin would let any website act as its visitors",
        ),
        ("cors: {origins: '*', headers: ['*']}", "cors.headers[0]: `*` does not mean every header to browsers"),
        ("cors: {origins: '*', max_age: 2d}", "cors.max_age: expected 0s to 1d, found the text `2d`"),
        ("trailers: [X-Org-Code]", "trailers[0]: `x-org-code` names the caller: only Keyward itself sets it"),
        (
            "trailers: [Content-Length]",
            "trailers[0]: `content-length` says how a message is to be read: only Keyward itself sets it",
        ),
        ("trailers: [Set-Cookie]", "trailers[0]: `set-cookie` has to stand in the head of a message"),
        ("trailers: [x_sum]", "trailers[0]: `x_sum` has a `_`, which many services read as `-`"),
    ] {
        assert_eq!(mistake_of(route), told, "{route}");
    }
}

#[test]
fn a_route_takes_the_defaults_or_its_own_as_a_whole() {
    let text = "
listen: {proxy_protocol: [10.0.0.1, 192.0.2.0/24]}
defaults:
  allow_from: 10.0.0.0/8
  cors: {origins: 'https://a.test'}
  trailers: [X-Sum]
  request: {rules: []}
  response: {rules: []}
routes:
  - {id: a, path: /a, methods: [GET]}
  - {id: b, path: /b, cors: off, allow_from: ['::/0'], trailers: []}
  - {id: c, path: /c, cors: {origins: '*'}, credentials: [x-key]}
";
    let compiled = valid(text);
    let peers: Vec<_> = compiled.process.proxy_protocol.iter().map(ToString::to_string).collect();
    assert_eq!(peers, ["10.0.0.1/32", "192.0.2.0/24"]);
    let [a, b, c] = compiled.policy.routes.routes() else { panic!("three") };
    let v4 = "192.0.2.1".parse().expect("an address");
    assert_eq!(a.gatekeeper.check(v4, &[]), Err(TurnedAway::Address));
    assert_eq!(b.gatekeeper.check("::1".parse().expect("an address"), &[]), Ok(()));
    assert_eq!(compiled.policy.unmatched.gatekeeper.check(v4, &[]), Err(TurnedAway::Address));
    let cors = a.cors.as_ref().expect("some");
    assert_eq!(cors.methods.as_ref().expect("some"), "GET, HEAD");
    assert_eq!(cors.headers, "authorization, x-api-key, content-type");
    assert!(b.cors.is_none());
    let cors = c.cors.as_ref().expect("some");
    assert_eq!((&cors.origins, &cors.methods), (&Origins::Any, &None));
    assert_eq!(cors.headers, "x-key, content-type");
    assert_eq!((a.trailers.len(), b.trailers.len()), (1, 0));
    assert!(compiled.policy.unmatched.cors.is_some());
    let table = crate::config::summary(&compiled);
    for told in [
        "-, from 10.0.0.0/8, scripts of https://a.test",
        "-, from ::/0 ",
        "-, from 10.0.0.0/8, scripts of every website",
    ] {
        assert!(table.contains(told), "{told} is not in\n{table}");
    }
    let open = valid("listen: {proxy_protocol: [10.0.0.0/8, 0.0.0.0/0]}");
    assert!(open.warnings.iter().any(|warning| warning.contains("proxy_protocol")), "{:?}", open.warnings);
}
