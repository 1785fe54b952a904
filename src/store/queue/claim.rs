//! Who gets what next. The cost does not grow with what waits: projects and labels are found by steps through an index, and
//! of each only the first run is looked at.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::queue::fleet::Standing;
use crate::queue::share::{self, Lane, Share};
use crate::queue::{Claimed, LEASE, PROCESS_LABEL, Worker};
use crate::record::{End, Fence, RecordError};
use crate::store::books::{Books, Moment};
use crate::store::database::{Both, Durability, Statement, Tx, sql};
use crate::store::queue::stage::Touched;
use crate::store::{json as column, owner};
use crate::task::Outcome;
use crate::task::outcome::StartFailure;

/// Every lane with something ready. Each step reads one entry of the index, so that a lane costs as much as the next. Not by
/// `min`: PostgreSQL, which plans by what the table was like, reads all of a queue that was empty then.
pub(super) const LANES: &str = "WITH RECURSIVE found (lane) AS ( \
     SELECT (SELECT lane FROM queue WHERE stage = 'ready' ORDER BY lane LIMIT 1) \
     UNION ALL \
     SELECT (SELECT lane FROM queue WHERE stage = 'ready' AND lane > found.lane ORDER BY lane LIMIT 1) FROM found \
     WHERE found.lane IS NOT NULL) \
     SELECT lane FROM found WHERE lane IS NOT NULL";

/// The first run of a lane for a worker.
pub(super) const FIRST: Both = Both {
    sqlite: "SELECT run_id, priority, seq FROM queue WHERE lane = $1 AND stage = 'ready' \
         AND (excluded_worker IS NULL OR excluded_worker <> $2) AND (deadline_ms IS NULL OR deadline_ms > $3) ORDER BY priority DESC, seq LIMIT 1",
    postgres: "SELECT run_id, priority, seq FROM queue WHERE lane = $1 AND stage = 'ready' \
         AND (excluded_worker IS NULL OR excluded_worker <> $2) AND (deadline_ms IS NULL OR deadline_ms > $3) ORDER BY priority DESC, seq LIMIT 1 \
         FOR UPDATE SKIP LOCKED",
};

/// What waits for one process is anybody's when its worker was not heard of for so long, where no lock tells.
const GONE: Duration = Duration::from_secs(120);

/// A row of `workers`.
type WorkerRow = (String, String, i64);

/// What a claim goes by.
struct Turn<'a> {
    worker: &'a Worker,
    /// Excluded from what it lost itself; nobody where it is alone.
    excluded: &'a str,
    now: Moment,
    boot: Option<String>,
}

impl Books {
    pub(crate) async fn claim(&self, worker: &Worker, count_max: u32) -> Result<Vec<Claimed>, RecordError> {
        if self.has_due().await? {
            let touched = self.promote().await?;
            self.tidy(touched).await?;
        }
        // An idle queue is not written to.
        if count_max == 0 || self.database.all::<(String,)>(sql(LANES)).await?.is_empty() {
            return Ok(Vec::new());
        }
        let mut tx = self.begin(Durability::PowerCut).await?;
        let now = self.now(&mut tx).await?;
        if self.note_worker(&mut tx, worker, now).await? == Standing::Draining {
            tx.commit().await?;
            return Ok(Vec::new());
        }
        let alone = self.is_alone(&mut tx, worker, now).await?;
        let turn = Turn { worker, excluded: if alone { "" } else { &worker.name }, now, boot: self.boot() };
        let mut touched = Touched::default();
        let claimed = self.take(&mut tx, &turn, count_max, &mut touched).await?;
        if claimed.is_empty() && !touched.ready {
            tx.rollback().await?;
        } else {
            tx.commit().await?;
            self.tidy(touched).await?;
        }
        Ok(claimed)
    }

    async fn has_due(&self) -> Result<bool, RecordError> {
        let due = Both {
            sqlite: "SELECT run_id FROM queue WHERE stage = 'delayed' \
                 AND not_before_ms <= CAST(unixepoch('subsec') * 1000 AS INTEGER) + $1 LIMIT 1",
            postgres: "SELECT run_id FROM queue WHERE stage = 'delayed' \
                 AND not_before_ms <= CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT) + $1 LIMIT 1",
        };
        let due: Vec<(String,)> = self.database.all(due.sql().bind(self.offset_ms())).await?;
        Ok(!due.is_empty())
    }

