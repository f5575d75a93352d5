//! The texts of a stream, by key.

use std::collections::BTreeSet;

use super::super::{StreamRules, StreamStop, Tally, channel::Channel, document::hashed};
use super::Held;

/// The most texts that one stream may be divided into.
const MAX_CHANNELS: usize = 256;

/// The most texts of one stream that are forgotten but for their end.
const MAX_ENDED: usize = 4096;

const TOO_MANY: StreamStop = StreamStop::Unscannable("a stream has too many texts");

/// The texts, numbered.
#[derive(Default)]
pub(super) struct Channels {
    list: Vec<Channel>,
    /// Of those that may go on. Most streams have one.
    keys: Vec<Key>,
    /// The keys, hashed, of texts that have ended and were forgotten: what they withheld has left.
    ended: BTreeSet<u64>,
    /// Channels whose text has ended for good, whose place another may take.
    retired: Vec<usize>,
}

struct Key {
    hash: u64,
    channel: usize,
    key: Box<[u8]>,
}

impl Channels {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Channel> {
        self.list.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn of(&self, index: usize) -> &Channel {
        &self.list[index]
    }

    pub(super) fn of_mut(&mut self, index: usize) -> &mut Channel {
        &mut self.list[index]
    }

    /// The text with this key.
    pub(super) fn find(&self, key: &[u8]) -> Option<usize> {
        /// Of so many, comparing is less work than hashing.
        const FEW: usize = 8;
        let same = |known: &&Key| *known.key == *key;
        let found = if self.keys.len() <= FEW {
            self.keys.iter().find(same)
        } else {
            let hash = hashed(key);
            self.keys.iter().filter(|known| known.hash == hash).find(same)
        };
        found.map(|known| known.channel)
    }

    /// The key of a text, or nothing for one that has none any more.
    pub(super) fn key(&self, index: usize) -> &[u8] {
        self.keys.iter().find(|known| known.channel == index).map_or(b"", |known| &known.key)
    }

    /// The text with this key, which may be a new one. Where there are too many, one of which nothing is withheld makes
    /// room; `queue` and `next` are what may be withheld.
    pub(super) fn find_or_add<'a>(
        &mut self,
        key: &[u8],
        rules: &StreamRules,
        queue: impl ExactSizeIterator<Item = &'a Held>,
        next: &'a Held,
        tally: &mut Tally,
    ) -> Result<usize, StreamStop> {
        if let Some(index) = self.find(key) {
            return Ok(index);
        }
        // What is withheld may still speak of a channel that has ended.
        let retired = if queue.len() == 0 { self.retired.pop() } else { None };
        let mut channel = Channel::new(&rules.rules, rules.action);
        let hash = hashed(key);
        channel.finished = self.ended.contains(&hash);
        let index = if let Some(index) = retired {
            Some(index)
        } else if self.list.len() < MAX_CHANNELS {
            None
        } else {
            Some(self.idle(queue.chain([next])).ok_or(TOO_MANY)?)
        };
        let index = match index {
            Some(index) => {
                self.forget(index, tally)?;
                self.list[index] = channel;
                index
            }
            None => {
                if self.list.is_empty() {
                    self.list.reserve_exact(1);
                    self.keys.reserve_exact(1);
                }
                self.list.push(channel);
                self.list.len() - 1
            }
        };
        // Forgetting may have ended the very text that comes back.
        self.list[index].finished |= self.ended.contains(&hash);
        self.keys.push(Key { hash, channel: index, key: key.into() });
        Ok(index)
    }

    /// Takes the keys of texts whose end is told from them: nothing follows under these keys.
    pub(super) fn retire(&mut self, ended: impl Fn(&[u8]) -> bool) -> Vec<(Box<[u8]>, usize)> {
        let retired: Vec<_> = self.keys.extract_if(.., |known| ended(&known.key)).collect();
        self.retired.extend(retired.iter().map(|known| known.channel));
        retired.into_iter().map(|known| (known.key, known.channel)).collect()
    }

    /// Forgets all of a text but what it showed, and that it has ended.
    fn forget(&mut self, index: usize, tally: &mut Tally) -> Result<(), StreamStop> {
        let channel = &self.list[index];
        tally.counts.by_rule.iter_mut().zip(channel.observed()).for_each(|(count, more)| *count += more);
        if channel.finished {
            let keys = self.keys.iter().filter(|known| known.channel == index);
            self.ended.extend(keys.map(|known| known.hash));
        }
        self.keys.retain(|known| known.channel != index);
        self.retired.retain(|known| *known != index);
        if self.ended.len() > MAX_ENDED { Err(TOO_MANY) } else { Ok(()) }
    }

    /// The text to forget first: one that has ended, or else the one that has been silent for longest.
    fn idle<'a>(&self, withheld: impl Iterator<Item = &'a Held>) -> Option<usize> {
        let mut waits = [false; MAX_CHANNELS];
        for segment in withheld.flat_map(|held| &held.segments) {
            waits[segment.channel] = true;
        }
        let idle = self.list.iter().enumerate().filter(|(index, channel)| !waits[*index] && channel.is_idle());
        idle.min_by_key(|(_, channel)| (!channel.finished, channel.last_used)).map(|(index, _)| index)
    }
}
