//! Against the examples of the RFCs, and against the library's own verifier.

use std::time::Duration;

use ed25519_dalek::{Signature, Verifier, VerifyingKey};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};

use super::*;

/// RFC 8037 Appendix A.1: the private and the public key.
const SEED: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
const PUBLIC: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
const PEM: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g
-----END PRIVATE KEY-----
";

fn ed25519(text: &str) -> Key {
    Key::read(Algorithm::EdDsa, text).expect("a key")
}

fn decoded(part: &str) -> Vec<u8> {
    Base64UrlUnpadded::decode_vec(part).expect("base64url")
}

fn request<'a>() -> Request<'a> {
    Request {
        key_id: "api_key_1",
        org_code: Some("org_a"),
        user_id: None,
        scopes: &[],
        route: "chat",
        method: "POST",
        path: "/ai/chat?q=1",
        request_id: "r-1",
        token_id: "t-1",
        body: Some(b"{}"),
    }
}

fn assertion(key: Key) -> Assertion {
    Assertion {
        header: HeaderName::from_static("x-key-assertion"),
        signer: Signer::new("k1", key),
        ttl: Duration::from_secs(60),
        issuer: "keyward".into(),
        audience: "ai".into(),
    }
}

#[test]
fn the_example_of_rfc_8037_is_signed_as_there() {
    let signed = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    assert_eq!(
        ed25519(SEED).sign(signed.as_bytes()),
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
    );
}

#[test]
fn a_private_key_in_every_usual_form_is_the_same_key() {
    let padded = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";
    for text in [SEED, padded, padded.trim_end_matches('='), PEM, PEM.trim()] {
        assert_eq!(ed25519(text).public().as_deref(), Some(PUBLIC), "{text}");
        assert!(ed25519(text).is(&ed25519(SEED)));
    }
}

#[test]
fn what_is_no_key_is_told_apart() {
    let public = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----";
    for text in ["", "hunter2", public, "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyu", &format!("{SEED}{SEED}")] {
        assert_eq!(Key::read(Algorithm::EdDsa, text).err(), Some(BadKey::NotEd25519), "{text}");
    }
    assert_eq!(Key::read(Algorithm::Hs256, &"x".repeat(31)).err(), Some(BadKey::ShortSecret));
    assert!(Key::read(Algorithm::Hs256, &"x".repeat(32)).is_ok());
}

#[test]
fn the_claims_are_what_was_verified() {
    let scopes = ["a:b".into(), "c".into()];
    let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_999);
    let token = assertion(ed25519(SEED)).state(&Request { scopes: &scopes, ..request() }, now);
    assert!(token.is_sensitive());
    let token = token.to_str().expect("ASCII");
    let [header, claims, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!("{token}") };
    let json = |part| serde_json::from_slice::<Value>(&decoded(part)).expect("JSON");
    assert_eq!(json(header), json!({"alg": "EdDSA", "kid": "k1", "typ": "JWT"}));
    assert_eq!(
        json(claims),
        json!({
            "iss": "keyward", "aud": "ai", "iat": 1_700_000_000, "exp": 1_700_000_060, "jti": "t-1",
            "key_id": "api_key_1", "org_code": "org_a", "scopes": ["a:b", "c"], "route": "chat",
            "method": "POST", "path": "/ai/chat?q=1", "request_id": "r-1",
            "body_sha256": "RBNvo1WzZ4oRRq0W9-hknpT7T8If536DEMBg9hyq_4o",
        })
    );
    let public: [u8; 32] = decoded(PUBLIC).try_into().expect("32 bytes");
    let public = VerifyingKey::from_bytes(&public).expect("a key");
    let signature = Signature::from_slice(&decoded(signature)).expect("a signature");
    public.verify(format!("{header}.{claims}").as_bytes(), &signature).expect("signed with the private key");
}

#[test]
fn a_body_is_named_only_where_it_is_known() {
    let body = |body| {
        let token = assertion(ed25519(SEED)).state(&Request { body, ..request() }, SystemTime::UNIX_EPOCH);
        let claims = token.to_str().expect("ASCII").split('.').nth(1).expect("claims").to_owned();
        serde_json::from_slice::<Value>(&decoded(&claims)).expect("JSON").get("body_sha256").cloned()
    };
    assert_eq!(body(None), None);
    assert_eq!(body(Some(b"")), Some(json!("47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU")));
}

#[test]
fn an_hmac_is_the_one_of_rfc_7515() {
    // RFC 7515 Appendix A.1, whose secret is no text; the same computation with one that is.
    let key = Key::read(Algorithm::Hs256, "0123456789abcdef0123456789abcdef").expect("a secret");
    let mut mac = Hmac::<Sha256>::new_from_slice(b"0123456789abcdef0123456789abcdef").expect("any length");
    mac.update(b"a.b");
    assert_eq!(decoded(&key.sign(b"a.b")), mac.finalize().into_bytes().to_vec());
}

#[test]
fn the_key_set_has_public_keys_only() {
    let (public, secret) = (ed25519(SEED), Key::read(Algorithm::Hs256, &"s3cret".repeat(8)).expect("a secret"));
    let set = key_set([("new", &public), ("shared", &secret)].into_iter());
    let expected = json!({"keys": [
        {"kty": "OKP", "crv": "Ed25519", "x": PUBLIC, "kid": "new", "alg": "EdDSA", "use": "sig"},
    ]});
    assert_eq!(serde_json::from_str::<Value>(&set).expect("JSON"), expected);
    assert!(!format!("{public:?}{secret:?}").contains("s3cret"));
}
