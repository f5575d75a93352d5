use super::*;

#[test]
fn wrong_examples_are_told() {
    let rule = Rule::new("codename", r"(?i)project\s+bluebird");
    let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(rule_examples(&rule, &texts(&["a Project  Bluebird"]), &texts(&["projects", ""])), []);
    assert_eq!(
        rule_examples(&rule, &texts(&["project"]), &texts(&["x PROJECT bluebird"])),
        [ExampleFailure::Missed("project".into()), ExampleFailure::Matched("x PROJECT bluebird".into(), 2..18),]
    );
}

#[test]
fn a_rule_that_cannot_be_used_is_one_failure() {
    let failures = rule_examples(&Rule::new("bad", "("), &["x".into()], &[]);
    assert!(matches!(&failures[..], [ExampleFailure::Invalid(error)] if error.rule == "bad"));
}

#[test]
fn a_match_may_need_the_end_of_the_example() {
    let rule = Rule::new("r", "b$");
    assert_eq!(rule_examples(&rule, &["ab".into()], &["ba".into()]), []);
}
