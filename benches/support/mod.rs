//! What the benches share: a text that does not change, a clock, and rules.

#![allow(dead_code, reason = "each bench uses a part of it")]

use std::sync::Arc;
use std::time::Duration;

use keyward::scan::{Action, RuleSet, StreamRules, preset};
use keyward::time::Clock;

const PROSE: &str = include_str!("corpus/prose.txt");
const CODE: &str = include_str!("corpus/code.md");

/// The shortest time of one call, of so many rounds of `calls`.
pub fn best(clock: &Clock, rounds: usize, calls: u32, mut call: impl FnMut()) -> Duration {
    let round = |call: &mut dyn FnMut()| {
        let begun = clock.now().monotonic;
        for _ in 0..calls {
            call();
        }
        clock.now().monotonic.saturating_duration_since(begun) / calls
    };
    (0..rounds).map(|_| round(&mut call)).min().unwrap_or_default()
}

/// Sentences in no order, of at least `size` bytes; the same ones every time.
pub fn prose(size: usize) -> String {
    sample(&PROSE.lines().collect::<Vec<_>>(), " ", size)
}

/// Sections of code, tables and Markdown in no order, of at least `size` bytes; the same ones every time.
pub fn code(size: usize) -> String {
    sample(&CODE.split("%\n").collect::<Vec<_>>(), "\n", size)
}

fn sample(pieces: &[&str], between: &str, size: usize) -> String {
    let mut text = String::with_capacity(size + 1024);
    // A linear congruential generator (Knuth's MMIX): only its upper bits are of use.
    let mut state = 1_u64;
    while text.len() < size {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.push_str(pieces[(state >> 33) as usize % pieces.len()]);
        text.push_str(between);
    }
    text
}

pub fn compiled(name: &str) -> Arc<RuleSet> {
    Arc::new(RuleSet::compile(preset(name).expect("a preset")).expect("it compiles"))
}

pub fn stream_rules(rules: &Arc<RuleSet>, action: Action) -> StreamRules {
    StreamRules { rules: Arc::clone(rules), action, max_chars: Some(u64::MAX), max_body_chars: None, house: None }
}
