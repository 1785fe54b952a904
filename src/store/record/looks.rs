//! Looks at runs: bounded, and without a write.

use crate::record::{Event, Found, Orphan, RecordError, Run, RunBrief, RunFilter};
use crate::store::books::Books;
use crate::store::database::sql;
use crate::store::owner;
use crate::store::row::{ArtifactRow, BriefRow, EventRow, OwnedRow, RunRow};
use crate::task::RunId;
use crate::task::run_id::RunSelector;

/// Runs named at the most when a short id is ambiguous.
const AMBIGUOUS_MAX: i64 = 10;
/// Events read of one run at the most.
const EVENTS_MAX: i64 = 1000;

impl Books {
    pub(crate) async fn look_find(&self, selector: &RunSelector) -> Result<Found, RecordError> {
        let ids: Vec<(String,)> = match selector {
            RunSelector::Id(id) => vec![(id.to_string(),)],
            RunSelector::Short(digits) => {
                let select = sql("SELECT id FROM runs WHERE short_id = $1 ORDER BY id DESC LIMIT $2");
                self.database.all(select.bind(digits).bind(AMBIGUOUS_MAX)).await?
            }
        };
        match ids.as_slice() {
            [] => Ok(Found::Nothing),
            [(id,)] => Ok(self.load(id).await?.map_or(Found::Nothing, |run| Found::Run(Box::new(run)))),
            several => self.parse_ids(several).map(Found::Ambiguous),
        }
    }

    pub(crate) async fn look_list(
        &self,
        filter: RunFilter,
        count_max: u32,
    ) -> Result<Vec<RunBrief>, RecordError> {
        let select = match filter {
            RunFilter::Active => sql(
                "SELECT id, name, labels, command, image, policy_name, state, outcome, outcome_detail, created_ms, \
                 released_ms, ended_ms FROM runs WHERE state <> 'done' ORDER BY id DESC LIMIT $1",
            ),
            RunFilter::All => sql(
                "SELECT id, name, labels, command, image, policy_name, state, outcome, outcome_detail, created_ms, \
                 released_ms, ended_ms FROM runs ORDER BY id DESC LIMIT $1",
            ),
        };
        let rows: Vec<BriefRow> = self.database.all(select.bind(count_max)).await?;
        rows.into_iter().map(|it| it.brief(&self.database.place)).collect()
    }

    pub(crate) async fn look_events(&self, run: RunId) -> Result<Vec<Event>, RecordError> {
        let select =
            sql("SELECT seq, at_ms, kind, detail FROM events WHERE run_id = $1 ORDER BY seq LIMIT $2");
        let rows: Vec<EventRow> = self.database.all(select.bind(run).bind(EVENTS_MAX)).await?;
        let run = run.to_string();
        rows.into_iter().map(|it| it.event(&run, &self.database.place)).collect()
    }

    /// Those that came through the queue are not among them: a lease decides about these, and a rule about their end.
    pub(crate) async fn look_orphans(&self) -> Result<Vec<Orphan>, RecordError> {
        // Owners on other hosts cannot be looked at.
        let Some(owners) = &self.owners else { return Ok(Vec::new()) };
        let select =
            sql("SELECT id, state, attempt, epoch, owner_pid, owner_lock, slot_number, container_id \
             FROM runs WHERE state <> 'done' AND project IS NULL ORDER BY id");
        let rows: Vec<OwnedRow> = self.database.all(select).await?;
        let mut orphans = Vec::new();
        for row in rows {
            let Some(orphan) = row.orphan(&self.database.place)? else { continue };
            if !owner::is_alive(owners, &orphan.owner.lock) {
                orphans.push(orphan);
            }
        }
        Ok(orphans)
    }

    pub(crate) async fn look_ended_before(
        &self,
        time_ms: i64,
        count_max: u32,
    ) -> Result<Vec<RunId>, RecordError> {
        let select =
            sql("SELECT id FROM runs WHERE state = 'done' AND ended_ms < $1 ORDER BY ended_ms LIMIT $2");
        let ids: Vec<(String,)> = self.database.all(select.bind(time_ms).bind(count_max)).await?;
        self.parse_ids(&ids)
    }

    /// Row and artifacts, read in one transaction so that they belong together.
    async fn load(&self, id: &str) -> Result<Option<Run>, RecordError> {
        let mut tx = self.database.look().await?;
        let row: Option<RunRow> = tx.first(sql("SELECT * FROM runs WHERE id = $1").bind(id)).await?;
        let Some(row) = row else { return Ok(None) };
        let select = sql("SELECT path, bytes, sha256, mode FROM artifacts WHERE run_id = $1 ORDER BY path");
        let artifacts: Vec<ArtifactRow> = tx.all(select.bind(&row.id)).await?;
        tx.commit().await?;
        row.run(artifacts, &self.database.place).map(Some)
    }

    fn parse_ids(&self, ids: &[(String,)]) -> Result<Vec<RunId>, RecordError> {
        let mut parsed = Vec::with_capacity(ids.len());
        for (id,) in ids {
            parsed.push(id.parse().map_err(|_| self.undecodable(id, "id"))?);
        }
        Ok(parsed)
    }
}
