//! What the decisions of a request cost that need no body: which route it is for, and whether its limits let it pass.
//!
//! `cargo bench --bench policy` prints microseconds and allocations per call, the best of several rounds, with few and
//! with many routes and buckets. The numbers are for comparing two builds on one machine; nothing is asserted about them.

use std::alloc::System;
use std::fmt::Write;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use keyward::config::{Overrides, compile_text};
use keyward::limit::{BucketOwner, Charge, Limiter};
use keyward::policy::{Limit, Matched, Rate, RouteTable, Subject};
use keyward::time::Clock;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const ROUNDS: usize = 7;
const CALLS: usize = 50_000;

fn main() {
    let clock = Clock::system();
    println!("{:<52} {:>10} {:>12}", "per call", "µs", "allocations");
    for count in [10, 100, 1000, 10_000] {
        let table = routes(count);
        let paths: Vec<String> = (0..count).map(|n| path(n).replace("{id}", "42")).collect();
        report(&clock, &format!("route match, {count} routes"), |n| {
            let found = table.find(None, &Method::POST, black_box(&paths[n * 7919 % count]));
            assert!(matches!(black_box(found), Matched::Route(_)));
        });
    }
    for count in [10, 1000, 100_000] {
        let limiter = Limiter::new(200_000);
        let limit = Arc::new(Limit {
            name: "ai".into(),
            rate: Rate { requests: 1_000_000_000, per: Duration::from_secs(1), capacity: 1_000_000_000 },
            by: Subject::Key,
        });
        let charges: Vec<[Charge; 1]> = (0..count)
            .map(|n| BucketOwner::Key(format!("api_key_{n:032}").into()))
            .map(|owner| [Charge { limit: Arc::clone(&limit), owner }])
            .collect();
        let now = clock.now().monotonic;
        for charge in &charges {
            limiter.admit(charge, now).expect("a full bucket");
        }
        report(&clock, &format!("bucket, one limit, {count} owners"), |n| {
            black_box(limiter.admit(black_box(&charges[n * 7919 % count]), now)).expect("a bucket that is never empty");
        });
    }
}

/// The path of a route: some literal, some with a parameter, at depths as APIs have them.
fn path(n: usize) -> String {
    let (group, item) = (n / 50, n % 50);
    if n.is_multiple_of(3) {
        format!("/v1/group-{group}/{{id}}/action-{item}")
    } else {
        format!("/v1/group-{group}/action-{item}")
    }
}

/// A table of so many routes, compiled in files of a size that may be.
fn routes(count: usize) -> RouteTable {
    const OF_ONE_FILE: usize = 4000;
    let mut routes = Vec::new();
    for start in (0..count).step_by(OF_ONE_FILE) {
        let mut text = String::from("upstreams: {ai: {endpoints: [\"http://127.0.0.1:1\"]}}\nroutes:\n");
        for n in start..count.min(start + OF_ONE_FILE) {
            let _ = writeln!(text, "  - {{id: r{n}, path: \"{}\", methods: [POST]}}", path(n));
        }
        let compiled = compile_text("routes.yaml", &text, Path::new(""), &|_| None, &Overrides::default());
        routes.extend_from_slice(compiled.expect("a configuration").policy.routes.routes());
    }
    RouteTable::new(routes).map_err(|ties| ties.len()).expect("no ties")
}

fn report(clock: &Clock, what: &str, mut call: impl FnMut(usize)) {
    let mut best = Duration::MAX;
    let mut allocations = 0;
    for _ in 0..ROUNDS {
        let region = Region::new(ALLOCATOR);
        let begun = clock.now().monotonic;
        (0..CALLS).for_each(&mut call);
        best = best.min(clock.now().monotonic.saturating_duration_since(begun));
        allocations = region.change().allocations;
    }
    let calls = CALLS as f64;
    println!("{what:<52} {:>10.3} {:>12.2}", best.as_secs_f64() * 1e6 / calls, allocations as f64 / calls);
}
