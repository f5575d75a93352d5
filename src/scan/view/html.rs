//! Character references of HTML, as its standard tells browsers to read them in text.

/// Names and what they mean, longest match first wins. Those of ASCII characters, of which some need no semicolon;
/// and those that begin with such a one and mean another character, which stay as they are.
const NAMES: [(&[u8], Option<&[u8]>); 77] = [
    (b"AMP", Some(b"&")),
    (b"AMP;", Some(b"&")),
    (b"DiacriticalGrave;", Some(b"`")),
    (b"GT", Some(b">")),
    (b"GT;", Some(b">")),
    (b"Hat;", Some(b"^")),
    (b"LT", Some(b"<")),
    (b"LT;", Some(b"<")),
    (b"NewLine;", Some(b"\n")),
    (b"QUOT", Some(b"\"")),
    (b"QUOT;", Some(b"\"")),
    (b"Tab;", Some(b"\t")),
    (b"UnderBar;", Some(b"_")),
    (b"VerticalLine;", Some(b"|")),
    (b"amp", Some(b"&")),
    (b"amp;", Some(b"&")),
    (b"apos;", Some(b"'")),
    (b"ast;", Some(b"*")),
    (b"bsol;", Some(b"\\")),
    (b"colon;", Some(b":")),
    (b"comma;", Some(b",")),
    (b"commat;", Some(b"@")),
    (b"dollar;", Some(b"$")),
    (b"equals;", Some(b"=")),
    (b"excl;", Some(b"!")),
    (b"fjlig;", Some(b"fj")),
    (b"grave;", Some(b"`")),
    (b"gt", Some(b">")),
    (b"gt;", Some(b">")),
    (b"lbrace;", Some(b"{")),
    (b"lbrack;", Some(b"[")),
    (b"lcub;", Some(b"{")),
    (b"lowbar;", Some(b"_")),
    (b"lpar;", Some(b"(")),
    (b"lsqb;", Some(b"[")),
    (b"lt", Some(b"<")),
    (b"lt;", Some(b"<")),
    (b"midast;", Some(b"*")),
    (b"num;", Some(b"#")),
    (b"percnt;", Some(b"%")),
    (b"period;", Some(b".")),
    (b"plus;", Some(b"+")),
    (b"quest;", Some(b"?")),
    (b"quot", Some(b"\"")),
    (b"quot;", Some(b"\"")),
    (b"rbrace;", Some(b"}")),
    (b"rbrack;", Some(b"]")),
    (b"rcub;", Some(b"}")),
    (b"rpar;", Some(b")")),
    (b"rsqb;", Some(b"]")),
    (b"semi;", Some(b";")),
    (b"sol;", Some(b"/")),
    (b"verbar;", Some(b"|")),
    (b"vert;", Some(b"|")),
    (b"gtcc;", None),
    (b"gtcir;", None),
    (b"gtdot;", None),
    (b"gtlPar;", None),
    (b"gtquest;", None),
    (b"gtrapprox;", None),
    (b"gtrarr;", None),
    (b"gtrdot;", None),
    (b"gtreqless;", None),
    (b"gtreqqless;", None),
    (b"gtrless;", None),
    (b"gtrsim;", None),
    (b"ltcc;", None),
    (b"ltcir;", None),
    (b"ltdot;", None),
    (b"lthree;", None),
    (b"ltimes;", None),
    (b"ltlarr;", None),
    (b"ltquest;", None),
    (b"ltrPar;", None),
    (b"ltri;", None),
    (b"ltrie;", None),
    (b"ltrif;", None),
];

/// What browsers read for the numbers that Windows had other characters for.
const WINDOWS: [u32; 32] = [
    0x20AC, 0x81, 0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021, 0x02C6, 0x2030, 0x0160, 0x2039, 0x0152, 0x8D, 0x017D,
    0x8F, 0x90, 0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014, 0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0x9D,
    0x017E, 0x0178,
];

/// The last character of Unicode.
const LAST: u32 = 0x10FFFF;

/// A reference, or one byte that begins none.
pub(super) fn unit(bytes: &[u8], ends: bool, out: &mut Vec<u8>) -> Option<usize> {
    let read = match bytes {
        [b'&', b'#', ..] => number(bytes, ends, out),
        [b'&', name @ ..] => named(name, ends, out),
        _ => Read::Nothing,
    };
    match read {
        Read::Reference(len) => Some(len),
        Read::Open => None,
        Read::Nothing => {
            out.extend(bytes.first());
            Some(1)
        }
    }
}

/// Whether the last byte is a digit that changes no number: a zero behind zeros, or any behind one that is too large.
pub(super) fn is_padding(undecided: &[u8]) -> bool {
    let Some((radix, at)) = digits(undecided) else { return false };
    match undecided.split_at(at.min(undecided.len())).1 {
        [before @ .., last] if !before.is_empty() && char::from(*last).is_digit(radix) => {
            let value = value(before, radix);
            value > LAST || (value == 0 && *last == b'0')
        }
        _ => false,
    }
}

enum Read {
    Reference(usize),
    /// What follows decides.
    Open,
    Nothing,
}

/// The radix of a numeric reference, and where its digits begin.
fn digits(bytes: &[u8]) -> Option<(u32, usize)> {
    match bytes.strip_prefix(b"&#")?.first() {
        Some(b'x' | b'X') => Some((16, 3)),
        _ => Some((10, 2)),
    }
}

/// Never much above [`LAST`], however many digits there are.
fn value(digits: &[u8], radix: u32) -> u32 {
    let digits = digits.iter().map_while(|&digit| char::from(digit).to_digit(radix));
    digits.fold(0, |value: u32, digit| if value > LAST { value } else { value * radix + digit })
}

fn number(bytes: &[u8], ends: bool, out: &mut Vec<u8>) -> Read {
    let Some((radix, at)) = digits(bytes) else { return Read::Nothing };
    let count = bytes[at..].iter().take_while(|&&byte| char::from(byte).is_digit(radix)).count();
    let behind = at + count;
    if behind == bytes.len() && !ends {
        return Read::Open;
    }
    if count == 0 {
        return Read::Nothing;
    }
    let character = match value(&bytes[at..behind], radix) {
        0 => char::REPLACEMENT_CHARACTER,
        windows @ 0x80..=0x9F => replaced(WINDOWS[windows as usize - 0x80]),
        value => replaced(value),
    };
    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    Read::Reference(behind + usize::from(bytes.get(behind) == Some(&b';')))
}

/// A surrogate, or what is no character, is U+FFFD.
fn replaced(value: u32) -> char {
    char::from_u32(value).unwrap_or(char::REPLACEMENT_CHARACTER)
}

fn named(name: &[u8], ends: bool, out: &mut Vec<u8>) -> Read {
    let goes_on = NAMES.iter().any(|(known, _)| known.len() > name.len() && known.starts_with(name));
    if goes_on && !ends {
        return Read::Open;
    }
    let longest = NAMES.iter().filter(|(known, _)| name.starts_with(known)).max_by_key(|(known, _)| known.len());
    match longest {
        Some((known, Some(text))) => {
            out.extend_from_slice(text);
            Read::Reference(1 + known.len())
        }
        _ => Read::Nothing,
    }
}
