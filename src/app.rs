//! Floor 6: the only place that chooses adapters and joins them.

pub mod api;
pub mod attack;
pub mod backup;
pub mod broker;
pub mod changes;
pub mod demo;
pub mod doctor;
pub mod egress;
pub mod host;
pub mod join;
pub mod logs;
pub mod owner;
pub mod plan;
pub mod policy;
pub mod prepare;
pub mod project;
pub mod provision;
pub mod run;
pub mod secrets;
pub mod serve;
pub mod starter;
pub mod submission;
pub mod sweep;
pub mod trust;
pub mod upload;

use std::path::{Path, PathBuf};

use crate::container::EngineError;
use crate::policy::{ChoiceError, Denial, Overrides};
use crate::record::RecordError;
use crate::sandbox::workspace::WorkspaceError;
use crate::store::OpenError;
use crate::task::{GitHistory, OutputRequest, Published, SecretRequest};

/// What a caller wants to have run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunOrder {
    /// Policy by name or path; `None` is the default.
    pub policy: Option<String>,
    /// The flags that change a policy's amounts.
    pub overrides: Overrides,
    /// A name.
    pub name: Option<String>,
    /// Labels.
    pub labels: Vec<(String, String)>,
    /// Program and arguments; `None` is the project's own.
    pub command: Option<Vec<Vec<u8>>>,
    /// Image reference; `None` is the project's own.
    pub image: Option<String>,
    /// What becomes of the project's file.
    pub project_file: project::FileUse,
    /// What is copied in.
    pub workspace: WorkspaceChoice,
    /// What of the repository goes in with it.
    pub git: GitHistory,
    /// Files that look like secrets and are asked for.
    pub include_secrets: Vec<String>,
    /// Ports of the task that are asked for on the host's loopback.
    pub publish: Vec<Published>,
    /// Secrets of the store that are put inside.
    pub secrets: Vec<SecretRequest>,
    /// Working directory inside.
    pub workdir: Option<String>,
    /// Variables, in order.
    pub environment: Vec<(String, String)>,
    /// What comes out.
    pub outputs: Vec<OutputRequest>,
    /// Where it goes; `None` is `./aegis-out/<run>`.
    pub output_directory: Option<PathBuf>,
    /// What becomes of changes in the workspace.
    pub changes: Changes,
    /// Milliseconds between SIGTERM and SIGKILL.
    pub grace_ms: u64,
    /// Rows and columns, where the command gets a terminal.
    pub terminal: Option<(u16, u16)>,
}

/// What becomes of the changes that a task makes in its workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changes {
    /// They are kept, to be shown and brought in.
    Kept,
    /// They go with the sandbox.
    Dropped,
}

/// Which directory is copied in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkspaceChoice {
    /// None.
    None,
    /// This one.
    Directory(PathBuf),
    /// The project around the current directory, where there is one.
    Project,
}

/// Why a run could not even be accepted.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// No such policy, or mistakes in it.
    #[error(transparent)]
    Policy(#[from] ChoiceError),
    /// Mistakes in the operator's ceiling.
    #[error(transparent)]
    Ceiling(#[from] crate::policy::document::DocumentError),
    /// Policy says no.
    #[error("policy does not allow this run")]
    Denied(Vec<Denial>),
    /// The engine cannot raise the walls.
    #[error("this engine cannot enforce what policy demands")]
    Unenforceable(Vec<String>),
    /// The workspace cannot be copied in.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    /// The workspace's directory cannot be looked at again.
    #[error(transparent)]
    Root(#[from] crate::sandbox::changes::gather::RootError),
    /// A workspace that was uploaded cannot be used.
    #[error(transparent)]
    Upload(#[from] crate::sandbox::workspace::upload::UploadError),
    /// The outputs cannot be kept.
    #[error(transparent)]
    Outputs(#[from] crate::sandbox::outputs::OutputError),
    /// The project or its file cannot be used.
    #[error(transparent)]
    Project(#[from] project::ProjectError),
    /// An image cannot be fetched.
    #[error(transparent)]
    Pull(#[from] crate::docker::images::PullError),
    /// The server cannot listen.
    #[error(transparent)]
    Listen(#[from] crate::api::ListenError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The records cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The records cannot be written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Somebody ended it before it was accepted.
    #[error("cancelled before anything was started")]
    Cancelled(crate::task::Cancellation),
    /// A sweep took the run for a dead owner's.
    #[error("run {} was taken over by another process before it began: run it again", .0.short())]
    Superseded(crate::task::RunId),
    /// A secret, or the store of them.
    #[error(transparent)]
    Secret(#[from] crate::config::secrets::SecretError),
    /// A directory of ours cannot be used.
    #[error(transparent)]
    Directory(#[from] crate::config::DirectoryError),
    /// A backup cannot be written or brought back.
    #[error(transparent)]
    Backup(#[from] backup::BackupError),
    /// A port cannot be published.
    #[error(transparent)]
    Publish(#[from] crate::executor::publish::PublishError),
    /// The operator's configuration.
    #[error(transparent)]
    Operator(#[from] crate::config::operator::OperatorError),
    /// Authorities that the operator adds.
    #[error(transparent)]
    Roots(#[from] crate::gateway::roots::RootsError),
    /// The authority of the run.
    #[error(transparent)]
    Authority(#[from] crate::gateway::authority::AuthorityError),
    /// A credential that the rules name.
    #[error(
        "the credential `{name}` that the policy names cannot be used: {reason}; see `[credentials.{name}]` of the operator's configuration"
    )]
    Credential {
        /// Its name.
        name: String,
        /// Why.
        reason: String,
    },
    /// A place of ours cannot be used.
    #[error("{what} `{}` cannot be used", path.display())]
    Use {
        /// What it is.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file cannot be read.
    #[error("{what} `{}` cannot be read", path.display())]
    Read {
        /// What it is.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Reads a text file of at most `bytes_max` bytes. FIFOs and devices are refused: nothing here waits for a writer.
pub fn read_bounded(path: &Path, bytes_max: u64) -> Result<String, AppError> {
    let failed = |source| AppError::Read { what: "the file", path: path.to_owned(), source };
    let bytes = read_bytes(path, bytes_max).map_err(failed)?;
    String::from_utf8(bytes).map_err(|_| failed(std::io::Error::other("it is not UTF-8 text")))
}

/// The same for bytes.
pub fn read_bytes(path: &Path, bytes_max: u64) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    use std::os::unix::fs::OpenOptionsExt;

    let mut options = std::fs::OpenOptions::new();
    let nonblocking = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let file = options.read(true).custom_flags(nonblocking.bits() as i32).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(std::io::Error::other(format!("it is larger than the {bytes_max} bytes allowed")));
    }
    Ok(bytes)
}
