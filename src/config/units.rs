//! Durations and sizes as people write them.
//!
//! One spelling for each: a near miss is refused with the right spelling as help, because two ways to read a number
//! are one too many in a file that guards something.

use std::fmt::Write as _;
use std::time::Duration;

/// A duration or size that is not written as it should be, and how it probably should.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadUnit {
    pub meant: Option<String>,
}

/// Units of time in milliseconds, largest first, each with what else people write for it.
const TIME: [Unit; 5] = [
    Unit { name: "d", value: 86_400_000, slips: &["day", "days"] },
    Unit { name: "h", value: 3_600_000, slips: &["hr", "hrs", "hour", "hours"] },
    Unit { name: "m", value: 60_000, slips: &["min", "mins", "minute", "minutes"] },
    Unit { name: "s", value: 1000, slips: &["sec", "secs", "second", "seconds"] },
    Unit { name: "ms", value: 1, slips: &["msec", "msecs", "millis", "millisecond", "milliseconds"] },
];

/// Units of size in bytes, largest first.
const SIZE: [Unit; 7] = [
    Unit { name: "GiB", value: 1 << 30, slips: &["g", "gi", "gib"] },
    Unit { name: "GB", value: 1_000_000_000, slips: &["gb", "gigabyte", "gigabytes"] },
    Unit { name: "MiB", value: 1 << 20, slips: &["m", "mi", "mib"] },
    Unit { name: "MB", value: 1_000_000, slips: &["mb", "megabyte", "megabytes"] },
    Unit { name: "KiB", value: 1 << 10, slips: &["k", "ki", "kib"] },
    Unit { name: "KB", value: 1000, slips: &["kb", "kilobyte", "kilobytes"] },
    Unit { name: "B", value: 1, slips: &["b", "byte", "bytes"] },
];

struct Unit {
    name: &'static str,
    value: u64,
    /// Lower case.
    slips: &'static [&'static str],
}

/// Reads `500ms`, `15m` or `1h30m`: whole numbers, each with its unit, largest unit first.
pub(super) fn duration(text: &str) -> Result<Duration, BadUnit> {
    let total = parts(text, &TIME, exact).and_then(|parts| sum(&parts));
    total.map(Duration::from_millis).ok_or_else(|| meant(text, &TIME, usize::MAX))
}

/// Reads a duration where it stands on a command line; the message says how it is written.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    duration(text).map_err(|error| match error.meant {
        Some(meant) => format!("expected a duration such as `500ms`, `15m` or `90d`; did you mean `{meant}`?"),
        None => "expected a duration such as `500ms`, `15m` or `90d`".to_owned(),
    })
}

/// Reads `50KiB`, `10MB` or `512B`. `KiB` is 1024 bytes, `KB` is 1000.
pub(super) fn size(text: &str) -> Result<u64, BadUnit> {
    let single = parts(text, &SIZE, exact).filter(|parts| parts.len() == 1);
    single.and_then(|parts| sum(&parts)).ok_or_else(|| meant(text, &SIZE, 1))
}

type Part = (u64, &'static Unit);

/// Takes `1h30m` apart. Each unit once and in falling order: `30m1h` and `1m1m` are slips.
fn parts(text: &str, units: &'static [Unit], is: fn(&Unit, &str) -> bool) -> Option<Vec<Part>> {
    let mut rest = text;
    let mut units = units.iter();
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let (number, name, after) = split_unit(rest)?;
        parts.push((number, units.find(|unit| is(unit, name))?));
        rest = after;
    }
    if parts.is_empty() { None } else { Some(parts) }
}

/// Splits `90s…` into 90, `s` and the rest.
fn split_unit(text: &str) -> Option<(u64, &str, &str)> {
    let (number, rest) = text.split_at(text.find(|character: char| !character.is_ascii_digit())?);
    let (unit, rest) = rest.split_at(rest.find(|character: char| character.is_ascii_digit()).unwrap_or(rest.len()));
    Some((number.parse().ok()?, unit, rest))
}

fn exact(unit: &Unit, name: &str) -> bool {
    unit.name == name
}

fn slip(unit: &Unit, name: &str) -> bool {
    unit.name.eq_ignore_ascii_case(name) || unit.slips.contains(&name)
}

fn sum(parts: &[Part]) -> Option<u64> {
    parts.iter().try_fold(0_u64, |sum, (number, unit)| sum.checked_add(number.checked_mul(unit.value)?))
}

/// The right spelling of what was probably meant.
fn meant(text: &str, units: &'static [Unit], longest: usize) -> BadUnit {
    let lower = text.to_lowercase().replace(' ', "");
    let parts = parts(&lower, units, slip).filter(|parts| parts.len() <= longest && sum(parts).is_some());
    BadUnit { meant: parts.map(|parts| parts.iter().map(|(number, unit)| format!("{number}{}", unit.name)).collect()) }
}

/// Writes a duration as [`duration`] reads it, dropping what is below a millisecond.
pub(super) fn show_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for unit in &TIME {
        if rest >= unit.value {
            // Writing to a String cannot fail.
            let _ = write!(text, "{}{}", rest / unit.value, unit.name);
            rest %= unit.value;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Writes a size in the largest unit that divides it.
pub(super) fn show_size(bytes: u64) -> String {
    let whole = SIZE.iter().find(|unit| bytes > 0 && bytes.is_multiple_of(unit.value));
    whole.map_or_else(|| format!("{bytes}B"), |unit| format!("{}{}", bytes / unit.value, unit.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_people_write_them() {
        for (text, milliseconds) in
            [("500ms", 500), ("15m", 900_000), ("1h30m", 5_400_000), ("60s", 60_000), ("1d", 86_400_000), ("0s", 0)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
            assert_eq!(duration(&show_duration(Duration::from_millis(milliseconds))), duration(text), "{text}");
        }
    }

    #[test]
    fn near_misses_are_spelled_right() {
        for (text, meant) in [
            ("90 seconds", Some("90s")),
            ("15min", Some("15m")),
            ("1h 30m", Some("1h30m")),
            ("5S", Some("5s")),
            ("15", None),
            ("1.5h", None),
            ("-5s", None),
            ("30m1h", None),
            ("1m1m", None),
            ("m", None),
            ("", None),
            ("99999999999999999999s", None),
            ("18446744073709551615d", None),
            ("5é", None),
        ] {
            assert_eq!(duration(text), Err(BadUnit { meant: meant.map(str::to_owned) }), "{text}");
        }
    }

    #[test]
    fn sizes_as_people_write_them() {
        for (text, bytes) in
            [("50KiB", 51_200), ("10MiB", 10 << 20), ("1GiB", 1 << 30), ("64KB", 64_000), ("512B", 512), ("0B", 0)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
            assert_eq!(size(&show_size(bytes)), Ok(bytes), "{text}");
        }
        for (text, meant) in [
            ("48 megabytes", Some("48MB")),
            ("48Mi", Some("48MiB")),
            ("48M", Some("48MiB")),
            ("10mb", Some("10MB")),
            ("1GiB1MiB", None),
            ("1.5GiB", None),
            ("20000000000GiB", None),
        ] {
            assert_eq!(size(text), Err(BadUnit { meant: meant.map(str::to_owned) }), "{text}");
        }
    }
}
