//! Verdicts on bodies that are held in memory as a whole.
//!
//! A body and what is asked of it enter; a [`Report`] leaves. Every text of the body is
//! scanned on its own: each string of a JSON document wherever it stands, each key,
//! each field of a form. A clean body is never copied, and in a rewritten one every byte
//! outside of the matches is as it came. Nothing here decides what a verdict means for
//! the request.

mod decoded;
mod framed;
mod locate;
mod parts;
mod ranges;
mod rewrite;
mod splice;
mod survey;
mod tally;

use std::fmt;

use bytes::Bytes;

pub use locate::locate;
pub(super) use locate::locate_acting;

use super::{
    rule::Action,
    ruleset::RuleSet,
    text::{
        charset::Charset,
        json::{self, JsonError, Lexer},
        multipart::{Boundary, MultipartError},
        query::{self, Part},
    },
};
use survey::Survey;
use tally::Tally;

/// What [`Action::Redact`] writes in place of a match. It needs no escape in JSON, and
/// begins and ends with a character that is no part of a word, so that it seldom
/// completes a match with what stands beside it.
pub const MARKER: &str = "[removed]";

/// How many bytes are scanned before it is looked whether the verdict is already known.
const STRIDE: usize = 64 << 10;

/// How the texts of a body are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextFormat {
    /// One JSON document.
    Json,
    /// One text. If it is also a JSON document, it is read both ways, because many
    /// frameworks parse JSON whatever the content type says.
    Text,
    /// `application/x-www-form-urlencoded`. Read as JSON too, if it is JSON.
    Form,
    /// `multipart/form-data` and its kin. Each part is read as its own type says.
    Multipart(Boundary),
    /// One text in another charset than UTF-8, read as its bytes are too.
    Coded(Charset),
    /// A JSON document on each line. No string is a piece of another.
    Lines,
    /// `text/event-stream`. No string is a piece of another.
    Events,
}

impl TextFormat {
    /// Memory that inspecting `len` bytes takes beside them, in bytes, at most.
    pub fn memory(self, len: usize, action: Action) -> usize {
        let rewritten = if action.rewrites() { len } else { 0 };
        match self {
            // In UTF-8 a text has at most three bytes for each of its own, and is decoded, copied and rewritten.
            Self::Coded(_) => 3 * (2 * len + rewritten) + rewritten,
            // An event is copied where its data has several lines, and rewritten before the body is.
            Self::Events => len + 2 * rewritten,
            Self::Json | Self::Text | Self::Form | Self::Multipart(_) | Self::Lines => rewritten,
        }
    }
}

/// What happens to a part of a multipart body that is declared to be no text, and is none: its bytes are no UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinaryParts {
    /// It passes unread, and its bytes are counted.
    Pass,
    /// It is content that cannot be scanned.
    Block,
}

/// What is asked of a body.
#[derive(Clone, Copy, Debug)]
pub struct Inspection<'a> {
    /// What to look for.
    pub rules: &'a RuleSet,
    /// What to do about it.
    pub action: Action,
    /// The longest text allowed, in UTF-16 units.
    pub max_chars: Option<u64>,
    /// The most allowed of all texts together, in UTF-16 units.
    pub max_body_chars: Option<u64>,
    /// What happens to binary parts.
    pub binary_parts: BinaryParts,
}

impl<'a> Inspection<'a> {
    /// The same, by other rules; lengths are left to this one.
    fn with(&self, rules: &'a RuleSet, action: Action) -> Self {
        Self { rules, action, max_chars: None, max_body_chars: None, binary_parts: self.binary_parts }
    }

    /// The rules that block whatever is cut out for others.
    fn strict(&self) -> Option<&'a RuleSet> {
        self.rules.strict().filter(|_| self.action.rewrites()).map(|rules| &**rules)
    }
}

/// How a body is not what it is said to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// A JSON document.
    Json(JsonError),
    /// A multipart body.
    Multipart(MultipartError),
    /// The head of a part of one.
    Head,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(error) => error.fmt(f),
            Self::Multipart(error) => error.fmt(f),
            Self::Head => f.write_str("multipart: malformed head of a part"),
        }
    }
}