    /// Whether no other worker could take what this one can.
    async fn is_alone(&self, tx: &mut Tx, worker: &Worker, now: Moment) -> Result<bool, RecordError> {
        let others = sql("SELECT owner_lock, labels, seen_ms FROM workers WHERE name <> $1 AND NOT draining");
        let others: Vec<WorkerRow> = tx.all(others.bind(&worker.name)).await?;
        Ok(!others.iter().any(|it| self.is_living_peer(it, worker, now)))
    }

    /// Whether another worker lives and offers what this one does.
    fn is_living_peer(&self, (lock, labels, seen_ms): &WorkerRow, worker: &Worker, now: Moment) -> bool {
        let labels: Vec<(String, String)> = column::value(labels).unwrap_or_default();
        self.is_living(lock, *seen_ms, now) && worker.labels.iter().all(|it| labels.contains(it))
    }

    async fn take(
        &self,
        tx: &mut Tx,
        turn: &Turn<'_>,
        count_max: u32,
        touched: &mut Touched,
    ) -> Result<Vec<Claimed>, RecordError> {
        let mut lanes = self.lanes(tx, turn).await?;
        let mut shares = self.shares(tx).await?;
        let mut served = shares.values().map(|it| it.served).max().unwrap_or(0);
        let mut turns: BTreeMap<String, i64> = BTreeMap::new();
        let mut claimed = Vec::new();
        while claimed.len() < count_max as usize {
            let Some(project) = share::next_project(&lanes, &shares).map(str::to_owned) else { break };
            let Some(run) = self.first_of(tx, &mut lanes, &project, turn).await? else { continue };
            let Some(one) = self.lease_one(tx, &run, turn, touched).await? else { continue };
            claimed.push(one);
            served += 1;
            let share = shares.entry(project.clone()).or_default();
            share.running += 1;
            share.served = served;
            turns.insert(project, served);
        }
        // In the order of names, so that two claims never wait for each other.
        for (project, served) in turns {
            let update = sql("INSERT INTO shares (project, served) VALUES ($1, $2) \
                 ON CONFLICT (project) DO UPDATE SET served = excluded.served");
            tx.execute(update.bind(project).bind(served)).await?;
        }
        Ok(claimed)
    }

    async fn lanes(&self, tx: &mut Tx, turn: &Turn<'_>) -> Result<Vec<Lane>, RecordError> {
        let mut offered = turn.worker.labels.clone();
        offered.push((PROCESS_LABEL.to_owned(), turn.worker.owner.lock.clone()));
        let mut lanes = Vec::new();
        for (text,) in tx.all::<(String,)>(sql(LANES)).await? {
            let (project, labels) = column::value(&text).ok_or_else(|| self.undecodable(&text, "lane"))?;
            let lane = Lane { text, project, labels };
            if share::fits(&lane, &offered) || self.is_orphan(tx, &lane, turn.now).await? {
                lanes.push(lane);
            }
        }
        Ok(lanes)
    }

    /// Whether a lane waits for one process that is gone: whoever takes its runs ends them, so that none waits for ever.
    async fn is_orphan(&self, tx: &mut Tx, lane: &Lane, now: Moment) -> Result<bool, RecordError> {
        let Some((_, lock)) = lane.labels.iter().find(|it| it.0 == PROCESS_LABEL) else { return Ok(false) };
        if let Some(owners) = &self.owners {
            return Ok(!owner::is_alive(owners, lock));
        }
        let select = sql("SELECT max(seen_ms) FROM workers WHERE owner_lock = $1").bind(lock);
        let seen: Option<(Option<i64>,)> = tx.first(select).await?;
        let gone_ms = i64::try_from(GONE.as_millis()).unwrap_or(i64::MAX);
        if let Some(seen_ms) = seen.and_then(|it| it.0) {
            return Ok(seen_ms.saturating_add(gone_ms) < now.lease_ms);
        }
        // It left, another process has its name by now, or it is about to say that it lives: the age of what waits tells.
        let select = sql("SELECT min(runs.created_ms) FROM queue JOIN runs ON runs.id = queue.run_id \
             WHERE queue.lane = $1 AND queue.stage = 'ready'")
        .bind(&lane.text);
        let oldest: Option<(Option<i64>,)> = tx.first(select).await?;
        Ok(oldest.and_then(|it| it.0).is_some_and(|it| it.saturating_add(gone_ms) < now.wall_ms))
    }

