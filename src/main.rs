//! The `keyward` binary: see [`keyward::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    keyward::cli::main()
}
