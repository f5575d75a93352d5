//! Reading one value: its type, its bounds, and a mistake for everything else.
//!
//! A reader never stops at a mistake. It reports it once, at the value itself, and answers `None`; the caller goes
//! on with the next value.

use std::collections::HashMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::field::{At, Spot};
use super::mistake::{Findings, Mistake, quoted};
use super::tree::{self, Node};
use super::units::{self, BadUnit};

/// What reading may look at beside the file itself.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub findings: &'a Findings,
    /// Relative paths in the file start here: where the file is, not where the process was started.
    pub base_dir: &'a Path,
    pub env: &'a dyn Fn(&str) -> Option<String>,
}

/// The longest list that is taken seriously: items are compared with each other.
const MAX_ITEMS: usize = 5000;

/// The longest duration that is taken seriously.
pub(super) const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// A value, the way to it, and where its mistakes go.
#[derive(Clone)]
pub(super) struct Value<'a> {
    node: &'a Node,
    path: Arc<str>,
    pub context: Context<'a>,
}

impl<'a> Value<'a> {
    pub fn root(node: &'a Node, context: Context<'a>) -> Self {
        Self { node, path: "".into(), context }
    }

    pub fn spot(&self) -> Spot {
        Spot { position: self.node.position, path: Arc::clone(&self.path) }
    }

    pub fn mistake(&self, message: impl Into<String>) -> Mistake {
        self.spot().mistake(message)
    }

    /// Reports a mistake; the `None` is what the caller answers with.
    pub fn refuse<T>(&self, mistake: Mistake) -> Option<T> {
        self.context.findings.add(mistake);
        None
    }

    pub fn wrong_type<T>(&self, expected: &str) -> Option<T> {
        self.refuse(self.wrong(expected))
    }

    fn wrong(&self, expected: &str) -> Mistake {
        match &self.node.value {
            tree::Value::Null => {
                self.mistake(format!("expected {expected}, found nothing")).help("give it a value, or remove it")
            }
            _ => self.mistake(format!("expected {expected}, found {}", self.node.describe())),
        }
    }

    pub fn is_map(&self) -> bool {
        matches!(self.node.value, tree::Value::Map(_))
    }

    /// The text that stands here, if it is text.
    pub fn as_text(&self) -> Option<&'a str> {
        match &self.node.value {
            tree::Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Any text but an empty one.
    pub fn text(&self, expected: &str) -> Option<&'a str> {
        match &self.node.value {
            tree::Value::Text(text) if text.is_empty() => {
                self.refuse(self.mistake(format!("expected {expected}, found an empty text")))
            }
            tree::Value::Text(text) => Some(text),
            tree::Value::Int(_) | tree::Value::Float(_) | tree::Value::Bool(_) => {
                self.refuse(self.wrong(expected).help("put it in quotes to make it text"))
            }
            _ => self.wrong_type(expected),
        }
    }

    pub fn boolean(&self) -> Option<bool> {
        match &self.node.value {
            tree::Value::Bool(value) => Some(*value),
            _ => {
                let meant = match self.as_text().map(str::to_lowercase).as_deref() {
                    Some("yes" | "on" | "true") => Some("true"),
                    Some("no" | "off" | "false") => Some("false"),
                    _ => None,
                };
                let mistake = self.wrong("true or false");
                self.refuse(match meant {
                    Some(meant) => mistake.help(format!("did you mean `{meant}`, without quotes?")),
                    None => mistake,
                })
            }
        }
    }

    /// A whole number within `bounds`.
    pub fn count(&self, bounds: RangeInclusive<u64>) -> Option<u64> {
        let tree::Value::Int(number) = self.node.value else {
            let number = self.as_text().is_some_and(|text| text.parse::<u64>().is_ok());
            let mistake = self.wrong("a whole number");
            return self.refuse(if number { mistake.help("write the number without quotes") } else { mistake });
        };
        if number < 0 {
            return self.wrong_type("a whole number");
        }
        self.within(u64::try_from(number).unwrap_or(u64::MAX), &bounds, u64::to_string)
    }

    /// A duration with its unit, within `bounds`.
    pub fn duration(&self, bounds: RangeInclusive<Duration>) -> Option<Duration> {
        const EXPECTED: &str = "a duration such as `500ms`, `15m` or `1h30m`";
        let duration = match &self.node.value {
            // Zero is zero in any unit; what matters is that it is no bound.
            tree::Value::Int(0) => Ok(Duration::ZERO),
            tree::Value::Int(number) if *number > 0 => {
                return self.refuse(self.wrong(EXPECTED).help(format!("did you mean `{number}s`?")));
            }
            tree::Value::Text(text) => units::duration(text),
            _ => return self.wrong_type(EXPECTED),
        };
        let duration = self.unit(duration, EXPECTED)?;
        self.within(duration, &bounds, |duration| units::show_duration(*duration))
    }

    /// A size with its unit, or a plain number of bytes, within `bounds`.
    pub fn size(&self, bounds: RangeInclusive<u64>) -> Option<u64> {
        const EXPECTED: &str = "a size such as `512B`, `50KiB` or `10MiB`";
        let size = match &self.node.value {
            tree::Value::Int(number) if *number >= 0 => Ok(u64::try_from(*number).unwrap_or(u64::MAX)),
            tree::Value::Text(text) => units::size(text),
            _ => return self.wrong_type(EXPECTED),
        };
        let size = self.unit(size, EXPECTED)?;
        self.within(size, &bounds, |size| units::show_size(*size))
    }

