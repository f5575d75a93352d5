use proptest::prelude::*;

use super::*;
use crate::scan::testing::config;

proptest! {
    #![proptest_config(config(10_000))]

    #[test]
    fn lengths_are_those_of_utf16(text in any::<String>()) {
        prop_assert_eq!(utf16_len(text.as_bytes()), text.encode_utf16().count() as u64);
    }
}

#[test]
fn long_texts_do_not_overflow() {
    assert_eq!(utf16_len("😀".repeat(25_000).as_bytes()), 50_000);
    assert_eq!(utf16_len(&[0xFF; 1000]), 2000);
    // A lone surrogate as the lexer writes it.
    assert_eq!(utf16_len(b"\xED\xA0\xBD"), 1);
}
