//! Which values can be kept out of an output: long enough, and not what any program prints.

use std::collections::BTreeSet;

use zeroize::Zeroizing;

/// Bytes of a value at the least. A shorter one is found everywhere.
pub const VALUE_BYTES_MIN: usize = 8;
/// Bytes of a value at the most.
pub const VALUE_BYTES_MAX: usize = 64 * 1024;
/// Different bytes of a value at the least.
const DIFFERENT_BYTES_MIN: usize = 4;
/// A value of letters only, or digits only, is a word or a number until it has so many of them.
const WORD_BYTES_MAX: usize = 11;
/// What people write where a secret should be, and programs print all day.
const COMMON: [&str; 8] = [
    "changeme",
    "password1",
    "password123",
    "123456789",
    "localhost:8080",
    "application/json",
    "/var/run/docker.sock",
    "/usr/local/bin",
];

/// A named value that is to be found. Its memory is cleared when it goes.
#[derive(Clone)]
pub struct Known {
    name: String,
    value: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Known {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Known").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Why a value cannot be kept out of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Nothing at all.
    #[error("it is empty: give the value on standard input")]
    Empty,
    /// Found in every output.
    #[error(
        "it has {bytes} bytes, {VALUE_BYTES_MIN} are the least: a shorter value would be found all over an output; \
         choose a longer one"
    )]
    TooShort {
        /// Without the line end.
        bytes: usize,
    },
    /// More than any key.
    #[error("it has {bytes} bytes, {VALUE_BYTES_MAX} are the most: keep a file of that size elsewhere")]
    TooLong {
        /// Without the line end.
        bytes: usize,
    },
    /// Few different bytes.
    #[error(
        "it has {different} different bytes, {DIFFERENT_BYTES_MIN} are the least: it would be found in rulers and padding; \
         choose a random one"
    )]
    Uniform {
        /// So many.
        different: usize,
    },
    /// A word of some language, or a number.
    #[error(
        "it is a word or a number of {WORD_BYTES_MAX} characters or less: ordinary output has it; choose a random one with \
         letters and digits"
    )]
    Word,
    /// One of the common ones.
    #[error("it is what many people and programs write: ordinary output has it; choose a random one")]
    Common,
}

impl Known {
    /// Takes a value that can be kept out of an output. Line ends after it do not belong to it.
    pub fn new(name: &str, value: &[u8]) -> Result<Self, Unfit> {
        let value = without_line_end(value);
        check(value)?;
        Ok(Self { name: name.to_owned(), value: Zeroizing::new(value.to_vec()) })
    }

    /// What stands in its place.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value. Whoever borrows it, keeps it out of every text.
    pub fn value(&self) -> &[u8] {
        &self.value
    }
}

/// A value as it is kept: files and pipes end in a line end that is not meant.
pub fn without_line_end(value: &[u8]) -> &[u8] {
    let end = value.iter().rposition(|it| !matches!(it, b'\r' | b'\n')).map_or(0, |it| it + 1);
    &value[..end]
}

/// Whether a value, or a line of one, can be kept out of an output.
pub fn check(value: &[u8]) -> Result<(), Unfit> {
    let significant: Vec<u8> = value.iter().copied().filter(|it| !it.is_ascii_whitespace()).collect();
    let significant = Zeroizing::new(significant);
    if value.is_empty() {
        return Err(Unfit::Empty);
    }
    if significant.len() < VALUE_BYTES_MIN {
        return Err(Unfit::TooShort { bytes: significant.len() });
    }
    if value.len() > VALUE_BYTES_MAX {
        return Err(Unfit::TooLong { bytes: value.len() });
    }
    let different = significant.iter().collect::<BTreeSet<_>>().len();
    if different < DIFFERENT_BYTES_MIN {
        return Err(Unfit::Uniform { different });
    }
    let letters = significant.iter().all(u8::is_ascii_lowercase) || is_capitalised(&significant);
    let one_kind = letters || significant.iter().all(u8::is_ascii_digit);
    if one_kind && significant.len() <= WORD_BYTES_MAX {
        return Err(Unfit::Word);
    }
    if COMMON.iter().any(|it| it.as_bytes().eq_ignore_ascii_case(value)) {
        return Err(Unfit::Common);
    }
    Ok(())
}

fn is_capitalised(value: &[u8]) -> bool {
    let Some((first, rest)) = value.split_first() else { return false };
    first.is_ascii_uppercase()
        && (rest.iter().all(u8::is_ascii_lowercase) || rest.iter().all(u8::is_ascii_uppercase))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(value: &str, expected: Unfit) {
        assert_eq!(check(value.as_bytes()), Err(expected), "{value}");
    }

    #[test]
    fn short_and_plain_values_are_refused() {
        refused("", Unfit::Empty);
        for short in ["a", " ", "0", "docker", "1234567", "a  b  c  d"] {
            assert!(matches!(check(short.as_bytes()), Err(Unfit::TooShort { .. })), "{short}");
        }
        refused("aaaaaaaaaaaaaaaa", Unfit::Uniform { different: 1 });
        refused("=-=-=-=-=-=-", Unfit::Uniform { different: 2 });
        for word in ["container", "Password", "WORKSPACE", "20261122", "1234567890"] {
            refused(word, Unfit::Word);
        }
        refused("Password123", Unfit::Common);
        assert!(matches!(check(&vec![b'x'; VALUE_BYTES_MAX + 1]), Err(Unfit::TooLong { .. })));
    }

    #[test]
    fn keys_are_taken() {
        for key in
            ["hunter2!hunter", "sk-ant-REDACTED", "correct horse battery staple", "12345678901234567890"]
        {
            assert_eq!(check(key.as_bytes()), Ok(()), "{key}");
        }
    }

    #[test]
    fn the_line_end_of_a_file_is_not_part_of_its_value() {
        let known = Known::new("KEY", b"s3cr3t-value\r\n").expect("fit");
        assert_eq!(known.value(), b"s3cr3t-value");
    }

    #[test]
    fn nothing_shows_a_value() {
        let known = Known::new("KEY", b"s3cr3t-value").expect("fit");
        assert!(!format!("{known:?}").contains("s3cr3t"));
    }
}
