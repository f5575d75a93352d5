//! Views in a file: where they may stand, what is wrong with them, and what `check` says of them.

use super::*;
use crate::config::route_table;
use crate::scan::{Inspection, TextFormat, Verdict, inspect};

#[test]
fn views_belong_to_rules_and_to_directions() {
    let compiled = valid(
        "
rules:
  - {id: word, pattern: bluebird, views: [strip, percent], examples: {match: ['%62luebird'], pass: ['%2562luebird']}}
  - {id: other, pattern: heron}
defaults: {request: {rules: [word, other], views: html-entity}, response: {rules: [other]}}
routes:
  - {id: one, path: /one}
  - {id: two, path: /two, request: {views: []}}
",
    );
    let routes = compiled.policy.routes.routes();
    let verdict = |route: usize, text: &'static str| {
        let what = &routes[route].request;
        let what = Inspection {
            rules: &what.rules,
            action: what.action,
            max_chars: None,
            max_body_chars: None,
            binary_parts: crate::scan::BinaryParts::Pass,
        };
        inspect(&text.into(), TextFormat::Text, &what).verdict
    };
    for (text, one, two) in [
        ("blue%62ird", Verdict::Blocked, Verdict::Blocked),
        ("blue&#98;ird", Verdict::Blocked, Verdict::Clean),
        ("h&#101;ron", Verdict::Blocked, Verdict::Clean),
        ("h%65ron", Verdict::Clean, Verdict::Clean),
        ("heron", Verdict::Blocked, Verdict::Blocked),
    ] {
        assert_eq!((verdict(0, text), verdict(1, text)), (one, two), "{text}");
    }
    let table = route_table(&compiled.policy);
    for line in [
        "word, other through html-entity, percent (1 of 2), strip (1 of 2)  block   unbounded",
        "word, other through percent (1 of 2), strip (1 of 2)  ",
    ] {
        assert!(table.contains(line), "{table}");
    }
}

#[test]
fn mistakes_in_views() {
    each(&[
        (
            "rules: [{id: a, pattern: a, views: [html]}]",
            "1:37 rules[0].views[0]: expected one of `json-unescape`, `html-entity`, `percent`, `strip`, `fold`, found the text `html`",
        ),
        (
            "rules: [{id: a, pattern: a, views: [json-unescaped]}]",
            "1:37 rules[0].views[0]: expected one of `json-unescape`, `html-entity`, `percent`, `strip`, `fold`, found the text `json-unescaped` | did you mean `json-unescape`?",
        ),
        (
            "defaults: {request: {rules: [], view: [fold]}, response: {rules: []}}",
            "1:33 defaults.request.view: unknown key `view` | did you mean `views`?",
        ),
        (
            "routes: [{id: a, path: /a, request: {rules: [secrets], views: [fold, strip, fold]}}]",
            "1:77 routes[0].request.views[2]: is listed twice",
        ),
        (
            "routes: [{id: a, path: /a, request: {views: [fold]}}]",
            "1:45 routes[0].request.views: there is no rule here that could read through `views` | remove `views`, or name a rule in `rules`",
        ),
        (
            "rules: [{id: a, pattern: b, views: [strip], examples: {match: [x]}}]",
            "1:64 rules[0].examples.match[0]: the pattern does not match this example",
        ),
    ]);
}
