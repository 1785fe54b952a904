//! Logs that go: those that no run has, and the oldest above what logs may use together.

use std::collections::BTreeSet;

use crate::app::AppError;
use crate::app::sweep::{Mode, Swept, now_ms};
use crate::config::{Directories, Retention};
use crate::record::{Found, Record, RunFilter};
use crate::store::{Logs, Store};
use crate::task::RunId;
use crate::task::run_id::RunSelector;

/// A log is begun before its run is recorded; younger ones are left alone.
pub(super) const YOUNG_MS: i64 = 60 * 60 * 1000;
/// Runs that go on at the most.
pub(super) const ACTIVE_MAX: u32 = 100_000;

/// Removes them, or lists them.
pub(super) async fn sweep(
    store: &Store,
    directories: &Directories,
    retention: &Retention,
    mode: Mode,
    swept: &mut Swept,
) -> Result<(), AppError> {
    let logs = Logs::new(&directories.state);
    let failed = |source| AppError::Read { what: "the logs below", path: directories.state.clone(), source };
    let active: BTreeSet<RunId> =
        store.list(RunFilter::Active, ACTIVE_MAX).await?.iter().map(|it| it.id).collect();
    let forgotten: BTreeSet<RunId> = swept.runs_forgotten.iter().copied().collect();
    let mut kept = Vec::new();
    let mut gone = Vec::new();
    for run in logs.runs().map_err(failed)? {
        let young = now_ms().saturating_sub(run.made_ms()) < YOUNG_MS;
        if active.contains(&run) || forgotten.contains(&run) {
            continue;
        }
        // One that cannot be measured is one that goes away at this moment.
        let bytes = logs.bytes(run).unwrap_or(0);
        match store.find(&RunSelector::Id(run)).await? {
            Found::Nothing if !young => gone.push((run, bytes)),
            Found::Nothing | Found::Run(_) | Found::Ambiguous(_) => kept.push((run, bytes)),
        }
    }
    gone.extend(above_quota(kept, retention.log_bytes_max));
    for (run, bytes) in gone {
        if mode == Mode::Remove && logs.remove(run).is_err() {
            continue;
        }
        swept.bytes_freed += bytes;
        swept.logs.push(run);
    }
    Ok(())
}

/// The oldest ones, as many as it takes for the rest to fit.
pub(super) fn above_quota(mut logs: Vec<(RunId, u64)>, bytes_max: u64) -> Vec<(RunId, u64)> {
    logs.sort_by_key(|(run, _)| std::cmp::Reverse(*run));
    let mut total = 0u64;
    logs.retain(|(_, bytes)| {
        total = total.saturating_add(*bytes);
        total > bytes_max
    });
    logs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(number: u8) -> RunId {
        format!("0191234{number}-6789-7abc-8def-0123456789ab").parse().expect("an id")
    }

    fn check(bytes_max: u64, expected: &[u8]) {
        let logs = vec![(run(2), 40), (run(1), 30), (run(3), 30)];
        let gone: Vec<RunId> = above_quota(logs, bytes_max).into_iter().map(|(run, _)| run).collect();
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
