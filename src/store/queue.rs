//! The queue port in SQL. A row waits in one stage; every change of it is a transaction. What the end of a run means for
//! others (those that waited for it, those that share its concurrency key) is a second, small transaction after it, under
//! one lock per database: so no two transactions ever wait for each other. A crash between the two is repaired by `expire`.

mod claim;
mod expire;
mod fleet;
mod lease;
mod past;
mod place;
mod quota;
mod settle;
mod stage;
mod submit;
#[cfg(test)]
mod tests;
mod writer;

use std::time::Duration;

use crate::access::NewAudit;
use crate::queue::{
    CancelAnswer, Claimed, Expired, NewSubmission, Queue, Reached, Renewed, Settled, Submitted, Worker,
};
use crate::record::{End, Fence, Pending};
use crate::store::database::{Both, Pool, sql};
use crate::store::{Store, wake};
use crate::task::{Cancellation, RunId};

pub(crate) use stage::Touched;
pub(crate) use writer::Writer;

/// The shortest wait: a time that comes now is looked at soon, and not in a loop.
const WAIT_MIN: Duration = Duration::from_millis(5);

impl Queue for Store {
    fn submit_for<'a>(
        &'a self,
        batch: &'a [NewSubmission],
        audit: Option<&'a NewAudit>,
    ) -> Pending<'a, Submitted> {
        Box::pin(self.writer.submit(&self.books, batch, audit))
    }

    fn claim<'a>(&'a self, worker: &'a Worker, count_max: u32) -> Pending<'a, Vec<Claimed>> {
        Box::pin(self.books.claim(worker, count_max))
    }

    fn renew<'a>(&'a self, fences: &'a [Fence]) -> Pending<'a, Renewed> {
        Box::pin(self.books.renew(fences))
    }

    fn settle<'a>(
        &'a self,
        fence: Fence,
        reached: Reached,
        end: &'a End,
        attestation: Option<&'a str>,
    ) -> Pending<'a, Settled> {
        Box::pin(self.books.settle(fence, reached, end, attestation))
    }

    fn give_back<'a>(&'a self, fences: &'a [Fence]) -> Pending<'a, ()> {
        Box::pin(self.books.give_back(fences))
    }

    fn cancel_for<'a>(
        &'a self,
        run: RunId,
        by: Cancellation,
        audit: Option<&'a NewAudit>,
    ) -> Pending<'a, CancelAnswer> {
        Box::pin(self.books.cancel(run, by, audit))
    }

    fn place(&self, run: RunId) -> Pending<'_, Option<u32>> {
        Box::pin(self.books.place(run))
    }

    fn expire(&self, count_max: u32) -> Pending<'_, Vec<Expired>> {
        Box::pin(self.books.expire(count_max))
    }

    fn wait(&self) -> Pending<'_, ()> {
        if let Pool::Postgres(pool) = &self.books.database.pool {
            self.listener.begin(pool, &self.books.wake);
        }
        let notified = self.books.wake.notified();
        Box::pin(async move {
            let wait = self.until_the_next_time().await;
            let _ = tokio::time::timeout(wait, notified).await;
            Ok(())
        })
    }
}

impl Store {
    /// Until a delayed run may start, and never longer than the slow look. A database that does not answer is told by
    /// the claim that follows.
    async fn until_the_next_time(&self) -> Duration {
        let wait_ms = Both {
            sqlite: "SELECT not_before_ms - CAST(unixepoch('subsec') * 1000 AS INTEGER) FROM queue \
                 WHERE stage = 'delayed' ORDER BY not_before_ms LIMIT 1",
            postgres: "SELECT not_before_ms - CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT) FROM queue \
                 WHERE stage = 'delayed' ORDER BY not_before_ms LIMIT 1",
        };
        let rows: Vec<(i64,)> = self.books.database.all(wait_ms.sql()).await.unwrap_or_default();
        let Some((wait_ms,)) = rows.first() else { return wake::POLL };
        Duration::from_millis(u64::try_from(*wait_ms).unwrap_or(0)).clamp(WAIT_MIN, wake::POLL)
    }
}

/// Tells other processes, once the transaction is committed, that there may be something to claim.
pub(crate) async fn announce(tx: &mut crate::store::database::Tx) -> Result<(), crate::record::RecordError> {
    if tx.is_postgres() {
        tx.execute(sql("SELECT pg_notify($1, '')").bind(wake::CHANNEL)).await?;
    }
    Ok(())
}
