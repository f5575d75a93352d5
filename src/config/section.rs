//! Reading a mapping with known keys.
//!
//! Every key is accounted for: read, refused as unknown with a guess, or refused as not supported yet.

use super::field::{At, Field, Spot};
use super::mistake::{closest, quoted};
use super::value::{Context, Value, list_of};

/// The keys of one kind of section.
#[derive(Debug)]
pub(super) struct Keys {
    pub known: &'static [&'static str],
    /// Keys that a later version builds. They are refused by name, so that nobody believes they work.
    pub later: &'static [&'static str],
}

/// A mapping with known keys, each read at most once.
pub(super) struct Section<'a> {
    entries: Vec<(&'a str, Value<'a>)>,
    keys: &'static Keys,
    value: Value<'a>,
    /// Known keys that an unknown one was probably meant to be: they are misspelled, not missing.
    misspelled: Vec<&'static str>,
}

impl<'a> Section<'a> {
    /// Opens a mapping and reports every key that does not belong there.
    pub fn open(value: &Value<'a>, keys: &'static Keys) -> Option<Self> {
        let examples = &keys.known[..keys.known.len().min(3)];
        let entries = value.entries(&format!("a mapping with keys such as {}", list_of(examples)))?;
        let mut section = Self { entries: Vec::new(), keys, value: value.clone(), misspelled: Vec::new() };
        for (key, entry) in entries {
            match key.value {
                name if keys.known.contains(&name) => section.entries.push((name, entry)),
                name if keys.later.contains(&name) => {
                    value.context.findings.add(key.spot.mistake(format!("`{name}` is not supported yet")));
                }
                name => section.unknown(&key.spot, name),
            }
        }
        Some(section)
    }

    fn unknown(&mut self, spot: &Spot, name: &str) {
        let meant = match self.keys.known {
            [only] => Some(*only),
            known => closest(name, known.iter().copied()),
        };
        let help = match meant {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("known here: {}", self.keys.known.join(", ")),
        };
        self.misspelled.extend(meant);
        self.context().findings.add(spot.mistake(format!("unknown key {}", quoted(name))).help(help));
    }

    pub fn spot(&self) -> Spot {
        self.value.spot()
    }

    pub fn context(&self) -> Context<'a> {
        self.value.context
    }

    pub fn get(&self, key: &str) -> Option<&Value<'a>> {
        debug_assert!(self.keys.known.contains(&key), "{key} is missing from the section's known keys");
        self.entries.iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// A key that may be left out.
    pub fn field<T>(&self, key: &str, read: impl FnOnce(&Value<'a>) -> Option<T>) -> Field<T> {
        match self.get(key) {
            None => Field::Missing,
            Some(value) => match read(value) {
                Some(read) => Field::Given(At { value: read, spot: value.spot() }),
                None => Field::Broken,
            },
        }
    }

    /// A key that has no sensible default.
    pub fn required<T>(&self, key: &str, read: impl FnOnce(&Value<'a>) -> Option<T>) -> Field<T> {
        let field = self.field(key, read);
        if !field.is_missing() {
            return field;
        }
        if !self.misspelled.contains(&key) {
            self.context().findings.add(self.spot().mistake(format!("`{key}` is missing")));
        }
        Field::Broken
    }

    /// Whether an unknown key was probably meant to be one of these.
    pub fn is_misspelled(&self, keys: &[&str]) -> bool {
        self.misspelled.iter().any(|meant| keys.contains(meant))
    }

    /// A section below this one; when it is left out or broken, `None`.
    pub fn section<T>(&self, key: &str, keys: &'static Keys, read: impl FnOnce(&Section<'a>) -> T) -> Option<T> {
        Section::open(self.get(key)?, keys).map(|section| read(&section))
    }
}
