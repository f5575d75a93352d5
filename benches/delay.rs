//! How long events of a stream wait because they are inspected, counted in events.
//!
//! `cargo bench --bench delay` divides texts that never change (`support/corpus`) into answers and answers into tokens,
//! sends a token an event as an OpenAI service would, and looks after each event how many have left. Beside Keyward
//! stand the two other ways that gateways have: to withhold the last 128 bytes of the text whatever they are, and to
//! withhold the whole answer. Both take the text out of the event with `serde_json` and search it with `regex`. The
//! counts are the same on every machine; only the column of CPU time is not.

use std::sync::Arc;
use std::time::Duration;

use keyward::scan::{Action, RuleSet, StreamFormat, StreamScanner, preset};
use keyward::time::Clock;
use regex::bytes::RegexSet;

mod support;

/// Bytes of all answers of a corpus.
const CORPUS: usize = 64 << 10;

/// Bytes of one answer: some 600 tokens.
const ANSWER: usize = 2048;

/// The longest token, in characters. Models' tokens have three to four on average.
const TOKEN: usize = 5;

const ROUNDS: usize = 5;

/// What a gateway withholds that has a fixed tail.
const TAIL: usize = 128;

fn main() {
    let (prose, code) = (support::prose(CORPUS), support::code(CORPUS));
    for (name, corpus) in [("prose", &prose), ("code and Markdown", &code)] {
        let answers: Vec<Vec<&str>> = answers(corpus);
        let tokens = answers.iter().map(Vec::len).sum::<usize>();
        println!("\n{name}: {} answers, {tokens} events, {} bytes", answers.len(), corpus.len());
        println!(
            "{:<34} {:>8} {:>8} {:>6} {:>12} {:>8} {:>10}",
            "", "waiting", "mean", "max", "first event", "blocked", "µs/event"
        );
        for preset in ["html", "seed", "secrets"] {
            for action in [Action::Block, Action::Redact] {
                let rules = support::compiled(preset);
                row(&format!("Keyward, {preset}, {action}"), &answers, |answer| keyward(&rules, action, answer));
            }
        }
        let patterns = regexes("html");
        row("fixed tail of 128 bytes, html", &answers, |answer| tail(&patterns, answer));
        row("whole answer, html", &answers, |answer| whole(&patterns, answer));
    }
}

fn regexes(name: &str) -> RegexSet {
    RegexSet::new(preset(name).expect("a preset").into_iter().map(|rule| rule.pattern)).expect("they compile")
}

/// Tokens: a space or a line end with the word behind it, long words in pieces.
fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let (mut start, mut length) = (0, 0);
    for (at, c) in text.char_indices() {
        let begins_word = c.is_whitespace() || (c.is_ascii_punctuation() && length > 1);
        if length > 0 && (begins_word || length == TOKEN) {
            tokens.push(&text[start..at]);
            (start, length) = (at, 0);
        }
        length += 1;
    }
    tokens.push(&text[start..]);
    tokens
}

fn answers(corpus: &str) -> Vec<Vec<&str>> {
    let mut answers = vec![Vec::new()];
    let mut size = 0;
    for token in tokens(corpus) {
        if size > ANSWER {
            answers.push(Vec::new());
            size = 0;
        }
        size += token.len();
        answers.last_mut().expect("there is one").push(token);
    }
    answers
}

/// What became of one answer.
struct Sent {
    /// For each event, how many had come when it left. Events that never leave are missing.
    left: Vec<usize>,
    /// CPU time of the inspection.
    time: Duration,
}

fn event(token: &str) -> String {
    let text = serde_json::Value::from(token);
    format!(
        "data: {{\"id\":\"chatcmpl-AbCdEfGhIjKlMnOpQrStUvWxYz012\",\"object\":\"chat.completion.chunk\",\
         \"created\":1764100000,\"model\":\"gpt-4o-2024-08-06\",\"choices\":[{{\"index\":0,\
         \"delta\":{{\"content\":{text}}},\"finish_reason\":null}}]}}\n\n"
    )
}

