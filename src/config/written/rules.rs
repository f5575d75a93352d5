//! `rules`: what the operator looks for, beside the presets.

use super::name;
use super::routes::ACTIONS;
use crate::config::field::{At, Field};
use crate::config::section::{Keys, Section};
use crate::config::value::Value;
use crate::scan::{Action, Direction, View};

pub(super) const RULE: Keys = Keys {
    known: &["id", "pattern", "literals", "ignore_case", "action", "direction", "views", "examples"],
    later: &[],
};
pub(super) const EXAMPLES: Keys = Keys { known: &["match", "pass"], later: &[] };

const DIRECTIONS: [(&str, Option<Direction>); 3] =
    [("request", Some(Direction::Request)), ("response", Some(Direction::Response)), ("both", None)];

/// The most literals of one rule, and the longest, in bytes.
const MAX_LITERALS: usize = 1000;
const MAX_LITERAL: usize = 1024;

/// One item of `rules`.
pub(crate) struct Rule {
    pub id: Field<String>,
    pub pattern: Field<String>,
    /// Texts to look for as they are, in place of a pattern.
    pub literals: Field<Vec<At<String>>>,
    /// Whether `A` to `Z` in `literals` are `a` to `z` too.
    pub ignore_case: Field<bool>,
    /// What happens on a hit, whatever the section says.
    pub action: Field<Action>,
    /// The one direction that the rule is for, if it is not for both.
    pub direction: Field<Option<Direction>>,
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
        let pattern = section.field("pattern", |value| value.text("a regular expression").map(str::to_owned));
        let literals = section.field("literals", literals);
        let ignore_case = section.field("ignore_case", Value::boolean);
        check_search(&section, &pattern, &literals, &ignore_case);
        Some(Self {
            id: section.required("id", name),
            pattern,
            literals,
            ignore_case,
            action: section.field("action", |value| value.word(&ACTIONS)),
            direction: section.field("direction", |value| value.word(&DIRECTIONS)),
            views: section.field("views", views),
            matching,
            passing,
        })
    }
}

/// A rule looks for one thing: a pattern, or literals.
fn check_search(
    section: &Section<'_>,
    pattern: &Field<String>,
    literals: &Field<Vec<At<String>>>,
    ignore_case: &Field<bool>,
) {
    let findings = section.context().findings;
    match (pattern.is_missing(), literals) {
        (true, Field::Missing) if section.is_misspelled(&["pattern", "literals"]) => {}
        (true, Field::Missing) => {
            findings.add(section.spot().mistake("`pattern` is missing").help("write `pattern`, or `literals`"));
        }
        (false, Field::Given(At { spot, .. })) => {
            let help = "make two rules of it, or write the literals into the pattern";
            findings.add(spot.mistake("a rule has a `pattern` or `literals`, and not both").help(help));
        }
        _ => {}
    }
    if let (Field::Given(At { spot, .. }), false, Field::Missing) = (ignore_case, pattern.is_missing(), literals) {
        findings.add(spot.mistake("`ignore_case` is for `literals`").help("begin the pattern with `(?i)`"));
    }
}

fn literals(value: &Value<'_>) -> Option<Vec<At<String>>> {
    let list = value.set(|item| {
        let text = item.text("a text to look for")?;
        match text.len() > MAX_LITERAL {
            true => item.refuse(item.mistake(format!("a literal has at most {MAX_LITERAL} bytes"))),
            false => Some(text.to_owned()),
        }
    })?;
    match list.len() {
        0 => value.refuse(value.mistake("expected at least one text to look for")),
        1..=MAX_LITERALS => Some(list),
        _ => value.refuse(value.mistake(format!("a rule has at most {MAX_LITERALS} literals"))),
    }
}

/// A list of views, none twice.
pub(super) fn views(value: &Value<'_>) -> Option<Vec<At<View>>> {
    value.set(|item| item.word(&View::NAMES))
}

fn texts(value: &Value<'_>) -> Option<Vec<At<String>>> {
    value.list(|item| item.text("an example text").map(str::to_owned))
}
