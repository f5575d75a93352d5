//! Where the frames of a stream are: server-sent events, and lines of JSON.
//!
//! Bytes of a body enter, cut anywhere; whole frames leave, each with its raw bytes and with the places in them that
//! hold data. Every raw byte belongs to exactly one frame, so that frames written one after another are the stream
//! again. What the data means is not known here.

use std::ops::Range;

use memchr::{memchr, memchr2};

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// The separator that begins a record of `application/json-seq` (RFC 7464).
const RECORD: u8 = 0x1E;

/// One event, or one line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// As it was received, line ends and the blank line included.
    pub raw: Vec<u8>,
    /// The values of its `data` fields in `raw`, which a reader joins by line feeds.
    pub data: Vec<Range<usize>>,
    /// Its other lines in `raw`: comments, and fields of any other name.
    pub rest: Vec<Range<usize>>,
}

impl Frame {
    fn clear(&mut self) {
        self.raw.clear();
        self.data.clear();
        self.rest.clear();
    }
}

/// How a stream is cut into frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// `text/event-stream`. A frame is an event with its blank line, or a comment between events.
    Events,
    /// A JSON document on each line.
    Lines,
}

/// What [`Splitter::next`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// [`Splitter::frame`] is complete.
    Frame,
    /// A line feed that belongs to the frame before: its last line ended with a carriage return, which ended the
    /// frame at once, because nobody knows whether anything follows.
    LineFeed,
}

/// Cuts one stream into frames.
#[derive(Debug)]
pub struct Splitter {
    framing: Framing,
    frame: Frame,
    /// The frame was handed out; the next byte begins another.
    complete: bool,
    /// Where the current line begins in the frame.
    line: usize,
    /// The byte before was a carriage return.
    after_cr: bool,
    /// No line has ended yet: this one may begin with a byte order mark.
    first_line: bool,
}

impl Splitter {
    /// A splitter at the start of a stream.
    pub fn new(framing: Framing) -> Self {
        Self { framing, frame: Frame::default(), complete: false, line: 0, after_cr: false, first_line: true }
    }

    /// The frame that is being read, or was completed by the last call.
    pub fn frame(&self) -> &Frame {
        &self.frame
    }

    /// Takes the completed frame.
    pub fn take(&mut self) -> Frame {
        std::mem::take(&mut self.frame)
    }

    /// Gives back a taken frame, so that its memory is used again.
    pub fn give_back(&mut self, frame: Frame) {
        if self.complete {
            self.frame = frame;
        }
    }

    /// Exchanges the memory of its frame for that of `spare`, unless a frame is incomplete. What is in either is lost.
    pub fn exchange(&mut self, spare: &mut Frame) {
        if self.pending() == 0 {
            self.begin();
            std::mem::swap(&mut self.frame, spare);
            self.frame.clear();
        }
    }

    /// Bytes of an incomplete frame.
    pub fn pending(&self) -> usize {
        if self.complete { 0 } else { self.frame.raw.len() }
    }

    /// Reads `bytes` up to the end of a frame. `None` when all of them are read.
    pub fn next(&mut self, bytes: &mut &[u8]) -> Option<Split> {
        self.begin();
        while !bytes.is_empty() {
            if std::mem::take(&mut self.after_cr) && bytes[0] == b'\n' {
                *bytes = &bytes[1..];
                if self.frame.raw.is_empty() {
                    return Some(Split::LineFeed);
                }
                self.frame.raw.push(b'\n');
                self.line = self.frame.raw.len();
                continue;
            }
            let end = match self.framing {
                Framing::Events => memchr2(b'\r', b'\n', bytes),
                Framing::Lines => memchr(b'\n', bytes),
            };
            let Some(end) = end else {
                self.frame.raw.extend_from_slice(bytes);
                *bytes = &[];
                return None;
            };
            let (line, rest) = bytes.split_at(end + 1);
            self.frame.raw.extend_from_slice(line);
            self.after_cr = line[end] == b'\r';
            *bytes = rest;
            if self.line_ended(self.frame.raw.len() - 1) {
                self.complete = true;
                return Some(Split::Frame);
            }
        }
        None
    }

    /// Ends the stream. Whether there is a last frame, which nothing terminates: some readers take it nevertheless.
    pub fn finish(&mut self) -> bool {
        self.begin();
        if self.frame.raw.is_empty() {
            return false;
        }
        if self.line < self.frame.raw.len() {
            self.line_ended(self.frame.raw.len());
        }
        self.complete = true;
        true
    }

    fn begin(&mut self) {
        if std::mem::take(&mut self.complete) {
            self.frame.clear();
            self.line = 0;
        }
    }

    /// Sorts the line that ends before `end`. Returns whether the frame ends with it.
    fn line_ended(&mut self, end: usize) -> bool {
        let mut start = self.line;
        if std::mem::take(&mut self.first_line) && self.frame.raw[start..end].starts_with(BOM) {
            start += BOM.len();
        }
        let only_line = self.line == 0;
        self.line = self.frame.raw.len();
        let line = &self.frame.raw[start..end];
        if self.framing == Framing::Lines {
            let json = line.strip_suffix(b"\r").unwrap_or(line);
            let record = usize::from(json.first() == Some(&RECORD));
            if !json[record..].trim_ascii().is_empty() {
                self.frame.data.push(start + record..start + json.len());
            }
            return true;
        }
        let colon = match memchr(b':', line) {
            _ if line.is_empty() => return true,
            // A comment between events is nobody's part, and may be meant to arrive now.
            Some(0) => {
                self.frame.rest.push(start..end);
                return only_line;
            }
            colon => colon.unwrap_or(line.len()),
        };
        if &line[..colon] == b"data" {
            let value = (start + colon + 1).min(end);
            let space = usize::from(self.frame.raw[value..end].first() == Some(&b' '));
            self.frame.data.push(value + space..end);
        } else {
            self.frame.rest.push(start..end);
        }
        false
    }
}

#[cfg(test)]
mod tests;
