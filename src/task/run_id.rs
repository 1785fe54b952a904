//! The id of a run: a UUIDv7, shown and accepted by its last 12 hexadecimal digits.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

/// Digits of the short form.
const SHORT_DIGITS: usize = 12;

/// A run's id. Ids of later runs sort after those of earlier ones (to the millisecond).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(Uuid);

impl RunId {
    /// A new id, of this moment.
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }

    /// When it was made, milliseconds since the epoch; 0 if it does not tell.
    pub fn made_ms(&self) -> i64 {
        let Some(at) = self.0.get_timestamp() else {
            return 0;
        };
        let (seconds, nanoseconds) = at.to_unix();
        i64::try_from(seconds.saturating_mul(1000))
            .unwrap_or(i64::MAX)
            .saturating_add(i64::from(nanoseconds / 1_000_000))
    }

    /// The last 12 digits: what people see and type.
    pub fn short(&self) -> String {
        let digits = self.0.simple().to_string();
        digits[digits.len() - SHORT_DIGITS..].to_owned()
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.0.hyphenated())
    }
}

/// What a person typed to name a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunSelector {
    /// The whole id.
    Id(RunId),
    /// The last 12 digits, lower case.
    Short(String),
}

/// Text that names no run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a run id: give its last 12 digits, as `aegis ps` shows them, or all of it")]
pub struct RunIdError {
    /// What was given, escaped and cut to 80 characters.
    pub text: String,
}

impl FromStr for RunId {
    type Err = RunIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::try_parse(text).map(Self).map_err(|_| refused(text))
    }
}

impl FromStr for RunSelector {
    type Err = RunIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() == SHORT_DIGITS && text.bytes().all(|it| it.is_ascii_hexdigit()) {
            return Ok(Self::Short(text.to_ascii_lowercase()));
        }
        text.parse().map(Self::Id)
    }
}

fn refused(text: &str) -> RunIdError {
    RunIdError { text: text.escape_default().take(80).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_form_is_the_last_twelve_digits() {
        let id: RunId = "01912345-6789-7abc-8def-0123456789ab".parse().expect("a uuid");
        assert_eq!(id.short(), "0123456789ab");
    }

    #[test]
    fn both_forms_select() {
        let id = RunId::generate();
        assert_eq!(id.to_string().parse(), Ok(RunSelector::Id(id)));
        assert_eq!(id.short().to_uppercase().parse(), Ok(RunSelector::Short(id.short())));
    }

    #[test]
    fn anything_else_is_refused_and_escaped() {
        let refusal = "../x\n".parse::<RunSelector>().expect_err("not an id");
        assert!(refusal.to_string().starts_with("`../x\\n` is not a run id"));
    }
}
