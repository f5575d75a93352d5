//! Frames of RFC 6455.
//!
//! Bytes of one direction enter, cut anywhere; the frames in them leave, unmasked, and a [`Violation`] where they are
//! not what the protocol allows. Nothing is held but heads and control frames.

use bytes::{BufMut, BytesMut};

use super::utf8::Utf8;
use crate::scan::MessageKind;

/// The longest payload of a control frame (§5.5).
const MAX_CONTROL: u64 = 125;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;

/// A frame that passes between those of a message (§5.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Control {
    Close,
    Ping,
    Pong,
}

impl Control {
    /// The first byte of its frame.
    pub(super) fn first(self) -> u8 {
        FIN | match self {
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }
}

/// The first byte of a message in one frame.
pub(super) fn first(kind: MessageKind) -> u8 {
    FIN | match kind {
        MessageKind::Text => 1,
        MessageKind::Binary => 2,
    }
}

/// What a peer must not send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Violation {
    /// Of the protocol, in this way.
    Protocol(&'static str),
    /// A text that is not UTF-8.
    NotText,
    /// A message longer than allowed.
    TooLong,
}

impl Violation {
    /// The close code that tells the peer (§7.4.1).
    pub(super) fn code(self) -> u16 {
        match self {
            Self::Protocol(_) => 1002,
            Self::NotText => 1007,
            Self::TooLong => 1009,
        }
    }

    pub(super) fn why(self) -> &'static str {
        match self {
            Self::Protocol(why) => why,
            Self::NotText => "a text is not UTF-8",
            Self::TooLong => "a message is too long",
        }
    }
}

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event<'a> {
    /// A frame of a message begins: its first byte as it came, the kind of the message, and the length that follows.
    Begin {
        first: u8,
        kind: MessageKind,
        length: u64,
    },
    Data(&'a [u8]),
    /// It ends, and with it perhaps the message.
    End {
        message: bool,
    },
    Control(Control, &'a [u8]),
}

/// What a sender may do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Clients mask, services do not (§5.1).
    pub masked: bool,
    /// Extensions were agreed on, which may use the reserved bits.
    pub extended: bool,
    /// The longest message, in bytes.
    pub max: u64,
}

/// Reads one direction.
#[derive(Debug)]
pub(super) struct Decoder {
    terms: Terms,
    head: [u8; 14],
    have: usize,
    frame: Option<Frame>,
    message: Option<Message>,
    control: Vec<u8>,
    /// Nothing counts behind a close frame.
    closed: bool,
}

#[derive(Debug)]
struct Frame {
    control: Option<Control>,
    fin: bool,
    left: u64,
    mask: [u8; 4],
    /// How far into the mask.
    phase: usize,
}

#[derive(Debug)]
struct Message {
    kind: MessageKind,
    length: u64,
    /// Checks what is text and not transformed by an extension.
    text: Option<Utf8>,
}

impl Decoder {
    pub(super) fn new(terms: Terms) -> Self {
        Self { terms, head: [0; 14], have: 0, frame: None, message: None, control: Vec::new(), closed: false }
    }

