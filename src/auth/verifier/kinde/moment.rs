//! Dates as Kinde writes them: ISO 8601, but with offsets that RFC 3339 does not know, as in
//! `2024-11-18T13:32:03+11`.

use std::time::{Duration, SystemTime};

/// Reads a date and time with an offset, or without one in UTC.
pub(super) fn parse(text: &str) -> Option<SystemTime> {
    let time = text.find(['T', 't', ' '])?;
    // The date has signs of its own.
    let sign = text[time..].find(['+', '-']).map(|at| time + at);
    let Some(sign) = sign else { return humantime::parse_rfc3339_weak(text).ok() };
    let (local, offset) = text.split_at_checked(sign)?;
    let local = humantime::parse_rfc3339_weak(local).ok()?;
    let (sign, offset) = offset.split_at_checked(1)?;
    let (hours, minutes) = match offset.len() {
        2 => (offset, "0"),
        4 => offset.split_at_checked(2)?,
        5 => offset.split_once(':')?,
        _ => return None,
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(hours) || !digits(minutes) {
        return None;
    }
    let (hours, minutes): (u64, u64) = (hours.parse().ok()?, minutes.parse().ok()?);
    if hours > 23 || minutes > 59 {
        return None;
    }
    let offset = Duration::from_secs(hours * 3600 + minutes * 60);
    if sign == "+" { local.checked_sub(offset) } else { local.checked_add(offset) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_of_every_kind_are_one_moment() {
        let utc = humantime::parse_rfc3339("2024-11-18T02:32:03Z").ok();
        for text in [
            "2024-11-18T13:32:03+11",
            "2024-11-18T13:32:03+1100",
            "2024-11-18T13:32:03+11:00",
            "2024-11-18 13:32:03+11",
            "2024-11-17T23:02:03-03:30",
            "2024-11-18T02:32:03Z",
            "2024-11-18T02:32:03",
        ] {
            assert_eq!(parse(text), utc, "{text}");
        }
        assert!(parse("2024-11-18T13:32:03.250+11").is_some());
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in [
            "",
            "T",
            "soon",
            "2024-11-18",
            "2024-11-18T13:32:03+",
            "2024-11-18T13:32:03+1",
            "2024-11-18T13:32:03+99",
            "2024-11-18T13:32:03+é1",
            "2024-11-18T13:32:03++1",
            "1970-01-01T00:00:00+00:0x",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
