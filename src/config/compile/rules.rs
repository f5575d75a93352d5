//! `rules`: the operator's own, checked against their examples, beside the presets.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use crate::config::field::{At, Field, Spot};
use crate::config::mistake::{Findings, quoted};
use crate::config::written;
use crate::scan::{ExampleFailure, ProgramError, Rule, RuleSet, View, preset, presets, rule_examples};

use super::names::{Names, unknown};

/// What a list of rules is made of.
#[derive(Default, PartialEq, Eq, Hash)]
struct Listed {
    names: Vec<String>,
    views: Vec<View>,
}

/// Every rule that a route can name.
pub(super) struct RuleBook<'a> {
    findings: &'a Findings,
    own: Names<Rule>,
    complete: bool,
    /// Compiled sets by the names and views that make them up: most routes share a few.
    compiled: RefCell<HashMap<Listed, Arc<RuleSet>>>,
}

impl<'a> RuleBook<'a> {
    pub fn new(written: Field<Vec<Option<written::Rule>>>, findings: &'a Findings) -> Self {
        let written_wrongly = matches!(written, Field::Broken);
        let rules = written.given().unwrap_or_default();
        // A rule whose id could not be read might have any.
        let complete =
            !written_wrongly && rules.iter().all(|rule| matches!(rule, Some(rule) if rule.id.spot().is_some()));
        let mut own = Names::new("rule", complete);
        let mut ids: Vec<At<String>> = Vec::new();
        for rule in rules.into_iter().flatten() {
            let compiled = check(&rule, findings);
            let Field::Given(id) = rule.id else { continue };
            if let Some(first) = ids.iter().find(|known| known.value == id.value) {
                let line = first.spot.position.line;
                findings
                    .add(id.spot.mistake(format!("the rule {} is already defined on line {line}", quoted(&id.value))));
                continue;
            }
            if let Some(preset) = preset_of(&id.value) {
                findings.add(id.spot.mistake(format!("{} belongs to the preset `{preset}`", quoted(&id.value))));
            }
            ids.push(id.clone());
            own.add(id, compiled);
        }
        Self { findings, own, complete, compiled: RefCell::default() }
    }

    /// What is looked for where the file says nothing, also through `views`.
    pub fn default_set(&self, views: &[View]) -> Arc<RuleSet> {
        self.preset_through("html", views)
    }

    /// The compiled set of one preset.
    pub fn preset_set(&self, name: &'static str) -> Arc<RuleSet> {
        self.preset_through(name, &[])
    }

    fn preset_through(&self, name: &'static str, views: &[View]) -> Arc<RuleSet> {
        // Falling back to no rules here would open every route.
        let rules = preset(name).expect("the preset exists: it is one of `presets::NAMES`");
        let rules = rules.into_iter().map(|rule| rule.also_through(views.iter().copied())).collect();
        self.compiled(Listed { names: vec![name.to_owned()], views: views.to_vec() }, rules)
            .expect("presets compile: the tests of `scan` show it")
    }

    /// No rules at all, in place of rules that are broken and reported.
    pub fn stand_in(&self) -> Arc<RuleSet> {
        self.compiled(Listed::default(), Vec::new()).expect("no rules have nothing that could fail to compile")
    }

    /// The compiled set of rules that `names` name, in their order, each of which also reads through `views`. `None`
    /// when one is unknown or broken.
    pub fn set(&self, names: &[At<String>], views: &[View]) -> Option<Arc<RuleSet>> {
        // Every name is looked up, so that every unknown one is told.
        let rules: Vec<Option<Vec<Rule>>> = names.iter().map(|name| self.find(name)).collect();
        let rules: Option<Vec<Vec<Rule>>> = rules.into_iter().collect();
        let names_only = names.iter().map(|name| name.value.clone()).collect();
        let key = Listed { names: names_only, views: views.to_vec() };
        let through = |rule: Rule| rule.also_through(views.iter().copied());
        match self.compiled(key, rules?.into_iter().flatten().map(through).collect()) {
            Ok(set) => Some(set),
            Err(error) => {
                // Each rule compiled alone: it is the list that asks for too much.
                let spot = &names.first()?.spot;
                self.findings.add(spot.mistake(format!("these rules cannot be used together: {error}")));
                None
            }
        }
    }

