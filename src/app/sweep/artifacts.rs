//! Outputs that no record names: what an attempt left that was lost, or is another's by now. What a record names is whole.

use std::collections::BTreeSet;

use crate::app::AppError;
use crate::app::sweep::{Mode, Swept};
use crate::record::{Found, Record, Run};
use crate::sandbox::artifacts::Artifacts;
use crate::task::run_id::RunSelector;
use crate::task::{RunId, RunState};

/// Removes them, or lists their runs; those of `spared` runs stay. A run without a record is left to the sweep of what runs keep.
pub(in crate::app) async fn attempts(
    record: &dyn Record,
    artifacts: &Artifacts,
    spared: &BTreeSet<RunId>,
    mode: Mode,
    swept: &mut Swept,
) -> Result<(), AppError> {
    let place = artifacts.by_run().place();
    let failed = |source| AppError::Read { what: "what came out of runs in", path: place.to_owned(), source };
    for run in artifacts.by_run().runs().map_err(failed)? {
        // Listed before the record is read: a directory that is made meanwhile belongs to a later attempt.
        let attempts = artifacts.attempts(run).map_err(failed)?;
        if attempts.is_empty() || spared.contains(&run) {
            continue;
        }
        let Found::Run(recorded) = record.find(&RunSelector::Id(run)).await? else { continue };
        let dead: Vec<u32> = attempts.into_iter().filter(|it| is_dead(&recorded, *it)).collect();
        if dead.is_empty() {
            continue;
        }
        for attempt in dead {
            if mode == Mode::Remove {
                artifacts.remove(run, attempt).map_err(failed)?;
            }
        }
        swept.artifacts.push(run);
    }
    Ok(())
}

/// Whether nothing of this attempt is, or will be, on record.
fn is_dead(run: &Run, attempt: u32) -> bool {
    if attempt != run.fence.attempt {
        return attempt < run.fence.attempt;
    }
    match (&run.end, run.state) {
        (Some(end), _) => end.output_dir.is_none(),
        // It waits to be tried again.
        (None, RunState::Queued) => true,
        (
            None,
            RunState::Leased | RunState::Starting | RunState::Running | RunState::Finishing | RunState::Done,
        ) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{End, Fence, fixture};
    use crate::task::Outcome;

    fn check(attempt: u32, state: RunState, end: Option<End>, expected: bool) {
        let mut run = fixture::ended(Outcome::Exited(0));
        run.fence = Fence { attempt: 2, ..run.fence };
        (run.state, run.end) = (state, end);
        assert_eq!(is_dead(&run, attempt), expected);
    }

    #[test]
    fn an_attempt_that_came_to_nothing_is_dead() {
        check(1, RunState::Running, None, true);
        check(2, RunState::Queued, None, true);
        check(2, RunState::Done, Some(End::bare(Outcome::Exited(0))), true);
    }

    #[test]
    fn an_attempt_that_goes_on_or_is_recorded_is_not() {
        check(2, RunState::Running, None, false);
        check(3, RunState::Running, None, false);
        let end = End { output_dir: Some("/somewhere".into()), ..End::bare(Outcome::Exited(0)) };
        check(2, RunState::Done, Some(end), false);
    }
}
