//! The end of an attempt: its outcome is recorded, or the run waits again.

use serde_json::json;

use crate::fault::{self, Point};
use crate::queue::retry::{self, Class, Next, Tries};
use crate::queue::{Reached, Settled};
use crate::record::{End, EventKind, Fence, RecordError};
use crate::store::books::{Books, Moment};
use crate::store::database::{Both, Durability, Tx, sql};
use crate::store::json as column;
use crate::store::queue::stage::Touched;
use crate::task::{Cancellation, Outcome};

/// What the queue holds of a leased run.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct Leased {
    idempotent: bool,
    attempts_max: i64,
    losses: i64,
    failure_retries: i64,
    failures: i64,
    worker: String,
    cancel: Option<String>,
    pub(super) boot: Option<String>,
    pub(super) lease_until_ms: i64,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended<'a> {
    pub(super) reached: Reached,
    pub(super) end: &'a End,
    pub(super) attestation: Option<&'a str>,
}

impl Books {
    pub(crate) async fn settle(
        &self,
        fence: Fence,
        reached: Reached,
        end: &End,
        attestation: Option<&str>,
    ) -> Result<Settled, RecordError> {
        let mut touched = Touched::default();
        let mut tx = self.begin(Durability::PowerCut).await?;
        let Some(leased) = self.leased(&mut tx, fence).await? else {
            tx.rollback().await?;
            return Ok(Settled::Superseded);
        };
        let now = self.now(&mut tx).await?;
        let ended = Ended { reached, end, attestation };
        let settled = self.conclude(&mut tx, fence, &leased, ended, now, &mut touched).await?;
        match settled {
            Settled::Superseded => tx.rollback().await?,
            Settled::Done | Settled::Again { .. } => {
                tx.commit().await?;
                fault::reach(Point::Settled);
            }
        }
        self.tidy(touched).await?;
        Ok(settled)
    }

    /// The lease of a fence, its row locked; `None` where it is over.
    pub(super) async fn leased(&self, tx: &mut Tx, fence: Fence) -> Result<Option<Leased>, RecordError> {
        let select = Both {
            sqlite: "SELECT idempotent, attempts_max, losses, failure_retries, failures, worker, cancel, boot, \
                 lease_until_ms FROM queue WHERE run_id = $1 AND epoch = $2 AND stage = 'leased'",
            postgres: "SELECT idempotent, attempts_max, losses, failure_retries, failures, worker, cancel, boot, \
                 lease_until_ms FROM queue WHERE run_id = $1 AND epoch = $2 AND stage = 'leased' FOR UPDATE",
        };
        tx.first(select.sql().bind(fence.run).bind(fence.epoch)).await
    }

    /// Decides and writes.
    pub(super) async fn conclude(
        &self,
        tx: &mut Tx,
        fence: Fence,
        leased: &Leased,
        ended: Ended<'_>,
        now: Moment,
        touched: &mut Touched,
    ) -> Result<Settled, RecordError> {
        let outcome = &ended.end.outcome;
        match retry::next(outcome, ended.reached, leased.tries()) {
            Next::Again(class) => match leased.cancelled() {
                None => self.again(tx, fence, leased, outcome, class, now, touched).await,
                // Somebody wants it ended, and nothing of it runs any more.
                Some(by) => {
                    let end = End { outcome: Outcome::Cancelled(by), ..ended.end.clone() };
                    self.done(tx, fence, Ended { end: &end, ..ended }, now, touched).await
                }
            },
            Next::Done => self.done(tx, fence, ended, now, touched).await,
            Next::GivenUp => {
                let settled = self.done(tx, fence, ended, now, touched).await?;
                if settled == Settled::Done {
                    let detail = column::detail(&[
                        ("attempt", json!(fence.attempt)),
                        ("because", json!(outcome.to_string())),
                        ("losses", json!(leased.losses)),
                        ("failures", json!(leased.failures)),
                    ]);
                    self.append(tx, fence.run, now.wall_ms, EventKind::GivenUp, &detail).await?;
                }
                Ok(settled)
            }
        }
    }

    async fn done(
        &self,
        tx: &mut Tx,
        fence: Fence,
        ended: Ended<'_>,
        now: Moment,
        touched: &mut Touched,
    ) -> Result<Settled, RecordError> {
        let finished = self.finish_row(tx, fence, ended.end, ended.attestation, now.wall_ms).await?;
        let Some(project) = finished else {
            return Ok(Settled::Superseded);
        };
        let project = project.unwrap_or_default();
        self.count_cpu(tx, &project, ended.end, now).await?;
        self.leave(tx, fence.run, &project, ended.end, now.wall_ms, touched).await?;
        Ok(Settled::Done)
    }

    #[expect(clippy::too_many_arguments, reason = "one transition, told whole")]
    async fn again(
        &self,
        tx: &mut Tx,
        fence: Fence,
        leased: &Leased,
        because: &Outcome,
        class: Class,
        now: Moment,
        touched: &mut Touched,
    ) -> Result<Settled, RecordError> {
        let (losses, failures) = match class {
            Class::Lost => (leased.losses + 1, leased.failures),
            Class::Failed => (leased.losses, leased.failures + 1),
        };
        let repetition = u32::try_from(losses + failures).unwrap_or(u32::MAX);
        let wait_ms = retry::backoff_ms(repetition, random());
        let not_before_ms = now.wall_ms.saturating_add(i64::try_from(wait_ms).unwrap_or(i64::MAX));
        let update = sql("UPDATE runs SET state = 'queued', epoch = epoch + 1, slot_number = NULL, \
             container_id = NULL, attestation = NULL, started_ms = NULL, released_ms = NULL, owner_pid = NULL, \
             owner_lock = NULL \
             WHERE id = $1 AND epoch = $2 AND state IN ('leased', 'starting', 'running', 'finishing')");
        if tx.execute(update.bind(fence.run).bind(fence.epoch)).await? == 0 {
            return Ok(Settled::Superseded);
        }
        let excluded = match class {
            Class::Lost => Some(leased.worker.as_str()),
            Class::Failed => None,
        };
        let update =
            sql("UPDATE queue SET stage = 'delayed', not_before_ms = $2, losses = $3, failures = $4, \
             excluded_worker = $5, epoch = epoch + 1, worker = NULL, owner_lock = NULL, boot = NULL, \
             lease_until_ms = NULL WHERE run_id = $1 RETURNING project, concurrency_key");
        let update = update.bind(fence.run).bind(not_before_ms).bind(losses).bind(failures).bind(excluded);
        if let Some((project, key)) = tx.first::<(String, Option<String>)>(update).await? {
            touched.turn(project, key);
        }
        let why = [("because", json!(because.to_string())), ("not_before_ms", json!(not_before_ms))];
        self.queued_again(tx, fence, now, &why).await?;
        Ok(Settled::Again { not_before_ms })
    }
}

impl Leased {
    fn tries(&self) -> Tries {
        // They are counters of ours: small and never negative.
        let small = |it: i64| u32::try_from(it).unwrap_or(u32::MAX);
        Tries {
            idempotent: self.idempotent,
            attempts_max: small(self.attempts_max),
            losses: small(self.losses),
            failure_retries: small(self.failure_retries),
            failures: small(self.failures),
        }
    }

    fn cancelled(&self) -> Option<Cancellation> {
        self.cancel.as_deref().and_then(Cancellation::of_word)
    }
}

fn random() -> u64 {
    let mut bytes = [0u8; 8];
    // Without the kernel's dice every wait is the shortest: still a wait.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    u64::from_ne_bytes(bytes)
}
