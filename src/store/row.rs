//! Rows as the databases give them, and what they say.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use sqlx::FromRow;

use crate::record::egress::{Entry, RequestEntry, Verdict};
use crate::record::page::Listed;
use crate::record::{
    Artifact, End, Event, EventKind, Fence, Image, Orphan, OutputCounts, Owner, PolicyRecord, RecordError,
    Run, RunBrief, Slot, TaskRecord,
};
use crate::store::json;
use crate::task::{Outcome, RunId, RunState};

/// A whole row of `runs`.
#[derive(FromRow)]
pub(crate) struct RunRow {
    pub(crate) id: String,
    name: Option<String>,
    labels: String,
    command: Vec<u8>,
    image: String,
    workspace: Option<Vec<u8>>,
    workdir: Option<String>,
    environment_names: String,
    outputs: String,
    policy_name: String,
    policy_digest: String,
    policy_asked: String,
    policy_resolved: String,
    policy_effective: String,
    limits: String,
    state: String,
    attempt: i64,
    epoch: i64,
    owner_pid: Option<i64>,
    owner_lock: Option<String>,
    image_id: Option<String>,
    image_repo_digest: Option<String>,
    slot_number: Option<i64>,
    container_id: Option<String>,
    attestation: Option<String>,
    created_ms: i64,
    started_ms: Option<i64>,
    released_ms: Option<i64>,
    ended_ms: Option<i64>,
    outcome: Option<String>,
    outcome_detail: Option<String>,
    usage: Option<String>,
    stdout_bytes: Option<i64>,
    stderr_bytes: Option<i64>,
    log_truncated: Option<bool>,
    output_dir: Option<Vec<u8>>,
    remarks: Option<String>,
    workspace_facts: Option<String>,
    secrets: String,
    project: Option<String>,
    submitter: Option<String>,
}

/// A row of `egress`.
#[derive(FromRow)]
pub(crate) struct EgressRow {
    at_ms: i64,
    name: String,
    port: Option<i64>,
    address: Option<String>,
    rule: Option<String>,
    verdict: String,
    bytes_up: i64,
    bytes_down: i64,
    duration_ms: i64,
    method: Option<String>,
    path: Option<String>,
    status: Option<i64>,
    credential: Option<String>,
}

/// A row of `artifacts`.
#[derive(FromRow)]
pub(crate) struct ArtifactRow {
    path: Vec<u8>,
    bytes: i64,
    sha256: Vec<u8>,
    mode: i64,
}

/// The columns of a list.
#[derive(FromRow)]
pub(crate) struct BriefRow {
    id: String,
    name: Option<String>,
    labels: String,
    command: Vec<u8>,
    image: String,
    policy_name: String,
    state: String,
    outcome: Option<String>,
    outcome_detail: Option<String>,
    created_ms: i64,
    released_ms: Option<i64>,
    ended_ms: Option<i64>,
}

/// The columns of a page.
#[derive(FromRow)]
pub(crate) struct ListedRow {
    #[sqlx(flatten)]
    brief: BriefRow,
    project: Option<String>,
}

/// The columns that say who has a run.
#[derive(FromRow)]
pub(crate) struct OwnedRow {
    id: String,
    state: String,
    attempt: i64,
    epoch: i64,
    owner_pid: Option<i64>,
    owner_lock: Option<String>,
    slot_number: Option<i64>,
    container_id: Option<String>,
}

/// A row of `events`.
#[derive(FromRow)]
pub(crate) struct EventRow {
    seq: i64,
    at_ms: i64,
    kind: String,
    detail: String,
}

/// Names the column of a row that holds what this version never writes.
struct Reader<'a> {
    place: &'a Path,
    run: &'a str,
}

