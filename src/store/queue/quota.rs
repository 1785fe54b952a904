//! What a project may use of the queue, and what it has used of it.

use std::collections::BTreeMap;

use crate::queue::Submitted;
use crate::record::{End, RecordError};
use crate::store::books::{Books, Moment};
use crate::store::database::{Tx, sql};
use crate::store::queue::submit::{Entry, Group};
use crate::task::RunId;

const DAY_MS: i64 = 86_400_000;

/// A project's limits of `projects`.
pub(super) type LimitsRow = (Option<i64>, Option<i64>, Option<i64>);

impl Books {
    /// The quota that a batch would pass, where there is one.
    pub(super) async fn over_quota<'a>(
        &self,
        tx: &mut Tx,
        (batch, ids): (&'a [Entry], &[(RunId, bool)]),
        group: &mut Group<'a>,
        now: Moment,
    ) -> Result<Option<Submitted>, RecordError> {
        let mut asked: BTreeMap<&'a str, i64> = BTreeMap::new();
        for (entry, _) in batch.iter().zip(ids).filter(|(_, (_, new))| *new) {
            *asked.entry(entry.project()).or_default() += 1;
        }
        for (project, count) in asked {
            let limits = match group.limits.get(project) {
                Some(limits) => *limits,
                None => {
                    let limits = limits(tx, project).await?;
                    group.limits.insert(project, limits);
                    limits
                }
            };
            let Some(limits) = limits else { continue };
            // What the batches before this one have brought counts, too.
            group.rows.write(tx).await?;
            if let Some(what) = self.passed(tx, project, count, limits, now).await? {
                return Ok(Some(Submitted::QuotaExceeded { what }));
            }
        }
        Ok(None)
    }

    async fn passed(
        &self,
        tx: &mut Tx,
        project: &str,
        count: i64,
        (queued_max, cpu_seconds_day_max, storage_bytes_max): LimitsRow,
        now: Moment,
    ) -> Result<Option<String>, RecordError> {
        if let Some(max) = queued_max {
            // No more are counted than matter.
            let select =
                sql("SELECT count(*) FROM (SELECT 1 FROM queue WHERE project = $1 AND stage <> 'leased' \
                 LIMIT $2) AS waiting");
            let waiting = tx.first::<(i64,)>(select.bind(project).bind(max)).await?.map_or(0, |it| it.0);
            if waiting + count > max {
                return Ok(Some(format!("`{max}` runs may wait in project `{project}`")));
            }
        }
        if let Some(max) = cpu_seconds_day_max {
            let select = sql("SELECT cpu_ms FROM usage_days WHERE project = $1 AND day = $2");
            let used = tx.first::<(i64,)>(select.bind(project).bind(now.wall_ms / DAY_MS)).await?;
            if used.is_some_and(|it| it.0 >= max.saturating_mul(1000)) {
                return Ok(Some(format!("`{max}` CPU seconds a day may be used by project `{project}`")));
            }
        }
        if let Some(max) = storage_bytes_max {
            let select = sql("SELECT CAST(coalesce(sum(artifacts.bytes), 0) AS BIGINT) FROM artifacts \
                 JOIN runs ON runs.id = artifacts.run_id WHERE runs.project = $1");
            let used = tx.first::<(i64,)>(select.bind(project)).await?.map_or(0, |it| it.0);
            if used >= max {
                return Ok(Some(format!("`{max}` bytes may be kept of project `{project}`")));
            }
        }
        Ok(None)
    }

    /// Counts what a run used to the day on which it ended.
    pub(super) async fn count_cpu(
        &self,
        tx: &mut Tx,
        project: &str,
        end: &End,
        now: Moment,
    ) -> Result<(), RecordError> {
        let Some(usage) = &end.usage else { return Ok(()) };
        let cpu_ms = usage.cpu_user_us.saturating_add(usage.cpu_system_us) / 1000;
        let upsert = sql("INSERT INTO usage_days (project, day, cpu_ms) VALUES ($1, $2, $3) \
             ON CONFLICT (project, day) DO UPDATE SET cpu_ms = usage_days.cpu_ms + excluded.cpu_ms");
        tx.execute(upsert.bind(project).bind(now.wall_ms / DAY_MS).bind(cpu_ms)).await?;
        Ok(())
    }
}

async fn limits(tx: &mut Tx, project: &str) -> Result<Option<LimitsRow>, RecordError> {
    let select =
        sql("SELECT queued_max, cpu_seconds_day_max, storage_bytes_max FROM projects WHERE name = $1");
    tx.first::<LimitsRow>(select.bind(project)).await
}