fn keyward(rules: &Arc<RuleSet>, action: Action, answer: &[&str]) -> Sent {
    let rules = support::stream_rules(rules, action);
    let events: Vec<String> = answer.iter().map(|token| event(token)).collect();
    let clock = Clock::system();
    let begun = clock.now().monotonic;
    let mut scanner = StreamScanner::new(rules, StreamFormat::Events, None);
    let (mut out, mut left) = (Vec::new(), Vec::new());
    let mut leave = |out: &mut Vec<u8>, come: usize| {
        // Every event ends with the only empty line in it.
        let events = out.windows(2).filter(|pair| pair == b"\n\n").count();
        left.extend(std::iter::repeat_n(come, events));
        out.clear();
    };
    for (i, event) in events.iter().enumerate() {
        scanner.feed(event.as_bytes(), &mut out);
        leave(&mut out, i + 1);
    }
    scanner.finish(&mut out);
    leave(&mut out, events.len());
    Sent { left, time: clock.now().monotonic.saturating_duration_since(begun) }
}

/// The text in an event.
fn token_of(event: &str) -> String {
    let json = event.strip_prefix("data: ").expect("data");
    let mut event: serde_json::Value = serde_json::from_str(json).expect("JSON");
    match event["choices"][0]["delta"]["content"].take() {
        serde_json::Value::String(token) => token,
        _ => String::new(),
    }
}

/// Searches the tail and the new token, and lets go what is more than a tail away from the end.
fn tail(patterns: &RegexSet, answer: &[&str]) -> Sent {
    let events: Vec<String> = answer.iter().map(|token| event(token)).collect();
    let clock = Clock::system();
    let begun = clock.now().monotonic;
    let (mut left, mut window, mut before) = (Vec::new(), String::new(), 0);
    let mut ends = Vec::new();
    for (i, event) in events.iter().enumerate() {
        window.push_str(&token_of(event));
        ends.push(before + window.len());
        if patterns.is_match(window.as_bytes()) {
            return Sent { left, time: clock.now().monotonic.saturating_duration_since(begun) };
        }
        let safe = (before + window.len()).saturating_sub(TAIL);
        while ends.get(left.len()).is_some_and(|&end| end <= safe) {
            left.push(i + 1);
        }
        let mut cut = window.len().saturating_sub(2 * TAIL);
        while !window.is_char_boundary(cut) {
            cut -= 1;
        }
        window.drain(..cut);
        before += cut;
    }
    left.resize(answer.len(), answer.len());
    Sent { left, time: clock.now().monotonic.saturating_duration_since(begun) }
}

fn whole(patterns: &RegexSet, answer: &[&str]) -> Sent {
    let events: Vec<String> = answer.iter().map(|token| event(token)).collect();
    let clock = Clock::system();
    let begun = clock.now().monotonic;
    let text: String = events.iter().map(|event| token_of(event)).collect();
    let blocked = patterns.is_match(text.as_bytes());
    let left = if blocked { Vec::new() } else { vec![answer.len(); answer.len()] };
    Sent { left, time: clock.now().monotonic.saturating_duration_since(begun) }
}

fn row(name: &str, answers: &[Vec<&str>], mut send: impl FnMut(&[&str]) -> Sent) {
    let (mut events, mut late, mut sum, mut max, mut first, mut blocked) = (0, 0, 0, 0, Vec::new(), 0);
    let mut time = Duration::ZERO;
    for answer in answers {
        let sent = send(answer);
        // The counts are the same each time; the shortest time is the one that nothing else disturbed.
        time += (1..ROUNDS).map(|_| send(answer).time).chain([sent.time]).min().unwrap_or_default();
        blocked += usize::from(sent.left.len() < answer.len());
        first.extend(sent.left.first().copied());
        for (i, &come) in sent.left.iter().enumerate() {
            let delay = come - (i + 1);
            events += 1;
            late += usize::from(delay > 0);
            sum += delay;
            max = max.max(delay);
        }
    }
    first.sort_unstable();
    let median = first.get(first.len() / 2).copied().unwrap_or_default();
    let all = answers.iter().map(Vec::len).sum::<usize>();
    println!(
        "{name:<34} {:>7.2}% {:>8.3} {max:>6} {median:>12} {blocked:>8} {:>10.2}",
        100.0 * f64::from(late as u32) / f64::from(events.max(1) as u32),
        sum as f64 / events.max(1) as f64,
        time.as_secs_f64() * 1e6 / all as f64,
    );
}
