//! Numbers of CPUs as people write them, `2`, `1.5`, `0.25`, and back: held in thousandths, so that none is rounded.

use crate::intake::shown;

/// Digits behind the point that are held.
const FRACTION_DIGITS: usize = 3;

/// Text that is no number of CPUs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CpusError {
    /// Not a plain decimal number.
    #[error("`{text}` is not a number of CPUs: write a plain number, such as `2` or `1.5`")]
    NotANumber {
        /// What was given.
        text: String,
    },
    /// Finer than a thousandth.
    #[error("`{text}` is too fine: CPUs are counted in thousandths, such as `0.125`")]
    TooFine {
        /// What was given.
        text: String,
    },
    /// Past what 64 bits hold.
    #[error("`{text}` is more CPUs than can be counted: write a smaller number")]
    TooMany {
        /// What was given.
        text: String,
    },
}

/// Reads a number of CPUs in thousandths.
pub fn parse(text: &str) -> Result<u64, CpusError> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |it: &str| !it.is_empty() && it.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return Err(CpusError::NotANumber { text: shown(text) });
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > FRACTION_DIGITS {
        return Err(CpusError::TooFine { text: shown(text) });
    }
    let milli: u64 = format!("{fraction:0<FRACTION_DIGITS$}").parse().unwrap_or(0);
    let whole: Option<u64> = whole.parse().ok();
    whole
        .and_then(|it| it.checked_mul(1_000))
        .and_then(|it| it.checked_add(milli))
        .ok_or_else(|| CpusError::TooMany { text: shown(text) })
}

/// Writes thousandths of CPUs so that [`parse`] reads the same number.
pub fn display(cpus_milli: u64) -> String {
    let (whole, milli) = (cpus_milli / 1_000, cpus_milli % 1_000);
    if milli == 0 {
        return whole.to_string();
    }
    format!("{whole}.{milli:03}").trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected_milli: u64) {
        assert_eq!(parse(text), Ok(expected_milli));
    }

    fn check_refused(text: &str, message: &str) {
        let refusal = parse(text).expect_err("a refusal").to_string();
        assert!(refusal.contains(message), "`{refusal}` lacks `{message}`");
    }

    #[test]
    fn whole_and_broken_numbers_are_read() {
        check("2", 2_000);
        check("1.5", 1_500);
        check("0.25", 250);
        check("1.000000", 1_000);
    }

    #[test]
    fn other_notations_are_refused() {
        for text in ["", "two", "-1", "+1", "1e3", ".5", "1.", "1,5", "inf", "0x2", "1.2.3"] {
            check_refused(text, "write a plain number");
        }
    }

    #[test]
    fn less_than_a_thousandth_is_refused() {
        check_refused("0.0001", "thousandths");
    }

    #[test]
    fn an_overflow_is_refused() {
        check_refused("99999999999999999999", "more CPUs than can be counted");
        check_refused("18446744073709551.9", "more CPUs than can be counted");
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_the_same(cpus_milli in any::<u64>()) {
            prop_assert_eq!(parse(&display(cpus_milli)), Ok(cpus_milli));
        }
    }
}
