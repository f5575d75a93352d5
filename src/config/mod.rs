//! The configuration file.
//!
//! Enters: the text of `proxy.yaml`. Leaves: a [`Compiled`] policy, or *every* mistake in the file with line, column
//! and path. Nothing half right leaves: a file with one mistake is refused as a whole.
//!
//! | step | module | what it does |
//! |---|---|---|
//! | 1 | `tree` | YAML to a tree that knows where each value stands |
//! | 2 | `value`, `section`, `written` | known keys and typed values: the file as it is written |
//! | 3 | `compile` | names looked up, defaults filled in, contradictions found |
//!
//! Invariants: a key that is not known is a mistake, and so is one that is not supported yet: nothing is accepted and
//! ignored. No mistake shows a secret. Beside the file itself only the secrets that it names are read.

mod address;
mod compile;
mod field;
mod files;
mod header_name;
mod mistake;
mod process;
mod schema;
mod secret;
mod section;
mod snippet;
mod table;
mod tree;
mod units;
mod value;
mod written;

pub use files::Watched;
pub use mistake::{Mistake, Mistakes, Position};
pub use process::{
    Address, AdminSpec, BadAddress, CacheSpec, Credentials, HealthSpec, KindeSpec, ListenAddress, MAX_HEADERS, Origin,
    PostgresSpec, Process, ServeSpec, StorePlace, StoreSpec, TrustedCertificates, UsageOutput, VerifierSpec,
};
pub use schema::schema;
pub use table::{route_table, summary};
pub use units::parse_duration;

use std::io::{self, Read as _};
use std::path::Path;

use crate::policy::{Inspect, Policy};
use crate::scan::Rule;

use mistake::Findings;
use snippet::Source;
use value::{Context, Value};
use written::Config;

/// More than any configuration that people write; a wrong path must not fill the memory.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// What a file without mistakes becomes.
#[derive(Debug)]
pub struct Compiled {
    /// Read once, at the start.
    pub process: Process,
    /// Swapped as a whole on every reload.
    pub policy: Policy,
    /// What a route does that says nothing of its own: for tools that have no route.
    pub defaults: InspectDefaults,
    /// What is allowed and should be known, each one line.
    pub warnings: Vec<String>,
}

/// How bodies are inspected by default, and the rules that can be asked for by name.
#[derive(Debug)]
pub struct InspectDefaults {
    /// `defaults.request`.
    pub request: Inspect,
    /// `defaults.response`.
    pub response: Inspect,
    /// The file's own rules.
    pub own_rules: Vec<Rule>,
}

/// What a command line sets above the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `http://host:port` in place of the endpoints of every upstream.
    pub endpoint: Option<String>,
}

/// Reads and compiles a file. Relative paths in it start where it is; `env` answers `{env: NAME}`.
///
/// # Errors
/// Every mistake of the file, or the one that it could not be read.
pub fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>, overrides: &Overrides) -> Result<Compiled, Mistakes> {
    load_watched(path, env, overrides).0
}

/// As [`load`], and says which files the outcome depends on: this one, and the secrets and certificates that it names. Those
/// of a refused file are told too, because mending one of them may mend it.
pub fn load_watched(
    path: &Path,
    env: &dyn Fn(&str) -> Option<String>,
    overrides: &Overrides,
) -> (Result<Compiled, Mistakes>, Watched) {
    let findings = Findings::default();
    findings.depends_on(path);
    let name = path.display().to_string();
    let loaded = match read_file(path) {
        Err(reason) => Err(Mistakes::unreadable(&name, reason)),
        Ok(text) => {
            let base_dir = path.parent().unwrap_or(Path::new(""));
            compile_into(&findings, &name, &text, base_dir, env, overrides)
        }
    };
    (loaded, findings.files())
}

/// Compiles the text of a file called `name`, whose relative paths start at `base_dir`.
///
/// # Errors
/// Every mistake of the text.
pub fn compile_text(
    name: &str,
    text: &str,
    base_dir: &Path,
    env: &dyn Fn(&str) -> Option<String>,
    overrides: &Overrides,
) -> Result<Compiled, Mistakes> {
    compile_into(&Findings::default(), name, text, base_dir, env, overrides)
}

fn compile_into(
    findings: &Findings,
    name: &str,
    text: &str,
    base_dir: &Path,
    env: &dyn Fn(&str) -> Option<String>,
    overrides: &Overrides,
) -> Result<Compiled, Mistakes> {
    let root = match tree::parse(text) {
        Ok(root) => root,
        Err(mistake) => {
            findings.add(*mistake);
            return Err(findings.finish(&Source::unparsed(name, text)));
        }
    };
    let source = Source::parsed(name, text, &root);
    if matches!(root.value, tree::Value::Null) {
        findings.add(Mistake::at(Some(root.position), "", "the file is empty"));
        return Err(findings.finish(&source));
    }
    let context = Context { findings, base_dir, env };
    let spot = Value::root(&root, context).spot();
    let compiled =
        Config::read(&root, context).and_then(|config| compile::compile(config, &spot, base_dir, overrides, findings));
    match compiled {
        Some(compiled) => Ok(compiled),
        None => {
            debug_assert!(!findings.is_empty(), "nothing is refused without a reason");
            Err(findings.finish(&source))
        }
    }
}

/// Reads the URL of Kinde or a key service: a scheme, a host and a port; `http` only within this machine.
///
/// # Errors
/// What is wrong with it, and what was probably meant.
pub fn parse_origin(text: &str) -> Result<Origin, String> {
    written::origin(text).map_err(|bad| match bad.help {
        Some(help) => format!("{}; {help}", bad.message),
        None => bad.message,
    })
}

fn read_file(path: &Path) -> Result<String, String> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|error| format!("cannot read the file: {error}"))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err("the file is larger than 1MiB".to_owned());
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        // Everything before the first bad byte was valid, so it can be counted.
        let line = error.as_bytes()[..valid].iter().filter(|byte| **byte == b'\n').count() + 1;
        format!("the file is not UTF-8: line {line} has a byte that is no part of a character")
    })
}

#[cfg(test)]
mod tests;
