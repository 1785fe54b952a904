//! The amounts of a policy: one unit and one range each, the same for files and flags.

use crate::intake::cpus::{self, CpusError};
use crate::intake::duration::{self, DurationError};
use crate::intake::shown;
use crate::intake::size::{self, SizeError};
use crate::policy::Policy;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;
const SECOND_MS: u64 = 1_000;
const DAY_MS: u64 = 86_400 * SECOND_MS;

/// A field that is a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "each is documented where its key is, in `Field::key`")]
pub enum Amount {
    WorkspaceSize,
    WorkspaceFiles,
    TmpSize,
    HomeSize,
    RunSize,
    ShmSize,
    Memory,
    Cpus,
    Pids,
    NofileSoft,
    NofileHard,
    WallTime,
    OutputSize,
    CollectedSize,
    CollectedEntries,
    CollectedDepth,
}

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes, written `512MiB`.
    Bytes,
    /// Milliseconds, written `10m`.
    Time,
    /// Thousandths of a CPU, written `1.5`.
    Cpus,
    /// Things, written as a number.
    Count,
}

/// A text that is no value of an amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// Not a size.
    #[error(transparent)]
    Size(#[from] SizeError),
    /// Not a duration.
    #[error(transparent)]
    Duration(#[from] DurationError),
    /// Not a number of CPUs.
    #[error(transparent)]
    Cpus(#[from] CpusError),
    /// Not a whole number.
    #[error("`{text}` is not a whole number: write digits only, such as `256`")]
    Count {
        /// What was given.
        text: String,
    },
    /// Too little or too much.
    #[error("`{text}` is out of range: it is {min} to {max}")]
    Range {
        /// What was given.
        text: String,
        /// The least that is accepted, as it is written.
        min: String,
        /// The most that is accepted, as it is written.
        max: String,
    },
}

impl Amount {
    /// What it counts.
    pub fn unit(self) -> Unit {
        match self {
            Self::WorkspaceSize
            | Self::TmpSize
            | Self::HomeSize
            | Self::RunSize
            | Self::ShmSize
            | Self::Memory
            | Self::OutputSize
            | Self::CollectedSize => Unit::Bytes,
            Self::WallTime => Unit::Time,
            Self::Cpus => Unit::Cpus,
            Self::WorkspaceFiles
            | Self::Pids
            | Self::NofileSoft
            | Self::NofileHard
            | Self::CollectedEntries
            | Self::CollectedDepth => Unit::Count,
        }
    }

    /// The least and the most that anybody may ask for. The ends are far from what overflows when sizes are added.
    pub fn range(self) -> (u64, u64) {
        match self {
            Self::WorkspaceSize | Self::TmpSize | Self::HomeSize | Self::RunSize | Self::ShmSize => {
                (64 * KIB, 4 * TIB)
            }
            Self::Memory => (16 * MIB, 16 * TIB),
            Self::OutputSize => (KIB, 16 * TIB),
            Self::CollectedSize => (0, 16 * TIB),
            Self::WallTime => (100, 30 * DAY_MS),
            Self::Cpus => (10, 1_024_000),
            Self::WorkspaceFiles => (1, 50_000_000),
            Self::Pids => (2, 4_194_304),
            Self::NofileSoft | Self::NofileHard => (64, 1_048_576),
            Self::CollectedEntries => (0, 50_000_000),
            Self::CollectedDepth => (1, 256),
        }
    }

    /// Reads a value as a flag writes it, and holds it against the range.
    pub fn parse(self, text: &str) -> Result<u64, AmountError> {
        let value = match self.unit() {
            Unit::Bytes => size::parse(text)?,
            Unit::Time => duration::parse(text)?,
            Unit::Cpus => cpus::parse(text)?,
            Unit::Count => count(text)?,
        };
        self.checked(value)
    }

    /// The value, when it is in range.
    pub fn checked(self, value: u64) -> Result<u64, AmountError> {
        let (min, max) = self.range();
        if (min..=max).contains(&value) {
            return Ok(value);
        }
        Err(AmountError::Range { text: self.display(value), min: self.display(min), max: self.display(max) })
    }

    /// Writes a value so that [`Amount::parse`] reads it back.
    pub fn display(self, value: u64) -> String {
        match self.unit() {
            Unit::Bytes => size::display(value),
            Unit::Time => duration::display(value),
            Unit::Cpus => cpus::display(value),
            Unit::Count => value.to_string(),
        }
    }

    /// Where a policy holds it.
    pub(crate) fn slot(self, policy: &mut Policy) -> &mut u64 {
        match self {
            Self::WorkspaceSize => &mut policy.filesystem.workspace_bytes,
            Self::WorkspaceFiles => &mut policy.filesystem.workspace_files,
            Self::TmpSize => &mut policy.filesystem.tmp_bytes,
            Self::HomeSize => &mut policy.filesystem.home_bytes,
            Self::RunSize => &mut policy.filesystem.run_bytes,
            Self::ShmSize => &mut policy.filesystem.shm_bytes,
            Self::Memory => &mut policy.resources.memory_bytes,
            Self::Cpus => &mut policy.resources.cpus_milli,
            Self::Pids => &mut policy.resources.pids,
            Self::NofileSoft => &mut policy.resources.nofile_soft,
            Self::NofileHard => &mut policy.resources.nofile_hard,
            Self::WallTime => &mut policy.resources.wall_time_ms,
            Self::OutputSize => &mut policy.resources.output_bytes,
            Self::CollectedSize => &mut policy.outputs.bytes,
            Self::CollectedEntries => &mut policy.outputs.entries,
            Self::CollectedDepth => &mut policy.outputs.depth,
        }
    }
}

fn count(text: &str) -> Result<u64, AmountError> {
    let plain = !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
    // Twenty digits or more may overflow; such a number is out of every range, and is reported as the largest.
    if plain { Ok(text.parse().unwrap_or(u64::MAX)) } else { Err(AmountError::Count { text: shown(text) }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(amount: Amount, text: &str, expected: Result<u64, &str>) {
        let read = amount.parse(text).map_err(|it| it.to_string());
        assert_eq!(read, expected.map_err(str::to_owned));
    }

    #[test]
    fn each_amount_reads_its_own_unit() {
        check(Amount::Memory, "1GiB", Ok(1 << 30));
        check(Amount::WallTime, "10m", Ok(600_000));
        check(Amount::Cpus, "0.5", Ok(500));
        check(Amount::Pids, "256", Ok(256));
    }

    #[test]
    fn the_range_is_named() {
        check(Amount::Pids, "0", Err("`0` is out of range: it is 2 to 4194304"));
        check(Amount::WallTime, "0s", Err("`0s` is out of range: it is 100ms to 720h"));
        check(Amount::Memory, "1KiB", Err("`1KiB` is out of range: it is 16MiB to 16TiB"));
    }

    #[test]
    fn a_count_has_digits_only() {
        let refusal = "`1e3` is not a whole number: write digits only, such as `256`";
        check(Amount::Pids, "1e3", Err(refusal));
    }

    #[test]
    fn an_endless_count_is_out_of_range() {
        assert!(matches!(Amount::Pids.parse(&"9".repeat(300)), Err(AmountError::Range { .. })));
    }
}
