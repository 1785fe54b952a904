//! Steps of a run. Each is one transaction, one transition, one event; each write is fenced.

use std::os::unix::ffi::OsStrExt;

use serde_json::json;

use crate::record::{End, EventKind, Fence, Image, NewRun, Owner, RecordError, Slot, Transition};
use crate::store::books::Books;
use crate::store::database::{Durability, Insert, Statement, Tx, sql};
use crate::store::{json as column, row};
use crate::task::{Outcome, RunId};

/// New runs.
pub(crate) static RUNS: Insert = Insert::new(
    "INSERT INTO runs (id, name, labels, command, image, workspace, workdir, environment_names, outputs, policy_name, \
     policy_digest, policy_asked, policy_resolved, policy_effective, limits, owner_pid, owner_lock, created_ms, \
     workspace_facts, secrets, state, attempt, epoch, project, submitter)",
    25,
);

/// Whose a run is, where it came through the queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Submitter<'a> {
    pub(crate) project: &'a str,
    pub(crate) name: &'a str,
}

impl Books {
    pub(crate) async fn step_insert(&self, run: &NewRun) -> Result<Fence, RecordError> {
        let first = u32::from(run.owner.is_some());
        let fence = Fence { run: run.id, epoch: first.into(), attempt: first };
        let row = self.run_row(run, None)?;
        let mut tx = self.begin(Durability::PowerCut).await?;
        tx.execute(row).await?;
        let queued = column::detail(&[("policy", json!(run.policy.digest))]);
        self.append(&mut tx, run.id, run.created_ms, EventKind::Queued, &queued).await?;
        if let Some(owner) = &run.owner {
            let leased = leased_detail(&fence, owner);
            self.append(&mut tx, run.id, run.created_ms, EventKind::Leased, &leased).await?;
        }
        tx.commit().await?;
        Ok(fence)
    }

    pub(crate) async fn step_start(
        &self,
        fence: Fence,
        image: &Image,
        at_ms: i64,
    ) -> Result<Transition, RecordError> {
        let update = sql("UPDATE runs SET state = 'starting', image_id = $3, image_repo_digest = $4, \
             started_ms = $5 WHERE id = $1 AND epoch = $2 AND state = 'leased'")
        .bind(fence.run)
        .bind(fence.epoch)
        .bind(&image.id)
        .bind(&image.repo_digest)
        .bind(at_ms);
        let detail = column::detail(&[("image", json!(image.id))]);
        self.transition(update, fence, at_ms, EventKind::Starting, &detail).await
    }

    pub(crate) async fn step_bind(
        &self,
        fence: Fence,
        slot: &Slot,
        at_ms: i64,
    ) -> Result<Transition, RecordError> {
        let update = sql("UPDATE runs SET slot_number = $3, container_id = $4 \
             WHERE id = $1 AND epoch = $2 AND state = 'starting' AND container_id IS NULL")
        .bind(fence.run)
        .bind(fence.epoch)
        .bind(slot.number)
        .bind(&slot.container_id);
        let detail = column::detail(&[("slot", json!(slot.number)), ("container", json!(slot.container_id))]);
        self.transition(update, fence, at_ms, EventKind::Bound, &detail).await
    }

    pub(crate) async fn step_release(
        &self,
        fence: Fence,
        attestation: &str,
        at_ms: i64,
    ) -> Result<Transition, RecordError> {
        let update = sql("UPDATE runs SET state = 'running', attestation = $3, released_ms = $4 \
             WHERE id = $1 AND epoch = $2 AND state = 'starting' AND container_id IS NOT NULL")
        .bind(fence.run)
        .bind(fence.epoch)
        .bind(attestation)
        .bind(at_ms);
        self.transition(update, fence, at_ms, EventKind::Running, "{}").await
    }

    pub(crate) async fn step_finishing(&self, fence: Fence, at_ms: i64) -> Result<Transition, RecordError> {
        let update =
            sql("UPDATE runs SET state = 'finishing' WHERE id = $1 AND epoch = $2 AND state = 'running'")
                .bind(fence.run)
                .bind(fence.epoch);
        self.transition(update, fence, at_ms, EventKind::Finishing, "{}").await
    }

