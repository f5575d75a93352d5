use proptest::prelude::*;
use regex::bytes::NoExpand;

use super::*;
use crate::scan::{
    program::Program,
    rule::Rule,
    testing::{chunks, config, cuts, for_redaction, sets, text},
};

/// The output that may leave: `text` up to the frontier with its matches replaced.
struct Out<'a> {
    text: &'a [u8],
    marker: &'a [u8],
    at: usize,
    bytes: Vec<u8>,
}

impl Out<'_> {
    fn take(&mut self, scanner: &mut GuardedScanner) {
        while let Some(hit) = scanner.next_match() {
            self.bytes.extend_from_slice(&self.text[self.at..hit.start as usize]);
            self.bytes.extend_from_slice(self.marker);
            self.at = hit.end as usize;
        }
        let frontier = scanner.frontier() as usize;
        self.bytes.extend_from_slice(&self.text[self.at..frontier]);
        self.at = frontier;
    }
}

proptest! {
    #![proptest_config(config(100_000))]

    #[test]
    fn no_match_leaves_in_the_output(
        set in sets(), text in text(16), cuts in cuts(),
        marker in proptest::sample::select(vec!["", "#", "X", "[removed]", "Z Q"]),
    ) {
        let (redact, block) = (set.compiled.redact(), set.compiled.block());
        let replaced = set.union.replace_all(&text, NoExpand(marker.as_bytes()));

        let mut scanner = GuardedScanner::new(redact.into(), block.into(), marker.as_bytes(), u64::MAX);
        let mut out = Out { text: &text, marker: marker.as_bytes(), at: 0, bytes: Vec::new() };
        for chunk in chunks(&text, &cuts) {
            scanner.feed(redact.into(), block.into(), chunk);
            out.take(&mut scanner);
            prop_assert!(replaced.starts_with(&out.bytes));
        }
        scanner.finish(redact.into(), block.into());
        out.take(&mut scanner);
        prop_assert!(replaced.starts_with(&out.bytes));

        let reformed = set.union.find(&replaced);
        prop_assert_eq!(scanner.stop().is_some(), reformed.is_some());
        match reformed {
            None => prop_assert_eq!(&out.bytes[..], &replaced[..]),
            Some(first) => prop_assert!(out.bytes.len() <= first.start()),
        }
    }

    #[test]
    fn chunks_make_no_difference(set in sets(), text in text(16), cuts in cuts(), cap in 1..12u64) {
        let (redact, block) = (set.compiled.redact(), set.compiled.block());
        let mut scanner = GuardedScanner::new(redact.into(), block.into(), b"#", cap);
        let mut by_bytes = GuardedScanner::new(redact.into(), block.into(), b"#", cap);
        for chunk in chunks(&text, &cuts) {
            scanner.feed(redact.into(), block.into(), chunk);
            chunk.iter().for_each(|&byte| by_bytes.feed(redact.into(), block.into(), &[byte]));
            prop_assert_eq!(scanner.frontier(), by_bytes.frontier());
            prop_assert_eq!(scanner.stop(), by_bytes.stop());
        }
    }
}

#[test]
fn a_match_that_forms_anew_stops_the_scanner() {
    let rules = [Rule::new("r", "(?i-u:javascript:)")];
    let (redact, block) = (for_redaction(&rules), Program::compile(&rules).unwrap());
    let mut scanner = GuardedScanner::new((&redact).into(), (&block).into(), b"", 99);
    scanner.feed((&redact).into(), (&block).into(), b"go javajavascript:scri");
    assert_eq!((scanner.frontier(), scanner.stop()), (3, None));
    scanner.feed((&redact).into(), (&block).into(), b"pt:alert(1)");
    scanner.finish((&redact).into(), (&block).into());
    assert_eq!(scanner.frontier(), 3);
    assert_eq!(scanner.stop(), Some(Stop::Hit(Hit { rule: 0, start: 3, end: 14 })));
}
