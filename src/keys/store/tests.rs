use std::fs;

use rusqlite::{Connection, TransactionBehavior};

use super::super::looks_valid;
use super::super::random::testing::{Empty, Seeded};
use super::super::testing::{Home, Other, at, create, on_each_engine, org_key, reported_key, try_create};
use super::super::{KeyLimit, KeyOptions};
use super::*;

mod changes;

fn find(store: &Store, key: &str) -> Option<KeyRecord> {
    store.find_key(key).expect("a good store").map(|found| found.record)
}

/// Writes past the store and its checks, as a person with `sqlite3` or `psql` could.
fn tamper(home: &Home, sql: &str) {
    if let Some(database) = home.database() {
        let checks = database.sql(
            "SELECT format('ALTER TABLE %s DROP CONSTRAINT %I;', conrelid::regclass, conname) FROM pg_constraint \
             WHERE contype = 'c' AND conrelid::regclass::text IN ('key_records', 'key_secrets')",
        );
        database.sql(&format!("{checks} {sql}"));
        return;
    }
    let connection = Connection::open(home.path()).expect("a database");
    connection.execute_batch(&format!("PRAGMA ignore_check_constraints = on; {sql}")).expect("good SQL");
}

#[test]
fn a_created_key_is_found_by_its_digest_alone() {
    on_each_engine(|home| {
        let mut store = home.open();
        let new = NewKey::new("Größe ☂ 日本", Some("org_1"), Some("kp_2"), ["b", "a", "b"]).expect("a good key");
        let options = KeyOptions {
            expires_on: Some(at(1_800_000_000)),
            metadata: [("plan".to_owned(), "gold".to_owned())].into(),
            allow_from: vec!["10.0.0.0/8".parse().expect("a range")],
            limit: Some(KeyLimit::new(100, Duration::from_secs(60)).expect("a good limit")),
            created_by: Some("tests".into()),
            api_ids: Vec::new(),
        };
        let new = new.with(options, at(1)).expect("good options");
        let prefix = KeyPrefix::new("kw_test_eu").expect("a good prefix");
        let moment = at(1_700_000_000) + Duration::from_nanos(123_999_999);
        let key = store.create(&new, &prefix, moment, &mut Seeded(1)).expect("a good store");
        assert!(looks_valid(key.secret.expose()));

        let record = find(&store, key.secret.expose()).expect("it was just made");
        let expected = KeyRecord {
            id: key.id.clone(),
            name: "Größe ☂ 日本".into(),
            org_code: Some("org_1".into()),
            user_id: Some("kp_2".into()),
            scopes: vec!["b".into(), "a".into()],
            prefix: "kw_test_eu".into(),
            suffix: key.secret.suffix().into(),
            api_ids: Vec::new(),
            metadata: [("plan".to_owned(), "gold".to_owned())].into(),
            allow_from: vec!["10.0.0.0/8".parse().expect("a range")],
            limit: Some(KeyLimit::new(100, Duration::from_secs(60)).expect("a good limit")),
            created_on: at(1_700_000_000) + Duration::from_millis(123),
            created_by: Some("tests".into()),
            rotated_on: None,
            grace_until: None,
            revoked_on: None,
            revoked_reason: None,
            expires_on: Some(at(1_800_000_000)),
            last_used_on: None,
            use_count: 0,
        };
        assert_eq!(record, expected);
        assert_eq!(store.get(&key.id).expect("a good store"), Some(expected.clone()));
        assert_eq!(store.list().expect("a good store"), std::slice::from_ref(&expected));
        assert_eq!(find(&home.open(), key.secret.expose()), Some(expected), "and through another connection");

        let mut wrong = key.secret.expose().to_owned();
        wrong.pop();
        assert_eq!(find(&store, &wrong), None);
        assert_eq!(store.get(&KeyId::generate(0, &mut Seeded(9)).expect("random")).expect("a good store"), None);
    });
}

