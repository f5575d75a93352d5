//! Texts on one line: JSON strings, repeated and joined.

use std::fmt::Write as _;

/// The longest piece that is looked for as repeated, and the least text that a repetition stands for.
const LONGEST_PIECE: usize = 12;
const WORTH: usize = 48;

/// A text as `"ab"*3+"c"`.
pub fn write(text: &[u16]) -> String {
    let (mut terms, mut plain, mut at) = (Vec::new(), 0, 0);
    while at < text.len() {
        let times = |length: usize| {
            let piece = &text[at..(at + length).min(text.len())];
            text[at..].chunks_exact(length).take_while(|chunk| *chunk == piece).count()
        };
        let found = (1..=LONGEST_PIECE).map(|length| (length, times(length))).find(|(length, n)| length * n >= WORTH);
        let Some((length, times)) = found else {
            at += 1;
            continue;
        };
        if plain < at {
            terms.push(literal(&text[plain..at]));
        }
        terms.push(format!("{}*{times}", literal(&text[at..at + length])));
        at += length * times;
        plain = at;
    }
    if plain < at || terms.is_empty() {
        terms.push(literal(&text[plain..at]));
    }
    terms.join("+")
}

/// A text as one JSON string. What is no character, no ASCII that prints, or looks like nothing is escaped.
pub fn literal(text: &[u16]) -> String {
    let mut out = String::from("\"");
    for unit in char::decode_utf16(text.iter().copied()) {
        match unit {
            Ok(c @ ('"' | '\\')) => out.extend(['\\', c]),
            Ok(c) if c.is_alphanumeric() || c == ' ' || c.is_ascii_graphic() || c as u32 >= 0x1_F000 => out.push(c),
            Ok(c) => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| escape(&mut out, *unit)),
            Err(lone) => escape(&mut out, lone.unpaired_surrogate()),
        }
    }
    out + "\""
}

fn escape(out: &mut String, unit: u16) {
    write!(out, "\\u{unit:04x}").expect("memory");
}

/// The text that `notation` stands for.
pub fn read(notation: &str) -> Vec<u16> {
    let mut text = Vec::new();
    let mut rest = notation;
    while let Some(inside) = rest.strip_prefix('"') {
        let (piece, behind) = string(inside);
        rest = behind;
        let mut times = 1;
        if let Some(count) = rest.strip_prefix('*') {
            let digits = count.bytes().take_while(u8::is_ascii_digit).count();
            times = count[..digits].parse().expect("a count");
            rest = &count[digits..];
        }
        text.extend(piece.repeat(times));
        rest = rest.strip_prefix('+').unwrap_or(rest);
    }
    assert_eq!(rest, "", "{notation}");
    text
}

/// Reads a JSON string behind its opening quote.
fn string(inside: &str) -> (Vec<u16>, &str) {
    let mut units = Vec::new();
    let mut chars = inside.chars();
    loop {
        match chars.next().expect("a closing quote") {
            '"' => return (units, chars.as_str()),
            '\\' => match chars.next() {
                Some('u') => {
                    let digits: String = chars.by_ref().take(4).collect();
                    units.push(u16::from_str_radix(&digits, 16).expect("four digits"));
                }
                Some(c @ ('"' | '\\' | '/')) => units.push(c as u16),
                other => panic!("an escape that the file does not use: {other:?}"),
            },
            c => units.extend_from_slice(c.encode_utf16(&mut [0; 2])),
        }
    }
}
