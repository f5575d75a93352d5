//! Files as a whole: those that are published, and those that are no configuration.

use super::*;
use crate::config::{StorePlace, VerifierSpec, summary};

/// The repository's own files, found from wherever the tests run.
fn repository(file: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

fn load_repository(file: &str) -> Result<Compiled, Mistakes> {
    load(&repository(file), &|_| None, &Overrides::default())
}

#[test]
fn the_published_file_compiles_without_secrets() {
    let compiled = load_repository("proxy.yaml").unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let summary = summary(&compiled);
    let expected =
        std::fs::read_to_string(repository("tests/config/proxy.table.txt")).expect("the golden file is there");
    assert_eq!(summary, expected, "to accept, write this into tests/config/proxy.table.txt:\n{summary}");
    assert_eq!(compiled.process.listen[0].to_string(), "0.0.0.0:8080");
    let VerifierSpec::Store(store) = &compiled.process.verifier else { panic!("{:?}", compiled.process.verifier) };
    assert_eq!(store.place, StorePlace::File(repository("keyward.db")));
}

#[test]
fn the_published_block_for_kinde_compiles() {
    let text = std::fs::read_to_string(repository("proxy.yaml")).expect("the file is there");
    let mut lines = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with("  store:")) {
        let comment = line
            .strip_prefix("  # ")
            .filter(|rest| ["verifier:", "kinde:", "cache:"].iter().any(|key| rest.starts_with(key)));
        lines.push(comment.map_or_else(|| line.to_owned(), |rest| format!("  {rest}")));
    }
    let secret = |name: &str| (name == "KINDE_CLIENT_SECRET").then(|| "secret".to_owned());
    let compiled = compile_text("proxy.yaml", &lines.join("\n"), Path::new(""), &secret, &Overrides::default())
        .unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert!(matches!(compiled.process.verifier, VerifierSpec::Kinde(_)));
    assert_eq!(compiled.process.cache.stale_if_error, std::time::Duration::from_secs(600));
}

#[test]
fn the_published_mistakes_are_twelve() {
    let text = std::fs::read_to_string(repository("tests/config/twelve-mistakes.yaml")).expect("the file is there");
    let name = "tests/config/twelve-mistakes.yaml";
    let mistakes = compile_text(name, &text, Path::new(""), &|_| None, &Overrides::default()).expect_err("12 mistakes");
    assert_eq!(mistakes.len(), 12);
    // Each stands on the line whose comment announces it, in the file's order.
    let announced: Vec<usize> = text
        .lines()
        .enumerate()
        .filter(|(_, line)| {
            line.split("# ").nth(1).is_some_and(|comment| comment.starts_with(|c: char| c.is_ascii_digit()))
        })
        .map(|(index, _)| index + 1)
        .collect();
    let lines: Vec<usize> = mistakes.iter().filter_map(|mistake| mistake.position).map(|at| at.line).collect();
    assert_eq!(lines, announced);
    let report = mistakes.to_string();
    let expected =
        std::fs::read_to_string(repository("tests/config/twelve-mistakes.txt")).expect("the golden file is there");
    assert_eq!(report.trim_end(), expected.trim_end(), "to accept, write this into the golden file:\n{report}");
}

#[test]
fn what_is_no_configuration_is_told_in_one_mistake() {
    for (text, expected) in [
        ("", "1:1 the file is empty"),
        ("# nothing yet\n", "2:1 the file is empty"),
        ("~\n", "1:1 the file is empty"),
        ("a: 1\n---\nb: 2\n", "3:1 a second YAML document starts here; the file must hold one"),
        ("listen: [1, 2\n", "1:9 not valid YAML: unclosed bracket '['"),
        ("listen: \"x\n", "1:9 not valid YAML: unclosed quote"),
        ("listen: *nobody\n", "1:9 not valid YAML: alias references unknown anchor"),
        ("listen: !include x\n", "1:18 not valid YAML: unsupported tag `!include`"),
        ("- a\n", "1:1 expected a mapping with keys such as `listen`, `admin`, `health`, found a list"),
        ("text\n", "1:1 expected a mapping with keys such as `listen`, `admin`, `health`, found the text `text`"),
    ] {
        let mistakes =
            compile_text("f", text, Path::new(""), &env, &Overrides::default()).expect_err("no configuration");
        assert_eq!(mistakes.iter().map(told).collect::<Vec<_>>(), [expected], "{text:?}");
    }
}

#[test]
fn files_that_cannot_be_read() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("latin1"), b"listen: {}\nname: \xe9\n").expect("written");
    std::fs::write(path("huge"), vec![b'#'; (1 << 20) + 1]).expect("written");
    for (name, expected) in [
        ("missing", "cannot read the file: No such file or directory (os error 2)"),
        ("", "cannot read the file: Is a directory (os error 21)"),
        ("latin1", "the file is not UTF-8: line 2 has a byte that is no part of a character"),
        ("huge", "the file is larger than 1MiB"),
    ] {
        let mistakes = load(&path(name), &env, &Overrides::default()).expect_err("unreadable");
        assert_eq!(mistakes.iter().map(told).collect::<Vec<_>>(), [expected]);
        let first = format!("{}: {expected}", path(name).display());
        assert!(mistakes.to_string().starts_with(&first), "{mistakes}");
        assert!(mistakes.to_string().ends_with(&format!("\n1 mistake in {}", path(name).display())));
    }
}

#[test]
fn aliases_work_and_bombs_do_not() {
    let compiled = valid(
        "limits:\n  ai: &ai {requests: 5, per: 1m}\n  more: {<<: *ai, by: user}\nroutes: [{id: a, path: /a, limits: [ai, more]}]",
    );
    assert_eq!(compiled.policy.routes.routes()[0].limits[1].rate.requests, 5);

    let mut bomb = "a: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let aliases = vec![format!("*a{}", level - 1); 9].join(", ");
        bomb.push_str(&format!("b{level}: &a{level} [{aliases}]\n"));
    }
    let mistakes = refused(&bomb);
    assert_eq!(mistakes.len(), 1);
    assert!(mistakes.to_string().contains("not valid YAML: "), "{mistakes}");

    // What is wrong behind an alias is told once, where it is written.
    assert_told(
        "limits:\n  ai: &ai {requests: 5, per: 1x}\n  more: *ai",
        &["2:30 limits.ai.per: expected a duration such as `500ms`, `15m` or `1h30m`, found the text `1x`"],
    );
}

#[test]
fn a_byte_order_mark_and_any_line_end_are_fine() {
    for (text, position) in
        [("\u{feff}memry: 1", "1:1 "), ("\r\n\r\nmemry: 1\r\n", "3:1 "), ("# é\nlisten: {addres: ü}\n", "2:10 ")]
    {
        let told = told(refused(text).iter().next().expect("one mistake"));
        assert!(told.starts_with(position), "{told}");
    }
}
