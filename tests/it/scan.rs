//! `keyward scan`: a filter that people and scripts use.

use std::io::{Read, Write};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::harness::{keyward, repository};

/// Runs `keyward scan` on an input to its end.
fn scan(arguments: &[&str], input: &[u8]) -> Output {
    let mut command = keyward();
    command.current_dir(repository()).arg("scan").args(arguments);
    let mut child = piped(&mut command).spawn().expect("keyward runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    std::thread::scope(|scope| {
        // It may stop reading early, at a hit.
        scope.spawn(move || drop(stdin.write_all(input)));
        child.wait_with_output().expect("it ends")
    })
}

fn piped(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped())
}

fn line(output: &Output) -> Value {
    let text = String::from_utf8(output.stderr.clone()).expect("text");
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn exit_codes_and_the_line_tell_the_verdict() {
    for (arguments, input, code, out, verdict) in [
        (&["--format", "text"][..], "fine", 0, "fine", "clean"),
        (&[], "bad <script>alert(1)</script>", 1, "bad ", "blocked"),
        (&["--action", "redact"], "bad <script>!", 1, "bad [removed]!", "redacted"),
        (&["--preset", "seed", "--direction", "request", "--action", "sanitize"], "a onx = b", 1, "a  b", "sanitized"),
        (&["--action", "observe"], "<script>", 1, "<script>", "observed"),
        (&["--rule", "b+", "--rule", "c"], "abbbc", 1, "a", "blocked"),
        (&["--preset", "secrets", "--rule", "x", "--chunk", "random:3"], "axe", 1, "a", "blocked"),
        (&["--rule", "x"], "<script> is not looked for", 0, "<script> is not looked for", "clean"),
    ] {
        let output = scan(arguments, input.as_bytes());
        let line = line(&output);
        assert_eq!((output.status.code(), &line["verdict"]), (Some(code), &json!(verdict)), "{arguments:?} {line}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), out, "{arguments:?}");
    }
    let clean = scan(&["--format", "text"], b"fine");
    let whole = r#"{"verdict":"clean","hits":[],"held_max":0,"released":4}"#;
    assert_eq!(String::from_utf8_lossy(&clean.stderr).trim_end(), whole);
    let hits = line(&scan(&["--rule", "b+", "--rule", "c", "--action", "redact"], b"abbbc"))["hits"].clone();
    let hit = |rule: &str, start: u64, end: u64| json!({"rule": rule, "start": start, "end": end, "channel": "text"});
    assert_eq!(hits, json!([hit("rule-1", 1, 4), hit("rule-2", 4, 5)]));
}

#[test]
fn mistakes_are_told_and_have_a_code_of_their_own() {
    for (arguments, message) in [
        (&["--rule", "a(b"][..], "keyward: rule `rule-1`: unclosed group (at byte 1 of the pattern)\n"),
        (&["--rule", "a*"], "keyward: rule `rule-1`: the pattern matches the empty text\n"),
        (
            &["--preset", "htm"],
            "keyward: --preset: there is no `htm`; there are `seed`, `html`, `secrets`, `context`\n",
        ),
        (
            &["--format", "ndjson", "--action", "sanitize"],
            "keyward: a stream cannot be sanitized: use `--action redact`\n",
        ),
        (&["--format", "json"], "keyward: the input is not JSON: unexpected character at byte 0\n"),
    ] {
        let output = scan(arguments, b"x");
        assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(2), message));
        assert_eq!(output.stdout, b"", "{arguments:?}");
    }
    for arguments in [&["--chunk", "0"][..], &["--action", "remove"], &["--format", "xml"], &["--direction", "up"]] {
        assert_eq!(scan(arguments, b"").status.code(), Some(2), "{arguments:?}");
    }
    let missing = scan(&["--config", "nowhere.yaml"], b"");
    assert_eq!(missing.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("nowhere.yaml"));
}

#[test]
fn a_configuration_brings_its_rules_its_actions_and_its_limits() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = "
upstreams: {ai: {endpoints: ['http://127.0.0.1:1']}}
rules: [{id: codename, pattern: '(?i)bluebird'}, {id: other, pattern: 'heron'}]
defaults: {upstream: ai, request: {rules: [codename], action: redact, max_chars: 12}, response: {rules: [codename, other]}}
routes: [{id: r, path: /r, public: true}]
";
    let path = dir.path().join("proxy.yaml");
    std::fs::write(&path, config).expect("a file");
    let path = path.to_str().expect("a path");
    for (arguments, input, code, out) in [
        (&[][..], "the Bluebird", 1, "the "),
        (&[], "the heron", 1, "the "),
        (&["--direction", "request"], "Bluebird!", 1, "[removed]!"),
        (&["--direction", "request"], "a long text of words", 1, "a long text "),
        (&["--preset", "other"], "the Bluebird and the heron", 1, "the Bluebird and the "),
        (&["--direction", "request", "--action", "observe"], "a Bluebird", 1, "a Bluebird"),
    ] {
        let output = scan(&[&["--config", path], arguments].concat(), input.as_bytes());
        assert_eq!(output.status.code(), Some(code), "{arguments:?} {input}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), out, "{arguments:?}");
    }
    // The examples in the repository are configurations that can be scanned by.
    assert_eq!(scan(&["--config", "proxy.yaml"], b"fine").status.code(), Some(0));
}

/// An input without an end takes no more memory after much of it than after little, and ends with its reader.
#[test]
fn an_endless_input_takes_constant_memory() {
    const MEBIBYTE: u64 = 1 << 20;
    let mut command = keyward();
    command.args(["scan", "--rule", "zebra", "--action", "redact"]);
    let mut child = piped(&mut command).spawn().expect("keyward runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    let mut stdout = child.stdout.take().expect("a pipe");
    // Ends when nobody reads it any more.
    let writer = std::thread::spawn(move || {
        let piece = b"a zebra and zeb".repeat(4096);
        while stdin.write_all(&piece).is_ok() {}
    });
    let mut buffer = vec![0; 1 << 16];
    let mut read = |bytes: u64| {
        let mut rest = bytes;
        while rest > 0 {
            let some = stdout.read(&mut buffer).expect("it writes") as u64;
            assert_ne!(some, 0, "it ended");
            rest = rest.saturating_sub(some);
        }
        peak(child.id())
    };
    let before = read(2 * MEBIBYTE);
    let after = read(32 * MEBIBYTE);
    assert!(after < before + MEBIBYTE, "{before} {after}");
    drop(stdout);
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("it ends too");
    let message = "keyward: nobody reads standard output any more: stopped before the end\n";
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(2), message));
}

/// The most memory that a process has had so far, in bytes.
fn peak(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}
