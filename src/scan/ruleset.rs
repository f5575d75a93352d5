//! The programs of one list of rules, compiled once and shared.
//!
//! Rules enter at start-up; whatever an action needs to run them leaves. All of it is
//! compiled at once, so that a mistake that only one action would meet is not found
//! while traffic flows.

use std::sync::Arc;

use super::{
    program::{Program, ProgramError, Semantics},
    rule::{Action, Rule},
};

/// A list of rules, ready for every [`Action`]. May be empty.
#[derive(Debug)]
pub struct RuleSet {
    block: Program,
    /// `None` in a set that was compiled for another action.
    redact: Option<Program>,
    /// By rule: what `sanitize` runs one after another.
    each: Box<[Program]>,
}

impl RuleSet {
    /// Compiles the rules; where matches compete, the earlier rule is preferred.
    ///
    /// # Errors
    /// Names the first rule that cannot be used, and why.
    pub fn compile(rules: Vec<Rule>) -> Result<Self, ProgramError> {
        let one = |rule| Program::compile_for(std::slice::from_ref(rule), Semantics::LeftmostFirst);
        // One by one first: an error then names one rule and not the union.
        let each = rules.iter().map(one).collect::<Result<_, _>>()?;
        Ok(Self {
            block: Program::compile(&rules)?,
            redact: Some(Program::compile_for(&rules, Semantics::LeftmostFirst)?),
            each,
        })
    }

    /// Compiles what `action` runs and no more, for a program that ends after one text: several times faster.
    ///
    /// Any other action finds the same matches in this set; redaction may then prefer another of two that overlap.
    ///
    /// # Errors
    /// As [`compile`](Self::compile).
    pub fn compile_for(rules: Vec<Rule>, action: Action) -> Result<Self, ProgramError> {
        match action {
            Action::Block | Action::Observe => {
                Ok(Self { block: Program::compile(&rules)?, redact: None, each: Box::default() })
            }
            Action::Redact => {
                let redact = Some(Program::compile_for(&rules, Semantics::LeftmostFirst)?);
                Ok(Self { block: Program::compile(&rules)?, redact, each: Box::default() })
            }
            Action::Sanitize => Self::compile(rules),
        }
    }

    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.block.rule_ids().is_empty()
    }

    /// The ids of the rules, in order; a [`RuleHit`](super::RuleHit) refers to them by index.
    pub fn rule_ids(&self) -> &[Arc<str>] {
        self.block.rule_ids()
    }

    /// The most bytes that `action` ever withholds of a stream, or `None` if only a cap
    /// bounds it. Where several stages follow each other, it is the sum of what each
    /// withholds of what it reads; text that is already cut out is not counted.
    pub fn max_hold(&self, action: Action) -> Option<usize> {
        match action {
            Action::Observe => Some(0),
            Action::Block => self.block.max_hold(),
            Action::Redact => Some(self.redact().max_hold()? + self.block.max_hold()?),
            Action::Sanitize => self.each().iter().try_fold(0, |sum, program| Some(sum + program.max_hold()?)),
        }
    }

    /// All rules, for blocking, observing and guarding.
    pub fn block(&self) -> &Program {
        &self.block
    }

    /// All rules, for replacing.
    pub fn redact(&self) -> &Program {
        self.redact.as_ref().unwrap_or(&self.block)
    }

    /// Each rule alone, for replacing, in order.
    pub fn each(&self) -> &[Program] {
        // All rules at once where they were not compiled one by one: nothing that matches is left.
        if self.each.is_empty() && !self.is_empty() { std::slice::from_ref(&self.block) } else { &self.each }
    }

    /// Memory of all tables, in bytes.
    pub fn memory(&self) -> usize {
        let each: usize = self.each.iter().map(Program::memory).sum();
        self.block.memory() + self.redact.as_ref().map_or(0, Program::memory) + each
    }
}

#[cfg(test)]
mod tests;
