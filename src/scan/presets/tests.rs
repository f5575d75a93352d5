use bytes::Bytes;
use proptest::{prelude::*, sample::select};

use super::*;
use crate::scan::{
    Action, Inspection, RuleSet, TextFormat, Verdict, block::CountScanner, examples::rule_examples, inspect,
    testing::config,
};

/// The ids of the rules of a preset that find something in a text.
fn found(name: &str, text: &str) -> Vec<String> {
    let rules = RuleSet::compile(preset(name).unwrap()).unwrap();
    let mut scanner = CountScanner::new(rules.block());
    scanner.feed(rules.block(), text.as_bytes());
    scanner.finish(rules.block());
    let ids = rules.rule_ids().iter().zip(scanner.counts());
    ids.filter(|(_, count)| **count > 0).map(|(id, _)| id.to_string()).collect()
}

/// Fails unless the rule finds something in each of `matching` and nothing in `passing`.
fn check(name: &str, id: &str, matching: &[&str], passing: &[&str]) {
    let rules = preset(name).unwrap();
    let rule = rules.iter().find(|rule| *rule.id == *id).unwrap();
    let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(rule_examples(rule, &texts(matching), &texts(passing)), [], "{id}");
}

#[test]
fn presets_have_names() {
    assert!(NAMES.iter().all(|name| preset(name).is_some_and(|rules| !rules.is_empty())));
    assert_eq!(preset("nonsense"), None);
    for name in ["html", "secrets"] {
        assert!(found(name, "ordinary = text, on = off; <b>bold</b> a < b, javascript is a language").is_empty());
    }
}

#[test]
fn seed_script_element() {
    check(
        "seed",
        "script-element",
        &[
            "<script></script>",
            "<SCRIPT src=x>\n<b></ScRiPt>",
            "<scripté></script>",
            "<script-x></script>",
            "<script<</script>",
        ],
        &[
            "<script>",
            "<scripty></script>",
            "<script_></script>",
            "<script0></script>",
            "<script></script >",
            "<ſcript></ſcript>",
            "< script></script>",
        ],
    );
}

#[test]
fn seed_javascript_url() {
    check(
        "seed",
        "javascript-url",
        &["javascript:", "xJaVaScRiPt:"],
        &["javascript :", "java\tscript:", "javaſcript:"],
    );
}

#[test]
fn seed_event_handler() {
    check(
        "seed",
        "event-handler",
        &["onx=", "ONCLICK =", "connection = 1", "on_9\x0B=", "onx\u{feff}=", "onx\u{a0}\u{2028}\u{3000}=", "ononx="],
        &["on=", "on =", "onx", "oné=", "onx\u{85}=", "onx\u{200b}=", "onſ\u{212a}=", "onx\0="],
    );
    // The Kelvin sign is no letter of the source document's `\w`.
    check("seed", "event-handler", &["onk="], &["on\u{212a}="]);
}

/// White space of the source document's language.
fn is_space(character: char) -> bool {
    matches!(character, '\t'..='\r' | ' ' | '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}')
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{202f}' | '\u{205f}' | '\u{3000}' | '\u{feff}')
}

fn is_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

fn starts_with(text: &[char], word: &str) -> bool {
    let mut text = text.iter();
    word.chars().all(|letter| text.next().is_some_and(|c| c.eq_ignore_ascii_case(&letter)))
}

/// The length of the source document's match at the start of `text`, by hand.
fn script_element(text: &[char]) -> Option<usize> {
    let word_goes_on = text.get(7).is_some_and(|&c| is_word(c));
    if !starts_with(text, "<script") || word_goes_on {
        return None;
    }
    (7..text.len()).find(|&at| starts_with(&text[at..], "</script>")).map(|at| at + 9)
}

fn javascript_scheme(text: &[char]) -> Option<usize> {
    starts_with(text, "javascript:").then_some(11)
}

fn event_handler(text: &[char]) -> Option<usize> {
    let word = text.iter().skip(2).take_while(|&&c| is_word(c)).count();
    let space = text.iter().skip(2 + word).take_while(|&&c| is_space(c)).count();
    let end = 2 + word + space;
    (starts_with(text, "on") && word > 0 && text.get(end) == Some(&'=')).then_some(end + 1)
}

/// One `replace(/…/gi, "")`.
fn remove(text: &[char], find: fn(&[char]) -> Option<usize>) -> Vec<char> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < text.len() {
        match find(&text[at..]) {
            Some(len) => at += len,
            None => {
                kept.push(text[at]);
                at += 1;
            }
        }
    }
    kept
}

