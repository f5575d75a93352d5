//! The key service on a PostgreSQL store: the same answers, nobody called invalid while the database is away, and a
//! service that comes back with it.

use keyward::keys::{KeyPrefix, NewKey, Peppers, PostgresSpec, Store, StorePlace, SystemRandom};
use keyward::time::Clock;
use serde_json::{Value, json};

use super::fleet::{becomes, following};
use super::{Keys, READER, SIDECAR};
use crate::harness::postgres::{Database, own, shared};
use crate::harness::{Answer, Origin, within};

async fn on(database: &Database) -> Keys {
    within("the start", Keys::serving_store("{file: url}", "", Clock::system(), &[("url", &database.url())])).await
}

/// Asks whether the key is valid, whatever the answer.
async fn ask(keys: &Keys, key: &str) -> Answer {
    let body = json!({"api_key": key}).to_string();
    keys.ask("POST", "/api/v1/api_keys/verify").key(SIDECAR).json(body).send().await
}

/// Asks until the service answers `expected`. Before, it may only say what it knows, or that it is unavailable.
async fn until(expected: &str, keys: &Keys, key: &str, before: &[&str]) {
    within(expected, async {
        loop {
            let answer = ask(keys, key).await;
            let code = match answer.status {
                200 => super::text(&answer.json()["code"]),
                503 => super::text(&answer.json()["errors"][0]["code"]),
                status => panic!("{status}: {}", answer.text()),
            };
            if code == expected {
                return;
            }
            assert!(before.contains(&code.as_str()), "{code} on the way to {expected}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_service_and_the_commands_share_a_database() {
    let database = shared().database();
    let keys = on(&database).await;
    let (id, secret) = keys.create("a").await;
    let (other, _) = keys.create("other").await;
    assert_eq!(keys.verify(&secret).await["is_valid"], json!(true));
    for (query, expected) in [
        ("?page_size=1", vec![&id]),
        ("?key_type=organization&status=active", vec![&id, &other]),
        ("?key_type=user", vec![]),
        ("?name_prefix=oth&org_code=org_1", vec![&other]),
        ("?status=revoked", vec![]),
    ] {
        let page = keys.admin("GET", &format!("/api/v1/api_keys{query}"), Value::Null).await.json();
        let ids: Vec<String> =
            page["api_keys"].as_array().expect("keys").iter().map(|key| super::text(&key["id"])).collect();
        assert_eq!(ids.iter().collect::<Vec<_>>(), expected, "{query}");
    }

    let path = format!("/api/v1/api_keys/{id}");
    let rotated = keys.admin("PUT", &path, Value::Null).await;
    assert_eq!(rotated.status, 201, "{}", rotated.text());
    let second = super::text(&rotated.json()["api_key"]["key"]);
    assert_eq!(keys.verify(&secret).await["is_valid"], json!(false));
    assert_eq!(keys.verify(&second).await["is_valid"], json!(true));

    let config = "upstreams: {ai: {endpoints: ['http://127.0.0.1:1']}}\nkeys: {store: {url: {file: url}}}\n\
                  defaults: {upstream: ai}\nroutes: [{id: all, path: /**}]\n";
    std::fs::write(keys.dir.path().join("local.yaml"), config).expect("written");
    let said = |output: std::process::Output| {
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    // What was used is written at any moment, and shown: not between two of the commands below.
    let count = async || keys.admin("GET", &path, Value::Null).await.json()["api_key"]["verification_count"].clone();
    within("the uses", async { while count().await != json!(2) {} }).await;
    // Revoked beside the service, then read from afar and on the store itself.
    said(keys.local(&["revoke", &id, "--reason", "published"]).await);
    assert_eq!(keys.verify(&second).await["status"], json!("revoked"));
    for command in [&["show", id.as_str(), "--json"] as &[&str], &["show", &other], &["list", "--status", "revoked"]] {
        assert_eq!(said(keys.remote(command).await), said(keys.local(command).await), "{command:?}");
    }
}

/// Makes whoever reads the record of the key `slow` wait for the table `gate`. Lookups go by the index of the ids.
const GATE: &str = "
    ALTER TABLE key_records RENAME TO kept_records;
    CREATE TABLE gate ();
    CREATE FUNCTION passes(name text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
        IF name = 'slow' THEN PERFORM count(*) FROM gate; END IF;
        RETURN true;
    END $$;
    CREATE VIEW key_records AS SELECT * FROM kept_records WHERE passes(name);
    DO $$ BEGIN
        EXECUTE format('ALTER DATABASE %I SET enable_seqscan = off', current_database());
        EXECUTE format('ALTER DATABASE %I SET enable_hashjoin = off', current_database());
        EXECUTE format('ALTER DATABASE %I SET enable_mergejoin = off', current_database());
    END $$;
";

#[tokio::test]
async fn a_list_that_hangs_holds_up_no_verification() {
    let database = shared().database();
    let place = PostgresSpec::parse(&database.url()).expect("a good URL");
    let mut store = Store::open(StorePlace::from(place), Peppers::default()).expect("a store");
    let mut made = Vec::new();
    for name in ["slow", "one", "two", "three"] {
        let new = NewKey::new(name, Some("org_1"), None, [""; 0]).expect("a good key");
        let now = Clock::system().now().wall;
        made.push(store.create(&new, &KeyPrefix::default(), now, &mut SystemRandom).expect("a good store"));
    }
    drop(store);
    database.sql(GATE);
    let keys = on(&database).await;
    let lock = database.lock("gate");
    let list = keys.ask("GET", "/api/v1/api_keys").key(READER);
    let list = tokio::spawn(async move { list.send().await });
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'gate'::regclass";
    within("the list to wait", async {
        while database.sql(waits) == "0" {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    // All at once, each of them not asked about before.
    let (one, two, three) = tokio::join!(
        keys.verify(made[1].secret.expose()),
        keys.verify(made[2].secret.expose()),
        keys.verify(made[3].secret.expose())
    );
    for answer in [one, two, three] {
        assert_eq!(answer["is_valid"], json!(true), "{answer}");
    }
    assert!(!list.is_finished());
    drop(lock);
    let list = within("the list", list).await.expect("no panic");
    assert_eq!((list.status, list.json()["api_keys"].as_array().map(Vec::len)), (200, Some(4)), "{}", list.text());
}

#[tokio::test]
async fn a_service_outlives_its_database() {
    let database = own().database();
    let keys = on(&database).await;
    let origin = Origin::json("{}").await;
    let proxy = following(&keys, &origin).await;
    let (id, key) = keys.create("a").await;
    let (_, another) = keys.create("another").await;
    becomes(&proxy, &key, 200).await;

    database.cluster.stop();
    until("UNAVAILABLE", &keys, &key, &["API_KEY_VERIFIED"]).await;
    let path = format!("/api/v1/api_keys/{id}");
    for (method, target) in [("GET", "/api/v1/api_keys"), ("GET", &path), ("PUT", &path), ("DELETE", &path)] {
        let answer = keys.admin(method, target, Value::Null).await;
        assert_eq!((answer.status, &answer.json()["errors"][0]["code"]), (503, &json!("UNAVAILABLE")), "{method}");
    }
    // A sidecar that follows has forgotten what it knew, and asks.
    becomes(&proxy, &key, 503).await;

    database.cluster.resume_after_stop();
    until("API_KEY_VERIFIED", &keys, &key, &["UNAVAILABLE"]).await;
    becomes(&proxy, &key, 200).await;
    // It makes changes again, and hears of those by others.
    let deleted = keys.admin("DELETE", &path, Value::Null).await;
    assert_eq!(deleted.status, 200, "{}", deleted.text());
    becomes(&proxy, &key, 401).await;
    becomes(&proxy, &another, 200).await;
    database.sql("UPDATE key_records SET revoked_on = 1 WHERE name = 'another'");
    becomes(&proxy, &another, 401).await;
    until("API_KEY_INVALID", &keys, &another, &[]).await;
}
