//! The views of whole texts, by other means than the views themselves.

use std::{cell::RefCell, collections::HashMap, ops::Range, rc::Rc};

use regex::bytes::{Captures, Regex};
use unicode_normalization::UnicodeNormalization;

use super::super::{View, fold};

/// A view of a whole text, and for each of its bytes the unit that it stands for.
#[derive(Debug, Default)]
pub struct Whole {
    pub text: Vec<u8>,
    pub origin: Vec<Range<usize>>,
}

impl Whole {
    /// Adds what `raw`, which ends behind `end` of the text, becomes. What stands for itself does so byte by byte.
    pub fn unit(&mut self, text: &[u8], raw: &[u8], end: usize) {
        let start = end - raw.len();
        self.text.extend_from_slice(text);
        if text == raw {
            self.origin.extend((start..end).map(|i| i..i + 1));
        }
        self.origin.resize(self.text.len(), start..end);
    }

    /// A match as one of the text.
    pub fn mapped(&self, found: Range<usize>) -> Range<usize> {
        self.origin[found.start].start..self.origin[found.end - 1].end
    }
}

fn utf8(code: u32) -> Vec<u8> {
    char::from_u32(code).unwrap_or('\u{FFFD}').to_string().into_bytes()
}

fn hex(digits: &[u8]) -> u32 {
    // More digits than a number has are as good as the last of them that fit.
    let digits = std::str::from_utf8(digits).unwrap();
    u64::from_str_radix(&digits[digits.len().saturating_sub(15)..], 16).unwrap().min(u64::from(u32::MAX)) as u32
}

thread_local! {
    static ESCAPES: RefCell<HashMap<&'static str, Rc<Regex>>> = RefCell::default();
}

fn compiled(escape: &'static str) -> Rc<Regex> {
    let compile = || Rc::new(Regex::new(escape).unwrap());
    ESCAPES.with_borrow_mut(|known| Rc::clone(known.entry(escape).or_insert_with(compile)))
}

/// What `escape` finds is decoded, everything else is as it was.
fn escapes(text: &[u8], escape: &'static str, decode: impl Fn(&Captures<'_>) -> Vec<u8>) -> Whole {
    let mut whole = Whole::default();
    let mut at = 0;
    for captures in compiled(escape).captures_iter(text) {
        let found = captures.get(0).unwrap().range();
        whole.unit(&text[at..found.start], &text[at..found.start], found.start);
        whole.unit(&decode(&captures), &text[found.clone()], found.end);
        at = found.end;
    }
    whole.unit(&text[at..], &text[at..], text.len());
    whole
}

/// The view of a text.
pub fn whole(view: View, text: &[u8]) -> Whole {
    match view {
        View::JsonUnescape => {
            let escape = concat!(
                r"(?-u:\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})",
                r#"|\\u([0-9a-fA-F]{4})|\\(["\\/bfnrt]))"#,
            );
            escapes(text, escape, |found| match (found.get(1), found.get(3), found.get(4)) {
                (Some(high), ..) => {
                    let low = hex(found.get(2).unwrap().as_bytes()) - 0xDC00;
                    utf8(0x10000 + ((hex(high.as_bytes()) - 0xD800) << 10) + low)
                }
                (_, Some(unit), _) => utf8(hex(unit.as_bytes())),
                (.., letter) => match letter.unwrap().as_bytes() {
                    b"b" => vec![8],
                    b"f" => vec![12],
                    b"n" => vec![10],
                    b"r" => vec![13],
                    b"t" => vec![9],
                    same => same.to_vec(),
                },
            })
        }
        View::Percent => escapes(text, "(?-u:%[uU]([0-9a-fA-F]{4})|%([0-9a-fA-F]{2}))", |found| match found.get(1) {
            Some(unit) => utf8(hex(unit.as_bytes())),
            None => vec![hex(found.get(2).unwrap().as_bytes()) as u8],
        }),
        View::HtmlEntity => {
            let escape = concat!(
                "(?-u:&#[xX]([0-9a-fA-F]+);?|&#([0-9]+);?",
                "|&(?:lt(?:cc|cir|dot|hree|imes|larr|quest|rPar|ri|rie|rif);)()",
                "|&(lt|gt|amp|quot|LT|GT|AMP|QUOT);?|&(colon|lpar|Tab|NewLine|fjlig);)",
            );
            escapes(text, escape, |found| {
                let decimal = |digits: &[u8]| {
                    let digits = std::str::from_utf8(digits).unwrap();
                    digits.trim_start_matches('0').parse::<u32>().unwrap_or(match digits.trim_matches('0') {
                        "" => 0,
                        _ => u32::MAX,
                    })
                };
                let number = |code: u32| match code {
                    0 => utf8(u32::MAX),
                    0x80 => "€".into(),
                    code => utf8(code),
                };
                match (found.get(1), found.get(2), found.get(4).or(found.get(5))) {
                    (Some(digits), ..) => number(hex(digits.as_bytes())),
                    (_, Some(digits), _) => number(decimal(digits.as_bytes())),
                    (.., Some(name)) => match &name.as_bytes().to_ascii_lowercase()[..] {
                        b"lt" => b"<".to_vec(),
                        b"gt" => b">".to_vec(),
                        b"amp" => b"&".to_vec(),
                        b"quot" => b"\"".to_vec(),
                        b"colon" => b":".to_vec(),
                        b"lpar" => b"(".to_vec(),
                        b"tab" => b"\t".to_vec(),
                        b"newline" => b"\n".to_vec(),
                        _ => b"fj".to_vec(),
                    },
                    _ => found.get(0).unwrap().as_bytes().to_vec(),
                }
            })
        }
        View::Strip => {
            // What is visible is taken before it can be taken for bytes that are no character.
            let escape = r"[\p{Cc}\p{Cf}\p{Default_Ignorable_Code_Point}]|([^\x00-\x7F])|(?-u:[\x80-\xFF])";
            escapes(text, escape, |found| found.get(1).map(|kept| kept.as_bytes().to_vec()).unwrap_or_default())
        }
        View::Fold => {
            let mut result = Whole::default();
            let mut at = 0;
            for chunk in text.utf8_chunks() {
                let mut segment = String::new();
                for character in chunk.valid().chars().map(Some).chain([None]) {
                    let begins = character.is_none_or(|character| {
                        fold::is_boundary(character) || segment.chars().count() == fold::MAX_SEGMENT
                    });
                    if begins && !segment.is_empty() {
                        let folded: String = segment.nfkc().collect::<String>().to_uppercase();
                        let folded: String = folded.chars().flat_map(char::to_lowercase).collect();
                        at += segment.len();
                        result.unit(folded.as_bytes(), segment.as_bytes(), at);
                        segment.clear();
                    }
                    segment.extend(character);
                }
                for byte in chunk.invalid() {
                    at += 1;
                    result.unit(&[*byte], &[*byte], at);
                }
            }
            result
        }
    }
}