    fn unit<T>(&self, read: Result<T, BadUnit>, expected: &str) -> Option<T> {
        match read {
            Ok(value) => Some(value),
            Err(BadUnit { meant: Some(meant) }) => {
                self.refuse(self.wrong(expected).help(format!("did you mean `{meant}`?")))
            }
            Err(BadUnit { meant: None }) => self.wrong_type(expected),
        }
    }

    fn within<T: PartialOrd + Default>(
        &self,
        value: T,
        bounds: &RangeInclusive<T>,
        show: impl Fn(&T) -> String,
    ) -> Option<T> {
        if bounds.contains(&value) {
            return Some(value);
        }
        let (low, high) = (show(bounds.start()), show(bounds.end()));
        let message = if value == T::default() {
            format!("zero is not a bound: expected {low} to {high}")
        } else {
            format!("expected {low} to {high}, found {}", self.node.describe())
        };
        self.refuse(self.mistake(message))
    }

    /// One of a few words.
    pub fn word<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let names = || words.iter().map(|(name, _)| *name);
        let expected = format!("one of {}", list_of(&names().collect::<Vec<_>>()));
        let Some(text) = self.as_text() else {
            return self.wrong_type(&expected);
        };
        match words.iter().find(|(name, _)| *name == text) {
            Some((_, value)) => Some(*value),
            None => self.refuse(self.wrong(&expected).did_you_mean(text, names())),
        }
    }

    /// Text that `parse` understands; its error is the message.
    pub fn parsed<T, E: Display>(&self, expected: &str, parse: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        match parse(self.text(expected)?) {
            Ok(value) => Some(value),
            Err(error) => self.refuse(self.mistake(error.to_string())),
        }
    }

    /// A list, or one value that stands for a list of one. `None` when any item is broken.
    pub fn list<T>(&self, mut read: impl FnMut(&Self) -> Option<T>) -> Option<Vec<At<T>>> {
        let items = match &self.node.value {
            tree::Value::List(_) | tree::Value::Null => self.items("a list")?,
            _ => vec![self.clone()],
        };
        // Every item is read, so that every mistake is told, before the first broken one decides.
        let read: Vec<_> = items.iter().map(|item| read(item).map(|value| At { value, spot: item.spot() })).collect();
        read.into_iter().collect()
    }

    /// As [`Value::list`]; an item that stands there twice is a mistake, and is taken once.
    pub fn set<T: PartialEq>(&self, read: impl FnMut(&Self) -> Option<T>) -> Option<Vec<At<T>>> {
        let mut set: Vec<At<T>> = Vec::new();
        for item in self.list(read)? {
            if set.iter().any(|earlier| earlier.value == item.value) {
                self.context.findings.add(item.spot.mistake("is listed twice"));
            } else {
                set.push(item);
            }
        }
        Some(set)
    }

    /// The items of a list of sections.
    pub fn items(&self, expected: &str) -> Option<Vec<Self>> {
        match &self.node.value {
            tree::Value::List(items) if items.len() > MAX_ITEMS => {
                self.refuse(self.mistake(format!("a list has at most {MAX_ITEMS} items")))
            }
            tree::Value::List(items) => {
                Some(items.iter().enumerate().map(|(index, node)| self.child(node, format!("[{index}]"))).collect())
            }
            _ => self.wrong_type(expected),
        }
    }

    /// The entries of a mapping whose keys are names that the file chooses. A name is told twice only when it
    /// stands there twice.
    pub fn entries(&self, expected: &str) -> Option<Vec<(At<&'a str>, Self)>> {
        let tree::Value::Map(entries) = &self.node.value else {
            return self.wrong_type(expected);
        };
        let mut named = Vec::new();
        let mut lines: HashMap<&str, usize> = HashMap::new();
        for (key, node) in entries {
            let Some(name) = self.key(key) else { continue };
            let value = self.child(node, step(&self.path, name));
            let spot = Spot { position: key.position, path: Arc::clone(&value.path) };
            if let Some(first) = lines.get(name) {
                self.context.findings.add(
                    spot.mistake(format!("{} is already set on line {first}", quoted(name)))
                        .help("keep one of them: programs disagree about which one counts"),
                );
            } else {
                lines.insert(name, spot.position.line);
                named.push((At { value: name, spot }, value));
            }
        }
        Some(named)
    }

    fn key(&self, key: &'a Node) -> Option<&'a str> {
        match &key.value {
            tree::Value::Text(name) => Some(name),
            _ => {
                let message = format!("expected a key, found {}", key.describe());
                let mistake = Mistake::at(Some(key.position), &self.path, message);
                self.refuse(mistake.help("put it in quotes to make it text"))
            }
        }
    }

    fn child(&self, node: &'a Node, step: String) -> Self {
        Self { node, path: format!("{}{step}", self.path).into(), context: self.context }
    }
}

/// The step from `parent` to the key `name`; a name that would confuse the path is quoted.
fn step(parent: &str, name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if name.is_empty() || !name.bytes().all(plain) {
        return format!("[{}]", quoted(name).replace('`', "\""));
    }
    if parent.is_empty() { name.to_owned() } else { format!(".{name}") }
}

/// Words as a message lists them.
pub(super) fn list_of(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
