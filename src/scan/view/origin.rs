//! Where each byte of a view came from, as far back as somebody may still ask.

use std::collections::VecDeque;
use std::ops::Range;

/// A stretch of the view.
#[derive(Debug)]
struct Run {
    /// Where it begins in the view, and its length there.
    at: u64,
    len: u64,
    /// Where it begins in the text, and its length there.
    origin: u64,
    origin_len: u64,
    /// Each of its bytes stands for the one at the same place; else all of them for all.
    linear: bool,
}

/// The map from offsets of a view to those of the text.
///
/// Runs follow each other without a gap in the view. Between them there may be text that the view leaves out.
#[derive(Debug, Default)]
pub(super) struct Origin {
    runs: VecDeque<Run>,
}

impl Origin {
    pub(super) fn clear(&mut self) {
        self.runs.clear();
    }

    /// Runs that are kept.
    pub(super) fn len(&self) -> usize {
        self.runs.len()
    }

    /// Memory, in bytes.
    pub(super) fn memory(&self) -> usize {
        self.runs.capacity() * size_of::<Run>()
    }

    /// Adds what the next `len` bytes of the view, which begin at `at`, came from.
    pub(super) fn push(&mut self, at: u64, len: u64, origin: Range<u64>, linear: bool) {
        if len == 0 {
            return;
        }
        let origin_len = origin.end - origin.start;
        match self.runs.back_mut() {
            Some(last) if linear && last.linear && last.origin + last.origin_len == origin.start => {
                last.len += len;
                last.origin_len += origin_len;
            }
            _ => self.runs.push_back(Run { at, len, origin: origin.start, origin_len, linear }),
        }
    }

    /// Forgets what lies before `at` in the view.
    pub(super) fn trim(&mut self, at: u64) {
        while self.runs.front().is_some_and(|run| run.at + run.len <= at) {
            self.runs.pop_front();
        }
    }

    /// Where the unit begins that the byte at `at` belongs to. `None` behind the last byte.
    pub(super) fn start(&self, at: u64) -> Option<u64> {
        let run = self.run(at)?;
        Some(if run.linear { run.origin + (at - run.at) } else { run.origin })
    }

    /// Where the unit ends that the byte before `at` belongs to.
    pub(super) fn end(&self, at: u64) -> Option<u64> {
        let last = at.checked_sub(1)?;
        let run = self.run(last)?;
        Some(if run.linear { run.origin + (at - run.at) } else { run.origin + run.origin_len })
    }

    fn run(&self, at: u64) -> Option<&Run> {
        let index = self.runs.partition_point(|run| run.at + run.len <= at);
        self.runs.get(index).filter(|run| run.at <= at)
    }
}