/// What became of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing was found: forward the body as it came.
    Clean,
    /// Something was found that is only to be observed: forward the body as it came.
    Observed,
    /// Forward this body instead.
    Rewritten(Bytes),
    /// A rule matched that blocks, or whose match could not be rewritten.
    Blocked,
    /// A text, or all of them together, are too long.
    TooLong,
    /// The body is not in its format. Under [`Action::Observe`] too.
    Malformed(Malformed),
    /// The body cannot be read, for this reason. Under [`Action::Observe`] too.
    Unscannable(&'static str),
}

/// How often a rule was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleHit {
    /// Index into [`RuleSet::rule_ids`].
    pub rule: usize,
    /// Matches found; for a blocked body, those found until then.
    pub count: u64,
}

/// The verdict, and what it rests on. Lengths count values and not keys or names, after
/// rewriting; those of a body that was not read to its end count what was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What became of the body.
    pub verdict: Verdict,
    /// The rules that were found, in the order of the rule set.
    pub hits: Vec<RuleHit>,
    /// Length of all texts together, in UTF-16 units.
    pub chars: u64,
    /// Length of the longest text, in UTF-16 units.
    pub longest: u64,
    /// Whether a length is over its limit; the verdict too, unless another comes first.
    pub too_long: bool,
    /// Bytes of binary parts that were not read.
    pub binary: u64,
}

impl Report {
    /// Adds the hits of rules that are only observed, none of which is among its own.
    fn observed(&mut self, hits: Vec<RuleHit>) {
        if self.verdict == Verdict::Clean && !hits.is_empty() {
            self.verdict = Verdict::Observed;
        }
        self.hits.extend(hits);
        self.hits.sort_by_key(|hit| hit.rule);
    }
}

/// Inspects a body.
pub fn inspect(body: &Bytes, format: TextFormat, what: &Inspection<'_>) -> Report {
    let mut report = inspect_acting(body, format, what);
    if let Some(rules) = what.rules.observed() {
        let seen = inspect_one(body, format, &what.with(rules, Action::Observe));
        report.observed(seen.hits);
    }
    report
}

/// Inspects a body without the rules that are only observed beside others.
pub(super) fn inspect_acting(body: &Bytes, format: TextFormat, what: &Inspection<'_>) -> Report {
    if let Some(rules) = what.strict() {
        let report = inspect_one(body, format, &what.with(rules, Action::Block));
        if report.verdict == Verdict::Blocked {
            return report;
        }
    }
    inspect_one(body, format, what)
}

/// Inspects a body by what one set of rules acts on.
fn inspect_one(body: &Bytes, format: TextFormat, what: &Inspection<'_>) -> Report {
    if body.is_empty() {
        return Tally::new(what).report(what, Verdict::Clean);
    }
    match format {
        TextFormat::Json => inspect_json(body, what),
        TextFormat::Text => inspect_text(body, what),
        TextFormat::Form => inspect_form(body, what),
        TextFormat::Multipart(boundary) => parts::inspect(body, &boundary, what),
        TextFormat::Coded(charset) => decoded::inspect(body, charset, what),
        TextFormat::Lines => framed::lines(body, what),
        TextFormat::Events => framed::events(body, what),
    }
}

/// Inspects the raw query of a URL, without its `?`.
///
/// A query is never rewritten: where the action would, the verdict is
/// [`Verdict::Blocked`].
pub fn inspect_query(query: &str, what: &Inspection<'_>) -> Report {
    let one = |what: &Inspection<'_>| {
        let mut survey = Survey::new(what);
        fields(query.as_bytes(), &mut survey);
        let blocked = survey.is_hit();
        survey.into_tally().without_rewriting(what, blocked)
    };
    let mut report = one(what);
    if let Some(rules) = what.rules.observed() {
        report.observed(one(&what.with(rules, Action::Observe)).hits);
    }
    report
}

fn inspect_json(body: &Bytes, what: &Inspection<'_>) -> Report {
    let mut survey = Survey::new(what);
    if let Err(error) = survey_json(body, &mut survey) {
        return survey.into_tally().report(what, Verdict::Malformed(Malformed::Json(error)));
    }
    if what.action.rewrites() && survey.is_hit() && !survey.must_block() {
        return rewrite::json(body, what);
    }
    let blocked = survey.is_hit();
    survey.into_tally().without_rewriting(what, blocked)
}

