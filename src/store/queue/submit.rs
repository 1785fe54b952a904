//! Acceptance of batches: looked at first, then written, so that a batch that is refused leaves nothing.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use crate::access::NewAudit;
use crate::fault::{self, Point};
use crate::queue::{
    AFTER_MAX, ATTEMPTS_MAX, BATCH_MAX, Dependency, Idempotency, NewSubmission, Schedule, Submitted, order,
};
use crate::record::{EventKind, NewRun, RecordError};
use crate::store::books::{Books, EVENTS, Moment, event};
use crate::store::database::{Both, Durability, Insert, Statement, Tx, sql};
use crate::store::json as column;
use crate::store::queue::announce;
use crate::store::queue::past::afterwards;
use crate::store::queue::quota::LimitsRow;
use crate::store::queue::stage::Touched;
use crate::store::record::steps::{RUNS, Submitter};
use crate::task::{Outcome, RunId};

/// Priorities of a project, both ways.
const PRIORITY_MAX: i16 = 100;

/// Places in the queue.
static QUEUE: Insert = Insert::new(
    "INSERT INTO queue (run_id, project, lane, stage, priority, not_before_ms, deadline_ms, concurrency_key, \
     concurrency_limit, idempotent, attempts_max, losses, failure_retries, failures, submission, epoch)",
    16,
);

/// A run of a batch, encoded before the one writer is asked.
#[derive(Debug)]
pub(crate) struct Entry {
    run: RunId,
    project: String,
    created_ms: i64,
    row: Statement,
    queued: String,
    submission: String,
    lane: String,
    schedule: Schedule,
    idempotency: Option<Idempotency>,
}

/// What one request submits, and what is written down of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Batch<'a> {
    pub(crate) entries: &'a [Entry],
    pub(crate) audit: Option<&'a NewAudit>,
}

/// A run that another one waits for, as it was found.
enum Awaited {
    /// It has not ended.
    Open,
    Ended {
        well: bool,
    },
}

/// What is to be written of a batch.
struct Plan {
    ids: Vec<(RunId, bool)>,
    /// By index of the entry: the runs that it waits for.
    waits: Vec<Vec<(RunId, bool, Awaited)>>,
}

/// What the batches of one transaction have come to so far.
#[derive(Default)]
pub(super) struct Group<'a> {
    /// Accepted and not written yet.
    pub(super) rows: Rows,
    /// The projects' limits, as far as they were asked for.
    pub(super) limits: BTreeMap<&'a str, Option<LimitsRow>>,
    /// Keys that were used, with the run and the body that they were used for.
    keys: BTreeMap<(&'a str, &'a str), (RunId, [u8; 32])>,
    projects: BTreeSet<&'a str>,
    touched: Touched,
}

/// Rows that go in together.
#[derive(Default)]
pub(super) struct Rows {
    runs: Vec<Statement>,
    events: Vec<Statement>,
    queue: Vec<Statement>,
}

impl Rows {
    /// Writes them: from here on the database shows them.
    pub(super) async fn write(&mut self, tx: &mut Tx) -> Result<(), RecordError> {
        let Self { runs, events, queue } = std::mem::take(self);
        let statements = RUNS.rows(runs).into_iter().chain(EVENTS.rows(events)).chain(QUEUE.rows(queue));
        for statement in statements {
            tx.execute(statement).await?;
        }
        Ok(())
    }
}

impl Entry {
    pub(super) fn project(&self) -> &str {
        &self.project
    }
}