#[test]
fn finding_reads_the_index() {
    let home = Home::new();
    let engine = home.engine();
    let mut statement = engine.connection.prepare(&format!("EXPLAIN QUERY PLAN {}", sql::FIND)).expect("good SQL");
    let plan: Vec<String> = statement
        .query_map((&[0_u8; 32], "hmac-sha256"), |row| row.get("detail"))
        .and_then(Iterator::collect)
        .expect("a plan");
    assert_eq!(plan.len(), 2, "{plan:?}");
    assert_eq!(plan[0], "SEARCH key_secrets USING PRIMARY KEY (digest=?)");
    assert!(plan[1].starts_with("SEARCH key_records USING INDEX") && plan[1].ends_with("(id=?)"), "{plan:?}");
}

#[test]
fn a_digest_of_another_kind_is_another_digest() {
    on_each_engine(|home| {
        let mut store = home.open();
        let key = create(&mut store, "n");
        tamper(home, "UPDATE key_secrets SET scheme = 'sha256'");
        assert_eq!(find(&store, key.secret.expose()), None);
        assert!(store.get(&key.id).expect("a good store").is_some());
    });
}

#[test]
fn a_key_is_revoked_once() {
    on_each_engine(|home| {
        let mut store = home.open();
        let (one, two) = (create(&mut store, "one"), create(&mut store, "two"));
        let first = at(1_700_000_100);
        assert_eq!(store.revoke(&one.id, None, first).expect("a good store"), Revocation::Revoked { on: first });
        assert_eq!(
            home.open().revoke(&one.id, None, at(1_700_000_200)).expect("a good store"),
            Revocation::AlreadyRevoked { on: first }
        );
        let unknown = KeyId::generate(0, &mut Seeded(9)).expect("random");
        assert_eq!(store.revoke(&unknown, None, first).expect("a good store"), Revocation::NotFound);

        let record = find(&store, one.secret.expose()).expect("it is still known");
        assert_eq!((record.status(first), record.revoked_on), (KeyStatus::Revoked, Some(first)));
        assert!(!record.is_usable(at(0)));
        assert!(find(&store, two.secret.expose()).expect("it was made").is_usable(first), "the other key is untouched");
    });
}

#[test]
fn keys_are_listed_in_the_order_of_their_creation() {
    on_each_engine(|home| {
        let mut store = home.open();
        for second in [5, 3, 4] {
            let name = second.to_string();
            store
                .create(&org_key(&name), &KeyPrefix::default(), at(second), &mut Seeded(second))
                .expect("a good store");
        }
        let names: Vec<String> = store.list().expect("a good store").into_iter().map(|record| record.name).collect();
        assert_eq!(names, ["3", "4", "5"]);
    });
}

#[test]
fn an_expiry_in_the_store_is_obeyed() {
    on_each_engine(|home| {
        let mut store = home.open();
        let key = create(&mut store, "n");
        tamper(home, "UPDATE key_records SET expires_on = 1700000050000");
        let record = find(&store, key.secret.expose()).expect("it was made");
        assert_eq!(record.expires_on, Some(at(1_700_000_050)));
        assert!(record.is_usable(at(1_700_000_049)) && !record.is_usable(at(1_700_000_050)));
    });
}

#[test]
fn a_row_that_makes_no_sense_opens_nothing() {
    on_each_engine(|home| {
        for change in [
            "allow_from = '[\"everywhere\"]'",
            "metadata = '{\"a\": 1}'",
            "limit_requests = 5000000000, limit_per = 1",
            "scopes = '[1]'",
            "scopes = 'admin'",
            "created_on = -1",
            "expires_on = 9223372036854775807",
        ] {
            let home = &home.another();
            let mut store = home.open();
            let key = create(&mut store, "n");
            tamper(home, &format!("UPDATE key_records SET {change}"));
            let error = store.find_key(key.secret.expose()).expect_err(change);
            assert!(matches!(error.fault(), Fault::Damaged(_)), "{change}: {error}");
            assert!(error.to_string().contains("restore it from a backup"), "{error}");
        }
    });
}

