use bytes::Bytes;

use super::*;
use crate::scan::{Inspection, TextFormat, Verdict, inspect, presets::preset, program::ProgramErrorKind};

fn set(patterns: &[&str]) -> Result<RuleSet, ProgramError> {
    RuleSet::compile(patterns.iter().map(|p| Rule::new(*p, *p)).collect())
}

#[test]
fn every_action_has_its_own_hold() {
    let rules = set(&["abc", "x+"]).unwrap();
    assert_eq!(rules.max_hold(Action::Observe), Some(0));
    assert_eq!(rules.max_hold(Action::Block), Some(2));
    assert_eq!(rules.max_hold(Action::Redact), None);
    assert_eq!(rules.max_hold(Action::Sanitize), None);
    assert_eq!(set(&["abc", "de"]).unwrap().max_hold(Action::Sanitize), Some(3));
}

#[test]
fn an_empty_list_is_a_set() {
    let rules = set(&[]).unwrap();
    assert!(rules.is_empty() && rules.rule_ids().is_empty());
    assert_eq!(rules.max_hold(Action::Redact), Some(0));
}

#[test]
fn mistakes_are_found_at_once() {
    assert_eq!(set(&["a", "b*"]).unwrap_err().kind, ProgramErrorKind::MatchesEmpty);
}

#[test]
fn presets_that_come_with_the_program_are_small() {
    for (name, most) in [("seed", 64 << 10), ("html", 7 << 19), ("secrets", 1 << 20)] {
        let rules = RuleSet::compile(preset(name).unwrap()).unwrap();
        assert!(rules.memory() <= most, "{name}: {} bytes", rules.memory());
        assert_eq!(rules.max_hold(Action::Block).is_some(), name != "seed", "{name}");
    }
}

#[test]
fn a_set_for_one_action_lets_nothing_pass_under_another() {
    let rules = || vec![Rule::new("a", "ab|b+"), Rule::new("b", "bc")];
    for compiled_for in [Action::Observe, Action::Block, Action::Redact, Action::Sanitize] {
        let set = RuleSet::compile_for(rules(), compiled_for).unwrap();
        assert_eq!((set.is_empty(), set.rule_ids().len()), (false, 2));
        for action in [Action::Redact, Action::Sanitize] {
            let what = Inspection {
                rules: &set,
                action,
                max_chars: None,
                max_body_chars: None,
                binary_parts: crate::scan::BinaryParts::Pass,
            };
            let report = inspect(&Bytes::from_static(b"x ab y bbc z"), TextFormat::Text, &what);
            let Verdict::Rewritten(rewritten) = report.verdict else { panic!("{compiled_for}: {report:?}") };
            assert!(!rewritten.contains(&b'b'), "{compiled_for} {action}: {rewritten:?}");
        }
    }
}
