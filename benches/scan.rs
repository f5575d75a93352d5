//! What scanning costs: per byte of text, per event of a stream, per body; in time, in allocations, in memory.
//!
//! `cargo bench --bench scan` prints the best of several rounds, beside what `memchr` and the `regex` crate take for the
//! same bytes in the same run; `cargo bench --bench scan events` prints one of the tables. The numbers are for comparing
//! within a run; nothing is asserted about them.

use std::alloc::System;
use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use keyward::scan::block::BlockScanner;
use keyward::scan::guard::GuardedScanner;
use keyward::scan::{
    Action, BinaryParts, Inspection, StreamFormat, StreamScanner, TextFormat, Verdict, inspect, preset,
};
use keyward::time::Clock;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use support::{best, compiled, prose, stream_rules};

mod support;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const ROUNDS: usize = 9;

/// Bytes of text that one round scans.
const SIZE: usize = 1 << 20;

fn main() {
    let clock = Clock::system();
    // One table alone, by its name: what an instruction counter is pointed at.
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let table = |name: &str, print: &dyn Fn()| {
        if wanted.as_ref().is_none_or(|wanted| wanted == name) {
            print();
        }
    };
    table("presets", &|| presets(&clock));
    table("texts", &|| texts(&clock));
    table("events", &|| events(&clock));
    table("bodies", &|| bodies(&clock));
    table("adversaries", &|| adversaries(&clock));
    table("memory", &allocations);
}

fn rate(bytes: usize, time: Duration) -> f64 {
    bytes as f64 / time.as_secs_f64() / 1e9
}

fn presets(clock: &Clock) {
    println!("{:<52} {:>12}", "compiling a preset, for every action", "ms");
    for name in ["seed", "html", "secrets"] {
        let time = best(clock, ROUNDS, 1, || drop(black_box(compiled(name))));
        println!("{name:<52} {:>12.2}", time.as_secs_f64() * 1e3);
    }
}

fn texts(clock: &Clock) {
    let text = prose(SIZE).into_bytes();
    println!("\n{:<52} {:>10} {:>10} {:>10}", "clean text, GB/s in chunks of", "16 B", "1 KiB", "64 KiB");
    let line = |what: &str, scan: &mut dyn FnMut(&[u8], usize)| {
        let rates = [16, 1 << 10, 64 << 10].map(|size| {
            // A round of small chunks has fewer of them, so that on a busy machine the best round was not interrupted.
            let text = &text[..SIZE.min(size << 12)];
            rate(text.len(), best(clock, ROUNDS, 1, || scan(text, size)))
        });
        println!("{what:<52} {:>10.2} {:>10.2} {:>10.2}", rates[0], rates[1], rates[2]);
    };
    line("memchr, of a byte that is not there", &mut |text, size| {
        text.chunks(size).for_each(|chunk| {
            black_box(memchr::memchr(0, chunk));
        });
    });
    for name in ["html", "seed", "secrets"] {
        let rules = compiled(name);
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

/// Events of which none is like the one before but for its text, so that each is read anew.
fn two_answers() -> Vec<Bytes> {
    let index = |i: usize| ["\"index\":0", "\"index\":1"][i % 2];
    (0..1000).map(|i| chat_event(TOKENS[i % TOKENS.len()]).replace(index(0), index(i)).into()).collect()
}

fn events(clock: &Clock) {
    println!("\n{:<52} {:>10} {:>10}", "clean event of a stream, one a chunk, preset html", "µs", "bytes");
    let rules = compiled("html");
    for (name, events) in [
        ("OpenAI chat chunk", stream_of(chat_event)),
        ("two OpenAI answers in turn", two_answers()),
        ("Anthropic delta", stream_of(message_event)),
    ] {
        let size = events[0].len();
        let line = |what: &str, time: Duration| {
            println!("{:<52} {:>10.2} {size:>10}", format!("{name}: {what}"), time.as_secs_f64() * 1e6 / 1000.0);
        };
        let values: Vec<&[u8]> = events.iter().map(|event| json_of(event)).collect();
        let parsed = best(clock, ROUNDS, 1, || {
            for value in &values {
                black_box(serde_json::from_slice::<serde_json::Value>(value).expect("JSON"));
            }
        });
        line("serde_json to a Value, for comparison", parsed);
        for action in [Action::Block, Action::Redact, Action::Observe] {
            let time = best(clock, ROUNDS, 1, || {
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
    let prose = prose(SIZE);
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
            rate(body.len(), best(clock, ROUNDS, calls, || scan(body)))
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
        let rules = compiled(name);
        let what = Inspection {
            rules: &rules,
            action: Action::Redact,
            max_chars: Some(1 << 30),
            max_body_chars: None,
            binary_parts: BinaryParts::Pass,
        };
        line(&format!("{name}: block"), &|body| {
            let what = Inspection { action: Action::Block, ..what };
            let report = black_box(inspect(body, TextFormat::Json, &what));
            assert_eq!(report.verdict, Verdict::Clean, "the body is clean");
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
            rate(size, best(clock, ROUNDS, 1, || scan(&text))) * 1e3
        });
        println!("{what:<52} {:>10.0} {:>10.0} {:>10.2}", rates[0], rates[1], rates[0] / rates[1]);
    };
    for (name, pieces) in [
        ("html", &["<a ", "<script", "j\n\t\r", "<a onab ", "<a \"on", "<b on/on/on "][..]),
        ("seed", &["<script", "on", "ononx ", "<script>o", "javascript"]),
        ("secrets", &["ghp_aaaaaaaa ", "sk-sk-sk-", "eyJhbGciOi", "AKIA", "-----BEGIN A"]),
    ] {
        let rules = compiled(name);
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
    let rules = compiled("html");
    // What a thread keeps for all its streams is made by its first.
    let mut first = StreamScanner::new(stream_rules(&rules, Action::Redact), StreamFormat::Events, None);
    first.feed(chat_event("a").as_bytes(), &mut Vec::new());
    drop(first);
    for (name, event) in [("OpenAI chat chunks", chat_event as fn(&str) -> String), ("Anthropic deltas", message_event)]
    {
        for action in [Action::Block, Action::Redact, Action::Observe] {
            let events = stream_of(event);
            let mut out = Vec::with_capacity(1024);
            let region = Region::new(ALLOCATOR);
            let mut scanner = StreamScanner::new(stream_rules(&rules, action), StreamFormat::Events, None);
            for event in &events[..100] {
                out.clear();
                scanner.feed(event, &mut out);
            }
            let begun = region.change();
            let state = begun.bytes_allocated - begun.bytes_deallocated + size_of::<StreamScanner>();
            let region = Region::new(ALLOCATOR);
            for event in &events[100..] {
                out.clear();
                scanner.feed(event, &mut out);
            }
            let went_on = region.change();
            let count = went_on.allocations + went_on.reallocations;
            let each = count as f64 / (events.len() - 100) as f64;
            println!("{:<52} {each:>12.3} {state:>12}", format!("{name}, {action}"));
        }
    }
}
