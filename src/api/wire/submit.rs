//! A run as it is submitted. Sizes and durations are written as on the command line: `1GiB`, `90s`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::wire::object;

/// A run that is to be queued.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SubmitJson {
    /// Program and arguments; at least the program. No shell reads them.
    #[schema(min_items = 1, required = true)]
    pub command: Vec<String>,
    /// Image reference; without it `aegis/base`.
    pub image: Option<String>,
    /// Whose it is to be; without it the caller's own, or `default`.
    pub project: Option<String>,
    /// A name, shown in lists.
    pub name: Option<String>,
    /// Labels, shown in lists.
    pub labels: BTreeMap<String, String>,
    /// A policy that the server knows by name; without it its default.
    pub policy: Option<String>,
    /// A policy of the submitter's own; not beside `policy`.
    #[serde(deserialize_with = "object::maybe")]
    pub policy_document: Option<PolicyDocumentJson>,
    /// What changes the policy's amounts.
    #[serde(deserialize_with = "object::one")]
    pub limits: LimitsAskedJson,
    /// When the engine may fetch the image: `missing`, `never` or `always`.
    pub pull: Option<String>,
    /// The engine's runtime.
    pub runtime: Option<String>,
    /// Hosts, each with its port or without, beside what the policy allows.
    pub allow_net: Vec<String>,
    /// Let every public name pass and record it.
    pub egress_audit: bool,
    /// Digest of an uploaded workspace, `sha256:…`; without it the workspace is empty.
    pub workspace: Option<String>,
    /// Working directory inside.
    pub workdir: Option<String>,
    /// Variables of the command's environment. Their values are forgotten when the run ends.
    pub environment: BTreeMap<String, String>,
    /// Secrets of the server's store: `NAME`, `NAME=FILE` or `NAME=env:VAR`.
    pub secrets: Vec<String>,
    /// What comes out, globs relative to the workspace.
    pub outputs: Vec<String>,
    /// Whether changes in the workspace are kept.
    pub keep_changes: bool,
    /// Time between SIGTERM and SIGKILL; without it `2s`.
    pub grace: Option<String>,
    /// When, how often and where it may be started.
    #[serde(deserialize_with = "object::one")]
    pub schedule: ScheduleJson,
}

/// A policy as a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyDocumentJson {
    /// Its name, for messages.
    pub name: String,
    /// TOML.
    pub text: String,
}

/// Amounts; what is left out is the policy's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsAskedJson {
    /// Memory, swap included, as `512MiB`.
    pub memory: Option<String>,
    /// CPUs, as `2` or `0.5`.
    pub cpus: Option<String>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Size of /tmp.
    pub tmp_size: Option<String>,
    /// Size of the workspace.
    pub workspace_size: Option<String>,
    /// Bytes of standard output and error together.
    pub output_limit: Option<String>,
    /// Wall time of the command, as `10m`.
    pub timeout: Option<String>,
}

/// When, how often and where a run may be started.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ScheduleJson {
    /// Higher goes first within a project: -100 to 100.
    #[schema(minimum = -100, maximum = 100)]
    pub priority: i16,
    /// Not before this time, RFC 3339.
    pub not_before: Option<String>,
    /// Not started after this time, RFC 3339.
    pub deadline: Option<String>,
    /// At most so many with the same key, in the same project, at once.
    #[serde(deserialize_with = "object::maybe")]
    pub concurrency: Option<ConcurrencyJson>,
    /// Starts when these have ended.
    #[serde(deserialize_with = "object::each")]
    pub after: Vec<DependencyJson>,
    /// May be started again although a sandbox may have begun to run it.
    pub idempotent: bool,
    /// Attempts at the most, those that were lost; without it 3.
    pub attempts_max: Option<u32>,
    /// How often a failure of the task itself is tried again.
    pub failure_retries: u32,
    /// Labels that a worker must have.
    pub worker_labels: BTreeMap<String, String>,
}

/// A key and how many runs may hold it at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConcurrencyJson {
    /// The key, within the project.
    pub key: String,
    /// Runs at once.
    #[schema(minimum = 1)]
    pub limit: u32,
}

/// A run that another waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DependencyJson {
    /// Its whole id, or `#N` for the N-th member of the same batch, from 0.
    pub run: String,
    /// Whether it must have exited with 0; otherwise any end will do.
    #[serde(default = "required")]
    pub success: bool,
}

fn required() -> bool {
    true
}

/// Runs that are queued together, or not at all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchJson {
    /// At most 1,000.
    #[schema(min_items = 1, max_items = 1000)]
    #[serde(deserialize_with = "object::each")]
    pub runs: Vec<SubmitJson>,
}

/// What a run is given again that is submitted anew.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetryJson {
    /// Every variable that the run had, with its value: values were forgotten when it ended.
    pub environment: BTreeMap<String, String>,
}

/// A run that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmittedJson {
    /// Its id.
    pub id: String,
    /// Its last 12 digits.
    pub short_id: String,
    /// Whether this request made it; otherwise an earlier one with the same key did.
    pub created: bool,
}

/// The runs of a batch, in its order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchSubmittedJson {
    /// The runs.
    pub runs: Vec<SubmittedJson>,
}