#[test]
fn nothing_in_the_files_reveals_a_key() {
    let home = Home::new();
    let mut store = home.open();
    // A reader in the middle of its work keeps everything in the log, and holds nobody up.
    let mut reader = home.engine();
    let reading = reader.connection.transaction().expect("a good store");
    let _: i64 = reading.query_row("SELECT count(*) FROM key_records", (), |row| row.get(0)).expect("a good store");
    let secrets: Vec<KeySecret> = (0..20).map(|_| create(&mut store, "n").secret).collect();
    let id = store.list().expect("a good store")[0].id.clone();
    store.revoke(&id, None, at(1_700_000_001)).expect("a good store");
    let search = |stage: &str, log_is_empty: bool| {
        let mut files = 0;
        for entry in fs::read_dir(home.directory()).expect("a directory") {
            let path = entry.expect("an entry").path();
            let bytes = fs::read(&path).expect("a file");
            files += 1;
            if path.to_string_lossy().ends_with("-wal") {
                assert_eq!(bytes.is_empty(), log_is_empty, "{stage}");
            }
            for secret in &secrets {
                let text = &secret.expose().as_bytes()["kw_live_".len()..];
                // Any eight characters in a row would be a leak; the last four are known to be there.
                for piece in text.windows(8) {
                    assert!(!bytes.windows(8).any(|window| window == piece), "{stage}");
                }
            }
        }
        files
    };
    assert_eq!(search("with the log", false), 3);
    drop(reading);
    create(&mut store, "n");
    assert_eq!(search("after the log was emptied", true), 3);
    drop((store, reader));
    assert_eq!(search("after the end", true), 1);
}

#[test]
fn the_file_alone_is_the_whole_store() {
    let (home, backup) = (Home::new(), Home::new());
    let mut store = home.open();
    let (kept, gone) = (create(&mut store, "kept"), create(&mut store, "gone"));
    store.revoke(&gone.id, None, at(1)).expect("a good store");
    fs::copy(home.path(), backup.path()).expect("a copy");
    let copy = backup.open();
    assert!(find(&copy, kept.secret.expose()).expect("it is in the copy").is_usable(at(0)));
    assert!(!find(&copy, gone.secret.expose()).expect("it is in the copy").is_usable(at(0)));
}

#[test]
fn nothing_shown_reveals_a_key() {
    on_each_engine(|home| {
        let mut store = home.open();
        let key = create(&mut store, "n");
        let shown = format!("{key:?} {store:?} {:?} {:?}", store.list(), store.find_key(key.secret.expose()));
        for piece in key.secret.expose().as_bytes()["kw_live_".len()..].windows(8) {
            assert!(!shown.as_bytes().windows(8).any(|window| window == piece), "{shown}");
        }
    });
}

#[test]
fn without_randomness_or_a_date_nothing_is_stored() {
    on_each_engine(|home| {
        let mut store = home.open();
        let prefix = KeyPrefix::default();
        let error = store.create(&org_key("n"), &prefix, at(1), &mut Empty).expect_err("no randomness");
        assert!(matches!(error.fault(), Fault::Random(_)), "{error}");
        let early = at(0) - Duration::from_secs(1);
        let error = store.create(&org_key("n"), &prefix, early, &mut Seeded(1)).expect_err("no date");
        assert!(matches!(error.fault(), Fault::Clock), "{error}");
        assert_eq!(store.list().expect("a good store"), []);
    });
}

#[test]
fn an_acknowledged_key_survives_an_abort() {
    on_each_engine(|home| {
        let mut other = Other::new("create-and-abort", home);
        other.go();
        let (id, key) = reported_key(&other.report().expect("an acknowledgement"));
        assert_eq!(other.report(), None, "the process is gone");
        assert_eq!(find(&home.open(), &key).expect("it was acknowledged").id, id);
    });
}

#[test]
fn an_acknowledged_revocation_survives_an_abort() {
    on_each_engine(|home| {
        let key = create(&mut home.open(), "n");
        let mut other = Other::new(&format!("revoke-and-abort {}", key.id), home);
        other.go();
        assert!(other.report().expect("an acknowledgement").starts_with("Revoked"));
        assert_eq!(other.report(), None, "the process is gone");
        assert_eq!(find(&home.open(), key.secret.expose()).expect("it is known").status(at(0)), KeyStatus::Revoked);
    });
}

