//! Whether an attempt that ended is tried again, and after how long. Pure: the dice are thrown by the caller.

use crate::queue::Reached;
use crate::task::Outcome;
use crate::task::outcome::StartFailure;

/// The shortest wait before another attempt.
pub const BACKOFF_MIN_MS: u64 = 1_000;
/// The longest.
pub const BACKOFF_MAX_MS: u64 = 300_000;

/// What a run allows itself, and what it has used of it, the attempt that just ended not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tries {
    /// May be started again although a sandbox may have begun to run it.
    pub idempotent: bool,
    /// Attempts at the most, those that were lost.
    pub attempts_max: u32,
    /// Attempts that were lost.
    pub losses: u32,
    /// How often a failure of the task itself is tried again.
    pub failure_retries: u32,
    /// Failures of the task.
    pub failures: u32,
}

/// What becomes of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Its outcome is this one.
    Done,
    /// Its outcome is this one, although it would have been tried again: its tries are used up.
    GivenUp,
    /// It is tried again.
    Again(Class),
}

/// Why an attempt is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The infrastructure failed it.
    Lost,
    /// It failed.
    Failed,
}

/// What becomes of a run whose attempt ended so.
pub fn next(outcome: &Outcome, reached: Reached, tries: Tries) -> Next {
    match class(outcome, reached, tries.idempotent) {
        None => Next::Done,
        Some(Class::Lost) if tries.losses + 1 < tries.attempts_max => Next::Again(Class::Lost),
        Some(Class::Failed) if tries.failures < tries.failure_retries => Next::Again(Class::Failed),
        Some(Class::Failed) if tries.failure_retries == 0 => Next::Done,
        Some(Class::Lost | Class::Failed) => Next::GivenUp,
    }
}

fn class(outcome: &Outcome, reached: Reached, idempotent: bool) -> Option<Class> {
    match outcome {
        Outcome::Lost { .. } | Outcome::StartFailed { reason: StartFailure::Infrastructure { .. } } => {
            (reached == Reached::Unreleased || idempotent).then_some(Class::Lost)
        }
        Outcome::Exited(0)
        | Outcome::Cancelled(_)
        | Outcome::Refused { .. }
        | Outcome::StartFailed {
            reason: StartFailure::NotFound { .. } | StartFailure::NotExecutable { .. },
        } => None,
        Outcome::Exited(_)
        | Outcome::Signaled(_)
        | Outcome::TimedOut(_)
        | Outcome::OutOfMemory
        | Outcome::OutputLimit
        | Outcome::DiskLimit(_) => Some(Class::Failed),
    }
}

/// How long the next attempt waits: anything up to a bound that doubles with each repetition (full jitter), so that runs
/// that were lost together do not come back together.
pub fn backoff_ms(repetition: u32, random: u64) -> u64 {
    let doubled = BACKOFF_MIN_MS.saturating_mul(2u64.saturating_pow(repetition.max(1)));
    let bound = doubled.min(BACKOFF_MAX_MS);
    BACKOFF_MIN_MS + random % (bound - BACKOFF_MIN_MS + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::outcome::LostReason;

    const TRIES: Tries =
        Tries { idempotent: false, attempts_max: 3, losses: 0, failure_retries: 0, failures: 0 };
    const LOST: Outcome = Outcome::Lost { reason: LostReason::Owner };

    fn check(outcome: Outcome, reached: Reached, tries: Tries, expected: Next) {
        assert_eq!(next(&outcome, reached, tries), expected);
    }

    #[test]
    fn what_was_lost_before_release_is_tried_again() {
        check(LOST, Reached::Unreleased, TRIES, Next::Again(Class::Lost));
    }

    #[test]
    fn what_was_lost_after_release_is_not() {
        check(LOST, Reached::Released, TRIES, Next::Done);
    }

    #[test]
    fn what_was_lost_after_release_is_tried_again_where_the_task_says_so() {
        check(LOST, Reached::Released, Tries { idempotent: true, ..TRIES }, Next::Again(Class::Lost));
    }

    #[test]
    fn the_last_attempt_is_the_last() {
        check(LOST, Reached::Unreleased, Tries { losses: 2, ..TRIES }, Next::GivenUp);
        check(LOST, Reached::Unreleased, Tries { attempts_max: 1, ..TRIES }, Next::GivenUp);
    }

    #[test]
    fn a_sandbox_that_could_not_be_made_is_tried_again_and_a_program_that_is_not_there_is_not() {
        let message = "no space".to_owned();
        let infrastructure = Outcome::StartFailed { reason: StartFailure::Infrastructure { message } };
        check(infrastructure, Reached::Unreleased, TRIES, Next::Again(Class::Lost));
        let program = "node".to_owned();
        let absent = Outcome::StartFailed { reason: StartFailure::NotFound { program } };
        check(absent, Reached::Unreleased, TRIES, Next::Done);
    }

    #[test]
    fn a_failure_is_tried_again_only_as_often_as_was_asked() {
        check(Outcome::Exited(1), Reached::Released, TRIES, Next::Done);
        let asked = Tries { failure_retries: 2, ..TRIES };
        check(Outcome::Exited(1), Reached::Released, asked, Next::Again(Class::Failed));
        check(Outcome::OutOfMemory, Reached::Released, asked, Next::Again(Class::Failed));
        check(Outcome::Exited(1), Reached::Released, Tries { failures: 2, ..asked }, Next::GivenUp);
        check(Outcome::Exited(0), Reached::Released, asked, Next::Done);
    }

    proptest::proptest! {
        #[test]
        fn a_wait_lies_between_a_second_and_five_minutes(repetition in 0u32..2_000, random in 0u64..) {
            let wait = backoff_ms(repetition, random);
            proptest::prop_assert!((BACKOFF_MIN_MS..=BACKOFF_MAX_MS).contains(&wait));
        }
    }

    #[test]
    fn the_first_wait_is_short_and_later_ones_may_be_long() {
        assert!((0..10_000).all(|random| backoff_ms(1, random) <= 2_000));
        assert_eq!(backoff_ms(20, BACKOFF_MAX_MS - BACKOFF_MIN_MS), BACKOFF_MAX_MS);
    }
}
