//! What scanning costs: per byte of text, per event of a stream, per body; in time, in allocations, in memory.
//!
//! `cargo bench --bench scan` prints the best of several rounds, beside what `memchr` and the `regex` crate take for the
//! same bytes in the same run. The numbers are for comparing within a run; nothing is asserted about them.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use keyward::scan::block::BlockScanner;
use keyward::scan::guard::GuardedScanner;
use keyward::scan::{
    Action, BinaryParts, Inspection, RuleSet, StreamFormat, StreamRules, StreamScanner, TextFormat, inspect, preset,
};
use keyward::time::Clock;

const ROUNDS: usize = 9;

/// Bytes of text that one round scans.
const SIZE: usize = 1 << 20;

fn main() {
    let clock = Clock::system();
    presets(&clock);
    texts(&clock);
    events(&clock);
    bodies(&clock);
    adversaries(&clock);
    allocations();
}

/// The shortest time of one call.
fn best(clock: &Clock, calls: u32, mut call: impl FnMut()) -> Duration {
    let round = |call: &mut dyn FnMut()| {
        let begun = clock.now().monotonic;
        for _ in 0..calls {
            call();
        }
        clock.now().monotonic.saturating_duration_since(begun) / calls
    };
    (0..ROUNDS).map(|_| round(&mut call)).min().unwrap_or_default()
}

fn rate(bytes: usize, time: Duration) -> f64 {
    bytes as f64 / time.as_secs_f64() / 1e9
}

fn set(name: &str) -> Arc<RuleSet> {
    Arc::new(RuleSet::compile(preset(name).expect("a preset")).expect("it compiles"))
}

fn stream_rules(rules: &Arc<RuleSet>, action: Action) -> StreamRules {
    StreamRules { rules: Arc::clone(rules), action, max_chars: Some(u64::MAX), max_body_chars: None, house: None }
}

/// Prose and Markdown that is always at hand, as often as it takes.
fn prose() -> Vec<u8> {
    let corpus = concat!(include_str!("../README.md"), include_str!("../docs/security.md"), include_str!("../LICENSE"));
    corpus.bytes().cycle().take(SIZE).collect()
}

fn presets(clock: &Clock) {
    println!("{:<52} {:>12}", "compiling a preset, for every action", "ms");
    for name in ["seed", "html", "secrets"] {
        let time = best(clock, 1, || drop(black_box(set(name))));
        println!("{name:<52} {:>12.2}", time.as_secs_f64() * 1e3);
    }
}

fn texts(clock: &Clock) {
    let text = prose();
    println!("\n{:<52} {:>10} {:>10} {:>10}", "clean text, GB/s in chunks of", "16 B", "1 KiB", "64 KiB");
    let line = |what: &str, scan: &mut dyn FnMut(&[u8], usize)| {
        let rates = [16, 1 << 10, 64 << 10].map(|size| rate(text.len(), best(clock, 1, || scan(&text, size))));
        println!("{what:<52} {:>10.2} {:>10.2} {:>10.2}", rates[0], rates[1], rates[2]);
    };
    line("memchr, of a byte that is not there", &mut |text, size| {
        text.chunks(size).for_each(|chunk| {
            black_box(memchr::memchr(0, chunk));
        });
    });
    for name in ["html", "seed", "secrets"] {
        let rules = set(name);
        let patterns: Vec<String> = preset(name).expect("a preset").into_iter().map(|rule| rule.pattern).collect();
        let regexes = regex::bytes::RegexSet::new(&patterns).expect("they compile");
        line(&format!("{name}: regex crate, each chunk alone (leaks)"), &mut |text, size| {
            text.chunks(size).for_each(|chunk| {
                black_box(regexes.is_match(chunk));
            });
        });
        line(&format!("{name}: block scanner"), &mut |text, size| {
            let mut scanner = BlockScanner::new(rules.block(), 16 << 10);
            for chunk in text.chunks(size) {
                scanner.feed(rules.block(), chunk);
                black_box(scanner.frontier());
            }
            assert_eq!(scanner.stop(), None, "the text is clean");
        });
        line(&format!("{name}: redact scanner and guard"), &mut |text, size| {
            let mut scanner = GuardedScanner::new(rules.to_redact(), rules.to_block(), b"[removed]", 16 << 10);
            for chunk in text.chunks(size) {
                scanner.feed(rules.to_redact(), rules.to_block(), chunk);
                black_box(scanner.frontier());
            }
        });
        line(&format!("{name}: text stream, block, measured and let go"), &mut |text, size| {
            let rules = stream_rules(&rules, Action::Block);
            let mut scanner = StreamScanner::new(rules, StreamFormat::Text, None);
            let mut out = Vec::with_capacity(2 * size);
            for chunk in text.chunks(size) {
                out.clear();
                scanner.feed(chunk, &mut out);
            }
            assert_eq!(scanner.stop(), None, "the text is clean");
        });
    }
}

