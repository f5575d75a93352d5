//! What a key costs that is not in the cache, in stores of a thousand to a million keys, and what a cache before such a
//! store holds.
//!
//! `cargo bench --bench store` measures SQLite and, where `initdb` and `postgres` are installed, a PostgreSQL of its own.
//! Compare the columns with the first, of the same run: the cost of a lookup should hardly grow, and the memory not at
//! all. `cargo bench --bench store sqlite` (or `postgres`, or `memory`) takes one part. Nothing is asserted about times.

// A server of the tests' own.
#[path = "../tests/it/harness/postgres.rs"]
mod postgres;

use std::alloc::System;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use keyward::auth::{Authenticator, CacheSpec, Credential, StoreVerifier, Verifier, take_credential};
use keyward::keys::{Candidates, KeyPrefix, Peppers, PostgresSpec, Store, StorePlace};
use keyward::limit::Limiter;
use keyward::observe::Metrics;
use keyward::policy::{Limit, Place, Rate, Subject};
use keyward::time::Clock;
use sha2::Sha256;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const SIZES: [u64; 3] = [1_000, 100_000, 1_000_000];
const ROUNDS: usize = 7;
/// Keys that are looked up in a round: few enough for the smallest store, spread over all of the largest.
const LOOKUPS: u64 = 1_000;
const CACHED: u64 = 10_000;
/// Rows of one statement.
const BATCH: u64 = 10_000;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wants = |part: &str| wanted.is_empty() || wanted.iter().any(|asked| asked == part);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    println!("{:<44}{:>12}{:>20}{:>20}", "", "1,000 keys", "100,000 keys", "1,000,000 keys");
    if wants("sqlite") || wants("memory") {
        let dir = tempfile::tempdir().expect("a directory");
        let places = SIZES.map(|size| {
            let file = dir.path().join(format!("{size}.db"));
            let place = StorePlace::File(file.clone());
            drop(Store::open(&place, Peppers::default()).expect("a store"));
            fill_file(&file, size);
            place
        });
        if wants("sqlite") {
            lookups("SQLite", &places);
        }
        if wants("memory") {
            memory(&places, &runtime);
        }
    }
    if wants("postgres") {
        let is_there = |program| {
            Command::new(program).arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success())
        };
        if !is_there("initdb") && !Path::new("/usr/lib/postgresql").exists() {
            return println!("PostgreSQL: `initdb` is not installed, so it is not measured");
        }
        let cluster = postgres::own();
        let databases = SIZES.map(|_| cluster.database());
        let places = [0, 1, 2].map(|at: usize| {
            let url = databases[at].url();
            let place = StorePlace::from(PostgresSpec::parse(&url).expect("a good URL"));
            drop(Store::open(&place, Peppers::default()).expect("a store"));
            runtime.block_on(fill_database(&url, SIZES[at]));
            databases[at].sql("VACUUM ANALYZE");
            databases[at].sql("SELECT pg_stat_reset()");
            place
        });
        lookups("PostgreSQL", &places);
        println!("PostgreSQL, reads of the largest: {}", databases[2].sql(READS).replace('\n', "; "));
    }
}

/// How the tables were read: whole, or by an index.
const READS: &str = "SELECT relname || ' whole ' || seq_scan || ', by index ' || idx_scan FROM pg_stat_user_tables \
    WHERE relname IN ('key_secrets', 'key_records') ORDER BY relname";

/// The best mean of several rounds, in each of which the stores have their turn: whatever else the machine does, it
/// does to all of them.
fn lookups(name: &str, places: &[StorePlace; 3]) {
    let stores = places.each_ref().map(|place| Store::open_existing(place, Peppers::default()).expect("a store"));
    for (what, first) in [("a key that is there", 0), ("a key that is not", 10_000_000)] {
        let candidates = SIZES.map(|size| -> Vec<Candidates> {
            (0..LOOKUPS).map(|n| stores[0].peppers().candidates(&text(first + n * (size / LOOKUPS)))).collect()
        });
        let mut best = [f64::MAX; 3];
        for _ in 0..ROUNDS {
            for at in 0..3 {
                best[at] = best[at].min(lookup(&stores[at], &candidates[at]));
            }
        }
        print(&format!("{name}: {what}"), "µs", &best);
    }
}

