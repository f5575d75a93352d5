//! Bodies of many documents: a JSON document on each line, and server-sent events.
//!
//! Each document is read on its own, as a request says all that it says at once: no string is a piece of another. A
//! stream of responses, where strings are pieces, is not read here.

use std::ops::Range;

use bytes::Bytes;
use memchr::memchr_iter;

use super::{Inspection, Malformed, Report, Survey, Tally, TextFormat, Verdict, rewrite, survey_json, wide_encoding};
use crate::scan::text::{
    json::JsonError,
    sse::{Frame, Framing, Split, Splitter},
};

/// The most events of one body.
const MAX_EVENTS: usize = 1 << 16;

const TOO_MANY: &str = "more than 65536 events";

/// The separator that begins a record of `application/json-seq` (RFC 7464).
const RECORD: u8 = 0x1E;

/// Inspects a body that has a JSON document on each line.
pub(super) fn lines(body: &Bytes, what: &Inspection<'_>) -> Report {
    let mut survey = Survey::new(what);
    for line in documents(body) {
        if let Err(JsonError { kind, offset }) = survey_json(&body[line.clone()], &mut survey) {
            let error = JsonError { kind, offset: line.start as u64 + offset };
            return survey.into_tally().report(what, Verdict::Malformed(Malformed::Json(error)));
        }
        if survey.must_block() {
            break;
        }
    }
    if what.action.rewrites() && survey.is_hit() && !survey.must_block() {
        return rewrite::documents(body, documents(body), what);
    }
    let blocked = survey.is_hit();
    survey.into_tally().without_rewriting(what, blocked)
}

/// Where the documents of the lines stand. Lines without one are left out.
fn documents(body: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let start = if body.starts_with(b"\xEF\xBB\xBF") { 3 } else { 0 };
    let ends = memchr_iter(b'\n', body).chain([body.len()]);
    let lines = ends.scan(start, |start, end| Some(std::mem::replace(start, end + 1)..end));
    lines.filter_map(move |line| {
        let text = body.get(line.clone())?;
        let record = usize::from(text.first() == Some(&RECORD));
        (!text[record..].trim_ascii().is_empty()).then_some(line.start + record..line.end)
    })
}

/// Inspects a body of server-sent events. The data of an event is a text, or a JSON document if it is one; all other
/// lines are scanned too, and a match in them blocks.
pub(super) fn events(body: &Bytes, what: &Inspection<'_>) -> Report {
    if let Some(reason) = wide_encoding(body) {
        return Tally::new(what).report(what, Verdict::Unscannable(reason));
    }
    let mut reader = Events { what, body, tally: Tally::new(what), out: None, copied: 0 };
    let mut splitter = Splitter::new(Framing::Events);
    let (mut rest, mut at, mut count) = (&body[..], 0, 0);
    let mut ended = false;
    while !ended {
        match splitter.next(&mut rest) {
            Some(Split::LineFeed) => {
                at += 1;
                continue;
            }
            Some(Split::Frame) => {}
            None if splitter.finish() => ended = true,
            None => break,
        }
        let frame = splitter.take();
        count += 1;
        let judged = if count > MAX_EVENTS { Err(Verdict::Unscannable(TOO_MANY)) } else { reader.event(&frame, at) };
        if let Err(verdict) = judged {
            return reader.tally.report(what, verdict);
        }
        at += frame.raw.len();
        splitter.give_back(frame);
    }
    reader.report()
}

struct Events<'a> {
    what: &'a Inspection<'a>,
    body: &'a Bytes,
    tally: Tally,
    /// The body with what was rewritten so far, up to offset `copied` of the one that came.
    out: Option<Vec<u8>>,
    copied: usize,
}

impl Events<'_> {
    /// Reads an event that begins at offset `at` of the body. An error is the verdict on all of it.
    fn event(&mut self, frame: &Frame, at: usize) -> Result<(), Verdict> {
        if !frame.rest.is_empty() {
            let mut survey = Survey::new(self.what);
            frame.rest.iter().for_each(|line| survey.unmeasured(&frame.raw[line.clone()]));
            let hit = survey.is_hit();
            self.tally.join(&survey.into_tally());
            if hit {
                return Err(Verdict::Blocked);
            }
        }
        let (data, place) = match &frame.data[..] {
            [] => return Ok(()),
            [line] => {
                let place = at + line.start..at + line.end;
                (self.body.slice(place.clone()), Some(place))
            }
            lines => {
                let lines: Vec<&[u8]> = lines.iter().map(|line| &frame.raw[line.clone()]).collect();
                (Bytes::from(lines.join(&b'\n')), None)
            }
        };
        let report = super::inspect_one(&data, TextFormat::Text, self.what);
        self.tally.add(&report);
        match (report.verdict, place) {
            (Verdict::Clean | Verdict::Observed | Verdict::TooLong, _) => Ok(()),
            (Verdict::Rewritten(bytes), Some(place)) => {
                self.rewritten(place, &bytes);
                Ok(())
            }
            // A match that goes on over the end of a line has no place where it could be cut out.
            (Verdict::Rewritten(_), None) => Err(Verdict::Blocked),
            (verdict, _) => Err(verdict),
        }
    }

    fn rewritten(&mut self, place: Range<usize>, bytes: &[u8]) {
        let out = self.out.get_or_insert_with(|| Vec::with_capacity(self.body.len()));
        out.extend_from_slice(&self.body[self.copied..place.start]);
        if out.last() == Some(&b':') && bytes.first() == Some(&b' ') {
            // Readers drop one space behind the colon, and this one is part of the text.
            out.push(b' ');
        }
        out.extend_from_slice(bytes);
        self.copied = place.end;
    }

    fn report(self) -> Report {
        match self.out {
            None => self.tally.without_rewriting(self.what, false),
            Some(mut out) => {
                out.extend_from_slice(&self.body[self.copied..]);
                let verdict = self.tally.or_too_long(self.what, Verdict::Rewritten(out.into()));
                self.tally.report(self.what, verdict)
            }
        }
    }
}

#[cfg(test)]
mod tests;