/// A chunk of a chat completion as OpenAI writes it, of about 270 bytes.
fn chat_event(token: &str) -> String {
    format!(
        "data: {{\"id\":\"chatcmpl-AbCdEfGhIjKlMnOpQrStUvWxYz012\",\"object\":\"chat.completion.chunk\",\
         \"created\":1764100000,\"model\":\"gpt-4o-2024-08-06\",\"service_tier\":\"default\",\
         \"system_fingerprint\":\"fp_0123456789\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{token}\"}},\
         \"logprobs\":null,\"finish_reason\":null}}]}}\n\n"
    )
}

fn message_event(token: &str) -> String {
    format!(
        "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\
         \"delta\":{{\"type\":\"text_delta\",\"text\":\"{token}\"}}}}\n\n"
    )
}

const TOKENS: [&str; 8] = [" the", " model", " writes", " a", " few", " words", ",\\n", " then"];

fn stream_of(event: fn(&str) -> String) -> Vec<Bytes> {
    (0..1000).map(|i| event(TOKENS[i % TOKENS.len()]).into()).collect()
}

fn events(clock: &Clock) {
    println!("\n{:<52} {:>10} {:>10}", "clean event of a stream, one a chunk, preset html", "µs", "bytes");
    let rules = set("html");
    for (name, event) in [("OpenAI chat chunk", chat_event as fn(&str) -> String), ("Anthropic delta", message_event)] {
        let events = stream_of(event);
        let size = events[0].len();
        let line = |what: &str, time: Duration| {
            println!("{:<52} {:>10.2} {size:>10}", format!("{name}: {what}"), time.as_secs_f64() * 1e6 / 1000.0);
        };
        let values: Vec<&[u8]> = events.iter().map(|event| json_of(event)).collect();
        let parsed = best(clock, 1, || {
            for value in &values {
                black_box(serde_json::from_slice::<serde_json::Value>(value).expect("JSON"));
            }
        });
        line("serde_json to a Value, for comparison", parsed);
        for action in [Action::Block, Action::Redact, Action::Observe] {
            let time = best(clock, 1, || {
                let mut scanner = StreamScanner::new(stream_rules(&rules, action), StreamFormat::Events, None);
                let mut out = Vec::with_capacity(1024);
                for event in &events {
                    out.clear();
                    scanner.feed(event, &mut out);
                    assert_eq!(out.len(), event.len(), "clean events leave at once");
                }
            });
            line(&format!("{action}"), time);
        }
    }
}

fn json_of(event: &[u8]) -> &[u8] {
    let start = event.windows(6).position(|window| window == b"data: ").expect("data") + 6;
    &event[start..]
}

