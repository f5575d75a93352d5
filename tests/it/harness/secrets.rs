//! No key stands where it does not belong: not in a log, an answer, a metric, a usage record or a database.
//!
//! Enters: every text that a server or a `keyward` under test writes, the whole test run long; the harness passes it
//! on. Keys of Keyward's own are known by their checksum, whoever made them; others by having been sent as a key.
//! A text that holds one fails the test by which it was written.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use keyward::keys::looks_valid;
use memchr::memmem;
use tempfile::TempDir;

/// Random characters and checksum of a key of Keyward's.
const TAIL: usize = 36;
const MAX_PREFIX: usize = 32;

/// What was sent as a key and is none of Keyward's. Shorter ones are words that stand anywhere.
static SENT: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
const SENT_LENGTHS: std::ops::RangeInclusive<usize> = 20..=200;

/// Events of servers in this process that hold a key, with the key left out.
static LOGGED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Remembers what a test presents as a key.
pub fn sent(key: &str) {
    if SENT_LENGTHS.contains(&key.len()) && !looks_valid(key) {
        lock(&SENT).insert(key.to_owned());
    }
}

/// Where a key stands in `bytes`, and how long it is.
pub fn find(bytes: &[u8]) -> Option<(usize, usize)> {
    own(bytes).or_else(|| lock(&SENT).iter().find_map(|key| Some((memmem::find(bytes, key.as_bytes())?, key.len()))))
}

/// A key of Keyward's: what stands around it need not be a boundary, as in a database's pages.
fn own(bytes: &[u8]) -> Option<(usize, usize)> {
    memchr::memchr_iter(b'_', bytes).find_map(|at| {
        let tail = bytes.get(at + 1..=at + TAIL)?;
        if !tail.iter().all(u8::is_ascii_alphanumeric) {
            return None;
        }
        (at.saturating_sub(MAX_PREFIX)..at).find_map(|start| {
            let key = std::str::from_utf8(&bytes[start..=at + TAIL]).ok()?;
            looks_valid(key).then_some((start, key.len()))
        })
    })
}

/// Fails if `bytes` hold a key. Shows what stands around it, not the key: this is a log, too.
pub fn expect_none_in(what: &str, bytes: &[u8]) {
    if let Some(place) = find(bytes) {
        panic!("{what} holds a key: {}", around(bytes, place));
    }
}

fn around(bytes: &[u8], (start, length): (usize, usize)) -> String {
    let (before, after) = (&bytes[start.saturating_sub(200)..start], &bytes[start + length..]);
    let after = &after[..after.len().min(200)];
    format!("{}[KEY]{}", String::from_utf8_lossy(before), String::from_utf8_lossy(after))
}

/// Looks through what Keyward itself writes to a directory: its stores, with their logs, and its usage records.
pub fn expect_none_in_files_of(dir: &Path) {
    for (name, bytes) in files_of(dir) {
        expect_none_in(&name, &bytes);
    }
}

/// Stores, with their logs, and usage records. Another process reads them: whoever closes a file of SQLite's drops all
/// locks that its process has on it, those of a server in this process, too.
pub fn files_of(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let names = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let ours = names.filter_map(|name| name.into_string().ok());
    ours.filter(|name| name.contains(".db") || name.starts_with("usage"))
        // A log may vanish with its last reader.
        .filter_map(|name| Some((Command::new("cat").arg(dir.join(&name)).output().ok()?.stdout, name)))
        .map(|(bytes, name)| (name, bytes))
        .collect()
}

/// Reads what servers in this process log from now on, at the finest level of Keyward's own.
pub fn watch_the_log() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing_subscriber::fmt().with_env_filter("info,keyward=trace").with_ansi(false).with_writer(|| Watcher).init();
    });
}

/// Fails if a server in this process has logged a key so far.
fn expect_none_logged() {
    let logged = lock(&LOGGED);
    assert!(logged.is_empty(), "logged: {logged:#?}");
}

/// Takes one event at a time.
struct Watcher;

impl Write for Watcher {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        if let Some(place) = find(event) {
            lock(&LOGGED).push(around(event, place));
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The directory of a server in this process. Looked through when the test ends.
pub struct Home(TempDir);

impl Home {
    pub fn new() -> Self {
        watch_the_log();
        Self(tempfile::tempdir().expect("a directory"))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            expect_none_logged();
            expect_none_in_files_of(self.path());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
