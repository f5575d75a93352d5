//! Checks a rule against the examples that its author wrote beside it.
//!
//! A rule and texts enter; the examples that the rule gets wrong leave.

use std::fmt;

use super::{program::ProgramError, rule::Rule, ruleset::RuleSet, view::Blocker};

/// An example that a rule gets wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExampleFailure {
    /// The rule cannot be used at all.
    Invalid(ProgramError),
    /// This text should match and does not.
    Missed(String),
    /// This text should pass and does not: the match in it, in bytes.
    Matched(String, std::ops::Range<usize>),
}

impl fmt::Display for ExampleFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(error) => error.fmt(f),
            Self::Missed(text) => write!(f, "{text:?} should match"),
            Self::Matched(text, at) => {
                write!(f, "{text:?} should pass, but matches at bytes {}..{}", at.start, at.end)
            }
        }
    }
}

impl std::error::Error for ExampleFailure {}

/// The examples that `rule` gets wrong, views included: those of `matching` that it does not find, and
/// those of `passing` that it does.
pub fn rule_examples(rule: &Rule, matching: &[String], passing: &[String]) -> Vec<ExampleFailure> {
    let rules = match RuleSet::compile(vec![rule.clone()]) {
        Ok(rules) => rules,
        Err(error) => return vec![ExampleFailure::Invalid(error)],
    };
    let readings = rules.to_block();
    let mut scanner = Blocker::new(readings, u64::MAX);
    let mut find = |text: &str| {
        scanner.reset(readings);
        scanner.feed(readings, text.as_bytes());
        scanner.finish(readings);
        scanner.hit().map(|hit| hit.start as usize..hit.end as usize)
    };
    let mut failures = Vec::new();
    for text in matching {
        if find(text).is_none() {
            failures.push(ExampleFailure::Missed(text.clone()));
        }
    }
    for text in passing {
        if let Some(at) = find(text) {
            failures.push(ExampleFailure::Matched(text.clone(), at));
        }
    }
    failures
}

#[cfg(test)]
mod tests;
