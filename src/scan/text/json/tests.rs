use proptest::{prelude::*, sample::select};
use serde_json::Value;

use super::*;
use crate::scan::testing::{chunks, config, cuts};

/// What a sink was told, put together again.
#[derive(Debug, Default, PartialEq)]
struct Heard {
    tokens: Vec<Token>,
    open: Vec<Container>,
    /// Opened containers, closed ones, scalars.
    counts: (usize, usize, usize),
}

#[derive(Debug, PartialEq)]
struct Token {
    role: Role,
    start: u64,
    end: u64,
    text: Vec<u8>,
    /// One entry per decoded character, so that it does not depend on chunks: its offset
    /// in the text and its raw range.
    places: Vec<(u64, u64, u64)>,
}

impl Sink for Heard {
    fn open(&mut self, container: Container) {
        self.open.push(container);
        self.counts.0 += 1;
    }

    fn close(&mut self) {
        self.open.pop().expect("only what is open is closed");
        self.counts.1 += 1;
    }

    fn scalar(&mut self, _: u64) {
        self.counts.2 += 1;
    }

    fn begin(&mut self, role: Role, raw: u64) {
        self.tokens.push(Token { role, start: raw, end: 0, text: Vec::new(), places: Vec::new() });
    }

    fn run(&mut self, run: Run<'_>) {
        let token = self.tokens.last_mut().unwrap();
        assert!(!run.text.is_empty());
        assert_eq!(run.at, token.text.len() as u64, "runs of text follow each other");
        assert_eq!(run.raw, token.places.last().map_or(token.start + 1, |p| p.2), "and their raw bytes");
        if run.text.len() as u32 == run.raw_len {
            for (i, character) in std::str::from_utf8(run.text).unwrap().char_indices() {
                let (i, len) = (i as u64, character.len_utf8() as u64);
                token.places.push((run.at + i, run.raw + i, run.raw + i + len));
            }
        } else {
            token.places.push((run.at, run.raw, run.raw + u64::from(run.raw_len)));
        }
        token.text.extend_from_slice(run.text);
    }

    fn end(&mut self, raw: u64) {
        let token = self.tokens.last_mut().unwrap();
        assert_eq!(raw, token.places.last().map_or(token.start + 1, |p| p.2), "the last run ends the string");
        token.end = raw;
    }
}

fn lex(document: &[u8], cuts: &[usize]) -> (Heard, Result<(), JsonError>) {
    let mut heard = Heard::default();
    let mut lexer = Lexer::new();
    for chunk in chunks(document, cuts) {
        let result = lexer.feed(chunk, &mut heard);
        if result.is_err() {
            assert_eq!(lexer.feed(b" ", &mut heard), result, "an error stays");
            assert_eq!(lexer.finish(), result);
            return (heard, result);
        }
    }
    let result = lexer.finish();
    (heard, result)
}

fn whole(document: &[u8]) -> (Heard, Result<(), JsonError>) {
    lex(document, &[usize::MAX])
}

fn strings(value: &Value, into: &mut Vec<(Role, String)>) {
    match value {
        Value::String(text) => into.push((Role::Value, text.clone())),
        Value::Array(items) => items.iter().for_each(|item| strings(item, into)),
        Value::Object(members) => members.iter().for_each(|(key, value)| {
            into.push((Role::Key, key.clone()));
            strings(value, into);
        }),
        _ => {}
    }
}

/// A string token: characters written plainly or as escapes, and what it means.
fn token() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => select(vec!["a", "k=v", "é", "€", "😀", " ", "long plain text, more than a word or two of it"]),
        2 => select(vec![r"\n", r#"\""#, r"\\", r"\/", r"\b", r"\f", r"\r", r"\t"]),
        1 => select(vec![r"\u0041", r"\u00e9", r"\u20AC", r"\uD83D\uDE00", r"\u0000", r"\uFFFF", "\u{7f}"]),
    ];
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

/// A valid document.
fn document() -> impl Strategy<Value = String> {
    let space = || select(vec!["", "", " ", "\n\t", "\r\n  "]);
    let scalar = select(vec!["0", "-1", "12.50", "1e3", "-0.1E-2", "true", "false", "null", "7e+0"]);
    let leaf = prop_oneof![token(), scalar.prop_map(String::from)];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        let item = (space(), inner.clone(), space()).prop_map(|(a, v, b)| format!("{a}{v}{b}"));
        let member =
            (space(), token(), space(), inner, space()).prop_map(|(a, key, b, v, c)| format!("{a}{key}{b}:{c}{v}"));
        prop_oneof![
            proptest::collection::vec(item, 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            proptest::collection::vec(member, 0..4).prop_map(|items| format!("{{{}}}", items.join(","))),
        ]
    })
}

