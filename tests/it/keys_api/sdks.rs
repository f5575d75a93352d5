//! Kinde's official SDKs, unmodified, against the key service.

use std::process::Command;

use serde_json::{Value, json};

use super::{ADMIN, Keys};
use crate::harness::{Authority, node_packages, python, repository};
use keyward::time::Clock;

/// Runs an SDK's script against a service of its own; what it says of each step.
async fn drive(mut command: Command) -> Value {
    let authority = Authority::new();
    let own = authority.certify(&["127.0.0.1"]);
    let files = [("ca.pem", authority.pem()), ("tls.crt", own.cert), ("tls.key", own.key)];
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let keys = Keys::serving("tls: {cert: {file: tls.crt}, key: {file: tls.key}}", Clock::system(), &files).await;
    let ca = keys.dir.path().join("ca.pem");
    for trust in ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"] {
        command.env(trust, &ca);
    }
    command.args([&keys.address.to_string(), "admin", ADMIN]);
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("it runs");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let stdout = String::from_utf8(output.stdout).expect("text");
    serde_json::from_str(stdout.lines().last().expect("a line")).expect("JSON")
}

/// What both SDKs must see.
fn expected() -> Value {
    json!({
        "created": ["API_KEY_CREATED", true],
        "listed": [["sdk", "organization", "active"], false],
        "got": ["sdk", "org_1", ["read:users"], ["an_api"]],
        "verified": ["API_KEY_VERIFIED", true, "active", "org_1", ["read:users"]],
        "rotated": ["API_KEY_ROTATED", true, true],
        "former": [false],
        "present": [true],
        "deleted": ["OK"],
        "after": [false, "revoked"],
        "missing": 404,
        "bad": 400,
    })
}

#[tokio::test]
async fn the_python_sdk() {
    let mut command = Command::new(python());
    command.arg(repository().join("tests/it/keys_api/sdk.py"));
    assert_eq!(drive(command).await, expected());
}

#[tokio::test]
async fn the_node_sdk() {
    let mut command = Command::new("node");
    command.arg(repository().join("tests/it/keys_api/sdk.mjs")).arg(node_packages());
    assert_eq!(drive(command).await, expected());
}
