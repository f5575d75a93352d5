//! What a route puts into its prompts.

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, HeaderName};

use super::place::Pointer;
use crate::scan::RuleSet;

/// The compiled `context` section of a route.
#[derive(Debug)]
pub struct Context {
    pub format: Format,
    pub template: Template,
    /// What stands in `Context: {…}`, in the file's order.
    pub values: Vec<(Box<str>, Source)>,
    /// What imitates the owner line.
    pub imitations: Arc<RuleSet>,
}

/// Where a body of this API has its place for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// Chat Completions: a system message, the first of `messages`.
    OpenAi,
    /// Responses: the beginning of `instructions`, which is added if there is none.
    Responses,
    /// Messages: the first block of `system`, which is added if there is none.
    Anthropic,
    /// Around the text at this place.
    Json(Pointer),
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Text(Box<str>),
    /// A header of the request; without it there is no value.
    Header(HeaderName),
}

/// Whom the context is about. An organization comes first: a key of both acts for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner<'a> {
    Organization(&'a str),
    User(&'a str),
}

impl fmt::Display for Owner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Organization(code) => write!(f, "org:{code}"),
            Self::User(id) => write!(f, "user:{id}"),
        }
    }
}

/// What is put in, with places for what is known only per request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
    /// Parts in front of the user's text, where that has a place.
    before_text: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(Box<str>),
    Owner,
    Context,
}

/// Why a template is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TemplateError {
    NoOwner,
    NoText,
    TextOutOfPlace,
    /// A placeholder stands there twice.
    Twice(&'static str),
    /// Something trusted comes behind what a user wrote.
    BehindText,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoOwner => f.write_str("has no `{owner}`"),
            Self::NoText => f.write_str("has no `{text}`, where the user's text goes"),
            Self::TextOutOfPlace => f.write_str("has a `{text}`: in this format the user's text stays where it is"),
            Self::Twice(name) => write!(f, "has `{name}` twice"),
            Self::BehindText => {
                f.write_str("has `{owner}` or `{context}` behind `{text}`, where a user could forge it")
            }
        }
    }
}

/// The trusted lines alone.
const LINES: &str = "ContextOwner: {owner}\nContext: {context}";
/// The source document's `enhancedPrompt`.
const AROUND_TEXT: &str = "\nContextOwner: {owner}\nContext: {context}\nUser Request: {text}\n";

impl Template {
    /// What is put in unless the file says otherwise.
    pub fn of(format: &Format) -> Self {
        let text = if matches!(format, Format::Json(_)) { AROUND_TEXT } else { LINES };
        // Both are templates; a test shows it.
        Self::parse(text, format).unwrap_or(Self { parts: vec![Part::Owner], before_text: None })
    }

    /// Reads a template with `{owner}`, `{context}` and, where the format is JSON, `{text}`.
    ///
    /// # Errors
    /// If a placeholder is missing, stands there twice, or in the wrong place.
    pub fn parse(text: &str, format: &Format) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut before_text = None;
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            let (literal, behind) = rest.split_at(at);
            let placeholder = [("{owner}", Part::Owner), ("{context}", Part::Context)]
                .into_iter()
                .find(|(name, _)| behind.starts_with(name));
            if let Some((name, part)) = placeholder {
                if parts.contains(&part) {
                    return Err(TemplateError::Twice(name));
                }
                if before_text.is_some() {
                    return Err(TemplateError::BehindText);
                }
                push(&mut parts, literal, before_text);
                parts.push(part);
                rest = &behind[name.len()..];
            } else if let Some(behind) = behind.strip_prefix("{text}") {
                push(&mut parts, literal, before_text);
                if before_text.replace(parts.len()).is_some() {
                    return Err(TemplateError::Twice("{text}"));
                }
                rest = behind;
            } else {
                // Any other brace is itself.
                push(&mut parts, &rest[..=at], before_text);
                rest = &behind[1..];
            }
        }
        push(&mut parts, rest, before_text);
        match (format, before_text) {
            _ if !parts.contains(&Part::Owner) => Err(TemplateError::NoOwner),
            (Format::Json(_), None) => Err(TemplateError::NoText),
            (Format::OpenAi | Format::Responses | Format::Anthropic, Some(_)) => Err(TemplateError::TextOutOfPlace),
            _ => Ok(Self { parts, before_text }),
        }
    }

    /// The text in front of the user's, and the text behind it.
    pub(super) fn fill(&self, owner: Owner<'_>, context: &str) -> (String, String) {
        let fill = |parts: &[Part]| {
            let mut text = String::new();
            for part in parts {
                match part {
                    Part::Literal(literal) => text.push_str(literal),
                    Part::Owner => text.push_str(&owner.to_string()),
                    Part::Context => text.push_str(context),
                }
            }
            text
        };
        let (before, behind) = self.parts.split_at(self.before_text.unwrap_or(self.parts.len()));
        (fill(before), fill(behind))
    }
}

/// Literals that follow each other are one, but not across the user's text.
fn push(parts: &mut Vec<Part>, literal: &str, before_text: Option<usize>) {
    let behind_text = before_text == Some(parts.len());
    match parts.last_mut() {
        _ if literal.is_empty() => {}
        _ if behind_text => parts.push(Part::Literal(literal.into())),
        Some(Part::Literal(last)) => *last = format!("{last}{literal}").into(),
        _ => parts.push(Part::Literal(literal.into())),
    }
}

impl Context {
    /// The values as one JSON object on one line.
    pub(super) fn values(&self, headers: &HeaderMap) -> String {
        let member = |(name, source): &(Box<str>, Source)| {
            let value = match source {
                Source::Text(text) => text.to_string(),
                Source::Header(name) => {
                    let lines: Vec<_> =
                        headers.get_all(name).iter().map(|line| String::from_utf8_lossy(line.as_bytes())).collect();
                    if lines.is_empty() {
                        return None;
                    }
                    lines.join(", ")
                }
            };
            Some(format!("{}:{}", quoted(name), quoted(&value)))
        };
        format!("{{{}}}", self.values.iter().filter_map(member).collect::<Vec<_>>().join(","))
    }
}

/// The text as a JSON string in ASCII: what a header brings must not look like the end of a line to anybody.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::new();
    for c in serde_json::Value::from(text).to_string().chars() {
        if matches!(c, ' '..='~') {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests;
