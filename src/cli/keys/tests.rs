use std::path::{Path, PathBuf};

use clap::Parser;
use serde_json::Value;

use super::*;
use crate::keys::{looks_valid, rfc3339};
use crate::time::Clock;

/// The arguments as a person types them behind `keyward keys`.
#[derive(Debug, Parser)]
struct Line {
    #[command(subcommand)]
    command: KeysCommand,
}

fn parse(arguments: &[&str]) -> KeysCommand {
    Line::try_parse_from([&["keys"], arguments].concat()).expect("good arguments").command
}

struct Place {
    directory: tempfile::TempDir,
    clock: Clock,
}

impl Place {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a temporary directory"), clock: Clock::manual() }
    }

    fn store(&self) -> PathBuf {
        self.directory.path().join("keyward.db")
    }

    fn run(&self, arguments: &[&str]) -> Result<String, String> {
        let mut out = Vec::new();
        self.run_into(arguments, &mut out).map_err(|error| error.to_string())?;
        Ok(String::from_utf8(out).expect("text"))
    }

    fn run_into(&self, arguments: &[&str], out: &mut dyn Write) -> Result<(), KeysError> {
        let (place, prefix, peppers) = (StorePlace::from(&self.store()), KeyPrefix::default(), Peppers::default());
        let target = Target { place: &place, prefix: &prefix, peppers: &peppers, now: self.clock.now().wall };
        run(&parse(arguments), &target, None, out)
    }

    /// Creates a key with `--json`; its id and text.
    fn create(&self, arguments: &[&str]) -> (String, String) {
        let answer = self.run(&[&["create", "--json"], arguments].concat()).expect("a good command");
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        let text = |field: &str| answer[field].as_str().expect("text").to_owned();
        (text("id"), text("key"))
    }
}

#[test]
fn arguments_are_read() {
    let KeysCommand::Create(args) = parse(&["create", "--name", "n", "--scope", "a", "--user-id", "u", "--scope", "b"])
    else {
        panic!("create")
    };
    assert_eq!((args.name.as_str(), args.org_code, args.user_id.as_deref()), ("n", None, Some("u")));
    assert_eq!(args.scopes, ["a", "b"]);
    assert_eq!(parse(&["list"]).common().expect("a store").config, Path::new("proxy.yaml"));
    assert_eq!(
        parse(&["revoke", "x", "--config", "other.yaml"]).common().expect("a store").config,
        Path::new("other.yaml")
    );
    assert!(Line::try_parse_from(["keys", "create", "--org-code", "o"]).is_err(), "a key needs a name");
    assert!(Line::try_parse_from(["keys", "revoke"]).is_err(), "a revocation needs an id");
}

#[test]
fn create_for_programs_is_one_line() {
    let place = Place::new();
    let answer = place.run(&["create", "--name", "n", "--org-code", "o", "--json"]).expect("a good command");
    let parsed: Value = serde_json::from_str(&answer).expect("JSON");
    let (id, key) = (parsed["id"].as_str().expect("text"), parsed["key"].as_str().expect("text"));
    assert_eq!(answer, format!("{{\"id\": \"{id}\", \"key\": \"{key}\"}}\n"));
    assert!(looks_valid(key));
    let found = Store::open_existing(&place.store(), Peppers::default()).and_then(|store| store.find_key(key));
    assert_eq!(found.expect("a good store").expect("it was made").record.id.as_str(), id);
}

#[test]
fn create_for_people_shows_the_key_once() {
    let place = Place::new();
    let answer = place
        .run(&["create", "--name", "n", "--org-code", "o", "--user-id", "u", "--scope", "a", "--scope", "b"])
        .expect("a good command");
    let key = answer.split_whitespace().find(|word| looks_valid(word)).expect("a key");
    let id = answer.split_whitespace().find(|word| KeyId::parse(word).is_ok()).expect("an id");
    assert_eq!(
        answer,
        format!(
            "id      {id}\nowner   org:o user:u\nscopes  a b\nkey     {key}\n\n\
             Keep the key in a safe place now: it is not stored and will not be shown again.\n"
        )
    );
    for again in [&["list"][..], &["list", "--json"], &["revoke", id]] {
        assert!(!place.run(again).expect("a good command").contains(&key[8..]), "{again:?}");
    }
}

#[test]
fn create_names_what_is_wrong_and_makes_nothing() {
    let place = Place::new();
    let refused = |arguments: &[&str]| place.run(&[&["create"], arguments].concat()).expect_err("a mistake");
    let message = refused(&["--name", "n"]);
    assert!(message.contains("--org-code") && message.contains("--user-id"), "{message}");
    assert!(refused(&["--name", "", "--org-code", "o"]).contains("name"));
    assert!(refused(&["--name", "n", "--org-code", ""]).contains("organization code"));
    assert!(refused(&["--name", "n", "--user-id", "ü"]).contains("user id"));
    assert!(refused(&["--name", "n", "--user-id", "u", "--scope", "a b"]).contains("scope"));
    assert!(!place.store().exists());
}