    fn compiled(&self, key: Listed, rules: Vec<Rule>) -> Result<Arc<RuleSet>, ProgramError> {
        if let Some(known) = self.compiled.borrow().get(&key) {
            return Ok(Arc::clone(known));
        }
        let set = Arc::new(RuleSet::compile(rules)?);
        self.compiled.borrow_mut().insert(key, Arc::clone(&set));
        Ok(set)
    }

    fn find(&self, name: &At<String>) -> Option<Vec<Rule>> {
        if let Some(rules) = preset(&name.value) {
            return Some(rules);
        }
        let known = self.own.names().any(|own| own == name.value);
        if known || !self.complete {
            return self.own.find(name, self.findings).map(|rule| vec![Rule::clone(&rule)]);
        }
        self.findings.add(unknown("rule", name, presets::NAMES.into_iter().chain(self.own.names())));
        None
    }

    /// The operator's own rules.
    pub fn own(&self) -> impl Iterator<Item = Rule> {
        self.own.values().map(|rule| Rule::clone(&rule))
    }

    /// A warning for each rule that no route uses.
    pub fn unused(&self) -> impl Iterator<Item = String> {
        self.own.unused()
    }
}

/// The preset that a name would be taken for: its own, or that of one of its rules, which stand in logs by that name.
fn preset_of(id: &str) -> Option<&'static str> {
    presets::NAMES
        .into_iter()
        .find(|name| *name == id || preset(name).is_some_and(|rules| rules.iter().any(|rule| *rule.id == *id)))
}

/// Compiles one rule and tries its examples; reports what is wrong where it is wrong.
fn check(written: &written::Rule, findings: &Findings) -> Option<Rule> {
    let Field::Given(pattern) = &written.pattern else { return None };
    let id = written.id.as_ref().given().map_or("rule", String::as_str);
    let views: Vec<View> = match written.views {
        Field::Given(ref views) => views.value.iter().map(|view| view.value).collect(),
        Field::Missing => Vec::new(),
        Field::Broken => return None,
    };
    let rule = Rule::new(id, pattern.value.as_str()).also_through(views);
    if let Err(error) = RuleSet::compile(vec![rule.clone()]) {
        findings.add(pattern.spot.mistake(reason(&error)));
        return None;
    }
    try_examples(&rule, written, &pattern.spot, findings);
    Some(rule)
}

fn try_examples(rule: &Rule, written: &written::Rule, pattern: &Spot, findings: &Findings) {
    let (matching, passing) = (examples(&written.matching), examples(&written.passing));
    if matching.is_empty() && passing.is_empty() {
        return;
    }
    let texts = |list: &[At<String>]| list.iter().map(|example| example.value.clone()).collect::<Vec<_>>();
    for failure in rule_examples(rule, &texts(matching), &texts(passing)) {
        // A failure names the text, which may stand there more than once.
        let (list, text, message) = match &failure {
            ExampleFailure::Invalid(error) => {
                findings.add(pattern.mistake(reason(error)));
                continue;
            }
            ExampleFailure::Missed(text) => (matching, text, "the pattern does not match this example".to_owned()),
            ExampleFailure::Matched(text, at) => {
                let found = text.get(at.clone()).map_or_else(|| "a part of it".to_owned(), quoted);
                (passing, text, format!("the pattern must not match this example, and matches {found}"))
            }
        };
        for example in list.iter().filter(|example| example.value == *text) {
            findings.add(example.spot.mistake(message.clone()));
        }
    }
}

fn examples(written: &Field<Vec<At<String>>>) -> &[At<String>] {
    match written {
        Field::Given(list) => &list.value,
        Field::Missing | Field::Broken => &[],
    }
}

/// The error without the rule's id: the mistake's path says which rule it is.
fn reason(error: &ProgramError) -> String {
    let text = error.to_string();
    let prefix = format!("rule `{}`: ", error.rule);
    text.strip_prefix(&prefix).map(str::to_owned).unwrap_or(text)
}
