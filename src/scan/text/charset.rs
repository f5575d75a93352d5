//! Texts that are declared to be in another charset than UTF-8.
//!
//! A label and the bytes of a text enter; the text in UTF-8 leaves, or the reason why readers may take it for another
//! one. A text that was changed can be written in its charset again. Labels are those of the WHATWG Encoding standard,
//! which leaves out UTF-7 and its kin on purpose: their ASCII is not what it seems.

use std::borrow::Cow;

use encoding_rs::{Encoding, REPLACEMENT, UTF_8, UTF_16BE, UTF_16LE, X_USER_DEFINED};

/// How a text is written, where it is not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charset {
    /// UTF-16 whose byte order its mark tells.
    Utf16,
    /// One of the standard's encodings.
    Coded(&'static Encoding),
}

/// What a label means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// UTF-8, or its subset ASCII.
    Utf8,
    /// Something that is decoded first.
    Other(Charset),
    /// Nothing that is known here.
    Unknown,
}

impl Label {
    /// Looks a label up, in any case.
    pub fn of(label: &[u8]) -> Self {
        let label = label.trim_ascii();
        if label.eq_ignore_ascii_case(b"us-ascii") || label.eq_ignore_ascii_case(b"ascii") {
            return Self::Utf8;
        }
        if label.eq_ignore_ascii_case(b"utf-16") {
            return Self::Other(Charset::Utf16);
        }
        match Encoding::for_label(label) {
            Some(encoding) if encoding == UTF_8 => Self::Utf8,
            // The first stands for encodings that are given up, the second for no text at all.
            Some(encoding) if encoding == REPLACEMENT || encoding == X_USER_DEFINED => Self::Unknown,
            Some(encoding) => Self::Other(Charset::Coded(encoding)),
            None => Self::Unknown,
        }
    }

    /// Whether every byte below 128 is the ASCII character that it is in UTF-8: what is declared so, and is UTF-8 by
    /// its own definition, has the same ASCII for whoever believes the label.
    pub fn keeps_ascii(self) -> bool {
        match self {
            Self::Utf8 => true,
            Self::Other(Charset::Coded(encoding)) => encoding.is_single_byte() && encoding.is_ascii_compatible(),
            Self::Other(Charset::Utf16) | Self::Unknown => false,
        }
    }
}

impl Charset {
    /// The text as UTF-8; a byte order mark stays in it.
    ///
    /// # Errors
    /// Why readers may differ on what the bytes mean.
    pub fn decode(self, bytes: &[u8]) -> Result<Cow<'_, str>, &'static str> {
        let encoding = self.encoding(bytes)?;
        let text = encoding.decode_without_bom_handling_and_without_replacement(bytes);
        text.ok_or("text that is not in its charset")
    }

    /// Writes `text` in the charset of `like`, the bytes that it came from. `None` if it cannot say all of it.
    pub fn encode(self, text: &str, like: &[u8]) -> Option<Vec<u8>> {
        let encoding = self.encoding(like).ok()?;
        if encoding == UTF_16LE {
            return Some(text.encode_utf16().flat_map(u16::to_le_bytes).collect());
        }
        if encoding == UTF_16BE {
            return Some(text.encode_utf16().flat_map(u16::to_be_bytes).collect());
        }
        let (bytes, _, lossy) = encoding.encode(text);
        (!lossy).then(|| bytes.into_owned())
    }

    fn encoding(self, bytes: &[u8]) -> Result<&'static Encoding, &'static str> {
        let marked = match bytes {
            [0xFF, 0xFE, ..] => Some(UTF_16LE),
            [0xFE, 0xFF, ..] => Some(UTF_16BE),
            _ => None,
        };
        match (self, marked) {
            (Self::Utf16, Some(marked)) => Ok(marked),
            (Self::Utf16, None) => Err("UTF-16 text without a byte order mark"),
            (Self::Coded(encoding), Some(marked)) if marked != encoding => {
                Err("text with the byte order mark of another charset")
            }
            (Self::Coded(encoding), _) => Ok(encoding),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn charset(label: &str) -> Charset {
        match Label::of(label.as_bytes()) {
            Label::Other(charset) => charset,
            other => panic!("{label}: {other:?}"),
        }
    }

    #[test]
    fn labels() {
        for label in ["utf-8", "UTF8", " us-ascii", "unicode-1-1-utf-8"] {
            assert_eq!(Label::of(label.as_bytes()), Label::Utf8, "{label}");
        }
        for label in ["utf-7", "UTF-7", "utf-32", "iso-2022-kr", "hz-gb-2312", "x-user-defined", "", "nonsense"] {
            assert_eq!(Label::of(label.as_bytes()), Label::Unknown, "{label}");
        }
        let keeping = ["latin1", "windows-1251", "utf-16", "shift_jis", "utf-7"];
        let kept: Vec<_> = keeping.into_iter().filter(|label| Label::of(label.as_bytes()).keeps_ascii()).collect();
        assert_eq!(kept, ["latin1", "windows-1251"]);
    }

    #[test]
    fn texts_come_back_as_they_were() {
        for (label, bytes, text) in [
            ("iso-8859-1", &b"caf\xE9"[..], "café"),
            ("windows-1251", b"\xC4\xE0", "Да"),
            ("shift_jis", b"\x83\x5C<", "ソ<"),
            ("euc-kr", b"\xB0\xA1", "가"),
            ("utf-16le", b"<\0a\0", "<a"),
            ("utf-16be", b"\0<\0a", "<a"),
            ("utf-16", b"\xFE\xFF\0<\xD8\x3D\xDE\0", "\u{feff}<\u{1F600}"),
            ("utf-16", b"\xFF\xFE<\0", "\u{feff}<"),
        ] {
            let charset = charset(label);
            assert_eq!(charset.decode(bytes).as_deref(), Ok(text), "{label}");
            assert_eq!(charset.encode(text, bytes).as_deref(), Some(bytes), "{label}");
        }
        assert_eq!(charset("latin1").encode("Да", b""), None);
    }

    #[test]
    fn what_is_no_text_of_its_charset_is_not_guessed() {
        for (label, bytes) in [
            ("utf-16", &b"<\0"[..]),
            ("utf-16le", b"\xFE\xFF\0<"),
            ("utf-16le", b"<\0a"),
            ("utf-16be", b"\xD8\x3D\0a"),
            ("latin1", b"\xFF\xFE<\0"),
            ("shift_jis", b"\x83"),
            ("euc-jp", b"\xFF"),
        ] {
            assert!(charset(label).decode(bytes).is_err(), "{label}");
        }
    }
}
