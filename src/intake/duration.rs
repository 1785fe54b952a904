//! Durations as people write them, `10m`, `1h30m`, `500ms`, and back. A number without a unit is refused. Whether
//! zero makes sense is for the range of what it is used for.

use crate::intake::shown;

/// Units, largest first: a duration names each at most once, in this order.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Text that is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Nothing was given.
    #[error("a duration is empty: write a number and a unit, such as `10m`")]
    Empty,
    /// Only digits.
    #[error("`{text}` has no unit: write `{text}s` for seconds, or `{text}m` for minutes")]
    NoUnit {
        /// What was given.
        text: String,
    },
    /// Below zero.
    #[error("`{text}` is negative: a duration cannot run backwards")]
    Negative {
        /// What was given.
        text: String,
    },
    /// A fraction.
    #[error("`{text}` is not a whole number: use a smaller unit, such as `90s` or `1500ms`")]
    Fraction {
        /// What was given.
        text: String,
    },
    /// Neither digits nor a unit where one belongs.
    #[error("`{text}` is not a duration: write whole numbers with d, h, m, s or ms, such as `1h30m`")]
    NotADuration {
        /// What was given.
        text: String,
    },
    /// A unit twice, or a small one before a large one.
    #[error("`{text}` has its units out of order: write each once, largest first, such as `1h30m`")]
    OutOfOrder {
        /// What was given.
        text: String,
    },
    /// Past what 64 bits hold.
    #[error("`{text}` is too long: the longest duration is 213503982334d")]
    TooLong {
        /// What was given.
        text: String,
    },
}

/// Reads a duration in milliseconds.
pub fn parse(text: &str) -> Result<u64, DurationError> {
    if text.is_empty() {
        return Err(DurationError::Empty);
    }
    if text.starts_with('-') {
        return Err(DurationError::Negative { text: shown(text) });
    }
    if text.bytes().all(|it| it.is_ascii_digit()) {
        return Err(DurationError::NoUnit { text: shown(text) });
    }
    let mut rest = text;
    let mut units_left = UNITS.as_slice();
    let mut total_ms: u64 = 0;
    while !rest.is_empty() {
        let (number, unit, after) = part(rest).ok_or_else(|| misread(text, rest))?;
        let position = UNITS.iter().position(|(name, _)| *name == unit).ok_or_else(|| misread(text, rest))?;
        let passed = UNITS.len() - units_left.len();
        if position < passed {
            return Err(DurationError::OutOfOrder { text: shown(text) });
        }
        let (_, factor) = UNITS[position];
        let part_ms = number.parse::<u64>().ok().and_then(|it| it.checked_mul(factor));
        total_ms = part_ms
            .and_then(|it| it.checked_add(total_ms))
            .ok_or_else(|| DurationError::TooLong { text: shown(text) })?;
        units_left = &UNITS[position + 1..];
        rest = after;
    }
    Ok(total_ms)
}

/// Writes a duration so that [`parse`] reads the same number of milliseconds; days are written as hours.
pub fn display(duration_ms: u64) -> String {
    let mut text = String::new();
    let mut left_ms = duration_ms;
    for (unit, factor) in UNITS.into_iter().skip(1) {
        if left_ms >= factor {
            text.push_str(&format!("{}{unit}", left_ms / factor));
            left_ms %= factor;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Digits, letters and what follows; `None` when either is missing.
fn part(text: &str) -> Option<(&str, &str, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at(digits);
    let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
    let (unit, after) = rest.split_at(letters);
    (!number.is_empty() && !unit.is_empty()).then_some((number, unit, after))
}

fn misread(text: &str, rest: &str) -> DurationError {
    let after_digits = rest.trim_start_matches(|it: char| it.is_ascii_digit());
    if after_digits.len() < rest.len() && after_digits.starts_with(['.', ',']) {
        return DurationError::Fraction { text: shown(text) };
    }
    DurationError::NotADuration { text: shown(text) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected_ms: u64) {
        assert_eq!(parse(text), Ok(expected_ms));
    }

    fn check_refused(text: &str, message: &str) {
        let refusal = parse(text).expect_err("a refusal").to_string();
        assert!(refusal.contains(message), "`{refusal}` lacks `{message}`");
    }

    #[test]
    fn one_unit_is_enough() {
        check("2s", 2_000);
        check("10m", 600_000);
        check("500ms", 500);
        check("1d", 86_400_000);
        check("0s", 0);
    }

    #[test]
    fn units_add_up() {
        check("1h30m", 5_400_000);
        check("1m1ms", 60_001);
    }

    #[test]
    fn a_bare_number_is_refused_with_both_readings() {
        check_refused("10", "write `10s` for seconds, or `10m` for minutes");
    }

    #[test]
    fn a_number_without_unit_at_the_end_is_refused() {
        check_refused("1h30", "is not a duration");
    }

    #[test]
    fn a_negative_one_is_refused() {
        check_refused("-5s", "negative");
    }

    #[test]
    fn fractions_are_refused_with_the_way_out() {
        check_refused("1.5h", "use a smaller unit");
    }

    #[test]
    fn units_come_once_and_in_order() {
        check_refused("30m1h", "out of order");
        check_refused("1s1s", "out of order");
    }

    #[test]
    fn words_and_unknown_units_are_refused() {
        for text in ["forever", "5 m", "3w", "s", "5S"] {
            check_refused(text, "is not a duration");
        }
    }

    #[test]
    fn an_overflow_is_refused() {
        check_refused("99999999999999999999h", "too long");
        check_refused("213503982334d24h", "too long");
    }

    #[test]
    fn it_is_written_as_people_say_it() {
        assert_eq!([600_000, 5_400_000, 0, 1_500].map(display), ["10m", "1h30m", "0s", "1s500ms"]);
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_the_same(duration_ms in any::<u64>()) {
            prop_assert_eq!(parse(&display(duration_ms)), Ok(duration_ms));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[0-9a-z.-]*") {
            let _ = parse(&text);
        }
    }
}
