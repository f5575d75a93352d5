use std::collections::HashMap;

use proptest::prelude::*;

use super::super::random::testing::{Cycle, Empty, Seeded};
use super::*;

/// Computed by an independent implementation (Python's `zlib.crc32`); the last has a checksum with leading zeros.
const KNOWN: [(&str, &str); 3] = [
    ("kw_live", "kw_live_0123456789ABCDEFGHIJKLMNOPQRST19V1x7"),
    ("kw_test_a", "kw_test_a_0123456789ABCDEFGHIJKLMNOPQRST0x5Ugc"),
    ("kw_live", "kw_live_00000000000000000000000000016200K64D"),
];

fn prefix(text: &str) -> KeyPrefix {
    KeyPrefix::new(text).expect("a good prefix")
}

fn key(prefix_text: &str, seed: u64) -> KeySecret {
    KeySecret::generate(&prefix(prefix_text), &mut Seeded(seed)).expect("a working source")
}

#[test]
fn keys_are_hidden_wherever_they_stand() {
    let key = KNOWN[1].1;
    for (text, expected) in [
        (format!("/{key}"), "/[key]"),
        (format!("/a_b/{key}/{key}?_{}", KNOWN[0].1), "/a_b/[key]/[key]?_[key]"),
        (format!("é_{key}é"), "é_[key]é"),
        (format!("/{}", &key[1..]), &format!("/{}", &key[1..])),
        (key[..key.len() - 1].to_owned(), &key[..key.len() - 1]),
        (String::new(), ""),
    ] {
        assert_eq!(hide_keys(text), expected);
    }
}

#[test]
fn known_keys_are_valid_and_made_from_known_bytes() {
    for (_, text) in KNOWN {
        assert!(looks_valid(text), "{text}");
    }
    let made = KeySecret::generate(&prefix("kw_live"), &mut Cycle((0..30).collect(), 0)).expect("a working source");
    assert_eq!(made.expose(), KNOWN[0].1);
    assert_eq!(made.suffix(), "V1x7");
    assert_eq!(hint("kw_live", made.suffix()), "kw_live…V1x7");
}

#[test]
fn every_single_character_change_is_detected() {
    for (_, text) in KNOWN {
        for at in 0..text.len() {
            for byte in (0x20..0x7f).filter(|&byte| byte != text.as_bytes()[at]) {
                let mut changed = text.as_bytes().to_vec();
                changed[at] = byte;
                let changed = String::from_utf8(changed).expect("ASCII");
                assert!(!looks_valid(&changed), "{changed}");
            }
        }
    }
}

#[test]
fn every_transposition_is_detected() {
    for (_, text) in KNOWN {
        for left in 0..text.len() {
            for right in left + 1..text.len() {
                let mut changed = text.as_bytes().to_vec();
                changed.swap(left, right);
                let changed = String::from_utf8(changed).expect("ASCII");
                assert_eq!(looks_valid(&changed), changed == text, "{changed}");
            }
        }
    }
}

#[test]
fn other_shapes_are_refused() {
    let good = KNOWN[0].1;
    let crc_of = |body: &str| String::from_utf8(checksum(body.as_bytes()).to_vec()).expect("ASCII");
    // Right checksums over wrong shapes: the shape is checked by itself.
    let short = "kw_live_0123456789ABCDEFGHIJKLMNOPQRS";
    let long = "kw_live_0123456789ABCDEFGHIJKLMNOPQRSTU";
    let symbol = "kw_live_0123456789ABCDEFGHIJKLMNOPQRS-";
    let wide = "kw_live_0123456789ABCDEFGHIJKLMNOPQRé";
    let mut bad: Vec<String> = [short, long, symbol, wide].map(|body| format!("{body}{}", crc_of(body))).into();
    bad.extend(["", "_", "kw_live", "kw_live_", "é"].map(String::from));
    bad.extend([format!(" {good}"), format!("{good} "), format!("{good}\n"), good.replace("kw_live_", "kw_live")]);
    for text in bad {
        assert!(!looks_valid(&text), "{text}");
    }
    // The checksum covers the prefix, which cannot be told to be another's.
    assert!(!looks_valid(&good.replace("kw_live", "kw_test")));
    assert!(prefix("kw_live").begins(good) && !prefix("kw_test").begins(good) && !prefix("kw_liv").begins(good));
}

