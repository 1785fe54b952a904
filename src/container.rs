//! Floor 2: the port to a container engine. One fixed shape of container and the verbs that make, watch and end it.
//!
//! The shape has no field for privileges, host namespaces, devices or writable binds: what cannot be said cannot
//! be asked for. Engines of one kind only (`docker`) implement it today; tests stand a real one behind a proxy.

pub mod description;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;

/// Bytes that a process may lock in memory; the engine's own default would be the host's.
pub const MEMLOCK_BYTES: u64 = 8 * 1024 * 1024;
/// Bytes in POSIX message queues, the kernel's own default.
pub const MSGQUEUE_BYTES: u64 = 819_200;

/// Everything the engine is told about one sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSpec {
    /// The container's name.
    pub name: String,
    /// Image id, `sha256:…`; never a tag.
    pub image_id: String,
    /// Program and arguments of PID 1.
    pub entrypoint: Vec<String>,
    /// Variables of the image that init must not see, set to nothing.
    pub blanked_environment: Vec<String>,
    /// Labels, ours only.
    pub labels: BTreeMap<String, String>,
    /// Host name inside.
    pub hostname: String,
    /// User and group id, both numeric.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Runtime by name, as the engine knows it.
    pub runtime: String,
    /// Writable places, all in memory.
    pub tmpfs: Vec<Tmpfs>,
    /// Host paths, bound read-only.
    pub binds: Vec<Bind>,
    /// The authorities that programs inside trust, where they are not the image's own: a file for each form.
    pub bundles: Vec<TrustBundle>,
    /// The workspace, where it is on disk.
    pub workspace: Option<WorkspaceVolume>,
    /// The seccomp profile as JSON.
    pub seccomp: String,
    /// Paths that show nothing.
    pub masked_paths: Vec<String>,
    /// Kernel paths that cannot be written.
    pub readonly_paths: Vec<String>,
    /// Memory of the cgroup, swap included, bytes.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub pids: u64,
    /// CPUs in thousandths.
    pub cpus_milli: u64,
    /// Open files per process, soft.
    pub nofile_soft: u64,
    /// Open files per process, hard.
    pub nofile_hard: u64,
    /// Bytes of one file at the most.
    pub file_bytes: u64,
    /// Kernel parameters of the sandbox's own namespaces.
    pub sysctls: BTreeMap<String, String>,
}

/// A writable place in memory: nosuid, nodev.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tmpfs {
    /// Mount point, absolute.
    pub point: String,
    /// Bytes.
    pub bytes: u64,
    /// Files, directories and links.
    pub inodes: u64,
    /// Whether programs in it may be executed.
    pub exec: bool,
}

/// A host directory or file, bound read-only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// On the host, absolute.
    pub source: PathBuf,
    /// Inside, absolute.
    pub target: String,
}

/// A file of authorities, bound read-only over each place where programs look for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustBundle {
    /// On the host, absolute.
    pub source: PathBuf,
    /// Inside, absolute. What is a link there has the file on what it leads to.
    pub targets: Vec<String>,
    /// Where these lead in images in which they are links, absolute.
    pub behind_links: Vec<String>,
}

impl TrustBundle {
    /// Whether it may lie here.
    pub fn is_place(&self, point: &str) -> bool {
        self.targets.iter().chain(&self.behind_links).any(|it| it == point)
    }
}

/// A workspace on disk: an overlay of directories that were made for this one sandbox, nosuid and nodev. What the task
/// writes goes to `upper`; `lower` is never written. This is the only way in which a directory of the host can be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkspaceVolume {
    /// Mount point, absolute.
    pub point: String,
    /// What is there at the start, read-only.
    pub lower: PathBuf,
    /// What is written.
    pub upper: PathBuf,
    /// The kernel's own, on the same file system as `upper`.
    pub work: PathBuf,
}

/// What the engine says of itself, as far as a sandbox depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineFacts {
    /// Name and version, for people.
    pub description: String,
    /// The API version it speaks, (major, minor).
    pub api_version: (u32, u32),
    /// `1` or `2`.
    pub cgroup_version: String,
    /// What it enforces, as it names them: `seccomp`, `rootless`, `userns`, `apparmor`, ….
    pub security_options: Vec<String>,
    /// Names of its runtimes.
    pub runtimes: Vec<String>,
    /// Whether it limits processes.
    pub limits_pids: bool,
    /// Whether it limits memory.
    pub limits_memory: bool,
    /// Whether it limits swap.
    pub limits_swap: bool,
    /// Whether it limits CPU time.
    pub limits_cpu: bool,
}

