//! What identity costs per request: the splice of a prompt's context, and the signature of an assertion.
//!
//! `cargo bench --bench identity` prints microseconds per request, the best of several rounds. The numbers are for
//! comparing two builds on one machine; nothing is asserted about them.

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use keyward::assertion::{Algorithm, Assertion, Key, Request, Signer};
use keyward::context::{Context, Format, Imitation, Owner, Pointer, Source, Splicer, Template};
use keyward::scan::{RuleSet, preset};
use keyward::time::Clock;

use support::best;

mod support;

const ROUNDS: usize = 7;

fn main() {
    let clock = Clock::system();
    println!("{:<52} {:>12} {:>10}", "per request", "µs", "MB/s");
    splices(&clock);
    signatures(&clock);
}

fn report(what: &str, time: Duration, bytes: usize) {
    let micros = time.as_secs_f64() * 1e6;
    if bytes == 0 {
        println!("{what:<52} {micros:>12.2} {:>10}", "-");
    } else {
        println!("{what:<52} {micros:>12.2} {:>10.0}", bytes as f64 / micros);
    }
}

fn splices(clock: &Clock) {
    let rules = Arc::new(RuleSet::compile(preset("context").expect("a preset")).expect("it compiles"));
    let pointer = Pointer::parse("/prompt").expect("a pointer");
    for (name, format, calls) in [("openai", Format::OpenAi, 2000), ("json /prompt", Format::Json(pointer), 2000)] {
        let context = Arc::new(Context {
            template: Template::of(&format),
            format,
            values: vec![("tier".into(), Source::Text("gold".into()))],
            imitations: Arc::clone(&rules),
        });
        for (size, label) in [(200, "200 B"), (4 << 10, "4 KiB"), (256 << 10, "256 KiB")] {
            let text = "The quick brown fox jumps over the lazy dog. ".repeat(size / 45 + 1);
            let body = format!(r#"{{"messages":[{{"role":"user","content":"{text}"}}],"prompt":"{text}"}}"#);
            let body = Bytes::from(body);
            let calls = if size > 100_000 { calls / 50 } else { calls };
            let time = best(clock, ROUNDS, calls, || {
                let owner = Owner::Organization("org_customer_abc");
                let mut splicer = Splicer::new(&context, owner, &HeaderMap::new(), Imitation::Refused);
                let mut out = VecDeque::new();
                splicer.feed(black_box(&body), &mut out).expect("a body");
                splicer.finish().expect("a body");
                black_box(out);
            });
            report(&format!("splice, {name}, two texts of {label}"), time, body.len());
        }
    }
}

fn signatures(clock: &Clock) {
    let scopes: [Arc<str>; 2] = ["read:ai_chats".into(), "write:ai_chat".into()];
    let small = vec![b'x'; 4 << 10];
    for (algorithm, secret) in [
        (Algorithm::EdDsa, "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="),
        (Algorithm::Hs256, "0123456789abcdef0123456789abcdef"),
    ] {
        let assertion = Assertion {
            header: "x-key-assertion".parse().expect("a name"),
            signer: Signer::new("key-1", Key::read(algorithm, secret).expect("a key")),
            ttl: Duration::from_secs(60),
            issuer: "keyward".into(),
            audience: "ai".into(),
        };
        let wall = clock.now().wall;
        for (body, label) in [(None, "streamed"), (Some(&b""[..]), "empty"), (Some(&small[..]), "4 KiB")] {
            let request = Request {
                key_id: "api_key_01a207a169da70e6ba42624e28006a7b",
                org_code: Some("org_customer_abc"),
                user_id: None,
                scopes: &scopes,
                route: "chat",
                method: "POST",
                path: "/v1/chat/completions",
                request_id: "01a207a1-69e6-7238-a946-89e408cd1295",
                token_id: "01a207a1-69e6-7238-a946-89e408cd1295",
                body,
            };
            let time = best(clock, ROUNDS, 1000, || {
                black_box(assertion.state(black_box(&request), wall));
            });
            report(&format!("assertion, {}, body {label}", algorithm.name()), time, 0);
        }
    }
}
