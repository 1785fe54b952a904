//! What dead owners left behind, at the start and ever after: leases that ran out, containers, directories, sockets.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::app::AppError;
use crate::app::serve::Host;
use crate::app::serve::engine_watch::{Present, State};
use crate::app::serve::handover::Handover;
use crate::app::sweep::{self, Mode, Swept};
use crate::config::{Directories, Retention};
use crate::queue::{LEASE, Settled};
use crate::record::{Fence, RecordError, RunFilter};
use crate::sandbox::artifacts::Artifacts;
use crate::store::{Store, owner};

/// Time that an engine has to answer at the end that did not answer before.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);
/// How often everything is swept.
const SWEEP_PAUSE: Duration = Duration::from_secs(30);
/// The same at first: the engine may still be making what it was asked for by a server that was killed.
const SWEEP_PAUSES_FIRST: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(5)];
/// How often what is past its retention is let go.
const RETENTION_PAUSE: Duration = Duration::from_secs(60 * 60);
/// How often leases are looked at.
const EXPIRE_PAUSE: Duration = Duration::from_secs(2);
/// Runs that one look settles.
const EXPIRED_MAX: u32 = 1_000;

/// Settles runs whose owner is gone, until it is told to stop.
pub async fn expire(host: &Host, stop: &CancellationToken) {
    loop {
        // A transaction that is let go is as if it had not begun.
        let looked = tokio::select! {
            looked = expired(host) => looked,
            () = stop.cancelled() => return,
        };
        let pause = match looked {
            Ok(()) => {
                host.books.answered();
                EXPIRE_PAUSE
            }
            Err(error) => {
                host.books.failed(&error);
                tokio::select! {
                    () = back(host) => {}
                    () = stop.cancelled() => return,
                }
                // Who could not renew while they were away has the time of a lease to do it now.
                LEASE
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Waits until the books answer. They are only looked at: what settles leases could be the first to come through.
async fn back(host: &Host) {
    loop {
        tokio::time::sleep(EXPIRE_PAUSE).await;
        match host.record.list(RunFilter::Active, 1).await {
            Ok(_) => return host.books.answered(),
            Err(error) => host.books.failed(&error),
        }
    }
}

async fn expired(host: &Host) -> Result<(), RecordError> {
    loop {
        let settled = host.queue.expire(EXPIRED_MAX).await?;
        for one in &settled {
            let run = one.fence.run;
            match one.settled {
                Settled::Done => tracing::warn!(run.id = %run, "run `{run}` ended without its owner"),
                Settled::Again { .. } => {
                    tracing::warn!(run.id = %run, "run `{run}` lost its owner and is queued again")
                }
                Settled::Superseded => continue,
            }
            forget_outputs(host, one.fence).await;
        }
        if settled.len() < EXPIRED_MAX as usize {
            return Ok(());
        }
    }
}

/// What a dead attempt had brought out by then is on no record.
async fn forget_outputs(host: &Host, fence: Fence) {
    let artifacts = Artifacts::new(&host.directories.state);
    let removed = tokio::task::spawn_blocking(move || artifacts.remove(fence.run, fence.attempt)).await;
    if let Err(error) = removed.map_err(std::io::Error::other).and_then(|it| it) {
        tracing::warn!(run.id = %fence.run, %error, "outputs of a dead attempt could not be removed; a later sweep will");
    }
}

/// Sweeps whenever the engine comes back, and every so often, until it is told to stop; then once more.
pub async fn sweep(host: &Host, stop: &CancellationToken) {
    let mut changes = host.engine.changes();
    let mut first = SWEEP_PAUSES_FIRST.into_iter();
    loop {
        let state = changes.borrow_and_update().clone();
        let State::Present(present) = state else {
            tokio::select! {
                Ok(()) = changes.changed() => continue,
                () = stop.cancelled() => {}
            }
            // Told to stop as it began: what others left is swept all the same, if the engine is about to answer.
            let present = changes.wait_for(|it| matches!(it, State::Present(_)));
            match tokio::time::timeout(ANSWER_TIME_MAX, present).await {
                Ok(Ok(_)) => continue,
                Ok(Err(_)) | Err(_) => return,
            }
        };
        match swept(host, &present).await {
            Ok(swept) => tell(&swept),
            Err(error) => tracing::warn!("what dead owners left could not be swept: {error}"),
        }
        if stop.is_cancelled() {
            return;
        }
        tokio::select! {
            Ok(()) = changes.changed() => {}
            () = tokio::time::sleep(first.next().unwrap_or(SWEEP_PAUSE)) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Lets go what is past its retention, at once and every so often, until it is told to stop. It reads many files, and has
/// a thread of its own for them.
pub async fn retain(store: &Store, host: &Host, retention: Retention, stop: &CancellationToken) {
    loop {
        let (store, directories) = (store.clone(), host.directories.clone());
        let handover = host.upstream.is_some().then(|| Handover::of(&directories.state));
        let retained = tokio::task::spawn_blocking(move || {
            tokio::runtime::Handle::current().block_on(retained(
                &store,
                &directories,
                &retention,
                handover.as_ref(),
            ))
        });
        match retained.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!("what is past its retention could not be let go: {error}"),
            Err(error) => tracing::error!("the sweep of what is past its retention broke: {error}"),
        }
        tokio::select! {
            () = tokio::time::sleep(RETENTION_PAUSE) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// On a host that hands over to a server only files go, and none that wait for it.
async fn retained(
    store: &Store,
    directories: &Directories,
    retention: &Retention,
    handover: Option<&Handover>,
) -> Result<(), AppError> {
    let mut swept = Swept::default();
    match handover {
        None => sweep::retained(store, directories, retention, Mode::Remove, &mut swept).await?,
        Some(handover) => {
            let waiting = handover.runs().map_err(|source| AppError::Read {
                what: "what waits for the server below",
                path: directories.state.clone(),
                source,
            })?;
            sweep::files(store, directories, retention, &waiting, Mode::Remove, &mut swept).await?;
        }
    }
    let Swept { runs_forgotten, artifacts, uploads, bytes_freed, .. } = swept;
    if bytes_freed > 0 || !runs_forgotten.is_empty() || !artifacts.is_empty() {
        let (runs, outputs, uploads) = (runs_forgotten.len(), artifacts.len(), uploads.len());
        tracing::info!(
            bytes_freed,
            "let go {runs} runs, outputs of {outputs} and {uploads} uploads past their retention"
        );
    }
    Ok(())
}

async fn swept(host: &Host, present: &Present) -> Result<Swept, AppError> {
    let mut swept = Swept::default();
    sweep::sandboxes(&present.engine, &host.directories, Mode::Remove, &mut swept).await?;
    sweep::sockets(&host.directories.runtime.join("runs"), Mode::Remove, &mut swept);
    sweep::orphans(&*host.record, Mode::Remove, &mut swept).await?;
    let _ = owner::sweep(&host.directories.state);
    Ok(swept)
}

fn tell(swept: &Swept) {
    let Swept { containers, slots, workspaces, .. } = swept;
    if containers.is_empty() && slots.is_empty() && workspaces.is_empty() {
        return;
    }
    let (containers, slots, workspaces) = (containers.len(), slots.len(), workspaces.len());
    tracing::warn!(
        "removed {containers} containers, {slots} slots and {workspaces} workspaces of dead owners"
    );
}
