//! The ledger: appended in batches, read whole.

use crate::record::RecordError;
use crate::record::egress::{ENTRIES_MAX, Entry};
use crate::store::books::Books;
use crate::store::database::{Durability, sql};
use crate::store::row::EgressRow;
use crate::task::RunId;

impl Books {
    pub(crate) async fn step_keep_egress(&self, run: RunId, entries: &[Entry]) -> Result<(), RecordError> {
        let mut tx = self.begin(Durability::Crash).await?;
        for entry in entries {
            let request = entry.request.as_ref();
            let insert =
                sql("INSERT INTO egress (run_id, at_ms, name, port, address, rule, verdict, bytes_up, \
                 bytes_down, duration_ms, method, path, status, credential) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)")
                .bind(run)
                .bind(entry.at_ms)
                .bind(&entry.name)
                .bind(entry.port.map(i64::from))
                .bind(entry.address.map(|it| it.to_string()))
                .bind(&entry.rule)
                .bind(entry.verdict.word())
                .bind(entry.bytes_up)
                .bind(entry.bytes_down)
                .bind(entry.duration_ms)
                .bind(request.map(|it| it.method.as_str()))
                .bind(request.map(|it| it.path.as_str()))
                .bind(request.and_then(|it| it.status).map(i64::from))
                .bind(request.and_then(|it| it.credential.as_deref()));
            tx.execute(insert).await?;
        }
        tx.commit().await
    }

    pub(crate) async fn look_egress(&self, run: RunId) -> Result<Vec<Entry>, RecordError> {
        let select =
            sql("SELECT at_ms, name, port, address, rule, verdict, bytes_up, bytes_down, duration_ms, \
             method, path, status, credential FROM egress WHERE run_id = $1 ORDER BY seq LIMIT $2")
            .bind(run)
            .bind(i64::try_from(ENTRIES_MAX).unwrap_or(i64::MAX));
        let rows: Vec<EgressRow> = self.database.all(select).await?;
        let run = run.to_string();
        rows.into_iter().map(|it| it.entry(&run, &self.database.place)).collect()
    }
}
