use super::super::testing::{Home, at, create, next_change, server, try_create};
use super::super::{Peppers, Store, StoreError, StorePlace};
use super::*;

fn home() -> Home {
    Home::on_postgres()
}

fn sql(home: &Home, statements: &str) -> String {
    home.database().expect("a database").sql(statements)
}

fn refused(place: &StorePlace) -> StoreError {
    Store::open(place, Peppers::default()).expect_err("this is not to be opened")
}

#[test]
fn stores_can_be_made_by_many_at_once() {
    let home = home();
    let start = std::sync::Barrier::new(8);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                start.wait();
                create(&mut home.open(), "one of eight");
            });
        }
    });
    assert_eq!(home.open().list().expect("a good store").len(), 8);
}

#[test]
fn looking_makes_no_store() {
    let home = home();
    let error = Store::open_existing(home.place(), Peppers::default()).expect_err("there is none");
    assert!(matches!(error.fault(), Fault::NoStore), "{error}");
    assert_eq!(sql(&home, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), "0");
}

#[test]
fn other_tables_are_refused_and_left_alone() {
    for theirs in ["CREATE TABLE key_records (x int)", "CREATE TABLE keyward_store (x int)"] {
        let home = home();
        sql(&home, theirs);
        let error = refused(&home.place());
        assert!(matches!(error.fault(), Fault::Foreign), "{theirs}: {error}");
        assert_eq!(sql(&home, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), "1", "{theirs}");
    }
}

#[test]
fn an_older_process_neither_writes_nor_trusts_a_later_schema() {
    let home = home();
    let mut store = home.open();
    let key = create(&mut store, "n");
    sql(&home, "UPDATE keyward_store SET version = version + 1");
    let newer = |error: StoreError| assert!(matches!(error.fault(), Fault::Newer { found: 3, known: 2 }), "{error}");
    newer(store.revoke(&key.id, None, at(1)).expect_err("it has another schema"));
    newer(try_create(&mut store, "n").expect_err("it has another schema"));
    // The first look of a watch tries the connection.
    newer(store.watch().expect("a connection").poll().expect_err("it has another schema"));
    newer(refused(&home.place()));
}

#[test]
fn a_role_without_rights_is_told_what_it_lacks() {
    let home = home();
    drop(home.open());
    sql(&home, "CREATE ROLE reader LOGIN PASSWORD 'reader'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader");
    let StorePlace::Postgres(mut spec) = home.place() else { panic!("a database") };
    spec.user = "reader".to_owned();
    spec.password = Some(crate::policy::SecretString::new("reader".to_owned()));
    let mut store = Store::open(StorePlace::Postgres(spec), Peppers::default()).expect("it may read");
    let error = try_create(&mut store, "n").expect_err("it may not write");
    assert!(matches!(error.fault(), Fault::Forbidden(_)) && error.to_string().contains("grant it SELECT"), "{error}");
    assert_eq!(store.list().expect("and the connection is as good as before"), []);
    // Roles belong to the whole server.
    sql(&home, "DROP OWNED BY reader; DROP ROLE reader");
}

#[test]
fn a_wrong_password_is_told_and_no_password_is() {
    let home = home();
    let StorePlace::Postgres(mut spec) = home.place() else { panic!("a database") };
    spec.password = Some(crate::policy::SecretString::new("hunter2-hunter2".to_owned()));
    let error = refused(&StorePlace::Postgres(spec.clone()));
    assert!(matches!(error.fault(), Fault::Unreachable(_)), "{error}");
    assert!(error.to_string().contains("password authentication failed"), "{error}");
    for shown in [error.to_string(), format!("{error:?}"), format!("{spec:?}"), format!("{:?}", home.open())] {
        assert!(!shown.contains("hunter2") && !shown.contains(server::PASSWORD), "{shown}");
    }
    spec.database = "nowhere".to_owned();
    spec.password = Some(crate::policy::SecretString::new(server::PASSWORD.to_owned()));
    assert!(refused(&StorePlace::Postgres(spec)).to_string().contains("does not exist"));
}

#[test]
fn errors_show_no_row() {
    let home = home();
    let mut store = home.open();
    // A check that PostgreSQL reports with the whole row in its detail.
    sql(&home, "ALTER TABLE key_records ADD CHECK (name <> 'the-name-of-a-customer')");
    let error = try_create(&mut store, "the-name-of-a-customer").expect_err("a check fails");
    assert!(!format!("{error} {error:?}").contains("the-name"), "{error:?}");
    create(&mut store, "and the transaction is over");
}

