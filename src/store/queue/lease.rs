//! Leases that go on, that are given back, and wishes to end what is leased or waits.

use crate::access::NewAudit;
use crate::queue::{CancelAnswer, Renewed};
use crate::record::{EventKind, Fence, RecordError};
use crate::store::books::{Books, Moment};
use crate::store::database::{Both, Durability, Tx, sql};
use crate::store::json as column;
use crate::store::queue::announce;
use crate::store::queue::claim::lease_until;
use crate::store::queue::stage::Touched;
use crate::task::{Cancellation, RunId};

impl Books {
    pub(crate) async fn renew(&self, fences: &[Fence]) -> Result<Renewed, RecordError> {
        let mut renewed = Renewed::default();
        if fences.is_empty() {
            return Ok(renewed);
        }
        let mut fences = fences.to_vec();
        // In one order for everybody, so that no two renewals wait for each other.
        fences.sort_by_key(|it| it.run);
        let mut tx = self.begin(Durability::Crash).await?;
        let now = self.now(&mut tx).await?;
        for fence in fences {
            let update = sql("UPDATE queue SET lease_until_ms = $3 \
                 WHERE run_id = $1 AND epoch = $2 AND stage = 'leased' RETURNING cancel, worker");
            let update = update.bind(fence.run).bind(fence.epoch).bind(lease_until(now));
            let row: Option<(Option<String>, String)> = tx.first(update).await?;
            let Some((cancel, worker)) = row else {
                renewed.lost.push(fence);
                continue;
            };
            if renewed.held.is_empty() {
                let seen = sql("UPDATE workers SET seen_ms = $2 WHERE name = $1");
                tx.execute(seen.bind(worker).bind(now.lease_ms)).await?;
            }
            renewed.held.push(fence);
            if let Some(by) = cancel.as_deref().and_then(Cancellation::of_word) {
                renewed.cancelled.push((fence, by));
            }
        }
        tx.commit().await?;
        Ok(renewed)
    }

    pub(crate) async fn give_back(&self, fences: &[Fence]) -> Result<(), RecordError> {
        let mut fences = fences.to_vec();
        fences.sort_by_key(|it| it.run);
        let mut touched = Touched::default();
        let mut tx = self.begin(Durability::Crash).await?;
        let now = self.now(&mut tx).await?;
        for fence in fences {
            self.give_one_back(&mut tx, fence, now, &mut touched).await?;
        }
        announce(&mut tx).await?;
        tx.commit().await?;
        self.tidy(touched).await
    }

    async fn give_one_back(
        &self,
        tx: &mut Tx,
        fence: Fence,
        now: Moment,
        touched: &mut Touched,
    ) -> Result<(), RecordError> {
        let select = Both {
            sqlite: "SELECT cancel FROM queue WHERE run_id = $1 AND epoch = $2 AND stage = 'leased'",
            postgres: "SELECT cancel FROM queue WHERE run_id = $1 AND epoch = $2 AND stage = 'leased' FOR UPDATE",
        };
        let row: Option<(Option<String>,)> = tx.first(select.sql().bind(fence.run).bind(fence.epoch)).await?;
        let Some((cancel,)) = row else { return Ok(()) };
        if let Some(by) = cancel.as_deref().and_then(Cancellation::of_word) {
            self.end_waiting(tx, fence, by, now, touched).await?;
            return Ok(());
        }
        let update = sql("UPDATE runs SET state = 'queued', epoch = epoch + 1, attempt = attempt - 1, \
             owner_pid = NULL, owner_lock = NULL, slot_number = NULL, container_id = NULL, started_ms = NULL \
             WHERE id = $1 AND epoch = $2 AND state IN ('leased', 'starting')");
        if tx.execute(update.bind(fence.run).bind(fence.epoch)).await? == 0 {
            return Ok(());
        }
        let update = sql(
            "UPDATE queue SET stage = CASE WHEN concurrency_key IS NOT NULL THEN 'held' ELSE 'ready' END, \
             epoch = epoch + 1, worker = NULL, owner_lock = NULL, boot = NULL, lease_until_ms = NULL \
             WHERE run_id = $1 RETURNING project, concurrency_key",
        );
        if let Some((project, key)) = tx.first::<(String, Option<String>)>(update.bind(fence.run)).await? {
            touched.turn(project, key);
        }
        self.queued_again(tx, fence, now, &[("given_back", true.into())]).await
    }

    pub(crate) async fn cancel(
        &self,
        run: RunId,
        by: Cancellation,
        audit: Option<&NewAudit>,
    ) -> Result<CancelAnswer, RecordError> {
        let mut touched = Touched::default();
        let mut tx = self.begin(Durability::PowerCut).await?;
        let select = Both {
            sqlite: "SELECT stage, epoch, cancel FROM queue WHERE run_id = $1",
            postgres: "SELECT stage, epoch, cancel FROM queue WHERE run_id = $1 FOR UPDATE",
        };
        let row: Option<(String, i64, Option<String>)> = tx.first(select.sql().bind(run)).await?;
        let Some((stage, epoch, cancel)) = row else {
            let state: Option<(String,)> =
                tx.first(sql("SELECT state FROM runs WHERE id = $1").bind(run)).await?;
            tx.rollback().await?;
            let over = state.is_some_and(|(it,)| it == "done");
            return Ok(if over { CancelAnswer::Over } else { CancelAnswer::Unknown });
        };
        let now = self.now(&mut tx).await?;
        if stage != "leased" {
            let fence = Fence { run, epoch: epoch.unsigned_abs(), attempt: 0 };
            let ended = self.end_waiting(&mut tx, fence, by, now, &mut touched).await?;
            self.write_down(&mut tx, audit.filter(|_| ended), now).await?;
            tx.commit().await?;
            self.tidy(touched).await?;
            return Ok(if ended { CancelAnswer::Ended } else { CancelAnswer::Over });
        }
        // The first wish counts.
        if cancel.is_none() {
            let update = sql("UPDATE queue SET cancel = $2 WHERE run_id = $1").bind(run).bind(by.word());
            tx.execute(update).await?;
            let detail = column::detail(&[("by", by.word().into())]);
            self.append(&mut tx, run, now.wall_ms, EventKind::CancelAsked, &detail).await?;
        }
        self.write_down(&mut tx, audit, now).await?;
        tx.commit().await?;
        Ok(CancelAnswer::Asked)
    }
}
