//! What dead owners left behind: containers, slot directories, sockets, runs without an outcome. A run that begins
//! sweeps when it sees a dead slot; `aegis gc` always does, and lets go what is past its retention.
//!
//! The order is container, slot, run: a container is matched to its slot by its label, a slot to its owner by the lock
//! that the kernel gives back when a process ends. What belongs to a living owner, or to another instance, is left.

mod artifacts;
mod kept;
#[cfg(test)]
mod tests;
mod uploads;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::app::AppError;
use crate::app::sweep::uploads::Removal;
use crate::config::{Directories, Retention};
use crate::container::{Engine, EngineError, ImageFacts, ListedContainer};
use crate::docker::DockerEngine;
use crate::record::{End, Record, Transition, now_ms};
use crate::sandbox::artifacts::Artifacts;
use crate::sandbox::changes::kept::Kept;
use crate::sandbox::container_spec::{LABEL_INSTANCE, LABEL_SLOT};
use crate::sandbox::workspace::{snapshot, upload};
use crate::sandbox::{layers, removal, slot};
use crate::store::{Logs, Store, owner};
use crate::task::outcome::LostReason;
use crate::task::{Outcome, RunId};

/// Runs that one sweep forgets at the most; the next one goes on.
const FORGOTTEN_MAX: u32 = 10_000;
/// Time in which a socket that was made has its name.
const MAKING_TIME_MAX: Duration = Duration::from_secs(60);

/// Whether things are removed or only listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Removed.
    Remove,
    /// Listed.
    List,
}

/// What a sweep found, and removed unless it only listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// Containers of dead owners, by id.
    pub containers: Vec<String>,
    /// Slot directories of dead owners, by number.
    pub slots: Vec<u32>,
    /// Workspaces on disk of dead owners, by name.
    pub workspaces: Vec<String>,
    /// Snapshots of workspaces that nobody used for long, by name.
    pub snapshots: Vec<String>,
    /// Sockets of dead owners, by name.
    pub sockets: Vec<String>,
    /// Runs that had no outcome and no owner: now `lost`.
    pub runs_ended: Vec<RunId>,
    /// Runs past their retention, with their logs.
    pub runs_forgotten: Vec<RunId>,
    /// Logs without a run, and the oldest above the quota.
    pub logs: Vec<RunId>,
    /// Change sets without a run, and the oldest above the quota.
    pub changes: Vec<RunId>,
    /// Runs whose outputs go: without a run, of attempts that came to nothing, and the oldest above the quota.
    pub artifacts: Vec<RunId>,
    /// Uploaded workspaces that nobody needs, by name.
    pub uploads: Vec<String>,
    /// Images of ours that go: unnamed ones, and the oldest above the quota.
    pub images: Vec<String>,
    /// Bytes of all these.
    pub bytes_freed: u64,
}

/// Removes what dead owners left of the instance's sandboxes, and ends their runs. Cheap where there is nothing.
pub async fn leftovers<E: Engine>(
    engine: &E,
    store: &Store,
    directories: &Directories,
) -> Result<Swept, AppError> {
    let dead = dead_slots(directories)?;
    if dead.is_empty() {
        return Ok(Swept::default());
    }
    let mut swept = Swept::default();
    sandboxes(engine, directories, Mode::Remove, &mut swept).await?;
    sockets(&directories.runtime.join("runs"), Mode::Remove, &mut swept);
    orphans(store, Mode::Remove, &mut swept).await?;
    Ok(swept)
}

/// Everything: sandboxes, what is past its retention, images. Without records nothing that a run left is judged.
pub async fn sweep(
    engine: &DockerEngine,
    store: Option<&Store>,
    directories: &Directories,
    retention: &Retention,
    mode: Mode,
) -> Result<Swept, AppError> {
    let mut swept = Swept::default();
    sandboxes(engine, directories, mode, &mut swept).await?;
    sockets(&directories.runtime.join("runs"), mode, &mut swept);
    if let Some(store) = store {
        orphans(store, mode, &mut swept).await?;
        retained(store, directories, retention, mode, &mut swept).await?;
    }
    images(engine, retention, mode, &mut swept).await?;
    Ok(swept)
}

/// What is past its retention, the engine's images aside. What a run needs that has not ended stays.
pub(super) async fn retained(
    store: &Store,
    directories: &Directories,
    retention: &Retention,
    mode: Mode,
    swept: &mut Swept,
) -> Result<(), AppError> {
    runs(store, directories, retention, mode, swept).await?;
    let forgotten = swept.runs_forgotten.iter().copied().collect();
    files(store, directories, retention, &forgotten, mode, swept).await?;
    if mode == Mode::Remove {
        store.forget_audits_before(retention.audit_horizon_ms(now_ms()), FORGOTTEN_MAX).await?;
    }
    Ok(())
}

