//! Steps of a run. Each is one transaction, one transition, one event; each write is fenced.

use std::os::unix::ffi::OsStrExt;

use serde_json::json;
use sqlx::SqliteConnection;

use crate::record::{End, EventKind, Fence, Image, NewRun, Owner, RecordError, Slot, Transition};
use crate::store::sqlite::{Durability, signed};
use crate::store::{Store, json as column, row};
use crate::task::{Outcome, RunId};

impl Store {
    pub(super) async fn step_insert(&self, run: &NewRun) -> Result<Fence, RecordError> {
        let first = u32::from(run.owner.is_some());
        let fence = Fence { run: run.id, epoch: first.into(), attempt: first };
        let mut tx = self.begin(Durability::PowerCut).await?;
        self.insert_row(&mut tx, run).await?;
        let queued = column::detail(&[("policy", json!(run.policy.digest))]);
        self.append(&mut tx, run.id, run.created_ms, EventKind::Queued, &queued).await?;
        if let Some(owner) = &run.owner {
            let leased = leased_detail(&fence, owner);
            self.append(&mut tx, run.id, run.created_ms, EventKind::Leased, &leased).await?;
        }
        self.commit(tx).await?;
        Ok(fence)
    }

    pub(super) async fn step_start(
        &self,
        fence: Fence,
        image: &Image,
        at_ms: i64,
    ) -> Result<Transition, RecordError> {
        let mut tx = self.begin(Durability::Crash).await?;
        let result = sqlx::query(
            "UPDATE runs SET state = 'starting', image_id = $3, image_repo_digest = $4, started_ms = $5 \
             WHERE id = $1 AND epoch = $2 AND state = 'leased'",
        )
        .bind(fence.run.to_string())
        .bind(signed(fence.epoch))
        .bind(&image.id)
        .bind(&image.repo_digest)
        .bind(at_ms)
        .execute(&mut *tx)
        .await;
        let detail = column::detail(&[("image", json!(image.id))]);
        self.settle(tx, result, fence, at_ms, EventKind::Starting, &detail).await
    }

    pub(super) async fn step_bind(
        &self,
        fence: Fence,
        slot: &Slot,
        at_ms: i64,
    ) -> Result<Transition, RecordError> {
        let mut tx = self.begin(Durability::Crash).await?;
        let result = sqlx::query(
            "UPDATE runs SET slot_number = $3, container_id = $4 \
             WHERE id = $1 AND epoch = $2 AND state = 'starting' AND container_id IS NULL",
        )
        .bind(fence.run.to_string())
        .bind(signed(fence.epoch))
        .bind(i64::from(slot.number))
        .bind(&slot.container_id)
        .execute(&mut *tx)
        .await;
        let detail = column::detail(&[("slot", json!(slot.number)), ("container", json!(slot.container_id))]);
        self.settle(tx, result, fence, at_ms, EventKind::Bound, &detail).await
    }

    pub(super) async fn step_release(
        &self,
        fence: Fence,
        attestation: &str,
        at_ms: i64,
    ) -> Result<Transition, RecordError> {
        let mut tx = self.begin(Durability::Crash).await?;
        let result = sqlx::query(
            "UPDATE runs SET state = 'running', attestation = $3, released_ms = $4 \
             WHERE id = $1 AND epoch = $2 AND state = 'starting' AND container_id IS NOT NULL",
        )
        .bind(fence.run.to_string())
        .bind(signed(fence.epoch))
        .bind(attestation)
        .bind(at_ms)
        .execute(&mut *tx)
        .await;
        self.settle(tx, result, fence, at_ms, EventKind::Running, "{}").await
    }

    pub(super) async fn step_finishing(&self, fence: Fence, at_ms: i64) -> Result<Transition, RecordError> {
        let mut tx = self.begin(Durability::Crash).await?;
        let result = sqlx::query(
            "UPDATE runs SET state = 'finishing' WHERE id = $1 AND epoch = $2 AND state = 'running'",
        )
        .bind(fence.run.to_string())
        .bind(signed(fence.epoch))
        .execute(&mut *tx)
        .await;
        self.settle(tx, result, fence, at_ms, EventKind::Finishing, "{}").await
    }

    pub(super) async fn step_finish(
        &self,
        fence: Fence,
        end: &End,
        attestation: Option<&str>,
        at_ms: i64,
    ) -> Result<Transition, RecordError> {
        let usage =
            end.usage.as_ref().map(column::usage_text).transpose().map_err(|err| self.unencodable(err))?;
        let mut tx = self.begin(Durability::PowerCut).await?;
        let result = sqlx::query(
            "UPDATE runs SET state = 'done', ended_ms = $3, outcome = $4, outcome_detail = $5, usage = $6, \
             stdout_bytes = $7, stderr_bytes = $8, log_truncated = $9, output_dir = $10, remarks = $11, \
             attestation = coalesce($12, attestation) \
             WHERE id = $1 AND epoch = $2 AND state <> 'done'",
        )
        .bind(fence.run.to_string())
        .bind(signed(fence.epoch))
        .bind(at_ms)
        .bind(end.outcome.name())
        .bind(column::outcome_detail(&end.outcome).map_err(|err| self.unencodable(err))?)
        .bind(usage)
        .bind(signed(end.output.stdout_bytes))
        .bind(signed(end.output.stderr_bytes))
        .bind(end.output.log_truncated)
        .bind(end.output_dir.as_ref().map(|it| it.as_os_str().as_bytes().to_vec()))
        .bind(column::remarks_text(end).map_err(|err| self.unencodable(err))?)
        .bind(attestation)
        .execute(&mut *tx)
        .await;
        if matches!(&result, Ok(done) if done.rows_affected() == 1) {
            self.insert_artifacts(&mut tx, fence.run, end).await?;
        }
        let detail = column::detail(&[("outcome", json!(end.outcome.to_string()))]);
        self.settle(tx, result, fence, at_ms, EventKind::Done, &detail).await
    }

