//! `context`: what a route puts into its prompts.

use crate::config::field::{At, Field, Spot};
use crate::config::header_name::{header_name, reserved};
use crate::config::section::{Keys, Section};
use crate::config::value::Value;
use crate::context::{Format, Pointer, Source, Template};

use super::upstreams::carries_secret;

pub(super) const CONTEXT: Keys = Keys { known: &["format", "at", "template", "values"], later: &[] };
pub(super) const VALUE: Keys = Keys { known: &["header"], later: &[] };

/// A `context` section.
#[derive(Clone)]
pub(crate) struct Context {
    pub spot: Spot,
    /// The format, with its place where it needs one.
    pub format: Option<Format>,
    pub template: Option<Template>,
    pub values: Vec<(Box<str>, At<Source>)>,
}

/// A format before its place is known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Name {
    OpenAi,
    Responses,
    Anthropic,
    Json,
}

const FORMATS: [(&str, Name); 4] =
    [("openai", Name::OpenAi), ("responses", Name::Responses), ("anthropic", Name::Anthropic), ("json", Name::Json)];

impl Context {
    pub fn read(value: &Value<'_>) -> Option<Self> {
        let section = Section::open(value, &CONTEXT)?;
        let format = format(&section);
        let template = match (section.get("template"), &format) {
            (None, Some(format)) => Some(Template::of(format)),
            (Some(value), Some(format)) => value.parsed("a text with `{owner}`", |text| Template::parse(text, format)),
            (_, None) => None,
        };
        Some(Self { spot: section.spot(), format, template, values: values(&section) })
    }
}

fn format(section: &Section<'_>) -> Option<Format> {
    let name = section.required("format", |value| value.word(&FORMATS)).given()?;
    let at = section.field("at", |value| value.parsed("a place such as `/prompt`", Pointer::parse));
    let only = match name {
        Name::Json => {
            if at.is_missing() {
                section.context().findings.add(
                    section.spot().mistake("`at` is missing").help("write where the prompt stands, such as `/prompt`"),
                );
            }
            return at.given().map(Format::Json);
        }
        Name::OpenAi => Format::OpenAi,
        Name::Responses => Format::Responses,
        Name::Anthropic => Format::Anthropic,
    };
    match at {
        Field::Missing => Some(only),
        Field::Broken => None,
        Field::Given(at) => {
            let message = "this format has its own place: only `format: json` takes an `at`";
            section.context().findings.add(at.spot.mistake(message));
            None
        }
    }
}

fn values(section: &Section<'_>) -> Vec<(Box<str>, At<Source>)> {
    let Some(entries) = section.get("values").and_then(|values| values.entries("a mapping of names to values")) else {
        return Vec::new();
    };
    let read = entries.into_iter().map(|(name, value)| {
        let source = source(&value)?;
        Some((name.value.into(), At { value: source, spot: value.spot() }))
    });
    read.collect::<Vec<_>>().into_iter().flatten().collect()
}

fn source(value: &Value<'_>) -> Option<Source> {
    if !value.is_map() {
        return value.text("a text, or `{header: NAME}`").map(|text| Source::Text(text.into()));
    }
    let section = Section::open(value, &VALUE)?;
    let header = section.required("header", |value| {
        let name = header_name(value)?;
        match reserved(&name) {
            Some(reason) => value.refuse(value.mistake(format!("`{name}` {reason}"))),
            None if carries_secret(&name) => {
                value.refuse(value.mistake(format!("`{name}` carries a secret, which belongs in no prompt")))
            }
            None => Some(name),
        }
    });
    header.given().map(Source::Header)
}
