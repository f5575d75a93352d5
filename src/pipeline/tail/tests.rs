use super::*;
use crate::pipeline::memory::MemoryBudget;
use crate::policy::Unscannable;
use crate::scan::{BinaryParts, RuleSet, preset};
use prometheus::IntGauge;

fn rules(action: Action, unscannable: Unscannable) -> Inspect {
    Inspect {
        rules: Arc::new(RuleSet::compile(preset("html").expect("a preset")).expect("rules")),
        action,
        section: action,
        max_chars: None,
        max_body_chars: None,
        max_body: 1 << 30,
        content_types: Vec::new(),
        unscannable,
        binary_parts: BinaryParts::Block,
        house: None,
    }
}

/// What a service gets of a body in pieces of `size`, how the body ends, and the most that was paid for.
struct Sent {
    bytes: Vec<u8>,
    /// What it had before the end was decided.
    before: usize,
    end: Result<(), BodyFault>,
    most: i64,
}

fn send(rules: &Inspect, body: &[u8], size: usize, budget: usize) -> Sent {
    let gauge = IntGauge::new("held", "held").expect("a name");
    let budget = MemoryBudget::new(budget, gauge.clone());
    let screening = Arc::new(Screening::new(rules, PassageFormat::Json));
    let mut tail = Tail::new(screening, rules, budget.lease());
    let mut ready = VecDeque::new();
    let mut sent = Sent { bytes: Vec::new(), before: 0, end: Ok(()), most: 0 };
    for piece in body.chunks(size) {
        sent.end = tail.feed(Bytes::copy_from_slice(piece), &mut ready);
        sent.most = sent.most.max(gauge.get());
        if sent.end.is_err() {
            assert_eq!((ready.len(), gauge.get()), (0, 0), "what is refused takes no memory");
            return sent;
        }
        sent.bytes.extend(ready.drain(..).flatten());
    }
    sent.before = sent.bytes.len();
    sent.end = tail.finish(&mut ready);
    sent.bytes.extend(ready.drain(..).flatten());
    drop(tail);
    assert_eq!(gauge.get(), 0);
    sent
}

fn document(filler: usize, end: &str) -> Vec<u8> {
    format!("{{\"a\": \"{}{end}", "x ".repeat(filler / 2)).into_bytes()
}

const MIB: usize = 1 << 20;

#[test]
fn a_clean_body_goes_whole_and_its_end_last() {
    let body = document(5 * MIB, "\"}");
    let sent = send(&rules(Action::Block, Unscannable::Block), &body, 10_000, 2 * MIB);
    assert_eq!((sent.end, sent.bytes == body), (Ok(()), true));
    assert_eq!(sent.before, body.len() - WITHHELD as usize);
    assert!(sent.most < (MIB + 30_000) as i64, "{} bytes were held at once", sent.most);
}

#[test]
fn of_a_refused_body_goes_what_stands_before_the_match() {
    for (end, fault) in [
        ("<script>\"}", BodyFault::Inspected(PassageStop::Blocked)),
        ("\\u003cscript>\"}", BodyFault::Inspected(PassageStop::Blocked)),
    ] {
        for size in [777, 100_000, 3 * MIB] {
            let body = document(2 * MIB, end);
            let sent = send(&rules(Action::Block, Unscannable::Block), &body, size, 10 * MIB);
            assert_eq!(sent.end, Err(fault.clone()));
            assert!(sent.bytes.len() <= body.len() - end.len() && body.starts_with(&sent.bytes), "{size}");
        }
    }
    let early = [b"{\"a\": \"<script>".as_slice(), &document(2 * MIB, "\"}")].concat();
    let sent = send(&rules(Action::Block, Unscannable::Block), &early, 1000, MIB);
    assert_eq!((sent.end, sent.bytes.len()), (Err(BodyFault::Inspected(PassageStop::Blocked)), 0));
}

#[test]
fn white_space_is_no_end() {
    // The document is complete long before the body is: its last bracket waits all the same.
    let body = document(2 * MIB, &format!("\"}}{}", " ".repeat(100_000)));
    let sent = send(&rules(Action::Block, Unscannable::Block), &body, 5000, 10 * MIB);
    assert_eq!((sent.end, sent.before), (Ok(()), body.len() - 100_001));
}

#[test]
fn what_cannot_be_read_ends_or_goes_on() {
    let body = document(2 * MIB, "\"} and more");
    let stopped = send(&rules(Action::Block, Unscannable::Block), &body, 5000, 2 * MIB);
    assert!(matches!(stopped.end, Err(BodyFault::Inspected(PassageStop::Malformed(_)))), "{:?}", stopped.end);
    for rules in [rules(Action::Block, Unscannable::Pass), rules(Action::Observe, Unscannable::Block)] {
        let passed = send(&rules, &body, 5000, 2 * MIB);
        assert_eq!((passed.end, passed.bytes == body), (Ok(()), true));
    }
}

#[test]
fn what_is_undecided_is_paid_for() {
    let mut inspect = rules(Action::Block, Unscannable::Block);
    let rule = crate::scan::Rule::new("long", "AB[^<]*>");
    inspect.rules = Arc::new(RuleSet::compile(vec![rule]).expect("rules"));
    let body = [b"{\"a\": \"AB".as_slice(), &vec![b'y'; 3 * MIB], b"<\"}"].concat();
    let sent = send(&inspect, &body, 10_000, 8 * MIB);
    assert_eq!((sent.end, sent.bytes == body), (Ok(()), true));
    assert!(sent.most >= 3 * MIB as i64, "{}", sent.most);
    assert_eq!(send(&inspect, &body, 10_000, 2 * MIB).end, Err(BodyFault::NoMemory));
}

#[test]
fn observing_holds_nothing() {
    let body = document(2 * MIB, "<script>\"}");
    let sent = send(&rules(Action::Observe, Unscannable::Block), &body, 10_000, 0);
    assert_eq!((sent.end, sent.before, sent.most), (Ok(()), body.len(), 0));
}