    pub(crate) async fn step_finish(
        &self,
        fence: Fence,
        end: &End,
        attestation: Option<&str>,
        at_ms: i64,
    ) -> Result<Transition, RecordError> {
        let mut tx = self.begin(Durability::PowerCut).await?;
        // The queue's row is locked before the run's, as everywhere.
        if tx.is_postgres() {
            tx.execute(sql("SELECT 1 FROM queue WHERE run_id = $1 FOR UPDATE").bind(fence.run)).await?;
        }
        let Some(project) = self.finish_row(&mut tx, fence, end, attestation, at_ms).await? else {
            tx.rollback().await?;
            return Ok(Transition::Superseded);
        };
        let mut touched = crate::store::queue::Touched::default();
        if let Some(project) = project {
            self.leave(&mut tx, fence.run, &project, end, at_ms, &mut touched).await?;
        }
        tx.commit().await?;
        self.tidy(touched).await?;
        Ok(Transition::Applied)
    }

    /// Writes an outcome with its artifacts and its event. `None` where the fence no longer holds; else the run's project,
    /// where it has one.
    pub(crate) async fn finish_row(
        &self,
        tx: &mut Tx,
        fence: Fence,
        end: &End,
        attestation: Option<&str>,
        at_ms: i64,
    ) -> Result<Option<Option<String>>, RecordError> {
        let failed = |err| self.unencodable(err);
        let usage = end.usage.as_ref().map(column::usage_text).transpose().map_err(failed)?;
        let update = sql("UPDATE runs SET state = 'done', ended_ms = $3, outcome = $4, outcome_detail = $5, \
             usage = $6, stdout_bytes = $7, stderr_bytes = $8, log_truncated = $9, output_dir = $10, remarks = $11, \
             attestation = coalesce($12, attestation) \
             WHERE id = $1 AND epoch = $2 AND state <> 'done' RETURNING project")
        .bind(fence.run)
        .bind(fence.epoch)
        .bind(at_ms)
        .bind(end.outcome.name())
        .bind(column::outcome_detail(&end.outcome).map_err(failed)?)
        .bind(usage)
        .bind(end.output.stdout_bytes)
        .bind(end.output.stderr_bytes)
        .bind(end.output.log_truncated)
        .bind(end.output_dir.as_ref().map(|it| it.as_os_str().as_bytes().to_vec()))
        .bind(column::remarks_text(end).map_err(failed)?)
        .bind(attestation);
        let Some((project,)) = tx.first::<(Option<String>,)>(update).await? else {
            return Ok(None);
        };
        insert_artifacts(tx, fence.run, end).await?;
        let detail = column::detail(&[("outcome", json!(end.outcome.to_string()))]);
        self.append(tx, fence.run, at_ms, EventKind::Done, &detail).await?;
        Ok(Some(project))
    }

    pub(crate) async fn step_requeue(
        &self,
        fence: Fence,
        because: &Outcome,
        at_ms: i64,
    ) -> Result<Transition, RecordError> {
        // The owner stays named: if it dies before it leases the run again, the run is its orphan.
        let update = sql("UPDATE runs SET state = 'queued', epoch = epoch + 1, slot_number = NULL, \
             container_id = NULL, attestation = NULL, started_ms = NULL, released_ms = NULL \
             WHERE id = $1 AND epoch = $2 AND state IN ('leased', 'starting', 'running', 'finishing')")
        .bind(fence.run)
        .bind(fence.epoch);
        let detail =
            column::detail(&[("attempt", json!(fence.attempt)), ("because", json!(because.to_string()))]);
        self.transition(update, fence, at_ms, EventKind::Queued, &detail).await
    }

    pub(crate) async fn step_lease(
        &self,
        run: RunId,
        owner: &Owner,
        at_ms: i64,
    ) -> Result<Option<Fence>, RecordError> {
        let mut tx = self.begin(Durability::Crash).await?;
        let Some(fence) = self.lease_row(&mut tx, run, owner, at_ms).await? else {
            tx.rollback().await?;
            return Ok(None);
        };
        tx.commit().await?;
        Ok(Some(fence))
    }

