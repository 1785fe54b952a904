//! How a run ended: its outcome and what is counted beside it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::record::egress::Counts;
use crate::task::Outcome;

/// Everything that is kept of an end.
#[derive(Debug, Clone, PartialEq)]
pub struct End {
    /// The one outcome.
    pub outcome: Outcome,
    /// What the sandbox used; `None` if init never told.
    pub usage: Option<Usage>,
    /// What the task wrote.
    pub output: OutputCounts,
    /// Files that came out.
    pub artifacts: Vec<Artifact>,
    /// Where they are; `None` if nothing was to come out.
    pub output_dir: Option<PathBuf>,
    /// Patterns that matched nothing.
    pub unmatched: Vec<String>,
    /// What was left out, the first thousand.
    pub dropped: Vec<Dropped>,
    /// How many were left out in all.
    pub dropped_count: u64,
    /// What the task changed in its workspace; `None` if nobody looked.
    pub changes: Option<ChangeCounts>,
    /// What went out and what was refused; `None` if there was no way out.
    pub network: Option<Counts>,
    /// How often each known secret was kept out of what the task wrote, by name.
    pub redactions: BTreeMap<String, u64>,
    /// Files that came out, or would have, with a known secret in content or name.
    pub exposures: Vec<Exposure>,
    /// Writable mounts that were seen full, by mount point.
    pub full_mounts: Vec<String>,
    /// How long each phase took, microseconds, in order.
    pub timings: Vec<(Phase, u64)>,
}

impl End {
    /// An end of which nothing but the outcome is known.
    pub fn bare(outcome: Outcome) -> Self {
        Self {
            outcome,
            usage: None,
            output: OutputCounts { stdout_bytes: 0, stderr_bytes: 0, log_truncated: false },
            artifacts: Vec::new(),
            output_dir: None,
            unmatched: Vec::new(),
            dropped: Vec::new(),
            dropped_count: 0,
            changes: None,
            network: None,
            redactions: BTreeMap::new(),
            exposures: Vec::new(),
            full_mounts: Vec::new(),
            timings: Vec::new(),
        }
    }
}

/// What a sandbox used; `None` where the kernel did not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// From release to the end, microseconds.
    pub wall_us: u64,
    /// User CPU time, microseconds.
    pub cpu_user_us: u64,
    /// System CPU time, microseconds.
    pub cpu_system_us: u64,
    /// Peak memory, bytes, tmpfs included.
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

impl From<aegis_init::wire::Usage> for Usage {
    fn from(told: aegis_init::wire::Usage) -> Self {
        Self {
            wall_us: told.wall_us,
            cpu_user_us: told.cpu_user_us,
            cpu_system_us: told.cpu_system_us,
            memory_peak_bytes: told.memory_peak_bytes,
            pids_peak: told.pids_peak,
            pids_limit_hits: told.pids_limit_hits,
            oom_kills: told.oom_kills,
            written_bytes_peak: told.written_bytes_peak,
        }
    }
}

/// What a task wrote to its streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputCounts {
    /// Bytes of standard output (of a terminal: all of it).
    pub stdout_bytes: u64,
    /// Bytes of standard error.
    pub stderr_bytes: u64,
    /// Whether the log holds less than was written.
    pub log_truncated: bool,
}

/// A stream of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output; of a terminal, everything.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A file that came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// Relative to the output directory, as bytes.
    pub path: Vec<u8>,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its content.
    pub sha256: [u8; 32],
    /// Permission bits.
    pub mode: u32,
}

/// A file of the outputs or changes that holds a known secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposure {
    /// Its path inside, as bytes, without the secret.
    pub path: Vec<u8>,
    /// The secret's name.
    pub secret: String,
    /// What became of the file.
    pub kept: Kept,
}

/// Whether a file came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It did.
    Out,
    /// It stayed inside.
    In,
}

/// A thing that was declared and did not come out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// Its path inside the sandbox, as bytes.
    pub path: Vec<u8>,
    /// Why, in a few words.
    pub reason: String,
}

/// How much a task changed in its workspace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChangeCounts {
    /// New entries.
    pub added: u64,
    /// Entries that were something else.
    pub modified: u64,
    /// Entries that are gone.
    pub deleted: u64,
    /// Entries that no change can be made of.
    pub skipped: u64,
    /// Changes in places that the workspace leaves out.
    pub left_out: u64,
    /// Whether these are all.
    pub complete: bool,
    /// Why nothing of them is kept; `None` where they are.
    pub failure: Option<String>,
}

impl ChangeCounts {
    /// How many changes are kept.
    pub fn total(&self) -> u64 {
        self.added.saturating_add(self.modified).saturating_add(self.deleted)
    }
}

/// A phase of an attempt whose time is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Policy and engine checks.
    Admission,
    /// Finding, building or pulling the image.
    Image,
    /// The engine's create call.
    Create,
    /// The engine's start call, until init's report.
    Start,
    /// Comparing the evidence.
    Attestation,
    /// Copying the workspace in.
    Workspace,
    /// From the release message to the command's start.
    Release,
    /// The command.
    Run,
    /// From the release message to the first byte of output that the host saw; not there where there was none. It lies
    /// across the phases around it.
    FirstOutput,
    /// Copying outputs out.
    Outputs,
    /// Ending the sandbox.
    Removal,
    /// Everything, from the call to the outcome.
    Total,
}

impl Phase {
    /// Every phase, in order.
    pub const ALL: [Self; 12] = [
        Self::Admission,
        Self::Image,
        Self::Create,
        Self::Start,
        Self::Attestation,
        Self::Workspace,
        Self::Release,
        Self::Run,
        Self::FirstOutput,
        Self::Outputs,
        Self::Removal,
        Self::Total,
    ];

    /// The word for it in records and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Admission => "admission",
            Self::Image => "image",
            Self::Create => "create",
            Self::Start => "start",
            Self::Attestation => "attestation",
            Self::Workspace => "workspace",
            Self::Release => "release",
            Self::Run => "run",
            Self::FirstOutput => "first_output",
            Self::Outputs => "outputs",
            Self::Removal => "removal",
            Self::Total => "total",
        }
    }

    /// The phase with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }
}
