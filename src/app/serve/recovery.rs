//! What dead owners left behind, at the start and ever after: leases that ran out, containers, directories, sockets.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::app::AppError;
use crate::app::serve::Host;
use crate::app::serve::engine_watch::{Present, State};
use crate::app::sweep::{self, Mode, Swept};
use crate::queue::{LEASE, Settled};
use crate::record::{RecordError, RunFilter};
use crate::store::owner;

/// How often everything is swept.
const SWEEP_PAUSE: Duration = Duration::from_secs(30);
/// The same at first: the engine may still be making what it was asked for by a server that was killed.
const SWEEP_PAUSES_FIRST: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(5)];
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
                Settled::Superseded => {}
            }
        }
        if settled.len() < EXPIRED_MAX as usize {
            return Ok(());
        }
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
                () = stop.cancelled() => return,
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
