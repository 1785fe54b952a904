//! What retention asks of the records: what still goes on, and what is too old.

use crate::record::RecordError;
use crate::store::Store;
use crate::store::database::{Durability, sql};

impl Store {
    /// When the oldest run was accepted that has not ended, milliseconds since the epoch; `None` where all have ended.
    pub async fn oldest_active_ms(&self) -> Result<Option<i64>, RecordError> {
        let select = sql("SELECT id FROM runs WHERE state <> 'done' ORDER BY id LIMIT 1");
        let rows: Vec<(String,)> = self.books.database.all(select).await?;
        let Some((id,)) = rows.first() else { return Ok(None) };
        let run: crate::task::RunId = id.parse().map_err(|_| self.books.undecodable(id, "id"))?;
        Ok(Some(run.made_ms()))
    }

    /// Forgets entries of the audit trail from before this time, at most `count_max` of the oldest. Gives how many.
    pub async fn forget_audits_before(&self, time_ms: i64, count_max: u32) -> Result<u64, RecordError> {
        let delete = sql(
            "DELETE FROM audit WHERE at_ms < $1 AND seq IN (SELECT seq FROM audit ORDER BY seq LIMIT $2)",
        );
        let mut tx = self.books.begin(Durability::Crash).await?;
        let forgotten = tx.execute(delete.bind(time_ms).bind(count_max)).await?;
        tx.commit().await?;
        Ok(forgotten)
    }
}
