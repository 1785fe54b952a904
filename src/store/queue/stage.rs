//! How a waiting run comes from stage to stage, and what the end of one run means for others.

use std::collections::BTreeSet;

use serde_json::json;

use crate::record::{End, EventKind, Fence, RecordError};
use crate::store::books::{Books, Moment};
use crate::store::database::{Both, Durability, Tx, sql};
use crate::store::json as column;
use crate::store::queue::announce;
use crate::task::{Cancellation, Outcome, RunId};

/// Runs that one transaction looks at, at the most.
const SLICE: i64 = 200;
/// Transactions that follow one change at the most; what is left then is left to `expire`.
const ROUNDS_MAX: u32 = 1_000;
/// The lock of a PostgreSQL database under which the turns of runs are decided (`Aegi`).
const TURN_LOCK: i64 = 0x4165_6769;
/// How long an idempotency key is kept after the end of its run.
const KEY_KEPT_MS: i64 = 24 * 3_600_000;

/// What a change left to be done.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    /// Concurrency keys, by project, that may have room now or too many holders.
    pub(crate) keys: BTreeSet<(String, String)>,
    /// Whether a run ended that others wait for.
    pub(crate) dependents: bool,
    /// Whether a run may be claimed that could not before.
    pub(crate) ready: bool,
}

impl Touched {
    /// A run of this project is waiting for its turn, or gave it up.
    pub(crate) fn turn(&mut self, project: String, key: Option<String>) {
        self.ready = true;
        if let Some(key) = key {
            self.keys.insert((project, key));
        }
    }
}

impl Books {
    /// Takes a run that has its outcome out of the queue, and marks those that wait for it.
    pub(crate) async fn leave(
        &self,
        tx: &mut Tx,
        run: RunId,
        project: &str,
        end: &End,
        at_ms: i64,
        touched: &mut Touched,
    ) -> Result<(), RecordError> {
        self.keep_past(tx, run).await?;
        let delete = sql("DELETE FROM queue WHERE run_id = $1 RETURNING concurrency_key").bind(run);
        if let Some((key,)) = tx.first::<(Option<String>,)>(delete).await? {
            // Another run of the project may fit into its quota now.
            touched.turn(project.to_owned(), key);
        }
        let mark = sql("UPDATE dependencies SET ended_well = $2 WHERE after_id = $1 AND ended_well IS NULL");
        let marked = tx.execute(mark.bind(run).bind(end.outcome == Outcome::Exited(0))).await?;
        touched.dependents |= marked > 0;
        let expire = sql("UPDATE idempotency SET expires_ms = $2 WHERE run_id = $1");
        tx.execute(expire.bind(run).bind(at_ms.saturating_add(KEY_KEPT_MS))).await?;
        announce(tx).await
    }

    /// Ends a run that waits, with its event. Its row of the queue is locked already.
    pub(crate) async fn end_waiting(
        &self,
        tx: &mut Tx,
        fence: Fence,
        by: Cancellation,
        now: Moment,
        touched: &mut Touched,
    ) -> Result<bool, RecordError> {
        let end = End::bare(Outcome::Cancelled(by));
        let Some(project) = self.finish_row(tx, fence, &end, None, now.wall_ms).await? else {
            return Ok(false);
        };
        self.leave(tx, fence.run, &project.unwrap_or_default(), &end, now.wall_ms, touched).await?;
        Ok(true)
    }

    /// Does what a change left to be done, and wakes who waits.
    pub(crate) async fn tidy(&self, mut touched: Touched) -> Result<(), RecordError> {
        for _ in 0..ROUNDS_MAX {
            if touched.dependents {
                touched.dependents = self.resolve(&mut touched).await?;
            } else if let Some((project, key)) = touched.keys.pop_first() {
                self.give_turns(&project, &key).await?;
            } else {
                break;
            }
        }
        if touched.ready {
            self.wake.all();
        }
        Ok(())
    }