impl Reader<'_> {
    fn read<T>(&self, field: &'static str, value: Option<T>) -> Result<T, RecordError> {
        value.ok_or_else(|| RecordError::Undecodable {
            place: self.place.to_owned(),
            run: self.run.escape_default().take(80).collect(),
            field,
        })
    }

    fn id(&self) -> Result<RunId, RecordError> {
        self.read("id", self.run.parse().ok())
    }

    fn fence(&self, attempt: i64, epoch: i64) -> Result<Fence, RecordError> {
        Ok(Fence {
            run: self.id()?,
            epoch: self.read("epoch", u64::try_from(epoch).ok())?,
            attempt: self.read("attempt", u32::try_from(attempt).ok())?,
        })
    }

    fn state(&self, name: &str) -> Result<RunState, RecordError> {
        self.read("state", RunState::from_name(name))
    }

    fn labels(&self, text: &str) -> Result<Vec<(String, String)>, RecordError> {
        self.read("labels", json::value(text))
    }

    fn owner(&self, pid: Option<i64>, lock: Option<String>) -> Result<Option<Owner>, RecordError> {
        match (pid, lock) {
            (Some(pid), Some(lock)) => {
                Ok(Some(Owner { pid: self.read("owner_pid", u32::try_from(pid).ok())?, lock }))
            }
            (None, None) => Ok(None),
            (Some(_), None) | (None, Some(_)) => self.read("owner_lock", None),
        }
    }

    fn slot(&self, number: Option<i64>, container: Option<String>) -> Result<Option<Slot>, RecordError> {
        match (number, container) {
            (Some(number), Some(container_id)) => {
                Ok(Some(Slot { number: self.read("slot_number", u32::try_from(number).ok())?, container_id }))
            }
            (None, None) => Ok(None),
            (Some(_), None) | (None, Some(_)) => self.read("container_id", None),
        }
    }

    fn outcome(&self, name: Option<&str>, detail: Option<&str>) -> Result<Option<Outcome>, RecordError> {
        match (name, detail) {
            (Some(name), Some(detail)) => self.read("outcome", json::outcome(name, detail)).map(Some),
            (None, None) => Ok(None),
            (Some(_), None) | (None, Some(_)) => self.read("outcome_detail", None),
        }
    }
}

impl RunRow {
    /// The run of this row with its artifacts.
    pub(crate) fn run(self, artifacts: Vec<ArtifactRow>, place: &Path) -> Result<Run, RecordError> {
        let reader = Reader { place, run: &self.id };
        let end = self.end(&reader, artifacts)?;
        let workspace = match &self.workspace_facts {
            Some(text) => Some(reader.read("workspace_facts", json::workspace(text))?),
            None => None,
        };
        Ok(Run {
            id: reader.id()?,
            labels: reader.labels(&self.labels)?,
            limits: reader.read("limits", json::limits(&self.limits))?,
            state: reader.state(&self.state)?,
            fence: reader.fence(self.attempt, self.epoch)?,
            owner: reader.owner(self.owner_pid, self.owner_lock)?,
            slot: reader.slot(self.slot_number, self.container_id)?,
            task: TaskRecord {
                command: arguments(&self.command),
                image: self.image,
                workspace: self.workspace.map(path),
                workdir: self.workdir,
                environment_names: reader.read("environment_names", json::value(&self.environment_names))?,
                outputs: reader.read("outputs", json::value(&self.outputs))?,
                secrets: reader.read("secrets", json::value(&self.secrets))?,
            },
            policy: PolicyRecord {
                name: self.policy_name,
                digest: self.policy_digest,
                asked: self.policy_asked,
                resolved: self.policy_resolved,
                effective: self.policy_effective,
            },
            workspace,
            image: self.image_id.map(|id| Image { id, repo_digest: self.image_repo_digest }),
            attestation: self.attestation,
            project: self.project,
            submitter: self.submitter,
            name: self.name,
            created_ms: self.created_ms,
            started_ms: self.started_ms,
            released_ms: self.released_ms,
            ended_ms: self.ended_ms,
            end,
        })
    }

    fn end(&self, reader: &Reader<'_>, artifacts: Vec<ArtifactRow>) -> Result<Option<End>, RecordError> {
        let Some(outcome) = reader.outcome(self.outcome.as_deref(), self.outcome_detail.as_deref())? else {
            return Ok(None);
        };
        let remarks = reader.read("remarks", self.remarks.as_deref().and_then(json::remarks))?;
        let usage = match &self.usage {
            Some(text) => Some(reader.read("usage", json::usage(text))?),
            None => None,
        };
        let mut kept = Vec::with_capacity(artifacts.len());
        for row in artifacts {
            kept.push(reader.read("artifacts", row.artifact())?);
        }
        Ok(Some(End {
            outcome,
            usage,
            output: OutputCounts {
                stdout_bytes: reader.read("stdout_bytes", count(self.stdout_bytes))?,
                stderr_bytes: reader.read("stderr_bytes", count(self.stderr_bytes))?,
                log_truncated: reader.read("log_truncated", self.log_truncated)?,
            },
            artifacts: kept,
            output_dir: self.output_dir.clone().map(path),
            unmatched: remarks.unmatched,
            dropped: remarks.dropped,
            dropped_count: remarks.dropped_count,
            changes: remarks.changes,
            network: remarks.network,
            redactions: remarks.redactions,
            exposures: remarks.exposures,
            full_mounts: remarks.full_mounts,
            timings: remarks.timings,
        }))
    }
}

