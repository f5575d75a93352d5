//! Request ids: UUIDv7 (RFC 9562 §5.7), sortable by time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use http::HeaderValue;
use uuid::Builder;

/// Makes ids that are unique, not secret: random bits from the process's start and a counter (RFC 9562 §6.2).
#[derive(Debug)]
pub(super) struct RequestIds {
    random: [u8; 10],
    counter: AtomicU64,
}

impl RequestIds {
    pub(super) fn new() -> Result<Self, getrandom::Error> {
        let mut random = [0; 10];
        getrandom::fill(&mut random)?;
        Ok(Self { random, counter: AtomicU64::new(0) })
    }

    pub(super) fn next(&self, wall: SystemTime) -> HeaderValue {
        let millis = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
        let mut bytes = self.random;
        let [high, low @ ..] = &mut bytes;
        let count = self.counter.fetch_add(1, Ordering::Relaxed);
        *high = high.wrapping_add((count >> 56) as u8);
        for (byte, add) in low.iter_mut().rev().zip(count.to_le_bytes()) {
            *byte ^= add;
        }
        let id = Builder::from_unix_timestamp_millis(u64::try_from(millis).unwrap_or(0), &bytes).into_uuid();
        let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
        // A hyphenated UUID is visible ASCII.
        HeaderValue::from_str(id.hyphenated().encode_lower(&mut text)).unwrap_or_else(|_| HeaderValue::from_static("-"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_distinct_within_one_millisecond() {
        let ids = RequestIds::new().expect("randomness");
        let made: std::collections::HashSet<_> = (0..10_000).map(|_| ids.next(SystemTime::UNIX_EPOCH)).collect();
        assert_eq!(made.len(), 10_000);
        assert!(made.iter().all(|id| id.to_str().expect("text").as_bytes()[14] == b'7'));
    }
}