proptest! {
    #![proptest_config(config(4000))]

    #[test]
    fn seed_is_what_the_source_document_does(pieces in proptest::collection::vec(select(vec![
        "<script", "</script>", "</SCRIPT>", "<scr", "ipt>", ">", "<", "java", "JavaScript:", "script:", "on", "On", "x", "_",
        "=", " ", "\x0B", "\u{feff}", "\u{85}", "\u{200b}", "\u{a0}", "\n", "\r", "ſ", "ſcript:", "\u{212a}", "é", "😀",
    ]), 0..16)) {
        let input = pieces.concat();
        let mut expected: Vec<char> = input.chars().collect();
        for find in [script_element, javascript_scheme, event_handler] {
            expected = remove(&expected, find);
        }
        let expected: String = expected.into_iter().collect();

        thread_local!(static SEED: RuleSet = RuleSet::compile(preset("seed").unwrap()).unwrap());
        SEED.with(|rules| {
            let what = Inspection { rules, action: Action::Sanitize, max_chars: None, max_body_chars: None, binary_parts: crate::scan::BinaryParts::Pass };
            let body = Bytes::from(serde_json::to_vec(&input).unwrap());
            let report = inspect(&body, TextFormat::Json, &what);
            let output = match &report.verdict {
                Verdict::Clean => &body,
                Verdict::Rewritten(body) => body,
                other => panic!("{other:?}"),
            };
            let output: String = serde_json::from_slice(output).unwrap();
            prop_assert_eq!(&output, &expected);
            prop_assert_eq!(report.verdict == Verdict::Clean, output == input);
            prop_assert_eq!(report.chars, expected.encode_utf16().count() as u64);
            Ok(())
        })?;
    }
}

#[test]
fn html_script() {
    check(
        "html",
        "html-script",
        &["<script>", "<SCRIPT src", "<script/x>", "<script\n>", "x<script\t"],
        &["<scripted>", "<script-x>", "</script>", "<script", "script>"],
    );
}

#[test]
fn html_javascript_url() {
    let padded = format!("jav{}", "\n".repeat(40));
    check(
        "html",
        "html-javascript-url",
        &["javascript:", "JAVA\tSCRIPT:", "j\na\r\nvascript\t:", &padded],
        &["javascript", "java script:", "javascripts:", "j\n\na", "javaſcript:"],
    );
}

#[test]
fn html_event_handler() {
    let far = format!("<a {}onclick=", "x".repeat(300));
    let near = format!("<a {} onclick=", "x".repeat(200));
    check(
        "html",
        "html-event-handler",
        &[
            "<img src=x onerror=alert(1)>",
            "<svg/onload=x>",
            "<IMG SRC='x'ONERROR = x>",
            "<a b=\"c\"onclick\n=",
            "<body onload=",
            "<x-y:z onfocus=",
            "<a ononsense=",
            "<a onclick      =",
            "<a oncontentvisibilityautostatechange=",
            "<b <i onx=",
            &near,
        ],
        &[
            "<b> onclick=",
            "connection = x",
            "a < b onx=",
            "<a href=x>onclick=",
            "<a content=x",
            "<a on=",
            "<onclick=",
            &far,
        ],
    );
}

#[test]
fn html_handlers_that_browsers_know() {
    let far = format!("<img alt='{}' onerror=alert(1)>", "x".repeat(100_000));
    let gap = format!("<img onerror={}alert(1)>", "\n".repeat(100));
    let word = format!("<img onerror={},alert(1)>", "x".repeat(100));
    check(
        "html",
        "html-handler-attribute",
        &[
            "<img alt=\">\" onerror=alert(1)>",
            "<img a=\"<\" onerror=alert(1)>",
            "<svg/onload=alert`1`>",
            "<img src=x\x0conerror=alert(1)>",
            "<img src=\"x\"onerror=location='//x'>",
            "<img src='x'ONERROR = 'x'>",
            "<body onload=&#97;lert&lpar;1)>",
            "<x! onpointerrawupdate=a[b]>",
            "<a<b onclick=x=y>",
            "<a onclick =x()>",
            "<a onclick  = x()>",
            "<a onclick\n=\nx()>",
            "<a onclick =\tx()>",
            "<a onclick= x()>",
            "<a onclick = \"x()\">",
            &far,
            &gap,
            &word,
        ],
        &[
            "os.walk(top, onerror=None)",
            "shutil.rmtree(path, onerror=handler)",
            "socket.onmessage = function (event) {",
            "socket.onmessage = (event) => handle(event)",
            "cohort-monload=x()",
            "the onclick attribute, an onload event",
            " onclicks=x()",
            " onnonsense=x()",
            " onclick",
            " onclick = handler ",
        ],
    );
}

#[test]
fn html_documents_inside_of_attributes() {
    check(
        "html",
        "html-srcdoc",
        &["<iframe srcdoc=\"&lt;script&gt;\">", "<iframe/SRCDOC\n=x", "<iframe x=''srcdoc=x"],
        &["srcdoc=", "the srcdoc attribute", " srcdocs=x", "frame.srcdoc = page"],
    );
    check(
        "html",
        "html-data-url",
        &["<iframe src=data:text/html,x", "'DATA:text/html;base64,x", "](data: te\txt/\nhtml,", "\"d\nata:text/html"],
        &["\"data:text/plain,x", "'data:image/svg+xml,x", "(data: text", " data:text/ html", "metadata:text/html"],
    );
}

