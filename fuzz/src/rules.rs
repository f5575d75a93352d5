//! The rules that targets look for: few letters, so that a match takes few mutations.

use std::sync::{Arc, LazyLock};

use keyward::scan::{Action, Rule, RuleSet, View, preset};

fn compiled(rules: Vec<Rule>) -> Arc<RuleSet> {
    Arc::new(RuleSet::compile(rules).expect("rules that compile"))
}

fn rules(patterns: &[&str]) -> Vec<Rule> {
    patterns.iter().map(|pattern| Rule::new(*pattern, *pattern)).collect()
}

/// Sets of rules that look for whole characters.
pub static SETS: LazyLock<Vec<Arc<RuleSet>>> = LazyLock::new(|| {
    let views = [View::JsonUnescape, View::HtmlEntity, View::Percent, View::Strip, View::Fold];
    let through = |pattern, views: &[View]| Rule::new(pattern, pattern).also_through(views.iter().copied());
    vec![
        compiled(rules(&["QXZ", "X+Z", "(?m)^Q$"])),
        compiled(rules(&["Q.*?Z", r"(?-u:\b)XX(?-u:\b)", "é+Z?"])),
        compiled(preset("html").expect("a preset")),
        compiled(views.iter().map(|view| through("QXZ", &[*view])).collect()),
        compiled(vec![through("Q<+Z", &views), through("<Z", &[View::HtmlEntity])]),
    ]
});

/// Rules with actions of their own, in lists that are run as [`Action::Redact`]: what one cuts out another blocks, and a
/// third only counts, as the text is and through views.
pub static MIXED: LazyLock<Vec<Arc<RuleSet>>> = LazyLock::new(|| {
    let mixed = |rules: Vec<(Rule, Action)>| {
        Arc::new(RuleSet::compile_each(rules, Action::Redact).expect("rules that compile"))
    };
    let rule = |pattern: &str, views: &[View]| Rule::new(pattern, pattern).also_through(views.iter().copied());
    let plain = |pattern, action| (rule(pattern, &[]), action);
    let (block, redact, observe) = (Action::Block, Action::Redact, Action::Observe);
    vec![
        mixed(vec![plain("QX", redact), plain("XZ", block), plain("Q+Z", observe)]),
        mixed(vec![plain("Q.*?Z", redact), plain("X", redact), plain("ZZ", block)]),
        mixed(vec![(rule("QX", &[View::Strip, View::Percent]), redact), (rule("XZ", &[View::JsonUnescape]), block)]),
        mixed(vec![
            (rule("<+Z", &[View::HtmlEntity]), redact),
            (rule("Q", &[View::Strip]), observe),
            plain("XZ", block),
        ]),
        mixed(vec![plain("Q+", redact), plain("X", observe)]),
    ]
});
