//! One claimed run, from its lease to its end: judged again, its image looked up, its sandbox taken from the pool or made.

use std::time::{Duration, Instant};

use aegis_init::wire::Stdio;

use crate::api::services::Streams;
use crate::app::AppError;
use crate::app::owner::service::Door;
use crate::app::serve::Host;
use crate::app::serve::held::Taken;
use crate::app::serve::leased::Leased;
use crate::app::serve::ready::Ready;
use crate::container::EngineError;
use crate::executor::publish::Listening;
use crate::executor::{Attempt, Sinks, control, run_attempt};
use crate::queue::{Attached, Claimed};
use crate::record::{End, Image, RecordError, now_ms};
use crate::task::causes::told;
use crate::task::outcome::{LostReason, StartFailure};
use crate::task::{Cancellation, Outcome};

/// Runs what was claimed, and settles it. Returns when nothing of it is left here.
pub async fn attempt(host: &Host, claimed: Claimed, taken: Taken) {
    let (fence, begun) = (claimed.fence, Instant::now());
    let (number, run) = (fence.attempt, fence.run);
    tracing::info!(run.id = %run, attempt = number, "began attempt {number} of run `{run}`");
    let (record, queue) = (host.record.clone(), host.queue.clone());
    let books = Leased::new(record, queue, host.engine.clone(), taken.lease.clone());
    let attempted = attempted(host, &claimed, taken, &books, begun).await;
    let comes_back = matches!(attempted, Err(Unstarted::GiveBack));
    let ended = match attempted {
        Ok(()) => Ok(()),
        Err(Unstarted::Outcome(outcome)) => {
            tracing::info!(run.id = %run, "attempt {number} of run `{run}` did not come to its sandbox: {outcome}");
            books.settle(fence, &End::bare(outcome), None).await.map(|_| ())
        }
        Err(Unstarted::GiveBack) => {
            // Known to be away, it is not claimed again before the engine is back.
            host.engine.check().await;
            host.queue.give_back(&[fence]).await
        }
        // Its outcome may be on record already; if not, its lease runs out and the rule decides.
        Err(Unstarted::Books(error)) => Err(error),
    };
    host.held.drop_run(fence);
    if !comes_back {
        host.attached.finish(run);
    }
    metrics::histogram!("aegis_attempt_seconds").record(begun.elapsed());
    let elapsed_ms = begun.elapsed().as_millis();
    match ended {
        Ok(()) => {
            tracing::info!(run.id = %run, elapsed_ms, "attempt {number} of run `{run}` is over after {elapsed_ms} ms");
        }
        Err(error) => {
            tracing::warn!(run.id = %run, %error, "the end of run `{run}` could not be recorded: {error}");
        }
    }
}

/// Why an attempt did not come to its sandbox.
#[derive(Debug)]
pub enum Unstarted {
    /// This is how it ended.
    Outcome(Outcome),
    /// It is not this run's fault, and costs it no attempt.
    GiveBack,
    /// The books could not be kept.
    Books(RecordError),
}

impl From<AppError> for Unstarted {
    fn from(error: AppError) -> Self {
        match error {
            AppError::Denied(denials) => Self::Outcome(Outcome::Refused {
                differences: denials.into_iter().map(|it| it.message).collect(),
            }),
            AppError::Unenforceable(missing) => Self::Outcome(Outcome::Refused { differences: missing }),
            AppError::Engine(
                EngineError::NotRunning { .. }
                | EngineError::PermissionDenied { .. }
                | EngineError::TimedOut { .. },
            ) => Self::GiveBack,
            other => {
                let reason = StartFailure::Infrastructure { message: told(&other) };
                Self::Outcome(Outcome::StartFailed { reason })
            }
        }
    }
}

