//! The second pass over a body in which something was found: cutting it out.
//!
//! A body enters in which no key matches; the rewritten body leaves. Matches are found
//! in decoded text and cut out of the raw bytes that the text was written as. Every
//! other byte, escapes and white space included, is copied as it is.

use bytes::Bytes;

use super::{
    Inspection, MARKER, Malformed, Report, Tally, Verdict,
    ranges::{Range, complement, subtract, whole_characters},
    splice::Output,
};
use crate::scan::{
    rule::Action,
    text::{
        json::{Lexer, Role, Run, Sink},
        utf16_len,
    },
    view::{Blocker, Readings, Replacer},
};

/// Rewrites the values of a JSON document that was read before without an error.
pub(super) fn json(body: &Bytes, what: &Inspection<'_>) -> Report {
    let mut rewriter = Rewriter::new(body, what);
    let mut lexer = Lexer::new();
    match lexer.feed(body, &mut rewriter).and_then(|()| lexer.finish()) {
        Ok(()) => rewriter.report(),
        Err(error) => rewriter.tally.report(what, Verdict::Malformed(Malformed::Json(error))),
    }
}

/// Rewrites a body that is one text.
pub(super) fn text(body: &Bytes, what: &Inspection<'_>) -> Report {
    let mut rewriter = Rewriter::new(body, what);
    rewriter.text.extend_from_slice(body);
    let (cuts, marker) = rewriter.cuts();
    for cut in cuts {
        rewriter.out.replace(cut, marker);
    }
    rewriter.report()
}

/// The most matches that are cut out of one body.
///
/// Each takes memory, so that a body made of short matches would need several times its
/// own size. Who sends more than this has nothing else to say.
const MAX_MATCHES: usize = 1 << 16;

/// How much text is scanned before the matches in it are counted.
const STRIDE: usize = 64 << 10;

struct Rewriter<'a> {
    what: &'a Inspection<'a>,
    tally: Tally,
    role: Role,
    /// The current text, decoded.
    text: Vec<u8>,
    /// Where its literal begins in the body, the quote included.
    literal: usize,
    out: Output<'a>,
    matches: usize,
    /// The body must not pass: a match formed anew where others were replaced, or there
    /// were too many.
    blocked: bool,
}

impl<'a> Rewriter<'a> {
    fn new(body: &'a [u8], what: &'a Inspection<'a>) -> Self {
        Self {
            what,
            tally: Tally::new(what),
            role: Role::Value,
            text: Vec::new(),
            literal: 0,
            out: Output::new(body),
            matches: 0,
            blocked: false,
        }
    }

    fn report(self) -> Report {
        if self.blocked {
            return self.tally.report(self.what, Verdict::Blocked);
        }
        let rewritten = Verdict::Rewritten(self.out.finish());
        let verdict = self.tally.or_too_long(self.what, rewritten);
        self.tally.report(self.what, verdict)
    }

    /// What is to be cut out of the current text, in whole characters, and what is
    /// written in its place. Measures the text that results.
    fn cuts(&mut self) -> (Vec<Range>, &'static str) {
        let (cuts, marker) = match self.what.action {
            Action::Sanitize => (self.sanitize(), ""),
            _ => (self.redact(), MARKER),
        };
        let cuts = whole_characters(&self.text, cuts);
        let kept = complement(&cuts, self.text.len());
        if !marker.is_empty() && !cuts.is_empty() {
            self.guard(&kept, marker);
        }
        let kept = kept.into_iter().map(|range| utf16_len(&self.text[range])).sum::<u64>();
        self.tally.length(kept + (cuts.len() * marker.len()) as u64);
        (cuts, marker)
    }

    /// The matches of all rules.
    fn redact(&mut self) -> Vec<Range> {
        let whole = 0..self.text.len();
        self.matches(self.what.rules.to_redact(), std::slice::from_ref(&whole), 0)
    }

    /// The matches of each rule in turn in what the rules before it left.
    fn sanitize(&mut self) -> Vec<Range> {
        let whole = 0..self.text.len();
        let mut kept = vec![whole];
        for (rule, readings) in self.what.rules.to_sanitize().enumerate() {
            // Offsets of the cuts count what is kept; those of `kept` the whole text.
            let cuts = self.matches(readings, &kept, rule);
            kept = subtract(&kept, &cuts);
        }
        complement(&kept, self.text.len()).into_iter().filter(|cut| !cut.is_empty()).collect()
    }

    /// The matches in the text that the pieces make, in offsets of that text. Counts
    /// them, as rules from `first_rule` on.
    fn matches(&mut self, readings: Readings<'_>, pieces: &[Range], first_rule: usize) -> Vec<Range> {
        let mut cuts = Vec::new();
        let mut scanner = Replacer::new(readings, None);
        for chunk in pieces.iter().flat_map(|piece| self.text[piece.clone()].chunks(STRIDE)) {
            scanner.feed(readings, chunk);
            if scanner.capped() || self.matches + scanner.waiting() > MAX_MATCHES {
                self.blocked = true;
                return cuts;
            }
            drain(&mut scanner, &mut self.tally, first_rule, &mut self.matches, &mut cuts);
        }
        scanner.finish(readings);
        self.blocked |= scanner.capped();
        drain(&mut scanner, &mut self.tally, first_rule, &mut self.matches, &mut cuts);
        cuts
    }

    /// Scans the text with `marker` between the kept ranges.
    fn guard(&mut self, kept: &[Range], marker: &str) {
        let readings = self.what.rules.to_block();
        let mut guard = Blocker::untracked(readings);
        for (i, range) in kept.iter().enumerate() {
            if i > 0 {
                guard.feed(readings, marker.as_bytes());
            }
            guard.feed(readings, &self.text[range.clone()]);
        }
        guard.finish(readings);
        if let Some(hit) = guard.hit() {
            self.tally.counts[hit.rule] += 1;
            self.blocked = true;
        }
    }
}

/// Takes the matches that are decided, as cuts.
fn drain(scanner: &mut Replacer, tally: &mut Tally, first_rule: usize, matches: &mut usize, cuts: &mut Vec<Range>) {
    while let Some(hit) = scanner.next_match() {
        tally.counts[first_rule + hit.rule] += 1;
        *matches += 1;
        cuts.push(hit.start as usize..hit.end as usize);
    }
}

impl Sink for Rewriter<'_> {
    fn begin(&mut self, role: Role, raw: u64) {
        self.role = role;
        self.literal = raw as usize;
        self.text.clear();
    }

    fn run(&mut self, run: Run<'_>) {
        if self.role == Role::Value && !self.blocked {
            self.text.extend_from_slice(run.text);
        }
    }

    fn end(&mut self, raw: u64) {
        if self.role == Role::Key || self.blocked {
            return;
        }
        let (cuts, marker) = self.cuts();
        if cuts.is_empty() {
            return;
        }
        let literal = self.literal..raw as usize + 1;
        self.out.splice(literal, &cuts, marker);
    }
}
