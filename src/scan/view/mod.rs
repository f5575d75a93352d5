//! Reading a text the way that somebody behind us will.
//!
//! A text enters as it is delivered; what it becomes when it is decoded once more leaves, byte by byte, each with the
//! place in the delivered text that it came from. Rules that ask for a view are run over both: a match in a view
//! counts as a match of all that it was written as, in whole units, so that what is withheld or cut out is always a
//! range of the text as delivered.
//!
//! Each view is one level: `%253c` is `%3c` in [`View::Percent`], never `<`, and no view reads what another makes.
//! Where a decoder has a choice, a view takes the reading that finds more.
//!
//! | module | what it does |
//! |---|---|
//! | `transducer` | cuts a text into units, at the same places however it was cut into chunks |
//! | `origin` | where each byte of a view came from |
//! | `json`, `html`, `percent`, `strip`, `fold` | what one unit of each view is |
//! | `scanner` | finds the first match in any reading, and counts matches |
//! | `replacer` | joins the matches of all readings to what is cut out |

mod fold;
mod html;
mod json;
mod origin;
mod percent;
mod replacer;
mod scanner;
mod strip;
#[cfg(test)]
pub(super) mod tests;
mod transducer;

use std::{fmt, sync::Arc};

use super::program::Program;

pub(super) use origin::Origin;
pub use replacer::Replacer;
pub use scanner::{Blocker, Counter};
pub(super) use transducer::Transducer;

/// One more decoding of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum View {
    /// The escapes of a JSON string (RFC 8259 §7), decoded wherever they stand: for JSON that is delivered inside of
    /// a JSON string, as the arguments of a tool are. A lone surrogate is U+FFFD; what is no escape stays.
    JsonUnescape,
    /// Character references as browsers read them in text: numbers of any length, with or without their semicolon,
    /// and the names of ASCII characters. Names of other characters stay as they are.
    HtmlEntity,
    /// `%XX` is that byte and `%uXXXX` that character. `+` stays `+`, and so does what is no escape.
    Percent,
    /// Control and format characters left out, among them TAB, CR and LF, which browsers drop inside of a URL, and
    /// all that is invisible by definition (soft hyphens, zero-width characters, variation selectors, tags, fillers).
    /// Bytes that are no UTF-8, and the lone halves of surrogate pairs, are left out too.
    Strip,
    /// Compatibility forms and letter cases made one: NFKC, then each character in upper and then in lower case, so
    /// that fullwidth letters, `ſ` and the Kelvin sign are the letters that they look like.
    Fold,
}

impl View {
    /// All views by the names that files use.
    pub const NAMES: [(&'static str, Self); 5] = [
        ("json-unescape", Self::JsonUnescape),
        ("html-entity", Self::HtmlEntity),
        ("percent", Self::Percent),
        ("strip", Self::Strip),
        ("fold", Self::Fold),
    ];

    /// How many bytes at the start of `bytes`, which begin a unit, stand for themselves whatever follows.
    fn plain(self, bytes: &[u8]) -> usize {
        let before = |byte| memchr::memchr(byte, bytes).unwrap_or(bytes.len());
        match self {
            Self::JsonUnescape => before(b'\\'),
            Self::HtmlEntity => before(b'&'),
            Self::Percent => before(b'%'),
            Self::Strip => strip::plain(bytes),
            Self::Fold => fold::plain(bytes),
        }
    }

    /// Decodes the unit that `bytes` begin with, appends what it means to `out`, and tells its length. `None` if that
    /// depends on what follows, which it never does when the text `ends` here. More bytes behind those that decided
    /// change nothing.
    fn unit(self, bytes: &[u8], ends: bool, out: &mut Vec<u8>) -> Option<usize> {
        match self {
            Self::JsonUnescape => json::unit(bytes, ends, out),
            Self::HtmlEntity => html::unit(bytes, ends, out),
            Self::Percent => percent::unit(bytes, ends, out),
            Self::Strip => strip::unit(bytes, ends, out),
            Self::Fold => fold::unit(bytes, ends, out),
        }
    }

    /// Whether the last byte of an undecided unit changes nothing about it, so that it need not be kept.
    fn is_padding(self, undecided: &[u8]) -> bool {
        self == Self::HtmlEntity && html::is_padding(undecided)
    }

    /// How many bytes of an undecided unit may leave if no match is under way, because none can begin in the unit
    /// whatever it becomes.
    fn harmless(self, undecided: &[u8], openers: &Openers) -> usize {
        if self == Self::Fold { fold::harmless(undecided, openers) } else { 0 }
    }

    /// The most bytes of a text that stand for one byte of the view or for a unit that is not complete. `None` if
    /// there is no such bound.
    pub(super) fn most_per_byte(self) -> Option<usize> {
        match self {
            // A surrogate pair is twelve bytes for a character of four.
            Self::JsonUnescape => Some(12),
            Self::Percent => Some(6),
            Self::HtmlEntity | Self::Strip | Self::Fold => None,
        }
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(Self::NAMES.iter().find(|(_, view)| view == self).map_or("", |(name, _)| name))
    }
}

/// The rules that read a text through one view.
#[derive(Debug)]
pub struct Viewed {
    pub(super) view: View,
    pub(super) program: Program,
    /// By rule of the program: its index among all rules.
    rules: Box<[usize]>,
    openers: Arc<Openers>,
}

impl Viewed {
    /// `rules` are, by rule of the program, the indices among all rules.
    pub(super) fn new(view: View, program: Program, rules: Box<[usize]>) -> Self {
        let openers = Arc::new(Openers::of(&program));
        Self { view, program, rules, openers }
    }

    /// How many rules there are.
    pub(super) fn rules(&self) -> usize {
        self.rules.len()
    }
}

/// The bytes that a match can begin with.
#[derive(Debug)]
struct Openers {
    any: [bool; 256],
    /// Whether one of them is no ASCII.
    beyond_ascii: bool,
}

impl Openers {
    fn of(program: &Program) -> Self {
        let mut any = [false; 256];
        for byte in 0..=u8::MAX {
            any[usize::from(byte)] = program.table().skip().find(&[byte], 0, |_| true) == 0;
        }
        Self { beyond_ascii: any[0x80..].contains(&true), any }
    }
}

/// All that a text is read by: the rules over the text as it is, and those over each view.
#[derive(Clone, Copy)]
pub struct Readings<'a> {
    pub(super) raw: &'a Program,
    pub(super) views: &'a [Viewed],
}

impl<'a> Readings<'a> {
    /// A text that is read as it is, and through `views`.
    pub(super) fn new(raw: &'a Program, views: &'a [Viewed]) -> Self {
        Self { raw, views }
    }
}

impl<'a> From<&'a Program> for Readings<'a> {
    fn from(raw: &'a Program) -> Self {
        Self { raw, views: &[] }
    }
}
