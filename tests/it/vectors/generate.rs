//! Texts at the borders of the rules, drawn from a seed.

use std::collections::HashSet;

/// How many texts there are.
const CASES: usize = 6000;

/// Changing it changes the file; nothing depends on which it is.
const SEED: u64 = 20_261_126;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }

    fn one_of<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }
}

/// What is known to pass, to be caught, or to become another match, and what languages read differently.
const KNOWN: &[&str] = &[
    "",
    "Hello, world.",
    "<scr<script></script>ipt>alert(1)</script>",
    "javajavascript:script:",
    "jav<script></script>ascript:",
    "<scriptonload=></script>",
    "ononx=load=1",
    "<script>a</script >",
    "<script>a</script\n>",
    "<script>a</script/>",
    "<script>unclosed",
    "<script",
    "<script>a</script",
    "<SCRIPT src=x>\n<b></ScRiPt>tail",
    "<script<</script>",
    "<script</script>",
    "<script><script></script></script>",
    "<script></script><script></script>",
    "<scripté></script>",
    "<script-x></script>",
    "<scripty></script>",
    "<script_></script>",
    "<script0></script>",
    "<script\u{feff}></script>",
    "< script></script>",
    "<script>a<!-- </script> -->",
    "java\nscript:alert(1)",
    "java&#115;cript:",
    "javascript&colon;",
    "javascript :",
    "JaVaScRiPt:",
    "xjavascript:y",
    "onx\u{200b}=",
    "onx\u{85}=",
    "onx\u{feff}=",
    "onx\u{a0}\u{1680}\u{2000}\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}=",
    "onx\u{180e}=",
    "onx\u{b}\u{c}\r\n\t =",
    "onx\u{1c}=",
    "onx\0=",
    "<img onerror\0=x>",
    "on=",
    "on =",
    "onx==",
    "onx = on y = onz=",
    "connection = json_on = font=",
    "ONCLICK=",
    "oné=",
    "onéx=",
    "o\u{fb01}x=",
    "<\u{17f}cript></\u{17f}cript>",
    "java\u{17f}cript:",
    "javascr\u{131}pt:",
    "JAVASCR\u{130}PT:",
    "on\u{212a}=",
    "onk\u{212a}=",
    "\u{ff1c}script></script>",
    "ｏｎｘ=",
    "on\u{1d54f}=",
    "😀<script>😀</script>😀",
    "e\u{301}onx=e\u{301}",
];

/// What texts are made of: the words of the rules, whole, broken, and with what almost belongs to them.
const PIECES: &[&str] = &[
    "<script",
    "<script>",
    "<SCRIPT>",
    "<sCript ",
    "<script\n",
    "<script/",
    "<script_",
    "</script>",
    "</SCRIPT>",
    "</script >",
    "</script",
    "<scr",
    "ipt>",
    "<",
    ">",
    "/",
    "<b>",
    "</b>",
    "script",
    "java",
    "script:",
    "javascript:",
    "JavaScript:",
    "javascript",
    "java\tscript:",
    ":",
    "on",
    "ON",
    "On",
    "onx",
    "onload",
    "on_1",
    "=",
    " =",
    "\t=",
    "\n=",
    "\u{b}=",
    "\u{a0}=",
    "\u{feff}=",
    "\u{85}=",
    "\u{200b}=",
    "\u{3000}=",
    "\u{2028} =",
    "==",
    "= ",
    "x",
    "_",
    "7",
    "é",
    "ſ",
    "\u{212a}",
    "ı",
    "İ",
    "ß",
    "\u{301}",
    "日本",
    "😀",
    "👩\u{200d}🚀",
    "\u{ffff}",
    "\0",
    "\u{7f}",
    "\u{10ffff}",
    "\"",
    "\\",
    "&colon;",
    "&#x3c;",
    " ",
    "  ",
    "\n",
    "\r\n",
    "text",
    "a b",
    "connection = ",
    "font=",
];

/// Units that are no characters.
const SURROGATES: [u16; 4] = [0xD800, 0xDBFF, 0xDC00, 0xDFFF];

/// All texts, as UTF-16 units. The same on every machine.
pub fn texts() -> Vec<Vec<u16>> {
    let mut texts: Vec<Vec<u16>> = KNOWN.iter().map(|text| units(text)).collect();
    texts.extend(SURROGATES.iter().flat_map(|&unit| {
        [
            vec![unit],
            [units("onx"), vec![unit], units("=")].concat(),
            [units("<script"), vec![unit], units("></script>")].concat(),
        ]
    }));
    texts.extend(long());
    let mut known: HashSet<Vec<u16>> = texts.iter().cloned().collect();
    let mut random = Random(SEED);
    while texts.len() < CASES {
        let mut text = Vec::new();
        for _ in 0..=random.below(7) {
            match random.below(24) {
                0 => text.push(SURROGATES[random.below(SURROGATES.len())]),
                // Any character of the first plane but a surrogate.
                1 => text.extend(u16::try_from(random.below(0xD800))),
                _ => text.extend(units(random.one_of(PIECES))),
            }
        }
        if known.insert(text.clone()) {
            texts.push(text);
        }
    }
    texts
}

/// Around the two limits, and texts on which a careless expression takes for ever.
fn long() -> Vec<Vec<u16>> {
    let mut texts = Vec::new();
    for (piece, limit) in [("x", 10_000), ("x", 50_000), ("😀", 10_000), ("😀", 50_000), ("é", 10_000), ("日", 50_000)]
    {
        let piece = units(piece);
        let fits = limit / piece.len();
        for times in [fits - 1, fits, fits + 1] {
            texts.push(piece.repeat(times));
            // What is removed does not count, wherever it stands.
            texts.push([units("<script>gone</script>"), piece.repeat(times)].concat());
            texts.push([piece.repeat(times), units("onx=")].concat());
            texts.push([piece.repeat(times), units("javascript")].concat());
        }
    }
    for (piece, times) in [("<script", 1500), ("on", 3000), ("<script>", 1200), ("onx=", 2400), ("javascript:", 900)] {
        texts.push(units(piece).repeat(times));
        texts.push([units(piece).repeat(times), units("</script>=")].concat());
    }
    texts.push([units("<script>"), units("x").repeat(9_992)].concat());
    texts.push([units("<script>"), units("x").repeat(9_993)].concat());
    texts.push([units("onx"), units(" ").repeat(9_000), units("=")].concat());
    texts.push([units("onx"), units(" ").repeat(9_998)].concat());
    texts
}

fn units(text: &str) -> Vec<u16> {
    text.encode_utf16().collect()
}
