//! The head of one part: what it is called, and how its body is written.
//!
//! The lines of a head enter; the names and values in it leave, each in every form that a reader may take it for, and
//! what is known of the body. A head that readers understand differently is refused.

use crate::scan::text::{
    parameters::{Parameters, is_token_byte},
    query,
};

/// How a part's body is coded for its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// The bytes are the content.
    Identity,
    /// They have to be decoded first, which is not done here.
    Other,
}

/// Why a head cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadProblem {
    /// It does not keep to its grammar, or says something twice.
    Malformed,
    /// It is written in a way that is not decoded here; which one.
    Undecoded(&'static str),
}

/// What a head says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The texts in it: the names of the field and the file, and the values of all other parameters and headers.
    pub texts: Vec<Vec<u8>>,
    /// The name of the field.
    pub name: Option<Vec<u8>>,
    /// It names a file. A field without one is text to Python's frameworks, whatever type it declares.
    pub is_file: bool,
    /// The media type in lower case, if one is declared.
    pub media_type: Option<String>,
    /// The declared charset.
    pub charset: Option<Vec<u8>>,
    /// `Content-Transfer-Encoding`, and `Content-Encoding` where somebody sends it.
    pub coding: Coding,
    /// It tells the length or a digest of its body, which would be wrong for another one.
    pub describes_bytes: bool,
}

const ENCODED_WORD: HeadProblem = HeadProblem::Undecoded("an encoded word in the head of a part");
const OTHER_CHARSET: HeadProblem = HeadProblem::Undecoded("a parameter in another charset in the head of a part");
const CONTINUATION: HeadProblem = HeadProblem::Undecoded("a parameter in pieces in the head of a part");

impl Head {
    /// Reads the lines of a head, each with its line end.
    ///
    /// # Errors
    /// If readers may understand it differently, or it would have to be decoded.
    pub fn parse(lines: &[u8]) -> Result<Self, HeadProblem> {
        let mut head = Self {
            texts: Vec::new(),
            name: None,
            is_file: false,
            media_type: None,
            charset: None,
            coding: Coding::Identity,
            describes_bytes: false,
        };
        let mut seen: Vec<Vec<u8>> = Vec::new();
        let mut rest = lines;
        while !rest.is_empty() {
            let end = memchr::memmem::find(rest, b"\r\n").ok_or(HeadProblem::Malformed)?;
            let line = &rest[..end];
            rest = &rest[end + 2..];
            let colon = memchr::memchr(b':', line).filter(|&at| at > 0).ok_or(HeadProblem::Malformed)?;
            let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            // A folded line begins with a space, which no name has.
            let fine = name.iter().copied().all(is_token_byte) && !value.iter().any(|&byte| is_control(byte));
            let name = name.to_ascii_lowercase();
            if !fine || seen.contains(&name) {
                return Err(HeadProblem::Malformed);
            }
            head.field(&name, value)?;
            seen.push(name);
        }
        Ok(head)
    }

    fn field(&mut self, name: &[u8], value: &[u8]) -> Result<(), HeadProblem> {
        if memchr::memmem::find(value, b"=?").is_some_and(|at| memchr::memmem::find(&value[at..], b"?=").is_some()) {
            return Err(ENCODED_WORD);
        }
        match name {
            b"content-disposition" => {
                let parsed = self.parameters(value)?;
                self.name = parsed.get("name").map(<[u8]>::to_vec);
                self.is_file = parsed.iter().any(|parameter| parameter.name.starts_with("filename"));
            }
            b"content-type" => {
                let parsed = self.parameters(value)?;
                self.charset = parsed.get("charset").map(<[u8]>::to_vec);
                self.media_type = Some(parsed.value);
            }
            b"content-transfer-encoding" => {
                let plain: [&[u8]; 3] = [b"7bit", b"8bit", b"binary"];
                self.coded(plain.iter().any(|known| value.eq_ignore_ascii_case(known)));
            }
            b"content-encoding" => self.coded(value.is_empty() || value.eq_ignore_ascii_case(b"identity")),
            b"content-length" | b"content-md5" | b"digest" | b"content-digest" | b"repr-digest" => {
                self.describes_bytes = true;
                self.text(value);
            }
            _ => self.text(value),
        }
        Ok(())
    }

    fn coded(&mut self, plain: bool) {
        if !plain {
            self.coding = Coding::Other;
        }
    }

    fn parameters<'a>(&mut self, value: &'a [u8]) -> Result<Parameters<'a>, HeadProblem> {
        let parsed = Parameters::parse(value).ok_or(HeadProblem::Malformed)?;
        for parameter in parsed.iter() {
            match parameter.name.split_once('*') {
                // RFC 8187: a charset, a language, and escaped bytes.
                Some((_, "")) => self.extended(&parameter.value)?,
                // RFC 2231 §3: pieces of one value, which its readers join.
                Some(_) => return Err(CONTINUATION),
                None => {
                    self.text(&parameter.value);
                    if parameter.written != parameter.value {
                        // Some readers keep the backslashes.
                        self.text(parameter.written);
                    }
                }
            }
        }
        Ok(parsed)
    }

    fn extended(&mut self, value: &[u8]) -> Result<(), HeadProblem> {
        let mut parts = value.splitn(3, |&byte| byte == b'\'');
        let (Some(charset), Some(_), Some(text)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(HeadProblem::Malformed);
        };
        // Of ISO 8859-1 the ASCII half is the same.
        let known: [&[u8]; 3] = [b"utf-8", b"us-ascii", b"iso-8859-1"];
        if !known.iter().any(|known| charset.eq_ignore_ascii_case(known)) {
            return Err(OTHER_CHARSET);
        }
        self.text(text);
        Ok(())
    }

    /// Adds a text, and what it is with its escapes decoded: browsers write a quote in a name as `%22`.
    fn text(&mut self, text: &[u8]) {
        if text.contains(&b'%') {
            self.texts.push(query::percent_decoded(text).into_owned());
        }
        self.texts.push(text.to_vec());
    }
}

fn is_control(byte: u8) -> bool {
    byte == 0x7F || (byte < 0x20 && byte != b'\t')
}
