//! Passing over bytes at which no match can start.
//!
//! Most bytes of most texts start nothing, and while no thread is alive a scanner need
//! not look at them one by one. A filter here may point at a byte in vain; it never
//! passes over a byte that could start a match and still be alive afterwards.

use super::{DEAD, State, Table};

/// Bytes of a vector.
const LANES: usize = 16;

/// How many bytes are looked at together: two vectors, which share what they are compared with.
const BLOCK: usize = 2 * LANES;

/// The most openings that are compared with each block: with more, looking bytes up one by one is as fast.
const MAX_OPENINGS: usize = 12;

/// The bit that tells the cases of ASCII letters apart.
const CASE: u8 = 0x20;

/// The top bit of each byte of a word.
const TOPS: u64 = (u64::MAX / 255) << 7;

/// A filter over the first two bytes of a match.
pub(crate) struct Skip {
    how: How,
}

enum How {
    /// Few bytes can start a match: search for them.
    One(u8),
    Two(u8, u8),
    Three(u8, u8, u8),
    /// More can: look at pairs.
    Pairs(Box<Pairs>),
}

struct Pairs {
    /// A byte pair can start a match only if the two masks share a bit.
    ///
    /// Each bit stands for a group of states after the first byte; eight groups are enough
    /// to keep `o` then `n` apart from `j` then `a`.
    first: [u8; 256],
    second: [u8; 256],
    /// The same for a block at once, or nothing where there are too many.
    words: Box<[Word]>,
    openings: Box<[Opening]>,
}

/// A byte for each of those in a vector.
type Lanes = [u8; LANES];

/// Two bytes, with the bit of the case set.
struct Word {
    first: Lanes,
    second: Lanes,
}

/// Bytes with these values in these bits.
struct Bits {
    mask: Lanes,
    value: Lanes,
}

/// What the first byte and the second of a match look like, where they are more than a [`Word`].
struct Opening {
    first: Bits,
    second: Bits,
}

impl Skip {
    /// A filter that points at no byte.
    pub(super) fn never() -> Self {
        Self { how: How::Pairs(Box::new(Pairs::never())) }
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

    /// The first index at or after `from` at which a match might start and which `is_start` confirms, or the length.
    ///
    /// At the last byte only the first byte of a match is known, so it is pointed at
    /// whenever it could be one: what the next chunk brings is unknown.
    #[inline]
    pub(crate) fn find(&self, bytes: &[u8], from: usize, mut is_start: impl FnMut(usize) -> bool) -> usize {
        let rest = &bytes[from..];
        let mut confirmed = |at: &usize| is_start(from + at);
        let found = match &self.how {
            How::One(a) => memchr::memchr_iter(*a, rest).find(&mut confirmed),
            How::Two(a, b) => memchr::memchr2_iter(*a, *b, rest).find(&mut confirmed),
            How::Three(a, b, c) => memchr::memchr3_iter(*a, *b, *c, rest).find(&mut confirmed),
            How::Pairs(pairs) => return pairs.find(bytes, from, is_start),
        };
        found.map_or(bytes.len(), |at| from + at)
    }
}

impl Bits {
    /// The bits that all of `bytes` have in common.
    fn of(bytes: &[u8]) -> Self {
        let (ones, zeros) = bytes.iter().fold((0xFF, 0xFF), |(ones, zeros), byte| (ones & byte, zeros & !byte));
        Self { mask: [ones | zeros; LANES], value: [ones; LANES] }
    }

    /// The bits in which a byte of this lane is none of these.
    #[inline(always)]
    fn differ(&self, byte: u8, lane: usize) -> u8 {
        (byte ^ self.value[lane]) & self.mask[lane]
    }
}

impl Word {
    /// Leaves zero only where `window`, from `from` on, may have this.
    #[inline(always)]
    #[allow(clippy::needless_range_loop, reason = "over iterators it compiles to twice as many instructions")]
    fn narrow(&self, window: &[u8; BLOCK + 1], from: usize, differs: &mut Lanes) {
        for i in 0..LANES {
            let (one, next) = (window[from + i] | CASE, window[from + i + 1] | CASE);
            differs[i] = differs[i].min((one ^ self.first[i]) | (next ^ self.second[i]));
        }
    }
}

impl Opening {
    /// As [`Word::narrow`].
    #[inline(always)]
    #[allow(clippy::needless_range_loop, reason = "over iterators it compiles to twice as many instructions")]
    fn narrow(&self, window: &[u8; BLOCK + 1], from: usize, differs: &mut Lanes) {
        for i in 0..LANES {
            let (one, next) = (window[from + i], window[from + i + 1]);
            differs[i] = differs[i].min(self.first.differ(one, i) | self.second.differ(next, i));
        }
    }
}

impl Pairs {
    fn never() -> Self {
        Self { first: [0; 256], second: [0; 256], words: Box::default(), openings: Box::default() }
    }

