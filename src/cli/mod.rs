//! Arguments, logging and exit codes.
//!
//! Enters: the command line and the environment; this is the only module that sees either. Leaves: an exit code:
//! 0 done, 1 failed, 2 the command line or the configuration is wrong; those of `keyward scan` are in `scan`.

mod demo;
mod drain;
mod keys;
mod log;
mod run;
mod scan;

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{self, Compiled, Mistakes, Overrides, VerifierSpec};
use crate::keys::{KeyPrefix, Peppers};
use crate::time::Clock;

#[derive(Debug, Parser)]
#[command(
    name = "keyward",
    version,
    about = "API keys, trusted identity, limits and inspection for an AI service that has none of them"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy
    Run(run::RunArgs),
    /// Check a configuration: print its routes, or every mistake in it
    Check(ConfigArg),
    /// Print the JSON Schema of proxy.yaml, for editors
    Schema,
    /// Scan standard input as the proxy would: what may pass to standard output, the verdict to standard error
    Scan(scan::ScanArgs),
    /// Create, list, rotate, revoke and import keys of the embedded store; purge a proxy's cache
    #[command(subcommand)]
    Keys(Box<keys::KeysCommand>),
    /// Tell the running proxy that its end is near: readiness fails, clients are sent elsewhere, all is served as before
    Drain(drain::DrainArgs),
    /// Try Keyward: the real proxy in front of a built-in sample AI service
    Demo(demo::DemoArgs),
}

/// Where the configuration is.
#[derive(Debug, Args)]
struct ConfigArg {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "proxy.yaml")]
    config: PathBuf,
}

/// Why a command failed.
#[derive(Debug)]
enum Failure {
    /// The configuration is wrong; exit code 2.
    Config(Mistakes),
    /// Anything else; exit code 1.
    Other(String),
}

impl Failure {
    fn other(error: impl fmt::Display) -> Self {
        Self::Other(error.to_string())
    }
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Check(args) => check(&args.config),
        Command::Schema => print_schema(),
        Command::Scan(args) => return scan::run(&args),
        Command::Keys(command) => manage_keys(&command),
        Command::Drain(args) => drain::run(&args),
        Command::Demo(args) => demo::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Config(mistakes)) => {
            eprintln!("{mistakes}");
            ExitCode::from(2)
        }
        Err(Failure::Other(why)) => {
            eprintln!("keyward: {why}");
            ExitCode::FAILURE
        }
    }
}

fn check(path: &Path) -> Result<(), Failure> {
    let compiled = load(path)?;
    std::io::stdout().write_all(config::summary(&compiled).as_bytes()).map_err(Failure::other)
}

fn print_schema() -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(&config::schema()).map_err(Failure::other)?;
    writeln!(std::io::stdout(), "{text}").map_err(Failure::other)
}

fn manage_keys(command: &keys::KeysCommand) -> Result<(), Failure> {
    let out = &mut std::io::stdout();
    if let Some(remote) = command.remote() {
        return keys::run_remote(command, remote, Clock::system().now().wall, out).map_err(Failure::other);
    }
    if let keys::KeysCommand::Purge(args) = command
        && args.admin.url.is_some()
    {
        return keys::purge(args, None, out).map_err(Failure::other);
    }
    if let keys::KeysCommand::Token(args) = command {
        return keys::token(args, out).map_err(Failure::other);
    }
    let Some(common) = command.common() else {
        return Err(Failure::Other("this command has no configuration to find its store by".to_owned()));
    };
    let process = load(&common.config)?.process;
    let store = match (process.verifier, command) {
        (VerifierSpec::Store(store), _) => store,
        (VerifierSpec::Kinde(_), keys::KeysCommand::Purge(args)) => {
            return keys::purge(args, process.admin.as_ref(), out).map_err(Failure::other);
        }
        (VerifierSpec::Kinde(kinde), _) => {
            let origin = kinde.origin;
            return Err(Failure::Other(format!(
                "the keys of this configuration live in Kinde or a key service ({origin}): create, list and revoke them \
                 there; for a key service: `--url {origin} --token-file FILE`"
            )));
        }
    };
    let prefix = KeyPrefix::new(&store.prefix).map_err(Failure::other)?;
    let peppers = Peppers::new(&store.peppers).map_err(Failure::other)?;
    let now = Clock::system().now().wall;
    let target = keys::Target { place: &store.place, prefix: &prefix, peppers: &peppers, now };
    keys::run(command, &target, process.admin.as_ref(), out).map_err(Failure::other)
}

fn load(path: &Path) -> Result<Compiled, Failure> {
    config::load(path, &environment, &Overrides::default()).map_err(Failure::Config)
}

/// The environment, for `{env: NAME}`.
#[allow(clippy::disallowed_methods, reason = "the one place from which the environment is injected")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
