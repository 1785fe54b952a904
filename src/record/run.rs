//! A run as it is kept: what was asked, what policy made of it, where it stands, how it ended.

use std::path::PathBuf;

use crate::policy::Policy;
use crate::record::{End, WorkspaceRecord};
use crate::task::{Outcome, RunId, RunState, TaskSpec, WorkspaceSource};

/// What proves that a writer still owns a run. A write under an older epoch is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fence {
    /// The run.
    pub run: RunId,
    /// The lease epoch, from 1.
    pub epoch: u64,
    /// The attempt, from 1.
    pub attempt: u32,
}

/// A run that is to be accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRun {
    /// Its id.
    pub id: RunId,
    /// A name that people gave it.
    pub name: Option<String>,
    /// Labels that people gave it.
    pub labels: Vec<(String, String)>,
    /// What is to be run.
    pub task: TaskRecord,
    /// How its workspace is filled; `None` without one.
    pub workspace: Option<WorkspaceRecord>,
    /// What it may do.
    pub policy: PolicyRecord,
    /// The amounts it may use.
    pub limits: Limits,
    /// Who runs it; `None` while it waits to be leased.
    pub owner: Option<Owner>,
    /// When it was accepted.
    pub created_ms: i64,
}

/// The part of a task that is kept. Values of the environment are not: they may be secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskRecord {
    /// Program and arguments.
    pub command: Vec<Vec<u8>>,
    /// The image reference as typed.
    pub image: String,
    /// The directory whose copy is the workspace.
    pub workspace: Option<PathBuf>,
    /// Working directory inside the sandbox, where one was asked for.
    pub workdir: Option<String>,
    /// Names of the variables that were given.
    pub environment_names: Vec<String>,
    /// Patterns of the declared outputs.
    pub outputs: Vec<String>,
    /// Secrets that were put inside: name and place (a path, or `env:NAME`). Values are not kept.
    pub secrets: Vec<(String, String)>,
}

impl TaskRecord {
    /// What is kept of this task.
    pub fn of(spec: &TaskSpec) -> Self {
        let workspace = match &spec.workspace {
            WorkspaceSource::None => None,
            WorkspaceSource::Directory(path) => Some(path.clone()),
        };
        Self {
            command: spec.command.clone(),
            image: spec.image.clone(),
            workspace,
            workdir: spec.workdir.clone(),
            environment_names: spec.environment.iter().map(|(name, _)| name.clone()).collect(),
            outputs: spec.outputs.iter().map(|it| it.pattern.clone()).collect(),
            secrets: spec.secrets.iter().map(|it| (it.name.clone(), it.place.shown())).collect(),
        }
    }
}

/// The policy of a run. The three documents are JSON text, shown as they are and never interpreted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyRecord {
    /// Its name, or the path of its file.
    pub name: String,
    /// Digest of the effective policy, `sha256:…`.
    pub digest: String,
    /// What was asked for, by whom.
    pub asked: String,
    /// What the names and files stood for.
    pub resolved: String,
    /// What is enforced, each value with its origin.
    pub effective: String,
}

/// The amounts that a run may use: what a summary compares the usage with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Memory of the processes, bytes.
    pub memory_bytes: u64,
    /// CPUs in thousandths.
    pub cpus_milli: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Wall time, milliseconds.
    pub wall_time_ms: u64,
    /// Standard output and error together, bytes.
    pub output_bytes: u64,
    /// The workspace, bytes.
    pub workspace_bytes: u64,
    /// `/tmp`, bytes.
    pub tmp_bytes: u64,
    /// The home directory, bytes.
    pub home_bytes: u64,
    /// `/run`, bytes.
    pub run_bytes: u64,
    /// `/dev/shm`, bytes.
    pub shm_bytes: u64,
}

impl Limits {
    /// The amounts of a policy.
    pub fn of(policy: &Policy) -> Self {
        Self {
            memory_bytes: policy.resources.memory_bytes,
            cpus_milli: policy.resources.cpus_milli,
            pids: policy.resources.pids,
            wall_time_ms: policy.resources.wall_time_ms,
            output_bytes: policy.resources.output_bytes,
            workspace_bytes: policy.filesystem.workspace_bytes,
            tmp_bytes: policy.filesystem.tmp_bytes,
            home_bytes: policy.filesystem.home_bytes,
            run_bytes: policy.filesystem.run_bytes,
            shm_bytes: policy.filesystem.shm_bytes,
        }
    }
}

/// A process that runs runs. It lives as long as it holds the lock; the pid is for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Its process id.
    pub pid: u32,
    /// The lock file's name below the state directory's `owners/`.
    pub lock: String,
}

/// The image that a reference stood for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// `sha256:…`.
    pub id: String,
    /// The digest that a registry knows it by; `None` if it was never pulled.
    pub repo_digest: Option<String>,
}

/// The sandbox of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Slot number of the instance.
    pub number: u32,
    /// The engine's id of the container. A container is bound once.
    pub container_id: String,
}

/// A run as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// A name that people gave it.
    pub name: Option<String>,
    /// Labels that people gave it.
    pub labels: Vec<(String, String)>,
    /// What was to be run.
    pub task: TaskRecord,
    /// How its workspace was filled; `None` without one.
    pub workspace: Option<WorkspaceRecord>,
    /// What it might do.
    pub policy: PolicyRecord,
    /// The amounts it might use.
    pub limits: Limits,
    /// Where it stands.
    pub state: RunState,
    /// The last attempt and its epoch.
    pub fence: Fence,
    /// Who has or had it.
    pub owner: Option<Owner>,
    /// Whose it is, where it came through the queue.
    pub project: Option<String>,
    /// Who submitted it, where it came through the queue.
    pub submitter: Option<String>,
    /// Known from `starting` on.
    pub image: Option<Image>,
    /// Known from the binding on.
    pub slot: Option<Slot>,
    /// What the kernel showed, JSON.
    pub attestation: Option<String>,
    /// When it was accepted.
    pub created_ms: i64,
    /// When its sandbox was begun.
    pub started_ms: Option<i64>,
    /// When its command was released.
    pub released_ms: Option<i64>,
    /// When it ended.
    pub ended_ms: Option<i64>,
    /// How it ended.
    pub end: Option<End>,
}

/// A run in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunBrief {
    /// Its id.
    pub id: RunId,
    /// A name that people gave it.
    pub name: Option<String>,
    /// Labels that people gave it.
    pub labels: Vec<(String, String)>,
    /// Program and arguments.
    pub command: Vec<Vec<u8>>,
    /// The image reference as typed.
    pub image: String,
    /// The policy's name.
    pub policy_name: String,
    /// Where it stands.
    pub state: RunState,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// When it was accepted.
    pub created_ms: i64,
    /// When its command was released.
    pub released_ms: Option<i64>,
    /// When it ended.
    pub ended_ms: Option<i64>,
}

/// Which runs a list shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunFilter {
    /// Those without an outcome.
    Active,
    /// Every one that is kept.
    All,
}

/// A run without an outcome whose owner is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// Under which it can be ended.
    pub fence: Fence,
    /// Where it stood.
    pub state: RunState,
    /// Who had it.
    pub owner: Owner,
    /// What it left behind.
    pub slot: Option<Slot>,
}
