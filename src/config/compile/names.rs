//! What a file defines by name, and whether anything uses it.

use std::cell::Cell;
use std::sync::Arc;

use crate::config::field::At;
use crate::config::mistake::{Findings, Mistake, quoted};

/// The entries of one section.
pub(super) struct Names<T> {
    /// What an entry is, for messages: `limit`.
    what: &'static str,
    list: Vec<Entry<T>>,
    /// Whether `list` holds everything that was meant: a section that could not be read might define any name.
    complete: bool,
}

struct Entry<T> {
    name: At<String>,
    /// `None` when the entry was broken, and reported.
    value: Option<Arc<T>>,
    used: Cell<bool>,
}

impl<T> Names<T> {
    pub fn new(what: &'static str, complete: bool) -> Self {
        Self { what, list: Vec::new(), complete }
    }

    pub fn add(&mut self, name: At<String>, value: Option<T>) {
        self.list.push(Entry { name, value: value.map(Arc::new), used: Cell::new(false) });
    }

    /// The entry called `name`. `None` when there is none, or when it was broken; either is reported once.
    pub fn find(&self, name: &At<String>, findings: &Findings) -> Option<Arc<T>> {
        match self.list.iter().find(|entry| entry.name.value == name.value) {
            Some(entry) => {
                entry.used.set(true);
                entry.value.clone()
            }
            None => {
                if self.complete {
                    findings.add(unknown(self.what, name, self.names()));
                }
                None
            }
        }
    }

    /// What was defined without a mistake, in the order of the file. Asking counts as no use.
    pub fn values(&self) -> impl Iterator<Item = Arc<T>> {
        self.list.iter().filter_map(|entry| entry.value.clone())
    }

    /// The only entry, if there is one and no other.
    pub fn only(&self) -> Option<&At<String>> {
        match &self.list[..] {
            [only] if self.complete => Some(&only.name),
            _ => None,
        }
    }

    pub fn is_known_empty(&self) -> bool {
        self.list.is_empty() && self.complete
    }

    /// Whether a route that names nothing is at fault, and not the section.
    pub fn is_ambiguous(&self) -> bool {
        self.list.len() > 1 && self.complete
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(|entry| entry.name.value.as_str())
    }

    /// A warning for each entry that no route uses.
    pub fn unused(&self) -> impl Iterator<Item = String> {
        self.list.iter().filter(|entry| !entry.used.get()).map(|Entry { name, .. }| {
            format!("{} {} is used by no route (line {})", self.what, quoted(&name.value), name.spot.position.line)
        })
    }
}

/// A reference to something that does not exist.
pub(super) fn unknown<'a>(what: &str, name: &At<String>, known: impl Iterator<Item = &'a str>) -> Mistake {
    let known: Vec<&str> = known.collect();
    let mistake = name.spot.mistake(format!("unknown {what} {}", quoted(&name.value)));
    let guessed = mistake.clone().did_you_mean(&name.value, known.iter().copied());
    match (guessed.help.is_some(), known.is_empty()) {
        (true, _) => guessed,
        (false, true) => mistake.help(format!("no {what} is defined")),
        (false, false) => mistake.help(format!("known: {}", known.join(", "))),
    }
}