proptest! {
    #![proptest_config(config(100_000))]

    #[test]
    fn strings_are_those_that_serde_reads(document in document(), cuts in cuts()) {
        let (heard, result) = lex(document.as_bytes(), &cuts);
        prop_assert_eq!(result, Ok(()));
        prop_assert!(heard.open.is_empty() && heard.counts.0 == heard.counts.1);
        prop_assert_eq!(&heard, &whole(document.as_bytes()).0);

        for token in &heard.tokens {
            // The raw bytes of the token are a JSON string that means its text.
            let raw = &document[token.start as usize..=token.end as usize];
            let text = serde_json::from_str::<String>(raw).unwrap();
            prop_assert_eq!(text.as_bytes(), &token.text[..]);
            // And so is each character's part of them.
            for (i, &(at, from, to)) in token.places.iter().enumerate() {
                let next = token.places.get(i + 1).map_or(token.text.len(), |p| p.0 as usize);
                let raw = format!("\"{}\"", &document[from as usize..to as usize]);
                let text = serde_json::from_str::<String>(&raw).unwrap();
                prop_assert_eq!(text.as_bytes(), &token.text[at as usize..next]);
            }
        }
        // serde_json sorts members and drops repeated keys, so compare as sets.
        let mut expected = Vec::new();
        strings(&serde_json::from_str(&document).unwrap(), &mut expected);
        for (role, text) in expected {
            let is = |token: &Token| token.role == role && token.text == text.as_bytes();
            prop_assert!(heard.tokens.iter().any(is), "{text:?} is missing");
        }
    }

    #[test]
    fn documents_are_accepted_as_serde_accepts_them(
        document in document(),
        edits in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>(), 0..3u8), 1..3),
        likely in select(b"\"\\,:[]{}0-.eE+utn \x1f\x80\xC3\xED".to_vec()),
        cuts in cuts(),
    ) {
        let mut bytes = document.into_bytes();
        for (i, (index, byte, how)) in edits.into_iter().enumerate() {
            let at = index.index(bytes.len());
            let byte = if i == 0 { likely } else { byte };
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => {
                    bytes.remove(at);
                    if bytes.is_empty() {
                        bytes.push(byte);
                    }
                }
            }
        }
        let ours = lex(&bytes, &cuts);
        prop_assert_eq!(&ours, &whole(&bytes));
        match serde_json::from_slice::<Value>(&bytes) {
            Ok(_) => prop_assert_eq!(ours.1, Ok(())),
            // It refuses numbers that it cannot hold, and lone surrogates.
            Err(e) if e.to_string().contains("out of range") || e.to_string().contains("surrogate")
                || e.to_string().contains("end of hex escape") => {}
            Err(e) => prop_assert!(ours.1.is_err(), "{e}"),
        }
    }
}

