//! Multipart bodies: each part is a text of its own, scanned as its own type says.
//!
//! Names of fields and files, and whatever else heads and the surroundings of parts say, are scanned but never
//! rewritten. A part is rewritten in its place; the delimiters, the heads and all other parts stay byte for byte.

use std::ops::Range;

use bytes::Bytes;
use memchr::memmem;

use super::{BinaryParts, Inspection, Malformed, Report, Survey, Tally, TextFormat, Verdict};
use crate::scan::{
    rule::Action,
    text::{
        charset::Label,
        multipart::{Boundary, Coding, Head, HeadProblem, Sink, Splitter},
        parameters::is_json,
    },
};

/// The largest part in another charset: reading it takes several times its size.
const MAX_CODED: usize = 1 << 20;

const BINARY: &str = "a binary part";
const TRANSFER_CODING: &str = "a part with a transfer encoding";
const NESTED: &str = "a part that has parts itself";
const UNKNOWN_CHARSET: &str = "a part in an unknown charset";
const LARGE_CODED: &str = "a large part in another charset";

/// Inspects a body that `boundary` divides.
pub(super) fn inspect(body: &Bytes, boundary: &Boundary, what: &Inspection<'_>) -> Report {
    let mut places = Places::default();
    let mut splitter = Splitter::new(boundary);
    if let Err(error) = splitter.feed(body, &mut places).and_then(|()| splitter.finish(&mut places)) {
        return Tally::new(what).report(what, Verdict::Malformed(Malformed::Multipart(error)));
    }
    let mut reader = Reader {
        what,
        body,
        delimiter: boundary.delimiter(),
        charset: Label::Utf8,
        tally: Tally::new(what),
        blocked: false,
        unreadable: None,
        out: None,
        copied: 0,
    };
    reader.default_charset(&places.parts);
    reader.surroundings(&places);
    for place in places.parts {
        if reader.blocked {
            break;
        }
        reader.part(place);
    }
    reader.report()
}

/// Where a part's head and its body stand.
struct Place {
    head: Range<usize>,
    body: Range<usize>,
}

#[derive(Default)]
struct Places {
    parts: Vec<Place>,
    outside: Vec<Range<usize>>,
}

impl Sink for Places {
    fn outside(&mut self, raw: Range<u64>) {
        self.outside.push(raw.start as usize..raw.end as usize);
    }

    fn head(&mut self, head: &[u8], body: u64) {
        let body = body as usize;
        // The empty line stands between them.
        let end = body - b"\r\n".len();
        self.parts.push(Place { head: end - head.len()..end, body: body..body });
    }

    fn end(&mut self, raw: u64) {
        if let Some(part) = self.parts.last_mut() {
            part.body.end = raw as usize;
        }
    }
}

struct Reader<'a> {
    what: &'a Inspection<'a>,
    body: &'a Bytes,
    delimiter: Vec<u8>,
    /// Of texts that declare none (RFC 7578 §4.6).
    charset: Label,
    tally: Tally,
    blocked: bool,
    /// The first thing that could not be read.
    unreadable: Option<Verdict>,
    /// The body with what was rewritten so far, up to offset `copied` of the one that came.
    out: Option<Vec<u8>>,
    copied: usize,
}

