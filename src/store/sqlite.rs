//! The record port in SQLite: which verb is which step or look, and what every transaction shares.

mod egress;
mod looks;
mod steps;

use sqlx::sqlite::SqliteQueryResult;
use sqlx::{SqlSafeStr, Sqlite, SqliteConnection, Transaction};

use crate::record::egress::Entry;
use crate::record::{
    End, Event, EventKind, Fence, Found, Image, NewRun, Orphan, Owner, Pending, Record, RecordError,
    RunBrief, RunFilter, Slot, Transition,
};
use crate::store::{Store, failure};
use crate::task::run_id::RunSelector;
use crate::task::{Outcome, RunId};

/// What a transaction survives once it is told as applied. Either way a later reader sees all of it or nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Durability {
    /// The machine: it is synced to the disk (half a millisecond to several). A run's acceptance and its outcome.
    PowerCut,
    /// This process and every other: the steps between. After a power cut no sandbox is left, so that the run is
    /// found as its owner's orphan whichever of them it shows.
    Crash,
}

impl Record for Store {
    fn insert<'a>(&'a self, run: &'a NewRun) -> Pending<'a, Fence> {
        Box::pin(self.step_insert(run))
    }

    fn start<'a>(&'a self, fence: Fence, image: &'a Image, at_ms: i64) -> Pending<'a, Transition> {
        Box::pin(self.step_start(fence, image, at_ms))
    }

    fn bind<'a>(&'a self, fence: Fence, slot: &'a Slot, at_ms: i64) -> Pending<'a, Transition> {
        Box::pin(self.step_bind(fence, slot, at_ms))
    }

    fn release<'a>(&'a self, fence: Fence, attestation: &'a str, at_ms: i64) -> Pending<'a, Transition> {
        Box::pin(self.step_release(fence, attestation, at_ms))
    }

    fn finishing(&self, fence: Fence, at_ms: i64) -> Pending<'_, Transition> {
        Box::pin(self.step_finishing(fence, at_ms))
    }

    fn finish<'a>(
        &'a self,
        fence: Fence,
        end: &'a End,
        attestation: Option<&'a str>,
        at_ms: i64,
    ) -> Pending<'a, Transition> {
        Box::pin(self.step_finish(fence, end, attestation, at_ms))
    }

    fn requeue<'a>(&'a self, fence: Fence, because: &'a Outcome, at_ms: i64) -> Pending<'a, Transition> {
        Box::pin(self.step_requeue(fence, because, at_ms))
    }

    fn lease<'a>(&'a self, run: RunId, owner: &'a Owner, at_ms: i64) -> Pending<'a, Option<Fence>> {
        Box::pin(self.step_lease(run, owner, at_ms))
    }

    fn find<'a>(&'a self, selector: &'a RunSelector) -> Pending<'a, Found> {
        Box::pin(self.look_find(selector))
    }

    fn list(&self, filter: RunFilter, count_max: u32) -> Pending<'_, Vec<RunBrief>> {
        Box::pin(self.look_list(filter, count_max))
    }

    fn events(&self, run: RunId) -> Pending<'_, Vec<Event>> {
        Box::pin(self.look_events(run))
    }

    fn keep_egress<'a>(&'a self, run: RunId, entries: &'a [Entry]) -> Pending<'a, ()> {
        Box::pin(self.step_keep_egress(run, entries))
    }

    fn egress(&self, run: RunId) -> Pending<'_, Vec<Entry>> {
        Box::pin(self.look_egress(run))
    }

    fn orphans(&self) -> Pending<'_, Vec<Orphan>> {
        Box::pin(self.look_orphans())
    }

    fn ended_before(&self, time_ms: i64, count_max: u32) -> Pending<'_, Vec<RunId>> {
        Box::pin(self.look_ended_before(time_ms, count_max))
    }

    fn forget(&self, run: RunId) -> Pending<'_, Transition> {
        Box::pin(self.step_forget(run))
    }
}

impl Store {
    async fn begin(&self, durability: Durability) -> Result<Transaction<'static, Sqlite>, RecordError> {
        match self.try_begin(durability).await {
            // After some failures (a full disk) SQLite ends a transaction by itself; the driver goes on counting it, and
            // the connection can begin no other. A new one can.
            Err(sqlx::Error::InvalidSavePointStatement) => {
                let stuck = self.pool.acquire().await.map_err(|err| self.failed(err))?;
                stuck.close().await.map_err(|err| self.failed(err))?;
                self.try_begin(durability).await
            }
            begun => begun,
        }
        .map_err(|err| self.failed(err))
    }

    async fn try_begin(&self, durability: Durability) -> Result<Transaction<'static, Sqlite>, sqlx::Error> {
        let mut connection = self.pool.acquire().await?;
        let pragma = match durability {
            Durability::PowerCut => "PRAGMA synchronous = FULL",
            Durability::Crash => "PRAGMA synchronous = NORMAL",
        };
        sqlx::query(pragma).execute(&mut *connection).await?;
        // A deferred transaction that turns into a writer fails at once where another one writes.
        Transaction::begin(connection, Some("BEGIN IMMEDIATE".into_sql_str())).await
    }

    async fn commit(&self, tx: Transaction<'_, Sqlite>) -> Result<(), RecordError> {
        tx.commit().await.map_err(|err| self.failed(err))
    }

    fn failed(&self, err: sqlx::Error) -> RecordError {
        failure::of(&self.place, err)
    }

    fn unencodable(&self, err: serde_json::Error) -> RecordError {
        RecordError::Unavailable { place: self.place.clone(), source: Box::new(err) }
    }

    /// Ends a transition: with its event if the fence held, without a trace if not.
    async fn settle(
        &self,
        mut tx: Transaction<'static, Sqlite>,
        result: Result<SqliteQueryResult, sqlx::Error>,
        fence: Fence,
        at_ms: i64,
        kind: EventKind,
        detail: &str,
    ) -> Result<Transition, RecordError> {
        if result.map_err(|err| self.failed(err))?.rows_affected() == 0 {
            tx.rollback().await.map_err(|err| self.failed(err))?;
            return Ok(Transition::Superseded);
        }
        self.append(&mut tx, fence.run, at_ms, kind, detail).await?;
        self.commit(tx).await?;
        Ok(Transition::Applied)
    }

    async fn append(
        &self,
        connection: &mut SqliteConnection,
        run: RunId,
        at_ms: i64,
        kind: EventKind,
        detail: &str,
    ) -> Result<(), RecordError> {
        sqlx::query("INSERT INTO events (run_id, at_ms, kind, detail) VALUES ($1, $2, $3, $4)")
            .bind(run.to_string())
            .bind(at_ms)
            .bind(kind.name())
            .bind(detail)
            .execute(connection)
            .await
            .map_err(|err| self.failed(err))?;
        Ok(())
    }
}

/// SQLite's integers are signed; what is counted here stays below 2^63.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