fn inspect_text(body: &Bytes, what: &Inspection<'_>) -> Report {
    if let Some(reason) = wide_encoding(body) {
        return Tally::new(what).report(what, Verdict::Unscannable(reason));
    }
    if is_json(body) {
        return inspect_both(body, what);
    }
    let mut survey = Survey::new(what);
    survey.text(body);
    if what.action.rewrites() && survey.is_hit() {
        return without_escaped(rewrite::text(body, what), what);
    }
    if memchr::memchr(b'\\', body).is_some() {
        // It is no JSON document for us; a lenient reader may find one in it all the same.
        survey.unmeasured(&json::unescaped(body));
    }
    let blocked = survey.is_hit();
    survey.into_tally().without_rewriting(what, blocked)
}

/// Blocks a rewritten text that a lenient reader of JSON would still find a match in, and nobody else.
fn without_escaped(mut report: Report, what: &Inspection<'_>) -> Report {
    let Verdict::Rewritten(rewritten) = &report.verdict else { return report };
    if memchr::memchr(b'\\', rewritten).is_none() {
        return report;
    }
    let surveyed = |text: &[u8]| {
        let mut survey = Survey::new(what);
        survey.unmeasured(text);
        survey
    };
    let unescaped = surveyed(&json::unescaped(rewritten));
    // What sanitizing leaves may match as it is.
    if unescaped.is_hit() && !surveyed(rewritten).is_hit() {
        unescaped.into_tally().add_missing_to(&mut report.hits);
        report.verdict = Verdict::Blocked;
    }
    report
}

/// Reads a body as JSON and, with what became of it, as one text.
fn inspect_both(body: &Bytes, what: &Inspection<'_>) -> Report {
    let mut report = inspect_json(body, what);
    let read = match &report.verdict {
        Verdict::Clean | Verdict::Observed => body,
        Verdict::Rewritten(rewritten) => rewritten,
        _ => return report,
    };
    let mut survey = Survey::new(what);
    survey.text(read);
    let hit = survey.is_hit();
    survey.into_tally().add_missing_to(&mut report.hits);
    if hit {
        // What matches only across the strings cannot be cut out of them.
        report.verdict = Verdict::Blocked;
    } else if what.action == Action::Observe && !report.hits.is_empty() {
        report.verdict = Verdict::Observed;
    }
    report
}

fn inspect_form(body: &Bytes, what: &Inspection<'_>) -> Report {
    if let Some(reason) = wide_encoding(body) {
        return Tally::new(what).report(what, Verdict::Unscannable(reason));
    }
    let mut survey = Survey::new(what);
    fields(body, &mut survey);
    if !survey.is_hit() && is_json(body) {
        // The lexer has accepted the document, so that there is no error to report.
        let _ = survey_json(body, &mut survey);
    }
    let blocked = survey.is_hit();
    survey.into_tally().without_rewriting(what, blocked)
}

fn fields(query: &[u8], survey: &mut Survey<'_>) {
    query::texts(query, |part, text| match part {
        Part::Value => survey.text(text),
        Part::Name | Part::Whole => survey.unmeasured(text),
    });
}

fn survey_json(body: &[u8], survey: &mut Survey<'_>) -> Result<(), JsonError> {
    let mut lexer = Lexer::new();
    for part in body.chunks(STRIDE) {
        lexer.feed(part, survey)?;
        if survey.must_block() {
            return Ok(());
        }
    }
    lexer.finish()
}

/// Whether a reader that guesses would parse this as JSON. Numbers and words are left
/// out, since they hold no text.
fn is_json(body: &[u8]) -> bool {
    struct Nothing;
    impl json::Sink for Nothing {
        fn begin(&mut self, _: json::Role, _: u64) {}
        fn run(&mut self, _: json::Run<'_>) {}
        fn end(&mut self, _: u64) {}
    }
    let start = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body).trim_ascii_start();
    let mut lexer = Lexer::new();
    matches!(start.first(), Some(b'{' | b'[' | b'"'))
        && lexer.feed(body, &mut Nothing).is_ok()
        && lexer.finish().is_ok()
}

pub(super) const ZERO_BYTES: &str = "text with zero bytes, which may be UTF-16 or UTF-32";

/// Names the encoding of a text whose characters are not bytes: by its mark, or by the zero bytes that UTF-8 text
/// does not have and wide encodings are full of. Some readers recognize those without a mark (RFC 4627 §3).
pub(super) fn wide_encoding(body: &[u8]) -> Option<&'static str> {
    match body {
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => Some("UTF-16 text"),
        [0, 0, 0xFE, 0xFF, ..] => Some("UTF-32 text"),
        _ if memchr::memchr(0, body).is_some() => Some(ZERO_BYTES),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
