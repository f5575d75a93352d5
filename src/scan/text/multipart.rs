//! Where the parts of a multipart body are: `form-data` (RFC 7578), `mixed`, `related` (RFC 2046 §5.1).
//!
//! Bytes of a body enter, cut anywhere; the heads of its parts leave, and where each part begins and ends. What a part
//! means is said by [`Head`]. Nothing of a part is kept here but its head, whose size is bounded.
//!
//! Readers of multipart bodies differ: some take a lone line feed before a delimiter, some a delimiter in the middle of
//! a line, some go on behind the last one. All of them look for two hyphens and the boundary, so that these bytes are
//! allowed nowhere but in a delimiter that all of them understand.

mod head;

use std::fmt;
use std::ops::Range;

use memchr::{memchr, memmem};

pub use head::{Coding, Head, HeadProblem};

/// The longest boundary (RFC 2046 §5.1.1).
const MAX_BOUNDARY: usize = 70;

/// The longest head of a part.
const MAX_HEAD: usize = 16 << 10;

/// The most white space behind a boundary.
const MAX_PADDING: usize = 128;

/// The most parts of a body.
const MAX_PARTS: usize = 4096;

/// What divides the parts, as the content type declares it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Boundary {
    bytes: [u8; MAX_BOUNDARY],
    len: u8,
}

impl Boundary {
    /// `None` for what is no boundary: 1 to 70 characters of a few kinds, the last of them no space.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? !#$%&*^`|~".contains(&byte);
        let fits = (1..=MAX_BOUNDARY).contains(&bytes.len());
        if !fits || !bytes.iter().copied().all(plain) || bytes.last() == Some(&b' ') {
            return None;
        }
        let mut own = [0; MAX_BOUNDARY];
        own[..bytes.len()].copy_from_slice(bytes);
        Some(Self { bytes: own, len: bytes.len() as u8 })
    }

    /// What every delimiter begins with: two hyphens and the boundary.
    pub fn delimiter(&self) -> Vec<u8> {
        [b"--", &self.bytes[..usize::from(self.len)]].concat()
    }
}

impl fmt::Debug for Boundary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A client chooses it.
        f.debug_struct("Boundary").finish_non_exhaustive()
    }
}

/// What receives a body. Offsets count bytes from its start.
pub trait Sink {
    /// Bytes before the first delimiter or behind the last one, which readers are to ignore.
    fn outside(&mut self, raw: Range<u64>);

    /// A part begins: the lines of its head, each with its line end, and the offset behind the empty line.
    fn head(&mut self, head: &[u8], body: u64);

    /// The part ends before this offset.
    fn end(&mut self, raw: u64);
}

/// Why a body is refused, and about where in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MultipartError {
    /// What is wrong.
    pub kind: MultipartErrorKind,
    /// Offset of the byte that shows it.
    pub offset: u64,
}

/// What is wrong with a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MultipartErrorKind {
    /// The boundary stands where it is no delimiter for every reader.
    Boundary,
    /// A head has a line that does not end with CR and LF, or is no header.
    Head,
    /// A head, or the space behind a boundary, is longer than anybody needs.
    TooLong,
    /// There are too many parts.
    TooMany,
    /// The body ends without its last delimiter.
    End,
}

impl fmt::Display for MultipartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            MultipartErrorKind::Boundary => "boundary that is no delimiter",
            MultipartErrorKind::Head => "malformed head of a part",
            MultipartErrorKind::TooLong => "head of a part is too long",
            MultipartErrorKind::TooMany => "too many parts",
            MultipartErrorKind::End => "unexpected end",
        };
        write!(f, "multipart: {what} at byte {}", self.offset)
    }
}

impl std::error::Error for MultipartError {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Preamble,
    /// Behind the boundary; the rest of its line is being read.
    Delimiter,
    Head,
    /// In a part that began at this offset.
    Body(u64),
    Epilogue(u64),
}

/// Divides one body. Feed it and finish it.
pub struct Splitter {
    needle: Vec<u8>,
    /// By length of a prefix of the needle: the length of the longest one that is also its end.
    failure: Vec<usize>,
    matched: usize,
    /// The last bytes of what was fed, enough to see what stands before a boundary.
    tail: Vec<u8>,
    /// Bytes fed before the current call.
    offset: u64,
    state: State,
    /// The rest of a delimiter's line, or a head.
    line: Vec<u8>,
    parts: usize,
    failed: Option<MultipartError>,
}

impl Splitter {
    /// A splitter at the start of a body.
    pub fn new(boundary: &Boundary) -> Self {
        let needle = boundary.delimiter();
        let mut failure = vec![0; needle.len() + 1];
        let mut length = 0;
        for at in 1..needle.len() {
            while length > 0 && needle[at] != needle[length] {
                length = failure[length];
            }
            length += usize::from(needle[at] == needle[length]);
            failure[at + 1] = length;
        }
        Self {
            needle,
            failure,
            matched: 0,
            tail: Vec::new(),
            offset: 0,
            state: State::Preamble,
            line: Vec::new(),
            parts: 0,
            failed: None,
        }
    }