fn bodies(clock: &Clock) {
    println!("\n{:<52} {:>10} {:>10} {:>10}", "clean JSON body, GB/s", "1 KiB", "4 KiB", "1 MiB");
    let prose = String::from_utf8_lossy(&prose()).into_owned();
    let chat = |size: usize| {
        let mut messages = Vec::new();
        let mut rest = &prose[..size];
        while !rest.is_empty() {
            let mut cut = rest.len().min(700);
            while !rest.is_char_boundary(cut) {
                cut += 1;
            }
            let (text, behind) = rest.split_at(cut);
            messages.push(serde_json::json!({"role": "user", "content": text}));
            rest = behind;
        }
        Bytes::from(serde_json::json!({"model": "m", "messages": messages, "stream": true}).to_string())
    };
    let bodies = [chat(800), chat(3600), chat(900_000)];
    let line = |what: &str, scan: &dyn Fn(&Bytes)| {
        let rates = bodies.each_ref().map(|body| {
            let calls = (SIZE / body.len()).max(1) as u32;
            rate(body.len(), best(clock, calls, || scan(body)))
        });
        println!("{what:<52} {:>10.2} {:>10.2} {:>10.2}", rates[0], rates[1], rates[2]);
    };
    line("serde_json to nothing, for comparison", &|body| {
        black_box(serde_json::from_slice::<serde::de::IgnoredAny>(body).expect("JSON"));
    });
    line("serde_json to a Value, for comparison", &|body| {
        black_box(serde_json::from_slice::<serde_json::Value>(body).expect("JSON"));
    });
    for name in ["html", "seed", "secrets"] {
        let rules = set(name);
        let what = Inspection {
            rules: &rules,
            action: Action::Redact,
            max_chars: Some(1 << 30),
            max_body_chars: None,
            binary_parts: BinaryParts::Pass,
        };
        line(&format!("{name}: block"), &|body| {
            let what = Inspection { action: Action::Block, ..what };
            let _ = black_box(inspect(body, TextFormat::Json, &what));
        });
    }
}

/// Texts that keep as many candidates alive as they can. The time per byte must not grow with the length. Both lengths
/// take less than a slice of time, so that on a busy machine the best round was not interrupted.
fn adversaries(clock: &Clock) {
    println!("\n{:<52} {:>10} {:>10} {:>10}", "adversarial text, MB/s", "64 KiB", "256 KiB", "ratio");
    let line = |what: String, piece: &str, scan: &dyn Fn(&[u8])| {
        let rates = [SIZE / 16, SIZE / 4].map(|size| {
            let text: Vec<u8> = piece.bytes().cycle().take(size).collect();
            rate(size, best(clock, 1, || scan(&text))) * 1e3
        });
        println!("{what:<52} {:>10.0} {:>10.0} {:>10.2}", rates[0], rates[1], rates[0] / rates[1]);
    };
    for (name, pieces) in [
        ("html", &["<a ", "<script", "j\n\t\r", "<a onab ", "<a \"on", "<b on/on/on "][..]),
        ("seed", &["<script", "on", "ononx ", "<script>o", "javascript"]),
        ("secrets", &["ghp_aaaaaaaa ", "sk-sk-sk-", "eyJhbGciOi", "AKIA", "-----BEGIN A"]),
    ] {
        let rules = set(name);
        for piece in pieces {
            line(format!("{name}: {piece:?}, counting"), piece, &|text| {
                let mut scanner = keyward::scan::block::CountScanner::new(rules.block());
                text.chunks(1 << 10).for_each(|chunk| scanner.feed(rules.block(), chunk));
                black_box(scanner.counts());
            });
            line(format!("{name}: {piece:?}, redact"), piece, &|text| {
                let mut scanner = keyward::scan::redact::RedactScanner::new(rules.redact(), u64::MAX);
                for chunk in text.chunks(1 << 10) {
                    scanner.feed(rules.redact(), chunk);
                    while let Some(hit) = scanner.next_match() {
                        black_box(hit);
                    }
                }
            });
        }
    }
}

fn allocations() {
    println!("\n{:<52} {:>12} {:>12}", "memory, preset html", "per event", "bytes kept");
    let rules = set("html");
    for (name, event) in [("OpenAI chat chunks", chat_event as fn(&str) -> String), ("Anthropic deltas", message_event)]
    {
        for action in [Action::Block, Action::Redact, Action::Observe] {
            let events = stream_of(event);
            let mut kept = None;
            let mut out = Vec::with_capacity(1024);
            let begun = allocation_counter::measure(|| {
                let mut scanner = StreamScanner::new(stream_rules(&rules, action), StreamFormat::Events, None);
                for event in &events[..100] {
                    out.clear();
                    scanner.feed(event, &mut out);
                }
                kept = Some(scanner);
            });
            let mut scanner = kept.take().expect("it was kept");
            let went_on = allocation_counter::measure(|| {
                for event in &events[100..] {
                    out.clear();
                    scanner.feed(event, &mut out);
                }
            });
            let state = begun.bytes_current + size_of::<StreamScanner>() as i64;
            let each = went_on.count_total as f64 / (events.len() - 100) as f64;
            println!("{:<52} {each:>12.3} {state:>12}", format!("{name}, {action}"));
        }
    }
}
