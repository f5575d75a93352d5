//! The source document's rules, read by hand.
//!
//! Written without a regular expression and without the scanner, on UTF-16 code units as its language counts them.
//! What it means, in words:
//! * an element is `<script`, then no letter, digit or underscore of ASCII, then anything up to the first `</script>`;
//! * a URL is `javascript:`;
//! * a handler is `on`, at least one letter, digit or underscore of ASCII, any white space, and `=`;
//! * case is ignored among ASCII letters, and no other character is one of them;
//! * white space is what JavaScript takes for it: with U+FEFF, without U+0085;
//! * sanitizing removes all elements, then all URLs of what is left, then all handlers of what is left;
//! * lengths are compared after that: 10,000 units for a request, 50,000 for a response.

use std::ops::Range;

pub const LONGEST_REQUEST: usize = 10_000;
pub const LONGEST_RESPONSE: usize = 50_000;

/// What becomes of a text.
pub struct Expected {
    pub sanitized: Vec<u16>,
    pub request: &'static str,
    pub response: &'static str,
}

pub fn expected(text: &[u16]) -> Expected {
    let mut sanitized = text.to_vec();
    for rule in [element, url, handler] {
        sanitized = without(rule, &sanitized);
    }
    let harmful = [element, url, handler].into_iter().any(|rule| first(rule, text, 0).is_some());
    let request = match (sanitized.len() > LONGEST_REQUEST, sanitized.len() == text.len()) {
        (true, _) => "too_long",
        (false, true) => "clean",
        (false, false) => "sanitized",
    };
    let response = match (harmful, text.len() > LONGEST_RESPONSE) {
        (true, _) => "blocked",
        (false, true) => "too_long",
        (false, false) => "clean",
    };
    Expected { sanitized, request, response }
}

/// Where a match that starts at an offset ends.
type Rule = fn(&[u16], usize) -> Option<usize>;

fn first(rule: Rule, text: &[u16], from: usize) -> Option<Range<usize>> {
    (from..text.len()).find_map(|start| rule(text, start).map(|end| start..end))
}

fn without(rule: Rule, text: &[u16]) -> Vec<u16> {
    let (mut kept, mut at) = (Vec::new(), 0);
    while let Some(found) = first(rule, text, at) {
        kept.extend_from_slice(&text[at..found.start]);
        at = found.end;
    }
    kept.extend_from_slice(&text[at..]);
    kept
}

fn element(text: &[u16], start: usize) -> Option<usize> {
    let inside = word(text, start, "<script")?;
    if text.get(inside).is_some_and(|&unit| is_word(unit)) {
        return None;
    }
    (inside..text.len()).find_map(|at| word(text, at, "</script>"))
}

fn url(text: &[u16], start: usize) -> Option<usize> {
    word(text, start, "javascript:")
}

fn handler(text: &[u16], start: usize) -> Option<usize> {
    let name = word(text, start, "on")?;
    let behind = skip(text, name, is_word);
    let equals = skip(text, behind, is_space);
    (behind > name && text.get(equals) == Some(&u16::from(b'='))).then_some(equals + 1)
}

/// The offset behind `word`, if it stands at `at` in any case.
fn word(text: &[u16], at: usize, word: &str) -> Option<usize> {
    let end = at + word.len();
    let found = text.get(at..end)?;
    let same = |(&unit, byte): (&u16, u8)| u8::try_from(unit).is_ok_and(|unit| unit.eq_ignore_ascii_case(&byte));
    found.iter().zip(word.bytes()).all(same).then_some(end)
}

fn skip(text: &[u16], from: usize, is: fn(u16) -> bool) -> usize {
    from + text[from..].iter().take_while(|&&unit| is(unit)).count()
}

fn is_word(unit: u16) -> bool {
    u8::try_from(unit).is_ok_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn is_space(unit: u16) -> bool {
    matches!(
        unit,
        0x09..=0x0D | 0x20 | 0xA0 | 0x1680 | 0x2000..=0x200A | 0x2028 | 0x2029 | 0x202F | 0x205F | 0x3000 | 0xFEFF
    )
}
