//! What nobody else would do: leases of the dead, deadlines, and what a crash left half done.

use std::collections::BTreeSet;

use crate::queue::{Expired, Reached, Settled};
use crate::record::{End, Fence, RecordError};
use crate::store::books::Books;
use crate::store::database::{Both, Durability, sql};
use crate::store::owner;
use crate::store::queue::settle::Ended;
use crate::store::queue::stage::Touched;
use crate::task::outcome::LostReason;
use crate::task::{Cancellation, Outcome, RunState};

/// How long a worker that is not heard of is listed.
const WORKER_KEPT_MS: i64 = 3_600_000;

impl Books {
    pub(crate) async fn expire(&self, count_max: u32) -> Result<Vec<Expired>, RecordError> {
        let mut touched = self.promote().await?;
        touched.dependents = self.has_ended_dependencies().await?;
        touched.keys.extend(self.waiting_keys().await?);
        self.tidy(touched).await?;
        self.end_leases_of_the_dead().await?;
        let expired = self.expire_leases(count_max).await?;
        self.end_past_deadline(count_max).await?;
        self.forget_old(count_max).await?;
        Ok(expired)
    }

    /// An owner of this machine that is gone has no lease, whatever it says.
    async fn end_leases_of_the_dead(&self) -> Result<(), RecordError> {
        let Some(owners) = &self.owners else { return Ok(()) };
        let select = sql("SELECT owner_lock FROM queue WHERE stage = 'leased' \
             UNION SELECT owner_lock FROM workers WHERE NOT draining");
        let locks: Vec<(String,)> = self.database.all(select).await?;
        let dead: BTreeSet<String> =
            locks.into_iter().map(|it| it.0).filter(|it| !owner::is_alive(owners, it)).collect();
        if dead.is_empty() {
            return Ok(());
        }
        let mut tx = self.begin(Durability::Crash).await?;
        for lock in dead {
            let end = sql("UPDATE queue SET lease_until_ms = 0 WHERE stage = 'leased' AND owner_lock = $1");
            tx.execute(end.bind(&lock)).await?;
            tx.execute(sql("DELETE FROM workers WHERE owner_lock = $1 AND NOT draining").bind(lock)).await?;
        }
        tx.commit().await
    }

    async fn expire_leases(&self, count_max: u32) -> Result<Vec<Expired>, RecordError> {
        let mut tx = self.database.look().await?;
        let now = self.now(&mut tx).await?;
        let select = sql("SELECT queue.run_id, runs.attempt, runs.epoch, runs.state FROM queue \
             JOIN runs ON runs.id = queue.run_id \
             WHERE queue.stage = 'leased' AND queue.lease_until_ms < $1 ORDER BY queue.lease_until_ms LIMIT $2");
        let select = select.bind(now.lease_ms).bind(count_max);
        let rows: Vec<(String, i64, i64, String)> = tx.all(select).await?;
        tx.commit().await?;
        let mut expired = Vec::with_capacity(rows.len());
        for (id, attempt, epoch, state) in rows {
            let fence = Fence {
                run: id.parse().map_err(|_| self.undecodable(&id, "run_id"))?,
                epoch: epoch.unsigned_abs(),
                attempt: u32::try_from(attempt).unwrap_or(u32::MAX),
            };
            let state = RunState::from_name(&state).ok_or_else(|| self.undecodable(&id, "state"))?;
            let settled = self.expire_one(fence, state).await?;
            if settled != Settled::Superseded {
                expired.push(Expired { fence, settled });
            }
        }
        Ok(expired)
    }

    async fn expire_one(&self, fence: Fence, state: RunState) -> Result<Settled, RecordError> {
        let mut touched = Touched::default();
        let mut tx = self.begin(Durability::PowerCut).await?;
        let leased = self.leased(&mut tx, fence).await?;
        let now = self.now(&mut tx).await?;
        // It may have been renewed or settled since it was looked at.
        let Some(leased) = leased.filter(|it| it.lease_until_ms < now.lease_ms) else {
            tx.rollback().await?;
            return Ok(Settled::Superseded);
        };
        let reached = match state {
            RunState::Running | RunState::Finishing => Reached::Released,
            // Steps between are not forced to the disk: after a power cut nobody knows how far it came.
            _ if leased.boot != self.boot() => Reached::Released,
            RunState::Queued | RunState::Leased | RunState::Starting | RunState::Done => Reached::Unreleased,
        };
        let end = End::bare(Outcome::Lost { reason: LostReason::Owner });
        let ended = Ended { reached, end: &end, attestation: None };
        let settled = self.conclude(&mut tx, fence, &leased, ended, now, &mut touched).await?;
        match settled {
            Settled::Superseded => tx.rollback().await?,
            Settled::Done | Settled::Again { .. } => tx.commit().await?,
        }
        self.tidy(touched).await?;
        Ok(settled)
    }

    async fn end_past_deadline(&self, count_max: u32) -> Result<(), RecordError> {
        let mut tx = self.begin(Durability::PowerCut).await?;
        let now = self.now(&mut tx).await?;
        let select = Both {
            sqlite: "SELECT run_id, epoch FROM queue WHERE deadline_ms IS NOT NULL AND deadline_ms <= $1 \
                 AND stage <> 'leased' ORDER BY deadline_ms LIMIT $2",
            postgres: "SELECT run_id, epoch FROM queue WHERE deadline_ms IS NOT NULL AND deadline_ms <= $1 \
                 AND stage <> 'leased' ORDER BY deadline_ms LIMIT $2 FOR UPDATE SKIP LOCKED",
        };
        let select = select.sql().bind(now.wall_ms).bind(count_max);
        let rows: Vec<(String, i64)> = tx.all(select).await?;
        if rows.is_empty() {
            return tx.rollback().await;
        }
        let mut touched = Touched::default();
        for (id, epoch) in rows {
            let run = id.parse().map_err(|_| self.undecodable(&id, "run_id"))?;
            let fence = Fence { run, epoch: epoch.unsigned_abs(), attempt: 0 };
            self.end_waiting(&mut tx, fence, Cancellation::Deadline, now, &mut touched).await?;
        }
        tx.commit().await?;
        self.tidy(touched).await
    }

    /// Keys whose time is over, and workers that are not heard of.
    async fn forget_old(&self, count_max: u32) -> Result<(), RecordError> {
        let mut tx = self.begin(Durability::Crash).await?;
        let now = self.now(&mut tx).await?;
        let delete = sql("DELETE FROM idempotency WHERE run_id IN (SELECT run_id FROM idempotency \
             WHERE expires_ms IS NOT NULL AND expires_ms <= $1 ORDER BY expires_ms LIMIT $2) \
             AND expires_ms <= $1");
        let mut gone = tx.execute(delete.bind(now.wall_ms).bind(count_max)).await?;
        let delete = sql("DELETE FROM workers WHERE seen_ms < $1 AND NOT draining");
        gone += tx.execute(delete.bind(now.lease_ms - WORKER_KEPT_MS)).await?;
        if gone == 0 { tx.rollback().await } else { tx.commit().await }
    }
}
