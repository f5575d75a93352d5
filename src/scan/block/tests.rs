use std::collections::{HashMap, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::scan::{
    program::Table,
    rule::Rule,
    testing::{all_matches, chunks, config, cuts, is_match, looks_ahead, sets, text},
};

fn program(patterns: &[&str]) -> Program {
    let rules: Vec<_> = patterns.iter().map(|p| Rule::new(*p, *p)).collect();
    Program::compile(&rules).unwrap()
}

/// Scans byte by byte: the frontier after each byte, the first before any.
fn trace(program: &Program, text: &[u8], cap: u64) -> (Vec<u64>, BlockScanner) {
    let mut scanner = BlockScanner::new(program, cap);
    let mut frontiers = vec![scanner.frontier()];
    for byte in text {
        scanner.feed(program, &[*byte]);
        frontiers.push(scanner.frontier());
    }
    (frontiers, scanner)
}

/// A shortest text that completes a match from `state`.
fn witness(table: &Table, state: State) -> Vec<u8> {
    let mut seen = HashMap::from([(state, Vec::new())]);
    let mut queue = VecDeque::from([state]);
    if !table.at_end(state).is_empty() {
        return Vec::new();
    }
    while let Some(state) = queue.pop_front() {
        for byte in 0..=255u8 {
            let next = table.next(state, byte);
            if next == DEAD || seen.contains_key(&next) {
                continue;
            }
            let mut path = seen[&state].clone();
            path.push(byte);
            if !table.at_end(next).is_empty() {
                return path;
            }
            if !table.late(next).is_empty() {
                return path;
            }
            seen.insert(next, path);
            queue.push_back(next);
        }
    }
    panic!("a living state has a witness");
}

proptest! {
    #![proptest_config(config(100_000))]

    #[test]
    fn no_byte_of_a_match_leaves(set in sets(), text in text(10)) {
        let (rules, program) = (&set.rules, set.compiled.block());
        let (frontiers, mut scanner) = trace(program, &text, u64::MAX);
        scanner.finish(program);
        let matches = all_matches(rules, &text);

        for &(_, start, end) in &matches {
            for (n, &frontier) in frontiers[..end].iter().enumerate() {
                prop_assert!(frontier <= start as u64, "{start}..{end} leaks at {n}");
            }
        }
        prop_assert!(frontiers.is_sorted());
        prop_assert_eq!(scanner.hit().is_some(), !matches.is_empty());
        if let Some(hit) = scanner.hit() {
            let (start, end) = (hit.start as usize, hit.end as usize);
            prop_assert!(matches.contains(&(hit.rule, start, end)), "{:?} {:?}", hit, matches);
            prop_assert!(scanner.frontier() <= hit.start);
            let first_end = matches.iter().map(|m| m.2).min().unwrap();
            if rules.iter().any(looks_ahead) {
                prop_assert!(end <= first_end + 1);
            } else {
                let first = matches.iter().filter(|m| m.2 == first_end);
                let first = first.min_by_key(|m| (m.1, m.0)).copied();
                prop_assert_eq!(Some((hit.rule, start, end)), first);
            }
        } else {
            prop_assert_eq!(scanner.frontier(), text.len() as u64);
        }
    }

    #[test]
    fn nothing_is_withheld_in_vain(set in sets(), text in text(8)) {
        let (rules, program) = (&set.rules, set.compiled.block());
        let mut scanner = BlockScanner::new(program, u64::MAX);
        for n in 1..=text.len() {
            scanner.feed(program, &text[n - 1..n]);
            let Some(&Thread { state, start }) = scanner.threads.list.first() else { continue };
            if scanner.stop().is_some() {
                break;
            }
            prop_assert_eq!(scanner.frontier(), start);
            let whole = [&text[..n], &witness(program.table(), state)].concat();
            let completes = |end| rules.iter().any(|r| is_match(&r.pattern, &whole, start as usize, end));
            prop_assert!((n..=whole.len()).any(completes), "{:?} at {start}", whole);
        }
    }

    #[test]
    fn chunks_make_no_difference(
        set in sets(), text in text(24), cuts in cuts(), cap in prop_oneof![Just(u64::MAX), 1..8u64],
    ) {
        let program = set.compiled.block();
        let (frontiers, mut by_bytes) = trace(program, &text, cap);
        let mut scanner = BlockScanner::new(program, cap);
        let mut n = 0;
        for chunk in chunks(&text, &cuts) {
            scanner.feed(program, chunk);
            n += chunk.len();
            prop_assert_eq!(scanner.frontier(), frontiers[n]);
            if scanner.stop().is_none() {
                prop_assert!(n as u64 - scanner.frontier() <= cap);
            }
        }
        scanner.finish(program);
        by_bytes.finish(program);
        prop_assert_eq!(scanner.stop(), by_bytes.stop());
        prop_assert_eq!(scanner.frontier(), by_bytes.frontier());

        // A scanner that is used again is as good as new.
        scanner.reset(program);
        scanner.feed(program, &text);
        scanner.finish(program);
        prop_assert_eq!(scanner.stop(), by_bytes.stop());
    }

    #[test]
    fn every_rule_that_matches_is_counted(set in sets(), text in text(10), cuts in cuts()) {
        let (rules, program) = (&set.rules, set.compiled.block());
        let mut scanner = CountScanner::new(program);
        for chunk in chunks(&text, &cuts) {
            scanner.feed(program, chunk);
        }
        scanner.finish(program);
        let matches = all_matches(rules, &text);
        for (rule, &count) in scanner.counts().iter().enumerate() {
            // The most disjoint matches: always take the one that ends first.
            let mut mine: Vec<_> = matches.iter().filter(|m| m.0 == rule).collect();
            mine.sort_by_key(|m| m.2);
            let (mut most, mut end) = (0, 0);
            for m in mine {
                if m.1 >= end {
                    (most, end) = (most + 1, m.2);
                }
            }
            prop_assert!(count <= most && (count > 0) == (most > 0), "{count} of {most}");
        }
    }
}

#[test]
fn a_match_is_known_at_its_last_byte() {
    let program = program(&["(?i-u:javascript:)"]);
    let mut scanner = BlockScanner::new(&program, 100);
    scanner.feed(&program, b"see JavaScript");
    assert_eq!((scanner.frontier(), scanner.hit()), (4, None));
    scanner.feed(&program, b":");
    assert_eq!(scanner.hit(), Some(Hit { rule: 0, start: 4, end: 15 }));
    scanner.feed(&program, b" and more");
    assert_eq!(scanner.frontier(), 4);
}

#[test]
fn a_look_ahead_waits_for_one_byte_or_the_end() {
    let program = program(&[r"(?-u:\bon\b)"]);
    let mut scanner = BlockScanner::new(&program, 100);
    scanner.feed(&program, b"go on");
    assert_eq!((scanner.frontier(), scanner.hit()), (3, None));
    scanner.feed(&program, b"e");
    assert_eq!((scanner.frontier(), scanner.hit()), (6, None));
    scanner.feed(&program, b" on");
    scanner.finish(&program);
    assert_eq!(scanner.hit(), Some(Hit { rule: 0, start: 7, end: 9 }));
}

#[test]
fn the_cap_stops_an_endless_candidate() {
    let program = program(&["<script.*</script>"]);
    let mut scanner = BlockScanner::new(&program, 10);
    scanner.feed(&program, b"0123 <script>12");
    assert_eq!((scanner.frontier(), scanner.stop()), (5, None));
    scanner.feed(&program, b"345");
    assert_eq!((scanner.frontier(), scanner.stop()), (5, Some(Stop::Cap)));
    scanner.feed(&program, b"</script>");
    scanner.finish(&program);
    assert_eq!((scanner.frontier(), scanner.stop(), scanner.hit()), (5, Some(Stop::Cap), None));
}

#[test]
fn counting_goes_on_over_texts() {
    let program = program(&["ab", "b"]);
    let mut scanner = CountScanner::new(&program);
    scanner.feed(&program, b"abab a");
    scanner.finish(&program);
    scanner.next_text(&program);
    scanner.feed(&program, b"b");
    scanner.finish(&program);
    assert_eq!(scanner.counts(), [2, 3]);
}

#[test]
fn unicode_classes_match_utf8_text() {
    let program = program(&[r"(?i)project\s+bluebird", r"\p{Greek}{3}"]);
    let hit = |text: &str| {
        let mut scanner = BlockScanner::new(&program, 100);
        text.bytes().for_each(|byte| scanner.feed(&program, &[byte]));
        scanner.finish(&program);
        scanner.hit().map(|hit| hit.rule)
    };
    assert_eq!(hit("the PROJECT\u{a0}\u{2003}BlueBird"), Some(0));
    assert_eq!(hit("projects bluebird"), None);
    assert_eq!(hit("αβγ"), Some(1));
    assert_eq!(hit("αβ"), None);
}

/// Steps for a text of `k` repeats of `unit`, after `prefix`.
fn steps(program: &Program, prefix: &str, unit: &str, k: usize) -> u64 {
    let mut scanner = CountScanner::new(program);
    scanner.feed(program, prefix.as_bytes());
    scanner.feed(program, unit.repeat(k).as_bytes());
    scanner.threads.steps
}

#[test]
fn work_grows_with_the_text_and_no_faster() {
    let rules = crate::scan::presets::preset("seed").unwrap();
    let program = Program::compile(&rules).unwrap();
    for (prefix, unit) in [("", "<script"), ("", "on"), ("<script>", "onx="), ("", "<script>")] {
        let (one, two) = (steps(&program, prefix, unit, 2000), steps(&program, prefix, unit, 4000));
        assert!(two <= 2 * one + 100, "{unit}: {one}, then {two}");
        // A few threads at most are alive at once.
        assert!(two <= 8 * 4000 * unit.len() as u64, "{unit}: {two}");
    }
    assert_eq!(steps(&program, "", "quiet ", 1000), 0);
}