impl ArtifactRow {
    fn artifact(self) -> Option<Artifact> {
        Some(Artifact {
            path: self.path,
            bytes: u64::try_from(self.bytes).ok()?,
            sha256: self.sha256.try_into().ok()?,
            mode: u32::try_from(self.mode).ok()?,
        })
    }
}

impl EgressRow {
    /// The entry of `run`.
    pub(crate) fn entry(self, run: &str, place: &Path) -> Result<Entry, RecordError> {
        let reader = Reader { place, run };
        let small = |field, value: Option<i64>| match value {
            Some(value) => reader.read(field, u16::try_from(value).ok()).map(Some),
            None => Ok(None),
        };
        let address = match &self.address {
            Some(text) => Some(reader.read("address", text.parse().ok())?),
            None => None,
        };
        let status = small("status", self.status)?;
        let request = self.method.zip(self.path).map(|(method, path)| RequestEntry {
            method,
            path,
            status,
            credential: self.credential,
        });
        Ok(Entry {
            at_ms: self.at_ms,
            name: self.name,
            port: small("port", self.port)?,
            address,
            rule: self.rule,
            verdict: reader.read("verdict", Verdict::from_word(&self.verdict))?,
            bytes_up: reader.read("bytes_up", count(Some(self.bytes_up)))?,
            bytes_down: reader.read("bytes_down", count(Some(self.bytes_down)))?,
            duration_ms: reader.read("duration_ms", count(Some(self.duration_ms)))?,
            request,
        })
    }
}

impl BriefRow {
    /// The list's entry.
    pub(crate) fn brief(self, place: &Path) -> Result<RunBrief, RecordError> {
        let reader = Reader { place, run: &self.id };
        Ok(RunBrief {
            id: reader.id()?,
            labels: reader.labels(&self.labels)?,
            state: reader.state(&self.state)?,
            outcome: reader.outcome(self.outcome.as_deref(), self.outcome_detail.as_deref())?,
            command: arguments(&self.command),
            name: self.name,
            image: self.image,
            policy_name: self.policy_name,
            created_ms: self.created_ms,
            released_ms: self.released_ms,
            ended_ms: self.ended_ms,
        })
    }
}

impl ListedRow {
    /// The page's entry.
    pub(crate) fn listed(self, place: &Path) -> Result<Listed, RecordError> {
        Ok(Listed { run: self.brief.brief(place)?, project: self.project })
    }
}

impl OwnedRow {
    /// The run and its owner; `None` while nobody has it.
    pub(crate) fn orphan(self, place: &Path) -> Result<Option<Orphan>, RecordError> {
        let reader = Reader { place, run: &self.id };
        let Some(owner) = reader.owner(self.owner_pid, self.owner_lock)? else { return Ok(None) };
        Ok(Some(Orphan {
            fence: reader.fence(self.attempt, self.epoch)?,
            state: reader.state(&self.state)?,
            owner,
            slot: reader.slot(self.slot_number, self.container_id)?,
        }))
    }
}

impl EventRow {
    /// The event of `run`.
    pub(crate) fn event(self, run: &str, place: &Path) -> Result<Event, RecordError> {
        let reader = Reader { place, run };
        Ok(Event {
            seq: reader.read("seq", u64::try_from(self.seq).ok())?,
            at_ms: self.at_ms,
            kind: reader.read("kind", EventKind::from_name(&self.kind))?,
            detail: self.detail,
        })
    }
}

/// A command as one column: each argument ends with a NUL, which none can contain.
pub(crate) fn command_bytes(command: &[Vec<u8>]) -> Result<Vec<u8>, RecordError> {
    let mut bytes = Vec::with_capacity(command.iter().map(|it| it.len() + 1).sum());
    for argument in command {
        if argument.contains(&0) {
            return Err(RecordError::NulInArgument);
        }
        bytes.extend_from_slice(argument);
        bytes.push(0);
    }
    Ok(bytes)
}

fn arguments(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut arguments: Vec<Vec<u8>> = bytes.split(|it| *it == 0).map(<[u8]>::to_vec).collect();
    // The last argument's NUL leaves an empty piece behind it.
    arguments.pop();
    arguments
}

fn path(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes))
}

fn count(value: Option<i64>) -> Option<u64> {
    value.and_then(|it| u64::try_from(it).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn a_command_is_read_back_exactly(
            command in proptest::collection::vec(proptest::collection::vec(1u8..=255, 0..20), 0..8),
        ) {
            let bytes = command_bytes(&command).expect("no NUL");
            proptest::prop_assert_eq!(arguments(&bytes), command);
        }
    }

    #[test]
    fn an_argument_with_a_nul_is_refused() {
        let refusal = command_bytes(&[b"a\0b".to_vec()]).expect_err("it has a NUL");
        assert!(refusal.to_string().contains("NUL"));
    }
}