impl Books {
    /// A batch as it is written.
    pub(crate) fn encode(&self, batch: &[NewSubmission]) -> Result<Vec<Entry>, RecordError> {
        let mut entries = Vec::with_capacity(batch.len());
        for new in batch {
            let afterwards = afterwards(new);
            let NewSubmission { run, project, submitter, submission, schedule, idempotency } = new;
            let failed = |err| self.unencodable(err);
            let mut labels = schedule.worker_labels.clone();
            labels.sort();
            labels.dedup();
            let run = NewRun { owner: None, ..run.clone() };
            entries.push(Entry {
                run: run.id,
                project: project.clone(),
                created_ms: run.created_ms,
                row: self.run_row(&run, Some(Submitter { project, name: submitter }))?,
                queued: column::detail(&[
                    ("policy", json!(run.policy.digest)),
                    ("project", json!(project)),
                    ("submitter", json!(submitter)),
                ]),
                submission: column::submission_text(submission, afterwards).map_err(failed)?,
                lane: column::text(&(project, labels)).map_err(failed)?,
                schedule: schedule.clone(),
                idempotency: idempotency.clone(),
            });
        }
        Ok(entries)
    }

    /// Writes several batches in one transaction: on disk when this returns. Each is accepted or refused by itself.
    pub(crate) async fn submit_all(&self, batches: &[Batch<'_>]) -> Result<Vec<Submitted>, RecordError> {
        let mut group = Group::default();
        let mut tx = self.begin(Durability::PowerCut).await?;
        lock_keys(&mut tx, batches).await?;
        let now = self.now(&mut tx).await?;
        let mut answers = Vec::with_capacity(batches.len());
        for Batch { entries, audit } in batches {
            let plan = match self.plan(&mut tx, entries, &mut group, now).await? {
                Ok(plan) => plan,
                Err(refusal) => {
                    answers.push(refusal);
                    continue;
                }
            };
            for (entry, ((_, new), waits)) in entries.iter().zip(plan.ids.iter().zip(&plan.waits)) {
                if *new {
                    self.write(&mut tx, entry, waits, &mut group, now).await?;
                }
            }
            if plan.ids.iter().any(|it| it.1) {
                self.write_down(&mut tx, *audit, now).await?;
            }
            answers.push(Submitted::Accepted(plan.ids));
        }
        group.rows.write(&mut tx).await?;
        let Group { keys, projects, touched, .. } = group;
        for ((project, key), (run, body_sha256)) in keys {
            // One that is there has expired.
            let insert = sql("INSERT INTO idempotency (project, key, body_sha256, run_id) \
                 VALUES ($1, $2, $3, $4) ON CONFLICT (project, key) DO UPDATE SET \
                 body_sha256 = excluded.body_sha256, run_id = excluded.run_id, expires_ms = NULL");
            tx.execute(insert.bind(project).bind(key).bind(body_sha256.as_slice()).bind(run)).await?;
        }
        for project in projects {
            let share = sql("INSERT INTO shares (project, served) VALUES ($1, 0) ON CONFLICT DO NOTHING");
            tx.execute(share.bind(project)).await?;
        }
        if touched.ready {
            announce(&mut tx).await?;
        }
        tx.commit().await?;
        fault::reach(Point::Queued);
        self.tidy(touched).await?;
        Ok(answers)
    }

    async fn plan<'a>(
        &self,
        tx: &mut Tx,
        batch: &'a [Entry],
        group: &mut Group<'a>,
        now: Moment,
    ) -> Result<Result<Plan, Submitted>, RecordError> {
        let ids = match self.known(tx, batch, group, now).await? {
            Ok(ids) => ids,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if let Some(refusal) = self.over_quota(tx, (batch, &ids), group, now).await? {
            return Ok(Err(refusal));
        }
        if batch.iter().any(|it| !it.schedule.after.is_empty()) {
            // They may wait for runs of the batches before.
            group.rows.write(tx).await?;
        }
        // What a batch calls its own run may be an earlier one, by its key.
        let own: BTreeMap<RunId, (RunId, bool)> = batch.iter().map(|it| it.run).zip(ids.clone()).collect();
        let mut waits = Vec::with_capacity(batch.len());
        for (index, (entry, (_, new))) in batch.iter().zip(&ids).enumerate() {
            let mut found = Vec::new();
            for Dependency { run, success } in entry.schedule.after.iter().filter(|_| *new) {
                let (run, is_new) = own.get(run).copied().unwrap_or((*run, false));
                let awaited = match is_new {
                    true => Some(Awaited::Open),
                    false => self.awaited(tx, run, &entry.project).await?,
                };
                let Some(awaited) = awaited else {
                    return Ok(Err(Submitted::UnknownDependency { index, run }));
                };
                found.push((run, *success, awaited));
            }
            waits.push(found);
        }
        Ok(Ok(Plan { ids, waits }))
    }

    /// The ids of a batch, with whether each is new: a key that was used names the run it was used for.
    async fn known(
        &self,
        tx: &mut Tx,
        batch: &[Entry],
        group: &Group<'_>,
        now: Moment,
    ) -> Result<Result<Vec<(RunId, bool)>, Submitted>, RecordError> {
        let mut ids = Vec::with_capacity(batch.len());
        let mut seen: BTreeMap<(&str, &str), (RunId, [u8; 32])> = BTreeMap::new();
        for (index, entry) in batch.iter().enumerate() {
            let Some(Idempotency { key, body_sha256 }) = &entry.idempotency else {
                ids.push((entry.run, true));
                continue;
            };
            let place = (entry.project.as_str(), key.as_str());
            let used = match seen.get(&place).or_else(|| group.keys.get(&place)) {
                Some(used) => Some(*used),
                None => self.used_key(tx, place, now).await?,
            };
            match used {
                None => {
                    ids.push((entry.run, true));
                    seen.insert(place, (entry.run, *body_sha256));
                }
                Some((run, body)) if body == *body_sha256 => ids.push((run, false)),
                Some((run, _)) => return Ok(Err(Submitted::KeyConflict { index, run })),
            }
        }
        Ok(Ok(ids))
    }

    async fn used_key(
        &self,
        tx: &mut Tx,
        (project, key): (&str, &str),
        now: Moment,
    ) -> Result<Option<(RunId, [u8; 32])>, RecordError> {
        let select = sql("SELECT run_id, body_sha256 FROM idempotency \
             WHERE project = $1 AND key = $2 AND (expires_ms IS NULL OR expires_ms > $3)");
        let row: Option<(String, Vec<u8>)> =
            tx.first(select.bind(project).bind(key).bind(now.wall_ms)).await?;
        let Some((run, body)) = row else { return Ok(None) };
        let body = body.try_into().map_err(|_| self.undecodable(&run, "body_sha256"))?;
        Ok(Some((run.parse().map_err(|_| self.undecodable(&run, "run_id"))?, body)))
    }

    /// `None` where the project has no such run. A run that has not ended cannot end before this transaction does.
    async fn awaited(&self, tx: &mut Tx, run: RunId, project: &str) -> Result<Option<Awaited>, RecordError> {
        let select = Both {
            sqlite: "SELECT outcome, outcome_detail FROM runs WHERE id = $1 AND project = $2",
            postgres: "SELECT outcome, outcome_detail FROM runs WHERE id = $1 AND project = $2 FOR SHARE",
        };
        let row: Option<(Option<String>, Option<String>)> =
            tx.first(select.sql().bind(run).bind(project)).await?;
        let Some((name, detail)) = row else { return Ok(None) };
        let (Some(name), Some(detail)) = (name, detail) else { return Ok(Some(Awaited::Open)) };
        let outcome =
            column::outcome(&name, &detail).ok_or_else(|| self.undecodable(&run.to_string(), "outcome"))?;
        Ok(Some(Awaited::Ended { well: outcome == Outcome::Exited(0) }))
    }

    async fn write<'a>(
        &self,
        tx: &mut Tx,
        entry: &'a Entry,
        waits: &[(RunId, bool, Awaited)],
        group: &mut Group<'a>,
        now: Moment,
    ) -> Result<(), RecordError> {
        let rows = &mut group.rows;
        rows.runs.push(entry.row.clone());
        rows.events.push(event(entry.run, entry.created_ms, EventKind::Queued, &entry.queued));
        if let Some(Idempotency { key, body_sha256 }) = &entry.idempotency {
            group.keys.insert((entry.project.as_str(), key.as_str()), (entry.run, *body_sha256));
        }
        group.projects.insert(&entry.project);
        // One that ended as it had to is waited for no more.
        let waits: Vec<_> = waits
            .iter()
            .filter(|(_, success, it)| match it {
                Awaited::Open => true,
                Awaited::Ended { well } => *success && !*well,
            })
            .collect();
        let schedule = &entry.schedule;
        let stage = if !waits.is_empty() {
            "blocked"
        } else if schedule.not_before_ms.is_some_and(|it| it > now.wall_ms) {
            "delayed"
        } else if schedule.concurrency.is_some() {
            "held"
        } else {
            "ready"
        };
        group.rows.queue.push(queue_row(entry, stage));
        if !waits.is_empty() {
            group.rows.write(tx).await?;
        }
        let touched = &mut group.touched;
        match (stage, &schedule.concurrency) {
            ("held", Some(limited)) => touched.turn(entry.project.clone(), Some(limited.key.clone())),
            _ => touched.ready |= stage == "ready" || stage == "delayed",
        }
        for (run, success, awaited) in waits {
            let ended_well = match awaited {
                Awaited::Open => None,
                Awaited::Ended { well } => Some(*well),
            };
            // A run that is named twice is waited for once, in the stricter way.
            let insert = Both {
                sqlite: "INSERT INTO dependencies (run_id, after_id, success, ended_well) VALUES ($1, $2, $3, $4) \
                     ON CONFLICT (run_id, after_id) DO UPDATE SET success = max(success, excluded.success)",
                postgres: "INSERT INTO dependencies (run_id, after_id, success, ended_well) VALUES ($1, $2, $3, $4) \
                     ON CONFLICT (run_id, after_id) DO UPDATE SET \
                     success = dependencies.success OR excluded.success",
            };
            tx.execute(insert.sql().bind(entry.run).bind(*run).bind(*success).bind(ended_well)).await?;
            touched.dependents |= ended_well.is_some();
        }
        Ok(())
    }
}

