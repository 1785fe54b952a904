//! The published JSON of a run: what `--result` writes and `aegis show --json` prints, and the short form of a list.
//!
//! `docs/schemas/` holds the schemas; a test keeps them equal to these types. A field is added under the same number; one
//! that changes or goes makes a new one.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What the `schema` field of a result says.
pub const RESULT_SCHEMA: &str = "aegis.run/1";

/// A run. Text that a task or a caller chose (arguments, paths) is escaped: `\` is `\\`, and a byte that is not plain
/// UTF-8 text is `\xNN`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunJson {
    /// Always `aegis.run/1`.
    pub schema: String,
    /// The whole id.
    pub id: String,
    /// Its last 12 digits.
    pub short_id: String,
    /// A name that people gave it.
    pub name: Option<String>,
    /// Labels that people gave it.
    pub labels: BTreeMap<String, String>,
    /// `queued`, `leased`, `starting`, `running`, `finishing` or `done`.
    pub state: String,
    /// Which try, from 1.
    pub attempt: u32,
    /// Who ran it: `local`, the command that asked for it, or `server`.
    #[serde(default, rename = "where")]
    pub place: String,
    /// When it was accepted, RFC 3339.
    pub created_at: String,
    /// When its sandbox was begun.
    pub started_at: Option<String>,
    /// When its command was released.
    pub released_at: Option<String>,
    /// When it ended.
    pub ended_at: Option<String>,
    /// What was to be run.
    pub task: TaskJson,
    /// How its workspace was filled; `null` without one.
    pub workspace: Option<WorkspaceJson>,
    /// The image.
    pub image: ImageJson,
    /// What it might do.
    pub policy: PolicyJson,
    /// The amounts it might use.
    pub limits: LimitsJson,
    /// Its sandbox.
    pub sandbox: Option<SandboxJson>,
    /// How it ended; `null` while it goes on.
    pub outcome: Option<OutcomeJson>,
    /// The exit status of `aegis run` for it.
    pub exit_status: Option<u8>,
    /// What it used; `null` if the sandbox never told.
    pub usage: Option<UsageJson>,
    /// What it wrote.
    pub output: Option<OutputJson>,
    /// What came out.
    pub artifacts: Option<ArtifactsJson>,
    /// What the task changed in its workspace; `null` if nobody looked.
    #[serde(default)]
    pub changes: Option<ChangesJson>,
    /// What went out and what was refused; `null` if there was no way out.
    #[serde(default)]
    pub network: Option<NetworkJson>,
    /// How often each known secret was kept out of what the task wrote, by name.
    #[serde(default)]
    pub redactions: BTreeMap<String, u64>,
    /// Files of the outputs or changes that hold a known secret.
    #[serde(default)]
    pub exposures: Vec<ExposureJson>,
    /// Writable mounts that were seen full.
    pub full_mounts: Vec<String>,
    /// Microseconds of each phase.
    pub timings_us: BTreeMap<String, u64>,
    /// What the kernel showed before release, and how it compares.
    pub attestation: Option<Value>,
}

/// What was to be run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskJson {
    /// Program and arguments, escaped.
    pub command: Vec<String>,
    /// The directory whose copy is the workspace, escaped.
    pub workspace: Option<String>,
    /// Working directory inside, where one was asked for.
    pub workdir: Option<String>,
    /// Names of the variables that were given; their values are not kept.
    pub environment_names: Vec<String>,
    /// Patterns of the declared outputs.
    pub outputs: Vec<String>,
    /// Secrets that were put inside; their values are not kept.
    #[serde(default)]
    pub secrets: Vec<SecretJson>,
}

/// A secret that was put inside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretJson {
    /// Its name.
    pub name: String,
    /// Where: a path, or `env:NAME` for a variable.
    pub place: String,
}

/// A file of the outputs or changes that holds a known secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExposureJson {
    /// Its path inside, escaped.
    pub path: String,
    /// The secret's name.
    pub secret: String,
    /// Whether the file came out.
    pub came_out: bool,
}

/// What went out and what was refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkJson {
    /// Connections and requests that passed.
    pub allowed: u64,
    /// Names, connections and requests that were refused.
    pub denied: u64,
    /// Connections that were allowed and did not come about.
    pub failed: u64,
    /// Bytes from the task.
    pub bytes_up: u64,
    /// Bytes to the task.
    pub bytes_down: u64,
    /// Entries of the ledger beyond what is kept of a run.
    pub entries_dropped: u64,
}

/// How a workspace was filled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkspaceJson {
    /// What of the repository went in: `full`, `shallow` or `none`.
    pub git: String,
    /// Files that were brought in by name although they look like secrets.
    pub included_secrets: Vec<String>,
    /// What stayed outside because it looks like a secret, the first thousand.
    pub withheld: Vec<WithheldJson>,
    /// How many stayed outside in all.
    pub withheld_count: u64,
}

/// A file or directory that stayed outside because it looks like a secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WithheldJson {
    /// Relative to the workspace, escaped.
    pub path: String,
    /// What it looks like.
    pub reason: String,
    /// Whether git tracks it and its history went in, where it can be read.
    pub in_history: bool,
}

/// An image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageJson {
    /// As it was typed.
    pub reference: String,
    /// The id that was run, `sha256:…`; `null` until it is known.
    pub id: Option<String>,
    /// The digest that a registry knows it by; `null` if it was never pulled.
    pub repo_digest: Option<String>,
}

