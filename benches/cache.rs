//! What a cached verification costs, and what the cache of verified keys holds.
//!
//! `cargo bench --bench cache` prints microseconds and allocations per cached verification, the best of several
//! rounds, and the memory of a cache with 10,000 keys. The goals are less than 1 µs without an allocation, and less
//! than 4 MiB; nothing is asserted about times.

use std::alloc::System;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use keyward::auth::{
    Authenticator, CacheSpec, Credential, Credentials, KindeSpec, KindeVerifier, Origin, Trouble, Verifier,
    take_credential,
};
use keyward::limit::Limiter;
use keyward::observe::Metrics;
use keyward::policy::{Limit, Place, Rate, Subject};
use keyward::time::Clock;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const ROUNDS: usize = 7;
const CALLS: u32 = 20_000;
const KEYS: u32 = 10_000;
/// Keys in use when the time is taken: few enough that none is evicted, or a verification would be measured.
const HOT: u32 = 1000;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(measure());
}

async fn measure() {
    let clock = Clock::system();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(kinde(stream));
        }
    });
    let failures = Arc::new(Limit {
        name: "auth_failures".into(),
        rate: Rate { requests: 1_000_000, per: Duration::from_secs(60), capacity: 1_000_000 },
        by: Subject::Address,
    });
    // Whatever is made once for the process is made by the first of these.
    drop(filled(port, &clock, &failures, 100).await);
    let before = Region::new(ALLOCATOR);
    let auth = filled(port, &clock, &failures, KEYS).await;
    let held = before.change();
    let bytes = held.bytes_allocated.saturating_sub(held.bytes_deallocated);
    drop(auth);
    let auth = filled(port, &clock, &failures, HOT).await;
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);

    let mut best = Duration::MAX;
    let mut allocations = 0;
    for _ in 0..ROUNDS {
        // Taking a key out of a request copies it once, so that is measured apart.
        let mut keys: Vec<_> = (0..CALLS).map(|n| credential(n % HOT)).collect();
        let region = Region::new(ALLOCATOR);
        let begun = clock.now();
        while let Some(key) = keys.pop() {
            black_box(auth.authenticate(key, address, &failures, begun).await).expect("a cached key");
        }
        best = best.min(clock.now().monotonic.saturating_duration_since(begun.monotonic) / CALLS);
        allocations = region.change().allocations;
    }
    println!("{:<52} {:>10.3} µs, {:.3} allocations", "a cached verification", micros(best), per_call(allocations));

    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let mut requests: Vec<_> = (0..CALLS).map(|n| request(n % HOT)).collect();
        let region = Region::new(ALLOCATOR);
        let begun = clock.now().monotonic;
        for headers in &mut requests {
            black_box(take_credential(headers, &PLACES));
        }
        best = best.min(clock.now().monotonic.saturating_duration_since(begun) / CALLS);
        allocations = region.change().allocations;
    }
    println!(
        "{:<52} {:>10.3} µs, {:.3} allocations",
        "taking a key out of a request",
        micros(best),
        per_call(allocations)
    );
    println!("{:<52} {:>10.2} MiB, {} bytes a key", "a cache of 10,000 keys", mib(bytes), bytes / KEYS as usize);
}

const PLACES: [Place; 1] = [Place::Bearer];

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn mib(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn per_call(allocations: usize) -> f64 {
    allocations as f64 / f64::from(CALLS)
}

fn request(n: u32) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("authorization", format!("Bearer k_live_0123456789abcdef{n:016}").parse().expect("a value"));
    headers
}

fn credential(n: u32) -> Credential {
    take_credential(&mut request(n), &PLACES)
}

/// An authenticator that has verified so many keys.
async fn filled(port: u16, clock: &Clock, failures: &Arc<Limit>, keys: u32) -> Authenticator {
    let cache = CacheSpec {
        ttl: Duration::from_secs(3600),
        negative_ttl: Duration::from_secs(5),
        max_entries: KEYS as usize,
        refresh_ahead: false,
        stale_if_error: Duration::ZERO,
    };
    let kinde = KindeSpec {
        origin: Origin { tls: false, host: "127.0.0.1".into(), port },
        credentials: Credentials::Nothing,
        api_id: None,
        ca: None,
        timeout: Duration::from_secs(30),
        poll: None,
        proxy: None,
        follow: false,
    };
    let metrics = Arc::new(Metrics::new().expect("metrics"));
    let limiter = Arc::new(Limiter::new(1000));
    let verifier = KindeVerifier::new(&kinde, Arc::clone(&metrics), clock.clone(), Trouble::default());
    let background = tokio::runtime::Handle::current();
    let auth = Authenticator::new(&cache, limiter, metrics, clock.clone(), background, |_| {
        verifier.map(|verifier| Verifier::Kinde(Arc::new(verifier)))
    });
    let auth = auth.expect("an authenticator");
    for n in 0..keys {
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        auth.authenticate(credential(n), address, failures, clock.now()).await.expect("a valid key");
    }
    auth
}

/// Answers as Kinde does, for keys that all have owners of their own.
async fn kinde(stream: TcpStream) {
    let mut stream = BufReader::new(stream);
    let (mut line, mut body, mut length) = (String::new(), Vec::new(), 0);
    while stream.read_line(&mut line).await.is_ok_and(|read| read > 0) {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
        let ended = line == "\r\n";
        line.clear();
        if !ended {
            continue;
        }
        body.resize(length, 0);
        stream.read_exact(&mut body).await.expect("a body");
        let asked = String::from_utf8_lossy(&body);
        let answer = match asked.split_once("k_live_0123456789abcdef") {
            Some((_, n)) => format!(
                r#"{{"is_valid":true,"status":"active","key_id":"api_key_0123456789abcdef{}","org_code":"org_{}","scopes":["read:ai_chats","write:ai_chat","read:analytics"]}}"#,
                &n[..16],
                &n[5..16],
            ),
            None => r#"{"is_valid":false}"#.to_owned(),
        };
        let reply = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{answer}", answer.len());
        if stream.write_all(reply.as_bytes()).await.is_err() {
            return;
        }
    }
}
