//! The ledger: appended in batches, read whole.

use crate::record::RecordError;
use crate::record::egress::{ENTRIES_MAX, Entry};
use crate::store::Store;
use crate::store::row::EgressRow;
use crate::store::sqlite::{Durability, signed};
use crate::task::RunId;

impl Store {
    pub(super) async fn step_keep_egress(&self, run: RunId, entries: &[Entry]) -> Result<(), RecordError> {
        let mut tx = self.begin(Durability::Crash).await?;
        for entry in entries {
            let request = entry.request.as_ref();
            sqlx::query(
                "INSERT INTO egress (run_id, at_ms, name, port, address, rule, verdict, bytes_up, bytes_down, \
                 duration_ms, method, path, status, credential) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
            )
            .bind(run.to_string())
            .bind(entry.at_ms)
            .bind(&entry.name)
            .bind(entry.port.map(i64::from))
            .bind(entry.address.map(|it| it.to_string()))
            .bind(&entry.rule)
            .bind(entry.verdict.word())
            .bind(signed(entry.bytes_up))
            .bind(signed(entry.bytes_down))
            .bind(signed(entry.duration_ms))
            .bind(request.map(|it| &it.method))
            .bind(request.map(|it| &it.path))
            .bind(request.and_then(|it| it.status).map(i64::from))
            .bind(request.and_then(|it| it.credential.as_ref()))
            .execute(&mut *tx)
            .await
            .map_err(|err| self.failed(err))?;
        }
        self.commit(tx).await
    }

    pub(super) async fn look_egress(&self, run: RunId) -> Result<Vec<Entry>, RecordError> {
        let run = run.to_string();
        let rows: Vec<EgressRow> = sqlx::query_as(
            "SELECT at_ms, name, port, address, rule, verdict, bytes_up, bytes_down, duration_ms, method, path, \
             status, credential FROM egress WHERE run_id = $1 ORDER BY seq LIMIT $2",
        )
        .bind(&run)
        .bind(i64::try_from(ENTRIES_MAX).unwrap_or(i64::MAX))
        .fetch_all(&self.pool)
        .await
        .map_err(|err| self.failed(err))?;
        rows.into_iter().map(|it| it.entry(&run, &self.place)).collect()
    }
}
