//! The fuzz targets are a package of their own, with a lock of its own: it must lock what the package itself locks, or
//! they would try another program than the one that is shipped, and `--locked` would refuse to build it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::harness::repository;

const REMEDY: &str = "bring it in step: cp Cargo.lock fuzz/Cargo.lock && cargo metadata --format-version 1 \
                      --manifest-path fuzz/Cargo.toml >/dev/null";

/// A lock: the versions of each package, and what `keyward` itself depends on.
struct Lock {
    versions: BTreeMap<String, BTreeSet<String>>,
    own: BTreeSet<String>,
}

fn lock(path: &str) -> Lock {
    let text = fs::read_to_string(repository().join(path)).expect("a lock");
    let mut lock = Lock { versions: BTreeMap::new(), own: BTreeSet::new() };
    for package in text.split("\n[[package]]\n").skip(1) {
        let field = |name: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = \""));
            line.and_then(|value| value.strip_suffix('"')).expect("a name and a version").to_owned()
        };
        if field("name") == "keyward" {
            let quoted = package.lines().filter_map(|line| line.trim().strip_prefix('"')?.split(['"', ' ']).next());
            lock.own = quoted.map(str::to_owned).collect();
        }
        lock.versions.entry(field("name")).or_default().insert(field("version"));
    }
    assert!(lock.versions.len() > 100 && lock.own.len() > 20, "{path} is read");
    lock
}

/// The packages that the manifest depends on, without those of its tests.
fn dependencies() -> BTreeSet<String> {
    let manifest = fs::read_to_string(repository().join("Cargo.toml")).expect("a manifest");
    let section = manifest.split("\n[dependencies]\n").nth(1).and_then(|rest| rest.split("\n[").next());
    let lines = section.expect("dependencies").lines().filter(|line| !line.starts_with('#'));
    let named = lines.filter_map(|line| line.split_once(" = ")).map(|(name, what)| {
        let renamed = what.split_once("package = \"").and_then(|(_, rest)| rest.split('"').next());
        renamed.unwrap_or(name).to_owned()
    });
    named.collect()
}

#[test]
fn the_lock_of_the_fuzz_targets_is_in_step() {
    let (own, fuzz) = (lock("Cargo.lock"), lock("fuzz/Cargo.lock"));
    assert_eq!(fuzz.own, dependencies(), "fuzz/Cargo.lock knows other dependencies than Cargo.toml; {REMEDY}");
    for (name, versions) in &fuzz.versions {
        if let Some(ours) = own.versions.get(name) {
            assert!(versions.is_subset(ours), "{name} is {versions:?} in fuzz/Cargo.lock, not {ours:?}; {REMEDY}");
        }
    }
}
