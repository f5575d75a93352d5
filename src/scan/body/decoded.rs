//! Texts in another charset than UTF-8.
//!
//! The text is scanned as its charset says, and its bytes as they are too, for a reader that does not know the
//! charset. What is cut out of the text is cut out of the bytes: they are written anew only where everything else
//! comes back byte for byte.

use bytes::Bytes;

use super::{Inspection, Report, Survey, Tally, Verdict, inspect_text};
use crate::scan::text::charset::Charset;

const ONE_WAY: &str = "text that its charset cannot be written in again";

/// Inspects a body that is one text.
pub(super) fn inspect(body: &Bytes, charset: Charset, what: &Inspection<'_>) -> Report {
    let text = match charset.decode(body) {
        Ok(text) => text,
        Err(why) => return Tally::new(what).report(what, Verdict::Unscannable(why)),
    };
    let came_back = || charset.encode(&text, body).is_some_and(|bytes| bytes == body[..]);
    let mut report = inspect_text(&Bytes::copy_from_slice(text.as_bytes()), what);
    if let Verdict::Rewritten(rewritten) = &report.verdict {
        let written = std::str::from_utf8(rewritten).ok().and_then(|text| charset.encode(text, body));
        report.verdict = match written {
            Some(bytes) if came_back() => Verdict::Rewritten(bytes.into()),
            _ => Verdict::Unscannable(ONE_WAY),
        };
    }
    let read = match &report.verdict {
        Verdict::Clean | Verdict::Observed => body,
        Verdict::Rewritten(bytes) => bytes,
        _ => return report,
    };
    let mut survey = Survey::new(what);
    survey.unmeasured(read);
    let hit = survey.is_hit();
    survey.into_tally().add_missing_to(&mut report.hits);
    if hit {
        report.verdict = Verdict::Blocked;
    } else if !report.hits.is_empty() && report.verdict == Verdict::Clean {
        report.verdict = Verdict::Observed;
    }
    report
}