    /// Reads bytes, unmasking them in place. After a violation there is nothing more to read.
    pub(super) fn feed(&mut self, mut bytes: &mut [u8], sink: &mut impl FnMut(Event<'_>)) -> Result<(), Violation> {
        while !bytes.is_empty() && !self.closed {
            let Some(frame) = &mut self.frame else {
                let taken = (self.head_size() - self.have).min(bytes.len());
                let (head, rest) = bytes.split_at_mut(taken);
                self.head[self.have..self.have + taken].copy_from_slice(head);
                self.have += taken;
                bytes = rest;
                if self.have == 2 {
                    self.check_start()?;
                }
                if self.have >= 2 && self.have == self.head_size() {
                    self.begin(sink)?;
                }
                continue;
            };
            let taken = usize::try_from(frame.left).unwrap_or(usize::MAX).min(bytes.len());
            let (data, rest) = bytes.split_at_mut(taken);
            bytes = rest;
            frame.phase = apply_mask(data, frame.mask, frame.phase);
            frame.left -= taken as u64;
            let done = frame.left == 0;
            if frame.control.is_some() {
                self.control.extend_from_slice(data);
            } else {
                let text = self.message.as_mut().and_then(|message| message.text.as_mut());
                if let Some(Err(good)) = text.map(|text| text.feed(data)) {
                    // As if it had come byte by byte.
                    if good > 0 {
                        sink(Event::Data(&data[..good]));
                    }
                    return Err(Violation::NotText);
                }
                sink(Event::Data(data));
            }
            if done {
                self.end(sink)?;
            }
        }
        Ok(())
    }

    /// Bytes of the head, as far as they are known.
    fn head_size(&self) -> usize {
        if self.have < 2 {
            return 2;
        }
        let extended = match self.head[1] & !MASKED {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + extended + if self.head[1] & MASKED == 0 { 0 } else { 4 }
    }

    /// Judges the first two bytes as soon as they are there.
    fn check_start(&self) -> Result<(), Violation> {
        let [first, second] = [self.head[0], self.head[1]];
        let protocol = |why| Err(Violation::Protocol(why));
        let is_control = first & 0x08 != 0;
        if first & RESERVED != 0 && (is_control || !self.terms.extended) {
            return protocol("a reserved bit is set");
        }
        if (second & MASKED != 0) != self.terms.masked {
            return protocol(if self.terms.masked { "a frame is not masked" } else { "a frame is masked" });
        }
        match (first & 0x0F, &self.message) {
            (0, None) => protocol("a continuation of nothing"),
            (1 | 2, Some(_)) => protocol("a message begins within another"),
            (0..=2, _) => Ok(()),
            (8..=10, _) if first & FIN == 0 => protocol("a control frame is fragmented"),
            (8..=10, _) if u64::from(second & !MASKED) > MAX_CONTROL => protocol("a control frame is too long"),
            (8..=10, _) => Ok(()),
            _ => protocol("an unknown opcode"),
        }
    }

    fn begin(&mut self, sink: &mut impl FnMut(Event<'_>)) -> Result<(), Violation> {
        let (first, second, size) = (self.head[0], self.head[1], self.have);
        self.have = 0;
        let mut wide = [0; 8];
        let length = match second & !MASKED {
            126 => {
                wide[6..].copy_from_slice(&self.head[2..4]);
                u64::from_be_bytes(wide)
            }
            127 => {
                wide.copy_from_slice(&self.head[2..10]);
                u64::from_be_bytes(wide)
            }
            short => u64::from(short),
        };
        let least = match second & !MASKED {
            126 => 126,
            127 => 1 << 16,
            _ => 0,
        };
        if length < least || length >> 63 != 0 {
            return Err(Violation::Protocol("a length is not written as it must be"));
        }
        let mut mask = [0; 4];
        if self.terms.masked {
            mask.copy_from_slice(&self.head[size - 4..size]);
        }
        let control = match first & 0x0F {
            8 => Some(Control::Close),
            9 => Some(Control::Ping),
            10 => Some(Control::Pong),
            _ => None,
        };
        if control.is_none() {
            let kind = if first & 0x0F == 2 { MessageKind::Binary } else { MessageKind::Text };
            let checked = kind == MessageKind::Text && first & RESERVED == 0;
            let message =
                self.message.get_or_insert_with(|| Message { kind, length: 0, text: checked.then(Utf8::default) });
            message.length = message.length.saturating_add(length);
            if message.length > self.terms.max {
                return Err(Violation::TooLong);
            }
            sink(Event::Begin { first, kind: message.kind, length });
        }
        self.frame = Some(Frame { control, fin: first & FIN != 0, left: length, mask, phase: 0 });
        if length == 0 { self.end(sink) } else { Ok(()) }
    }

    fn end(&mut self, sink: &mut impl FnMut(Event<'_>)) -> Result<(), Violation> {
        let Some(frame) = self.frame.take() else { return Ok(()) };
        if let Some(control) = frame.control {
            if control == Control::Close {
                check_close(&self.control)?;
                self.closed = true;
            }
            sink(Event::Control(control, &self.control));
            self.control.clear();
            return Ok(());
        }
        if frame.fin {
            let text = self.message.take().and_then(|message| message.text);
            if text.is_some_and(|text| !text.is_whole()) {
                return Err(Violation::NotText);
            }
        }
        sink(Event::End { message: frame.fin });
        Ok(())
    }
}

/// A close frame is empty, or a code that may be sent and a reason in UTF-8 (§5.5.1, §7.4).
fn check_close(payload: &[u8]) -> Result<(), Violation> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() { Ok(()) } else { Err(Violation::Protocol("half a close code")) };
    };
    match u16::from_be_bytes(*code) {
        1000..=1003 | 1007..=1014 | 3000..=4999 => {}
        _ => return Err(Violation::Protocol("a close code that must not be sent")),
    }
    if std::str::from_utf8(reason).is_err() { Err(Violation::NotText) } else { Ok(()) }
}

/// Writes a frame's head.
pub(super) fn write_head(out: &mut BytesMut, first: u8, length: u64, mask: Option<[u8; 4]>) {
    let masked = if mask.is_some() { MASKED } else { 0 };
    out.put_u8(first);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ 0..=125), _) => out.put_u8(masked | short),
        (_, Ok(middle)) => {
            out.put_u8(masked | 126);
            out.put_u16(middle);
        }
        _ => {
            out.put_u8(masked | 127);
            out.put_u64(length);
        }
    }
    if let Some(mask) = mask {
        out.put_slice(&mask);
    }
}

/// Masks or unmasks from `phase` of the mask on; returns where the next byte stands in it (§5.3).
pub(super) fn apply_mask(bytes: &mut [u8], mask: [u8; 4], phase: usize) -> usize {
    let mut turned = mask;
    turned.rotate_left(phase % 4);
    if turned == [0; 4] {
        return (phase + bytes.len()) % 4;
    }
    let word =
        u64::from_ne_bytes([turned[0], turned[1], turned[2], turned[3], turned[0], turned[1], turned[2], turned[3]]);
    let mut words = bytes.chunks_exact_mut(8);
    for chunk in &mut words {
        let mut eight = [0; 8];
        eight.copy_from_slice(chunk);
        chunk.copy_from_slice(&(u64::from_ne_bytes(eight) ^ word).to_ne_bytes());
    }
    for (byte, mask) in words.into_remainder().iter_mut().zip(turned.iter().cycle()) {
        *byte ^= mask;
    }
    (phase + bytes.len()) % 4
}

#[cfg(test)]
mod tests;