/// What the engine knows of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageFacts {
    /// `sha256:…`.
    pub id: String,
    /// Digests under which a registry knows it; empty for one made here.
    pub repo_digests: Vec<String>,
    /// Tags.
    pub repo_tags: Vec<String>,
    /// `NAME=value`.
    pub environment: Vec<String>,
    /// Volumes that it declares.
    pub volumes: Vec<String>,
    /// Bytes on disk.
    pub size_bytes: u64,
    /// As the engine names it: `amd64`, ….
    pub architecture: String,
    /// As the engine names it: `linux`.
    pub os: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// When it was made, as the engine writes it.
    pub created: String,
}

/// A container as the engine's inspection shows it: the part that is compared with what was asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InspectedContainer {
    /// Its id.
    pub id: String,
    /// Image id.
    pub image_id: String,
    /// Host process id of PID 1; 0 where it does not run.
    pub pid: i64,
    /// Each setting that matters, by its field's name, as compact JSON.
    pub settings: BTreeMap<String, String>,
}

/// A container in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedContainer {
    /// Its id.
    pub id: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// `created`, `running`, `exited`, ….
    pub state: String,
    /// When it was made, seconds since the epoch.
    pub created_s: i64,
}

/// How far a pull has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullProgress {
    /// Bytes of all layers seen so far that are here.
    pub current_bytes: u64,
    /// Bytes of all layers seen so far.
    pub total_bytes: u64,
    /// What the engine is doing.
    pub status: String,
}

/// Why the engine did not do it.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Nothing answers.
    #[error("no container engine answers at `{address}`")]
    NotRunning {
        /// Where it was looked for.
        address: String,
        /// Why.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The socket is there and may not be opened.
    #[error("the engine's socket `{address}` may not be opened by this user")]
    PermissionDenied {
        /// The socket.
        address: String,
    },
    /// It is none that Aegis can use.
    #[error("the engine at `{address}` cannot be used: {reason}")]
    Unsupported {
        /// Where it is.
        address: String,
        /// Why, and what would help.
        reason: String,
    },
    /// The image is not there.
    #[error("the image `{image}` is not on this engine")]
    ImageNotFound {
        /// The reference or id.
        image: String,
    },
    /// The container is gone.
    #[error("the container `{container}` is not there any more")]
    ContainerNotFound {
        /// Its id.
        container: String,
    },
    /// It took too long.
    #[error("the engine did not answer within {seconds} s while asked to {verb}")]
    TimedOut {
        /// What was asked.
        verb: &'static str,
        /// The bound.
        seconds: u64,
    },
    /// It said no.
    #[error("the engine refused to {verb}: {message}")]
    Refused {
        /// What was asked.
        verb: &'static str,
        /// Its words, bounded, escaped.
        message: String,
    },
}

/// The verbs. Every one has a deadline of its own and returns an error when it passes.
pub trait Engine: Send + Sync {
    /// Whether it answers.
    fn ping(&self) -> impl Future<Output = Result<(), EngineError>> + Send;
    /// What it is.
    fn facts(&self) -> impl Future<Output = Result<EngineFacts, EngineError>> + Send;
    /// Each setting that a container of this shape is asked for, by its field's name, as compact JSON: what an
    /// inspection must show again.
    fn settings(&self, spec: &ContainerSpec) -> BTreeMap<String, String>;
    /// What an image is.
    fn image(&self, reference: &str) -> impl Future<Output = Result<ImageFacts, EngineError>> + Send;
    /// Makes a container and gives its id. The engine removes it when it has ended.
    fn create(&self, spec: &ContainerSpec) -> impl Future<Output = Result<String, EngineError>> + Send;
    /// Starts it.
    fn start(&self, container: &str) -> impl Future<Output = Result<(), EngineError>> + Send;
    /// What the engine says it made.
    fn inspect(
        &self,
        container: &str,
    ) -> impl Future<Output = Result<InspectedContainer, EngineError>> + Send;
    /// Kills and removes it, whatever its state; gone already is success.
    fn destroy(&self, container: &str) -> impl Future<Output = Result<(), EngineError>> + Send;
    /// Every container that carries this label.
    fn list(&self, label: &str) -> impl Future<Output = Result<Vec<ListedContainer>, EngineError>> + Send;
    /// Whether the kernel killed for memory in this container in the last minute, as the engine saw it.
    fn out_of_memory_seen(&self, container: &str) -> impl Future<Output = Result<bool, EngineError>> + Send;
}