    async fn shares(&self, tx: &mut Tx) -> Result<BTreeMap<String, Share>, RecordError> {
        let select = sql("SELECT shares.project, shares.served, projects.runs_max, \
             (SELECT count(*) FROM queue WHERE queue.stage = 'leased' AND queue.project = shares.project) \
             FROM shares LEFT JOIN projects ON projects.name = shares.project");
        let rows: Vec<(String, i64, Option<i64>, i64)> = tx.all(select).await?;
        let mut shares = BTreeMap::new();
        for (project, served, running_max, running) in rows {
            let share = Share {
                running: running.unsigned_abs(),
                served,
                running_max: running_max.map(i64::unsigned_abs),
            };
            shares.insert(project, share);
        }
        Ok(shares)
    }

    /// The first run of a project, by priority and age. A lane that has none for this worker is looked at no more.
    async fn first_of(
        &self,
        tx: &mut Tx,
        lanes: &mut Vec<Lane>,
        project: &str,
        turn: &Turn<'_>,
    ) -> Result<Option<String>, RecordError> {
        let mut best: Option<(i64, i64, String)> = None;
        let mut empty = Vec::new();
        for lane in lanes.iter().filter(|it| it.project == project) {
            let first = FIRST.sql().bind(&lane.text).bind(turn.excluded).bind(turn.now.wall_ms);
            let first: Option<(String, i64, i64)> = tx.first(first).await?;
            let Some((run, priority, seq)) = first else {
                empty.push(lane.text.clone());
                continue;
            };
            if best.as_ref().is_none_or(|(other, age, _)| (-priority, seq) < (*other, *age)) {
                best = Some((-priority, seq, run));
            }
        }
        lanes.retain(|it| !empty.contains(&it.text));
        Ok(best.map(|(_, _, run)| run))
    }

    async fn lease_one(
        &self,
        tx: &mut Tx,
        id: &str,
        turn: &Turn<'_>,
        touched: &mut Touched,
    ) -> Result<Option<Claimed>, RecordError> {
        let run = id.parse().map_err(|_| self.undecodable(id, "run_id"))?;
        let Some(fence) = self.lease_row(tx, run, &turn.worker.owner, turn.now.wall_ms).await? else {
            // The record counts: somebody else has it or it has ended, and nothing is left to be claimed.
            tx.execute(sql("DELETE FROM queue WHERE run_id = $1").bind(run)).await?;
            touched.ready = true;
            return Ok(None);
        };
        let row: Option<(String, String, bool)> = tx.first(lease(&fence, turn)).await?;
        let (project, text, idempotent) = row.ok_or_else(|| self.undecodable(id, "submission"))?;
        let Some(submission) = column::submission(&text) else {
            self.end_unreadable(tx, fence, &project, turn.now, touched).await?;
            return Ok(None);
        };
        let lease_ms = LEASE.as_millis().try_into().unwrap_or(u64::MAX);
        Ok(Some(Claimed { fence, project, submission, lease_ms, idempotent }))
    }

    /// What another version wrote must not stand in the way of everything behind it.
    async fn end_unreadable(
        &self,
        tx: &mut Tx,
        fence: Fence,
        project: &str,
        now: Moment,
        touched: &mut Touched,
    ) -> Result<(), RecordError> {
        let message = "this version of Aegis cannot read what was submitted: submit it again".to_owned();
        let reason = StartFailure::Infrastructure { message };
        let end = End::bare(Outcome::StartFailed { reason });
        if self.finish_row(tx, fence, &end, None, now.wall_ms).await?.is_some() {
            self.leave(tx, fence.run, project, &end, now.wall_ms, touched).await?;
        }
        Ok(())
    }
}

fn lease(fence: &Fence, turn: &Turn<'_>) -> Statement {
    sql("UPDATE queue SET stage = 'leased', epoch = $2, worker = $3, owner_lock = $4, boot = $5, \
         lease_until_ms = $6, excluded_worker = NULL WHERE run_id = $1 \
         RETURNING project, submission, idempotent")
    .bind(fence.run)
    .bind(fence.epoch)
    .bind(&turn.worker.name)
    .bind(&turn.worker.owner.lock)
    .bind(&turn.boot)
    .bind(lease_until(turn.now))
}

/// When a lease that is given now runs out.
pub(super) fn lease_until(now: Moment) -> i64 {
    now.lease_ms.saturating_add(i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX))
}