#[test]
fn a_lost_connection_stays_lost_and_says_so() {
    let home = home();
    let mut store = home.open();
    let key = create(&mut store, "n");
    let mut watch = store.watch().expect("a good store");
    assert_eq!(watch.poll().expect("a good store"), Change::Unchanged);
    sql(
        &home,
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
         WHERE application_name = 'keyward' AND datname = current_database()",
    );
    for _ in 0..2 {
        let error = store.find_key(key.secret.expose()).expect_err("never an unknown key");
        assert!(matches!(error.fault(), Fault::Lost), "{error}");
        assert!(matches!(watch.poll().expect_err("nothing is heard").fault(), Fault::Lost));
    }
    assert!(home.open().find_key(key.secret.expose()).expect("a new connection").is_some());
}

#[test]
fn a_connection_that_hears_nothing_is_no_good() {
    let home = home();
    let session = Session::open(&spec(&home)).expect("a connection");
    schema::prepare(&session, true).expect("a good store");
    assert_eq!(session.beat().expect("it listens"), VERSION);
    // What a pooler does between two clients.
    session.read(async |call| call.batch("UNLISTEN *").await).expect("a statement");
    assert!(matches!(session.beat(), Err(Fault::Deaf)));
    assert!(session.is_lost());
}

#[test]
fn changes_that_are_in_each_others_way_are_made_one_after_the_other() {
    let home = home();
    let mut store = home.open();
    let keys: Vec<_> = (0..20).map(|_| create(&mut store, "n").id).collect();
    let row = |id: &KeyId| UseRow { id: id.clone(), count: 1, last: at(1), restated: None };
    std::thread::scope(|scope| {
        for reversed in [false, true, false, true] {
            let (home, keys) = (&home, &keys);
            scope.spawn(move || {
                let mut rows: Vec<UseRow> = keys.iter().map(row).collect();
                if reversed {
                    rows.reverse();
                }
                let mut store = home.open();
                for _ in 0..10 {
                    store.note_uses(&rows).expect("it waits its turn");
                }
            });
        }
    });
    let counts: Vec<u64> = store.list().expect("a good store").iter().map(|record| record.use_count).collect();
    assert_eq!(counts, [40; 20]);
}

#[test]
fn two_rotations_at_once_leave_one_present_text() {
    let home = home();
    let key = create(&mut home.open(), "n");
    let start = std::sync::Barrier::new(4);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut store = home.open();
                start.wait();
                let (prefix, hour) = (super::super::KeyPrefix::default(), std::time::Duration::from_secs(3600));
                let rotated = store.rotate(&key.id, &prefix, hour, at(1_700_000_100), &mut super::super::SystemRandom);
                assert!(matches!(rotated.expect("a good store"), super::super::Rotation::Rotated { .. }));
            });
        }
    });
    assert_eq!(sql(&home, "SELECT count(*), count(valid_until) FROM key_secrets"), "5|4");
}

#[test]
fn finding_reads_the_index() {
    let home = home();
    drop(home.open());
    // An empty table is read as a whole; the plan that counts is that of a large one.
    let find = sql::FIND_ALL.replace("$1", "'{\\\\x00,\\\\x01}'::bytea[]");
    let plan = sql(&home, &format!("SET enable_seqscan = off; EXPLAIN {find}"));
    assert!(plan.contains("key_secrets_pkey") && plan.contains("key_records_pkey"), "{plan}");
}

#[test]
fn revocations_by_anybody_are_heard() {
    let home = home();
    let mut store = home.open();
    let key = create(&mut store, "n");
    let mut watch = store.watch().expect("a good store");
    assert_eq!(watch.poll().expect("a good store"), Change::Unchanged);
    for statement in [
        "UPDATE key_records SET revoked_on = 5",
        "UPDATE key_secrets SET valid_until = 5",
        "DELETE FROM key_secrets",
        "TRUNCATE key_records CASCADE",
    ] {
        sql(&home, statement);
        assert_eq!(next_change(&mut watch), Change::Changed, "{statement}");
        while watch.poll().expect("a good store") == Change::Changed {}
    }
    sql(&home, "UPDATE key_records SET use_count = 7");
    assert!(store.get(&key.id).expect("a good store").is_none());
    assert_eq!(watch.poll().expect("a good store"), Change::Unchanged);
}

#[test]
fn a_server_that_does_not_answer_is_given_up() {
    let cluster = server::own();
    let database = cluster.database();
    let place = StorePlace::from(PostgresSpec::parse(&database.url()).expect("a good URL"));
    let store = Store::open(&place, Peppers::default()).expect("a good store");
    cluster.pause();
    let error = store.find_key("x").expect_err("nothing answers");
    assert!(matches!(error.fault(), Fault::TimedOut), "{error}");
    assert!(matches!(store.find_key("x").expect_err("not asked again").fault(), Fault::Lost));
    let error = refused(&place);
    assert!(matches!(error.fault(), Fault::TimedOut | Fault::Unreachable(_)), "{error}");
    cluster.resume();
    drop(store);
    Store::open(&place, Peppers::default()).expect("it answers again");
}

fn spec(home: &Home) -> PostgresSpec {
    match home.place() {
        StorePlace::Postgres(spec) => *spec,
        StorePlace::File(_) => panic!("a database"),
    }
}
