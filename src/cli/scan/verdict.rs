//! The line that tells what became of the input.

use std::sync::Arc;

use serde::Serialize;

use super::{Action, Place, Places};

/// The verdict in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Word {
    Clean,
    Blocked,
    Redacted,
    Sanitized,
    Observed,
}

impl Word {
    pub(super) fn of(action: Action, stopped: bool, hit: bool) -> Self {
        match action {
            _ if stopped => Self::Blocked,
            _ if !hit => Self::Clean,
            Action::Block => Self::Blocked,
            Action::Redact => Self::Redacted,
            Action::Sanitize => Self::Sanitized,
            Action::Observe => Self::Observed,
        }
    }
}

/// What became of the input.
pub(super) struct Outcome {
    pub word: Word,
    /// Why it was blocked, if for no hit that has a place.
    pub reason: Option<&'static str>,
    pub places: Places,
    /// The most bytes of input that were withheld after any read.
    pub held_max: u64,
    /// Bytes written.
    pub released: u64,
}

/// The line, its fields in the order in which people read them.
#[derive(Serialize)]
struct Line<'a> {
    verdict: Word,
    hits: Vec<LineHit<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hits_unlisted: Option<u64>,
    held_max: u64,
    released: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

#[derive(Serialize)]
struct LineHit<'a> {
    rule: &'a str,
    start: u64,
    end: u64,
    channel: &'a str,
}

impl<'a> LineHit<'a> {
    fn of(place: &'a Place, ids: &'a [Arc<str>]) -> Self {
        let rule = ids.get(place.rule).map_or("", |id| id);
        Self { rule, start: place.start, end: place.end, channel: &place.channel }
    }
}

impl Outcome {
    /// One line of JSON; `ids` are those of the rules.
    pub(super) fn line(&self, ids: &[Arc<str>]) -> Result<String, String> {
        let hits: Vec<LineHit<'_>> = self.places.list().iter().map(|place| LineHit::of(place, ids)).collect();
        let unlisted = self.places.total() - hits.len() as u64;
        let line = Line {
            verdict: self.word,
            hits,
            hits_unlisted: (unlisted > 0).then_some(unlisted),
            held_max: self.held_max,
            released: self.released,
            reason: self.reason,
        };
        serde_json::to_string(&line).map_err(|error| format!("keyward: cannot write the verdict: {error}"))
    }
}
