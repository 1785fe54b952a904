//! Looks at runs: bounded, and without a write.

use crate::record::{Event, Found, Orphan, RecordError, Run, RunBrief, RunFilter};
use crate::store::row::{ArtifactRow, BriefRow, EventRow, OwnedRow, RunRow};
use crate::store::{Store, owner};
use crate::task::RunId;
use crate::task::run_id::RunSelector;

/// Runs named at the most when a short id is ambiguous.
const AMBIGUOUS_MAX: i64 = 10;
/// Events read of one run at the most.
const EVENTS_MAX: i64 = 1000;

impl Store {
    pub(super) async fn look_find(&self, selector: &RunSelector) -> Result<Found, RecordError> {
        let ids: Vec<String> = match selector {
            RunSelector::Id(id) => vec![id.to_string()],
            RunSelector::Short(digits) => {
                sqlx::query_scalar("SELECT id FROM runs WHERE short_id = $1 ORDER BY id DESC LIMIT $2")
                    .bind(digits)
                    .bind(AMBIGUOUS_MAX)
                    .fetch_all(&self.pool)
                    .await
                    .map_err(|err| self.failed(err))?
            }
        };
        match ids.as_slice() {
            [] => Ok(Found::Nothing),
            [id] => Ok(self.load(id).await?.map_or(Found::Nothing, |run| Found::Run(Box::new(run)))),
            several => self.parse_ids(several).map(Found::Ambiguous),
        }
    }

    pub(super) async fn look_list(
        &self,
        filter: RunFilter,
        count_max: u32,
    ) -> Result<Vec<RunBrief>, RecordError> {
        let query = match filter {
            RunFilter::Active => {
                "SELECT id, name, labels, command, image, policy_name, state, outcome, outcome_detail, created_ms, \
                 released_ms, ended_ms FROM runs WHERE state <> 'done' ORDER BY id DESC LIMIT $1"
            }
            RunFilter::All => {
                "SELECT id, name, labels, command, image, policy_name, state, outcome, outcome_detail, created_ms, \
                 released_ms, ended_ms FROM runs ORDER BY id DESC LIMIT $1"
            }
        };
        let rows: Vec<BriefRow> = sqlx::query_as(query)
            .bind(i64::from(count_max))
            .fetch_all(&self.pool)
            .await
            .map_err(|err| self.failed(err))?;
        rows.into_iter().map(|it| it.brief(&self.place)).collect()
    }

    pub(super) async fn look_events(&self, run: RunId) -> Result<Vec<Event>, RecordError> {
        let run = run.to_string();
        let rows: Vec<EventRow> = sqlx::query_as(
            "SELECT seq, at_ms, kind, detail FROM events WHERE run_id = $1 ORDER BY seq LIMIT $2",
        )
        .bind(&run)
        .bind(EVENTS_MAX)
        .fetch_all(&self.pool)
        .await
        .map_err(|err| self.failed(err))?;
        rows.into_iter().map(|it| it.event(&run, &self.place)).collect()
    }

    pub(super) async fn look_orphans(&self) -> Result<Vec<Orphan>, RecordError> {
        let rows: Vec<OwnedRow> = sqlx::query_as(
            "SELECT id, state, attempt, epoch, owner_pid, owner_lock, slot_number, container_id \
             FROM runs WHERE state <> 'done' ORDER BY id",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|err| self.failed(err))?;
        let mut orphans = Vec::new();
        for row in rows {
            let Some(orphan) = row.orphan(&self.place)? else { continue };
            if !owner::is_alive(&self.owners, &orphan.owner.lock) {
                orphans.push(orphan);
            }
        }
        Ok(orphans)
    }

    pub(super) async fn look_ended_before(
        &self,
        time_ms: i64,
        count_max: u32,
    ) -> Result<Vec<RunId>, RecordError> {
        let ids: Vec<String> = sqlx::query_scalar(
            "SELECT id FROM runs WHERE state = 'done' AND ended_ms < $1 ORDER BY ended_ms LIMIT $2",
        )
        .bind(time_ms)
        .bind(i64::from(count_max))
        .fetch_all(&self.pool)
        .await
        .map_err(|err| self.failed(err))?;
        self.parse_ids(&ids)
    }

    /// Row and artifacts, read in one transaction so that they belong together.
    async fn load(&self, id: &str) -> Result<Option<Run>, RecordError> {
        let mut tx = self.pool.begin().await.map_err(|err| self.failed(err))?;
        let row: Option<RunRow> = sqlx::query_as("SELECT * FROM runs WHERE id = $1")
            .bind(id)
            .fetch_optional(&mut *tx)
            .await
            .map_err(|err| self.failed(err))?;
        let Some(row) = row else { return Ok(None) };
        let artifacts: Vec<ArtifactRow> =
            sqlx::query_as("SELECT path, bytes, sha256, mode FROM artifacts WHERE run_id = $1 ORDER BY path")
                .bind(&row.id)
                .fetch_all(&mut *tx)
                .await
                .map_err(|err| self.failed(err))?;
        tx.commit().await.map_err(|err| self.failed(err))?;
        row.run(artifacts, &self.place).map(Some)
    }

    fn parse_ids(&self, ids: &[String]) -> Result<Vec<RunId>, RecordError> {
        let mut parsed = Vec::with_capacity(ids.len());
        for id in ids {
            parsed.push(id.parse().map_err(|_| RecordError::Undecodable {
                place: self.place.clone(),
                run: id.escape_default().take(80).collect(),
                field: "id",
            })?);
        }
        Ok(parsed)
    }
}
