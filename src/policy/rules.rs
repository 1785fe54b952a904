//! The fields of a policy, resolved: every value is there, in one unit, in range.
//!
//! No `Default`: a policy that grants something says so.

use std::collections::{BTreeMap, BTreeSet};

use crate::policy::network::Network;

/// What a task may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Writable places and their sizes.
    pub filesystem: Filesystem,
    /// What its processes may do to each other.
    pub process: Process,
    /// Amounts.
    pub resources: Resources,
    /// What may come out after the end.
    pub outputs: Outputs,
    /// The way out.
    pub network: Network,
    /// Which images may be run.
    pub images: Images,
    /// Names of the engine's runtimes that are accepted.
    pub runtimes: BTreeSet<String>,
    /// What may be put inside.
    pub secrets: Secrets,
}

/// Secrets of the user's store that may be put inside, by name; `*` is any. None by default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secrets {
    /// As files.
    pub files: BTreeSet<String>,
    /// As variables of the environment, where every child and every crash report sees them.
    pub environment: BTreeSet<String>,
}

/// What becomes of outputs that hold a known secret, stricter first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecretOutputs {
    /// A file with one does not come out.
    Block,
    /// It comes out, and the run says so.
    Report,
}

/// Writable places. Sizes in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filesystem {
    /// What carries the workspace.
    pub workspace: WorkspaceMedium,
    /// Size of the workspace.
    pub workspace_bytes: u64,
    /// Entries of the workspace at the most, on the way in.
    pub workspace_files: u64,
    /// Size of `/tmp`.
    pub tmp_bytes: u64,
    /// Size of the home directory.
    pub home_bytes: u64,
    /// Size of `/run`.
    pub run_bytes: u64,
    /// Size of `/dev/shm`.
    pub shm_bytes: u64,
    /// Globs of files that look like secrets and may be brought in; `**` is any. None by default.
    pub include_secrets: BTreeSet<String>,
}

/// What carries a workspace, stricter first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WorkspaceMedium {
    /// No workspace may be given.
    None,
    /// A tmpfs of the sandbox's own.
    Memory,
    /// Layers on the host's disk that are made for this sandbox: larger, and bounded by a watchdog, not by the kernel.
    Disk,
}

/// What the task's processes may do to each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Whether they may trace each other (debuggers, sanitizers).
    pub ptrace: bool,
}

/// Amounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resources {
    /// Memory of the processes, bytes; the tmpfs sizes come on top.
    pub memory_bytes: u64,
    /// CPUs in thousandths.
    pub cpus_milli: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Open files per process: where it starts.
    pub nofile_soft: u64,
    /// Open files per process: where it ends.
    pub nofile_hard: u64,
    /// Wall time from release, milliseconds.
    pub wall_time_ms: u64,
    /// Bytes of standard output and error together.
    pub output_bytes: u64,
}

/// Bounds of what is collected after the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outputs {
    /// Content bytes, by apparent size.
    pub bytes: u64,
    /// Files, directories and links.
    pub entries: u64,
    /// Directory levels.
    pub depth: u64,
    /// What becomes of a file that holds a known secret.
    pub secrets: SecretOutputs,
}

/// Which images may be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    /// When the engine may fetch one.
    pub pull: Pull,
    /// Every set must have a glob that matches the reference: a policy writes one set, a meet keeps both.
    pub allow: BTreeSet<BTreeSet<String>>,
    /// Whether the reference must carry a digest.
    pub require_digest: bool,
    /// References that must still be these image ids (`sha256:…`); a tag that moved is refused. A meet that joins two
    /// different ids keeps both, which nothing satisfies.
    pub pins: BTreeMap<String, BTreeSet<String>>,
}

/// When the engine may fetch an image, stricter first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pull {
    /// Not at all.
    Never,
    /// When it is not there.
    Missing,
    /// At every run.
    Always,
}
