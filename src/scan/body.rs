//! Verdicts on bodies that are held in memory as a whole.
//!
//! A body and what is asked of it enter; a [`Report`] leaves. Every text of the body is
//! scanned on its own: each string of a JSON document wherever it stands, each key,
//! each field of a form. A clean body is never copied, and in a rewritten one every byte
//! outside of the matches is as it came. Nothing here decides what a verdict means for
//! the request.

mod decoded;
mod locate;
mod parts;
mod ranges;
mod rewrite;
mod splice;
mod survey;

use std::fmt;

use bytes::Bytes;

pub use locate::locate;

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
}

impl TextFormat {
    /// Memory that inspecting `len` bytes takes beside them, in bytes, at most.
    pub fn memory(self, len: usize, action: Action) -> usize {
        let rewritten = if action.rewrites() { len } else { 0 };
        match self {
            // In UTF-8 a text has at most three bytes for each of its own, and is decoded, copied and rewritten.
            Self::Coded(_) => 3 * (2 * len + rewritten) + rewritten,
            Self::Json | Self::Text | Self::Form | Self::Multipart(_) => rewritten,
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

/// Inspects a body.
pub fn inspect(body: &Bytes, format: TextFormat, what: &Inspection<'_>) -> Report {
    if body.is_empty() {
        return Tally::new(what).report(what, Verdict::Clean);
    }
    match format {
        TextFormat::Json => inspect_json(body, what),
        TextFormat::Text => inspect_text(body, what),
        TextFormat::Form => inspect_form(body, what),
        TextFormat::Multipart(boundary) => parts::inspect(body, &boundary, what),
        TextFormat::Coded(charset) => decoded::inspect(body, charset, what),
    }
}

/// Inspects the raw query of a URL, without its `?`.
///
/// A query is never rewritten: where the action would, the verdict is
/// [`Verdict::Blocked`].
pub fn inspect_query(query: &str, what: &Inspection<'_>) -> Report {
    let mut survey = Survey::new(what);
    fields(query.as_bytes(), &mut survey);
    let blocked = survey.is_hit();
    survey.into_tally().without_rewriting(what, blocked)
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
        return rewrite::text(body, what);
    }
    if memchr::memchr(b'\\', body).is_some() {
        // It is no JSON document for us; a lenient reader may find one in it all the same.
        survey.unmeasured(&json::unescaped(body));
    }
    let blocked = survey.is_hit();
    survey.into_tally().without_rewriting(what, blocked)
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

/// Names the encoding of a text whose characters are not bytes: by its mark, or by the zero bytes that UTF-8 text
/// does not have and wide encodings are full of. Some readers recognize those without a mark (RFC 4627 §3).
pub(super) fn wide_encoding(body: &[u8]) -> Option<&'static str> {
    match body {
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => Some("UTF-16 text"),
        [0, 0, 0xFE, 0xFF, ..] => Some("UTF-32 text"),
        _ if memchr::memchr(0, body).is_some() => Some("text with zero bytes, which may be UTF-16 or UTF-32"),
        _ => None,
    }
}

/// Hits and lengths of one body while it is read.
struct Tally {
    /// By rule.
    counts: Vec<u64>,
    chars: u64,
    longest: u64,
    binary: u64,
}

impl Tally {
    fn new(what: &Inspection<'_>) -> Self {
        Self { counts: vec![0; what.rules.rule_ids().len()], chars: 0, longest: 0, binary: 0 }
    }

    /// Adds what was found in one part of the body.
    fn add(&mut self, part: &Report) {
        for hit in &part.hits {
            self.counts[hit.rule] += hit.count;
        }
        self.chars += part.chars;
        self.longest = self.longest.max(part.longest);
    }

    fn join(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
        self.chars += other.chars;
        self.longest = self.longest.max(other.longest);
    }

    fn length(&mut self, chars: u64) {
        self.chars += chars;
        self.longest = self.longest.max(chars);
    }

    fn too_long(&self, what: &Inspection<'_>) -> bool {
        what.max_chars.is_some_and(|max| self.longest > max) || what.max_body_chars.is_some_and(|max| self.chars > max)
    }

    fn hits(&self) -> Vec<RuleHit> {
        let all = self.counts.iter().enumerate();
        all.filter(|&(_, &count)| count > 0).map(|(rule, &count)| RuleHit { rule, count }).collect()
    }

    /// The report on a body that no action rewrote.
    fn without_rewriting(self, what: &Inspection<'_>, blocked: bool) -> Report {
        let verdict = if blocked {
            Verdict::Blocked
        } else if what.action == Action::Observe {
            match self.too_long(what) || self.counts.iter().any(|&count| count > 0) {
                true => Verdict::Observed,
                false => Verdict::Clean,
            }
        } else {
            self.or_too_long(what, Verdict::Clean)
        };
        self.report(what, verdict)
    }

    /// The verdict on a body that the rules let pass.
    fn or_too_long(&self, what: &Inspection<'_>, verdict: Verdict) -> Verdict {
        if self.too_long(what) { Verdict::TooLong } else { verdict }
    }

    fn report(self, what: &Inspection<'_>, verdict: Verdict) -> Report {
        Report {
            verdict,
            hits: self.hits(),
            chars: self.chars,
            longest: self.longest,
            too_long: self.too_long(what),
            binary: self.binary,
        }
    }

    /// Adds the hits of rules that `hits` lacks: the same match, read in two ways, is
    /// one.
    fn add_missing_to(&self, hits: &mut Vec<RuleHit>) {
        for hit in self.hits() {
            if hits.iter().all(|known| known.rule != hit.rule) {
                hits.push(hit);
            }
        }
        hits.sort_by_key(|hit| hit.rule);
    }
}

#[cfg(test)]
mod tests;
