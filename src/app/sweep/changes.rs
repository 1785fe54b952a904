//! Change sets that go: those that no run has, and the oldest above what change sets may use together.

use std::collections::BTreeSet;

use crate::app::AppError;
use crate::app::sweep::logs::{ACTIVE_MAX, YOUNG_MS, above_quota};
use crate::app::sweep::{Mode, Swept, now_ms};
use crate::config::{Directories, Retention};
use crate::record::{Found, Record, RunFilter};
use crate::sandbox::changes::kept::Kept;
use crate::store::Store;
use crate::task::RunId;
use crate::task::run_id::RunSelector;

/// Removes them, or lists them.
pub(super) async fn sweep(
    store: &Store,
    directories: &Directories,
    retention: &Retention,
    mode: Mode,
    swept: &mut Swept,
) -> Result<(), AppError> {
    let kept = Kept::new(&directories.state);
    let failed =
        |source| AppError::Read { what: "the changes below", path: directories.state.clone(), source };
    let active: BTreeSet<RunId> =
        store.list(RunFilter::Active, ACTIVE_MAX).await?.iter().map(|it| it.id).collect();
    let forgotten: BTreeSet<RunId> = swept.runs_forgotten.iter().copied().collect();
    let (mut staying, mut gone) = (Vec::new(), Vec::new());
    for run in kept.runs().map_err(failed)? {
        if active.contains(&run) || forgotten.contains(&run) {
            continue;
        }
        let young = now_ms().saturating_sub(run.made_ms()) < YOUNG_MS;
        // One that cannot be measured is one that goes away at this moment.
        let bytes = kept.bytes(run).unwrap_or(0);
        match store.find(&RunSelector::Id(run)).await? {
            Found::Nothing if !young => gone.push((run, bytes)),
            Found::Nothing | Found::Run(_) | Found::Ambiguous(_) => staying.push((run, bytes)),
        }
    }
    gone.extend(above_quota(staying, retention.changes_bytes_max));
    for (run, bytes) in gone {
        if mode == Mode::Remove && kept.remove(run).is_err() {
            continue;
        }
        swept.bytes_freed += bytes;
        swept.changes.push(run);
    }
    Ok(())
}
