//! The words of inspection: a rule, what is done on a hit, and in which direction.
//!
//! Only vocabulary lives here. A [`Rule`] is still source text: nothing in this
//! module parses or runs a regular expression.

use std::{fmt, str::FromStr, sync::Arc};

use super::view::View;

/// One thing to look for: an id for logs and metrics, and a regular expression.
///
/// The pattern is in the syntax of the `regex` crate and is compiled as written, so
/// `(?i)` folds Unicode: `(?i)script` also finds `ſcript` (U+017F). Where only ASCII
/// letters are meant, write `(?i-u:script)`, as the presets do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What operators call the rule; it appears in logs, metrics and errors.
    pub id: Arc<str>,
    /// The source of the regular expression.
    pub pattern: String,
    /// What else than the text as it is the rule reads.
    pub views: Vec<View>,
}

impl Rule {
    /// A rule named `id` that looks for `pattern` in texts as they are.
    pub fn new(id: impl Into<Arc<str>>, pattern: impl Into<String>) -> Self {
        Self { id: id.into(), pattern: pattern.into(), views: Vec::new() }
    }

    /// The same rule, which also reads texts through `views`.
    pub fn also_through(mut self, views: impl IntoIterator<Item = View>) -> Self {
        self.views.extend(views);
        self.views.sort_unstable();
        self.views.dedup();
        self
    }
}

/// What happens to a text that a rule hits, from the mildest to the strictest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Count the hit and change nothing.
    Observe,
    /// Replace each match by a marker, and block if the result matches again.
    Redact,
    /// Remove the matches of each rule in turn, once, and look no further: what the
    /// source document's `sanitizeAIInput` does. Removal can join the two sides of a
    /// match into a new one, and this action lets that through.
    Sanitize,
    /// Refuse the whole text.
    Block,
}

impl Action {
    /// Whether this action may change the text that it lets pass.
    pub fn rewrites(self) -> bool {
        matches!(self, Self::Redact | Self::Sanitize)
    }
}

/// Which way a body travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the client to the service.
    Request,
    /// From the service to the client.
    Response,
}

/// A word that names no [`Action`] or no [`Direction`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownWord {
    word: String,
    expected: &'static str,
}

impl fmt::Display for UnknownWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not one of {}", self.word, self.expected)
    }
}

impl std::error::Error for UnknownWord {}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Observe => "observe",
            Self::Redact => "redact",
            Self::Sanitize => "sanitize",
            Self::Block => "block",
        })
    }
}

impl FromStr for Action {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        match word {
            "observe" => Ok(Self::Observe),
            "redact" => Ok(Self::Redact),
            "sanitize" => Ok(Self::Sanitize),
            "block" => Ok(Self::Block),
            _ => Err(UnknownWord { word: word.into(), expected: "observe, redact, sanitize, block" }),
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Request => "request",
            Self::Response => "response",
        })
    }
}

impl FromStr for Direction {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        match word {
            "request" => Ok(Self::Request),
            "response" => Ok(Self::Response),
            _ => Err(UnknownWord { word: word.into(), expected: "request, response" }),
        }
    }
}

#[cfg(test)]
mod tests;
