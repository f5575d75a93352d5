//! `keys.serve`, and the file of a key service that proxies nothing.

use super::*;
use crate::config::{ListenAddress, summary};
use crate::key_service::token_digest;

const GOOD: &str = "address: 127.0.0.1:9444, tokens: {a: {token: {env: SHARED}, scopes: ['read:api_keys']}}";

fn serving(body: &str) -> String {
    format!("keys: {{serve: {{{body}}}}}")
}

fn compile_alone(text: &str) -> Result<Compiled, Mistakes> {
    compile_text("keys.yaml", text, Path::new("/etc/keyward"), &env, &Overrides::default())
}

/// The mistakes without their positions.
fn mistakes(refused: &Mistakes) -> Vec<String> {
    refused.iter().map(|mistake| told(mistake).split_once(' ').expect("a position").1.to_owned()).collect()
}

#[test]
fn mistakes_name_the_place() {
    let digest = token_digest("0123456789abcdef0123456789abcdef");
    let scopes = "scopes: ['verify:api_keys']";
    for (body, expected) in [
        ("address: 127.0.0.1:1".to_owned(), "keys.serve: `tokens` is missing"),
        (GOOD.replace("address: 127.0.0.1:9444, ", ""), "keys.serve: `address` is missing"),
        (
            "address: 127.0.0.1:1, tokens: {}".to_owned(),
            "keys.serve.tokens: without a token nobody could use the service | write `tokens: {sidecars: {token: {file: \
             PATH}, scopes: [verify:api_keys]}}`",
        ),
        (
            GOOD.replace("SHARED", "TOKEN"),
            "keys.serve.tokens.a.token: a token must have at least 32 characters, or it could be guessed; `keyward keys \
             token` makes one",
        ),
        (GOOD.replace("{env: SHARED}", "s3cret"), "keys.serve.tokens.a.token: a secret is never written in this file"),
        (GOOD.replace("read:api_keys", "read:api_key"), "keys.serve.tokens.a.scopes[0]: expected one of"),
        (GOOD.replace("'read:api_keys'", ""), "keys.serve.tokens.a.scopes: a token without a scope could do nothing"),
        (GOOD.replace(", scopes: ['read:api_keys']", ""), "keys.serve.tokens.a: `scopes` is missing"),
        (
            GOOD.replace("token: {env: SHARED}", "sha256: abc"),
            "keys.serve.tokens.a.sha256: expected the SHA-256 of a token, 64 hex digits; `keyward keys token` shows it",
        ),
        (
            GOOD.replace("{env: SHARED}", &format!("{{env: SHARED}}, sha256: {digest}")),
            "keys.serve.tokens.a.sha256: `token` is given, so `sha256` would mean nothing",
        ),
        (GOOD.replace("token: {env: SHARED}, ", ""), "keys.serve.tokens.a: the token is missing | write `token: {file"),
        (
            GOOD.replace("tokens: {a", &format!("tokens: {{b: {{sha256: {digest}, {scopes}}}, a")),
            "keys.serve.tokens.a: is the same secret as the token `b`: nobody could tell them apart",
        ),
        (GOOD.replace("9444", "9444, max_connections: 0"), "keys.serve.max_connections: zero is not a bound"),
        (GOOD.replace("9444", "9444, max: 7"), "keys.serve.max: unknown key `max`"),
    ] {
        let told = mistakes(&refused(&serving(&body)));
        assert!(told.len() == 1 && told[0].starts_with(expected), "{body}\n{told:#?}");
    }
    let kinde =
        serving(GOOD).replace("{serve", "{verifier: kinde, kinde: {url: https://a.kinde.com, auth: none}, serve");
    assert_eq!(
        mistakes(&refused(&kinde)),
        ["keys.serve: the keys live in Kinde, so there are none to serve | remove `serve`, or write `verifier: store`"]
    );
    let taken = format!("{}\nlisten: {{address: '127.0.0.1:9444'}}", serving(GOOD));
    let told = mistakes(&refused(&taken));
    assert_eq!(told, ["keys.serve.address: `127.0.0.1:9444` is already taken by `127.0.0.1:9444`, listen.address"]);
}

#[test]
fn a_key_service_needs_no_route_and_then_listens_for_none() {
    let alone = compile_alone(&serving(GOOD)).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(alone.process.listen, Vec::<ListenAddress>::new());
    assert!(alone.process.serve.is_some() && alone.warnings.is_empty());
    assert_eq!(summary(&alone), "key service http://127.0.0.1:9444\nTOKEN  SCOPES\na      read:api_keys\n");
    let listening = format!("{}\nlisten: {{address: '127.0.0.1:8080'}}", serving(GOOD));
    assert_eq!(
        mistakes(&compile_alone(&listening).expect_err("a mistake")),
        [
            "listen: without a route there is nothing to listen for | add `routes`, or remove `listen`: `keys.serve` has \
             an address of its own"
        ]
    );
    let both = valid(&serving(GOOD));
    assert_eq!(both.process.listen.len(), 1);
    assert!(summary(&both).contains("key service"));
}

#[test]
fn a_service_in_the_clear_is_warned_about_and_only_a_restart_moves_it() {
    let warned = valid(&serving(&GOOD.replace("127.0.0.1", "0.0.0.0"))).warnings;
    assert!(warned.iter().any(|warning| warning.contains("unencrypted")), "{warned:?}");
    let process = |body: &str| valid(&serving(body)).process;
    let tokens = process(&GOOD.replace("read:", "create:"));
    assert_ne!(tokens.serve, process(GOOD).serve);
    assert_eq!(process(GOOD).differences(&tokens), [""; 0]);
    assert_eq!(process(GOOD).differences(&process(&GOOD.replace("9444", "9445"))), ["keys.serve"]);
}
