//! Files of runs that go, logs and changes: those that no run has, and the oldest above what they may use together.

use std::collections::BTreeSet;

use crate::app::AppError;
use crate::app::sweep::{Mode, now_ms};
use crate::record::{Found, Record, RunFilter};
use crate::sandbox::by_run::ByRun;
use crate::store::Store;
use crate::task::RunId;
use crate::task::run_id::RunSelector;

/// Files are begun before their run is recorded; younger ones are left alone.
const YOUNG_MS: i64 = 60 * 60 * 1000;
/// Runs that go on at the most.
const ACTIVE_MAX: u32 = 100_000;

/// Removes them, or lists them: runs with their bytes. Those of `spared` runs stay and do not count; those of a server's
/// runs stay as long as their records would, which are not here: if the run was made after `horizon_ms`.
pub(super) async fn sweep(
    store: &Store,
    kept: &ByRun,
    (bytes_max, horizon_ms): (u64, i64),
    mode: Mode,
    spared: &BTreeSet<RunId>,
) -> Result<Vec<(RunId, u64)>, AppError> {
    let failed = |source| AppError::Read { what: "what runs keep in", path: kept.place().to_owned(), source };
    let active: BTreeSet<RunId> =
        store.list(RunFilter::Active, ACTIVE_MAX).await?.iter().map(|it| it.id).collect();
    let (mut staying, mut gone) = (Vec::new(), Vec::new());
    for run in kept.runs().map_err(failed)? {
        if active.contains(&run) || spared.contains(&run) {
            continue;
        }
        let young = now_ms().saturating_sub(run.made_ms()) < YOUNG_MS;
        // One that cannot be measured is one that goes away at this moment.
        let bytes = kept.bytes(run).unwrap_or(0);
        match store.find(&RunSelector::Id(run)).await? {
            Found::Nothing if kept.is_foreign(run) && run.made_ms() >= horizon_ms => {
                staying.push((run, bytes))
            }
            Found::Nothing if !young => gone.push((run, bytes)),
            Found::Nothing | Found::Run(_) | Found::Ambiguous(_) => staying.push((run, bytes)),
        }
    }
    gone.extend(above_quota(staying, bytes_max));
    gone.retain(|(run, _)| mode == Mode::List || kept.remove(*run).is_ok());
    Ok(gone)
}

/// The oldest ones, as many as it takes for the rest to fit.
fn above_quota(mut kept: Vec<(RunId, u64)>, bytes_max: u64) -> Vec<(RunId, u64)> {
    kept.sort_by_key(|(run, _)| std::cmp::Reverse(*run));
    let mut total = 0u64;
    kept.retain(|(_, bytes)| {
        total = total.saturating_add(*bytes);
        total > bytes_max
    });
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(number: u8) -> RunId {
        format!("0191234{number}-6789-7abc-8def-0123456789ab").parse().expect("an id")
    }

    fn check(bytes_max: u64, expected: &[u8]) {
        let kept = vec![(run(2), 40), (run(1), 30), (run(3), 30)];
        let gone: Vec<RunId> = above_quota(kept, bytes_max).into_iter().map(|(run, _)| run).collect();
        assert_eq!(gone, expected.iter().map(|it| run(*it)).collect::<Vec<_>>());
    }

    #[test]
    fn what_fits_stays() {
        check(100, &[]);
    }

    #[test]
    fn the_oldest_go_first() {
        check(99, &[1]);
        check(69, &[2, 1]);
        check(0, &[3, 2, 1]);
    }
}
