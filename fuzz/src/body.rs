//! Verdicts on bodies in memory: JSON, text, forms, other charsets, and the query of a URL.

use bytes::Bytes;
use keyward::scan::text::charset::{Charset, Label};
use keyward::scan::{
    Action, BinaryParts, Inspection, Passage, PassageFormat, Places, Report, StreamRules, TextFormat, Verdict, inspect,
    inspect_query, locate,
};

use crate::input::Input;
use crate::rules::{MIXED, SETS};

/// What a passage may remember whatever came, and for each byte that came, in bytes.
const REMEMBERED: usize = 16 << 10;
const REMEMBERED_PER_BYTE: usize = 256;

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
    let format = *input.pick(0, &formats);
    verdicts(input, format);
    match format {
        TextFormat::Json => passages(input, format, PassageFormat::Json),
        TextFormat::Text => passages(input, format, PassageFormat::Text),
        _ => {}
    }
}

/// A body that is forwarded while it is read is judged as one that is held.
fn passages(input: &Input<'_>, held: TextFormat, format: PassageFormat) {
    let rules = input.pick(1, &SETS);
    let body = Bytes::copy_from_slice(input.body);
    for action in [Action::Block, Action::Observe] {
        let what = Inspection { rules, action, max_chars: None, max_body_chars: None, binary_parts: BinaryParts::Pass };
        let report = inspect(&body, held, &what);
        let read = |chunks: &[&[u8]]| {
            let rules =
                StreamRules { rules: rules.clone(), action, max_chars: None, max_body_chars: None, house: None };
            let mut passage = Passage::new(rules, format);
            let (mut fed, mut frontier) = (0, 0);
            for chunk in chunks {
                passage.feed(chunk);
                fed += chunk.len();
                assert!(passage.frontier() <= fed as u64, "more may leave than came");
                assert!(
                    passage.stop().is_some() || frontier <= passage.frontier(),
                    "what may leave has been taken back"
                );
                frontier = passage.frontier();
                assert!(passage.memory() <= REMEMBERED + REMEMBERED_PER_BYTE * fed, "{} bytes", passage.memory());
            }
            passage.finish();
            (passage.stop().is_some(), passage.hits())
        };
        let (whole, cut) = (read(&[input.body]), read(&input.chunks()));
        assert_eq!(whole.0, cut.0, "{action}: cuts make no difference");
        let is_clean = matches!(report.verdict, Verdict::Clean | Verdict::Observed);
        assert_eq!(whole.0, !is_clean, "{action}: {:?} of the whole", report.verdict);
        if action == Action::Observe && is_clean {
            let ids = |hits: &[keyward::scan::RuleHit]| hits.iter().map(|hit| hit.rule).collect::<Vec<_>>();
            assert_eq!(ids(&whole.1), ids(&report.hits), "what is observed");
        }
    }
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
    mixed(input, &body, format);
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

/// What holds where rules have actions of their own.
fn mixed(input: &Input<'_>, body: &Bytes, format: TextFormat) {
    let rules = input.pick(1, &MIXED);
    let what =
        |action| Inspection { rules, action, max_chars: None, max_body_chars: None, binary_parts: BinaryParts::Pass };
    let observed = inspect(body, format, &what(Action::Observe));
    assert!(!matches!(observed.verdict, Verdict::Rewritten(_) | Verdict::Blocked), "observed: {:?}", observed.verdict);
    let acted = inspect(body, format, &what(Action::Redact));
    assert_eq!(acted.verdict == Verdict::Clean, observed.verdict == Verdict::Clean, "{acted:?}, observed {observed:?}");
    if let Verdict::Rewritten(out) = acted.verdict {
        let again = inspect(&out, format, &what(Action::Redact)).verdict;
        let out = String::from_utf8_lossy(&out);
        assert!(matches!(again, Verdict::Clean | Verdict::Observed), "what redaction leaves: {out:?}, {again:?}");
    }
}
