//! How one direction of a route is inspected.

use std::sync::Arc;

use crate::scan::stream::House;
use crate::scan::{Action, BinaryParts, RuleSet};

/// The compiled `request:` or `response:` section of a route.
#[derive(Clone, Debug)]
pub struct Inspect {
    pub rules: Arc<RuleSet>,
    /// What happens on a hit of any of `rules`.
    pub action: Action,
    /// Longest single text, in UTF-16 code units.
    pub max_chars: Option<u64>,
    /// All texts of a body together, in UTF-16 code units.
    pub max_body_chars: Option<u64>,
    /// Bytes of a body that are held or, where nothing is inspected, let through.
    pub max_body: u64,
    /// Which content the rules apply to; only a response may leave kinds out.
    pub content_types: Vec<BodyClass>,
    /// What becomes of content that the rules apply to and that cannot be scanned.
    pub unscannable: Unscannable,
    /// What becomes of the parts of a multipart body that are no text.
    pub binary_parts: BinaryParts,
    /// The service's own format of streams; only for a response.
    pub house: Option<Arc<House>>,
}

impl Inspect {
    /// Whether any rule or length cap needs to see the text of a body.
    pub fn needs_text(&self) -> bool {
        !self.rules.is_empty() || self.max_chars.is_some() || self.max_body_chars.is_some()
    }
}

/// Content as inspection tells it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyClass {
    /// `application/json` and every `+json`.
    Json,
    /// `text/event-stream`.
    EventStream,
    /// `application/x-ndjson` and its kin.
    Ndjson,
    /// `text/plain`, or no declared type.
    Text,
    /// `multipart/form-data` and its kin.
    Multipart,
}

/// The policy for content that cannot be scanned (an unknown coding, a broken document).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unscannable {
    /// Refuse it.
    Block,
    /// Let it through unscanned, and count its bytes.
    Pass,
}
