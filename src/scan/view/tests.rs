//! Every view against a reading of the whole text that is written without it.

mod bodies;
pub mod whole;

use std::ops::Range;

use proptest::{prelude::*, sample::select, sample::subsequence};
use unicode_normalization::UnicodeNormalization;

use whole::{Whole, whole};

use super::*;
use crate::scan::{
    Rule, RuleSet,
    block::{Hit, Stop},
    guard::GuardedScanner,
    testing::{all_matches, chunks, config, cuts, rules, union},
};

/// Texts full of candidates, in all the ways that they can be written.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let pieces: Vec<&'static [u8]> = vec![
        b"a",
        b"a",
        b"b",
        b"b",
        b"c",
        b"c",
        b" ",
        b"\n",
        b"abc",
        b"A",
        b"\\u0061",
        b"\\u0062",
        b"\\u0063",
        b"\\n",
        b"\\\\",
        b"\\",
        b"u",
        b"\\u",
        b"\\u00",
        b"\\ud83d",
        b"\\ude00",
        b"\\uD83D\\uDE00",
        b"%61",
        b"%62",
        b"%63",
        b"%",
        b"%6",
        b"%u0061",
        b"%u",
        b"%c3%a9",
        b"%uD83D",
        b"&#97;",
        b"&#x62",
        b"&#0000000000000000000000000000000000099;",
        b"&",
        b"#",
        b"&#",
        b"&#x",
        b";",
        b"&amp;",
        b"&lt",
        b"&ltimes;",
        b"l",
        b"&fjlig;",
        b"&#128;",
        b"&#99999999999;",
        b"0",
        b"6",
        b"1",
        "é".as_bytes(),
        "e\u{301}".as_bytes(),
        "\u{301}".as_bytes(),
        "\u{200b}".as_bytes(),
        "\u{ad}".as_bytes(),
        "\u{e0061}".as_bytes(),
        "ａ".as_bytes(),
        "Ｂ".as_bytes(),
        "ﬀ".as_bytes(),
        "ß".as_bytes(),
        "\u{ff76}\u{ff9e}".as_bytes(),
        b"\xC3",
        b"\xA9",
        b"\xE2\x80",
        b"\xF0",
        b"\t",
    ];
    proptest::collection::vec(select(pieces), 0..9).prop_map(|pieces| pieces.concat())
}

/// A view, and rules of which some use it.
fn viewed_rules() -> impl Strategy<Value = (View, Vec<Rule>)> {
    let view = select(View::NAMES.map(|(_, view)| view).to_vec());
    (view, rules(), subsequence(vec![0, 1, 2, 3], 1..=4)).prop_map(|(view, rules, through)| {
        let one = |(i, rule): (usize, Rule)| if through.contains(&i) { rule.also_through([view]) } else { rule };
        (view, rules.into_iter().enumerate().map(one).collect())
    })
}

/// The rules that use a view at all.
fn through(rules: &[Rule]) -> Vec<Rule> {
    rules.iter().filter(|rule| !rule.views.is_empty()).cloned().collect()
}

/// Every match of every reading, as ranges of the text.
fn everywhere(view: View, rules: &[Rule], text: &[u8]) -> Vec<Range<usize>> {
    let whole = whole(view, text);
    let raw = all_matches(rules, text).into_iter().map(|(_, start, end)| start..end);
    let seen = all_matches(&through(rules), &whole.text).into_iter().map(|(_, start, end)| whole.mapped(start..end));
    raw.chain(seen).collect()
}

