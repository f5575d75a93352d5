//! Moments as the store keeps them: whole milliseconds since 1970, which sort as numbers and lose nothing in SQL.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The last millisecond of the year 9999, where RFC 3339 ends.
const LAST: i64 = 253_402_300_799_999;

/// The stored form, or `None` outside the years 1970 to 9999, which no working clock shows.
pub(super) fn to_millis(moment: SystemTime) -> Option<i64> {
    let since = moment.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok().filter(|&millis| millis <= LAST)
}

/// The moment of a stored form, or `None` for a number that [`to_millis`] cannot have written.
pub(super) fn from_millis(millis: i64) -> Option<SystemTime> {
    let since = Duration::from_millis(u64::try_from(millis).ok().filter(|_| millis <= LAST)?);
    UNIX_EPOCH.checked_add(since)
}

/// A moment as people and programs read it: RFC 3339 in UTC, to the second. Outside the years that the format has,
/// the nearest one in it.
pub fn rfc3339(moment: SystemTime) -> String {
    let last = UNIX_EPOCH + Duration::from_millis(LAST.unsigned_abs());
    humantime::format_rfc3339_seconds(moment.clamp(UNIX_EPOCH, last)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_survive_the_store_to_the_millisecond() {
        for millis in [0, 1, 1_700_000_000_123, LAST] {
            let moment = from_millis(millis).expect("in range");
            assert_eq!(to_millis(moment), Some(millis));
            assert_eq!(to_millis(moment + Duration::from_nanos(999_999)), Some(millis));
        }
    }

    #[test]
    fn what_has_no_date_is_refused_when_stored_and_clamped_when_shown() {
        let before = UNIX_EPOCH - Duration::from_secs(1);
        let after = UNIX_EPOCH + Duration::from_secs(253_402_300_800);
        assert_eq!((to_millis(before), to_millis(after)), (None, None));
        assert_eq!((from_millis(-1), from_millis(LAST + 1)), (None, None));
        assert_eq!(rfc3339(before), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(after), "9999-12-31T23:59:59Z");
        assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_millis(1_700_000_000_999)), "2023-11-14T22:13:20Z");
    }
}
