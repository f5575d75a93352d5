//! `rules`: what the operator looks for, beside the presets.

use super::name;
use crate::config::field::{At, Field};
use crate::config::section::{Keys, Section};
use crate::config::value::Value;

pub(super) const RULE: Keys =
    Keys { known: &["id", "pattern", "examples"], later: &["action", "direction", "literals", "view"] };
pub(super) const EXAMPLES: Keys = Keys { known: &["match", "pass"], later: &[] };

/// One item of `rules`.
pub(crate) struct Rule {
    pub id: Field<String>,
    pub pattern: Field<String>,
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
            matching,
            passing,
        })
    }
}

fn texts(value: &Value<'_>) -> Option<Vec<At<String>>> {
    value.list(|item| item.text("an example text").map(str::to_owned))
}
