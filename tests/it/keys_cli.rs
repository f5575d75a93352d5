//! `keyward keys` as its user meets it: what each command says to people and to programs, and what is refused how.

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use keyward::keys::looks_valid;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::harness::keyward_in;

/// An id that no store has.
const NOBODY: &str = "api_key_0195ac80a14e8d71f42b98e75d3c61ad";

const CONFIG: &str = "
upstreams: {ai: {endpoints: ['http://127.0.0.1:1']}}
keys: {store: {url: 'sqlite://keys.db'}}
routes: [{id: all, path: /**, upstream: ai, public: true}]
";

/// A configuration with a store of its own, which is not made yet.
struct Place(TempDir);

/// How a command ended and what it said.
#[derive(Debug, PartialEq)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().expect("a directory"));
        place.file("proxy.yaml", CONFIG);
        place
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.0.path().join(name), content).expect("a file");
    }

    fn store(&self) -> PathBuf {
        self.0.path().join("keys.db")
    }

    fn keys(&self, arguments: &[&str]) -> Said {
        let Output { status, stdout, stderr } = keyward_in(self.0.path(), &[&["keys"], arguments].concat());
        let text = |bytes| String::from_utf8(bytes).expect("text");
        Said { code: status.code(), out: text(stdout), err: text(stderr) }
    }

    /// What a command that works says.
    fn out(&self, arguments: &[&str]) -> String {
        let said = self.keys(arguments);
        assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{arguments:?}");
        said.out
    }

    /// The one line of JSON that a command that works says.
    fn json(&self, arguments: &[&str]) -> Value {
        let line = self.out(&[arguments, &["--json"]].concat());
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        serde_json::from_str(&line).expect("JSON")
    }

    /// What a command that fails says; it writes nothing to standard output.
    fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let said = self.keys(arguments);
        assert_eq!((said.code, said.out.as_str()), (Some(code), ""), "{arguments:?}: {}", said.err);
        said.err
    }

    /// Makes a key; its id and text.
    fn create(&self, arguments: &[&str]) -> (String, String) {
        let made = self.json(&[&["create"], arguments].concat());
        (text(&made["id"]), text(&made["key"]))
    }

    fn show(&self, id: &str) -> Value {
        self.json(&["show", id])
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("text").to_owned()
}

/// A table with its dates and ids replaced, which differ from run to run.
fn masked(table: &str, known: &[(&str, &str)]) -> String {
    let date = regex::Regex::new(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z").expect("a pattern");
    let table = date.replace_all(table, "DATE").into_owned();
    known.iter().fold(table, |table, (from, to)| table.replace(from, to))
}

#[test]
fn everything_that_is_known_of_a_key_is_shown_and_never_the_key() {
    let place = Place::new();
    let (id, key) = place.create(&[
        "--name",
        "Größe 試験",
        "--org-code",
        "org_a",
        "--user-id",
        "kp_1",
        "--scope",
        "write:ai_chat",
        "--scope",
        "read:x",
        "--expires",
        "90d",
        "--allow-from",
        "10.1.2.3/8",
        "--allow-from",
        "2001:db8::/32",
        "--allow-from",
        "192.0.2.7",
        "--limit",
        "100/1m30s",
        "--meta",
        "plan=gold",
        "--meta",
        "note=a=b ü",
        "--created-by",
        "Zoë",
    ]);
    let shown = place.show(&id);
    let mut expected = json!({
        "id": id, "name": "Größe 試験", "type": "user", "status": "active", "key_prefix": "kw_live",
        "key_suffix": key[key.len() - 4..], "created_by": "Zoë", "last_verified_on": null, "last_verified_ip": null,
        "verification_count": 0, "api_ids": [], "scopes": ["write:ai_chat", "read:x"], "organization_id": "org_a", "user_id": "kp_1",
        "rotated_on": null, "grace_until": null, "revoked_on": null, "revoked_reason": null,
        "allow_from": ["10.0.0.0/8", "2001:db8::/32", "192.0.2.7/32"], "limit": {"requests": 100, "per_ms": 90000},
        "metadata": {"plan": "gold", "note": "a=b ü"},
    });
    for date in ["created_on", "expires_on"] {
        assert!(humantime::parse_rfc3339(&text(&shown[date])).is_ok(), "{shown}");
        expected[date] = shown[date].clone();
    }
    assert_eq!(shown, expected);
    let hint = format!("kw_live…{}", &key[key.len() - 4..]);
    let known = [(id.as_str(), "ID"), (hint.as_str(), "HINT")];
    let page = masked(&place.out(&["show", &id]), &known);
    let facts: Vec<Vec<&str>> = page.lines().map(|line| line.splitn(2, ' ').map(str::trim).collect()).collect();
    let expected = [
        ["id", "ID"],
        ["name", "Größe 試験"],
        ["owner", "org:org_a user:kp_1"],
        ["scopes", "write:ai_chat read:x"],
        ["status", "active"],
        ["key", "HINT"],
        ["created", "DATE by Zoë"],
        ["expires", "DATE"],
        ["used", "0 times"],
        ["from", "10.0.0.0/8 2001:db8::/32 192.0.2.7/32"],
        ["limit", "100 per 1m 30s"],
        ["meta", "note=a=b ü"],
        ["meta", "plan=gold"],
    ];
    assert_eq!(facts, expected, "{page}");

    let rotated = place.out(&["rotate", &id, "--grace", "1h"]);
    let new = rotated.split_whitespace().find(|word| looks_valid(word)).expect("a key").to_owned();
    assert_eq!(
        masked(&rotated, &[(&id, "ID"), (&new, "KEY")]),
        "id      ID\nkey     KEY\n\nKeep the key in a safe place now: it is not stored and will not be shown again.\n\
         The former key opens the same until DATE.\n"
    );
    assert!(place.out(&["rotate", &id]).ends_with("The former key opens nothing any more.\n"));
    let shown = place.show(&id);
    assert!(shown["rotated_on"].is_string() && shown["grace_until"].is_null(), "{shown}");
    let twice = place.json(&["rotate", &id, "--grace", "1h"]);
    assert_eq!(twice.as_object().expect("an object").keys().collect::<Vec<_>>(), ["id", "key"]);
    assert!(place.show(&id)["grace_until"].is_string());

    assert_eq!(
        place.out(&["revoke", &id, "--reason", "left ü"]),
        format!("Revoked the key {id}. It opens nothing any more.\n")
    );
    let shown = place.show(&id);
    assert_eq!((&shown["status"], &shown["revoked_reason"]), (&json!("revoked"), &json!("left ü")));
    assert!(
        masked(&place.out(&["show", &id]), &known).contains("revoked   DATE: left ü\n"),
        "{}",
        place.out(&["show", &id])
    );
    let secrets =
        [&key, &new, &text(&twice["key"])].map(|key| key.rsplit('_').next().expect("a secret")[..20].to_owned());
    for arguments in [&["list"][..], &["list", "--json"], &["show", &id], &["show", &id, "--json"]] {
        let said = place.out(arguments);
        assert!(secrets.iter().all(|secret| !said.contains(secret)), "{said}");
    }
}

#[test]
fn lists_are_filtered_and_paged() {
    let place = Place::new();
    let (a, _) = place.create(&["--name", "A 1", "--org", "org_a"]);
    let (b, _) = place.create(&["--name", "A ü", "--user", "kp_1"]);
    let (c, _) = place.create(&["--name", "B", "--org-code", "org_a", "--user-id", "kp_2", "--expires", "1ms"]);
    place.json(&["revoke", &b]);
    let ids = |arguments: &[&str]| {
        let list = place.json(&[&["list"], arguments].concat());
        list.as_array().expect("a list").iter().map(|key| text(&key["id"])).collect::<Vec<_>>()
    };
    for (arguments, wanted) in [
        (&[][..], vec![&a, &b, &c]),
        (&["--org", "org_a"], vec![&a, &c]),
        (&["--user-id", "kp_1"], vec![&b]),
        (&["--org-code", "org_a", "--user", "kp_2"], vec![&c]),
        (&["--name-prefix", "A"], vec![&a, &b]),
        (&["--name-prefix", "A ü"], vec![&b]),
        (&["--name-prefix", "a"], vec![]),
        (&["--name-prefix", "%"], vec![]),
        (&["--status", "active"], vec![&a]),
        (&["--status", "revoked"], vec![&b]),
        (&["--status", "expired"], vec![&c]),
        (&["--count", "2"], vec![&a, &b]),
        (&["--after", &a, "--count", "1"], vec![&b]),
        (&["--after", &c], vec![]),
    ] {
        assert_eq!(ids(arguments), wanted.into_iter().cloned().collect::<Vec<_>>(), "{arguments:?}");
    }
    let first = place.out(&["list", "--count", "2"]);
    assert!(first.ends_with(&format!("There are more: --after {b}\n")), "{first}");
    assert_eq!(place.out(&["list", "--org", "org_x"]), "There are no such keys.\n");
    assert_eq!(place.json(&["list", "--org", "org_x"]), json!([]));
}

#[test]
fn what_is_wrong_is_said_exactly() {
    let place = Place::new();
    let missing = "keyward: cannot open the key store keys.db: there is no such file; correct `keys.store.url`, or create \
                   a first key to create the store\n";
    for arguments in [
        &["list"][..],
        &["show", NOBODY],
        &["rotate", NOBODY],
        &["revoke", NOBODY],
        &["peppers"],
        &["prune", "--older-than", "1d"],
    ] {
        assert_eq!(place.fails(1, arguments), missing, "{arguments:?}");
    }
    assert!(!place.store().exists());

    let (id, key) = place.create(&["--name", "n", "--org-code", "o"]);
    let unknown = format!("keyward: the key store keys.db has no key {NOBODY}; `keyward keys list` shows the ids\n");
    for command in ["show", "rotate", "revoke"] {
        assert_eq!(place.fails(1, &[command, NOBODY]), unknown);
        for no_id in [&key, "", "x", "api_key_"] {
            let message = place.fails(1, &[command, no_id]);
            assert!(
                message.ends_with("; `keyward keys list` shows the ids\n") && !message.contains(&key[8..]),
                "{message}"
            );
        }
    }
    for (code, message, arguments) in [
        (
            1,
            "the name must be 1 to 200 characters, not all blank, without control characters, line separators or bidirectional overrides",
            &["--name", "a\u{202e}b", "--org-code", "o"][..],
        ),
        (1, "a key needs an owner: give --org-code CODE, --user-id ID, or both", &["--name", "n"]),
        (
            1,
            "the organization code must be 1 to 256 visible ASCII characters without spaces at its ends",
            &["--name", "n", "--org-code", ""],
        ),
        (
            1,
            "the expiry must lie in the future, before the year 10000",
            &["--name", "n", "--org-code", "o", "--expires", "0s"],
        ),
        (
            2,
            "invalid value '5 days' for '--expires <DURATION>': expected a duration such as `500ms`, `15m` or `90d`; did you mean `5d`?",
            &["--name", "n", "--org-code", "o", "--expires", "5 days"],
        ),
        (
            2,
            "invalid value '10.0.0.0/33' for '--allow-from <CIDR>': expected an address range such as 10.0.0.0/8",
            &["--name", "n", "--org-code", "o", "--allow-from", "10.0.0.0/33"],
        ),
        (
            2,
            "invalid value '100' for '--limit <N/DURATION>': expected requests per duration, such as 100/1m",
            &["--name", "n", "--org-code", "o", "--limit", "100"],
        ),
        (
            2,
            "invalid value '-1/1m' for '--limit <N/DURATION>': expected requests per duration, such as 100/1m",
            &["--name", "n", "--org-code", "o", "--limit=-1/1m"],
        ),
        (
            2,
            "invalid value '0/1m' for '--limit <N/DURATION>': a limit is 1 to 1000000000 requests per 1ms to 365d, such as 100/1m",
            &["--name", "n", "--org-code", "o", "--limit", "0/1m"],
        ),
        (
            2,
            "invalid value '1/366d' for '--limit <N/DURATION>': a limit is 1 to 1000000000 requests per 1ms to 365d, such as 100/1m",
            &["--name", "n", "--org-code", "o", "--limit", "1/366d"],
        ),
        (
            2,
            "invalid value 'gold' for '--meta <NAME=VALUE>': expected NAME=VALUE, such as plan=gold",
            &["--name", "n", "--org-code", "o", "--meta", "gold"],
        ),
        (
            1,
            "metadata has at most 32 entries: names of 1 to 64 letters, digits, `_`, `-` and `.`, values of up to 500 characters without control characters",
            &["--name", "n", "--org-code", "o", "--meta", "a b=c"],
        ),
        (1, "metadata has two values for `a`", &["--name", "n", "--org-code", "o", "--meta", "a=b", "--meta", "a=c"]),
        (
            1,
            "the creator must be 1 to 200 characters, not all blank, without control characters, line separators or bidirectional overrides",
            &["--name", "n", "--org-code", "o", "--created-by", " "],
        ),
    ] {
        let said = place.fails(code, &[&["create"], arguments].concat());
        let first = said.lines().next().expect("a line");
        let prefix = if code == 1 { "keyward: " } else { "error: " };
        assert_eq!(first, format!("{prefix}{message}"), "{arguments:?}");
    }
    assert_eq!(place.json(&["list"]).as_array().map(Vec::len), Some(1), "nothing was made");

    let said = place.fails(2, &["rotate", &id, "--grace", "366d"]);
    assert!(
        said.starts_with("error: invalid value '366d' for '--grace <DURATION>': the longest grace time is 365d\n"),
        "{said}"
    );
    assert_eq!(
        place.fails(1, &["revoke", &id, "--reason", "a\nb"]),
        "keyward: the reason must be 1 to 200 characters, not all blank, without control characters, line separators or \
         bidirectional overrides\n"
    );
    for _ in 0..7 {
        place.json(&["rotate", &id, "--grace", "1h"]);
    }
    assert_eq!(
        place.fails(1, &["rotate", &id, "--grace", "1h"]),
        format!(
            "keyward: too many former texts of the key {id} are in their grace time; a rotation without --grace ends them\n"
        )
    );
    place.json(&["rotate", &id]);

    let first = place.json(&["revoke", &id, "--reason", "first"]);
    assert_eq!((&first["status"], &first["already_revoked"]), (&json!("revoked"), &json!(false)));
    let again = place.json(&["revoke", &id, "--reason", "second"]);
    assert_eq!((&again["revoked_on"], &again["already_revoked"]), (&first["revoked_on"], &json!(true)));
    assert_eq!(place.show(&id)["revoked_reason"], "first");
    assert_eq!(
        masked(&place.fails(1, &["rotate", &id]), &[(&id, "ID")]),
        "keyward: the key ID was revoked on DATE; make another with `keyward keys create`\n"
    );
    let (old, _) = place.create(&["--name", "n", "--org-code", "o", "--expires", "1ms"]);
    assert_eq!(
        masked(&place.fails(1, &["rotate", &old]), &[(&old, "ID")]),
        "keyward: the key ID has expired on DATE; make another with `keyward keys create`\n"
    );
    for (arguments, what) in [
        (&["purge"][..], "the following required arguments were not provided"),
        (&["purge", "--all", "--key", NOBODY], "cannot be used with"),
        (&["list", "--count", "0"], "0 is not in 1..=100000"),
        (&["list", "--status", "lost"], "[possible values: active, revoked, expired]"),
        (&["prune"], "--older-than <DURATION>"),
        (&["shwo", NOBODY], "a similar subcommand exists: 'show'"),
    ] {
        let said = place.fails(2, arguments);
        assert!(said.contains(what), "{said}");
    }
    assert_eq!(place.fails(1, &["purge", "--all"]), "keyward: the configuration has no `admin` to ask\n");
    let said = place.fails(1, &["purge", "--key", &key]);
    assert!(said.contains("`keyward keys list` shows the ids") && !said.contains(&key[8..]), "{said}");
}

#[test]
fn old_records_are_pruned_and_no_others() {
    let place = Place::new();
    let (kept, _) = place.create(&["--name", "kept", "--org-code", "o"]);
    let (revoked, _) = place.create(&["--name", "revoked", "--org-code", "o"]);
    place.create(&["--name", "expired", "--org-code", "o", "--expires", "1ms"]);
    place.json(&["revoke", &revoked]);
    assert_eq!(place.out(&["prune", "--older-than", "1d"]), "Deleted the records of 0 keys.\n");
    assert_eq!(place.json(&["prune", "--older-than", "0s"]), json!({"deleted": 2}));
    let left = place.json(&["list"]);
    assert_eq!(left.as_array().expect("a list").iter().map(|key| text(&key["id"])).collect::<Vec<_>>(), [kept]);
    assert!(place.fails(1, &["show", &revoked]).contains("has no key"));
}

fn sha256(key: &str) -> String {
    Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn line(key: &str, name: &str) -> String {
    json!({"sha256": sha256(key), "name": name, "org_code": "o"}).to_string()
}

#[test]
fn a_list_is_imported_as_a_whole_in_every_spelling_of_a_text_file() {
    let place = Place::new();
    place.file("keys.jsonl", format!("\u{feff}{}\r\n\r\n{}", line("sk-1", "ü"), line("sk-2", "b")));
    let quoted = format!(
        "\u{feff}name,sha256,scopes,user_id,allow_from,expires_on\r\n\"c, \"\"d\"\"\",{},a b,u,10.0.0.1 ::1/128,\r\n",
        sha256("sk-3")
    );
    place.file("keys.csv", quoted);
    assert_eq!(place.json(&["import", "keys.jsonl"]), json!({"added": 2, "known": 0}));
    assert_eq!(place.out(&["import", "keys.csv"]), "Imported 1 keys; 0 were there already and stayed as they were.\n");
    let list = place.json(&["list", "--name-prefix", "c"]);
    let csv = &list[0];
    assert_eq!(
        [&csv["name"], &csv["scopes"], &csv["user_id"], &csv["allow_from"], &csv["key_suffix"], &csv["expires_on"]],
        [
            &json!("c, \"d\""),
            &json!(["a", "b"]),
            &json!("u"),
            &json!(["10.0.0.1/32", "::1/128"]),
            &json!(""),
            &json!(null)
        ]
    );
    // Again, with one more: what is there stays as it is, whatever became of it, and whatever the list says now.
    let id = text(&csv["id"]);
    place.json(&["revoke", &id]);
    place.file("keys.jsonl", [line("sk-1", "other"), line("sk-3", "other"), line("sk-4", "e")].join("\n"));
    assert_eq!(place.json(&["import", "keys.jsonl"]), json!({"added": 1, "known": 2}));
    assert_eq!(place.show(&id)["status"], "revoked");
    assert_eq!(place.json(&["list"]).as_array().map(Vec::len), Some(4));
    place.file("empty", "");
    assert_eq!(place.json(&["import", "empty"]), json!({"added": 0, "known": 0}));
}

#[test]
fn a_bad_list_is_refused_as_a_whole_by_its_lines() {
    let place = Place::new();
    let good = line("sk-1", "n");
    let failed = |content: &[u8]| {
        place.file("list", content);
        let said = place.fails(1, &["import", "list"]);
        assert!(!said.contains("sk-secret"), "{said}");
        assert!(!place.store().exists(), "nothing is made for a bad list");
        said.strip_prefix("keyward: nothing was imported:\n").unwrap_or_else(|| panic!("{said}")).to_owned()
    };
    let bad = |line: &str| failed(format!("{good}\n{line}\n{good}\n").as_bytes());
    let twice = "  line 3: this key stands on line 1 already\n";
    for (second, message) in [
        (
            r#"{"sha256": "sk-secret", "name": "n", "org_code": "o"}"#,
            "`sha256` must be 64 hex digits, and never the key itself",
        ),
        (r#"{"name": "n", "org_code": "o"}"#, "`sha256` is missing: the SHA-256 of the whole key, as 64 hex digits"),
        (r#"{"key": "sk-secret"}"#, "a field is unknown, missing or of another type (column 6)"),
        ("sk-secret", "no JSON (column 1)"),
        (
            &line("sk-2", "n").replace(r#""o""#, r#""""#),
            "the organization code must be 1 to 256 visible ASCII characters without spaces at its ends",
        ),
        (
            &line("sk-2", "n").replace("\"name\"", "\"expires_on\": \"tomorrow\", \"name\""),
            "`expires_on` must be a moment in UTC such as 2027-01-31T00:00:00Z",
        ),
        (
            &line("sk-2", "n").replace("\"name\"", "\"allow_from\": [\"10.0.0.0/99\"], \"name\""),
            "`allow_from`: expected an address range such as 10.0.0.0/8",
        ),
        (
            &line("sk-2", "n").replace("\"name\"", "\"limit\": {\"requests\": 0, \"per_ms\": 1}, \"name\""),
            "a limit is 1 to 1000000000 requests per 1ms to 365d, such as 100/1m",
        ),
    ] {
        assert_eq!(bad(second), format!("  line 2: {message}\n{twice}"), "{second}");
    }
    let columns = "sha256,id,name,org_code,user_id,scopes,expires_on,created_on,allow_from";
    for head in ["sk-secret", "name,org_code", "\u{0}\u{1}\u{2}"] {
        let expected = format!("  line 1: expected JSON Lines, or a head line of: {columns}\n");
        assert_eq!(failed(format!("{head}\nx\n").as_bytes()), expected);
    }
    assert_eq!(failed(b"\xff\xfe{\0\"\0"), "  line 1: this is not UTF-8\n");
    assert_eq!(failed(&b"x".repeat(3_000_000)), "  line 1: a line has at most 65536 bytes\n");
    let many = failed(&b"{\n".repeat(1_000_000));
    assert_eq!((many.lines().count(), many.lines().last()), (101, Some("  line 100: further mistakes are not listed")));
    let binary: Vec<u8> = (0..200_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    assert!(failed(&binary).lines().count() <= 101);
    let said = place.fails(1, &["import", "nothing.jsonl"]);
    assert_eq!(said, "keyward: cannot read the list: No such file or directory (os error 2)\n");
    assert!(place.fails(1, &["import", "."]).starts_with("keyward: cannot read the list: "));
}
