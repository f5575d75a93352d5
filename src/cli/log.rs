//! The log: to standard error, at the level of `KEYWARD_LOG`.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts logging. `level` is a filter such as `info`, `debug` or `keyward::auth=debug`; a wrong one is said and
/// replaced by `default`.
pub(super) fn start(level: Option<&str>, default: &str) {
    let chosen = level.filter(|text| !text.is_empty()).unwrap_or(default);
    let (filter, problem) = match EnvFilter::try_new(chosen) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new(default), Some(error)),
    };
    let terminal = std::io::stderr().is_terminal();
    // Fails only where logging was started before, which no command does.
    let _ =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(terminal).try_init();
    if let Some(error) = problem {
        tracing::warn!(%error, "KEYWARD_LOG is not understood; using {default}");
    }
}
