//! What retention asks of the records: what still goes on, and what is too old.

use std::collections::BTreeSet;

use crate::record::RecordError;
use crate::store::Store;
use crate::store::database::{Both, Durability, sql};

impl Store {
    /// Digests of the uploaded workspaces that submissions name whose runs have not ended.
    pub async fn workspaces_needed(&self) -> Result<BTreeSet<String>, RecordError> {
        let select = Both {
            sqlite: "SELECT DISTINCT json_extract(submission, '$.workspace') FROM queue \
                 WHERE json_extract(submission, '$.workspace') IS NOT NULL",
            postgres: "SELECT DISTINCT CAST(submission AS JSONB) ->> 'workspace' FROM queue \
                 WHERE CAST(submission AS JSONB) ->> 'workspace' IS NOT NULL",
        };
        let rows: Vec<(String,)> = self.books.database.all(select.sql()).await?;
        Ok(rows.into_iter().map(|(digest,)| digest).collect())
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
