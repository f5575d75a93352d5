//! Documents that are only observed.

use bytes::Bytes;

use super::*;
use crate::scan::testing::{config, sets, text};
use crate::scan::{TextFormat, inspect};

fn watched(rules: &StreamRules, document: &str, size: usize) -> StreamScanner {
    let mut scanner = StreamScanner::new(rules.clone(), StreamFormat::Document, None);
    for chunk in document.as_bytes().chunks(size) {
        let mut out = Vec::new();
        scanner.feed(chunk, &mut out);
        assert_eq!(out, chunk, "nothing waits");
        assert_eq!(scanner.held(), 0);
    }
    let mut out = Vec::new();
    scanner.finish(&mut out);
    assert!(out.is_empty());
    scanner
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn a_watched_document_is_found_in_what_a_held_one_is(texts in vec(text(12), 0..6), set in sets(), size in 1..9usize) {
        let strings: Vec<_> = texts.iter().map(|text| String::from_utf8_lossy(text)).collect();
        let document = serde_json::json!({"a": strings, "abc": {"b": strings.first()}}).to_string();
        let rules = set.asked(Action::Observe);
        let held = inspect(&Bytes::from(document.clone()), TextFormat::Json, &rules.inspection());
        let scanner = watched(&rules, &document, size);
        prop_assert_eq!(scanner.hits(), held.hits);
        prop_assert_eq!((scanner.chars(), scanner.stop()), (held.chars, None));
    }
}

#[test]
fn what_is_no_json_passes_and_is_counted_from_there() {
    let scanner = watched(&html(Action::Observe), "{\"a\": nope}", 4);
    assert!(matches!(scanner.stop(), Some(StreamStop::Unscannable(_))));
    // The chunk that shows it, and what follows.
    assert_eq!(scanner.unread().unscannable, 7);
    assert_eq!(watched(&html(Action::Observe), "{\"a\": ", 4).unread().unscannable, 0);
}
