//! Verdicts on bodies in memory: JSON, text, forms, other charsets, and the query of a URL.

use bytes::Bytes;
use keyward::scan::text::charset::{Charset, Label};
use keyward::scan::{
    Action, BinaryParts, Inspection, Places, Report, TextFormat, Verdict, inspect, inspect_query, locate,
};

use crate::input::Input;
use crate::rules::SETS;

fn charset(label: &str) -> TextFormat {
    match Label::of(label.as_bytes()) {
        Label::Other(charset) => TextFormat::Coded(charset),
        Label::Utf8 | Label::Unknown => TextFormat::Coded(Charset::Utf16),
    }
}

pub fn check(input: &Input<'_>) {
    let formats = [
        TextFormat::Json,
        TextFormat::Text,
        TextFormat::Form,
        charset("utf-16"),
        charset("utf-16be"),
        charset("latin1"),
        charset("shift_jis"),
        charset("gb18030"),
        charset("iso-2022-jp"),
    ];
    verdicts(input, *input.pick(0, &formats));
}

/// What holds of every body, whatever its format.
pub fn verdicts(input: &Input<'_>, format: TextFormat) {
    let rules = input.pick(1, &SETS);
    let inspection = |action, max_chars| Inspection {
        rules,
        action,
        max_chars,
        max_body_chars: None,
        binary_parts: BinaryParts::Pass,
    };
    let report = |body: &Bytes, action| -> Report {
        let what = inspection(action, None);
        let report = inspect(body, format, &what);
        locate(body, format, &what, &mut Places::default());
        if report.verdict == Verdict::Clean {
            assert!(report.hits.is_empty(), "{action}: clean, and {:?}", report.hits);
        }
        report
    };
    let body = Bytes::copy_from_slice(input.body);
    let observed = report(&body, Action::Observe);
    let is_clean = observed.verdict == Verdict::Clean;
    assert!(!matches!(observed.verdict, Verdict::Rewritten(_) | Verdict::Blocked), "observed: {:?}", observed.verdict);
    let blocked = report(&body, Action::Block).verdict;
    assert_eq!(blocked == Verdict::Clean, is_clean, "{blocked:?}, and observed {:?}", observed.verdict);
    let sanitized = report(&body, Action::Sanitize).verdict;
    assert_eq!(sanitized == Verdict::Clean, is_clean, "{sanitized:?}, and observed {:?}", observed.verdict);
    let redacted = report(&body, Action::Redact).verdict;
    assert_eq!(redacted == Verdict::Clean, is_clean, "{redacted:?}, and observed {:?}", observed.verdict);
    if let Verdict::Rewritten(out) = redacted {
        let again = report(&out, Action::Block);
        let out = String::from_utf8_lossy(&out);
        assert_eq!(again.verdict, Verdict::Clean, "what redaction leaves: {out:?}, {:?}", again.hits);
    }
    // A limit is one more thing to find, and changes no text.
    let limited = inspect(&body, format, &inspection(Action::Observe, Some(8)));
    if limited.verdict == Verdict::TooLong {
        assert!(limited.too_long && limited.longest > 8, "{limited:?}");
    }
    if let Ok(query) = std::str::from_utf8(input.body) {
        let verdict = inspect_query(query, &inspection(Action::Redact, None)).verdict;
        assert!(!matches!(verdict, Verdict::Rewritten(_)), "a query is never rewritten");
    }
}
