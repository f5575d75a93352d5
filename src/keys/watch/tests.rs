use std::fs;

use super::super::testing::{Home, Other, at, create, next_change, on_each_engine};
use super::super::{Fault, Store};
use super::*;

fn poll(watch: &mut ChangeWatch) -> Change {
    watch.poll().expect("the file is there")
}

/// One change since the last answer, and none since this one.
fn changed_once(watch: &mut ChangeWatch) {
    assert_eq!((next_change(watch), poll(watch)), (Change::Changed, Change::Unchanged));
}

#[test]
fn every_write_is_noticed_once_and_no_read_is() {
    on_each_engine(|home| {
        let mut store = home.open();
        let mut watch = store.watch().expect("a good store");
        assert_eq!(poll(&mut watch), Change::Unchanged);

        let key = create(&mut store, "by the watched store itself");
        changed_once(&mut watch);
        create(&mut home.open(), "by another connection");
        changed_once(&mut watch);
        store.list().expect("a good store");
        store.find_key("x").expect("a good store");
        assert_eq!(poll(&mut watch), Change::Unchanged);

        home.open().revoke(&key.id, None, at(1)).expect("a good store");
        changed_once(&mut watch);
        // A revocation that changes nothing need not be noticed, but the next real change must be.
        home.open().revoke(&key.id, None, at(2)).expect("a good store");
        let _ = poll(&mut watch);
        create(&mut store, "one");
        create(&mut store, "two");
        changed_once(&mut watch);
    });
}

#[test]
fn another_process_is_noticed() {
    on_each_engine(|home| {
        let mut store = home.open();
        let key = create(&mut store, "n");
        let mut watch = store.watch().expect("a good store");

        let mut creator = Other::new("create 1", home);
        creator.go();
        creator.report().expect("an acknowledgement");
        assert_eq!(next_change(&mut watch), Change::Changed);
        assert_eq!(creator.report(), None);
        let _ = poll(&mut watch);

        let mut revoker = Other::new(&format!("revoke-and-abort {}", key.id), home);
        revoker.go();
        revoker.report().expect("an acknowledgement");
        assert_eq!(next_change(&mut watch), Change::Changed);
        assert!(!store.get(&key.id).expect("a good store").expect("it is known").is_usable(at(0)));
    });
}

#[test]
fn what_happened_before_the_watch_is_no_change() {
    on_each_engine(|home| {
        let mut store = home.open();
        create(&mut store, "n");
        assert_eq!(poll(&mut store.watch().expect("a good store")), Change::Unchanged);
    });
}

#[test]
fn a_replaced_file_stays_replaced() {
    let (home, elsewhere) = (Home::new(), Home::new());
    let mut store = home.open();
    create(&mut store, "in the old file");
    let mut watch = store.watch().expect("a good store");
    let key = create(&mut elsewhere.open(), "in the new file");
    fs::rename(elsewhere.path(), home.path()).expect("one file system");
    assert_eq!((poll(&mut watch), poll(&mut watch)), (Change::Replaced, Change::Replaced));
    assert!(matches!(store.watch().expect_err("the store has the old file").fault(), Fault::Moved));
    // The order that `Change::Replaced` asks for. What the old file had in its log does not come back.
    drop((store, watch));
    let records = home.open().list().expect("a good store");
    assert_eq!(records.iter().map(|record| &record.id).collect::<Vec<_>>(), [&key.id]);
}

#[test]
fn a_deleted_file_is_an_error_until_there_is_one() {
    let home = Home::new();
    let store = home.open();
    let mut watch = store.watch().expect("a good store");
    let away = home.directory().join("away.db");
    fs::rename(home.path(), &away).expect("our file");
    for _ in 0..2 {
        let error = watch.poll().expect_err("there is no file");
        assert!(matches!(error.fault(), Fault::Missing));
        assert!(error.to_string().starts_with("cannot watch the key store "), "{error}");
    }
    fs::rename(&away, home.path()).expect("our file");
    assert_eq!(poll(&mut watch), Change::Unchanged, "it is the same file again");
}

#[test]
fn a_file_made_anew_is_never_taken_for_the_old_one() {
    // Many file systems give the inode of a deleted file to the next one.
    let home = Home::new();
    let mut stores: Vec<(Store, ChangeWatch)> = Vec::new();
    for _ in 0..10 {
        let store = home.open();
        let watch = store.watch().expect("a good store");
        stores.push((store, watch));
        fs::remove_file(home.path()).expect("our file");
        for log in ["keyward.db-wal", "keyward.db-shm"] {
            fs::remove_file(home.directory().join(log)).expect("our file");
        }
        drop(home.open());
        let (_, watch) = stores.last_mut().expect("just pushed");
        assert_eq!(poll(watch), Change::Replaced);
        stores.truncate(1);
    }
}
