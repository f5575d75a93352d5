//! Rotation, revocation, peppers, uses, lists; and what is left when a process dies in the middle.

use std::collections::BTreeSet;
use std::sync::Barrier;
use std::thread;

use sha2::{Digest as _, Sha256};

use super::super::super::testing::next_change;
use super::*;
use crate::keys::{Change, SystemRandom, read_import};
use crate::policy::SecretString;

const HOUR: Duration = Duration::from_secs(3600);

fn rotate(store: &mut Store, id: &KeyId, grace: Duration, now: SystemTime) -> Rotation {
    store.rotate(id, &KeyPrefix::default(), grace, now, &mut SystemRandom).expect("a good store")
}

fn rotated(rotation: Rotation) -> (KeySecret, Option<SystemTime>) {
    match rotation {
        Rotation::Rotated { key, grace_until } => (key.secret, grace_until),
        other => panic!("{other:?}"),
    }
}

fn opens(store: &Store, key: &KeySecret, now: SystemTime) -> bool {
    store.find_key(key.expose()).expect("a good store").is_some_and(|found| found.is_usable(now))
}

fn peppers(letters: &str) -> Peppers {
    let secrets: Vec<_> = letters.chars().map(|letter| SecretString::new(letter.to_string().repeat(40))).collect();
    Peppers::new(&secrets).expect("good peppers")
}

#[test]
fn a_former_text_opens_until_its_grace_is_over() {
    on_each_engine(|home| {
        let mut store = home.open();
        let first = create(&mut store, "n");
        let start = at(1_700_000_100);
        let (second, until) = rotated(rotate(&mut store, &first.id, HOUR, start));
        assert_eq!(until, Some(start + HOUR));
        let last = start + HOUR - Duration::from_millis(1);
        assert!(opens(&store, &first.secret, last) && opens(&store, &second, last));
        assert!(!opens(&store, &first.secret, start + HOUR), "the moment itself is too late");
        assert!(opens(&store, &second, start + HOUR));
        let found = store.find_key(first.secret.expose()).expect("a good store").expect("still known");
        assert_eq!(found.expires_on(), Some(start + HOUR), "a cache must not outlive it");
        let record = store.get(&first.id).expect("a good store").expect("one key");
        assert_eq!((record.suffix.as_str(), record.rotated_on), (second.suffix(), Some(start)));
        assert_eq!(record.grace(last), Some(start + HOUR));

        // Again: nothing old opens longer than the last rotation says, nor longer than it was promised.
        let (third, until) = rotated(rotate(&mut store, &first.id, HOUR * 9, start + HOUR / 2));
        assert_eq!(until, Some(start + HOUR / 2 + HOUR * 9));
        assert!(!opens(&store, &first.secret, start + HOUR) && opens(&store, &second, start + HOUR * 9));
        let (fourth, until) = rotated(rotate(&mut store, &first.id, Duration::ZERO, start + HOUR / 2));
        assert_eq!(until, None);
        let now = start + HOUR / 2;
        assert_eq!(
            [&first.secret, &second, &third, &fourth].map(|key| opens(&store, key, now)),
            [false, false, false, true]
        );
    });
}