/// What `replace_all` replaces in each reading, joined.
fn replaced(view: View, rules: &[Rule], text: &[u8]) -> Vec<Range<usize>> {
    let whole = whole(view, text);
    let mut all: Vec<Range<usize>> = union(rules).find_iter(text).map(|found| found.range()).collect();
    let through = through(rules);
    if !through.is_empty() {
        all.extend(union(&through).find_iter(&whole.text).map(|found| whole.mapped(found.range())));
    }
    all.sort_by_key(|range| range.start);
    let mut joined: Vec<Range<usize>> = Vec::new();
    for range in all {
        match joined.last_mut() {
            Some(last) if range.start < last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

/// The text with `marker` in place of the cuts.
fn cut(text: &[u8], cuts: &[Range<usize>], marker: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    for cut in cuts {
        out.extend_from_slice(&text[at..cut.start]);
        out.extend_from_slice(marker);
        at = cut.end;
    }
    out.extend_from_slice(&text[at..]);
    out
}

fn range(hit: Hit) -> Range<usize> {
    hit.start as usize..hit.end as usize
}

proptest! {
    #![proptest_config(config(1000))]

    #[test]
    fn a_view_in_chunks_is_that_of_the_whole(
        text in text(), cuts in cuts(), view in select(View::NAMES.map(|(_, view)| view).to_vec()),
    ) {
        let mut units = Whole::default();
        let mut read = 0;
        let mut add = |unit: transducer::Unit<'_>| {
            let raw = unit.raw as usize;
            read += raw;
            units.unit(unit.text, &text[read - raw..read], read);
            // Said to stand byte for byte is what does, and one byte for another.
            assert_eq!(unit.linear, unit.text == &text[read - raw..read] || (raw, unit.text.len()) == (1, 1));
        };
        let mut transducer = Transducer::new(view);
        for chunk in chunks(&text, &cuts) {
            transducer.feed(chunk, &mut add);
        }
        transducer.finish(&mut add);
        prop_assert_eq!(read, text.len());
        let expected = whole(view, &text);
        prop_assert_eq!(&units.text, &expected.text);
        prop_assert_eq!(&units.origin, &expected.origin);
    }

    #[test]
    fn no_byte_of_a_match_in_any_reading_leaves((view, rules) in viewed_rules(), text in text(), cuts in cuts()) {
        let matches = everywhere(view, &rules, &text);
        let set = RuleSet::compile(rules).unwrap();
        let mut bytewise = Blocker::new(set.to_block(), u64::MAX);
        let mut frontiers = vec![0];
        for byte in &text {
            bytewise.feed(set.to_block(), &[*byte]);
            frontiers.push(bytewise.frontier());
        }
        prop_assert!(frontiers.is_sorted());
        bytewise.finish(set.to_block());

        let mut scanner = Blocker::new(set.to_block(), u64::MAX);
        let mut read = 0;
        for chunk in chunks(&text, &cuts) {
            scanner.feed(set.to_block(), chunk);
            read += chunk.len();
            prop_assert_eq!(scanner.frontier(), frontiers[read]);
        }
        scanner.finish(set.to_block());
        prop_assert_eq!(scanner.stop(), bytewise.stop());
        prop_assert_eq!(scanner.frontier(), bytewise.frontier());
        prop_assert_eq!(scanner.hit().is_some(), !matches.is_empty());
        match matches.iter().map(|found| found.start).min() {
            None => prop_assert_eq!(scanner.frontier() as usize, text.len()),
            Some(first) => {
                prop_assert!(scanner.frontier() as usize <= first);
                prop_assert!(matches.contains(&range(scanner.hit().unwrap())));
            }
        }
        let mut untracked = Blocker::untracked(set.to_block());
        untracked.feed(set.to_block(), &text);
        untracked.finish(set.to_block());
        prop_assert_eq!(untracked.hit().is_some(), !matches.is_empty());
    }

    #[test]
    fn cuts_are_the_matches_of_all_readings((view, rules) in viewed_rules(), text in text(), cuts in cuts()) {
        let expected = replaced(view, &rules, &text);
        let set = RuleSet::compile(rules).unwrap();
        for cap in [None, Some(1 << 20)] {
            let mut scanner = Replacer::new(set.to_redact(), cap);
            let mut found = Vec::new();
            for chunk in chunks(&text, &cuts) {
                scanner.feed(set.to_redact(), chunk);
                found.extend(std::iter::from_fn(|| scanner.next_match()).map(range));
                let frontier = scanner.frontier() as usize;
                // All cuts below the frontier are known, and none crosses it.
                prop_assert_eq!(&found[..], &expected[..expected.partition_point(|cut| cut.start < frontier)]);
                prop_assert!(found.last().is_none_or(|cut| cut.end <= frontier));
            }
            scanner.finish(set.to_redact());
            found.extend(std::iter::from_fn(|| scanner.next_match()).map(range));
            prop_assert_eq!(&found, &expected);
            prop_assert_eq!(scanner.frontier() as usize, text.len());
            prop_assert_eq!(scanner.waiting(), 0);
        }
    }

    #[test]
    fn what_leaves_a_guard_matches_in_no_reading(
        (view, rules) in viewed_rules(), text in text(), cuts in cuts(),
        marker in select(vec!["", "#", "b", "[removed]", "61"]),
    ) {
        let output = cut(&text, &replaced(view, &rules, &text), marker.as_bytes());
        let reformed = everywhere(view, &rules, &output);
        let set = RuleSet::compile(rules).unwrap();
        let (redact, block) = (set.to_redact(), set.to_block());
        let mut scanner = GuardedScanner::new(redact, block, marker.as_bytes(), u64::MAX);
        let (mut out, mut at) = (Vec::new(), 0);
        let mut take = |scanner: &mut GuardedScanner, out: &mut Vec<u8>| {
            while let Some(hit) = scanner.next_match() {
                out.extend_from_slice(&text[at..hit.start as usize]);
                out.extend_from_slice(marker.as_bytes());
                at = hit.end as usize;
            }
            out.extend_from_slice(&text[at..scanner.frontier() as usize]);
            at = scanner.frontier() as usize;
        };
        for chunk in chunks(&text, &cuts) {
            scanner.feed(redact, block, chunk);
            take(&mut scanner, &mut out);
        }
        scanner.finish(redact, block);
        take(&mut scanner, &mut out);
        prop_assert!(output.starts_with(&out));
        prop_assert_eq!(scanner.stop().is_some(), !reformed.is_empty());
        match reformed.iter().map(|found| found.start).min() {
            None => prop_assert_eq!(&out, &output),
            Some(first) => prop_assert!(out.len() <= first),
        }
    }

    #[test]
    fn rules_are_counted_that_any_reading_finds((view, rules) in viewed_rules(), text in text(), cuts in cuts()) {
        let seen = whole(view, &text);
        let set = RuleSet::compile(rules.clone()).unwrap();
        let mut counter = Counter::new(set.to_block());
        for chunk in chunks(&text, &cuts) {
            counter.feed(set.to_block(), chunk);
        }
        counter.finish(set.to_block());
        for (rule, count) in rules.iter().zip(counter.counts()) {
            let regex = union(std::slice::from_ref(rule));
            let found = regex.is_match(&text) || (!rule.views.is_empty() && regex.is_match(&seen.text));
            prop_assert_eq!(*count > 0, found);
        }
    }
}

/// Whether a text is found through a view.
fn finds(view: View, pattern: &str, text: &str) -> bool {
    let set = RuleSet::compile(vec![Rule::new("r", pattern).also_through([view])]).unwrap();
    let mut scanner = Blocker::untracked(set.to_block());
    scanner.feed(set.to_block(), text.as_bytes());
    scanner.finish(set.to_block());
    scanner.hit().is_some()
}

#[test]
fn what_each_view_is_for() {
    for (view, found, passes) in [
        (View::JsonUnescape, r#"{"html": "\u003cscript>"}"#, r"\\u003cscript>"),
        (View::HtmlEntity, "&lt;script>", "&amp;lt;script>"),
        (View::HtmlEntity, "&LTscript&gt", "&ltrie;script>"),
        (View::HtmlEntity, "&#x0000000000000000000000000000000000000000000000000000003c;script>", "&#x3csscript>"),
        (View::HtmlEntity, "<&#115cript>", "<&#1150cript>"),
        (View::Percent, "%3Cscript%3e", "%253Cscript%253e"),
        (View::Percent, "%u003Cscript>", "%u03Cscript>"),
        (View::Strip, "<scr\u{200b}ipt\u{ad}>", "<scr.ipt>"),
        (View::Strip, "<s\tc\nr\ri\0pt>", "<s cript>"),
        (View::Fold, "＜ſcriPT＞", "＜ſcrípt＞"),
        (View::Fold, "<ⓢcript>", "<şcript>"),
    ] {
        assert!(finds(view, "<script>", found), "{view}: {found}");
        assert!(!finds(view, "<script>", passes), "{view}: {passes}");
    }
    assert!(finds(View::Fold, "kelvin", "\u{212a}elvin"));
    assert!(finds(View::Fold, "straße|strasse", "STRAẞE"));
    assert!(finds(View::Fold, "é", "e\u{301}"));
}

#[test]
fn the_text_as_it_is_is_always_read() {
    for (_, view) in View::NAMES {
        assert!(finds(view, "A\\\\u0062", "A\\u0062"), "{view}");
        assert!(finds(view, "A&#98;", "A&#98;"), "{view}");
        assert!(finds(view, "%61\u{200b}", "%61\u{200b}"), "{view}");
    }
}

#[test]
fn units_without_end_are_not_kept_and_reach_the_cap() {
    for (view, start, unit) in
        [(View::HtmlEntity, "a&#", "0"), (View::Strip, "a", "\u{200b}"), (View::Fold, "a", "\u{301}")]
    {
        let set = RuleSet::compile(vec![Rule::new("r", "a+é*<").also_through([view])]).unwrap();
        let mut blocker = Blocker::new(set.to_block(), 1000);
        let mut replacer = Replacer::new(set.to_redact(), Some(1000));
        for piece in [start].into_iter().chain(std::iter::repeat_n(unit, 2000)) {
            blocker.feed(set.to_block(), piece.as_bytes());
            replacer.feed(set.to_redact(), piece.as_bytes());
            assert!(blocker.memory() < 10_000 && replacer.memory() < 10_000);
        }
        match view {
            // A run of marks is cut where it is too long for any language, and what follows is no candidate.
            View::Fold => assert_eq!((blocker.stop(), replacer.capped()), (None, false)),
            _ => {
                assert_eq!((blocker.stop(), blocker.frontier()), (Some(Stop::Cap), 0), "{view}");
                assert_eq!((replacer.capped(), replacer.frontier()), (true, 0), "{view}");
            }
        }
    }
}

#[test]
fn names_are_those_of_the_display() {
    for (name, view) in View::NAMES {
        assert_eq!(view.to_string(), name);
    }
}

#[test]
fn no_other_ascii_comes_of_a_letter_and_its_marks() {
    // What the fold lets go early rests on this, for each character that combining with an ASCII one can make.
    for composed in (0x80..=0x10FFFF).filter_map(char::from_u32) {
        let parts: String = composed.to_string().nfd().collect();
        let Some(base) = parts.chars().next().filter(char::is_ascii) else { continue };
        let mut folded = Vec::new();
        fold::unit(parts.as_bytes(), true, &mut folded);
        let other = |byte: &u8| byte.is_ascii() && *byte != base.to_ascii_lowercase() as u8;
        assert!(parts.chars().count() == 1 || !folded.iter().any(other), "{composed:?}");
    }
    // Nor is there any in what marks become alone.
    for mark in (0x80..=0x10FFFF).filter_map(char::from_u32).filter(|&mark| !fold::is_boundary(mark)) {
        let mut folded = Vec::new();
        fold::unit(mark.to_string().as_bytes(), true, &mut folded);
        assert!(!folded.iter().any(u8::is_ascii), "{mark:?}");
    }
}

#[test]
fn a_fold_withholds_no_letter_that_opens_nothing() {
    let frontier = |pattern: &str, text: &str| {
        let set = RuleSet::compile(vec![Rule::new("r", pattern).also_through([View::Fold])]).unwrap();
        let mut scanner = Blocker::new(set.to_block(), 1000);
        scanner.feed(set.to_block(), text.as_bytes());
        scanner.frontier() as usize
    };
    assert_eq!(frontier("bird", "some text"), 9);
    assert_eq!(frontier("bird", "some TEXT"), 9);
    assert_eq!(frontier("bird", "some grab"), 8);
    assert_eq!(frontier("bird", "some GRAB"), 8);
    assert_eq!(frontier("é", "some text"), 8, "the last letter may still become one");
}