#[test]
fn acknowledged_keys_survive_a_kill_in_the_middle_of_others() {
    on_each_engine(|home| {
        let mut other = Other::new("create-until-killed", home);
        other.go();
        let mut reports: Vec<String> = (0..20).map(|_| other.report().expect("an acknowledgement")).collect();
        other.kill();
        reports.extend(std::iter::from_fn(|| other.report()));
        let store = home.open();
        for report in &reports {
            let (id, key) = reported_key(report);
            assert_eq!(find(&store, &key).expect("it was acknowledged").id, id);
        }
        // One more may have been stored than its process could still report.
        assert!((reports.len()..=reports.len() + 1).contains(&store.list().expect("a good store").len()));
        if home.database().is_none() {
            let check: String =
                home.engine().connection.query_row("PRAGMA integrity_check", (), |row| row.get(0)).expect("a check");
            assert_eq!(check, "ok");
        }
    });
}

#[test]
fn processes_and_threads_create_at_once() {
    on_each_engine(|home| {
        let mut others: Vec<Other> = (0..3).map(|_| Other::new("create 20", home)).collect();
        others.iter_mut().for_each(Other::go);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut store = home.open();
                    (0..20).for_each(|_| drop(create(&mut store, "thread")));
                });
            }
        });
        let store = home.open();
        for other in &mut others {
            let keys: Vec<String> = std::iter::from_fn(|| other.report()).collect();
            assert_eq!(keys.len(), 20);
            for report in keys {
                assert!(find(&store, &reported_key(&report).1).is_some());
            }
        }
        assert_eq!(store.list().expect("a good store").len(), 120);
    });
}

#[test]
fn a_held_lock_is_waited_for_and_then_named() {
    let home = Home::new();
    let engine = home.engine();
    let mut holder = home.engine();
    let lock = holder.connection.transaction_with_behavior(TransactionBehavior::Immediate).expect("a free store");
    engine.connection.busy_timeout(Duration::ZERO).expect("a good store");
    let mut store = Store { engine: Box::new(engine), peppers: Peppers::default() };
    let error = try_create(&mut store, "n").expect_err("the store is locked");
    assert!(matches!(error.fault(), Fault::Busy), "{error}");
    assert!(error.to_string().starts_with("cannot create a key in the key store "), "{error}");
    assert_eq!(store.list().expect("readers do not wait"), []);
    drop(lock);
    create(&mut store, "n");
}

#[test]
fn nothing_is_acknowledged_into_a_file_without_a_name() {
    let home = Home::new();
    let mut store = home.open();
    let key = create(&mut store, "n");
    let away = Home::new();
    for entry in fs::read_dir(home.directory()).expect("a directory") {
        let entry = entry.expect("an entry");
        fs::rename(entry.path(), away.directory().join(entry.file_name())).expect("our file");
    }
    for replaced in [false, true] {
        if replaced {
            drop(home.open());
        }
        let error = try_create(&mut store, "lost").expect_err("the file is gone");
        assert!(matches!(error.fault(), Fault::Moved), "{error}");
        let error = store.revoke(&key.id, None, at(1)).expect_err("the file is gone");
        assert!(matches!(error.fault(), Fault::Moved), "{error}");
    }
    let records = store.list().expect("still open");
    assert_eq!(records.iter().map(|record| record.status(at(1))).collect::<Vec<_>>(), [KeyStatus::Active]);
}

#[test]
fn a_file_lost_in_the_middle_of_a_change_is_noticed() {
    let home = Home::new();
    let mut store = home.engine();
    let (path, away) = (home.path(), home.directory().join("away.db"));
    let lost = store.write(|_| Ok(fs::rename(&path, &away)?));
    assert!(matches!(lost, Err(Fault::Moved)), "{lost:?}");
}

#[test]
fn a_failed_change_leaves_nothing_behind() {
    let home = Home::new();
    let mut store = home.open();
    let key = create(&mut store, "n");
    let failed: Result<(), Fault> = home.engine().write(|transaction| {
        transaction.execute(sql::REVOKE, (1, "reason", key.id.as_str()))?;
        Err(Fault::Clock)
    });
    assert!(failed.is_err());
    assert!(find(&store, key.secret.expose()).expect("it was made").is_usable(at(0)));
    assert!(find(&home.open(), key.secret.expose()).expect("it was made").is_usable(at(0)));
}

#[test]
fn a_store_moves_between_threads() {
    fn is_send<T: Send>() {}
    is_send::<Store>();
    is_send::<ChangeWatch>();
    is_send::<StoreError>();
}
