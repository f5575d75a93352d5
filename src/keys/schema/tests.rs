use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;

use super::super::digest::Digest;
use super::super::testing::{Home, Other, at, create, try_create};
use super::super::{Peppers, Store, StoreError};
use super::*;

fn refused(path: &Path) -> StoreError {
    Store::open(path, Peppers::default()).expect_err("this is not to be opened")
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
    Store::open(&file, Peppers::default()).expect("a good store");
    let (mut connection, _) = super::super::file::connect(&file).expect("a good store");
    prepare(&mut connection).expect("a good store");
    let expected = [
        ("journal_mode", r#"Text("wal")"#),
        ("synchronous", "Integer(2)"),
        ("foreign_keys", "Integer(1)"),
        ("busy_timeout", "Integer(5000)"),
        ("user_version", "Integer(2)"),
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
    let refused = |table: &str, change: &str, id: &str| {
        let changed = connection.execute(&format!("UPDATE {table} SET {change} WHERE {id} = ?1"), [key.id.as_str()]);
        assert!(changed.is_err(), "{change}");
    };
    for change in ["digest = x'00'", "digest = 'text'", "scheme = NULL", "key_id = 'another'", "valid_until = 'soon'"] {
        refused("key_secrets", change, "key_id");
    }
    for change in [
        "revoked_reason = 'r'",
        "org_code = NULL",
        "scopes = 'x'",
        "scopes = '{}'",
        "allow_from = '{}'",
        "metadata = '[]'",
        "limit_requests = 1",
        "limit_per = 0, limit_requests = 1",
        "use_count = -1",
        "name = NULL",
        "created_on = 'yesterday'",
        "id = NULL",
    ] {
        refused("key_records", change, "id");
    }
}

/// A store as the first release left it, with an active, a revoked and an expiring key.
fn first_release(home: &Home) {
    fs::write(home.path(), "").expect("a file");
    let connection = Connection::open(home.path()).expect("a database");
    connection.execute_batch(STEPS[0]).expect("good SQL");
    let id = |n: u8| format!("api_key_0195ac80a14e8d71f42b98e75d3c61a{n}");
    for (n, status, revoked, expires) in
        [(1_u8, "active", None, None), (2, "revoked", Some(5), None), (3, "active", None, Some(9))]
    {
        connection
            .execute(
                "INSERT INTO api_keys VALUES (?1, ?2, 'hmac-sha256', 'n', 'organization', 'org_1', NULL, '[\"a\"]', \
                 'kw_live', 'abcd', ?3, 1, ?4, NULL, ?5)",
                (id(n), Digest::of(&n.to_string()).as_bytes(), status, revoked, expires),
            )
            .expect("good SQL");
    }
    connection.pragma_update(None, "user_version", 1).expect("a pragma");
    connection.pragma_update(None, "application_id", APPLICATION_ID).expect("a pragma");
}

#[test]
fn a_store_of_the_first_release_keeps_its_keys() {
    let home = Home::new();
    first_release(&home);
    let store = home.open();
    let found = |n: u8| store.find_key(&n.to_string()).expect("a good store").expect("it was there").record;
    assert_eq!((found(1).scopes, found(1).hint()), (vec!["a".to_owned()], "kw_live…abcd".to_owned()));
    assert!(found(1).is_usable(at(1_000)));
    assert_eq!(found(2).revoked_on, Some(at(0) + Duration::from_millis(5)));
    assert_eq!(found(3).expires_on, Some(at(0) + Duration::from_millis(9)));
    assert_eq!(store.list().expect("a good store").len(), 3);
}

#[test]
fn a_migration_is_taken_once_by_whoever_is_first() {
    for _ in 0..5 {
        let home = Home::new();
        first_release(&home);
        let start = std::sync::Barrier::new(6);
        thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    start.wait();
                    create(&mut home.open(), "one of six");
                });
            }
        });
        assert_eq!(home.open().list().expect("a good store").len(), 9);
    }
}

#[test]
fn a_broken_migration_leaves_the_old_store() {
    let home = Home::new();
    first_release(&home);
    let connection = Connection::open(home.path()).expect("a database");
    connection.execute_batch("CREATE TABLE store_state (theirs)").expect("good SQL");
    drop(connection);
    let error = refused(&home.path());
    assert!(matches!(error.fault(), Fault::Failed(_)), "{error}");
    let connection = Connection::open(home.path()).expect("a database");
    assert_eq!(pragma(&connection, "user_version"), "Integer(1)");
    let keys: i64 = connection.query_row("SELECT count(*) FROM api_keys", (), |row| row.get(0)).expect("still there");
    assert_eq!(keys, 3);
}

#[test]
fn an_older_process_neither_writes_nor_trusts_a_later_schema() {
    let home = Home::new();
    let mut store = home.open();
    let key = create(&mut store, "n");
    let mut watch = store.watch().expect("a good store");
    let later = Connection::open(home.path()).expect("a database");
    later.pragma_update(None, "user_version", VERSION + 1).expect("a pragma");
    let newer = |error: StoreError| assert!(matches!(error.fault(), Fault::Newer { .. }), "{error}");
    newer(watch.poll().expect_err("it has another schema"));
    newer(store.revoke(&key.id, None, at(1)).expect_err("it has another schema"));
    newer(try_create(&mut store, "n").expect_err("it has another schema"));
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
    assert!(matches!(error.fault(), Fault::Newer { found: 3, known: 2 }), "{error}");
    assert_eq!(
        error.to_string(),
        format!(
            "cannot open the key store {}: a later release of keyward wrote it (schema 3, this release knows 2); \
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

    let error = Store::open_existing(&home.path(), Peppers::default()).expect_err("there is no file");
    assert!(matches!(error.fault(), Fault::Missing));
    assert!(!home.path().exists(), "looking must not make a store");
    drop(home.open());
    assert!(Store::open_existing(&home.path(), Peppers::default()).is_ok());
}

#[test]
fn a_path_is_only_a_path() {
    let home = Home::new();
    for name in ["file:keys?mode=memory", ":memory:", "käys 'n\" more%20.db", "keys-store.db"] {
        let path = home.directory().join(name);
        create(&mut Store::open(&path, Peppers::default()).expect("a good store"), name);
        assert_eq!(
            Store::open_existing(&path, Peppers::default()).expect("it stayed").list().expect("a good store").len(),
            1,
            "{name}"
        );
    }
}

#[test]
fn a_relative_path_is_a_path_too() {
    let home = Home::new();
    for name in [":memory:", "file:keys?mode=memory", "keyward.db"] {
        let mut other = Other::inside(home.directory(), "create 1", Path::new(name));
        other.go();
        other.report().expect("an acknowledgement");
        let kept = Store::open_existing(&home.directory().join(name), Peppers::default()).expect("it is a file");
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
