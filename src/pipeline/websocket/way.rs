//! One direction of a WebSocket: what came, and what may leave.
//!
//! Without rules frames are passed on as they come, piece by piece, with their fragmentation; only the mask is ours.
//! With rules messages are put together, and leave as one frame each when the scanner lets them go. Control frames pass
//! at once either way; with rules they are read before.

use bytes::{BufMut, BytesMut};

use super::frame::{Control, Decoder, Event, Terms, Violation, apply_mask, first, write_head};
use super::mask::Masks;
use crate::pipeline::memory::Lease;
use crate::policy::Unscannable;
use crate::scan::{MessageKind, Messages, StreamScanner, StreamStop};

/// Why a direction cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Its sender broke the protocol.
    Violation(Violation),
    /// The rules forbid what it says.
    Stopped(StreamStop),
    /// A binary message, where rules apply that cannot read it.
    Binary,
    NoMemory,
}

/// What a direction may hold without asking for memory.
const FREE: usize = 16 << 10;

/// One direction.
#[derive(Debug)]
pub(super) struct Way {
    decoder: Decoder,
    exit: Exit,
}

/// What leaves a direction.
#[derive(Debug)]
pub(super) struct Exit {
    /// Frames that wait to be written.
    pub out: BytesMut,
    /// Towards a service frames are masked.
    masks: Option<Masks>,
    /// The mask of the frame that is passing, and where in it we are.
    mask: Option<[u8; 4]>,
    phase: usize,
    /// A frame, or a message, has begun in `out` and not ended.
    in_frame: bool,
    in_message: bool,
    /// A close frame has been written; nothing may follow.
    pub closed: bool,
    pub inspected: Option<Box<Inspected>>,
    /// Bytes of messages that left.
    pub bytes: u64,
    /// Messages that left.
    pub messages: u64,
}

/// A direction that rules apply to.
#[derive(Debug)]
pub(super) struct Inspected {
    pub scanner: StreamScanner,
    /// What is done with binary messages.
    binary: Unscannable,
    lease: Lease,
    /// The message that is being put together.
    partial: Vec<u8>,
    kind: MessageKind,
    ready: Messages,
    /// It never stops.
    observes: bool,
}

impl Inspected {
    pub(super) fn new(scanner: StreamScanner, binary: Unscannable, observes: bool, lease: Lease) -> Self {
        Self {
            scanner,
            binary,
            lease,
            partial: Vec::new(),
            kind: MessageKind::Text,
            ready: Messages::default(),
            observes,
        }
    }
}

impl Inspected {
    /// While it is scanned, a message is in memory as it came, as its strings, and as what may leave.
    fn pay_for_scan(&mut self) -> Result<(), Fault> {
        let held = self.scanner.held() + 3 * self.partial.len();
        self.lease.resize(held.saturating_sub(FREE)).map_err(|_| Fault::NoMemory)
    }
}

impl Way {
    /// `masks` are for a direction that ends at a service.
    pub(super) fn new(terms: Terms, masks: Option<Masks>, inspected: Option<Inspected>) -> Self {
        let exit = Exit {
            out: BytesMut::new(),
            masks,
            mask: None,
            phase: 0,
            in_frame: false,
            in_message: false,
            closed: false,
            inspected: inspected.map(Box::new),
            bytes: 0,
            messages: 0,
        };
        Self { decoder: Decoder::new(terms), exit }
    }

    /// Reads bytes of its sender.
    pub(super) fn feed(&mut self, bytes: &mut [u8]) -> Result<(), Fault> {
        let exit = &mut self.exit;
        let mut fault = None;
        let read = self.decoder.feed(bytes, &mut |event| {
            if fault.is_none() {
                fault = exit.take(event).err();
            }
        });
        match fault {
            Some(fault) => Err(fault),
            None => read.map_err(Fault::Violation).and_then(|()| exit.pay()),
        }
    }

    pub(super) fn exit(&self) -> &Exit {
        &self.exit
    }

    pub(super) fn exit_mut(&mut self) -> &mut Exit {
        &mut self.exit
    }
}