#[test]
fn what_is_over_is_not_rotated_and_former_texts_are_bounded() {
    on_each_engine(|home| {
        let mut store = home.open();
        let (key, now) = (create(&mut store, "n"), at(1_700_000_100));
        for _ in 1..MAX_SECRETS {
            rotated(rotate(&mut store, &key.id, HOUR, now));
        }
        assert!(matches!(rotate(&mut store, &key.id, HOUR, now), Rotation::TooMany));
        assert!(opens(&store, &key.secret, now), "a refused rotation changes nothing");
        let (present, _) = rotated(rotate(&mut store, &key.id, HOUR, now + HOUR));
        store.revoke(&key.id, Some(&Reason::new("leaked").expect("a reason")), now).expect("a good store");
        assert!(!opens(&store, &present, now));
        assert!(matches!(rotate(&mut store, &key.id, HOUR, now), Rotation::Revoked { on } if on == now));
        let record = store.get(&key.id).expect("a good store").expect("it is known");
        assert_eq!(record.revoked_reason.as_deref(), Some("leaked"));

        let options = KeyOptions { expires_on: Some(now), ..KeyOptions::default() };
        let short = org_key("short").with(options, at(1)).expect("good options");
        let short = store.create(&short, &KeyPrefix::default(), at(1), &mut SystemRandom).expect("a good store");
        assert!(opens(&store, &short.secret, now - HOUR) && !opens(&store, &short.secret, now));
        assert!(matches!(rotate(&mut store, &short.id, HOUR, now), Rotation::Expired { on } if on == now));
        let unknown = KeyId::generate(0, &mut Seeded(9)).expect("random");
        assert!(matches!(rotate(&mut store, &unknown, HOUR, now), Rotation::NotFound));
    });
}

#[test]
fn peppers_are_rotated_without_losing_a_key() {
    on_each_engine(|home| {
        let plain = create(&mut home.open(), "before any pepper");
        let mut store = home.open_with(peppers("a"));
        let old = create(&mut store, "under a");
        let mut store = home.open_with(peppers("ba"));
        let new = create(&mut store, "under b");
        store.check_peppers().expect("all are known");
        for key in [&plain, &old, &new] {
            let found = store.find_key(key.secret.expose()).expect("a good store").expect("all verify");
            assert_eq!(found.restated.is_some(), key.id != new.id);
            let row = UseRow { id: found.record.id, count: 1, last: at(1), restated: found.restated };
            let before: Vec<u64> =
                store.count_schemes().expect("a good store").iter().map(|count| count.keys).collect();
            assert_eq!(before.iter().sum::<u64>(), 3);
            store.note_uses(&[row]).expect("a good store");
        }
        let counts = store.count_schemes().expect("a good store");
        assert_eq!(
            counts.iter().map(|count| (count.keys, count.standing)).collect::<Vec<_>>(),
            [(3, Standing::Current)]
        );
        let after = home.open_with(peppers("b"));
        after.check_peppers().expect("`a` is not needed any longer");
        assert!(opens(&after, &plain.secret, at(1)) && opens(&after, &old.secret, at(1)));
    });
}

