//! Secrets come from outside of the file, and never leave in a mistake.

use super::*;

#[test]
fn secrets_are_read_from_the_environment_and_from_files() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(directory.path().join("token"), "from a file\r\n").expect("written");
    for (token, expected) in [("{env: TOKEN}", "s3cret"), ("{file: token}", "from a file")] {
        let text = complete(&format!("admin: {{address: 127.0.0.1:9901, token: {token}}}"));
        let compiled = compile_text("f", &text, directory.path(), &env, &Overrides::default())
            .unwrap_or_else(|mistakes| panic!("{mistakes}"));
        let admin = compiled.process.admin.as_ref().expect("an admin port");
        assert_eq!(admin.token.expose(), expected);
        assert!(!format!("{compiled:?}").contains(expected), "Debug shows no secret");
    }
}

#[test]
fn secrets_that_cannot_be_had() {
    let literal = "a secret is never written in this file | write `{file: PATH}` or `{env: NAME}`, and change the secret \
                   if this file was shared";
    for (token, expected) in [
        ("hunter2", format!("1:41 admin.token: {literal}")),
        ("12345678", format!("1:41 admin.token: {literal}")),
        ("[hunter2]", format!("1:41 admin.token: {literal}")),
        ("{env: NOBODY}", "1:47 admin.token.env: this environment variable is not set".to_owned()),
        ("{env: EMPTY}", "1:47 admin.token.env: the value of this environment variable is empty".to_owned()),
        (
            "{env: LINES}",
            "1:47 admin.token.env: the value of this environment variable is not one line of printable ASCII"
                .to_owned(),
        ),
        (
            "{file: nobody}",
            "1:48 admin.token.file: cannot read /etc/keyward/nobody: No such file or directory (os error 2)".to_owned(),
        ),
        ("{env: TOKEN, file: x}", "1:41 admin.token: expected either `env` or `file`, found both".to_owned()),
        ("{}", "1:41 admin.token: expected `{file: PATH}` or `{env: NAME}`".to_owned()),
    ] {
        assert_told(&format!("admin: {{address: 127.0.0.1:9901, token: {token}}}"), &[&expected]);
    }
}

/// However the secret got there, and whatever else is wrong beside it.
#[test]
fn no_mistake_shows_a_secret() {
    for text in [
        "admin: {address: nowhere, token: hunter2, tokn: hunter2, prot: 1}",
        "admn: {token: hunter2}",
        "admin: {address: 127.0.0.1:1, token: {literal: hunter2}}",
        "admin:\n  token: |\n    hunter2\n    hunter2\n  token: >-\n    hunter2",
        "x: &t hunter2\nadmin: {address: 127.0.0.1:1, token: *t}",
        "keys: {kinde: {client_id: x, client_secret: hunter2}}",
        "keys: {store: {url: \"postgres://keyward:hunter2@db/keys\"}}",
        "keys: {store: {url: \"mysql://keyward:hunter2@db/keys\"}}",
        "upstreams: {ai: {endpoints: [\"http://ai:hunter2@host\"]}}",
        "upstreams: {ai: {endpoints: [http://h], headers: {set: {Authorization: Bearer hunter2}}}}",
        "upstreams: {ai: {endpoints: [http://h], headers: {set: {X-Api-Key: hunter2, X-Org-Code: a}}}}",
        "upstreams: {ai: {endpoints: [http://h], assertion: {key: hunter2, key_id: k, prot: 1}}}",
        "upstreams: {ai: {endpoints: [http://h], assertion: {key_id: k, previous: {key_id: x, key: hunter2}}}}",
        // Not even when the file is no YAML.
        "admin:\n  token: \"hunter2\n",
        "admin:\n  token: \"first\n    hunter2: [\n",
        "admin: {token: hunter2, [}",
        "admin:\n  token:\n    hunter2: x: y",
        "keys: {url: http://keyward:hunter2@x, [}",
        "{\n\"token\":\n\"hunter2\" [\n",
    ] {
        let report = refused(text).to_string();
        assert!(!report.contains("hunter2"), "{text}\n{report}");
    }
}

#[test]
fn a_masked_line_keeps_its_shape() {
    let report = refused("admin: {address: nowhere, token: hunter2} # see the docs").to_string();
    assert!(report.contains("  1 | admin: {address: nowhere, token: *******} # see the docs\n"), "{report}");
}

#[test]
fn names_that_only_look_like_secrets_are_shown() {
    let report = refused("rules: [{id: a, pattern: x, examples: {pass: [axa]}}]").to_string();
    assert!(report.contains("pass: [axa]"), "{report}");
}
