//! What is kept of a submission once its run has ended: enough to submit it anew, without what may be secret. Values of the
//! environment go; and nothing is kept of a submission that the record had to be kept free of a secret of.

use crate::queue::{Concurrency, History, NewSubmission, PastSubmission, Schedule};
use crate::record::{Pending, RecordError};
use crate::store::books::Books;
use crate::store::database::{Both, Tx, sql};
use crate::store::json::Afterwards;
use crate::store::{Store, json as column};
use crate::task::RunId;

#[derive(sqlx::FromRow)]
struct PastRow {
    submission: String,
    lane: String,
    priority: i64,
    concurrency_key: Option<String>,
    concurrency_limit: Option<i64>,
    idempotent: bool,
    attempts_max: i64,
    failure_retries: i64,
}

impl History for Store {
    fn past(&self, run: RunId) -> Pending<'_, Option<PastSubmission>> {
        Box::pin(self.books.past(run))
    }
}

impl Books {
    /// Keeps what may be kept of a submission that leaves the queue.
    pub(super) async fn keep_past(&self, tx: &mut Tx, run: RunId) -> Result<(), RecordError> {
        let keep = Both {
            sqlite: "INSERT INTO past_submissions (run_id, submission, lane, priority, concurrency_key, \
                 concurrency_limit, idempotent, attempts_max, failure_retries) \
                 SELECT run_id, json_remove(submission, '$.environment'), lane, priority, concurrency_key, \
                 concurrency_limit, idempotent, attempts_max, failure_retries FROM queue \
                 WHERE run_id = $1 AND json_extract(submission, '$.unrepeatable') IS NULL ON CONFLICT DO NOTHING",
            postgres: "INSERT INTO past_submissions (run_id, submission, lane, priority, concurrency_key, \
                 concurrency_limit, idempotent, attempts_max, failure_retries) \
                 SELECT run_id, CAST(CAST(submission AS JSONB) - 'environment' AS TEXT), lane, priority, \
                 concurrency_key, concurrency_limit, idempotent, attempts_max, failure_retries FROM queue \
                 WHERE run_id = $1 AND CAST(submission AS JSONB) -> 'unrepeatable' IS NULL ON CONFLICT DO NOTHING",
        };
        tx.execute(keep.sql().bind(run)).await?;
        Ok(())
    }

    async fn past(&self, run: RunId) -> Result<Option<PastSubmission>, RecordError> {
        let select =
            sql("SELECT submission, lane, priority, concurrency_key, concurrency_limit, idempotent, \
             attempts_max, failure_retries FROM past_submissions WHERE run_id = $1");
        let rows: Vec<PastRow> = self.database.all(select.bind(run)).await?;
        let Some(row) = rows.into_iter().next() else { return Ok(None) };
        let wrong = |field| self.undecodable(&run.to_string(), field);
        let submission = column::submission(&row.submission).ok_or_else(|| wrong("submission"))?;
        let (_, worker_labels): (String, Vec<(String, String)>) =
            column::value(&row.lane).ok_or_else(|| wrong("lane"))?;
        let concurrency = match (row.concurrency_key, row.concurrency_limit) {
            (Some(key), Some(limit)) => {
                let limit = u32::try_from(limit).map_err(|_| wrong("concurrency_limit"))?;
                Some(Concurrency { key, limit })
            }
            (None, _) | (_, None) => None,
        };
        let schedule = Schedule {
            priority: i16::try_from(row.priority).map_err(|_| wrong("priority"))?,
            not_before_ms: None,
            deadline_ms: None,
            concurrency,
            after: Vec::new(),
            idempotent: row.idempotent,
            attempts_max: u32::try_from(row.attempts_max).map_err(|_| wrong("attempts_max"))?,
            failure_retries: u32::try_from(row.failure_retries).map_err(|_| wrong("failure_retries"))?,
            worker_labels,
        };
        Ok(Some(PastSubmission { submission, schedule }))
    }
}

/// A submission is kept whose record says what was submitted. Where the record had to be kept free of a secret it does not,
/// and the submission holds that secret.
pub(super) fn afterwards(new: &NewSubmission) -> Afterwards {
    let (task, submission) = (&new.run.task, &new.submission);
    let same = task.command == submission.command
        && task.workdir == submission.workdir
        && task.outputs.iter().eq(submission.outputs.iter().map(|it| &it.pattern));
    if same { Afterwards::Kept } else { Afterwards::Forgotten }
}