    /// Reads the next bytes.
    ///
    /// # Errors
    /// If no body begins like this. Every later call fails with the same error.
    pub fn feed(&mut self, bytes: &[u8], sink: &mut impl Sink) -> Result<(), MultipartError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let result = self.read(bytes, sink);
        self.failed = result.err();
        self.offset += bytes.len() as u64;
        let keep = self.needle.len() + 2;
        self.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(keep)..]);
        let surplus = self.tail.len().saturating_sub(keep);
        self.tail.drain(..surplus);
        result
    }

    /// Ends the body.
    ///
    /// # Errors
    /// If its last delimiter did not come.
    pub fn finish(&mut self, sink: &mut impl Sink) -> Result<(), MultipartError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        match self.state {
            // Nothing has to follow the last delimiter.
            State::Delimiter if self.line.strip_prefix(b"--").is_some_and(is_padding) => Ok(()),
            State::Epilogue(start) => {
                if start < self.offset {
                    sink.outside(start..self.offset);
                }
                Ok(())
            }
            _ => {
                let error = MultipartError { kind: MultipartErrorKind::End, offset: self.offset };
                self.failed = Some(error);
                Err(error)
            }
        }
    }

    fn read(&mut self, bytes: &[u8], sink: &mut impl Sink) -> Result<(), MultipartError> {
        let mut i = 0;
        while i < bytes.len() {
            i = match self.state {
                State::Preamble | State::Body(_) | State::Epilogue(_) => match self.search(bytes, i) {
                    None => bytes.len(),
                    Some(behind) => {
                        self.boundary(bytes, behind, sink)?;
                        behind
                    }
                },
                State::Delimiter | State::Head => self.line(bytes, i, sink)?,
            };
        }
        Ok(())
    }

    /// Looks for the boundary from `from` on. Returns the index behind it.
    fn search(&mut self, bytes: &[u8], from: usize) -> Option<usize> {
        let mut i = from;
        while i < bytes.len() {
            if self.matched == 0 {
                i += memchr(b'-', &bytes[i..])?;
            }
            while self.matched > 0 && bytes[i] != self.needle[self.matched] {
                self.matched = self.failure[self.matched];
            }
            self.matched += usize::from(bytes[i] == self.needle[self.matched]);
            i += 1;
            if self.matched == self.needle.len() {
                self.matched = 0;
                return Some(i);
            }
        }
        None
    }

    /// A boundary ends before `behind`.
    fn boundary(&mut self, bytes: &[u8], behind: usize, sink: &mut impl Sink) -> Result<(), MultipartError> {
        let start = self.offset + behind as u64 - self.needle.len() as u64;
        // What stood at offset `start - back`, if anything did.
        let before = |back: u64| {
            let at = start.checked_sub(back)?;
            match at.checked_sub(self.offset) {
                Some(index) => bytes.get(index as usize),
                None => self.tail.get((at + self.tail.len() as u64 - self.offset) as usize),
            }
        };
        let on_its_line = start == 0 || (before(2) == Some(&b'\r') && before(1) == Some(&b'\n'));
        if !on_its_line {
            return Err(MultipartError { kind: MultipartErrorKind::Boundary, offset: start });
        }
        let line_end = start.saturating_sub(2);
        match self.state {
            State::Preamble if line_end > 0 => sink.outside(0..line_end),
            // An empty part may leave out the line end between its head and the delimiter.
            State::Body(from) => sink.end(line_end.max(from)),
            State::Epilogue(_) => return Err(MultipartError { kind: MultipartErrorKind::Boundary, offset: start }),
            State::Preamble | State::Delimiter | State::Head => {}
        }
        self.line.clear();
        self.state = State::Delimiter;
        Ok(())
    }

    /// Reads on to the end of a line. Returns the index behind it.
    fn line(&mut self, bytes: &[u8], from: usize, sink: &mut impl Sink) -> Result<usize, MultipartError> {
        let behind = memchr(b'\n', &bytes[from..]).map_or(bytes.len(), |at| from + at + 1);
        let error = |kind| MultipartError { kind, offset: self.offset + behind as u64 };
        let is_head = self.state == State::Head;
        let most = if is_head { MAX_HEAD } else { MAX_PADDING };
        if self.line.len() + (behind - from) > most {
            // Where the bound is passed, however the bytes came.
            let offset = self.offset + (from + most - self.line.len()) as u64;
            return Err(MultipartError { kind: MultipartErrorKind::TooLong, offset });
        }
        self.line.extend_from_slice(&bytes[from..behind]);
        if bytes[behind - 1] != b'\n' {
            return Ok(behind);
        }
        let malformed = if is_head { MultipartErrorKind::Head } else { MultipartErrorKind::Boundary };
        let Some(line) = self.line.strip_suffix(b"\r\n") else { return Err(error(malformed)) };
        let raw = self.offset + behind as u64;
        if is_head {
            if line.is_empty() || line.ends_with(b"\r\n") {
                if memmem::find(line, &self.needle).is_some() {
                    return Err(error(MultipartErrorKind::Boundary));
                }
                sink.head(line, raw);
                self.line.clear();
                self.state = State::Body(raw);
            }
            return Ok(behind);
        }
        self.state = match line.strip_prefix(b"--") {
            Some(padding) if is_padding(padding) => State::Epilogue(raw),
            None if is_padding(line) => State::Head,
            _ => return Err(error(malformed)),
        };
        self.parts += 1;
        if self.parts > MAX_PARTS {
            return Err(error(MultipartErrorKind::TooMany));
        }
        self.line.clear();
        Ok(behind)
    }
}

fn is_padding(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| matches!(byte, b' ' | b'\t'))
}

#[cfg(test)]
mod tests;