    pub(super) async fn step_requeue(
        &self,
        fence: Fence,
        because: &Outcome,
        at_ms: i64,
    ) -> Result<Transition, RecordError> {
        let mut tx = self.begin(Durability::Crash).await?;
        // The owner stays named: if it dies before it leases the run again, the run is its orphan.
        let result = sqlx::query(
            "UPDATE runs SET state = 'queued', epoch = epoch + 1, slot_number = NULL, container_id = NULL, \
             attestation = NULL, started_ms = NULL, released_ms = NULL \
             WHERE id = $1 AND epoch = $2 AND state IN ('leased', 'starting', 'running', 'finishing')",
        )
        .bind(fence.run.to_string())
        .bind(signed(fence.epoch))
        .execute(&mut *tx)
        .await;
        let detail =
            column::detail(&[("attempt", json!(fence.attempt)), ("because", json!(because.to_string()))]);
        self.settle(tx, result, fence, at_ms, EventKind::Queued, &detail).await
    }

    pub(super) async fn step_lease(
        &self,
        run: RunId,
        owner: &Owner,
        at_ms: i64,
    ) -> Result<Option<Fence>, RecordError> {
        let mut tx = self.begin(Durability::Crash).await?;
        let leased: Option<(i64, i64)> = sqlx::query_as(
            "UPDATE runs SET state = 'leased', epoch = epoch + 1, attempt = attempt + 1, owner_pid = $2, \
             owner_lock = $3 WHERE id = $1 AND state = 'queued' RETURNING epoch, attempt",
        )
        .bind(run.to_string())
        .bind(i64::from(owner.pid))
        .bind(&owner.lock)
        .fetch_optional(&mut *tx)
        .await
        .map_err(|err| self.failed(err))?;
        let Some((epoch, attempt)) = leased else { return Ok(None) };
        // Both counters are ours and count attempts: they are small and positive.
        let fence =
            Fence { run, epoch: epoch.unsigned_abs(), attempt: u32::try_from(attempt).unwrap_or(u32::MAX) };
        self.append(&mut tx, run, at_ms, EventKind::Leased, &leased_detail(&fence, owner)).await?;
        self.commit(tx).await?;
        Ok(Some(fence))
    }

    pub(super) async fn step_forget(&self, run: RunId) -> Result<Transition, RecordError> {
        let mut tx = self.begin(Durability::Crash).await?;
        let result = sqlx::query("DELETE FROM runs WHERE id = $1 AND state = 'done'")
            .bind(run.to_string())
            .execute(&mut *tx)
            .await
            .map_err(|err| self.failed(err))?;
        self.commit(tx).await?;
        Ok(if result.rows_affected() == 1 { Transition::Applied } else { Transition::Superseded })
    }

    async fn insert_row(&self, connection: &mut SqliteConnection, run: &NewRun) -> Result<(), RecordError> {
        let owner = run.owner.as_ref();
        let encoded = |text: Result<String, serde_json::Error>| text.map_err(|err| self.unencodable(err));
        let workspace = run.workspace.as_ref().map(column::workspace_text).transpose();
        let workspace = workspace.map_err(|err| self.unencodable(err))?;
        sqlx::query(
            "INSERT INTO runs (id, name, labels, command, image, workspace, workdir, environment_names, outputs, \
             policy_name, policy_digest, policy_asked, policy_resolved, policy_effective, limits, state, attempt, \
             epoch, owner_pid, owner_lock, created_ms, workspace_facts, secrets) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $21, $22, $22, $16, $17, $18, $19, $20)",
        )
        .bind(run.id.to_string())
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
        .bind(owner.map(|it| &it.lock))
        .bind(run.created_ms)
        .bind(workspace)
        .bind(encoded(column::text(&run.task.secrets))?)
        .bind(if owner.is_some() { "leased" } else { "queued" })
        .bind(i64::from(owner.is_some()))
        .execute(connection)
        .await
        .map_err(|err| self.failed(err))?;
        Ok(())
    }

    async fn insert_artifacts(
        &self,
        connection: &mut SqliteConnection,
        run: RunId,
        end: &End,
    ) -> Result<(), RecordError> {
        for artifact in &end.artifacts {
            sqlx::query(
                "INSERT INTO artifacts (run_id, path, bytes, sha256, mode) VALUES ($1, $2, $3, $4, $5)",
            )
            .bind(run.to_string())
            .bind(&artifact.path)
            .bind(signed(artifact.bytes))
            .bind(artifact.sha256.as_slice())
            .bind(i64::from(artifact.mode))
            .execute(&mut *connection)
            .await
            .map_err(|err| self.failed(err))?;
        }
        Ok(())
    }
}

fn leased_detail(fence: &Fence, owner: &Owner) -> String {
    column::detail(&[
        ("attempt", json!(fence.attempt)),
        ("epoch", json!(fence.epoch)),
        ("owner_pid", json!(owner.pid)),
    ])
}
