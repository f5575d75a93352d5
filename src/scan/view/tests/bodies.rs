//! What the views do where a body is read, and not only a text.

use bytes::Bytes;

use super::*;
use crate::scan::{Action, Inspection, TextFormat, Verdict, inspect, inspect_query};

fn script(views: &[View]) -> RuleSet {
    RuleSet::compile(vec![Rule::new("script", "<script>").also_through(views.iter().copied())]).unwrap()
}

fn verdict(rules: &RuleSet, action: Action, body: impl AsRef<[u8]>, format: TextFormat) -> Verdict {
    let what = Inspection {
        rules,
        action,
        max_chars: None,
        max_body_chars: None,
        binary_parts: crate::scan::BinaryParts::Pass,
    };
    inspect(&Bytes::copy_from_slice(body.as_ref()), format, &what).verdict
}

fn rewritten(body: &str) -> Verdict {
    Verdict::Rewritten(Bytes::copy_from_slice(body.as_bytes()))
}

#[test]
fn json_inside_of_json_is_read_where_a_rule_asks_for_it() {
    let body = r#"{"arguments": "{\"html\": \"a \\u003cscript\\u003e b\"}", "x": "\u0026lt;script&gt;"}"#;
    let (plain, viewed) = (script(&[]), script(&[View::JsonUnescape]));
    let json = TextFormat::Json;
    assert_eq!(verdict(&plain, Action::Block, body, json), Verdict::Clean);
    assert_eq!(verdict(&viewed, Action::Block, body, json), Verdict::Blocked);
    assert_eq!(verdict(&viewed, Action::Observe, body, json), Verdict::Observed);
    // The span as it was written, inner escapes and outer ones.
    let redacted = r#"{"arguments": "{\"html\": \"a [removed] b\"}", "x": "\u0026lt;script&gt;"}"#;
    assert_eq!(verdict(&viewed, Action::Redact, body, json), rewritten(redacted));
    assert_eq!(verdict(&viewed, Action::Sanitize, body, json), rewritten(&redacted.replace("[removed]", "")));
    let both = script(&[View::JsonUnescape, View::HtmlEntity]);
    let redacted = r#"{"arguments": "{\"html\": \"a [removed] b\"}", "x": "[removed]"}"#;
    assert_eq!(verdict(&both, Action::Redact, body, json), rewritten(redacted));
}

#[test]
fn a_reader_who_ignores_what_is_no_character_is_read_along_with() {
    // What Python makes of these with `errors="ignore"`, the second after `json.loads`.
    let (plain, viewed) = (script(&[]), script(&[View::Strip]));
    let bodies: [(&[u8], TextFormat); 4] = [
        (b"a <scr\xFFipt> b", TextFormat::Text),
        (br#"{"a": "a <scr\ud800ipt> b"}"#, TextFormat::Json),
        (br#"{"a": "a <scr\udc00\ud800\ud800ipt> b"}"#, TextFormat::Json),
        (b"q=a+<scr%e2%80ipt>+b", TextFormat::Form),
    ];
    for (body, format) in bodies {
        let shown = String::from_utf8_lossy(body);
        assert_eq!(verdict(&plain, Action::Block, body, format), Verdict::Clean, "{shown}");
        assert_eq!(verdict(&viewed, Action::Block, body, format), Verdict::Blocked, "{shown}");
    }
    // The whole of it is cut out, and nothing beside it.
    let (body, format) = bodies[1];
    assert_eq!(verdict(&viewed, Action::Redact, body, format), rewritten(r#"{"a": "a [removed] b"}"#));
    assert_eq!(verdict(&viewed, Action::Block, b"caf\xE9 <b>", TextFormat::Text), Verdict::Clean);
}

#[test]
fn keys_and_queries_are_read_through_views_and_block() {
    let viewed = script(&[View::Percent]);
    for action in [Action::Block, Action::Redact, Action::Sanitize] {
        assert_eq!(verdict(&viewed, action, r#"{"%3cscript%3e": 1}"#, TextFormat::Json), Verdict::Blocked);
        assert_eq!(verdict(&viewed, action, "a=%253cscript%253e", TextFormat::Form), Verdict::Blocked);
        let what = Inspection {
            rules: &viewed,
            action,
            max_chars: None,
            max_body_chars: None,
            binary_parts: crate::scan::BinaryParts::Pass,
        };
        assert_eq!(inspect_query("a=%253cscript%253e", &what).verdict, Verdict::Blocked);
        assert_eq!(inspect_query("a=%25253cscript%25253e", &what).verdict, Verdict::Clean);
    }
}

#[test]
fn a_match_that_forms_anew_in_a_view_is_blocked() {
    // What the marker stands beside is a match in the view alone.
    let rules = RuleSet::compile(vec![Rule::new("r", r"x+|\[removed]y").also_through([View::Percent])]).unwrap();
    assert_eq!(verdict(&rules, Action::Redact, "ax%7ab", TextFormat::Text), rewritten("a[removed]%7ab"));
    assert_eq!(verdict(&rules, Action::Redact, "ax%79b", TextFormat::Text), Verdict::Blocked);
}

#[test]
fn a_candidate_full_of_escapes_is_refused_before_it_takes_memory() {
    let rules = RuleSet::compile(vec![Rule::new("r", "(?s)<.*>|b").also_through([View::Percent])]).unwrap();
    let body = format!("b<{}", "%61".repeat(70_000));
    assert_eq!(verdict(&rules, Action::Redact, &body, TextFormat::Text), Verdict::Blocked);
    let body = format!("b<{}", "%61".repeat(60_000));
    assert_eq!(
        verdict(&rules, Action::Redact, &body, TextFormat::Text),
        rewritten(&format!("[removed]{}", &body[1..]))
    );
}