    /// Runs whose waiting for others is over: they go on, or end with those. Gives whether there may be more.
    async fn resolve(&self, touched: &mut Touched) -> Result<bool, RecordError> {
        let mut tx = self.begin(Durability::PowerCut).await?;
        take_turn_lock(&mut tx).await?;
        let now = self.now(&mut tx).await?;
        let select = Both {
            sqlite: "SELECT run_id, max(success = 1 AND ended_well = 0) = 1 FROM dependencies \
                 WHERE ended_well IS NOT NULL GROUP BY run_id ORDER BY run_id LIMIT $1",
            postgres: "SELECT run_id, bool_or(success AND NOT ended_well) FROM dependencies \
                 WHERE ended_well IS NOT NULL GROUP BY run_id ORDER BY run_id LIMIT $1",
        };
        let rows: Vec<(String, bool)> = tx.all(select.sql().bind(SLICE)).await?;
        let more = i64::try_from(rows.len()).is_ok_and(|it| it == SLICE);
        let mut ended = false;
        for (id, failed) in rows {
            ended |= self.resolve_one(&mut tx, &id, failed, now, touched).await?;
        }
        announce(&mut tx).await?;
        tx.commit().await?;
        // Those that ended here may be waited for as well.
        Ok(more || (ended && touched.dependents))
    }

    async fn resolve_one(
        &self,
        tx: &mut Tx,
        id: &str,
        failed: bool,
        now: Moment,
        touched: &mut Touched,
    ) -> Result<bool, RecordError> {
        let select = Both {
            sqlite: "SELECT epoch FROM queue WHERE run_id = $1",
            postgres: "SELECT epoch FROM queue WHERE run_id = $1 FOR UPDATE",
        };
        let Some((epoch,)) = tx.first::<(i64,)>(select.sql().bind(id)).await? else { return Ok(false) };
        if failed {
            let run = id.parse().map_err(|_| self.undecodable(id, "run_id"))?;
            let fence = Fence { run, epoch: epoch.unsigned_abs(), attempt: 0 };
            return self.end_waiting(tx, fence, Cancellation::Dependency, now, touched).await;
        }
        let forget = sql("DELETE FROM dependencies WHERE run_id = $1 AND ended_well IS NOT NULL");
        tx.execute(forget.bind(id)).await?;
        let unblock = sql("UPDATE queue SET stage = CASE WHEN not_before_ms > $2 THEN 'delayed' \
             WHEN concurrency_key IS NOT NULL THEN 'held' ELSE 'ready' END \
             WHERE run_id = $1 AND stage = 'blocked' \
             AND NOT EXISTS (SELECT 1 FROM dependencies WHERE run_id = $1) RETURNING project, concurrency_key");
        let free: Option<(String, Option<String>)> = tx.first(unblock.bind(id).bind(now.wall_ms)).await?;
        if let Some((project, key)) = free {
            touched.turn(project, key);
        }
        Ok(false)
    }

    /// Makes ready as many runs of a key as its lowest limit leaves room for: the first by priority and age.
    async fn give_turns(&self, project: &str, key: &str) -> Result<(), RecordError> {
        let mut tx = self.begin(Durability::Crash).await?;
        take_turn_lock(&mut tx).await?;
        // A claim of one of these is waited for; from here on none of them can be claimed.
        if tx.is_postgres() {
            let lock =
                sql("SELECT 1 FROM queue WHERE project = $1 AND concurrency_key = $2 AND stage = 'ready' \
                 ORDER BY seq FOR UPDATE");
            tx.execute(lock.bind(project).bind(key)).await?;
        }
        let limit = sql("SELECT concurrency_limit FROM queue WHERE project = $1 AND concurrency_key = $2 \
             AND concurrency_key IS NOT NULL AND stage IN ('held', 'ready', 'leased') \
             ORDER BY concurrency_limit LIMIT 1");
        let Some((limit,)) = tx.first::<(i64,)>(limit.bind(project).bind(key)).await? else {
            return tx.rollback().await;
        };
        let leased = sql("SELECT count(*) FROM queue WHERE project = $1 AND concurrency_key = $2 \
             AND concurrency_key IS NOT NULL AND stage = 'leased'");
        let leased = tx.first::<(i64,)>(leased.bind(project).bind(key)).await?.map_or(0, |it| it.0);
        let room = (limit - leased).max(0);
        let first =
            sql("UPDATE queue SET stage = 'ready' WHERE stage = 'held' AND seq IN (SELECT seq FROM queue \
             WHERE project = $1 AND concurrency_key = $2 AND concurrency_key IS NOT NULL \
             AND stage IN ('held', 'ready') ORDER BY priority DESC, seq LIMIT $3)");
        let raised = tx.execute(first.bind(project).bind(key).bind(room)).await?;
        let rest = sql("UPDATE queue SET stage = 'held' WHERE project = $1 AND concurrency_key = $2 \
             AND concurrency_key IS NOT NULL AND stage = 'ready' AND seq NOT IN (SELECT seq FROM queue WHERE project = $1 AND concurrency_key = $2 AND concurrency_key IS NOT NULL \
             AND stage IN ('held', 'ready') ORDER BY priority DESC, seq LIMIT $3)");
        // Only where something was raised, or a limit is lower than before, is there one to be put back.
        tx.execute(rest.bind(project).bind(key).bind(room)).await?;
        if raised > 0 {
            announce(&mut tx).await?;
        }
        tx.commit().await
    }

