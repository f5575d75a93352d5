//! A push lexer for JSON that says where every byte of every string came from.
//!
//! Chunks of a document enter, cut anywhere; the strings leave as runs of decoded bytes,
//! each with the raw range that it was written as, so that a match in a string can be
//! cut out of the document. The grammar is RFC 8259 without leniency, since a document
//! that two parsers read differently can hide a text from one of them. The lexer keeps
//! at most one character of the document, and it never builds a value.

mod lenient;
mod lexer;
mod number;
mod plain;

use std::fmt;

pub use lenient::unescaped;
pub use lexer::Lexer;

/// How many bytes at the start of what is left of a string stand for themselves: up to a quote, a backslash or a control
/// character.
pub(in crate::scan) fn plain_len(bytes: &[u8]) -> usize {
    plain::prefix(bytes)
}

/// How deep arrays and objects may be nested.
pub const MAX_DEPTH: u32 = 128;

/// What receives a document. Raw offsets count bytes from the start of the document.
pub trait Sink {
    /// The next byte of the document's structure stands at `raw`; said before what it means.
    fn at(&mut self, raw: u64) {
        let _ = raw;
    }

    /// An object or array begins.
    fn open(&mut self, container: Container) {
        let _ = container;
    }

    /// The innermost object or array ends.
    fn close(&mut self) {}

    /// A number, `true`, `false` or `null` begins at `raw`.
    fn scalar(&mut self, raw: u64) {
        let _ = raw;
    }

    /// A string begins; its opening quote is at `raw`.
    fn begin(&mut self, role: Role, raw: u64);

    /// More of the string. Runs of one string follow each other without a gap.
    fn run(&mut self, run: Run<'_>);

    /// The string ends; its closing quote is at `raw`.
    fn end(&mut self, raw: u64);
}

/// The two things that nest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// `{…}`
    Object,
    /// `[…]`
    Array,
}

/// What a string is in its document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The name of an object's member.
    Key,
    /// A value.
    Value,
}

/// A piece of a string: whole characters, never empty.
///
/// It is either linear, every byte standing for itself, or one escape, of which `text`
/// is the one character it means. A surrogate pair is one escape; a lone surrogate is
/// three bytes, as in WTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run<'a> {
    /// The decoded bytes.
    pub text: &'a [u8],
    /// Offset of `text` in the decoded string.
    pub at: u64,
    /// Offset of the run in the document.
    pub raw: u64,
    /// Bytes of the document that the run stands for; `text.len()` if linear.
    pub raw_len: u32,
}

/// Why a document is refused, and at which byte of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonError {
    /// What is wrong.
    pub kind: JsonErrorKind,
    /// Offset of the first byte that cannot be right.
    pub offset: u64,
}

/// What is wrong with a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonErrorKind {
    /// A byte that the grammar does not allow here.
    Syntax,
    /// A control character inside a string.
    Control,
    /// Bytes that are no UTF-8.
    Utf8,
    /// More than [`MAX_DEPTH`] arrays and objects inside each other.
    Depth,
    /// The document ends too soon.
    End,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            JsonErrorKind::Syntax => "unexpected character",
            JsonErrorKind::Control => "control character in a string",
            JsonErrorKind::Utf8 => "invalid UTF-8",
            JsonErrorKind::Depth => "nested too deeply",
            JsonErrorKind::End => "unexpected end",
        };
        write!(f, "{what} at byte {}", self.offset)
    }
}

impl std::error::Error for JsonError {}

#[cfg(test)]
mod tests;
