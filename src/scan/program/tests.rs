use super::*;

fn compile(patterns: &[&str]) -> Result<Program, ProgramError> {
    let rules: Vec<_> = patterns.iter().map(|p| Rule::new(*p, *p)).collect();
    Program::compile(&rules)
}

fn error(pattern: &str) -> ProgramErrorKind {
    let error = compile(&["fine", pattern]).unwrap_err();
    assert_eq!(error.rule, pattern);
    error.kind
}

#[test]
fn a_syntax_error_says_where() {
    let error = compile(&["fine", "a(b"]).unwrap_err();
    assert_eq!(error.to_string(), "rule `a(b`: unclosed group (at byte 1 of the pattern)");
    assert!(matches!(error.kind, ProgramErrorKind::Syntax { at, .. } if at == (1..2)));
    let translated = compile(&[r"\p{Nonsense}"]).unwrap_err();
    assert!(matches!(translated.kind, ProgramErrorKind::Syntax { .. }), "{translated}");
}

#[test]
fn rules_that_no_scanner_could_honour_are_refused() {
    for empty in ["", "a*", r"(?-u:\b)", "^", "a|b?"] {
        assert_eq!(error(empty), ProgramErrorKind::MatchesEmpty, "{empty}");
    }
    assert_eq!(error("[a&&b]"), ProgramErrorKind::MatchesNothing);
    assert_eq!(error("[a&&b]|"), ProgramErrorKind::MatchesEmpty);
    assert_eq!(error("[a&&b]|$"), ProgramErrorKind::MatchesEmpty);
    for unicode in [r"\bfoo", r"foo\B", r"\b{start}foo"] {
        assert_eq!(error(unicode), ProgramErrorKind::UnicodeWordBoundary, "{unicode}");
    }
}

#[test]
fn a_rule_that_is_too_large_is_named() {
    let too_large = ProgramErrorKind::TooLarge { limit: SIZE_LIMIT };
    // Two counters that run at once: exponentially many states.
    assert_eq!(error("x[ab]*a[ab]{60}c"), too_large);
    assert_eq!(error("(?:a{1000}){1000}"), too_large);
}

#[test]
fn holds_are_measured_in_bytes() {
    let hold = |pattern: &str| compile(&[pattern]).unwrap().max_hold();
    assert_eq!(hold("abc"), Some(2));
    assert_eq!(hold("a"), Some(0));
    assert_eq!(hold("é"), Some(1));
    assert_eq!(hold("a{3,7}b"), Some(7));
    assert_eq!(hold("ab+c"), None);
    // Blocking does not wait for the rest of a match that is certain.
    assert_eq!(hold("ab+"), Some(1));
    // A match that waits for one more byte is withheld as a whole.
    assert_eq!(hold(r"ab(?-u:\b)"), Some(2));
    assert_eq!(hold("ab$"), Some(2));

    let rules = [Rule::new("r", "ab+")];
    let redact = Program::compile_for(&rules, Semantics::LeftmostFirst).unwrap();
    assert_eq!(redact.max_hold(), None);
    assert_eq!(compile(&[]).unwrap().max_hold(), Some(0));
}

#[test]
fn rules_are_found_by_index() {
    let program = compile(&["one", "two"]).unwrap();
    assert_eq!(program.rule_id(1).map(|id| &**id), Some("two"));
    assert_eq!(program.rule_id(2), None);
    assert!(format!("{program:?}").contains("one"));
}

#[test]
fn states_are_shared_and_dead_ends_are_gone() {
    // `x` can never be followed to a match, so no state knows of it.
    let with = compile(&["ab", "x[a&&b]y|cd"]).unwrap();
    let without = compile(&["ab", "cd"]).unwrap();
    assert_eq!(with.table().states(), without.table().states());
}