impl Exit {
    fn take(&mut self, event: Event<'_>) -> Result<(), Fault> {
        match (event, &mut self.inspected) {
            (Event::Control(Control::Close, payload), Some(inspected)) => {
                // The reason is text that nothing has scanned, and only says in words what the code says.
                let said = if inspected.observes { payload } else { &payload[..payload.len().min(2)] };
                // What waited for more of its text need not wait any longer.
                let mut ready = std::mem::take(&mut inspected.ready);
                inspected.scanner.end_messages(&mut ready);
                self.let_go(ready);
                self.stopped()?;
                self.control(Control::Close, said);
            }
            (Event::Control(control, payload), inspected) => {
                if let Some(inspected) = inspected {
                    inspected.scanner.aside(payload);
                    self.stopped()?;
                }
                self.control(control, payload);
            }
            (Event::Begin { first, length, .. }, None) => {
                self.mask = self.masks.as_mut().map(Masks::draw);
                self.phase = 0;
                write_head(&mut self.out, first, length, self.mask);
                (self.in_frame, self.in_message) = (true, true);
            }
            (Event::Data(data), None) => self.payload(data),
            (Event::End { message }, None) => {
                self.in_frame = false;
                self.in_message = !message;
                self.messages += u64::from(message);
            }
            (Event::Begin { kind, .. }, Some(inspected)) => {
                inspected.kind = kind;
                if kind == MessageKind::Binary && inspected.binary == Unscannable::Block && !inspected.observes {
                    return Err(Fault::Binary);
                }
            }
            (Event::Data(data), Some(inspected)) => inspected.partial.extend_from_slice(data),
            (Event::End { message: false }, Some(_)) => {}
            (Event::End { message: true }, Some(inspected)) => {
                inspected.pay_for_scan()?;
                let mut ready = std::mem::take(&mut inspected.ready);
                inspected.scanner.message(inspected.kind, &inspected.partial, &mut ready);
                inspected.partial.clear();
                // A giant's memory is not kept.
                inspected.partial.shrink_to(FREE);
                self.let_go(ready);
                self.stopped()?;
            }
        }
        Ok(())
    }

    /// Writes messages that may leave, and keeps their memory for the next.
    fn let_go(&mut self, mut ready: Messages) {
        for (kind, message) in ready.iter() {
            self.frame(first(kind), message);
            self.bytes += message.len() as u64;
            self.messages += 1;
        }
        ready.clear();
        if let Some(inspected) = &mut self.inspected {
            inspected.ready = ready;
        }
    }

    fn stopped(&self) -> Result<(), Fault> {
        let stop = self.inspected.as_ref().and_then(|inspected| inspected.scanner.stop());
        stop.map_or(Ok(()), |stop| Err(Fault::Stopped(stop)))
    }

    /// Pays for what is held, out of the budget of all bodies.
    fn pay(&mut self) -> Result<(), Fault> {
        let Some(inspected) = &mut self.inspected else { return Ok(()) };
        let held = inspected.partial.len() + inspected.scanner.held() + self.out.len();
        inspected.lease.resize(held.saturating_sub(FREE)).map_err(|_| Fault::NoMemory)
    }

    /// What was written has left.
    pub(super) fn written(&mut self, bytes: usize) {
        bytes::Buf::advance(&mut self.out, bytes);
        // Giving back cannot fail.
        let _ = self.pay();
    }

    fn payload(&mut self, data: &[u8]) {
        let at = self.out.len();
        self.out.put_slice(data);
        if let Some(mask) = self.mask {
            self.phase = apply_mask(&mut self.out[at..], mask, self.phase);
        }
        self.bytes += data.len() as u64;
    }

    /// Writes a whole frame.
    fn frame(&mut self, first: u8, payload: &[u8]) {
        let mask = self.masks.as_mut().map(Masks::draw);
        write_head(&mut self.out, first, payload.len() as u64, mask);
        let at = self.out.len();
        self.out.put_slice(payload);
        if let Some(mask) = mask {
            apply_mask(&mut self.out[at..], mask, 0);
        }
    }

    fn control(&mut self, control: Control, payload: &[u8]) {
        self.closed |= control == Control::Close;
        self.frame(control.first(), payload);
    }

    /// Says something of our own, unless a message is on its way or nothing more may be said.
    pub(super) fn say(&mut self, text: &[u8]) {
        if !self.closed && !self.in_message {
            self.frame(first(MessageKind::Text), text);
        }
    }

    /// Closes for a reason of ours, unless a frame is on its way: nothing can be said within it, and that the
    /// connection ends there says enough.
    pub(super) fn close(&mut self, code: u16, reason: &str) {
        if self.closed || self.in_frame {
            return;
        }
        let mut payload = code.to_be_bytes().to_vec();
        // Reasons of ours are ASCII.
        payload.extend_from_slice(&reason.as_bytes()[..reason.len().min(123)]);
        self.control(Control::Close, &payload);
    }
}
