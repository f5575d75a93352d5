use super::*;

#[test]
fn words_read_back_as_written() {
    for action in [Action::Observe, Action::Redact, Action::Sanitize, Action::Block] {
        assert_eq!(action.to_string().parse(), Ok(action));
    }
    for direction in [Direction::Request, Direction::Response] {
        assert_eq!(direction.to_string().parse(), Ok(direction));
    }
}

#[test]
fn other_words_are_refused_by_name() {
    let error = "Block".parse::<Action>().unwrap_err();
    assert_eq!(error.to_string(), "`Block` is not one of observe, redact, sanitize, block");
    assert!("responses".parse::<Direction>().is_err());
}

fn first(rule: Rule, text: &str) -> Option<String> {
    let found = regex::bytes::Regex::new(&rule.pattern).unwrap().find(text.as_bytes())?.range();
    Some(text[found].to_owned())
}

#[test]
fn literals_are_found_as_they_are_written() {
    let all = ["a.b", "(x)*", "Straße", "a.bc", "#  \n-\\"];
    for literal in all {
        let text = format!("..{literal}..");
        assert_eq!(
            first(Rule::of_literals("id", &all[..3], false), &text).is_some(),
            !literal.contains('#'),
            "{literal}"
        );
        assert_eq!(first(Rule::of_literals("id", &all, false), &text).as_deref(), Some(literal));
    }
    for other in ["axb", "x", "A.B", "straße", "STRASSE"] {
        assert_eq!(first(Rule::of_literals("id", &all, false), other), None, "{other}");
    }
}

#[test]
fn ignoring_the_case_is_for_ascii_letters_alone() {
    let rule = || Rule::of_literals("id", &["Kiß", "é"], true);
    for (text, found) in
        [("kIß", true), ("KIß", true), ("\u{212a}iß", false), ("kiSS", false), ("é", true), ("É", false)]
    {
        assert_eq!(first(rule(), text).is_some(), found, "{text}");
    }
}