/// Files that are past their retention. No record goes: on a worker host those are the server's, whose own sweep knows how
/// long they are to be kept. Nothing of `spared` runs goes.
pub(super) async fn files(
    store: &Store,
    directories: &Directories,
    retention: &Retention,
    spared: &BTreeSet<RunId>,
    mode: Mode,
    swept: &mut Swept,
) -> Result<(), AppError> {
    snapshots(directories, retention, mode, swept)?;
    let state = &directories.state;
    let (logs, changes, outputs) = (Logs::new(state), Kept::new(state), Artifacts::new(state));
    artifacts::attempts(store, &outputs, spared, mode, swept).await?;
    let horizon_ms = retention.horizon_ms(now_ms());
    for (kept, bytes_max, into) in [
        (logs.by_run(), retention.log_bytes_max, &mut swept.logs),
        (changes.by_run(), retention.changes_bytes_max, &mut swept.changes),
        (outputs.by_run(), retention.artifact_bytes_max, &mut swept.artifacts),
    ] {
        let gone = kept::sweep(store, kept, (bytes_max, horizon_ms), mode, spared).await?;
        swept.bytes_freed += gone.iter().map(|(_, bytes)| bytes).sum::<u64>();
        into.extend(gone.into_iter().map(|(run, _)| run));
    }
    uploaded(store, directories, retention, mode, swept).await
}

/// Workspaces that clients sent and that nobody needs any more.
async fn uploaded(
    store: &Store,
    directories: &Directories,
    retention: &Retention,
    mode: Mode,
    swept: &mut Swept,
) -> Result<(), AppError> {
    let place = directories.state.join(upload::DIRECTORY);
    let failed = |source| AppError::Use { what: "the uploaded workspaces in", path: place.clone(), source };
    let needed = store.workspaces_needed().await?;
    for upload in uploads::gone(&place, retention, &needed, SystemTime::now()).map_err(failed)? {
        if mode == Mode::Remove && uploads::remove(&place, &upload).map_err(failed)? == Removal::Used {
            continue;
        }
        swept.bytes_freed += upload.bytes;
        swept.uploads.push(upload.name);
    }
    Ok(())
}

/// Containers first, while their slot is held, then the slot; then containers whose slot is gone altogether.
pub(super) async fn sandboxes<E: Engine>(
    engine: &E,
    directories: &Directories,
    mode: Mode,
    swept: &mut Swept,
) -> Result<(), AppError> {
    let dead = dead_slots(directories)?;
    let label = format!("{LABEL_INSTANCE}={}", directories.instance);
    let containers = engine.list(&label).await?;
    for slot in dead {
        let number = slot.number;
        let of_slot: Vec<&ListedContainer> =
            containers.iter().filter(|it| slot_of(it) == Some(number)).collect();
        if mode == Mode::List {
            swept.slots.push(number);
            continue;
        }
        let removed =
            slot::remove_dead(&slot, || async { destroy_all(engine, &of_slot).await.is_ok() }).await;
        if removed.unwrap_or(false) {
            swept.slots.push(number);
            swept.containers.extend(of_slot.iter().map(|it| it.id.clone()));
        }
    }
    for container in &containers {
        let owned = slot_of(container)
            .is_some_and(|it| slot::is_container_owned(&directories.runtime, it, &container.id));
        if owned || swept.containers.contains(&container.id) {
            continue;
        }
        if mode == Mode::Remove {
            engine.destroy(&container.id).await?;
        }
        swept.containers.push(container.id.clone());
    }
    workspaces(directories, mode, swept)
}

/// Workspaces on disk, after the containers that wrote them.
fn workspaces(directories: &Directories, mode: Mode, swept: &mut Swept) -> Result<(), AppError> {
    // Where no work directory can be had there is none.
    let Ok(work) = directories.work() else { return Ok(()) };
    let failed = |source| AppError::Use { what: "the workspaces below", path: work.clone(), source };
    for path in layers::dead_layers(&work, &directories.runtime).map_err(failed)? {
        if mode == Mode::Remove {
            removal::remove_tree(&path).map_err(failed)?;
        }
        swept.workspaces.extend(path.file_name().map(|it| it.to_string_lossy().into_owned()));
    }
    Ok(())
}

