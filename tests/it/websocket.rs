//! The library `websockets` on both sides: what one end says, the other end hears, as if nothing were between them.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{Process, Proxy, python, repository};

const CONFIG: &str = "
defaults: {upstream: ai, request: {rules: []}, response: {rules: []}}
routes:
  - {id: open, path: /open/**, upgrade: [websocket]}
  - {id: scanned, path: /scanned/**, upgrade: [websocket], request: {rules: [html]}, response: {rules: [html]}}
";

fn script(arguments: &[&str]) -> Command {
    let mut command = Command::new(python());
    command.arg(repository().join("tests/it/websocket.py")).args(arguments).stdin(Stdio::null());
    command
}

#[tokio::test]
async fn ten_thousand_messages_pings_fragments_and_every_way_to_end() {
    let service = Process::start(&mut script(&["serve"]));
    let proxy = Proxy::builder_to(service.announced_address("listening")).config(CONFIG).start().await;
    let mut client = script(&["client", &format!("ws://{}", proxy.address), &proxy.user_key]);
    // The proxy accepts on this thread.
    let ran = tokio::task::spawn_blocking(move || client.output()).await.expect("no panic");
    let output = ran.expect("Python runs");
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    let expected = json!({
        "deflated extensions": ["permessage-deflate"],
        "deflated in order": 10_000, "deflated large": true, "deflated ping": true, "deflated closed": [1000, ""],
        "plain extensions": [],
        "plain in order": 10_000, "plain large": true, "plain ping": true, "plain closed": [1000, ""],
        // The library ends a message in fragments with an empty one. The service counted four, and sent them back so.
        "fragments": ["4", "one ", "two ", "three", "", ""],
        "pinged": "ponged",
        "service closed": [4001, "service bye"],
        "service aborted": [1006, ""],
        "subprotocol": "chat",
        "scanned extensions": [],
        "scanned in order": 10_000,
        "scanned fragments": "a fragmented message",
        "refused": "AI_INPUT_BLOCKED",
        "refused closed": [1008, "AI_INPUT_BLOCKED"],
    });
    assert_eq!(seen, expected, "{}", service.said());
    for line in [
        "closed /open/ping 4000 client bye",
        "closed /open/close 4001 service bye",
        "closed /open/left 1006",
        "closed /scanned/echo 1001",
    ] {
        service.wait_for(line);
    }
    assert_eq!(proxy.metric("keyward_websockets{route=\"open\"}").await, 0.0);
    let (_, records) = proxy.stop().await;
    let of = |path: &str| {
        let found: Vec<&Value> = records.iter().filter(|record| record["path"] == path).collect();
        found
            .iter()
            .map(|record| (record["outcome"].as_str().unwrap_or_default(), record["status"].as_u64()))
            .collect::<Vec<_>>()
    };
    assert_eq!(records.len(), 9, "{records:#?}");
    assert_eq!(of("/open/ping"), [("complete", Some(101))]);
    assert_eq!(of("/open/close"), [("complete", Some(101))]);
    assert_eq!(of("/open/abort"), [("upstream_aborted", Some(101))]);
    assert_eq!(of("/open/left"), [("client_closed", Some(101))]);
    assert_eq!(of("/scanned/echo"), [("aborted", Some(101))]);
    let scanned = records.iter().find(|record| record["route"] == "scanned").expect("a record");
    assert_eq!(scanned["refusal"], "AI_INPUT_BLOCKED");
    assert_eq!(scanned["request_messages"], 10_001, "the harmful one is not among them");
    assert_eq!(scanned["response_messages"], 10_001);
    assert_eq!(scanned["rules"][0]["rule"], "html-javascript-url");
}
