//! The exit status of `aegis run`, in one place.

use crate::task::outcome::{Cancellation, Outcome, StartFailure};

/// An exit status of the `aegis` program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitCode(u8);

impl ExitCode {
    /// It worked.
    pub const SUCCESS: Self = Self(0);
    /// A command other than `run` says no: nothing found, a check failed.
    pub const FAILURE: Self = Self(1);
    /// Bad usage of the command line.
    pub const USAGE: Self = Self(2);
    /// A limit of output, disk or budget ended the task.
    pub const LIMIT: Self = Self(123);
    /// The task ran out of time.
    pub const TIMED_OUT: Self = Self(124);
    /// Aegis could not run the task.
    pub const AEGIS: Self = Self(125);
    /// The program cannot be executed.
    pub const NOT_EXECUTABLE: Self = Self(126);
    /// The image lacks the program.
    pub const NOT_FOUND: Self = Self(127);
    /// Cancelled by SIGINT.
    pub const INTERRUPTED: Self = Self(130);
    /// Out of memory.
    pub const OUT_OF_MEMORY: Self = Self(137);
    /// Cancelled otherwise.
    pub const CANCELLED: Self = Self(143);

    /// The status that tells this outcome.
    pub fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Exited(code) => Self(*code),
            Outcome::Signaled(signal) => Self(128u8.saturating_add(*signal)),
            Outcome::TimedOut(_) => Self::TIMED_OUT,
            Outcome::OutOfMemory => Self::OUT_OF_MEMORY,
            Outcome::OutputLimit | Outcome::DiskLimit(_) => Self::LIMIT,
            Outcome::Cancelled(Cancellation::Interrupt) => Self::INTERRUPTED,
            Outcome::Cancelled(
                Cancellation::Terminate
                | Cancellation::Command
                | Cancellation::Deadline
                | Cancellation::Dependency
                | Cancellation::Client,
            ) => Self::CANCELLED,
            Outcome::StartFailed { reason: StartFailure::NotFound { .. } } => Self::NOT_FOUND,
            Outcome::StartFailed { reason: StartFailure::NotExecutable { .. } } => Self::NOT_EXECUTABLE,
            Outcome::StartFailed { reason: StartFailure::Infrastructure { .. } }
            | Outcome::Refused { .. }
            | Outcome::Lost { .. } => Self::AEGIS,
        }
    }

    /// The status that a further command ended with.
    pub fn of_status(status: u8) -> Self {
        Self(status)
    }

    /// The number.
    pub fn get(self) -> u8 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(outcome: Outcome, expected: u8) {
        assert_eq!(ExitCode::of(&outcome).get(), expected);
    }

    #[test]
    fn the_task_keeps_its_own_code() {
        check(Outcome::Exited(42), 42);
    }

    #[test]
    fn a_signal_is_128_and_its_number() {
        check(Outcome::Signaled(9), 137);
    }

    #[test]
    fn limits_are_123() {
        check(Outcome::OutputLimit, 123);
    }

    #[test]
    fn only_an_interrupt_is_130_and_every_other_cancellation_143() {
        for by in Cancellation::ALL {
            check(Outcome::Cancelled(by), if by == Cancellation::Interrupt { 130 } else { 143 });
        }
    }

    #[test]
    fn a_refusal_is_125() {
        check(Outcome::Refused { differences: vec![] }, 125);
    }
}
