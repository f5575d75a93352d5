//! Cases as texts: what is written on the left, what is told or compiled on the right.

mod compiled;
mod documented;
mod files;
mod mistakes;
mod mutated;
mod peers;
mod schema;
mod secrets;
mod sections;
mod serve;
mod views;

use std::path::Path;

use super::{Compiled, Mistake, Mistakes, Overrides, Position, compile_text, load};

/// What the environment holds in every test.
fn env(name: &str) -> Option<String> {
    match name {
        "TOKEN" => Some("s3cret\n".to_owned()),
        "EMPTY" => Some("\n".to_owned()),
        "SEED" => Some("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=".to_owned()),
        "OTHER_SEED" => Some("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".to_owned()),
        "SHARED" => Some("0123456789abcdef0123456789abcdef".to_owned()),
        "LINES" => Some("one\ntwo".to_owned()),
        _ => None,
    }
}

/// `text` with the sections that a file cannot do without, after it, so that its own lines keep their numbers. No
/// rules, because compiling them takes most of a test's time.
fn complete(text: &str) -> String {
    let mut text = format!("{}\n", text.trim_end());
    for (key, section) in [
        ("upstreams", "upstreams: {ai: {endpoints: [http://127.0.0.1:8000]}}"),
        ("defaults", "defaults: {request: {rules: []}, response: {rules: []}}"),
        ("routes", "routes: [{id: only, path: /only}]"),
    ] {
        let written = text.lines().any(|line| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(':')));
        if !written {
            text.push_str(section);
            text.push('\n');
        }
    }
    text
}

fn compile(text: &str) -> Result<Compiled, Mistakes> {
    compile_text("proxy.yaml", &complete(text), Path::new("/etc/keyward"), &env, &Overrides::default())
}

fn valid(text: &str) -> Compiled {
    compile(text).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

fn refused(text: &str) -> Mistakes {
    match compile(text) {
        Ok(_) => panic!("accepted:\n{}", complete(text)),
        Err(mistakes) => mistakes,
    }
}

/// `LINE:COLUMN PATH: MESSAGE`, and the help after ` | `.
fn told(mistake: &Mistake) -> String {
    let position = match mistake.position {
        Some(Position { line, column, .. }) => format!("{line}:{column} "),
        None => String::new(),
    };
    let path = if mistake.path.is_empty() { String::new() } else { format!("{}: ", mistake.path) };
    let help = mistake.help.as_ref().map(|help| format!(" | {help}")).unwrap_or_default();
    format!("{position}{path}{}{help}", mistake.message)
}

/// Asserts that `text` has exactly these mistakes.
#[track_caller]
fn assert_told(text: &str, expected: &[&str]) {
    let told: Vec<String> = refused(text).iter().map(told).collect();
    assert_eq!(told, expected, "in\n{text}");
}

/// Each line of the table is one file with one mistake.
#[track_caller]
fn each(cases: &[(&str, &str)]) {
    let wrong: Vec<String> = cases
        .iter()
        .map(|(text, expected)| (text, expected, refused(text).iter().map(told).collect::<Vec<_>>()))
        .filter(|(_, expected, told)| *told != [**expected])
        .map(|(text, expected, told)| format!("{text}\n  expected: {expected}\n  told: {told:#?}\n"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.concat());
}