fn queue_row(entry: &Entry, stage: &str) -> Statement {
    let schedule = &entry.schedule;
    let concurrency = schedule.concurrency.as_ref();
    QUEUE
        .row()
        .bind(entry.run)
        .bind(&entry.project)
        .bind(&entry.lane)
        .bind(stage)
        .bind(i64::from(schedule.priority.clamp(-PRIORITY_MAX, PRIORITY_MAX)))
        .bind(schedule.not_before_ms)
        .bind(schedule.deadline_ms)
        .bind(concurrency.map(|it| it.key.as_str()))
        .bind(concurrency.map(|it| i64::from(it.limit.max(1))))
        .bind(schedule.idempotent)
        .bind(schedule.attempts_max.clamp(1, ATTEMPTS_MAX))
        .bind(0_i64)
        .bind(schedule.failure_retries.min(ATTEMPTS_MAX))
        .bind(0_i64)
        .bind(&entry.submission)
        .bind(0_i64)
}

/// Two servers that are given the same key at once take turns; in order, so that neither waits for the other.
async fn lock_keys(tx: &mut Tx, batches: &[Batch<'_>]) -> Result<(), RecordError> {
    if !tx.is_postgres() {
        return Ok(());
    }
    let mut keys = BTreeSet::new();
    for entry in batches.iter().flat_map(|it| it.entries) {
        if let Some(it) = &entry.idempotency {
            keys.insert(format!("{}\n{}", entry.project, it.key));
        }
    }
    for key in keys {
        tx.execute(sql("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))").bind(key)).await?;
    }
    Ok(())
}

/// What can be told without looking at the database.
pub(crate) fn refused(batch: &[NewSubmission]) -> Option<Submitted> {
    if batch.len() > BATCH_MAX {
        let what = format!("a batch has {BATCH_MAX} runs at the most");
        return Some(Submitted::TooMany { index: BATCH_MAX, what });
    }
    if let Some(index) = batch.iter().position(|it| it.schedule.after.len() > AFTER_MAX) {
        let what = format!("a run waits for {AFTER_MAX} others at the most");
        return Some(Submitted::TooMany { index, what });
    }
    order::cycle(batch).map(|index| Submitted::Cycle { index })
}
