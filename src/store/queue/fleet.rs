//! The fleet port in SQL: a row a worker, written by its beats and its claims. A wish of an operator outlives the worker.

use crate::access::NewAudit;
use crate::queue::Worker;
use crate::queue::fleet::{Fleet, Holding, Member, Proof, SEEN, Standing, Stood};
use crate::record::{Pending, RecordError};
use crate::store::books::{Books, Moment};
use crate::store::database::{Durability, Tx, sql};
use crate::store::queue::announce;
use crate::store::{Store, json as column, owner};

/// Workers that one look gives at the most.
const MEMBERS_MAX: u32 = 10_000;

/// A row of `workers`, with how many runs it has.
type MemberRow = (String, String, String, i64, bool, i64, i64);

impl Fleet for Store {
    fn beat<'a>(&'a self, worker: &'a Worker) -> Pending<'a, Standing> {
        Box::pin(self.books.beat(worker))
    }

    fn leave<'a>(&'a self, worker: &'a Worker) -> Pending<'a, ()> {
        Box::pin(self.books.leave_fleet(worker))
    }

    fn members(&self) -> Pending<'_, Vec<Member>> {
        Box::pin(self.books.members())
    }

    fn stand<'a>(
        &'a self,
        name: &'a str,
        standing: Standing,
        audit: Option<&'a NewAudit>,
    ) -> Pending<'a, Stood> {
        Box::pin(self.books.stand(name, standing, audit))
    }

    fn holding<'a>(&'a self, proof: &'a Proof) -> Pending<'a, Holding> {
        Box::pin(self.books.holding(proof))
    }
}

impl Books {
    async fn beat(&self, worker: &Worker) -> Result<Standing, RecordError> {
        let mut tx = self.begin(Durability::Crash).await?;
        let now = self.now(&mut tx).await?;
        let standing = self.note_worker(&mut tx, worker, now).await?;
        tx.commit().await?;
        Ok(standing)
    }

    /// Writes that this worker lives.
    pub(super) async fn note_worker(
        &self,
        tx: &mut Tx,
        worker: &Worker,
        now: Moment,
    ) -> Result<Standing, RecordError> {
        let upsert = sql(
            "INSERT INTO workers (name, owner_pid, owner_lock, labels, capacity, draining, seen_ms) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (name) DO UPDATE SET owner_pid = excluded.owner_pid, \
             owner_lock = excluded.owner_lock, labels = excluded.labels, capacity = excluded.capacity, \
             seen_ms = excluded.seen_ms RETURNING draining",
        );
        let upsert = upsert
            .bind(&worker.name)
            .bind(worker.owner.pid)
            .bind(&worker.owner.lock)
            .bind(column::text(&worker.labels).map_err(|err| self.unencodable(err))?)
            .bind(worker.capacity)
            .bind(false)
            .bind(now.lease_ms);
        let draining = tx.first::<(bool,)>(upsert).await?.is_some_and(|it| it.0);
        Ok(if draining { Standing::Draining } else { Standing::Taking })
    }

    async fn leave_fleet(&self, worker: &Worker) -> Result<(), RecordError> {
        let delete = sql("DELETE FROM workers WHERE name = $1 AND owner_lock = $2 AND NOT draining");
        let mut tx = self.begin(Durability::Crash).await?;
        tx.execute(delete.bind(&worker.name).bind(&worker.owner.lock)).await?;
        tx.commit().await
    }

    async fn members(&self) -> Result<Vec<Member>, RecordError> {
        let select = sql("SELECT name, owner_lock, labels, capacity, draining, seen_ms, \
             (SELECT count(*) FROM queue WHERE queue.stage = 'leased' AND queue.worker = workers.name) \
             FROM workers ORDER BY name LIMIT $1");
        let mut tx = self.database.look().await?;
        let now = self.now(&mut tx).await?;
        let rows: Vec<MemberRow> = tx.all(select.bind(MEMBERS_MAX)).await?;
        tx.commit().await?;
        let mut members = Vec::with_capacity(rows.len());
        for (name, lock, labels, capacity, draining, seen_ms, running) in rows {
            let labels = column::value(&labels).ok_or_else(|| self.undecodable(&name, "labels"))?;
            members.push(Member {
                labels,
                capacity: u32::try_from(capacity).unwrap_or(u32::MAX),
                running: running.unsigned_abs(),
                standing: if draining { Standing::Draining } else { Standing::Taking },
                living: self.is_living(&lock, seen_ms, now),
                seen_ago_ms: u64::try_from(now.lease_ms - seen_ms).unwrap_or(0),
                name,
            });
        }
        Ok(members)
    }

    /// Whether a worker that was last seen at this time lives.
    pub(super) fn is_living(&self, lock: &str, seen_ms: i64, now: Moment) -> bool {
        let seen = i64::try_from(SEEN.as_millis()).unwrap_or(i64::MAX);
        seen_ms.saturating_add(seen) >= now.lease_ms
            && self.owners.as_ref().is_none_or(|it| owner::is_alive(it, lock))
    }

    async fn stand(
        &self,
        name: &str,
        standing: Standing,
        audit: Option<&NewAudit>,
    ) -> Result<Stood, RecordError> {
        let update = sql("UPDATE workers SET draining = $2 WHERE name = $1");
        let mut tx = self.begin(Durability::PowerCut).await?;
        let now = self.now(&mut tx).await?;
        if tx.execute(update.bind(name).bind(standing == Standing::Draining)).await? == 0 {
            tx.rollback().await?;
            return Ok(Stood::Unknown);
        }
        self.write_down(&mut tx, audit, now).await?;
        announce(&mut tx).await?;
        tx.commit().await?;
        self.wake.all();
        Ok(Stood::Changed)
    }

    /// The epoch of a run grows with each lease and stays when it ends.
    async fn holding(&self, proof: &Proof) -> Result<Holding, RecordError> {
        let Proof { fence, owner_lock } = proof;
        let select =
            sql("SELECT runs.state, queue.submission FROM runs LEFT JOIN queue ON queue.run_id = runs.id \
             WHERE runs.id = $1 AND runs.epoch = $2 AND runs.attempt = $3 AND runs.owner_lock = $4");
        let select = select.bind(fence.run).bind(fence.epoch).bind(fence.attempt).bind(owner_lock);
        let rows: Vec<(String, Option<String>)> = self.database.all(select).await?;
        match rows.into_iter().next() {
            None => Ok(Holding::Not),
            Some((state, _)) if state == "done" => Ok(Holding::Ended),
            Some((_, None)) => Ok(Holding::Not),
            Some((_, Some(text))) => {
                let submission = column::submission(&text);
                Ok(Holding::Held { workspace: submission.and_then(|it| it.workspace) })
            }
        }
    }
}
