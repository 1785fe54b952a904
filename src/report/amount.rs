//! Sizes, times and dates as people read them. Values that are read back are written by `intake`.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// `34 MiB`, `1.2 GiB`: at most three digits, rounded down, so that what fits is never shown as too much.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut unit = 0;
    let mut tenths = u128::from(count) * 10 / 1024;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    decimal(tenths, UNITS[unit])
}

/// `950 us`, `12 ms`, `1.24 s`, `3 min 20 s`, `2 h 5 min`.
pub fn microseconds(count: u64) -> String {
    const SECOND: u64 = 1_000_000;
    match count {
        0..1_000 => format!("{count} us"),
        1_000..10_000 => decimal(u128::from(count / 100), "ms"),
        10_000..SECOND => format!("{} ms", count / 1000),
        _ if count < 10 * SECOND => format!("{}.{:02} s", count / SECOND, count % SECOND / 10_000),
        _ if count < 60 * SECOND => decimal(u128::from(count / (SECOND / 10)), "s"),
        _ => long(count / SECOND),
    }
}

/// The same of milliseconds.
pub fn milliseconds(count: u64) -> String {
    microseconds(count.saturating_mul(1000))
}

/// How long ago: `just now`, `5 min ago`, `3 d ago`.
pub fn ago(then_ms: i64, now_ms: i64) -> String {
    let seconds = now_ms.saturating_sub(then_ms).max(0) / 1000;
    match seconds {
        0..5 => "just now".to_owned(),
        5..60 => format!("{seconds} s ago"),
        60..3_600 => format!("{} min ago", seconds / 60),
        3_600..172_800 => format!("{} h ago", seconds / 3_600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

/// RFC 3339 in UTC, to the millisecond. A time that no calendar has is the number itself.
pub fn date(at_ms: i64) -> String {
    match Timestamp::from_millisecond(at_ms) {
        Ok(at) => at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
        Err(_) => at_ms.to_string(),
    }
}

fn decimal(tenths: u128, unit: &str) -> String {
    if tenths >= 100 || tenths.is_multiple_of(10) {
        return format!("{} {unit}", tenths / 10);
    }
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

fn long(seconds: u64) -> String {
    let (large, small) = match seconds {
        0..3_600 => ((seconds / 60, "min"), (seconds % 60, "s")),
        3_600..86_400 => ((seconds / 3_600, "h"), (seconds % 3_600 / 60, "min")),
        _ => ((seconds / 86_400, "d"), (seconds % 86_400 / 3_600, "h")),
    };
    match small.0 {
        0 => format!("{} {}", large.0, large.1),
        rest => format!("{} {} {rest} {}", large.0, large.1, small.1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_few_digits() {
        let shown = [0, 1023, 1024, 1536, 34 << 20, (1 << 30) + (200 << 20), 999 << 30, u64::MAX].map(bytes);
        assert_eq!(shown, ["0 B", "1023 B", "1 KiB", "1.5 KiB", "34 MiB", "1.1 GiB", "999 GiB", "16383 PiB"]);
    }

    #[test]
    fn a_size_just_below_a_unit_is_rounded_down() {
        assert_eq!(bytes((1 << 20) - 1), "1023 KiB");
    }

    #[test]
    fn times_have_few_digits() {
        let shown =
            [7, 1_500, 12_345, 1_240_000, 12_340_000, 60_000_000, 200_000_000, 7_500_000_000, 90_000_000_000]
                .map(microseconds);
        assert_eq!(
            shown,
            ["7 us", "1.5 ms", "12 ms", "1.24 s", "12 s", "1 min", "3 min 20 s", "2 h 5 min", "1 d 1 h"]
        );
    }

    #[test]
    fn ages_are_told_in_one_unit() {
        let shown = [0, 59_999, 60_000, 3_600_000, 172_800_000].map(|age| ago(0, age));
        assert_eq!(shown, ["just now", "59 s ago", "1 min ago", "1 h ago", "2 d ago"]);
    }

    #[test]
    fn a_clock_that_went_back_is_no_trouble() {
        assert_eq!(ago(10_000, 0), "just now");
    }

    #[test]
    fn dates_are_in_utc() {
        assert_eq!(date(1_767_323_045_678), "2026-01-02T03:04:05.678Z");
        assert_eq!(date(i64::MAX), i64::MAX.to_string());
    }
}
