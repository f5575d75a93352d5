//! The text of a configuration.

use std::path::Path;

use keyward::config::{Overrides, compile_text, route_table, summary};

use crate::input::Input;

const SECRET: &str = "hunter2-of-the-fuzzer";

pub fn check(input: &Input<'_>) {
    let Ok(text) = std::str::from_utf8(input.body) else { return };
    if text.contains(SECRET) {
        return;
    }
    let env = |_: &str| Some(SECRET.to_owned());
    // A directory that is not there: no file is found but by its whole path.
    let base = Path::new("/nonexistent");
    match compile_text("fuzz.yaml", text, base, &env, &Overrides::default()) {
        Ok(compiled) => {
            let shown = [summary(&compiled), route_table(&compiled.policy), format!("{compiled:?}")].concat();
            assert!(!shown.contains(SECRET), "a secret is shown");
        }
        Err(mistakes) => {
            let said = mistakes.to_string();
            assert!(!said.is_empty() && !mistakes.is_empty(), "a refusal without a reason");
            assert!(!said.contains(SECRET), "a secret is told");
        }
    }
}
