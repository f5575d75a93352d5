//! What the presets find in text that nobody wrote to harm: figures for the operator, and a bound for the default.
//!
//! The text is what `scripts/test.sh` leaves on any machine: Python's standard library, the packages of
//! `tests/requirements.txt`, and the sources of crates. Nearly every hit of `html` in it is no mistake: tests and
//! templates that write `<script>` out. CI shows the table; so does
//! `scripts/test.sh --test it false_positives -- --nocapture`.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use keyward::scan::block::CountScanner;
use keyward::scan::{RuleSet, preset};

use crate::harness::{python, report};

/// What is scanned as one text: a page of an answer.
const CHUNK: usize = 2048;

/// How much text of one kind the slower presets are tried on, so that it takes seconds.
const SAMPLE: usize = 4 << 20;

/// A kind of text, by how its files are called.
struct Kind {
    name: &'static str,
    is_one: fn(file: &str, extension: &str) -> bool,
    /// Whether the default preset must find next to nothing in it.
    bounded: bool,
}

const KINDS: [Kind; 5] = [
    Kind { name: "Python", is_one: |_, extension| extension == "py", bounded: true },
    Kind {
        name: "READMEs",
        is_one: |file, extension| matches!(extension, "md" | "rst") || matches!(file, "METADATA" | "README"),
        bounded: true,
    },
    Kind { name: "prose", is_one: is_prose, bounded: true },
    Kind { name: "HTML", is_one: |_, extension| matches!(extension, "html" | "htm"), bounded: false },
    Kind { name: "JavaScript", is_one: |_, extension| matches!(extension, "js" | "mjs"), bounded: false },
];

/// Licences, and the reference that `help()` shows.
fn is_prose(file: &str, extension: &str) -> bool {
    let names = ["LICENSE", "LICENCE", "COPYING", "NOTICE", "AUTHORS", "CHANGES"];
    file == "topics.py" || (extension != "py" && names.iter().any(|name| file.starts_with(name)))
}

/// Where text is: Python's own library without what else is installed there, the packages of the tests, and the
/// sources of the crates.
fn files() -> Vec<PathBuf> {
    let ask = "import sysconfig; print(sysconfig.get_path('stdlib')); print(sysconfig.get_path('purelib'))";
    let output = Command::new(python()).args(["-c", ask]).output().expect("Python runs");
    let paths = String::from_utf8(output.stdout).expect("paths");
    let [library, packages] = paths.lines().collect::<Vec<_>>()[..] else { panic!("two paths: {paths}") };
    let cargo = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo = cargo.or_else(|| Some(std::env::home_dir()?.join(".cargo"))).unwrap_or_default();
    let mut all = Vec::new();
    walk(Path::new(library), "site-packages", &mut all);
    walk(Path::new(packages), "", &mut all);
    walk(&cargo.join("registry/src"), "", &mut all);
    all
}

fn walk(dir: &Path, except: &str, into: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(dir).into_iter().flatten().flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        match entry.file_type() {
            Ok(kind) if kind.is_file() => into.push(entry.path()),
            Ok(kind) if kind.is_dir() && entry.file_name() != except => walk(&entry.path(), except, into),
            _ => {}
        }
    }
}

fn of_kind<'a>(all: &'a [PathBuf], kind: &Kind) -> Vec<&'a PathBuf> {
    let is_one = |path: &&PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        (kind.is_one)(&name, &path.extension().unwrap_or_default().to_string_lossy())
    };
    all.iter().filter(is_one).collect()
}

/// In how many chunks any rule finds something, and of how many.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    hit: usize,
    all: usize,
}

impl Share {
    fn add(&mut self, rules: &RuleSet, chunk: &[u8]) {
        let program = rules.block();
        let mut scanner = CountScanner::new(program);
        scanner.feed(program, chunk);
        scanner.finish(program);
        self.all += 1;
        self.hit += usize::from(scanner.counts().iter().any(|&count| count > 0));
    }

    fn percent(self) -> f64 {
        100.0 * self.hit as f64 / self.all.max(1) as f64
    }
}

#[test]
fn the_default_preset_finds_next_to_nothing_in_ordinary_text() {
    let all = files();
    let presets: [(&str, RuleSet); 3] = ["html", "seed", "secrets"]
        .map(|name| (name, RuleSet::compile(preset(name).expect("a preset")).expect("it compiles")));
    let mut table = format!(
        "false positives: share of chunks of 2 KB with a hit\n{:<12} {:>8} {:>9} {:>9} {:>9}\n",
        "", "chunks", "html", "seed", "secrets"
    );
    for kind in KINDS {
        let files = of_kind(&all, &kind);
        let size: u64 = files.iter().filter_map(|path| fs::metadata(path).ok()).map(|metadata| metadata.len()).sum();
        let every = (size as usize).div_ceil(SAMPLE).max(1);
        let mut shares = [Share::default(); 3];
        let (mut chunks, mut known) = (0, HashSet::new());
        for text in files.iter().filter_map(|path| fs::read(path).ok()) {
            // Licences above all are the same in many packages.
            if !known.insert(hash(&text)) {
                continue;
            }
            for chunk in text.chunks(CHUNK) {
                chunks += 1;
                for (share, (name, rules)) in shares.iter_mut().zip(&presets) {
                    // The default is judged by all of it, the others by a sample: they are slower.
                    if *name == "html" || chunks % every == 0 {
                        share.add(rules, chunk);
                    }
                }
            }
        }
        let columns = shares.map(|share| format!("{:>8.3}%", share.percent())).join(" ");
        writeln!(table, "{:<12} {chunks:>8} {columns}", kind.name).expect("memory");
        assert!(chunks >= 100, "{}: there is next to no text to look at", kind.name);
        if kind.bounded {
            assert!(shares[0].percent() < 0.1, "{}: {:?}", kind.name, shares[0]);
        }
    }
    report(table);
}

fn hash(text: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