#[test]
fn surrogates_are_joined_and_lone_ones_kept() {
    let text = |document: &str| {
        let whole = whole(document.as_bytes());
        assert_eq!(whole.1, Ok(()));
        assert_eq!(lex(document.as_bytes(), &[1]), whole);
        whole.0.tokens.into_iter().next().unwrap()
    };
    let pair = text(r#""a\uD83D\uDE00b""#);
    assert_eq!(pair.text, "a😀b".as_bytes());
    assert_eq!(pair.places, [(0, 1, 2), (1, 2, 14), (5, 14, 15)]);
    for (document, expected) in [
        (r#""\ud83d""#, &b"\xED\xA0\xBD"[..]),
        (r#""\ude00x""#, b"\xED\xB8\x80x"),
        (r#""\ud83dx""#, b"\xED\xA0\xBDx"),
        (r#""\ud83d\n""#, b"\xED\xA0\xBD\n"),
        (r#""\ud83d\u0041""#, b"\xED\xA0\xBDA"),
        (r#""\ud800\udc00\uDBFF\uDFFF""#, b"\xF0\x90\x80\x80\xF4\x8F\xBF\xBF"),
        (r#""\ud83d\ue000""#, b"\xED\xA0\xBD\xEE\x80\x80"),
        (r#""\ud83d\ud83d\ude00""#, b"\xED\xA0\xBD\xF0\x9F\x98\x80"),
        (r#""\ude00\ud83d""#, b"\xED\xB8\x80\xED\xA0\xBD"),
    ] {
        assert_eq!(text(document).text, expected, "{document}");
    }
}

#[test]
fn one_mark_is_skipped() {
    let marked = b"\xEF\xBB\xBF\"a\"";
    let (heard, result) = lex(marked, &[1]);
    assert_eq!((result, heard.tokens[0].start), (Ok(()), 3));
    assert_eq!(whole(b"\xEF\xBB\xBF\xEF\xBB\xBF1").1.unwrap_err().offset, 3);
    assert_eq!(whole(b" \xEF\xBB\xBF1").1.unwrap_err().offset, 1);
}

#[test]
fn errors_say_what_and_where() {
    for (document, kind, offset) in [
        (&b""[..], JsonErrorKind::End, 0),
        (b"  ", JsonErrorKind::End, 2),
        (b"[1,]", JsonErrorKind::Syntax, 3),
        (b"[1}", JsonErrorKind::Syntax, 2),
        (b"{\"a\" 1}", JsonErrorKind::Syntax, 5),
        (b"{\"a\":1,}", JsonErrorKind::Syntax, 7),
        (b"1 2", JsonErrorKind::Syntax, 2),
        (b"01", JsonErrorKind::Syntax, 1),
        (b"-", JsonErrorKind::End, 1),
        (b"1.", JsonErrorKind::End, 2),
        (b"nul", JsonErrorKind::End, 3),
        (b"nulL", JsonErrorKind::Syntax, 3),
        (b"\"a\nb\"", JsonErrorKind::Control, 2),
        (b"\"\\x\"", JsonErrorKind::Syntax, 2),
        (b"\"\\u00g0\"", JsonErrorKind::Syntax, 5),
        (b"\"a\xFFb\"", JsonErrorKind::Utf8, 2),
        (b"\"\xED\xA0\x80\"", JsonErrorKind::Utf8, 1),
        (b"\"\xC0\xAF\"", JsonErrorKind::Utf8, 1),
        (b"\"\xE2\x82", JsonErrorKind::End, 1),
        (b"'a'", JsonErrorKind::Syntax, 0),
        (b"NaN", JsonErrorKind::Syntax, 0),
        (b"[1] // no", JsonErrorKind::Syntax, 4),
    ] {
        for cut in [1, 2, usize::MAX] {
            assert_eq!(lex(document, &[cut]).1, Err(JsonError { kind, offset }), "{document:?}");
        }
    }
}

#[test]
fn depth_is_limited() {
    let nested = |depth: usize| ["[".repeat(depth), "]".repeat(depth)].concat();
    assert_eq!(whole(nested(128).as_bytes()).1, Ok(()));
    let error = whole(nested(129).as_bytes()).1.unwrap_err();
    assert_eq!((error.kind, error.offset), (JsonErrorKind::Depth, 128));
    // What is open is remembered at any depth.
    let mixed = ["[{\"a\":".repeat(64), "1".into(), "}]".repeat(64)].concat();
    assert_eq!(whole(mixed.as_bytes()).1, Ok(()));
}

#[test]
fn long_strings_cross_the_blocks_of_the_lexer() {
    // Characters of two to four bytes at every offset from the end of a block.
    for shift in 0..4 {
        let text = [" ".repeat(shift), "é€😀".repeat(4000)].concat();
        let document = format!("[\"{text}\", \"\\n{text}\"]");
        let (heard, result) = whole(document.as_bytes());
        assert_eq!(result, Ok(()));
        assert_eq!(heard.tokens[0].text, text.as_bytes());
        assert_eq!(&heard.tokens[1].text[1..], text.as_bytes());
    }
}

#[test]
fn the_first_special_byte_is_found_at_any_place() {
    for len in 0..100 {
        for special in [b'"', b'\\', 0, 0x1F, b'\n'] {
            for fill in [b'a', 0x7F, 0x20, b'!', b'#', b'[', b']', 0x80, 0xFF, 0xA2, 0xDC] {
                let mut bytes = vec![fill; len];
                assert_eq!(plain::prefix(&bytes), len);
                bytes.push(special);
                bytes.extend_from_slice(b"\"\\\n");
                assert_eq!(plain::prefix(&bytes), len, "{special:#x} behind {fill:#x}");
            }
        }
    }
}