/// A policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyJson {
    /// Its name, or the path of its file.
    pub name: String,
    /// Digest of the effective policy.
    pub digest: String,
    /// What was asked for explicitly.
    pub asked: Value,
    /// What names and files stood for.
    pub resolved: Value,
    /// What was enforced, each value with its origin.
    pub effective: Value,
}

/// Amounts that a run may use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "each is named as in the policy, with its unit")]
pub struct LimitsJson {
    pub memory_bytes: u64,
    pub cpus_milli: u64,
    pub pids: u64,
    pub wall_time_ms: u64,
    pub output_bytes: u64,
    pub workspace_bytes: u64,
    pub tmp_bytes: u64,
    pub home_bytes: u64,
    pub run_bytes: u64,
    pub shm_bytes: u64,
}

/// The sandbox of the last attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SandboxJson {
    /// Slot number.
    pub slot: u32,
    /// The engine's id of the container.
    pub container_id: String,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, tag = "kind", rename_all = "snake_case")]
pub enum OutcomeJson {
    /// The command ended by itself.
    Exited {
        /// Its exit code.
        code: u8,
    },
    /// A signal ended the command.
    Signaled {
        /// The signal's number.
        signal: u8,
    },
    /// A clock ran out.
    TimedOut {
        /// `wall`.
        clock: String,
    },
    /// The kernel killed for memory.
    OutOfMemory {},
    /// More was written than the output limit.
    OutputLimit {},
    /// A writable mount was full, or a file too large.
    DiskLimit {
        /// `full`, `file_size`, `size` (a workspace on disk) or `host_space`.
        limit: String,
        /// The mount point, where one was full or too large.
        mount: Option<String>,
        /// What lay in a workspace on disk when it was seen above its limit: what the watchdog missed is in it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seen_bytes: Option<u64>,
    },
    /// Somebody ended it.
    Cancelled {
        /// `interrupt`, `terminate`, `command`, `deadline`, `dependency` or `client`.
        by: String,
    },
    /// It was not what policy demands; nothing of it ran.
    Refused {
        /// What differs, and who could allow it.
        differences: Vec<String>,
    },
    /// The command could not be started.
    StartFailed {
        /// `not_found`, `not_executable` or `infrastructure`.
        reason: String,
        /// What failed.
        message: String,
    },
    /// The sandbox or its engine went away.
    Lost {
        /// `init_died`, `engine` or `owner`.
        reason: String,
        /// What was seen.
        message: Option<String>,
    },
}

/// What a sandbox used; `null` where the kernel does not tell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UsageJson {
    /// From release to the end.
    pub wall_us: u64,
    /// User CPU time.
    pub cpu_user_us: u64,
    /// System CPU time.
    pub cpu_system_us: u64,
    /// Peak memory, tmpfs included.
    pub memory_peak_bytes: Option<u64>,
    /// Peak number of processes and threads.
    pub pids_peak: Option<u64>,
    /// How often the pids limit refused a fork.
    pub pids_limit_hits: Option<u64>,
    /// Processes that the kernel killed for memory.
    pub oom_kills: Option<u64>,
    /// Bytes in the writable mounts at their fullest.
    pub written_bytes_peak: u64,
}

/// What a task wrote to its streams.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutputJson {
    /// Bytes of standard output.
    pub stdout_bytes: u64,
    /// Bytes of standard error.
    pub stderr_bytes: u64,
    /// Whether the log holds less than was written.
    pub log_truncated: bool,
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArtifactsJson {
    /// Where the files are; `null` if nothing was to come out.
    pub directory: Option<String>,
    /// The files.
    pub files: Vec<ArtifactJson>,
    /// Patterns that matched nothing.
    pub unmatched: Vec<String>,
    /// What was left out, the first thousand.
    pub dropped: Vec<DroppedJson>,
    /// How many were left out in all.
    pub dropped_count: u64,
}

/// A file that came out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArtifactJson {
    /// Relative to the directory, escaped.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its content, hexadecimal.
    pub sha256: String,
    /// Permission bits, octal.
    pub mode: String,
}

/// A thing that was declared and did not come out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DroppedJson {
    /// Its path inside the sandbox, escaped.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// How much a task changed in its workspace: `aegis diff` shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangesJson {
    /// New entries.
    pub added: u64,
    /// Entries that were something else.
    pub modified: u64,
    /// Entries that are gone.
    pub deleted: u64,
    /// Entries that no change can be made of: FIFOs, sockets, devices, and what a limit kept away.
    pub skipped: u64,
    /// Changes in places that the workspace leaves out.
    pub left_out: u64,
    /// Whether these are all.
    pub complete: bool,
    /// Why nothing of them is kept; `null` where they are.
    pub failure: Option<String>,
}

/// A run in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BriefJson {
    /// The whole id.
    pub id: String,
    /// Its last 12 digits.
    pub short_id: String,
    /// A name that people gave it.
    pub name: Option<String>,
    /// Labels that people gave it.
    pub labels: BTreeMap<String, String>,
    /// Where it stands.
    pub state: String,
    /// How it ended.
    pub outcome: Option<OutcomeJson>,
    /// Program and arguments, escaped.
    pub command: Vec<String>,
    /// The image reference as typed.
    pub image: String,
    /// The policy's name.
    pub policy: String,
    /// When it was accepted, RFC 3339.
    pub created_at: String,
    /// When its command was released.
    pub released_at: Option<String>,
    /// When it ended.
    pub ended_at: Option<String>,
}
