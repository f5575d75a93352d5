use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;

use super::super::testing::{Home, Other, create};
use super::super::{Store, StoreError};
use super::*;

fn refused(path: &Path) -> StoreError {
    Store::open(path).expect_err("this is not to be opened")
}

/// Opening `path` fails, leaves its bytes alone and nothing beside it.
fn refused_and_untouched(home: &Home) -> StoreError {
    let before = fs::read(home.path()).expect("a file");
    let error = refused(&home.path());
    assert_eq!(fs::read(home.path()).expect("a file"), before);
    assert_eq!(fs::read_dir(home.directory()).expect("a directory").count(), 1, "nothing was left beside the file");
    error
}

fn pragma(connection: &Connection, name: &str) -> String {
    connection
        .pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0))
        .map(|value| format!("{value:?}"))
        .expect("a pragma")
}

#[test]
fn a_fresh_store_is_durable_and_ours() {
    let home = Home::new();
    let file = home.path();
    Store::open(&file).expect("a good store");
    let (mut connection, _) = super::super::file::connect(&file).expect("a good store");
    prepare(&mut connection).expect("a good store");
    let expected = [
        ("journal_mode", r#"Text("wal")"#),
        ("synchronous", "Integer(2)"),
        ("foreign_keys", "Integer(1)"),
        ("busy_timeout", "Integer(5000)"),
        ("user_version", "Integer(1)"),
        ("application_id", "Integer(1264013892)"),
        ("integrity_check", r#"Text("ok")"#),
    ];
    for (name, value) in expected {
        assert_eq!(pragma(&connection, name), value, "{name}");
    }
    let loose: i64 = connection
        .query_row(
            "SELECT count(*) FROM pragma_table_list WHERE schema = 'main' AND NOT strict AND name NOT LIKE 'sqlite_%'",
            (),
            |row| row.get(0),
        )
        .expect("a query");
    assert_eq!(loose, 0, "every table is STRICT");
}

#[test]
fn the_schema_refuses_what_the_code_never_writes() {
    let home = Home::new();
    let mut store = home.open();
    let key = create(&mut store, "n");
    let (connection, _) = super::super::file::connect(&home.path()).expect("a good store");
    for change in [
        "digest = x'00'",
        "digest = 'text'",
        "status = 'paused'",
        "status = 'revoked'",
        "revoked_on = 5",
        "kind = 'user'",
        "kind = 'other'",
        "org_code = NULL",
        "scopes = 'x'",
        "scopes = '{}'",
        "name = NULL",
        "created_on = 'yesterday'",
        "id = NULL",
    ] {
        let changed = connection.execute(&format!("UPDATE api_keys SET {change} WHERE id = ?1"), [key.id.as_str()]);
        assert!(changed.is_err(), "{change}");
    }
}

#[test]
fn the_file_and_its_companions_are_private() {
    let home = Home::new();
    let mut store = home.open();
    create(&mut store, "n");
    let names = ["keyward.db", "keyward.db-wal", "keyward.db-shm"];
    for name in names {
        let mode = fs::metadata(home.directory().join(name)).expect(name).permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn an_existing_file_keeps_its_mode() {
    let home = Home::new();
    fs::write(home.path(), "").expect("a file");
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o660)).expect("our file");
    create(&mut home.open(), "an empty file is a store to be");
    let mode = fs::metadata(home.path()).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
}

#[test]
fn a_later_schema_is_refused() {
    let home = Home::new();
    drop(home.open());
    let other = Connection::open(home.path()).expect("a database");
    other.pragma_update(None, "user_version", VERSION + 1).expect("a pragma");
    drop(other);
    let error = refused_and_untouched(&home);
    assert!(matches!(error.fault(), Fault::Newer { found: 2, known: 1 }), "{error}");
    assert_eq!(
        error.to_string(),
        format!(
            "cannot open the key store {}: a later release of keyward wrote it (schema 2, this release knows 1); \
             run that release or a later one",
            home.path().display()
        )
    );
}

#[test]
fn other_databases_are_refused() {
    for content in [
        "CREATE TABLE theirs (x)",
        "PRAGMA application_id = 7",
        "PRAGMA user_version = 1",
        "PRAGMA application_id = 1264013892",
        "PRAGMA application_id = 1264013892; PRAGMA user_version = -1",
    ] {
        let home = Home::new();
        let other = Connection::open(home.path()).expect("a database");
        other.execute_batch(content).expect("good SQL");
        drop(other);
        let error = refused_and_untouched(&home);
        assert!(matches!(error.fault(), Fault::Foreign), "{content}: {error}");
    }
}

#[test]
fn other_files_are_refused() {
    let home = Home::new();
    fs::write(home.path(), "listen: {address: 0.0.0.0:8080}\n".repeat(100)).expect("a file");
    let error = refused_and_untouched(&home);
    assert!(matches!(error.fault(), Fault::NotADatabase), "{error}");
    assert!(error.to_string().contains("this is not a key store"), "{error}");
    // A directory, and a device.
    assert!(matches!(refused(home.directory()).fault(), Fault::NotADatabase));
    assert!(matches!(refused(Path::new("/dev/null")).fault(), Fault::NotADatabase));
}

#[test]
fn what_is_missing_is_named() {
    let home = Home::new();
    let lost = home.directory().join("no/such/keyward.db");
    let error = refused(&lost);
    assert!(matches!(error.fault(), Fault::NoDirectory));
    assert!(error.to_string().starts_with(&format!("cannot open the key store {}: its directory", lost.display())));
    assert!(!lost.parent().expect("a parent").exists());

    let error = Store::open_existing(&home.path()).expect_err("there is no file");
    assert!(matches!(error.fault(), Fault::Missing));
    assert!(!home.path().exists(), "looking must not make a store");
    drop(home.open());
    assert!(Store::open_existing(&home.path()).is_ok());
}

#[test]
fn a_path_is_only_a_path() {
    let home = Home::new();
    for name in ["file:keys?mode=memory", ":memory:", "käys 'n\" more%20.db", "keys-store.db"] {
        let path = home.directory().join(name);
        create(&mut Store::open(&path).expect("a good store"), name);
        assert_eq!(Store::open_existing(&path).expect("it stayed").list().expect("a good store").len(), 1, "{name}");
    }
}

#[test]
fn a_relative_path_is_a_path_too() {
    let home = Home::new();
    for name in [":memory:", "file:keys?mode=memory", "keyward.db"] {
        let mut other = Other::inside(home.directory(), "create 1", Path::new(name));
        other.go();
        other.report().expect("an acknowledgement");
        let kept = Store::open_existing(&home.directory().join(name)).expect("it is a file");
        assert_eq!(kept.list().expect("a good store").len(), 1, "{name}");
    }
}

#[test]
fn without_permission_the_error_says_so() {
    let home = Home::new();
    let locked = home.directory().join("locked");
    fs::create_dir(&locked).expect("a directory");
    let present = home.path();
    drop(home.open());
    for (path, mode) in [(home.directory(), 0o755), (&locked, 0o555), (&present, 0o444)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("our file");
    }
    for path in [locked.join("keyward.db"), present] {
        let mut other = Other::unprivileged("create 1", &path);
        other.go();
        let report = other.report().expect("an answer");
        assert!(report.contains(": this process may not write it"), "{report}");
        assert!(report.contains(&path.display().to_string()), "{report}");
    }
    assert!(!locked.join("keyward.db").exists());
}

#[test]
fn stores_can_be_made_by_many_at_once() {
    for _ in 0..20 {
        let home = Home::new();
        let start = std::sync::Barrier::new(8);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    start.wait();
                    create(&mut home.open(), "one of eight");
                });
            }
        });
        assert_eq!(home.open().list().expect("a good store").len(), 8);
    }
}