#[test]
fn list_for_people_is_aligned() {
    let place = Place::new();
    let (first, first_key) = place.create(&["--name", "Größe", "--org-code", "acme", "--scope", "a", "--scope", "b"]);
    place.clock.advance(Duration::from_secs(1));
    let (second, second_key) = place.create(&["--name", "n", "--user-id", "kp_1"]);
    place.run(&["revoke", &second]).expect("a good command");
    let day = rfc3339(place.clock.now().wall);
    let table = place.run(&["list"]).expect("a good command");
    let lines: Vec<&str> = table.lines().collect();
    let hint = |key: &str| format!("kw_live…{}", &key[key.len() - 4..]);
    let created = lines[1].split("  ").find(|cell| cell.ends_with('Z')).expect("a date").trim_start();
    assert_eq!(lines.len(), 3);
    assert_eq!(
        lines[0],
        "ID                                        NAME   OWNER      SCOPES  STATUS   CREATED               KEY"
    );
    assert_eq!(lines[1], format!("{first}  Größe  org:acme   a b     active   {created}  {}", hint(&first_key)));
    assert_eq!(lines[2], format!("{second}  n      user:kp_1  -       revoked  {day}  {}", hint(&second_key)));
}

#[test]
fn list_for_programs_has_stable_names() {
    let place = Place::new();
    let (id, key) = place.create(&["--name", "n", "--org-code", "acme", "--scope", "a"]);
    let list =
        || serde_json::from_str::<Value>(&place.run(&["list", "--json"]).expect("a good command")).expect("JSON");
    let now = rfc3339(place.clock.now().wall);
    let mut expected = serde_json::json!([{
        "id": id, "name": "n", "type": "organization", "status": "active", "key_prefix": "kw_live",
        "key_suffix": key[key.len() - 4..], "created_on": now, "scopes": ["a"], "organization_id": "acme",
        "user_id": null, "revoked_on": null, "revoked_reason": null, "expires_on": null, "created_by": null,
        "last_verified_on": null, "last_verified_ip": null, "verification_count": 0, "api_ids": [], "rotated_on": null, "grace_until": null,
        "allow_from": [], "limit": null, "metadata": {},
    }]);
    assert_eq!(list(), expected);
    place.run(&["revoke", &id]).expect("a good command");
    expected[0]["status"] = "revoked".into();
    expected[0]["revoked_on"] = now.into();
    assert_eq!(list(), expected);
}

#[test]
fn an_empty_store_has_an_empty_list() {
    let place = Place::new();
    drop(Store::open(&place.store(), Peppers::default()));
    assert_eq!(place.run(&["list", "--json"]).as_deref(), Ok("[]\n"));
    assert_eq!(place.run(&["list"]).as_deref(), Ok("There are no keys yet.\n"));
}

#[test]
fn revoke_says_what_happened() {
    let place = Place::new();
    let (id, key) = place.create(&["--name", "n", "--org-code", "o"]);
    assert_eq!(place.run(&["revoke", &id]), Ok(format!("Revoked the key {id}. It opens nothing any more.\n")));
    let on = rfc3339(place.clock.now().wall);
    place.clock.advance(Duration::from_secs(60));
    assert_eq!(
        place.run(&["revoke", &id]),
        Ok(format!("The key {id} was revoked already, on {on}; nothing changed.\n"))
    );
    let json: Value = serde_json::from_str(&place.run(&["revoke", &id, "--json"]).expect("a success")).expect("JSON");
    assert_eq!(json, serde_json::json!({"id": id, "status": "revoked", "revoked_on": on, "already_revoked": true}));

    let unknown = "api_key_0195ac80a14e8d71f42b98e75d3c61ad";
    let message = place.run(&["revoke", unknown]).expect_err("there is no such key");
    assert!(message.contains(unknown) && message.contains("keyward.db"), "{message}");
    let message = place.run(&["revoke", &key]).expect_err("a key is no id");
    assert!(!message.contains(&key[8..]), "{message}");
}

#[test]
fn looking_makes_no_store() {
    let place = Place::new();
    for arguments in [&["list"][..], &["revoke", "api_key_0195ac80a14e8d71f42b98e75d3c61ad"]] {
        let message = place.run(arguments).expect_err("there is no store");
        assert!(message.contains("there is no such file"), "{message}");
    }
    assert!(!place.store().exists());
}

/// Accepts nothing, or everything until it is flushed.
struct Broken {
    at_flush: bool,
}

impl Write for Broken {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.at_flush { Ok(bytes.len()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

#[test]
fn a_key_that_nobody_saw_is_named() {
    let place = Place::new();
    for (at_flush, json) in [(false, "--json"), (true, "--json"), (true, "--scope=a")] {
        let command = ["create", "--name", "n", "--org-code", "o", json];
        let error = place.run_into(&command, &mut Broken { at_flush }).expect_err("nothing could be written");
        let KeysError::Unseen { id, .. } = &error else { panic!("{error}") };
        assert!(error.to_string().contains(id.as_str()), "{error}");
        assert!(place.run(&["revoke", id.as_str()]).is_ok());
    }
}
