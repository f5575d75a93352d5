use std::sync::LazyLock;

use super::*;
use crate::scan::{
    RuleSet, preset,
    rule::Rule,
    testing::{config, text},
};
use proptest::prelude::*;
use regex::bytes::Regex;

fn html() -> &'static RuleSet {
    static HTML: LazyLock<RuleSet> = LazyLock::new(|| RuleSet::compile(preset("html").unwrap()).unwrap());
    &HTML
}

fn asked(rules: &RuleSet, action: Action) -> Inspection<'_> {
    Inspection { rules, action, max_chars: None, max_body_chars: None, binary_parts: BinaryParts::Pass }
}

fn run(body: &[u8], what: &Inspection<'_>) -> Report {
    let boundary = Boundary::new(b"XX").unwrap();
    super::super::inspect(&Bytes::copy_from_slice(body), TextFormat::Multipart(boundary), what)
}

fn part(head: &str, content: &[u8]) -> Vec<u8> {
    [b"--XX\r\nContent-Disposition: form-data; ", head.as_bytes(), b"\r\n\r\n", content, b"\r\n"].concat()
}

fn body(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let parts = parts.iter().map(|(head, content)| part(head, content));
    parts.chain([b"--XX--\r\n".to_vec()]).collect::<Vec<_>>().concat()
}

fn verdict(parts: &[(&str, &[u8])]) -> Verdict {
    run(&body(parts), &asked(html(), Action::Block)).verdict
}

const BAD: &[u8] = b"a <script>alert(1)</script> b";

