//! What reading a frame needs besides the stream's own state.
//!
//! It holds nothing from one chunk to the next but memory, so that a thread needs one for all its streams.

use std::cell::Cell;

use super::super::{super::text::sse::Frame, api::Sorter, document::Document, template::Filled};
use super::Held;

thread_local!(static SPARE: Cell<Option<Box<Scratch>>> = const { Cell::new(None) });

/// Buffers for one frame.
#[derive(Default)]
pub(super) struct Scratch {
    pub document: Document,
    pub filled: Vec<Filled>,
    /// A payload of several lines.
    pub payload: Vec<u8>,
    /// The memory of the stream's own of these names, while the stream is read.
    pub frame: Frame,
    pub next: Held,
    pub sorter: Sorter,
}

impl Scratch {
    /// The thread's buffers, or new ones.
    pub(super) fn take() -> Box<Self> {
        SPARE.try_with(Cell::take).ok().flatten().unwrap_or_default()
    }

    /// Leaves them to the next chunk.
    pub(super) fn give_back(mut self: Box<Self>) {
        /// What ordinary frames need; a giant's memory is not kept.
        const KEPT: usize = 1 << 16;
        if self.payload.capacity() > KEPT {
            self.payload = Vec::new();
        }
        if self.frame.raw.capacity() > KEPT {
            self.frame = Frame::default();
        }
        if self.next.capacity() > KEPT {
            self.next = Held::default();
        }
        // Without the thread's storage, when the thread ends, they are dropped.
        let _ = SPARE.try_with(|spare| spare.set(Some(self)));
    }
}
