//! The rules that targets look for: few letters, so that a match takes few mutations.

use std::sync::{Arc, LazyLock};

use keyward::scan::{Rule, RuleSet, View, preset};

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