#[test]
fn what_is_harmful_is_found_wherever_it_stands() {
    for parts in [
        &[("name=\"a\"", BAD)][..],
        &[("name=\"<script>\"", b"x")],
        &[("name=\"f\"; filename=\"<script>.png\"\r\nContent-Type: image/png", b"\x89PNG\xFF")],
        &[("name=\"f\"; filename*=UTF-8''%3Cscript%3E", b"x")],
        &[("name=\"%3Cscript%3E\"", b"x")],
        &[("name=\"f\"\r\nX-Note: <script>", b"x")],
        &[("name=\"f\"; filename=\"a.txt\"\r\nContent-Type: text/plain", BAD)],
        &[("name=\"f\"; filename=\"a.png\"\r\nContent-Type: image/png", BAD)],
        // A field is text to those who read forms, whatever it says that it is.
        &[("name=\"f\"\r\nContent-Type: image/png", b"<script>alert(1)</script>\xFF")],
        &[("name=\"f\"\r\nContent-Type: application/octet-stream", b"\xFF<script>")],
        &[("name=\"f\"; filename=\"f\"\r\nContent-Type: application/octet-stream", b"<\0s\0c\0r\0i\0p\0t\0>\0")],
        &[("name=\"f\"\r\nContent-Type: application/json", br#"{"a":"\u003cscript\u003e"}"#)],
        &[("name=\"f\"", br#"{"a":"\u003cscript\u003e"}"#)],
        &[("name=\"f\"\r\nContent-Type: application/jsonl", b"{\"a\":1}\n{\"a\":\"\\u003cscript\\u003e\"}\n")],
        &[("name=\"f\"\r\nContent-Type: application/x-www-form-urlencoded", b"a=%3Cscript%3E")],
        &[("name=\"f\"\r\nContent-Type: text/plain; charset=utf-16le", b"<\0s\0c\0r\0i\0p\0t\0>\0")],
        &[("name=\"_charset_\"", b"utf-16be"), ("name=\"f\"", b"\0<\0s\0c\0r\0i\0p\0t\0>")],
        &[("name=\"f\"", b"\xFF invalid <script>")],
    ] {
        assert_eq!(verdict(parts), Verdict::Blocked, "{parts:?}");
    }
    for around in ["<script>\r\n", ""] {
        let outside = format!("{around}--XX\r\n\r\nx\r\n--XX--\r\n{}", if around.is_empty() { "<script>" } else { "" });
        assert_eq!(run(outside.as_bytes(), &asked(html(), Action::Block)).verdict, Verdict::Blocked, "{outside}");
    }
}

#[test]
fn what_is_clean_passes() {
    let parts: &[(&str, &[u8])] = &[
        ("name=\"prompt\"", "what is on this picture? é".as_bytes()),
        ("name=\"empty\"", b""),
        ("name=\"f\"; filename=\"cat (1).png\"\r\nContent-Type: image/png", b"\x89PNG\r\n\x1a\n\0\0\0\xFF--X"),
        ("name=\"meta\"\r\nContent-Type: application/json; charset=utf-8", br#"{"a":["b"]}"#),
        ("name=\"zeros\"; filename=\"z\"\r\nContent-Type: application/octet-stream", b"\0\0\x01text"),
        ("name=\"latin\"\r\nContent-Type: text/plain; charset=iso-8859-1", b"caf\xE9"),
    ];
    let report = run(&body(parts), &asked(html(), Action::Block));
    assert_eq!(report.verdict, Verdict::Clean);
    assert_eq!(report.binary, parts[2].1.len() as u64);
    // Texts that are not binary count: 26, 1 (`b`), 7 and 4 units.
    assert_eq!((report.chars, report.longest), (26 + 1 + 7 + 4, 26));
}

#[test]
fn what_cannot_be_read_is_not_guessed() {
    for head in [
        "name=\"a\"\r\nContent-Transfer-Encoding: base64",
        "name=\"a\"\r\nContent-Encoding: gzip",
        "name=\"a\"\r\nContent-Type: multipart/mixed; boundary=YY",
        "name=\"a\"\r\nContent-Type: message/rfc822",
        "name=\"a\"\r\nContent-Type: text/plain; charset=utf-7",
        "name=\"a\"\r\nContent-Type: application/json; charset=utf-16",
        "name=\"a\"; filename=\"=?utf-8?B?eA==?=\"",
    ] {
        assert!(matches!(verdict(&[(head, b"xxxx")]), Verdict::Unscannable(_)), "{head}");
        // Beside it, what is harmful is found all the same.
        assert_eq!(verdict(&[(head, b"xxxx"), ("name=\"b\"", BAD)]), Verdict::Blocked, "{head}");
    }
    assert!(matches!(verdict(&[("name=\"_charset_\"", b"utf-7"), ("name=\"a\"", b"x")]), Verdict::Unscannable(_)));
    for head in ["name=\"a\"; name=\"b\"", "name=\"a\"\r\nContent-Type: application/json"] {
        assert!(matches!(verdict(&[(head, b"{")]), Verdict::Malformed(_)), "{head}");
    }
    assert!(matches!(run(b"--XX\r\n\r\nx", &asked(html(), Action::Block)).verdict, Verdict::Malformed(_)));
    let rules = html();
    let strict = Inspection { binary_parts: BinaryParts::Block, ..asked(rules, Action::Block) };
    let image = body(&[("name=\"f\"; filename=\"f\"\r\nContent-Type: image/png", b"\x89PNG\xFF")]);
    assert_eq!(run(&image, &strict).verdict, Verdict::Unscannable(BINARY));
}

#[test]
fn lengths_are_those_of_each_part_and_of_all() {
    let none = RuleSet::compile(Vec::new()).unwrap();
    let two = body(&[("name=\"a\"", b"12345"), ("name=\"b\"", b"678")]);
    let limits = |max_chars, max_body_chars| Inspection { max_chars, max_body_chars, ..asked(&none, Action::Block) };
    for (what, expected) in [
        (limits(Some(5), Some(8)), Verdict::Clean),
        (limits(Some(4), None), Verdict::TooLong),
        (limits(None, Some(7)), Verdict::TooLong),
    ] {
        assert_eq!(run(&two, &what).verdict, expected, "{what:?}");
    }
}

#[test]
fn observing_goes_on_behind_what_it_finds() {
    let rules = html();
    let three = body(&[("name=\"<script>\"", BAD), ("name=\"b\"", BAD)]);
    let report = run(&three, &asked(rules, Action::Observe));
    assert_eq!(report.verdict, Verdict::Observed);
    let rule = rules.rule_ids().iter().position(|id| &**id == "html-script").unwrap();
    assert_eq!(report.hits.iter().find(|hit| hit.rule == rule).map(|hit| hit.count), Some(3));
}

#[test]
fn a_name_or_a_described_part_is_not_rewritten() {
    let rules = html();
    for head in ["name=\"<script>\"", "name=\"a\"\r\nContent-Length: 28", "name=\"a\"\r\nContent-MD5: x"] {
        assert_eq!(run(&body(&[(head, BAD)]), &asked(rules, Action::Redact)).verdict, Verdict::Blocked, "{head}");
    }
    // What was found beside a part that may pass unread does not pass with it.
    let mixed = body(&[("name=\"a\"", BAD), ("name=\"b\"\r\nContent-Transfer-Encoding: base64", b"eA==")]);
    assert_eq!(run(&mixed, &asked(rules, Action::Redact)).verdict, Verdict::Blocked);
}

#[test]
fn removal_never_makes_a_delimiter() {
    let rules = RuleSet::compile(vec![Rule::new("r", "cut")]).unwrap();
    let forged = body(&[("name=\"a\"", b"x\r\n--cutXX\r\nContent-Disposition: form-data; name=\"b\"\r\n\r\ny")]);
    assert_eq!(run(&forged, &asked(&rules, Action::Sanitize)).verdict, Verdict::Blocked);
    let fine = body(&[("name=\"a\"", b"x\r\n--cut")]);
    assert_eq!(
        run(&fine, &asked(&rules, Action::Sanitize)).verdict,
        Verdict::Rewritten(body(&[("name=\"a\"", b"x\r\n--")]).into())
    );
}

#[test]
fn charsets_are_written_again() {
    let rules = RuleSet::compile(vec![Rule::new("r", "é+cut")]).unwrap();
    let latin =
        |text: &[u8]| body(&[("name=\"a\"\r\nContent-Type: text/plain; charset=latin1", text), ("name=\"b\"", b"z")]);
    let report = run(&latin(b"\xE9a \xE9cut \xFC"), &asked(&rules, Action::Redact));
    assert_eq!(report.verdict, Verdict::Rewritten(latin(b"\xE9a [removed] \xFC").into()));
}

proptest! {
    #![proptest_config(config(500))]

    /// Each text part is what `replace_all` makes of it; all other bytes stay.
    #[test]
    fn redaction_is_replace_all_in_each_part(texts in proptest::collection::vec(text(12), 1..5)) {
        let rules = RuleSet::compile(vec![Rule::new("r", "ab+c|ca")]).unwrap();
        let oracle = Regex::new("ab+c|ca").unwrap();
        let marked: Vec<Vec<u8>> =
            texts.iter().map(|text| oracle.replace_all(text, &b"[removed]"[..]).into_owned()).collect();
        let named = |texts: &[Vec<u8>]| body(&texts.iter().map(|text| ("name=\"t\"", &text[..])).collect::<Vec<_>>());
        let (sent, expected) = (named(&texts), named(&marked));
        match run(&sent, &asked(&rules, Action::Redact)).verdict {
            Verdict::Clean => prop_assert_eq!(sent, expected),
            Verdict::Rewritten(bytes) => prop_assert_eq!(&bytes[..], &expected[..]),
            // The guard found a match beside a marker; these rules form none.
            other => prop_assert!(false, "{:?}", other),
        }
    }
}