    fn new(table: &Table) -> Self {
        let mut pairs = Self::never();
        // By state after the first byte: the first bytes that lead there.
        let mut groups: Vec<(State, Vec<u8>)> = Vec::new();
        for kind in table.kinds() {
            for byte in 0..=255u8 {
                let state = table.next(table.start(kind), byte);
                if state == DEAD {
                    continue;
                }
                match groups.iter_mut().find(|(known, _)| *known == state) {
                    Some((_, bytes)) => bytes.push(byte),
                    None => groups.push((state, vec![byte])),
                }
            }
        }
        let mut openings: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        for (i, (state, firsts)) in groups.iter().enumerate() {
            let bit = 1 << (i % 8);
            // A state that reports at once must not be passed over, whatever comes next.
            let follows = |next: &u8| table.reports(*state) || table.next(*state, *next) != DEAD;
            let seconds: Vec<u8> = (0..=255u8).filter(follows).collect();
            firsts.iter().for_each(|&byte| pairs.first[usize::from(byte)] |= bit);
            seconds.iter().for_each(|&next| pairs.second[usize::from(next)] |= bit);
            // Bytes of different kinds (control, punctuation, letters, others) have few bits in common.
            let kind = |byte: u8| [0, 1, 2, 2, 3, 3, 3, 3][usize::from(byte >> 5)];
            for of_kind in seconds.chunk_by(|&a, &b| kind(a) == kind(b)) {
                match openings.iter_mut().find(|(_, known)| known == of_kind) {
                    Some((known, _)) => known.extend(firsts),
                    None => openings.push((firsts.clone(), of_kind.to_vec())),
                }
            }
        }
        if openings.len() <= MAX_OPENINGS {
            pairs.compare(&openings);
        }
        pairs
    }

    /// Takes the first bytes of matches, each with those that follow, to look for in blocks.
    fn compare(&mut self, openings: &[(Vec<u8>, Vec<u8>)]) {
        let one = |bytes: &[u8]| {
            let byte = bytes.first()? | CASE;
            bytes.iter().all(|other| other | CASE == byte).then_some([byte; LANES])
        };
        let (mut words, mut others) = (Vec::new(), Vec::new());
        for (firsts, seconds) in openings {
            match (one(firsts), one(seconds)) {
                (Some(first), Some(second)) => words.push(Word { first, second }),
                _ => others.push(Opening { first: Bits::of(firsts), second: Bits::of(seconds) }),
            }
        }
        (self.words, self.openings) = (words.into(), others.into());
    }

    #[inline]
    fn find(&self, bytes: &[u8], from: usize, mut is_start: impl FnMut(usize) -> bool) -> usize {
        let Some(last) = bytes.len().checked_sub(1).filter(|&last| from <= last) else { return bytes.len() };
        let mut at = from;
        if !self.openings.is_empty() || !self.words.is_empty() {
            // Behind a block one more byte is looked at. The last block begins in the one before it.
            while last - from >= BLOCK && at < last {
                let start = at.min(last - BLOCK);
                let Some(window) = bytes[start..].first_chunk() else { break };
                if let Some(found) = self.find_in(window, |i| start + i >= at && is_start(start + i)) {
                    return start + found;
                }
                at = start + BLOCK;
            }
            if last - at >= BLOCK / 4 {
                let mut window = [0; BLOCK + 1];
                window[..=last - at].copy_from_slice(&bytes[at..]);
                if let Some(found) = self.find_in(&window, |i| at + i < last && is_start(at + i)) {
                    return at + found;
                }
                at = last;
            }
        }
        let hit = |at: usize| self.first[usize::from(bytes[at])] & self.second[usize::from(bytes[at + 1])] != 0;
        match (at..last).find(|&at| hit(at) && is_start(at)) {
            Some(found) => found,
            None if self.first[usize::from(bytes[last])] != 0 && is_start(last) => last,
            None => bytes.len(),
        }
    }

    /// The first byte of a block that begins a pair and is confirmed.
    #[inline]
    fn find_in(&self, window: &[u8; BLOCK + 1], mut is_start: impl FnMut(usize) -> bool) -> Option<usize> {
        // Compiles to vector instructions, in two halves of a fixed length: a byte each, zero where a pair may begin.
        let (mut low, mut high) = ([0xFF; LANES], [0xFF; LANES]);
        for word in &self.words {
            word.narrow(window, 0, &mut low);
            word.narrow(window, LANES, &mut high);
        }
        for opening in &self.openings {
            opening.narrow(window, 0, &mut low);
            opening.narrow(window, LANES, &mut high);
        }
        let halves = [low, high];
        for (word, eight) in halves.as_flattened().as_chunks::<8>().0.iter().enumerate() {
            let eight = u64::from_le_bytes(*eight);
            // The top bit of every byte that is zero.
            let mut zeros = !(((eight & !TOPS) + !TOPS) | eight | !TOPS);
            while zeros != 0 {
                let i = word * 8 + zeros.trailing_zeros() as usize / 8;
                if is_start(i) {
                    return Some(i);
                }
                zeros &= zeros - 1;
            }
        }
        None
    }
}