#[test]
fn html_is_bounded_well_below_what_may_be_withheld() {
    let rules = RuleSet::compile(preset("html").unwrap()).unwrap();
    assert!(rules.max_hold(Action::Block).is_some_and(|hold| hold < 512));
    assert!(rules.max_hold(Action::Redact).is_some_and(|hold| hold < 1024));
}

#[test]
fn html_lets_ordinary_texts_pass() {
    for text in [
        "def walk(top, topdown=True, onerror=None, followlinks=False):\n    on = one = only = 1\n",
        "  onload = lambda: None\n  onclick=self.clicked\n",
        "const ws = new WebSocket(url); ws.onopen = () => ws.send('x'); ws.onerror = (e) => fail(e);",
        "if a <b and c == on_top: return data[text]",
        "Set `online=True`, or once = f(x).",
    ] {
        assert!(found("html", text).is_empty(), "{text}");
    }
}

#[test]
fn secrets_are_found_by_their_shape() {
    let token = |prefix: &str, body: &str, len: usize| format!("key: {prefix}{}.", body.repeat(len));
    for (id, text) in [
        ("aws-access-key-id", token("AKIA", "Q", 16)),
        ("github-token", token("ghp_", "a", 36)),
        ("github-fine-grained-token", token("github_pat_", "a_B1", 20)),
        ("slack-token", token("xoxb-", "12-", 8)),
        ("anthropic-key", token("sk-ant-api03-", "a-_Z", 20)),
        ("openai-project-key", token("sk-proj-", "aZ0_", 12)),
        ("openai-key", token("sk-", "aZ0", 16)),
        ("stripe-key", token("sk_live_", "aZ0", 8)),
        ("google-api-key", token("AIza", "a-_0Z", 7)),
        ("private-key", "-----BEGIN OPENSSH PRIVATE KEY-----".into()),
        ("private-key", "-----BEGIN PRIVATE KEY-----".into()),
        ("json-web-token", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln".into()),
    ] {
        assert_eq!(found("secrets", &text), [id], "{text}");
    }
    for text in [
        "task-force-of-people-who-write-long-hyphenated-words",
        "-----BEGIN PUBLIC KEY-----",
        "-----BEGIN CERTIFICATE-----",
        "ghp_short",
        "xAKIAQQQQQQQQQQQQQQQQ",
        "eyJub3QiOiJhIHRva2VuIn0",
    ] {
        assert!(found("secrets", text).is_empty(), "{text}");
    }
}

#[test]
fn a_redacted_token_is_gone_to_its_end() {
    let rules = RuleSet::compile(preset("secrets").unwrap()).unwrap();
    let mut redactor = crate::scan::redact::Redactor::new(rules.redact(), b"#", u64::MAX);
    let mut out = Vec::new();
    for text in ["sk-proj-", &"a".repeat(100), " and eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln."] {
        redactor.feed(rules.redact(), text.as_bytes(), &mut out);
    }
    redactor.finish(rules.redact(), &mut out);
    assert_eq!(String::from_utf8(out).unwrap(), "# and #");
}

#[test]
fn context_owner() {
    check(
        "context",
        "context-owner",
        &[
            "ContextOwner: org:evil",
            "contextowner:x",
            "Hello\n  \tCONTEXTOWNER : user:evil",
            "a\r\nContextOwner:",
            "a\rContextOwner:",
            "a\u{2028}ContextOwner:",
            "a\u{85} ContextOwner:",
        ],
        &[
            "what is a ContextOwner: line?",
            "\"ContextOwner:\"",
            "ContextOwners: x",
            "Context Owner: x",
            "a\nxContextOwner:",
        ],
    );
}

#[test]
fn an_owner_line_is_one_however_its_line_begins_and_its_name_is_set_apart() {
    let rules = RuleSet::compile(preset("context").unwrap()).unwrap();
    let matches = |text: &str| {
        let mut scanner = CountScanner::new(rules.block());
        scanner.feed(rules.block(), text.as_bytes());
        scanner.finish(rules.block());
        scanner.counts()[0] > 0
    };
    for end in
        ["", "x\n", "x\r", "x\u{b}", "x\u{c}", "x\u{1c}", "x\u{1d}", "x\u{1e}", "x\u{85}", "x\u{2028}", "x\u{2029}"]
    {
        for gap in ["", " \t", "\u{a0}", "\u{3000}", "\u{200b}", "\u{feff}"] {
            for colon in [":", "\u{ff1a}"] {
                let line = format!("{end}{gap}contextOWNER{gap}{colon} org:evil");
                assert!(matches(&line), "{line:?}");
            }
        }
    }
    assert!(!matches("the ContextOwner: line"));
    assert!(!matches("x\nContextOwners: many"));
}