impl Reader<'_> {
    fn default_charset(&mut self, parts: &[Place]) {
        for part in parts {
            let head = Head::parse(&self.body[part.head.clone()]);
            if head.is_ok_and(|head| head.name.as_deref() == Some(b"_charset_")) {
                let label = Label::of(&self.body[part.body.clone()]);
                // Two fields of this name are one too many.
                let first = self.charset == Label::Utf8;
                self.charset = if first || label == self.charset { label } else { Label::Unknown };
            }
        }
    }

    /// Scans what stands around the parts.
    fn surroundings(&mut self, places: &Places) {
        let mut survey = Survey::new(self.what);
        for range in &places.outside {
            survey.unmeasured(&self.body[range.clone()]);
        }
        self.unmeasured(survey);
    }

    fn part(&mut self, place: Place) {
        let head = match Head::parse(&self.body[place.head.clone()]) {
            Ok(head) => head,
            Err(HeadProblem::Malformed) => return self.unread(Verdict::Malformed(Malformed::Head)),
            Err(HeadProblem::Undecoded(why)) => return self.unread(Verdict::Unscannable(why)),
        };
        let mut survey = Survey::new(self.what);
        for text in &head.texts {
            survey.unmeasured(text);
        }
        self.unmeasured(survey);
        let content = self.body.slice(place.body.clone());
        if self.blocked || content.is_empty() {
            return;
        }
        let format = match self.format(&head, &content) {
            Ok(Some(format)) => format,
            Ok(None) => {
                self.tally.binary += content.len() as u64;
                return;
            }
            Err(why) => return self.unread(Verdict::Unscannable(why)),
        };
        if format == TextFormat::Text && is_binary_type(&head) && memchr::memchr(0, &content).is_some() {
            return self.with_zeros(&content);
        }
        let report = super::inspect_one(&content, format, self.what);
        self.tally.add(&report);
        match report.verdict {
            Verdict::Clean | Verdict::Observed | Verdict::TooLong => {}
            Verdict::Blocked => self.blocked = true,
            Verdict::Rewritten(bytes) => self.rewritten(&head, place.body, &bytes),
            verdict @ (Verdict::Malformed(_) | Verdict::Unscannable(_)) => self.unread(verdict),
        }
    }

    /// How the part is read; `None` for one that passes unread.
    fn format(&self, head: &Head, content: &[u8]) -> Result<Option<TextFormat>, &'static str> {
        if head.coding == Coding::Other {
            return Err(TRANSFER_CODING);
        }
        let own = head.charset.as_deref().map(Label::of);
        let ascii = |format| if own.is_none_or(Label::keeps_ascii) { Ok(Some(format)) } else { Err(UNKNOWN_CHARSET) };
        match head.media_type.as_deref() {
            Some(json) if is_json(json) => return ascii(TextFormat::Json),
            Some("application/x-www-form-urlencoded") => return ascii(TextFormat::Form),
            Some(nested) if nested.starts_with("multipart/") || nested.starts_with("message/") => return Err(NESTED),
            _ => {}
        }
        if is_binary_type(head) {
            return match (std::str::from_utf8(content), self.what.binary_parts) {
                (Ok(_), _) => Ok(Some(TextFormat::Text)),
                (Err(_), BinaryParts::Pass) => Ok(None),
                (Err(_), BinaryParts::Block) => Err(BINARY),
            };
        }
        match own.unwrap_or(self.charset) {
            Label::Utf8 => Ok(Some(TextFormat::Text)),
            Label::Other(_) if content.len() > MAX_CODED => Err(LARGE_CODED),
            Label::Other(charset) => Ok(Some(TextFormat::Coded(charset))),
            Label::Unknown => Err(UNKNOWN_CHARSET),
        }
    }

    /// A part of a binary type that is UTF-8 with zero bytes: it may be a small binary file, or text in UTF-16, whose
    /// ASCII is found when the zeros are left out. It is never rewritten.
    fn with_zeros(&mut self, content: &[u8]) {
        let mut survey = Survey::new(self.what);
        survey.text(content);
        let without: Vec<u8> = content.iter().copied().filter(|&byte| byte != 0).collect();
        survey.unmeasured(&without);
        self.unmeasured(survey);
    }

    /// Takes over what a survey found in texts that cannot be rewritten.
    fn unmeasured(&mut self, survey: Survey<'_>) {
        self.blocked |= survey.is_hit();
        self.tally.join(&survey.into_tally());
    }

    fn unread(&mut self, verdict: Verdict) {
        self.unreadable.get_or_insert(verdict);
    }

    fn rewritten(&mut self, head: &Head, place: Range<usize>, bytes: &[u8]) {
        // What is removed may join its two sides to a delimiter, and then the service would find other parts.
        if head.describes_bytes || memmem::find(bytes, &self.delimiter).is_some() {
            self.blocked = true;
            return;
        }
        let out = self.out.get_or_insert_with(|| Vec::with_capacity(self.body.len()));
        out.extend_from_slice(&self.body[self.copied..place.start]);
        out.extend_from_slice(bytes);
        self.copied = place.end;
    }

    fn report(self) -> Report {
        let observes = self.what.action == Action::Observe;
        if self.blocked && !observes {
            return self.tally.report(self.what, Verdict::Blocked);
        }
        match (self.unreadable, self.out) {
            // Where what cannot be read may pass, what was found beside it may not.
            (Some(_), Some(_)) => self.tally.report(self.what, Verdict::Blocked),
            (Some(verdict), None) => self.tally.report(self.what, verdict),
            (None, Some(mut out)) => {
                out.extend_from_slice(&self.body[self.copied..]);
                let verdict = self.tally.or_too_long(self.what, Verdict::Rewritten(out.into()));
                self.tally.report(self.what, verdict)
            }
            (None, None) => self.tally.without_rewriting(self.what, false),
        }
    }
}

/// Whether a part is declared to be something else than text, and is no field, which is text whatever it declares.
fn is_binary_type(head: &Head) -> bool {
    let Some(essence) = head.media_type.as_deref().filter(|_| head.is_file || head.name.is_none()) else {
        return false;
    };
    let is_text = essence.starts_with("text/")
        || essence.ends_with("+xml")
        || ["xml", "javascript", "ecmascript", "jsonl", "ndjson", "x-ndjson", "yaml", "sql", "graphql"]
            .iter()
            .any(|kind| essence.strip_prefix("application/") == Some(kind));
    !is_text
}

#[cfg(test)]
mod tests;
