use proptest::{prelude::*, sample::select};
use regex::bytes::Regex;

use super::*;
use crate::scan::{
    presets::preset,
    rule::Rule,
    testing::{config, sets},
    text::{charset::Label, json::Role, utf16_len},
};

fn seed() -> RuleSet {
    RuleSet::compile(preset("seed").unwrap()).unwrap()
}

fn with(rules: &RuleSet, action: Action) -> Inspection<'_> {
    Inspection { rules, action, max_chars: None, max_body_chars: None, binary_parts: BinaryParts::Pass }
}

fn json(body: &str, what: &Inspection<'_>) -> Report {
    inspect(&Bytes::copy_from_slice(body.as_bytes()), TextFormat::Json, what)
}

fn text(body: &str, what: &Inspection<'_>) -> Report {
    inspect(&Bytes::copy_from_slice(body.as_bytes()), TextFormat::Text, what)
}

fn form(body: &str, what: &Inspection<'_>) -> Report {
    inspect(&Bytes::copy_from_slice(body.as_bytes()), TextFormat::Form, what)
}

fn rewritten(report: Report) -> String {
    match report.verdict {
        Verdict::Rewritten(body) => String::from_utf8(body.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    }
}

// ---- Against a reference that knows how each character was written ----

/// One character of a string: how it is written, and what it means.
type Piece = (&'static str, &'static str);

#[derive(Clone, Debug)]
enum Part {
    Raw(&'static str),
    Text(Role, Vec<Piece>),
}

fn pieces() -> impl Strategy<Value = Vec<Piece>> {
    let plain = select(vec![("Q", "Q"), ("X", "X"), ("Z", "Z"), ("é", "é"), (" ", " ")]);
    let escaped = select(vec![(r"\u0051", "Q"), (r"\u0058", "X"), (r"\n", "\n"), (r"\u00E9", "é")]);
    let wide = select(vec![("😀", "😀"), (r"\ud83d\ude00", "😀"), (r#"\""#, "\"")]);
    proptest::collection::vec(prop_oneof![6 => plain, 2 => escaped, 1 => wide], 0..10)
}

/// A document of string members and elements, as parts.
fn parts() -> impl Strategy<Value = Vec<Part>> {
    let member = (proptest::collection::vec(select(vec![("k", "k"), ("\\t", "\t"), ("X", "X")]), 0..3), pieces());
    (proptest::collection::vec(member, 0..4), proptest::collection::vec(pieces(), 0..3)).prop_map(
        |(members, elements)| {
            let mut parts = vec![Part::Raw("{ \"1\" :[ -0.5, ")];
            for pieces in elements {
                parts.extend([Part::Text(Role::Value, pieces), Part::Raw(" ,")]);
            }
            parts.push(Part::Raw("true ]"));
            for (key, value) in members {
                parts.extend([Part::Raw(",\n"), Part::Text(Role::Key, key), Part::Raw(": ")]);
                parts.push(Part::Text(Role::Value, value));
            }
            parts.push(Part::Raw("}\r\n"));
            parts
        },
    )
}

fn write(parts: &[Part]) -> String {
    let quoted = |pieces: &[Piece]| format!("\"{}\"", pieces.iter().map(|p| p.0).collect::<String>());
    let part = |part: &Part| match part {
        Part::Raw(raw) => (*raw).to_string(),
        Part::Text(_, pieces) => quoted(pieces),
    };
    parts.iter().map(part).collect()
}

fn meaning(pieces: &[Piece]) -> String {
    pieces.iter().map(|p| p.1).collect()
}

/// Cuts the pieces that a match touches; the first of each match becomes the marker.
fn cut(pieces: &[Piece], matches: &[std::ops::Range<usize>], marker: &'static str) -> Vec<Piece> {
    let mut at = 0;
    let mut kept = Vec::new();
    let mut marked = 0;
    for piece in pieces {
        let (start, end) = (at, at + piece.1.len());
        at = end;
        let touching: Vec<_> = matches.iter().filter(|m| m.start < end && m.end > start).collect();
        match touching.first() {
            None => kept.push(*piece),
            // A match that begins in a piece another one has cut is one with it.
            Some(first) if start <= first.start && first.start >= marked => {
                kept.push((marker, marker));
            }
            Some(_) => {}
        }
        if !touching.is_empty() {
            marked = end;
        }
    }
    kept
}

/// The bytes of a text that remain after each rule in turn removed its matches; gives
/// what was removed, in offsets of the text.
fn sanitized(each: &[Regex], text: &str) -> Vec<std::ops::Range<usize>> {
    let mut left: Vec<(usize, u8)> = text.bytes().enumerate().collect();
    for rule in each {
        let bytes: Vec<u8> = left.iter().map(|b| b.1).collect();
        let found: Vec<_> = rule.find_iter(&bytes).map(|m| m.range()).collect();
        let mut i = 0..;
        left.retain(|_| {
            let at = i.next().unwrap();
            !found.iter().any(|m| m.contains(&at))
        });
    }
    (0..text.len()).filter(|&at| left.iter().all(|b| b.0 != at)).map(|at| at..at + 1).collect()
}

proptest! {
    #![proptest_config(config(100_000))]

    #[test]
    fn documents_are_rewritten_as_the_reference_does(
        set in sets(), parts in parts(), action in select(vec![Action::Redact, Action::Sanitize]),
    ) {
        let union = &set.union;
        let document = write(&parts);
        let report = json(&document, &with(&set.compiled, action));

        let hit = |role: Role| parts.iter().any(|part| {
            matches!(part, Part::Text(r, pieces) if *r == role && union.is_match(meaning(pieces).as_bytes()))
        });
        let mut reformed = false;
        let (mut chars, mut longest) = (0, 0);
        let expected: Vec<Part> = parts.iter().map(|part| match part {
            Part::Text(Role::Value, pieces) => {
                let text = meaning(pieces);
                let pieces = match action {
                    Action::Sanitize => cut(pieces, &sanitized(&set.each, &text), ""),
                    _ => {
                        let matches: Vec<_> = union.find_iter(text.as_bytes()).map(|m| m.range()).collect();
                        cut(pieces, &matches, MARKER)
                    }
                };
                let text = meaning(&pieces);
                reformed |= action == Action::Redact && union.is_match(text.as_bytes());
                chars += utf16_len(text.as_bytes());
                longest = longest.max(utf16_len(text.as_bytes()));
                Part::Text(Role::Value, pieces)
            }
            other => other.clone(),
        }).collect();

        if !hit(Role::Key) && !hit(Role::Value) {
            prop_assert_eq!(&report.verdict, &Verdict::Clean);
            prop_assert!(report.hits.is_empty());
        } else {
            prop_assert!(!report.hits.is_empty());
            if hit(Role::Key) || reformed {
                prop_assert_eq!(report.verdict, Verdict::Blocked);
                return Ok(());
            }
            prop_assert_eq!(report.verdict, Verdict::Rewritten(write(&expected).into()));
        }
        prop_assert_eq!((report.chars, report.longest), (chars, longest));
    }

    #[test]
    fn other_actions_never_change_a_document(
        set in sets(), parts in parts(), action in select(vec![Action::Observe, Action::Block]),
    ) {
        let report = json(&write(&parts), &with(&set.compiled, action));
        let hits: Vec<bool> = set.each.iter().map(|regex| {
            parts.iter().any(|part| matches!(part, Part::Text(_, p) if regex.is_match(meaning(p).as_bytes())))
        }).collect();
        let expected = match (hits.contains(&true), action) {
            (false, _) => Verdict::Clean,
            (true, Action::Observe) => Verdict::Observed,
            (true, _) => Verdict::Blocked,
        };
        prop_assert_eq!(report.verdict, expected);
        let reported = |rule: usize| report.hits.iter().any(|hit| hit.rule == rule && hit.count > 0);
        for (rule, &hit) in hits.iter().enumerate() {
            // Blocking stops at the first hit, observing finds every rule.
            prop_assert!(reported(rule) == hit || (action == Action::Block && !reported(rule)));
        }
        prop_assert_eq!(!report.hits.is_empty(), hits.contains(&true));
    }

    #[test]
    fn nothing_that_arrives_can_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..40),
        likely in proptest::collection::vec(select(b"{}[]\",:\\u0aonx= <script>%3C&+".to_vec()), 0..40),
        action in select(vec![Action::Observe, Action::Redact, Action::Sanitize, Action::Block]),
    ) {
        thread_local!(static SEED: RuleSet = seed());
        SEED.with(|seed| {
            let what = Inspection { max_chars: Some(3), ..with(seed, action) };
            for bytes in [&bytes, &likely] {
                for format in [TextFormat::Json, TextFormat::Text, TextFormat::Form] {
                    inspect(&Bytes::copy_from_slice(bytes), format, &what);
                }
                inspect_query(&String::from_utf8_lossy(bytes), &what);
            }
        });
    }
}

// ---- JSON ----

#[test]
fn matches_are_cut_out_of_the_raw_string() {
    let seed = seed();
    let body = r#"{"input": "a<script>\n</SCRIPT>b \u006fn\u0063\t=1", "n": [1e3, "java\u0073cript:"]}"#;
    assert_eq!(rewritten(json(body, &with(&seed, Action::Sanitize))), r#"{"input": "ab 1", "n": [1e3, ""]}"#);
    assert_eq!(
        rewritten(json(body, &with(&seed, Action::Redact))),
        r#"{"input": "a[removed]b [removed]1", "n": [1e3, "[removed]"]}"#
    );
}

#[test]
fn sanitizing_is_one_pass_per_rule_in_order() {
    let seed = seed();
    let sanitize = |input: &str| {
        let report = json(&format!("[\"{input}\"]"), &with(&seed, Action::Sanitize));
        match report.verdict {
            Verdict::Clean => input.to_string(),
            _ => rewritten(report).trim_matches(|c| "[]\"".contains(c)).to_string(),
        }
    };
    // An earlier rule makes a match of a later one.
    assert_eq!(sanitize("jav<script></script>ascript:x"), "x");
    // No rule runs twice, so these form anew, as in the source document.
    assert_eq!(sanitize("<scr<script></script>ipt>alert(1)</script>"), "<script>alert(1)</script>");
    assert_eq!(sanitize("javajavascript:script:"), "javascript:");
    assert_eq!(sanitize("<scriptonload=></script>"), "<script></script>");
}

#[test]
fn redacting_blocks_a_match_that_forms_anew() {
    let rules = RuleSet::compile(vec![Rule::new("r", r"a[^b]*b|c")]).unwrap();
    let report = json(r#"["acb"]"#, &with(&rules, Action::Redact));
    assert_eq!(rewritten(report), r#"["[removed]"]"#);
    let seed = seed();
    // The marker ends the word after `<script`, so that there is a tag where was none.
    let report = json(r#"["<scriptonload=></script>"]"#, &with(&seed, Action::Redact));
    assert_eq!(report.verdict, Verdict::Blocked);
    assert_eq!(report.hits.iter().map(|hit| hit.rule).collect::<Vec<_>>(), [0, 2]);
}

#[test]
fn keys_are_scanned_and_never_rewritten() {
    let seed = seed();
    let body = r#"{"a": "fine", "on\u0078=": 1, "a": "javascript:"}"#;
    for action in [Action::Block, Action::Redact, Action::Sanitize] {
        assert_eq!(json(body, &with(&seed, action)).verdict, Verdict::Blocked, "{action}");
    }
    let report = json(body, &with(&seed, Action::Observe));
    assert_eq!(report.verdict, Verdict::Observed);
    assert_eq!(report.hits, [RuleHit { rule: 1, count: 1 }, RuleHit { rule: 2, count: 1 }]);
}

#[test]
fn texts_are_not_joined() {
    let seed = seed();
    let body = r#"{"java": "script:", "script:": ["java", "script:", "on", "="]}"#;
    assert_eq!(json(body, &with(&seed, Action::Block)).verdict, Verdict::Clean);
}

#[test]
fn repeated_members_are_all_scanned() {
    let seed = seed();
    for body in [r#"{"a":"javascript:","a":""}"#, r#"{"a":"","a":"javascript:"}"#] {
        assert_eq!(json(body, &with(&seed, Action::Block)).verdict, Verdict::Blocked);
    }
}

#[test]
fn a_document_that_is_not_json_is_malformed() {
    let seed = seed();
    for action in [Action::Observe, Action::Redact, Action::Block] {
        for body in ["{\"a\":", "nope", "{'a':1}", " ", "\"\u{1}\""] {
            let verdict = json(body, &with(&seed, action)).verdict;
            assert!(matches!(verdict, Verdict::Malformed(_)), "{body}: {verdict:?}");
        }
        assert_eq!(json("", &with(&seed, action)).verdict, Verdict::Clean);
    }
}

#[test]
fn lone_surrogates_are_texts_like_others() {
    let seed = seed();
    let what = Inspection { max_chars: Some(3), ..with(&seed, Action::Sanitize) };
    let report = json(r#"["\ud83d javascript:\udead"]"#, &what);
    assert_eq!((report.chars, report.too_long), (3, false));
    assert_eq!(rewritten(report), r#"["\ud83d \udead"]"#);
}

#[test]
fn a_body_made_of_matches_is_blocked() {
    let rules = RuleSet::compile(vec![Rule::new("b", "b"), Rule::new("open", "(?s)<.*>")]).unwrap();
    let body = |count: usize| format!("[\"{}\", \"bb\"]", "b".repeat(count));
    let report = json(&body(65_534), &with(&rules, Action::Sanitize));
    assert_eq!(rewritten(report), r#"["", ""]"#);
    for action in [Action::Sanitize, Action::Redact] {
        assert_eq!(json(&body(65_535), &with(&rules, action)).verdict, Verdict::Blocked);
        // Those that wait for the end of a longer candidate are counted too.
        let open = format!("[\"<{}\"]", "b".repeat(200_000));
        assert_eq!(json(&open, &with(&rules, action)).verdict, Verdict::Blocked);
    }
}

// ---- Lengths ----

#[test]
fn lengths_count_utf16_units_of_values() {
    let none = RuleSet::compile(Vec::new()).unwrap();
    let limit = |max| Inspection { max_chars: Some(max), ..with(&none, Action::Block) };
    for (emoji, verdict) in [(25_000, Verdict::Clean), (25_001, Verdict::TooLong)] {
        let body = format!("{{\"a very long key\": \"{}\"}}", "😀".repeat(emoji));
        let report = json(&body, &limit(50_000));
        assert_eq!(report.verdict, verdict);
        assert_eq!((report.chars, report.longest), (2 * emoji as u64, 2 * emoji as u64));
        assert_eq!(text(&"😀".repeat(emoji), &limit(50_000)).verdict, verdict);
    }
    let escaped = json(r#"["\ud83d\ude00\n\u00e9\ud83d", "ab"]"#, &limit(5));
    assert_eq!((escaped.verdict, escaped.chars, escaped.longest), (Verdict::Clean, 7, 5));
}

#[test]
fn the_sum_has_a_limit_of_its_own() {
    let none = RuleSet::compile(Vec::new()).unwrap();
    let what = Inspection { max_chars: Some(3), max_body_chars: Some(5), ..with(&none, Action::Block) };
    assert_eq!(json(r#"["abc","de"]"#, &what).verdict, Verdict::Clean);
    assert_eq!(json(r#"["abc","def"]"#, &what).verdict, Verdict::TooLong);
    assert_eq!(json(r#"["abcd"]"#, &what).verdict, Verdict::TooLong);
}

#[test]
fn patterns_come_before_lengths() {
    let seed = seed();
    let limit = |action| Inspection { max_chars: Some(10), ..with(&seed, action) };
    // Sanitized text is measured, not what it was made of.
    let long = r#"["javascript:0123456789"]"#;
    let report = json(long, &limit(Action::Sanitize));
    assert_eq!((report.longest, report.too_long), (10, false));
    assert_eq!(rewritten(report), r#"["0123456789"]"#);
    assert_eq!(json(r#"["javascript:0123456789a"]"#, &limit(Action::Sanitize)).verdict, Verdict::TooLong);
    // A block wins over a length.
    assert_eq!(json(long, &limit(Action::Block)).verdict, Verdict::Blocked);
    // A marker counts, since the service reads it.
    assert_eq!(json(r#"["javascript:ab"]"#, &limit(Action::Redact)).longest, 11);
    // Observing only says so.
    let report = json(r#"["0123456789a"]"#, &limit(Action::Observe));
    assert_eq!((report.verdict, report.too_long), (Verdict::Observed, true));
}

// ---- Texts ----

#[test]
fn a_text_is_one_text() {
    let seed = seed();
    assert_eq!(rewritten(text("go\njavascript:x", &with(&seed, Action::Sanitize))), "go\nx");
    assert_eq!(rewritten(text("go javascript:x", &with(&seed, Action::Redact))), "go [removed]x");
    assert_eq!(text("onload\n=", &with(&seed, Action::Block)).verdict, Verdict::Blocked);
    assert_eq!(text("fine {", &with(&seed, Action::Block)).verdict, Verdict::Clean);
}

#[test]
fn bytes_that_are_no_utf8_are_scanned_as_they_are() {
    let seed = seed();
    let body = Bytes::from_static(b"\xFFjavascript:\x80\x80");
    let report = inspect(&body, TextFormat::Text, &with(&seed, Action::Sanitize));
    assert_eq!(report.verdict, Verdict::Rewritten(Bytes::from_static(b"\xFF\x80\x80")));
    for wide in [&b"\xFF\xFEj\0"[..], b"\xFE\xFF\0j", b"\0\0\xFE\xFF\0\0\0j"] {
        let report = inspect(&Bytes::from_static(wide), TextFormat::Text, &with(&seed, Action::Block));
        assert!(matches!(report.verdict, Verdict::Unscannable(_)));
    }
}

#[test]
fn a_text_that_is_json_is_read_both_ways() {
    let seed = seed();
    let escaped = "\u{feff} {\"a\": \"java\\u0073cript:\"}";
    assert_eq!(text(escaped, &with(&seed, Action::Block)).verdict, Verdict::Blocked);
    assert_eq!(rewritten(text(escaped, &with(&seed, Action::Sanitize))), "\u{feff} {\"a\": \"\"}");
    // Only across the strings is there an element.
    let across = r#"["<script>","+alert(1)+","</script>"]"#;
    for action in [Action::Block, Action::Redact, Action::Sanitize] {
        assert_eq!(text(across, &with(&seed, action)).verdict, Verdict::Blocked);
    }
    let report = text(across, &with(&seed, Action::Observe));
    assert_eq!((report.verdict, report.hits), (Verdict::Observed, vec![RuleHit { rule: 0, count: 1 }]));
    // A match that both readings see is one.
    let both = text(r#"["javascript:"]"#, &with(&seed, Action::Observe));
    assert_eq!(both.hits, [RuleHit { rule: 1, count: 1 }]);
    // What only begins like JSON is a text, in which a lenient reader may still find strings.
    for action in [Action::Block, Action::Redact, Action::Sanitize] {
        for body in
            [r#"{"a": "java\u0073cript:""#, r#"{}{"a": "java\u0073cript:"}"#, r#"{"n": NaN, "a": "java\u0073cript:"}"#]
        {
            assert_eq!(text(body, &with(&seed, action)).verdict, Verdict::Blocked, "{body}");
        }
        assert_eq!(text(r"C:\new\table", &with(&seed, action)).verdict, Verdict::Clean);
    }
    // Readers recognize wide characters without a mark.
    let wide: Vec<u8> = "{\"a\": \"javascript:\"}".encode_utf16().flat_map(u16::to_be_bytes).collect();
    for format in [TextFormat::Text, TextFormat::Form] {
        let report = inspect(&Bytes::from(wide.clone()), format, &with(&seed, Action::Block));
        assert!(matches!(report.verdict, Verdict::Unscannable(_)), "{report:?}");
    }
}

// ---- Forms and queries ----

#[test]
fn forms_and_queries_are_decoded_and_never_rewritten() {
    let seed = seed();
    for query in ["a=java%73cript%3A", "a=1&javascript:=2", "q=onx+%3D", "%3Cscript%3E&</script>"] {
        for action in [Action::Block, Action::Redact, Action::Sanitize] {
            assert_eq!(inspect_query(query, &with(&seed, action)).verdict, Verdict::Blocked, "{query}");
            assert_eq!(form(query, &with(&seed, action)).verdict, Verdict::Blocked, "{query}");
        }
        assert_eq!(inspect_query(query, &with(&seed, Action::Observe)).verdict, Verdict::Observed);
    }
    for query in ["", "a=1", "connection=1", "on=&x==", "a=java%2573cript:"] {
        assert_eq!(inspect_query(query, &with(&seed, Action::Block)).verdict, Verdict::Clean, "{query}");
    }
}

#[test]
fn a_form_that_is_json_is_read_as_json_too() {
    let seed = seed();
    let body = r#"{"a":"java\u0073cript:"}"#;
    assert_eq!(form(body, &with(&seed, Action::Block)).verdict, Verdict::Blocked);
    let what = Inspection { max_chars: Some(4), ..with(&seed, Action::Block) };
    assert_eq!(form(r#"{"a":"12345"}"#, &what).verdict, Verdict::TooLong);
    assert_eq!(form("abcdefg=1234", &what).verdict, Verdict::Clean);
    assert_eq!(form("a=12345", &what).verdict, Verdict::TooLong);
}

#[test]
fn the_marker_needs_no_escape() {
    assert_eq!(serde_json::to_string(MARKER).unwrap(), format!("\"{MARKER}\""));
}

#[test]
fn a_text_in_another_charset_is_read_as_it_says_and_as_it_is() {
    let rules = RuleSet::compile(vec![Rule::new("tag", "<b>"), Rule::new("word", "caf\u{e9}")]).unwrap();
    let coded = |label: &str, body: &[u8], action| {
        let Label::Other(charset) = Label::of(label.as_bytes()) else { panic!("{label}") };
        inspect(&Bytes::copy_from_slice(body), TextFormat::Coded(charset), &with(&rules, action)).verdict
    };
    for (label, body) in [
        ("latin1", &b"a caf\xE9"[..]),
        ("utf-16le", b"<\0b\0>\0"),
        ("utf-16", b"\xFE\xFF\0<\0b\0>"),
        // In another reader's eyes, plain ASCII.
        ("utf-16be", b"a<b>"),
        ("shift_jis", b"x<b>"),
    ] {
        assert_eq!(coded(label, body, Action::Block), Verdict::Blocked, "{label}");
        assert_eq!(coded(label, body, Action::Observe), Verdict::Observed, "{label}");
    }
    let bytes = |verdict| match verdict {
        Verdict::Rewritten(bytes) => bytes,
        other => panic!("{other:?}"),
    };
    assert_eq!(&bytes(coded("latin1", b"\xFC<b>\xFC", Action::Sanitize))[..], b"\xFC\xFC");
    assert_eq!(&bytes(coded("utf-16le", b"x\0<\0b\0>\0", Action::Sanitize))[..], b"x\0");
    assert_eq!(&bytes(coded("utf-16", b"\xFE\xFF\0<\0b\0>\0x", Action::Sanitize))[..], b"\xFE\xFF\0x");
    assert_eq!(coded("utf-16be", b"a<b>", Action::Sanitize), Verdict::Blocked);
    assert_eq!(coded("latin1", b"caf\xE8", Action::Block), Verdict::Clean);
    for (label, body) in [("utf-16", &b"<\0"[..]), ("utf-16le", b"<\0b"), ("euc-jp", b"\xFF\xFF")] {
        assert!(matches!(coded(label, body, Action::Block), Verdict::Unscannable(_)), "{label}");
    }
    // Two ways to write a character: what comes back is not what came.
    assert_eq!(
        coded("iso-2022-jp", b"\x1B(Ba<b>", Action::Sanitize),
        Verdict::Unscannable("text that its charset cannot be written in again")
    );
}
