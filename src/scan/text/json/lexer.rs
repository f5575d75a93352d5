//! The lexer itself: one state, moved by bytes.
//!
//! Chunks enter, calls of a [`Sink`] leave. UTF-8 is checked first, so that below
//! [`Lexer::lex`] there are only whole characters.

use super::{Container, JsonError, JsonErrorKind, MAX_DEPTH, Role, Run, Sink, number::Number, plain};

/// How much is checked for UTF-8 before it is lexed, so that it is still in the cache.
const BLOCK: usize = 16 << 10;

/// What the lexer expects next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Value,
    /// A value or the end of an empty array.
    FirstElement,
    /// A key or the end of an empty object.
    FirstKey,
    Key,
    Colon,
    /// A comma or an end, or nothing more at depth 0.
    AfterValue,
    Text,
    /// Behind a backslash.
    Escape,
    /// Behind `\u` and `digits` of four digits.
    Hex {
        digits: u8,
        unit: u16,
    },
    /// Inside `true`, `false` or `null`; the letters that are left.
    Literal(&'static [u8]),
    Number(Number),
}

/// The lexer. Feed it one document and finish it.
pub struct Lexer {
    state: State,
    /// One bit per open container, the innermost lowest: 1 for an object.
    objects: u128,
    depth: u32,
    /// Bytes of whole characters lexed so far.
    offset: u64,
    role: Role,
    /// Decoded bytes of the current string so far.
    decoded: u64,
    /// Where the escape began that is being read.
    escape: u64,
    /// A high surrogate that may yet find its low one, and where its escape began.
    high: Option<(u16, u64)>,
    /// The first bytes of a character that the last chunk cut off.
    partial: [u8; 4],
    partial_len: usize,
    failed: Option<JsonError>,
}

impl Default for Lexer {
    fn default() -> Self {
        Self::new()
    }
}

impl Lexer {
    /// A lexer at the start of a document.
    pub fn new() -> Self {
        Self {
            state: State::Value,
            objects: 0,
            depth: 0,
            offset: 0,
            role: Role::Value,
            decoded: 0,
            escape: 0,
            high: None,
            partial: [0; 4],
            partial_len: 0,
            failed: None,
        }
    }

    /// Lexes the next bytes of the document.
    ///
    /// # Errors
    /// If no document begins like this. Every later call fails with the same error.
    pub fn feed(&mut self, bytes: &[u8], sink: &mut impl Sink) -> Result<(), JsonError> {
        match self.failed {
            Some(error) => Err(error),
            None => {
                let result = self.characters(bytes, sink);
                self.failed = result.err();
                result
            }
        }
    }