#[test]
fn sampling_has_no_bias() {
    // Exact, not statistical: of the 256 values of a byte, four give each character and eight are drawn again.
    const MARKER: u8 = 7;
    let mut seen: HashMap<char, usize> = HashMap::new();
    for byte in 0..=255_u8 {
        let mut drawn = String::new();
        push_base62(&mut drawn, 1, &mut Cycle(vec![byte, MARKER], 0)).expect("the marker is accepted");
        *seen.entry(drawn.chars().next().expect("one character")).or_default() += 1;
    }
    for symbol in BASE62.map(char::from) {
        let redrawn = if symbol == char::from(BASE62[usize::from(MARKER)]) { 8 } else { 0 };
        assert_eq!(seen.get(&symbol), Some(&(4 + redrawn)), "{symbol}");
    }
}

#[test]
fn every_random_character_takes_a_byte_of_its_own() {
    let made = KeySecret::generate(&prefix("kw"), &mut Cycle((100..160).collect(), 0)).expect("a working source");
    let expected: String = (100..130).map(|byte: usize| char::from(BASE62[byte % 62])).collect();
    assert_eq!(made.expose()[3..33], expected);
}

#[test]
fn a_broken_source_makes_no_key() {
    let made = KeySecret::generate(&prefix("kw"), &mut Cycle(vec![255], 0));
    assert_eq!(made.expect_err("nothing usable was drawn"), RandomError::Stuck);
    assert!(matches!(KeySecret::generate(&prefix("kw"), &mut Empty), Err(RandomError::Unavailable(_))));
}

#[test]
fn a_secret_is_not_shown() {
    let secret = key("kw_live", 1);
    assert_eq!(format!("{secret:?} {secret:#?}"), "KeySecret(…) KeySecret(…)");
}

#[test]
fn prefixes_are_checked() {
    for good in ["k", "kw_live", "_", "a__b_", "0", &"x".repeat(32)] {
        assert_eq!(KeyPrefix::new(good).map(|prefix| prefix.to_string()).as_deref(), Ok(good));
    }
    for bad in ["", "Kw", "kw-live", "kw live", "ké", "kw\n", &"x".repeat(33)] {
        assert_eq!(bad.parse::<KeyPrefix>(), Err(InvalidPrefix), "{bad:?}");
    }
    assert_eq!(KeyPrefix::new("kw_live"), Ok(KeyPrefix::default()));
}

proptest! {
    #[test]
    fn what_is_made_looks_valid(start in "[a-z0-9_]{1,32}", seed: u64) {
        let secret = key(&start, seed);
        prop_assert!(looks_valid(secret.expose()));
        prop_assert_eq!(secret.expose().len(), start.len() + 37);
        prop_assert_eq!(secret.expose().len(), secret.0.capacity());
    }

    #[test]
    fn any_edit_of_a_character_is_detected(seed: u64, at in 0_usize..44, to in any::<char>()) {
        let text = key("kw_live", seed).expose().to_owned();
        let changed: String = text.chars().enumerate().map(|(place, from)| if place == at { to } else { from }).collect();
        prop_assert_eq!(looks_valid(&changed), changed == text);
    }

    #[test]
    fn neighbors_swapped_are_detected(seed: u64, at in 0_usize..43) {
        let text = key("kw_live", seed).expose().to_owned();
        let mut changed = text.clone().into_bytes();
        changed.swap(at, at + 1);
        let changed = String::from_utf8(changed).expect("ASCII");
        prop_assert_eq!(looks_valid(&changed), changed == text);
    }

    #[test]
    fn any_text_is_survived(text in any::<String>(), start in "[a-z0-9_]{1,8}") {
        looks_valid(&text);
        let behind = format!("{start}_{text}");
        prop_assert!(!looks_valid(&behind));
    }
}
