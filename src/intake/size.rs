//! Sizes as people write them, `512MiB`, `1G`, `64k`, and back. Every unit is binary, as the engine's are; a number
//! without a unit is refused, because some would read bytes and others mebibytes.

use crate::intake::shown;

/// Units in the form they are written back, largest first.
const UNITS: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Text that is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// Nothing was given.
    #[error("a size is empty: write a number and a unit, such as `512MiB`")]
    Empty,
    /// Only digits.
    #[error("`{text}` has no unit: write `{text}MiB` for mebibytes, or `{text}B` for bytes")]
    NoUnit {
        /// What was given.
        text: String,
    },
    /// No digits first.
    #[error("`{text}` is not a size: write a whole number and a unit, such as `512MiB`")]
    NotASize {
        /// What was given.
        text: String,
    },
    /// A fraction.
    #[error("`{text}` is not a whole number: use a smaller unit, such as `1536MiB` for one and a half GiB")]
    Fraction {
        /// What was given.
        text: String,
    },
    /// A unit nobody knows.
    #[error(
        "`{text}` has an unknown unit `{unit}`: the units are B, KiB, MiB, GiB and TiB (short k, M, G, T)"
    )]
    UnknownUnit {
        /// What was given.
        text: String,
        /// The unit in it.
        unit: String,
    },
    /// Past what 64 bits hold.
    #[error("`{text}` is too large: the largest size is 16777215TiB")]
    TooLarge {
        /// What was given.
        text: String,
    },
}

/// Reads a size in bytes.
pub fn parse(text: &str) -> Result<u64, SizeError> {
    if text.is_empty() {
        return Err(SizeError::Empty);
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(SizeError::NotASize { text: shown(text) });
    }
    if unit.is_empty() {
        return Err(SizeError::NoUnit { text: shown(text) });
    }
    if unit.starts_with(['.', ',']) {
        return Err(SizeError::Fraction { text: shown(text) });
    }
    let Some(factor) = factor_of(unit) else {
        return Err(SizeError::UnknownUnit { text: shown(text), unit: shown(unit) });
    };
    let number: Option<u64> = number.parse().ok();
    number.and_then(|it| it.checked_mul(factor)).ok_or_else(|| SizeError::TooLarge { text: shown(text) })
}

/// Writes a size so that [`parse`] reads the same number of bytes: in the largest unit that divides it.
pub fn display(bytes: u64) -> String {
    for (unit, factor) in UNITS {
        if bytes != 0 && bytes.is_multiple_of(factor) {
            return format!("{}{unit}", bytes / factor);
        }
    }
    "0B".to_owned()
}

fn factor_of(unit: &str) -> Option<u64> {
    match unit.to_ascii_lowercase().as_str() {
        "b" => Some(1),
        "k" | "kb" | "kib" => Some(1 << 10),
        "m" | "mb" | "mib" => Some(1 << 20),
        "g" | "gb" | "gib" => Some(1 << 30),
        "t" | "tb" | "tib" => Some(1 << 40),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: u64) {
        assert_eq!(parse(text), Ok(expected));
    }

    fn check_refused(text: &str, message: &str) {
        let refusal = parse(text).expect_err("a refusal").to_string();
        assert!(refusal.contains(message), "`{refusal}` lacks `{message}`");
    }

    #[test]
    fn iec_units_are_binary() {
        check("512MiB", 512 << 20);
    }

    #[test]
    fn short_units_are_binary_too() {
        check("1G", 1 << 30);
        check("64k", 64 << 10);
        check("10MB", 10 << 20);
        check("2t", 2 << 40);
    }

    #[test]
    fn bytes_are_a_unit() {
        check("0B", 0);
        check("17b", 17);
    }

    #[test]
    fn a_bare_number_is_refused_with_both_readings() {
        check_refused("512", "write `512MiB` for mebibytes, or `512B` for bytes");
    }

    #[test]
    fn nothing_is_refused() {
        check_refused("", "empty");
    }

    #[test]
    fn words_signs_and_spaces_are_refused() {
        for text in ["lots", "-1G", "+1G", " 1G", "GiB"] {
            check_refused(text, "is not a size");
        }
    }

    #[test]
    fn fractions_are_refused_with_the_way_out() {
        check_refused("1.5G", "use a smaller unit");
    }

    #[test]
    fn unknown_units_are_named() {
        check_refused("5 G", "unknown unit ` G`");
        check_refused("5GiBs", "unknown unit `GiBs`");
    }

    #[test]
    fn an_overflow_is_refused() {
        check_refused("16777216TiB", "too large");
        check_refused("99999999999999999999999B", "too large");
    }

    #[test]
    fn a_hostile_text_is_shown_escaped_and_cut() {
        check_refused("\x1b[2J", "`\\u{1b}[2J` is not a size");
        check_refused(&"9".repeat(4000), "…");
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_the_same(bytes in any::<u64>()) {
            prop_assert_eq!(parse(&display(bytes)), Ok(bytes));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".*") {
            let _ = parse(&text);
        }
    }
}