async fn attempted(
    host: &Host,
    claimed: &Claimed,
    mut taken: Taken,
    books: &Leased,
    begun: Instant,
) -> Result<(), Unstarted> {
    let Some(present) = host.engine.present() else { return Err(Unstarted::GiveBack) };
    let over = Outcome::Lost { reason: LostReason::Owner };
    let ready = tokio::select! {
        ready = Ready::of(host, claimed, &present) => ready?,
        by = control::cancelled(&mut taken.control) => return Err(Unstarted::Outcome(Outcome::Cancelled(by))),
        () = taken.lease.over() => return Err(Unstarted::Outcome(over)),
    };
    let fence = claimed.fence;
    let sinks = sinks(host, claimed, ready.sinks)?;
    // Whoever has this host's account can ask the run what a local one can be asked; it goes on without.
    let door = Door::open(&host.directories.runtime, fence.run, taken.wishes).ok();
    let image = Image { id: ready.image.id.clone(), repo_digest: ready.image.repo_digests.first().cloned() };
    let accepted = async { Ok((fence, host.record.start(fence, &image, now_ms()).await?)) };
    let warm = host.pool.take(&ready.place, &ready.admitted, &ready.image);
    let warmth = if warm.is_some() { "warm" } else { "cold" };
    let tell = |text: &str| tracing::info!(run.id = %fence.run, "{text}");
    let attempt = Attempt {
        place: &ready.place,
        task: &ready.task,
        admitted: &ready.admitted,
        image: &ready.image,
        workspace: None,
        messages: ready.messages,
        warm,
        lease: Some(taken.lease),
        sinks,
        secrets: ready.secrets,
        stdio: stdio(claimed.submission.attached),
        grace_ms: claimed.submission.grace_ms,
        outputs: ready.outputs,
        changes: ready.changes,
        control: taken.control,
        begun,
        progress: &|_| {},
        egress: ready.egress,
        listening: Listening::default(),
        tell: &tell,
    };
    let end = run_attempt(&present.engine, books, accepted, attempt).await;
    if let Some(door) = door {
        door.close().await;
    }
    let end = end.map_err(Unstarted::Books)?;
    count(&end, warmth);
    if let Outcome::Lost { .. } | Outcome::StartFailed { .. } = end.outcome {
        let (run, outcome) = (fence.run, &end.outcome);
        tracing::warn!(run.id = %run, "attempt {} of run `{run}` came to nothing: {outcome}", fence.attempt);
        // It may be the engine that went away.
        host.engine.check().await;
    }
    Ok(())
}

/// The streams of the client that is attached, where there is to be one.
fn sinks(host: &Host, claimed: &Claimed, unattached: Sinks) -> Result<Sinks, Unstarted> {
    if claimed.submission.attached.is_none() {
        return Ok(unattached);
    }
    match host.attached.take(claimed.fence.run) {
        Some(Streams { stdout, stderr, stdin, over }) => {
            Ok(Sinks { stdout, stderr, stdin, over, ..unattached })
        }
        // Who was attached is gone, or with the server that it was attached to.
        None => Err(Unstarted::Outcome(Outcome::Cancelled(Cancellation::Client))),
    }
}

/// What the metrics tell of an attempt: how long each part of its start took, and what its gateway let pass.
fn count(end: &End, warmth: &'static str) {
    for (phase, us) in &end.timings {
        let seconds = Duration::from_micros(*us).as_secs_f64();
        metrics::histogram!("aegis_phase_seconds", "phase" => phase.name(), "sandbox" => warmth)
            .record(seconds);
    }
    let Some(counts) = end.network else { return };
    for (verdict, count) in
        [("allowed", counts.allowed), ("denied", counts.denied), ("failed", counts.failed)]
    {
        metrics::counter!("aegis_egress_total", "verdict" => verdict).increment(count);
    }
    for (way, bytes) in [("up", counts.bytes_up), ("down", counts.bytes_down)] {
        metrics::counter!("aegis_egress_bytes_total", "way" => way).increment(bytes);
    }
}

fn stdio(attached: Option<Attached>) -> Stdio {
    match attached {
        Some(Attached::Terminal { rows, columns }) => Stdio::Terminal { rows, columns },
        Some(Attached::Output | Attached::Both) | None => Stdio::Pipes,
    }
}
