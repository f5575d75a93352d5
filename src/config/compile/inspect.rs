//! `request` and `response`: how a direction is inspected.

use std::sync::Arc;

use crate::config::field::{At, Field};
use crate::config::units::show_size;
use crate::config::written;
use crate::policy::{BodyClass, Inspect, Unscannable};
use crate::scan::{Action, BinaryParts, RuleSet, View};

use super::Compiler;
use super::process::MEMORY;

const MAX_BODY: u64 = 10 << 20;

impl Compiler<'_> {
    /// Compiles one direction of a route, over that of the defaults.
    pub(super) fn inspect(&self, own: &written::Inspect, defaults: &written::Inspect) -> Inspect {
        let written = own.over(defaults);
        if let (Field::Given(views), Field::Given(rules)) = (&own.views, &written.rules)
            && rules.value.is_empty()
            && !views.value.is_empty()
        {
            let message = "there is no rule here that could read through `views`";
            self.findings.add(views.spot.mistake(message).help("remove `views`, or name a rule in `rules`"));
        }
        let inspect = self.inspect_written(&written);
        self.check_binary_parts(&written);
        if inspect.needs_text() {
            self.check_memory(&written.max_body);
        }
        inspect
    }

    /// Compiles one direction as it is written.
    pub(super) fn inspect_written(&self, written: &written::Inspect) -> Inspect {
        Inspect {
            rules: self.rule_set(written),
            action: written.action.clone().or(Action::Block),
            max_chars: written.max_chars.clone().given(),
            max_body_chars: written.max_body_chars.clone().given(),
            max_body: written.max_body.clone().or(MAX_BODY),
            content_types: content_types(&written.content_types),
            unscannable: written.unscannable.clone().or(Unscannable::Block),
            binary_parts: written.binary_parts.clone().or(BinaryParts::Pass),
            house: written.stream.clone().given().map(Arc::new),
        }
    }

    /// The rules of a section. An empty set stands in for a broken one.
    pub(super) fn rule_set(&self, written: &written::Inspect) -> Arc<RuleSet> {
        let views: Vec<View> = match &written.views {
            Field::Given(views) => views.value.iter().map(|view| view.value).collect(),
            Field::Missing => Vec::new(),
            Field::Broken => return self.rules.stand_in(),
        };
        match &written.rules {
            Field::Given(names) => self.rules.set(&names.value, &views).unwrap_or_else(|| self.rules.stand_in()),
            Field::Missing => self.rules.default_set(&views),
            Field::Broken => self.rules.stand_in(),
        }
    }

    /// What cannot be scanned passes under `unscannable: pass`, binary parts too.
    fn check_binary_parts(&self, written: &written::Inspect) {
        let (Field::Given(parts), Field::Given(unscannable)) = (&written.binary_parts, &written.unscannable) else {
            return;
        };
        if parts.value == BinaryParts::Block && unscannable.value == Unscannable::Pass {
            let message = "`unscannable: pass` lets binary parts pass too";
            self.findings.add(parts.spot.mistake(message).help("remove one of the two"));
        }
    }

    /// A body that is inspected is held, and what is larger than the budget of all bodies can never be.
    fn check_memory(&self, max_body: &Field<u64>) {
        let memory = match &self.memory {
            Field::Given(memory) => memory.value,
            Field::Missing => MEMORY,
            Field::Broken => return,
        };
        match (max_body, &self.memory) {
            (Field::Given(body), _) if body.value > memory => {
                let message = format!("a body of this size never fits into `memory`, {}", show_size(memory));
                self.findings.add(body.spot.mistake(message));
            }
            (Field::Missing, Field::Given(memory)) if memory.value < MAX_BODY => {
                let message = format!("holds no body of `max_body`, which is {} by default", show_size(MAX_BODY));
                let help = "write a smaller `max_body` into `defaults.request` and `defaults.response`";
                self.findings.add(memory.spot.mistake(message).help(help));
            }
            _ => {}
        }
    }
}

fn content_types(written: &Field<Vec<At<BodyClass>>>) -> Vec<BodyClass> {
    match written.as_ref().given() {
        Some(list) => list.iter().map(|class| class.value).collect(),
        None => {
            vec![BodyClass::Json, BodyClass::EventStream, BodyClass::Ndjson, BodyClass::Text, BodyClass::Multipart]
        }
    }
}
