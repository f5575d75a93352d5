//! Passing over bytes at which no match can start.
//!
//! Most bytes of most texts start nothing, and while no thread is alive a scanner need
//! not look at them one by one. A filter here may point at a byte in vain; it never
//! passes over a byte that could start a match and still be alive afterwards.

use super::{DEAD, State, Table};

/// A filter over the first two bytes of a match.
pub(crate) struct Skip {
    how: How,
}

enum How {
    /// Few bytes can start a match: search for them.
    One(u8),
    Two(u8, u8),
    Three(u8, u8, u8),
    /// Many can: look at pairs.
    Pairs(Box<Pairs>),
}

/// A byte pair can start a match only if the two masks share a bit.
///
/// Each bit stands for a group of states after the first byte; eight groups are enough
/// to keep `o` then `n` apart from `j` then `a`.
struct Pairs {
    first: [u8; 256],
    second: [u8; 256],
}

impl Skip {
    /// A filter that points at no byte.
    pub(super) fn never() -> Self {
        Self { how: How::Pairs(Box::new(Pairs { first: [0; 256], second: [0; 256] })) }
    }

    pub(super) fn new(table: &Table) -> Self {
        let pairs = Pairs::new(table);
        let starting: Vec<u8> = (0..=255u8).filter(|&b| pairs.first[usize::from(b)] != 0).collect();
        let how = match starting[..] {
            [a] => How::One(a),
            [a, b] => How::Two(a, b),
            [a, b, c] => How::Three(a, b, c),
            _ => How::Pairs(Box::new(pairs)),
        };
        Self { how }
    }

    /// The first index at or after `from` at which a match might start, or the length.
    ///
    /// At the last byte only the first byte of a match is known, so it is pointed at
    /// whenever it could be one: what the next chunk brings is unknown.
    #[inline]
    pub(crate) fn find(&self, bytes: &[u8], from: usize) -> usize {
        let rest = &bytes[from..];
        let found = match &self.how {
            How::One(a) => memchr::memchr(*a, rest),
            How::Two(a, b) => memchr::memchr2(*a, *b, rest),
            How::Three(a, b, c) => memchr::memchr3(*a, *b, *c, rest),
            How::Pairs(pairs) => pairs.find(rest),
        };
        found.map_or(bytes.len(), |at| from + at)
    }
}

impl Pairs {
    fn new(table: &Table) -> Self {
        let mut pairs = Self { first: [0; 256], second: [0; 256] };
        let mut groups: Vec<State> = Vec::new();
        for kind in table.kinds() {
            for byte in 0..=255u8 {
                let state = table.next(table.start(kind), byte);
                if state == DEAD {
                    continue;
                }
                let group = groups.iter().position(|&s| s == state).unwrap_or_else(|| {
                    groups.push(state);
                    groups.len() - 1
                });
                let bit = 1 << (group % 8);
                pairs.first[usize::from(byte)] |= bit;
                for next in 0..=255u8 {
                    // A state that reports at once must not be passed over, whatever
                    // comes next.
                    if table.reports(state) || table.next(state, next) != DEAD {
                        pairs.second[usize::from(next)] |= bit;
                    }
                }
            }
        }
        pairs
    }

    #[inline]
    fn find(&self, bytes: &[u8]) -> Option<usize> {
        let (&last, _) = bytes.split_last()?;
        let hit = |a: u8, b: u8| self.first[usize::from(a)] & self.second[usize::from(b)] != 0;
        bytes
            .iter()
            .zip(&bytes[1..])
            .position(|(&a, &b)| hit(a, b))
            .or_else(|| (self.first[usize::from(last)] != 0).then_some(bytes.len() - 1))
    }
}
