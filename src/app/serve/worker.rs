//! The loop that claims runs and runs them, and the one that renews what is held.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::app::serve::attempt::attempt;
use crate::app::serve::{Host, Stage};
use crate::executor::lease::Moment;
use crate::fault::{self, Point};
use crate::queue::{Claimed, LEASE, RENEWAL};

/// The pause after books or engine did not answer.
const AWAY_PAUSE: Duration = Duration::from_millis(500);
/// Time that attempts may take to end once they are told to: the engine's slowest call, and the books.
const END_TIME_MAX: Duration = Duration::from_secs(90);

/// Claims and runs, until it is told to stop and nothing runs any more.
pub async fn work(host: &Arc<Host>, mut stage: watch::Receiver<Stage>, drain: Duration) {
    let mut running = JoinSet::new();
    let mut drained_by: Option<Instant> = None;
    loop {
        let now_stage = *stage.borrow_and_update();
        match now_stage {
            Stage::Serving => {}
            Stage::Draining => {
                drained_by.get_or_insert_with(|| Instant::now() + drain);
            }
            Stage::Stopping => drained_by = Some(Instant::now()),
        }
        let overdue = drained_by.is_some_and(|it| it <= Instant::now());
        if overdue || (drained_by.is_some() && running.is_empty()) {
            break;
        }
        let free = host.workers.saturating_sub(running.len());
        let mut pause = None;
        // Made before the claim: what is queued meanwhile is heard.
        let wake = host.queue.wait();
        if now_stage == Stage::Serving && free > 0 {
            match claim(host, free).await {
                Some(claims) if claims.is_empty() => {}
                Some(claims) => {
                    fault::reach(Point::Claimed);
                    for (claimed, asked) in claims {
                        let taken = host.held.take(&claimed, asked);
                        let host = host.clone();
                        running.spawn(async move { attempt(&host, claimed, taken).await });
                    }
                    continue;
                }
                None => pause = Some(AWAY_PAUSE),
            }
        }
        let may_claim = now_stage == Stage::Serving && free > 0 && pause.is_none();
        // Whatever happens, everything is looked at again.
        tokio::select! {
            Some(_) = running.join_next() => {}
            Ok(()) = stage.changed() => {}
            _ = wake, if may_claim => {}
            () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
            () = until(drained_by) => {}
        }
    }
    end(host, running).await;
}

/// Ends what still runs, at once; the rule for lost runs decides about each.
async fn end(host: &Host, mut running: JoinSet<()>) {
    host.held.end_all();
    let ended = async { while running.join_next().await.is_some() {} };
    if tokio::time::timeout(END_TIME_MAX, ended).await.is_err() {
        tracing::warn!("some attempts did not end in time: their sandboxes end with this process");
    }
}

/// Claims as many as there is room for; `None` where books or engine do not answer.
async fn claim(host: &Host, free: usize) -> Option<Vec<(Claimed, Moment)>> {
    host.engine.present()?;
    let count = u32::try_from(free).unwrap_or(u32::MAX);
    let asked = Moment::now();
    match host.queue.claim(&host.worker, count).await {
        Ok(claims) => {
            host.books.answered();
            Some(claims.into_iter().map(|it| (it, asked)).collect())
        }
        Err(error) => {
            host.books.failed(&error);
            None
        }
    }
}

/// Renews everything that is held, well before it runs out.
pub async fn renew(host: &Host, stop: &CancellationToken) {
    let mut pause = RENEWAL;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
        let fences = host.held.fences();
        if fences.is_empty() {
            pause = RENEWAL;
            continue;
        }
        let asked = Moment::now();
        // What does not answer within the lease has not renewed it.
        let renewed = tokio::time::timeout(LEASE, host.queue.renew(&fences)).await;
        pause = match renewed {
            Ok(Ok(renewed)) => {
                host.books.answered();
                host.held.renewed(&renewed, asked);
                RENEWAL
            }
            Ok(Err(error)) => {
                host.books.failed(&error);
                AWAY_PAUSE
            }
            Err(_) => AWAY_PAUSE,
        };
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
