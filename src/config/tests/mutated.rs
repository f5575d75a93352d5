//! Whatever a text is, it is compiled or refused; nothing panics.

use proptest::prelude::*;

use super::*;

/// The published file without presets, whose automata would take all the time.
fn published() -> String {
    let text = include_str!("../../../proxy.yaml");
    text.replace("rules: [html], ", "rules: [], ").replace("[html, codename]", "[codename]").replace("[seed]", "[]")
}

const FRAGMENTS: [&str; 24] = [
    "",
    " ",
    "\n",
    "  ",
    "- ",
    ": ",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "'",
    "#",
    "&a ",
    "*a",
    "0",
    "-1",
    "99999999999999999999",
    "~",
    "\u{0}",
    "é",
    "<<: *a",
    "!x ",
    "|\n",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_mutated_file_never_panics(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..40_usize, 0..FRAGMENTS.len()), 1..6),
    ) {
        let mut text: Vec<char> = published().chars().collect();
        for (at, removed, fragment) in edits {
            let start = at.index(text.len());
            let end = (start + removed).min(text.len());
            text.splice(start..end, FRAGMENTS[fragment].chars());
        }
        let text: String = text.into_iter().collect();
        if let Err(mistakes) = compile_text("f", &text, Path::new("/nowhere"), &env, &Overrides::default()) {
            prop_assert!(!mistakes.is_empty());
            let lines = text.lines().count() + 1;
            for mistake in &mistakes {
                let position = mistake.position.expect("a mistake in a text has a position");
                prop_assert!((1..=lines).contains(&position.line) && position.column > 0, "{mistake:?}");
            }
            prop_assert!(mistakes.to_string().ends_with("in f"));
        }
    }

    #[test]
    fn any_text_is_compiled_or_refused(text in "\\PC{0,200}") {
        let _ = compile_text("f", &text, Path::new("/nowhere"), &env, &Overrides::default());
    }
}