    /// `queued` to `leased`, with its event. `None` when somebody else has it.
    pub(crate) async fn lease_row(
        &self,
        tx: &mut Tx,
        run: RunId,
        owner: &Owner,
        at_ms: i64,
    ) -> Result<Option<Fence>, RecordError> {
        let update = sql("UPDATE runs SET state = 'leased', epoch = epoch + 1, attempt = attempt + 1, \
             owner_pid = $2, owner_lock = $3 WHERE id = $1 AND state = 'queued' RETURNING epoch, attempt")
        .bind(run)
        .bind(owner.pid)
        .bind(&owner.lock);
        let Some((epoch, attempt)) = tx.first::<(i64, i64)>(update).await? else { return Ok(None) };
        // Both counters are ours and count attempts: they are small and positive.
        let fence =
            Fence { run, epoch: epoch.unsigned_abs(), attempt: u32::try_from(attempt).unwrap_or(u32::MAX) };
        self.append(tx, run, at_ms, EventKind::Leased, &leased_detail(&fence, owner)).await?;
        Ok(Some(fence))
    }

    pub(crate) async fn step_forget(&self, run: RunId) -> Result<Transition, RecordError> {
        let mut tx = self.begin(Durability::Crash).await?;
        let delete = sql("DELETE FROM runs WHERE id = $1 AND state = 'done'").bind(run);
        let gone = tx.execute(delete).await?;
        tx.commit().await?;
        Ok(if gone == 1 { Transition::Applied } else { Transition::Superseded })
    }

    /// One fenced change with its event, or nothing.
    async fn transition(
        &self,
        update: Statement,
        fence: Fence,
        at_ms: i64,
        kind: EventKind,
        detail: &str,
    ) -> Result<Transition, RecordError> {
        let mut tx = self.begin(Durability::Crash).await?;
        if tx.execute(update).await? == 0 {
            tx.rollback().await?;
            return Ok(Transition::Superseded);
        }
        self.append(&mut tx, fence.run, at_ms, kind, detail).await?;
        tx.commit().await?;
        Ok(Transition::Applied)
    }

    /// A row of [`RUNS`].
    pub(crate) fn run_row(&self, run: &NewRun, by: Option<Submitter<'_>>) -> Result<Statement, RecordError> {
        let encoded = |text: Result<String, serde_json::Error>| text.map_err(|err| self.unencodable(err));
        let workspace = run.workspace.as_ref().map(column::workspace_text).transpose();
        let owner = run.owner.as_ref();
        let first = i64::from(owner.is_some());
        let row = RUNS
            .row()
            .bind(run.id)
            .bind(&run.name)
            .bind(encoded(column::text(&run.labels))?)
            .bind(row::command_bytes(&run.task.command)?)
            .bind(&run.task.image)
            .bind(run.task.workspace.as_ref().map(|it| it.as_os_str().as_bytes().to_vec()))
            .bind(&run.task.workdir)
            .bind(encoded(column::text(&run.task.environment_names))?)
            .bind(encoded(column::text(&run.task.outputs))?)
            .bind(&run.policy.name)
            .bind(&run.policy.digest)
            .bind(&run.policy.asked)
            .bind(&run.policy.resolved)
            .bind(&run.policy.effective)
            .bind(encoded(column::limits_text(&run.limits))?)
            .bind(owner.map(|it| i64::from(it.pid)))
            .bind(owner.map(|it| it.lock.as_str()))
            .bind(run.created_ms)
            .bind(workspace.map_err(|err| self.unencodable(err))?)
            .bind(encoded(column::text(&run.task.secrets))?)
            .bind(if owner.is_some() { "leased" } else { "queued" })
            .bind(first)
            .bind(first)
            .bind(by.map(|it| it.project))
            .bind(by.map(|it| it.name));
        Ok(row)
    }
}

async fn insert_artifacts(tx: &mut Tx, run: RunId, end: &End) -> Result<(), RecordError> {
    for artifact in &end.artifacts {
        let insert =
            sql("INSERT INTO artifacts (run_id, path, bytes, sha256, mode) VALUES ($1, $2, $3, $4, $5)")
                .bind(run)
                .bind(artifact.path.as_slice())
                .bind(artifact.bytes)
                .bind(artifact.sha256.as_slice())
                .bind(artifact.mode);
        tx.execute(insert).await?;
    }
    Ok(())
}

fn leased_detail(fence: &Fence, owner: &Owner) -> String {
    column::detail(&[
        ("attempt", json!(fence.attempt)),
        ("epoch", json!(fence.epoch)),
        ("owner_pid", json!(owner.pid)),
    ])
}
