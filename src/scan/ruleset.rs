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
///
/// Where rules have actions of their own, the set reads a text more than once: for those that block, then for those that
/// are replaced, and apart from both for those that only observe. Each reading is that of a set with one action, so that
/// what such a set guarantees holds here too: one that observes changes nothing, whatever stands beside it.
#[derive(Debug)]
pub struct RuleSet {
    /// All rules that do more than observe.
    block: Program,
    /// `None` in a set that was compiled for another action.
    redact: Option<Program>,
    /// By rule: what `sanitize` runs one after another.
    each: Box<[Program]>,
    /// The same for those rules that have views.
    block_views: Box<[Viewed]>,
    redact_views: Box<[Viewed]>,
    each_views: Box<[Box<[Viewed]>]>,
    /// By program of `each`: its rule.
    each_rule: Box<[usize]>,
    /// `None` where all rules have one action, that of the text at hand.
    mix: Option<Box<Mix>>,
}

/// Rules with actions of their own.
#[derive(Debug)]
struct Mix {
    /// By rule.
    actions: Box<[Action]>,
    /// Those that block, if others are replaced.
    strict: Option<Arc<RuleSet>>,
    /// Those that observe.
    observed: Option<Arc<RuleSet>>,
}

impl RuleSet {
    /// Compiles the rules; where matches compete, the earlier rule is preferred.
    ///
    /// # Errors
    /// Names the first rule that cannot be used, and why.
    pub fn compile(rules: Vec<Rule>) -> Result<Self, ProgramError> {
        let all: Vec<usize> = (0..rules.len()).collect();
        let rules = &rules[..];
        // One by one first: an error then names one rule and not the union.
        let alone = Alone::compile(rules, &all)?;
        Self::of(rules, &all, &all, alone)
    }

    /// Compiles rules with an action each, to be run as `mode`: the action of those that do more than observe, and
    /// where some of them block, that of the others. Rules that redact and rules that sanitize exclude each other.
    ///
    /// Run as [`Action::Observe`], the set observes with all of its rules.
    ///
    /// # Errors
    /// As [`compile`](Self::compile).
    pub fn compile_each(rules: Vec<(Rule, Action)>, mode: Action) -> Result<Self, ProgramError> {
        let (rules, actions): (Vec<Rule>, Vec<Action>) = rules.into_iter().unzip();
        if actions.iter().all(|&action| action == mode) {
            return Self::compile(rules);
        }
        let which = |wanted: fn(Action) -> bool| -> Vec<usize> {
            (0..rules.len()).filter(|&rule| wanted(actions[rule])).collect()
        };
        let acting = which(|action| action != Action::Observe);
        let (replaced, strict) = (which(Action::rewrites), which(|action| action == Action::Block));
        let observed = which(|action| action == Action::Observe);
        let mut set = Self::of(&rules, &acting, &replaced, Alone::compile(&rules, &replaced)?)?;
        let apart = |some: &[usize]| -> Result<Option<Arc<Self>>, ProgramError> {
            let set = |some| Self::of(&rules, some, &[], Alone::default()).map(Arc::new);
            if some.is_empty() { Ok(None) } else { set(some).map(Some) }
        };
        set.mix = Some(Box::new(Mix {
            strict: if replaced.is_empty() { None } else { apart(&strict)? },
            observed: apart(&observed)?,
            actions: actions.into(),
        }));
        Ok(set)
    }

