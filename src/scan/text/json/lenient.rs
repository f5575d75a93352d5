//! JSON escapes, decoded wherever they stand.
//!
//! For bodies that are no JSON to us and may be to a reader with other rules (several documents, `NaN`, comments):
//! what such a reader would find in the strings is scanned, without guessing where its strings are.

use memchr::memchr;

/// The bytes with every escape of RFC 8259 §7 decoded; everything else as it was. A lone surrogate becomes U+FFFD.
pub fn unescaped(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
        let (decoded, taken) = escape(rest);
        let mut buffer = [0; 4];
        out.extend_from_slice(decoded.encode_utf8(&mut buffer).as_bytes());
        rest = &rest[taken..];
    }
    out.extend_from_slice(rest);
    out
}

/// What stands for the escape whose backslash was just read, and how many bytes of `rest` belong to it.
fn escape(rest: &[u8]) -> (char, usize) {
    let plain = |c| (c, 1);
    match rest.first() {
        Some(b'n') => plain('\n'),
        Some(b't') => plain('\t'),
        Some(b'r') => plain('\r'),
        Some(b'b') => plain('\u{8}'),
        Some(b'f') => plain('\u{c}'),
        Some(b'/') => plain('/'),
        Some(b'"') => plain('"'),
        Some(b'\\') => plain('\\'),
        Some(b'u') => match unit(&rest[1..]) {
            Some(high @ 0xD800..0xDC00) => pair(high, &rest[5..]),
            Some(unit) => (char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER), 5),
            None => ('\\', 0),
        },
        _ => ('\\', 0),
    }
}

fn pair(high: u32, rest: &[u8]) -> (char, usize) {
    let low = rest.strip_prefix(b"\\u").and_then(unit).filter(|low| (0xDC00..0xE000).contains(low));
    let both = low.and_then(|low| char::from_u32(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00)));
    both.map_or((char::REPLACEMENT_CHARACTER, 5), |both| (both, 11))
}

/// Four hexadecimal digits.
fn unit(digits: &[u8]) -> Option<u32> {
    digits.get(..4)?.iter().try_fold(0, |unit, digit| Some(unit * 16 + char::from(*digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::testing::config;
    use proptest::prelude::*;

    #[test]
    fn escapes_of_every_kind() {
        for (escaped, text) in [
            (r"\u003cscript\u003E", "<script>"),
            (r#"\/\"\\\n\t\r\b\f"#, "/\"\\\n\t\r\u{8}\u{c}"),
            (r"\ud83d\ude00", "\u{1F600}"),
            (r"\ud83dx\ude00", "\u{FFFD}x\u{FFFD}"),
            (r"\u12 \x \", r"\u12 \x \"),
            ("", ""),
        ] {
            assert_eq!(String::from_utf8(unescaped(escaped.as_bytes())).as_deref(), Ok(text), "{escaped}");
        }
    }

    proptest! {
        #![proptest_config(config(10_000))]

        #[test]
        fn strings_come_out_as_a_parser_reads_them(text in any::<String>()) {
            let written = serde_json::to_string(&text).expect("a string");
            let inner = &written.as_bytes()[1..written.len() - 1];
            prop_assert_eq!(String::from_utf8(unescaped(inner)), Ok(text));
        }

        #[test]
        fn any_bytes_are_fine(bytes in proptest::collection::vec(proptest::sample::select(b"\\u0dD8c9/x".to_vec()), 0..40)) {
            unescaped(&bytes);
        }
    }
}