    /// Runs whose time has come go on.
    pub(crate) async fn promote(&self) -> Result<Touched, RecordError> {
        let mut touched = Touched::default();
        let mut tx = self.begin(Durability::Crash).await?;
        let now = self.now(&mut tx).await?;
        let update = Both {
            sqlite: "UPDATE queue SET stage = CASE WHEN concurrency_key IS NOT NULL THEN 'held' ELSE 'ready' END \
                 WHERE seq IN (SELECT seq FROM queue WHERE stage = 'delayed' AND not_before_ms <= $1 \
                 ORDER BY not_before_ms LIMIT $2) RETURNING project, concurrency_key",
            postgres: "UPDATE queue SET stage = CASE WHEN concurrency_key IS NOT NULL THEN 'held' ELSE 'ready' END \
                 WHERE seq IN (SELECT seq FROM queue WHERE stage = 'delayed' AND not_before_ms <= $1 \
                 ORDER BY not_before_ms LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING project, concurrency_key",
        };
        let rows: Vec<(String, Option<String>)> = tx.all(update.sql().bind(now.wall_ms).bind(SLICE)).await?;
        for (project, key) in rows {
            touched.turn(project, key);
        }
        if touched.ready {
            announce(&mut tx).await?;
            tx.commit().await?;
        } else {
            tx.rollback().await?;
        }
        Ok(touched)
    }

    /// Keys with somebody who waits for a turn, at most a slice of them: what a crash may have left without one.
    pub(crate) async fn waiting_keys(&self) -> Result<Vec<(String, String)>, RecordError> {
        let select = sql("SELECT DISTINCT project, concurrency_key FROM queue \
             WHERE concurrency_key IS NOT NULL AND stage IN ('held', 'ready') LIMIT $1");
        self.database.all(select.bind(SLICE)).await
    }

    /// Whether a run waits for one that has ended: what a crash may have left so.
    pub(crate) async fn has_ended_dependencies(&self) -> Result<bool, RecordError> {
        let select = sql("SELECT run_id FROM dependencies WHERE ended_well IS NOT NULL LIMIT 1");
        Ok(!self.database.all::<(String,)>(select).await?.is_empty())
    }

    /// The event of a run that waits again.
    pub(crate) async fn queued_again(
        &self,
        tx: &mut Tx,
        fence: Fence,
        now: Moment,
        why: &[(&str, serde_json::Value)],
    ) -> Result<(), RecordError> {
        let mut fields = vec![("attempt", json!(fence.attempt))];
        fields.extend(why.iter().cloned());
        self.append(tx, fence.run, now.wall_ms, EventKind::Queued, &column::detail(&fields)).await
    }
}

/// SQLite has one writer at a time anyway.
async fn take_turn_lock(tx: &mut Tx) -> Result<(), RecordError> {
    if tx.is_postgres() {
        tx.execute(sql("SELECT pg_advisory_xact_lock($1)").bind(TURN_LOCK)).await?;
    }
    Ok(())
}