    /// A set in which the rules `acting` are looked for, and the rules `replaced` are replaced.
    fn of(rules: &[Rule], acting: &[usize], replaced: &[usize], alone: Alone) -> Result<Self, ProgramError> {
        Ok(Self {
            block: Program::compile_some(rules, acting, Semantics::Every)?,
            redact: Some(Program::compile_some(rules, replaced, Semantics::LeftmostFirst)?),
            block_views: viewed(rules, acting, Semantics::Every)?,
            redact_views: viewed(rules, replaced, Semantics::LeftmostFirst)?,
            each: alone.programs,
            each_views: alone.views,
            each_rule: replaced.into(),
            mix: None,
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
            each_rule: Box::default(),
            mix: None,
        })
    }

    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.block.rule_ids().is_empty()
    }

    /// Whether there is anything to look for but what is [`observed`](Self::observed) apart.
    pub fn acts(&self) -> bool {
        match &self.mix {
            None => !self.is_empty(),
            Some(mix) => mix.actions.iter().any(|&action| action != Action::Observe),
        }
    }

    /// What happens on a hit of this rule in a text that `action` is for.
    pub fn action_of(&self, rule: usize, action: Action) -> Action {
        let own = self.mix.as_ref().and_then(|mix| mix.actions.get(rule));
        own.copied().filter(|_| action != Action::Observe).unwrap_or(action)
    }

    /// Whether rules have actions of their own.
    pub fn is_mixed(&self) -> bool {
        self.mix.is_some()
    }

    /// The rules that block, where others are replaced: no text in which they match may leave, whatever is cut out of
    /// it.
    pub fn strict(&self) -> Option<&Arc<Self>> {
        self.mix.as_ref()?.strict.as_ref()
    }

    /// The rules that are only observed, beside others. The set's own readings leave them out.
    pub fn observed(&self) -> Option<&Arc<Self>> {
        self.mix.as_ref()?.observed.as_ref()
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
            Action::Redact => {
                let strict = self.strict().map_or(Some(0), |strict| strict.max_hold(Action::Block));
                Some((self.redact().max_hold()? + self.block.max_hold()?).max(strict?))
            }
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

    /// What each rule alone reads a text by, for replacing, in order; with the index of the first rule of each.
    pub fn to_sanitize(&self) -> impl Iterator<Item = (usize, Readings<'_>)> {
        // All rules at once where they were not compiled one by one: nothing that matches is left.
        let all = (self.each.is_empty() && self.acts()).then(|| (0, self.to_block()));
        let each = self.each.iter().zip(&self.each_views).map(|(program, views)| Readings::new(program, views));
        self.each_rule.iter().copied().zip(each).chain(all)
    }

    /// The views that some rule has, and how many of the rules have each.
    pub fn views(&self) -> Vec<(View, usize)> {
        let observed = self.observed().map_or(&[][..], |observed| &observed.block_views);
        let mut views: Vec<(View, usize)> = Vec::new();
        for viewed in self.block_views.iter().chain(observed) {
            match views.iter_mut().find(|(view, _)| *view == viewed.view) {
                Some((_, rules)) => *rules += viewed.rules(),
                None => views.push((viewed.view, viewed.rules())),
            }
        }
        views.sort_unstable();
        views
    }

    /// All rules that act, over texts as they are, for blocking, observing and guarding.
    pub fn block(&self) -> &Program {
        &self.block
    }

    /// All rules that are replaced, over texts as they are.
    pub fn redact(&self) -> &Program {
        self.redact.as_ref().unwrap_or(&self.block)
    }

    /// Memory of all tables, in bytes.
    pub fn memory(&self) -> usize {
        let each: usize = self.each.iter().map(Program::memory).sum();
        let views = self.block_views.iter().chain(&self.redact_views).chain(self.each_views.iter().flatten());
        let views: usize = views.map(|viewed| viewed.program.memory()).sum();
        let apart = [self.strict(), self.observed()].into_iter().flatten().map(|set| set.memory()).sum::<usize>();
        self.block.memory() + self.redact.as_ref().map_or(0, Program::memory) + each + views + apart
    }
}

/// Rules one by one.
#[derive(Default)]
struct Alone {
    programs: Box<[Program]>,
    views: Box<[Box<[Viewed]>]>,
}

impl Alone {
    fn compile(rules: &[Rule], some: &[usize]) -> Result<Self, ProgramError> {
        let alone = |&rule: &usize| std::slice::from_ref(&rules[rule]);
        let program = |rule: &[Rule]| Program::compile_for(rule, Semantics::LeftmostFirst);
        Ok(Self {
            programs: some.iter().map(alone).map(program).collect::<Result<_, _>>()?,
            views: some
                .iter()
                .map(alone)
                .map(|rule| viewed(rule, &[0], Semantics::LeftmostFirst))
                .collect::<Result<_, _>>()?,
        })
    }
}

/// For each view that some of the rules `some` have, those rules.
fn viewed(rules: &[Rule], some: &[usize], semantics: Semantics) -> Result<Box<[Viewed]>, ProgramError> {
    let mut all = Vec::new();
    for (_, view) in View::NAMES {
        let indices: Box<[usize]> = some.iter().copied().filter(|&rule| rules[rule].views.contains(&view)).collect();
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
