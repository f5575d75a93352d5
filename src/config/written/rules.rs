//! `rules`: what the operator looks for, beside the presets.

use super::name;
use crate::config::field::{At, Field};
use crate::config::section::{Keys, Section};
use crate::config::value::Value;
use crate::scan::View;

pub(super) const RULE: Keys =
    Keys { known: &["id", "pattern", "views", "examples"], later: &["action", "direction", "literals"] };
pub(super) const EXAMPLES: Keys = Keys { known: &["match", "pass"], later: &[] };

/// One item of `rules`.
pub(crate) struct Rule {
    pub id: Field<String>,
    pub pattern: Field<String>,
    /// What the rule reads beside the text as it is.
    pub views: Field<Vec<At<View>>>,
    /// Texts that the pattern must find.
    pub matching: Field<Vec<At<String>>>,
    /// Texts in which it must find nothing.
    pub passing: Field<Vec<At<String>>>,
}

impl Rule {
    pub fn read(value: &Value<'_>) -> Option<Self> {
        let section = Section::open(value, &RULE)?;
        let (matching, passing) = section
            .section("examples", &EXAMPLES, |examples| (examples.field("match", texts), examples.field("pass", texts)))
            .unwrap_or((Field::Missing, Field::Missing));
        Some(Self {
            id: section.required("id", name),
            pattern: section.required("pattern", |value| value.text("a regular expression").map(str::to_owned)),
            views: section.field("views", views),
            matching,
            passing,
        })
    }
}

/// A list of views, none twice.
pub(super) fn views(value: &Value<'_>) -> Option<Vec<At<View>>> {
    value.set(|item| item.word(&View::NAMES))
}

fn texts(value: &Value<'_>) -> Option<Vec<At<String>>> {
    value.list(|item| item.text("an example text").map(str::to_owned))
}