/// Microseconds.
fn lookup(store: &Store, candidates: &[Candidates]) -> f64 {
    let clock = Clock::system();
    let begun = clock.now().monotonic;
    for candidates in candidates {
        black_box(store.find(candidates).expect("a good store"));
    }
    clock.now().monotonic.saturating_duration_since(begun).as_secs_f64() * 1e6 / candidates.len() as f64
}

fn memory(places: &[StorePlace; 3], runtime: &tokio::runtime::Runtime) {
    let measured = places.each_ref().map(|place| runtime.block_on(through_the_cache(place)));
    let used = measured.map(|measured| measured.started as f64 / 1024.0);
    print("a verifier and 1,000 of the store's keys", "KiB", &used);
    let Measured { full, nanos, allocations, .. } = measured[2];
    let mib = full as f64 / f64::from(1 << 20);
    println!("a cache of 10,000 keys of the store: {mib:.2} MiB, {} bytes a key", full / CACHED as usize);
    println!("a verification that it answers, the use counted: {nanos} ns, {allocations:.3} allocations");
}

fn print(what: &str, unit: &str, values: &[f64]) {
    let first = values.first().copied().unwrap_or(1.0);
    let cells: Vec<String> = values.iter().map(|value| format!("{value:.1} {unit} ({:.2})", value / first)).collect();
    println!("{what:<44}{:>12}{:>20}{:>20}", cells[0].trim_end_matches(" (1.00)"), cells[1], cells[2]);
}

#[derive(Clone, Copy)]
struct Measured {
    /// Bytes that a verifier holds when it has answered for a thousand keys.
    started: usize,
    /// Bytes of a full cache, or of one with all the keys of a smaller store.
    full: usize,
    /// Of a verification that the cache answers.
    nanos: u128,
    allocations: f64,
}

async fn through_the_cache(place: &StorePlace) -> Measured {
    const CALLS: usize = 20_000;
    let clock = Clock::system();
    let failures = Arc::new(Limit {
        name: "auth_failures".into(),
        rate: Rate { requests: 1_000_000, per: Duration::from_secs(60), capacity: 1_000_000 },
        by: Subject::Address,
    });
    // Whatever is made once for the process is made by the first of these.
    drop(filled(place, &clock, &failures, 10).await);
    let held = async |keys| {
        let before = Region::new(ALLOCATOR);
        let auth = filled(place, &clock, &failures, keys).await;
        let held = before.change();
        (auth, held.bytes_allocated.saturating_sub(held.bytes_deallocated))
    };
    let (auth, started) = held(SIZES[0]).await;
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let (mut nanos, mut allocations) = (u128::MAX, 0);
    for _ in 0..ROUNDS {
        let mut keys: Vec<_> = (0..SIZES[0]).cycle().take(CALLS).map(credential).collect();
        let region = Region::new(ALLOCATOR);
        let begun = clock.now();
        while let Some(key) = keys.pop() {
            black_box(auth.authenticate(key, address, &failures, begun).await).expect("a cached key");
        }
        let took = clock.now().monotonic.saturating_duration_since(begun.monotonic);
        nanos = nanos.min(took.as_nanos() / CALLS as u128);
        allocations = region.change().allocations;
    }
    drop(auth);
    let full = if Store::open_existing(place, Peppers::default()).is_ok_and(|store| is_larger(&store)) {
        held(CACHED).await.1
    } else {
        started
    };
    Measured { started, full, nanos, allocations: allocations as f64 / CALLS as f64 }
}

/// Whether the store has keys for a full cache.
fn is_larger(store: &Store) -> bool {
    store.find(&store.peppers().candidates(&text(CACHED))).is_ok_and(|found| found.is_some())
}

