//! The programs of one list of rules, compiled once and shared.
//!
//! Rules enter at start-up; whatever an action needs to run them leaves. All of it is
//! compiled at once, so that a mistake that only one action would meet is not found
//! while traffic flows.

use std::sync::Arc;

use super::{
    program::{Program, ProgramError, Semantics},
    rule::{Action, Rule},
    view::{Readings, View, Viewed},
};

/// A list of rules, ready for every [`Action`]. May be empty.
#[derive(Debug)]
pub struct RuleSet {
    block: Program,
    /// `None` in a set that was compiled for another action.
    redact: Option<Program>,
    /// By rule: what `sanitize` runs one after another.
    each: Box<[Program]>,
    /// The same for those rules that have views.
    block_views: Box<[Viewed]>,
    redact_views: Box<[Viewed]>,
    each_views: Box<[Box<[Viewed]>]>,
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
            block_views: viewed(&rules, Semantics::Every)?,
            redact_views: viewed(&rules, Semantics::LeftmostFirst)?,
            each_views: rules
                .iter()
                .map(|rule| viewed(std::slice::from_ref(rule), Semantics::LeftmostFirst))
                .collect::<Result<_, _>>()?,
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
        if action == Action::Sanitize || rules.iter().any(|rule| !rule.views.is_empty()) {
            return Self::compile(rules);
        }
        let redact = (action == Action::Redact).then(|| Program::compile_for(&rules, Semantics::LeftmostFirst));
        Ok(Self {
            block: Program::compile(&rules)?,
            redact: redact.transpose()?,
            each: Box::default(),
            block_views: Box::default(),
            redact_views: Box::default(),
            each_views: Box::default(),
        })
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
            Action::Block => self.block_views.iter().try_fold(self.block.max_hold()?, |most, viewed| {
                // As many units as the program withholds bytes, and one that is not complete.
                Some(most.max((viewed.program.max_hold()? + 1) * viewed.view.most_per_byte()?))
            }),
            // Matches of several readings that overlap one another are one cut, however many they are.
            Action::Redact | Action::Sanitize if !self.block_views.is_empty() => None,
            Action::Redact => Some(self.redact().max_hold()? + self.block.max_hold()?),
            Action::Sanitize => self.each.iter().try_fold(0, |sum, program| Some(sum + program.max_hold()?)),
        }
    }

    /// What blocking, observing and guarding read a text by.
    pub fn to_block(&self) -> Readings<'_> {
        Readings::new(&self.block, &self.block_views)
    }

    /// What replacing reads a text by.
    pub fn to_redact(&self) -> Readings<'_> {
        Readings::new(self.redact(), &self.redact_views)
    }

    /// What each rule alone reads a text by, for replacing, in order.
    pub fn to_sanitize(&self) -> impl Iterator<Item = Readings<'_>> {
        // All rules at once where they were not compiled one by one: nothing that matches is left.
        let all = (self.each.is_empty() && !self.is_empty()).then(|| self.to_block());
        let each = self.each.iter().zip(&self.each_views).map(|(program, views)| Readings::new(program, views));
        each.chain(all)
    }

    /// The views that some rule has, and how many of the rules have each.
    pub fn views(&self) -> impl Iterator<Item = (View, usize)> {
        self.block_views.iter().map(|viewed| (viewed.view, viewed.rules()))
    }

    /// All rules over texts as they are, for blocking, observing and guarding.
    pub fn block(&self) -> &Program {
        &self.block
    }

    /// All rules over texts as they are, for replacing.
    pub fn redact(&self) -> &Program {
        self.redact.as_ref().unwrap_or(&self.block)
    }

    /// Memory of all tables, in bytes.
    pub fn memory(&self) -> usize {
        let each: usize = self.each.iter().map(Program::memory).sum();
        let views = self.block_views.iter().chain(&self.redact_views).chain(self.each_views.iter().flatten());
        let views: usize = views.map(|viewed| viewed.program.memory()).sum();
        self.block.memory() + self.redact.as_ref().map_or(0, Program::memory) + each + views
    }
}

/// For each view that some of the rules have, those rules.
fn viewed(rules: &[Rule], semantics: Semantics) -> Result<Box<[Viewed]>, ProgramError> {
    let mut all = Vec::new();
    for (_, view) in View::NAMES {
        let indices: Box<[usize]> = (0..rules.len()).filter(|&rule| rules[rule].views.contains(&view)).collect();
        if !indices.is_empty() {
            let through: Vec<Rule> = indices.iter().map(|&rule| rules[rule].clone()).collect();
            let program = Program::compile_for(&through, semantics)?;
            all.push(Viewed::new(view, program, indices));
        }
    }
    Ok(all.into())
}

#[cfg(test)]
mod tests;