    /// Ends the document.
    ///
    /// # Errors
    /// If it was not complete.
    pub fn finish(&mut self) -> Result<(), JsonError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let complete = match self.state {
            State::AfterValue => true,
            State::Number(number) => number.may_end(),
            _ => false,
        };
        if complete && self.depth == 0 && self.partial_len == 0 {
            return Ok(());
        }
        let error = JsonError { kind: JsonErrorKind::End, offset: self.offset };
        self.failed = Some(error);
        Err(error)
    }

    /// Whether the outermost value is complete, apart from a number that might go on.
    pub fn is_complete(&self) -> bool {
        self.state == State::AfterValue && self.depth == 0
    }

    /// Divides bytes into whole characters; what the end cuts off waits for the next call.
    fn characters(&mut self, mut bytes: &[u8], sink: &mut impl Sink) -> Result<(), JsonError> {
        while self.partial_len > 0 {
            let Some((&byte, rest)) = bytes.split_first() else { return Ok(()) };
            bytes = rest;
            self.partial[self.partial_len] = byte;
            let character = self.partial;
            let character = &character[..=self.partial_len];
            match std::str::from_utf8(character) {
                Ok(_) => {
                    self.partial_len = 0;
                    self.lex(character, sink)?;
                }
                // A fourth byte completes a character or makes it invalid.
                Err(error) if error.error_len().is_none() => self.partial_len += 1,
                Err(_) => return Err(self.error_at(JsonErrorKind::Utf8, 0)),
            }
        }
        while !bytes.is_empty() {
            let block = &bytes[..bytes.len().min(BLOCK)];
            let (whole, cut) = match std::str::from_utf8(block) {
                Ok(_) => (block.len(), false),
                Err(error) => (error.valid_up_to(), error.error_len().is_none()),
            };
            self.lex(&block[..whole], sink)?;
            if whole == block.len() {
                bytes = &bytes[whole..];
            } else if !cut {
                return Err(self.error_at(JsonErrorKind::Utf8, 0));
            } else if block.len() < bytes.len() {
                // The block cut a character that the chunk has whole.
                bytes = &bytes[whole..];
            } else {
                let rest = &bytes[whole..];
                self.partial[..rest.len()].copy_from_slice(rest);
                self.partial_len = rest.len();
                return Ok(());
            }
        }
        Ok(())
    }

    /// Lexes whole characters.
    fn lex(&mut self, bytes: &[u8], sink: &mut impl Sink) -> Result<(), JsonError> {
        const BOM: &[u8] = b"\xEF\xBB\xBF";
        let mut i = if self.offset == 0 && bytes.starts_with(BOM) { BOM.len() } else { 0 };
        while i < bytes.len() {
            let byte = bytes[i];
            match self.state {
                State::Text => {
                    i = self.text(bytes, i, sink)?;
                    continue;
                }
                State::Escape => self.escaped(byte, i, sink)?,
                State::Hex { digits, unit } => self.hex(digits, unit, byte, i, sink)?,
                State::Literal(letters) => match letters.split_first() {
                    Some((&letter, rest)) if letter == byte => {
                        self.state = if rest.is_empty() { State::AfterValue } else { State::Literal(rest) };
                    }
                    _ => return Err(self.error_at(JsonErrorKind::Syntax, i)),
                },
                State::Number(number) => match number.next(byte) {
                    Some(number) => self.state = State::Number(number),
                    None if number.may_end() => {
                        self.state = State::AfterValue;
                        continue;
                    }
                    None => return Err(self.error_at(JsonErrorKind::Syntax, i)),
                },
                _ if matches!(byte, b' ' | b'\n' | b'\r' | b'\t') => {}
                _ => {
                    sink.at(self.offset + i as u64);
                    self.structure(byte, i, sink)?;
                }
            }
            i += 1;
        }
        self.offset += bytes.len() as u64;
        Ok(())
    }

    /// A byte that is neither inside a token nor white space.
    fn structure(&mut self, byte: u8, i: usize, sink: &mut impl Sink) -> Result<(), JsonError> {
        match (self.state, byte) {
            (State::Value | State::FirstElement, b'"') => self.begin(Role::Value, i, sink),
            (State::Key | State::FirstKey, b'"') => self.begin(Role::Key, i, sink),
            (State::Value | State::FirstElement, b'{') => {
                self.open(Container::Object, i)?;
                sink.open(Container::Object);
            }
            (State::Value | State::FirstElement, b'[') => {
                self.open(Container::Array, i)?;
                sink.open(Container::Array);
            }
            (State::FirstElement, b']') | (State::FirstKey, b'}') => self.close(sink),
            (State::AfterValue, b']') if self.inside() == Some(Container::Array) => {
                self.close(sink);
            }
            (State::AfterValue, b'}') if self.inside() == Some(Container::Object) => {
                self.close(sink);
            }
            (State::AfterValue, b',') => {
                self.state = match self.inside() {
                    Some(Container::Object) => State::Key,
                    Some(Container::Array) => State::Value,
                    None => return Err(self.error_at(JsonErrorKind::Syntax, i)),
                }
            }
            (State::Colon, b':') => self.state = State::Value,
            (State::Value | State::FirstElement, _) => {
                self.state = match byte {
                    b't' => State::Literal(b"rue"),
                    b'f' => State::Literal(b"alse"),
                    b'n' => State::Literal(b"ull"),
                    b'-' => State::Number(Number::Minus),
                    b'0' => State::Number(Number::Zero),
                    b'1'..=b'9' => State::Number(Number::Integer),
                    _ => return Err(self.error_at(JsonErrorKind::Syntax, i)),
                };
                sink.scalar(self.offset + i as u64);
            }
            _ => return Err(self.error_at(JsonErrorKind::Syntax, i)),
        }
        Ok(())
    }

    fn open(&mut self, container: Container, i: usize) -> Result<(), JsonError> {
        if self.depth == MAX_DEPTH {
            return Err(self.error_at(JsonErrorKind::Depth, i));
        }
        self.depth += 1;
        self.objects <<= 1;
        self.state = match container {
            Container::Object => {
                self.objects |= 1;
                State::FirstKey
            }
            Container::Array => State::FirstElement,
        };
        Ok(())
    }

    fn close(&mut self, sink: &mut impl Sink) {
        self.depth -= 1;
        self.objects >>= 1;
        self.state = State::AfterValue;
        sink.close();
    }

    fn inside(&self) -> Option<Container> {
        match (self.depth, self.objects & 1) {
            (0, _) => None,
            (_, 0) => Some(Container::Array),
            _ => Some(Container::Object),
        }
    }

    fn begin(&mut self, role: Role, i: usize, sink: &mut impl Sink) {
        self.role = role;
        self.decoded = 0;
        self.state = State::Text;
        sink.begin(role, self.offset + i as u64);
    }

    /// Reads a string from `i` on up to and including the next quote or backslash.
    fn text(&mut self, bytes: &[u8], i: usize, sink: &mut impl Sink) -> Result<usize, JsonError> {
        let len = plain::prefix(&bytes[i..]);
        let stop = bytes.get(i + len).copied();
        if len > 0 || (stop.is_some() && stop != Some(b'\\')) {
            self.flush_high(sink);
        }
        let raw = self.offset + i as u64;
        if len > 0 {
            // Raw lengths are of one block, far below 4 GiB.
            let text = &bytes[i..i + len];
            sink.run(Run { text, at: self.decoded, raw, raw_len: len as u32 });
            self.decoded += len as u64;
        }
        match stop {
            None => return Ok(i + len),
            Some(b'"') => {
                sink.end(raw + len as u64);
                self.state = match self.role {
                    Role::Key => State::Colon,
                    Role::Value => State::AfterValue,
                };
            }
            Some(b'\\') => {
                self.escape = raw + len as u64;
                self.state = State::Escape;
            }
            Some(_) => return Err(self.error_at(JsonErrorKind::Control, i + len)),
        }
        Ok(i + len + 1)
    }

    /// The byte behind a backslash.
    fn escaped(&mut self, byte: u8, i: usize, sink: &mut impl Sink) -> Result<(), JsonError> {
        let character = match byte {
            b'"' | b'\\' | b'/' => byte,
            b'b' => 0x08,
            b'f' => 0x0C,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                self.state = State::Hex { digits: 0, unit: 0 };
                return Ok(());
            }
            _ => return Err(self.error_at(JsonErrorKind::Syntax, i)),
        };
        self.flush_high(sink);
        self.atom(u32::from(character), self.escape, 2, sink);
        Ok(())
    }

    /// A digit of a `\u` escape.
    fn hex(&mut self, digits: u8, unit: u16, byte: u8, i: usize, sink: &mut impl Sink) -> Result<(), JsonError> {
        let Some(digit) = char::from(byte).to_digit(16) else {
            return Err(self.error_at(JsonErrorKind::Syntax, i));
        };
        let unit = unit << 4 | digit as u16;
        if digits < 3 {
            self.state = State::Hex { digits: digits + 1, unit };
            return Ok(());
        }
        match (unit, self.high) {
            (0xDC00..=0xDFFF, Some((high, raw))) => {
                self.high = None;
                let (high, low) = (u32::from(high) - 0xD800, u32::from(unit) - 0xDC00);
                self.atom(0x10000 + (high << 10) + low, raw, 12, sink);
            }
            (0xD800..=0xDBFF, _) => {
                self.flush_high(sink);
                self.high = Some((unit, self.escape));
                self.state = State::Text;
            }
            _ => {
                self.flush_high(sink);
                self.atom(u32::from(unit), self.escape, 6, sink);
            }
        }
        Ok(())
    }

    /// Emits a high surrogate that found no low one.
    fn flush_high(&mut self, sink: &mut impl Sink) {
        if let Some((high, raw)) = self.high.take() {
            let state = self.state;
            self.atom(u32::from(high), raw, 6, sink);
            self.state = state;
        }
    }

    /// Emits one escape.
    fn atom(&mut self, code: u32, raw: u64, raw_len: u32, sink: &mut impl Sink) {
        let (buffer, len) = encode(code);
        sink.run(Run { text: &buffer[..len], at: self.decoded, raw, raw_len });
        self.decoded += len as u64;
        self.state = State::Text;
    }

    fn error_at(&self, kind: JsonErrorKind, i: usize) -> JsonError {
        JsonError { kind, offset: self.offset + i as u64 }
    }
}

/// UTF-8 of a code point, surrogates included.
fn encode(code: u32) -> ([u8; 4], usize) {
    let tail = |shift: u32| 0x80 | (code >> shift & 0x3F) as u8;
    match code {
        0..0x80 => ([code as u8, 0, 0, 0], 1),
        0x80..0x800 => ([0xC0 | (code >> 6) as u8, tail(0), 0, 0], 2),
        0x800..0x10000 => ([0xE0 | (code >> 12) as u8, tail(6), tail(0), 0], 3),
        _ => ([0xF0 | (code >> 18) as u8, tail(12), tail(6), tail(0)], 4),
    }
}