async fn filled(place: &StorePlace, clock: &Clock, failures: &Arc<Limit>, keys: u64) -> Authenticator {
    let cache = CacheSpec {
        ttl: Duration::from_secs(3600),
        negative_ttl: Duration::from_secs(5),
        max_entries: CACHED as usize,
        refresh_ahead: false,
        stale_if_error: Duration::ZERO,
    };
    let metrics = Arc::new(Metrics::new().expect("metrics"));
    let limiter = Arc::new(Limiter::new(1000));
    let background = tokio::runtime::Handle::current();
    let told = Arc::clone(&metrics);
    let auth = Authenticator::new(&cache, limiter, metrics, clock.clone(), background, |on_change| {
        let (prefix, peppers) = (KeyPrefix::default(), Peppers::default());
        let verifier = StoreVerifier::start(place, prefix, peppers, clock.clone(), told, on_change);
        verifier.map(|verifier| Verifier::Store(Arc::new(verifier)))
    });
    let auth = auth.expect("an authenticator");
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    for n in 0..keys {
        auth.authenticate(credential(n), address, failures, clock.now()).await.expect("a valid key");
    }
    auth
}

fn credential(n: u64) -> Credential {
    let mut headers = HeaderMap::new();
    headers.insert("authorization", format!("Bearer {}", text(n)).parse().expect("a value"));
    take_credential(&mut headers, &[Place::Bearer])
}

/// The text of a key, with the checksum that lets it pass to the store.
fn text(n: u64) -> String {
    const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut text = format!("kw_live_{n:030}");
    let mut left = crc32fast::hash(text.as_bytes());
    let mut checksum = [b'0'; 6];
    for place in checksum.iter_mut().rev() {
        *place = BASE62[(left % 62) as usize];
        left /= 62;
    }
    text.extend(checksum.map(char::from));
    text
}

/// As `keys` computes it without a pepper.
fn digest(n: u64) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(b"keyward api key digest v1").expect("any length");
    mac.update(text(n).as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn id(n: u64) -> String {
    format!("api_key_{n:032x}")
}

const RECORD: &str = "INSERT INTO key_records (id, name, org_code, scopes, api_ids, allow_from, metadata, prefix, suffix, \
    created_on)";
const VALUES: &str = "'[\"read:ai_chats\",\"write:ai_chat\"]', '[]', '[]', '{}', 'kw_live', 'abcd', 1700000000000";

fn fill_file(file: &Path, to: u64) {
    let mut connection = rusqlite::Connection::open(file).expect("a database");
    for start in (0..to).step_by(BATCH as usize) {
        let transaction = connection.transaction().expect("a transaction");
        {
            let record = format!("{RECORD} VALUES (?1, 'a key', ?2, {VALUES})");
            let mut record = transaction.prepare_cached(&record).expect("good SQL");
            let secret = "INSERT INTO key_secrets (digest, scheme, key_id) VALUES (?1, 'hmac-sha256', ?2)";
            let mut secret = transaction.prepare_cached(secret).expect("good SQL");
            for n in start..(start + BATCH).min(to) {
                record.execute((id(n), format!("org_{n}"))).expect("a record");
                secret.execute((digest(n), id(n))).expect("a digest");
            }
        }
        transaction.commit().expect("a commit");
    }
}

async fn fill_database(url: &str, to: u64) {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.expect("a connection");
    tokio::spawn(connection);
    // Nobody listens, and a million notices would be sorted.
    let off = "ALTER TABLE key_records DISABLE TRIGGER USER; ALTER TABLE key_secrets DISABLE TRIGGER USER";
    client.batch_execute(off).await.expect("our tables");
    let record =
        format!("{RECORD} SELECT id, 'a key', org, {VALUES} FROM unnest($1::text[], $2::text[]) AS new (id, org)");
    let secret = "INSERT INTO key_secrets (digest, scheme, key_id) \
                  SELECT digest, 'hmac-sha256', id FROM unnest($1::bytea[], $2::text[]) AS new (digest, id)";
    for start in (0..to).step_by(BATCH as usize) {
        let numbers = start..(start + BATCH).min(to);
        let ids: Vec<String> = numbers.clone().map(id).collect();
        let orgs: Vec<String> = numbers.clone().map(|n| format!("org_{n}")).collect();
        let digests: Vec<Vec<u8>> = numbers.map(digest).collect();
        client.execute(&record, &[&ids, &orgs]).await.expect("records");
        client.execute(secret, &[&digests, &ids]).await.expect("digests");
    }
    client.batch_execute(&off.replace("DISABLE", "ENABLE")).await.expect("our tables");
}