#[test]
fn imported_keys_come_under_a_pepper_and_move_with_it() {
    on_each_engine(|home| {
        let list = |id: &str| {
            let sha256: String = Sha256::digest("sk-legacy-1").iter().map(|byte| format!("{byte:02x}")).collect();
            let line = format!(r#"{{"id": "api_key_{id:0>32}", "sha256": "{sha256}", "name": "n", "org_code": "o"}}"#);
            read_import(&mut line.as_bytes(), at(100)).expect("a good list")
        };
        let schemes = |store: &Store| {
            let counts = store.count_schemes().expect("a good store").into_iter();
            counts.map(|count| (count.keys, count.standing)).collect::<Vec<_>>()
        };
        let uses = |store: &mut Store| {
            let found = store.find_key("sk-legacy-1").expect("a good store").expect("it was imported");
            let restated = found.restated;
            let is_restated = restated.is_some();
            store.note_uses(&[UseRow { id: found.record.id, count: 1, last: at(1), restated }]).expect("a good store");
            is_restated
        };
        // Without a pepper by its hash alone, until there is one and the key is used.
        assert_eq!(home.open().import(&list("1"), at(100)).expect("a good store").added, 1);
        assert!(!uses(&mut home.open()));
        let mut store = home.open_with(peppers("a"));
        assert_eq!(schemes(&store), [(1, Standing::Former)]);
        for id in ["1", "2"] {
            let again = store.import(&list(id), at(100));
            assert_eq!(again.map(|imported| imported.known).ok(), (id == "1").then_some(1), "one hash is one key");
        }
        assert_eq!((uses(&mut store), uses(&mut store)), (true, false));
        assert_eq!(schemes(&store), [(1, Standing::Current)]);
        let mut store = home.open_with(peppers("ba"));
        assert!(store.has_imported().expect("a good store") && store.import(&list("2"), at(100)).is_err());
        assert!(uses(&mut store));
        let store = home.open_with(peppers("b"));
        store.check_peppers().expect("`a` is not needed any longer");
        assert!(store.find_key("sk-legacy-1").expect("a good store").is_some());
        assert!(home.open_with(peppers("a")).check_peppers().is_err(), "a stolen store says nothing without `b`");

        // With a pepper from the beginning.
        let home = home.another();
        let mut store = home.open_with(peppers("a"));
        assert_eq!(store.import(&list("1"), at(100)).expect("a good store").added, 1);
        assert_eq!((schemes(&store), uses(&mut store)), (vec![(1, Standing::Current)], false));
        assert!(home.open().check_peppers().is_err());
    });
}

#[test]
fn of_two_imports_at_once_that_exclude_each_other_one_is_refused() {
    let list = |id: &str, key: &str| {
        let sha256: String = Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect();
        let line = format!(r#"{{"id": "api_key_{id:0>32}", "sha256": "{sha256}", "name": "n", "org_code": "o"}}"#);
        read_import(&mut line.as_bytes(), at(100)).expect("a good list")
    };
    on_each_engine(|home| {
        // Other peppers; and the same, of which the present one is not: then by one hash as two keys.
        for (letters, keys) in [(["a", "b"], ["k", "l"]), (["ab", "ba"], ["k", "k"])].into_iter().cycle().take(6) {
            let home = home.another();
            drop(home.open());
            let together = Barrier::new(2);
            let imports =
                [0, 1].map(|at: usize| (home.open_with(peppers(letters[at])), list(["1", "2"][at], keys[at])));
            let ended = thread::scope(|scope| {
                let started = imports.map(|(mut store, keys)| {
                    let together = &together;
                    scope.spawn(move || {
                        together.wait();
                        store.import(&keys, at(100)).is_ok()
                    })
                });
                started.map(|import| import.join().expect("no panic"))
            });
            assert!(ended[0] != ended[1], "{letters:?}: {ended:?}");
        }
    });
}

#[test]
fn a_missing_pepper_is_an_error_and_no_invalid_key() {
    on_each_engine(|home| {
        let key = create(&mut home.open_with(peppers("a")), "n");
        for wrong in [Peppers::default(), peppers("b")] {
            let mut store = home.open_with(wrong);
            for error in [
                store.check_peppers().expect_err("its pepper is missing"),
                store.find_key(key.secret.expose()).expect_err("nothing is known about it"),
                try_create(&mut store, "under a wrong pepper").expect_err("it would make things worse"),
            ] {
                assert!(matches!(error.fault(), Fault::UnknownPepper(_)), "{error}");
                assert!(error.to_string().contains("`keys.store.pepper`"), "{error}");
            }
            assert_eq!(store.count_schemes().expect("a good store")[0].standing, Standing::Unknown);
            store.list().expect("looking is possible");
        }
        // Who has lost the pepper for good takes the keys back and lets their records go.
        let mut store = home.open();
        store.revoke(&key.id, None, at(5)).expect("a good store");
        assert_eq!(store.delete_old(at(4)).expect("a good store"), 0);
        assert_eq!(store.delete_old(at(5)).expect("a good store"), 1);
        store.check_peppers().expect("nothing hangs on it any longer");
        assert!(store.find_key(key.secret.expose()).expect("a good store").is_none());
    });
}

#[test]
fn what_cannot_be_told_locks_out_nobody_who_comes_with_it() {
    on_each_engine(|home| {
        let known = create(&mut home.open_with(peppers("b")), "under b");
        let other = create(&mut home.open_with(peppers("ab")), "under a");
        let store = home.open_with(peppers("b"));
        let texts = [other.secret.expose(), known.secret.expose(), "no key"];
        let wanted = texts.map(|text| store.peppers().candidates(text));
        let found = store.find_all(&wanted.iter().collect::<Vec<_>>()).expect("a good store");
        let is_unknown_pepper = |answer: &Result<_, StoreError>| {
            matches!(answer.as_ref().err().map(StoreError::fault), Some(Fault::UnknownPepper(_)))
        };
        assert_eq!(found.iter().map(is_unknown_pepper).collect::<Vec<_>>(), [true, false, true]);
        assert!(matches!(&found[1], Ok(Some(found)) if found.record.id == known.id));
    });
}

#[test]
fn uses_add_up_and_wake_nobody() {
    on_each_engine(|home| {
        let (mut store, mut other) = (home.open(), home.open());
        let key = create(&mut store, "n");
        let mut watch = store.watch().expect("a good store");
        let row = |count, second| UseRow { id: key.id.clone(), count, last: at(second), restated: None };
        store.note_uses(&[row(3, 50)]).expect("a good store");
        other.note_uses(&[row(2, 40)]).expect("a good store");
        let record = store.get(&key.id).expect("a good store").expect("it was made");
        assert_eq!((record.use_count, record.last_used_on), (5, Some(at(50))));
        assert_eq!(watch.poll().expect("a good store"), Change::Unchanged);
        rotate(&mut other, &key.id, HOUR, at(60));
        assert_eq!(next_change(&mut watch), Change::Changed);
    });
}

#[test]
fn pages_are_stable_and_filters_exact() {
    on_each_engine(|home| {
        let mut store = home.open();
        let mut ids = Vec::new();
        for second in 1..=10 {
            let (org, name) = (
                if second % 2 == 0 { "even" } else { "odd" },
                format!("{}{second}", if second > 5 { "late%" } else { "early" }),
            );
            let new = NewKey::new(&name, Some(org), (second == 3).then_some("kp_3"), ["a"]).expect("a good key");
            let options = KeyOptions { expires_on: (second == 4).then(|| at(50)), ..KeyOptions::default() };
            let new = new.with(options, at(1)).expect("good options");
            ids.push(
                store.create(&new, &KeyPrefix::default(), at(second), &mut SystemRandom).expect("a good store").id,
            );
        }
        store.revoke(&ids[6], None, at(20)).expect("a good store");
        let names = |filter: KeyFilter| -> Vec<usize> {
            let page = store.page(&filter, None, 100).expect("a good store");
            assert_eq!(page.next, None);
            page.keys.iter().map(|key| ids.iter().position(|id| *id == key.id).expect("ours") + 1).collect()
        };
        let all = KeyFilter::default;
        assert_eq!(names(all()), (1..=10).collect::<Vec<_>>());
        assert_eq!(names(KeyFilter { org_code: Some("even".into()), ..all() }), [2, 4, 6, 8, 10]);
        assert_eq!(names(KeyFilter { user_id: Some("kp_3".into()), ..all() }), [3]);
        assert_eq!(names(KeyFilter { name_prefix: Some("late%".into()), ..all() }), [6, 7, 8, 9, 10]);
        assert_eq!(names(KeyFilter { name_prefix: Some("%".into()), ..all() }), [0_usize; 0]);
        let status = |status, second| KeyFilter { status: Some((status, at(second))), ..all() };
        assert_eq!(names(status(KeyStatus::Revoked, 0)), [7]);
        assert_eq!(names(status(KeyStatus::Expired, 49)), [0_usize; 0]);
        assert_eq!(names(status(KeyStatus::Expired, 50)), [4]);
        assert_eq!(names(status(KeyStatus::Active, 50)), [1, 2, 3, 5, 6, 8, 9, 10]);
        let both = KeyFilter { org_code: Some("odd".into()), ..status(KeyStatus::Active, 50) };
        assert_eq!(names(both), [1, 3, 5, 9]);

        // What is deleted or added in between moves nothing.
        let first = store.page(&all(), None, 7).expect("a good store");
        assert_eq!((first.keys.len(), first.next.as_ref()), (7, Some(&ids[6])));
        assert_eq!(store.delete_old(at(20)).expect("a good store"), 1);
        let rest = store.page(&all(), first.next.as_ref(), 3).expect("a good store");
        assert_eq!(rest.keys.iter().map(|key| &key.id).collect::<Vec<_>>(), ids[7..].iter().collect::<Vec<_>>());
        assert_eq!(rest.next, None);
    });
}

/// What a change has made of the keys: the statuses and texts of all records, without their ids and moments.
fn state(home: &Home, known: &[&str]) -> String {
    let store = home.open();
    let records = store.list().expect("a good store");
    let opened: Vec<bool> = known
        .iter()
        .map(|key| store.find_key(key).expect("a good store").is_some_and(|found| found.is_usable(at(1_700_000_050))))
        .collect();
    let records: Vec<_> = records.iter().map(|record| (record.revoked_on, record.rotated_on)).collect();
    let loose = "SELECT count(*) FROM key_records \
        WHERE id NOT IN (SELECT key_id FROM key_secrets WHERE valid_until IS NULL)";
    let (check, loose) = match home.database() {
        Some(database) => ("ok".to_owned(), database.sql(loose).parse().expect("a count")),
        None => {
            let engine = home.engine();
            let one = |sql: &str| engine.connection.query_row(sql, (), |row| row.get(0)).expect("a check");
            (one("PRAGMA integrity_check"), engine.connection.query_row(loose, (), |row| row.get(0)).expect("a count"))
        }
    };
    assert_eq!((check.as_str(), loose), ("ok", 0_i64), "every key has its one present text");
    format!("{records:?} {opened:?}")
}

#[test]
fn a_kill_at_any_step_leaves_all_of_a_change_or_nothing() {
    on_each_engine(|home| {
        for change in ["create", "rotate", "revoke"] {
            let mut states = BTreeSet::new();
            let mut steps = 0;
            loop {
                let home = &home.another();
                let key = create(&mut home.open(), "n");
                let text = key.secret.expose().to_owned();
                let before = state(home, &[&text]);
                let mut other = Other::new(&format!("die-after {steps} {change} {}", key.id), home);
                other.go();
                assert_eq!(other.report().as_deref(), Some("ready"));
                let acknowledged = other.report();
                assert!(other.report().is_none(), "the process is gone");
                let after = state(home, &[&text]);
                states.insert(after != before);
                match &acknowledged {
                    // Dead before it could say anything: all or nothing, which the checks above and the next line tell.
                    None if after == before => {}
                    None => finished(change, home),
                    Some(said) => {
                        let (_, new) = said.split_once(' ').expect("an id and a text");
                        assert_ne!(after, before, "{change} was acknowledged");
                        if change != "revoke" {
                            let found = home.open().find_key(new).expect("a good store");
                            assert!(found.expect("it was acknowledged").is_usable(at(1_700_000_050)));
                        } else {
                            assert!(home.open().list().expect("a good store")[0].revoked_on.is_some());
                        }
                        break;
                    }
                }
                steps += 1;
            }
            println!("{change}: killed at each of {steps} steps; then acknowledged and kept");
            assert!(steps >= 5, "{change} has {steps} steps");
            assert_eq!(states.len(), 2, "some kills came before the change was durable, some behind");
        }
    });
}

/// The whole change was made.
fn finished(change: &str, home: &Home) {
    let records = home.open().list().expect("a good store");
    match change {
        "create" => assert_eq!(records.len(), 2),
        "rotate" => assert!(records[0].rotated_on.is_some() && records[0].grace_until.is_some()),
        _ => assert!(records[0].revoked_on.is_some()),
    }
}
