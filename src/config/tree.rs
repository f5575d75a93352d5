//! YAML text as a tree in which every value knows where it stands.
//!
//! Enters: the text of one file. Leaves: its root [`Node`], or the one mistake that makes it no YAML. Duplicate
//! keys are kept, in order, so that the reader can report them. Nothing here knows what a key means.

use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};
use serde_yaml::{DefaultMessageFormatter, Location, MessageFormatter, Spanned};

use super::mistake::{Mistake, Position, quoted};

/// One value of the file.
#[derive(Debug)]
pub(super) struct Node {
    pub value: Value,
    pub position: Position,
    /// Where it stands in the text; a list or a mapping gives its first byte only.
    pub bytes: Range<usize>,
}

/// What YAML's core schema makes of a value. Quoted text is never anything else than text.
#[derive(Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

/// What aliases may add up to. A configuration repeats a section a few times; an alias bomb repeats it millions
/// of times, and each repetition costs memory in the tree.
const MAX_REPLAYED_EVENTS: usize = 20_000;

/// Parses one YAML document.
pub(super) fn parse(text: &str) -> Result<Node, Box<Mistake>> {
    let options = serde_yaml::options! {
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        alias_limits: serde_yaml::alias_limits! { max_total_replayed_events: MAX_REPLAYED_EVENTS },
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        // YAML 1.2: `off` and `no` are text, `010` is not eight, `1_000` is not a number.
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        reject_unsupported_tags: true,
        // The snippet is ours to print: only we know which parts of a line are secret.
        with_snippet: false,
    };
    serde_yaml::from_str_with_options::<Spanned<Plain>>(text, options)
        .map(Node::from)
        .map_err(|error| Box::new(mistake(&error)))
}

/// The parser's own words, except where they speak of its API.
fn mistake(error: &serde_yaml::Error) -> Mistake {
    let message = match error {
        serde_yaml::Error::MultipleDocuments { .. } => {
            "a second YAML document starts here; the file must hold one".to_owned()
        }
        _ => format!("not valid YAML: {}", DefaultMessageFormatter.format_message(error)),
    };
    let position = error.location().filter(|at| at.line() > 0).as_ref().map(position);
    Mistake::at(position, "", message)
}

fn position(location: &Location) -> Position {
    let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    Position {
        line: count(location.line()),
        column: count(location.column()),
        width: count(location.span().len()).max(1),
    }
}

impl Node {
    /// What stands here, in words that follow "found".
    pub fn describe(&self) -> String {
        match &self.value {
            Value::Null => "nothing".to_owned(),
            Value::Bool(value) => format!("`{value}`"),
            Value::Int(value) => format!("the number {value}"),
            Value::Float(value) => format!("the number {value}"),
            Value::Text(value) => format!("the text {}", quoted(value)),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
        }
    }
}

/// A value before its own position is attached.
struct Plain(Value);

impl From<Spanned<Plain>> for Node {
    fn from(spanned: Spanned<Plain>) -> Self {
        // What an alias stands for is shown where it is written, because that is the line to mend.
        let at = spanned.defined;
        let span = at.span();
        let start = span.byte_offset().and_then(|offset| usize::try_from(offset).ok()).unwrap_or(0);
        let length = span.byte_len().and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
        Self { value: spanned.value.0, position: position(&at), bytes: start..start.saturating_add(length) }
    }
}

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue).map(Self)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Int(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element::<Spanned<Plain>>()? {
            items.push(item.into());
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, value)) = access.next_entry::<Spanned<Plain>, Spanned<Plain>>()? {
            entries.push((key.into(), value.into()));
        }
        Ok(Value::Map(entries))
    }
}