/// Snapshots of workspaces that nobody used for long. What is in use is held and not seen here.
fn snapshots(
    directories: &Directories,
    retention: &Retention,
    mode: Mode,
    swept: &mut Swept,
) -> Result<(), AppError> {
    for place in directories.work().ok().iter().chain([&directories.state]) {
        let failed = |source| AppError::Use { what: "the snapshots below", path: place.clone(), source };
        for kept in snapshot::kept(place).map_err(failed)? {
            let unused = kept.used.elapsed().unwrap_or_default();
            if unused < retention.snapshot_age_max {
                continue;
            }
            swept.snapshots.push(kept.name());
            if mode == Mode::Remove {
                kept.remove().map_err(failed)?;
            }
        }
    }
    Ok(())
}

fn dead_slots(directories: &Directories) -> Result<Vec<slot::DeadSlot>, AppError> {
    slot::dead_slots(&directories.runtime).map_err(|source| AppError::Use {
        what: "the slots below",
        path: directories.runtime.clone(),
        source,
    })
}

fn slot_of(container: &ListedContainer) -> Option<u32> {
    container.labels.get(LABEL_SLOT).and_then(|it| it.parse().ok())
}

async fn destroy_all<E: Engine>(engine: &E, containers: &[&ListedContainer]) -> Result<(), EngineError> {
    for container in containers {
        engine.destroy(&container.id).await?;
    }
    Ok(())
}

/// A socket that nobody listens on is a dead owner's, unless it is young and has no name yet.
pub(super) fn sockets(directory: &Path, mode: Mode, swept: &mut Swept) {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return;
    };
    let is_in_the_making = |it: &std::fs::DirEntry| {
        let made = it.metadata().and_then(|it| it.modified());
        it.file_name().as_encoded_bytes().starts_with(b".")
            && made.is_ok_and(|it| it.elapsed().unwrap_or_default() < MAKING_TIME_MAX)
    };
    for path in entries.flatten().filter(|it| !is_in_the_making(it)).map(|it| it.path()) {
        let connected = std::os::unix::net::UnixStream::connect(&path);
        if !matches!(connected, Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused) {
            continue;
        }
        if mode == Mode::Remove && std::fs::remove_file(&path).is_err() {
            continue;
        }
        swept.sockets.extend(path.file_name().map(|it| it.to_string_lossy().into_owned()));
    }
}

/// Forgets runs past their retention.
async fn runs(
    store: &Store,
    directories: &Directories,
    retention: &Retention,
    mode: Mode,
    swept: &mut Swept,
) -> Result<(), AppError> {
    let now_ms = now_ms();
    let state = &directories.state;
    let (logs, changes, outputs) = (Logs::new(state), Kept::new(state), Artifacts::new(state));
    let kept = [logs.by_run(), changes.by_run(), outputs.by_run()];
    for run in store.ended_before(retention.horizon_ms(now_ms), FORGOTTEN_MAX).await? {
        swept.bytes_freed += kept.iter().map(|it| it.bytes(run).unwrap_or(0)).sum::<u64>();
        if mode == Mode::Remove {
            if store.forget(run).await? == Transition::Superseded {
                continue;
            }
            for it in kept {
                let _ = it.remove(run);
            }
        }
        swept.runs_forgotten.push(run);
    }
    if mode == Mode::Remove {
        let _ = owner::sweep(&directories.state);
    }
    Ok(())
}

/// Ends runs whose owner is gone.
pub(super) async fn orphans(store: &dyn Record, mode: Mode, swept: &mut Swept) -> Result<(), AppError> {
    for orphan in store.orphans().await? {
        if mode == Mode::Remove {
            let lost = End::bare(Outcome::Lost { reason: LostReason::Owner });
            if store.finish(orphan.fence, &lost, None, now_ms()).await? == Transition::Superseded {
                continue;
            }
        }
        swept.runs_ended.push(orphan.fence.run);
    }
    Ok(())
}

/// Images of ours that no tag names, and the oldest of the rest above the quota. The engine keeps what a container uses.
async fn images(
    engine: &DockerEngine,
    retention: &Retention,
    mode: Mode,
    swept: &mut Swept,
) -> Result<(), AppError> {
    let mut kept: Vec<ImageFacts> = engine.images().await?;
    kept.sort_by(|one, other| {
        (other.repo_tags.len(), &other.created).cmp(&(one.repo_tags.len(), &one.created))
    });
    let mut total = 0u64;
    for image in kept {
        total = total.saturating_add(image.size_bytes);
        let named = image.repo_tags.iter().any(|it| !it.starts_with("<none>"));
        if named && total <= retention.image_bytes_max {
            continue;
        }
        if mode == Mode::Remove && !engine.remove_image(&image.id).await? {
            continue;
        }
        swept.bytes_freed += image.size_bytes;
        swept.images.push(image.id);
    }
    Ok(())
}
