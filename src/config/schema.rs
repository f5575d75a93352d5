//! `proxy.yaml` as a JSON Schema, for editors.
//!
//! Enters: nothing. Leaves: a schema (draft 2020-12) that takes every file that the parser takes, and refuses unknown
//! keys, values of a wrong type and missing keys where the parser does. What only the whole file shows, such as a name that
//! nobody defines, is the parser's to say.
//!
//! Which keys there are comes from the tables that the parser reads by; only their types and descriptions stand here, and
//! a test finds what has none.

pub(super) mod table;

use serde_json::{Map, Value, json};

use super::written::all_keys;

/// How the values of a key are written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Type {
    Text,
    /// The name of something that the file defines, or its definition.
    Name,
    Boolean,
    /// A whole number from the first to the second.
    Count(u64, u64),
    Size,
    Duration,
    Word(&'static [&'static str]),
    /// A section of its own, by its path.
    Section(&'static str),
    /// A mapping whose keys the file chooses.
    Map(&'static Type),
    /// A list of sections.
    Items(&'static Type),
    /// A list, or one value that stands for a list of one; with at least so many items.
    List(&'static Type, u64),
    Any(&'static [Type]),
}

/// A key, how its values are written, and what it is for.
pub(super) type Row = (&'static str, Type, &'static str);

/// A section by its path, the keys that it cannot do without, and all of its keys.
pub(super) struct Described {
    pub path: &'static str,
    pub required: &'static [&'static str],
    pub rows: &'static [Row],
}

/// The schema as one document.
pub fn schema() -> Value {
    let mut definitions = Map::new();
    for (path, keys) in all_keys() {
        if let Some(described) = table::SECTIONS.iter().find(|described| described.path == path) {
            definitions.insert(name_of(path), section(described, keys.known));
        }
    }
    let mut root = definitions.remove(&name_of("")).unwrap_or_default();
    if let Value::Object(root) = &mut root {
        root.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
        root.insert("title".to_owned(), json!("Keyward's proxy.yaml"));
        root.insert("$defs".to_owned(), Value::Object(definitions));
    }
    root
}

fn section(described: &Described, known: &[&str]) -> Value {
    let rows = known.iter().filter_map(|key| described.rows.iter().find(|(name, ..)| name == key));
    let properties: Map<String, Value> = rows
        .map(|(key, of, description)| {
            let mut of = of.schema();
            if let Value::Object(of) = &mut of {
                of.insert("description".to_owned(), json!(description));
            }
            ((*key).to_owned(), of)
        })
        .collect();
    json!({
        "type": "object",
        "properties": properties,
        "required": described.required,
        "additionalProperties": false,
    })
}

/// A path as the name of a definition; `/` and `~` have a meaning in references, and are in no path.
fn name_of(path: &str) -> String {
    if path.is_empty() { "file".to_owned() } else { path.replace("[]", "") }
}

impl Type {
    fn schema(&self) -> Value {
        match self {
            Self::Text => json!({"type": "string", "minLength": 1}),
            Self::Name => json!({"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,64}$"}),
            Self::Boolean => json!({"type": "boolean"}),
            Self::Count(low, high) => json!({"type": "integer", "minimum": low, "maximum": high}),
            Self::Size => json!({"anyOf": [
                {"type": "integer", "minimum": 0},
                {"type": "string", "pattern": "^[0-9]+([KMG]i?)?B$"},
            ]}),
            Self::Duration => json!({"anyOf": [
                {"const": 0},
                {"type": "string", "pattern": "^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$", "minLength": 2},
            ]}),
            Self::Word(words) => json!({"enum": words}),
            Self::Section(path) => json!({"$ref": format!("#/$defs/{}", name_of(path))}),
            Self::Map(of) => json!({"type": "object", "additionalProperties": of.schema()}),
            Self::Items(of) => json!({"type": "array", "items": of.schema()}),
            Self::List(of, least) => {
                let of = of.schema();
                json!({"anyOf": [of, {"type": "array", "items": of, "minItems": least}]})
            }
            Self::Any(types) => json!({"anyOf": types.iter().map(Self::schema).collect::<Vec<_>>()}),
        }
    }
}
