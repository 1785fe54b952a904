//! Projects, as they are read and set up.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::wire::object;

/// A project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProjectJson {
    /// Its name.
    pub name: String,
    /// What its runs may use together.
    #[serde(default, deserialize_with = "object::one")]
    pub quotas: QuotasJson,
    /// A policy that its runs may not exceed, TOML, within the server's own ceiling.
    #[serde(default)]
    pub ceiling: Option<String>,
    /// Images that its runs may use; without it those that policy allows.
    #[serde(default)]
    pub images: Option<Vec<String>>,
    /// Secrets of the server's store that its runs may be given; without it none.
    #[serde(default)]
    pub secrets: Option<Vec<String>>,
}

/// What the runs of a project may use together; what is left out is no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct QuotasJson {
    /// Runs at once.
    pub runs: Option<u64>,
    /// Runs that wait.
    pub queued: Option<u64>,
    /// CPU seconds a day (UTC).
    pub cpu_seconds_day: Option<u64>,
    /// Bytes of kept outputs.
    pub storage_bytes: Option<u64>,
}

/// The projects that a caller sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProjectsJson {
    /// By name.
    pub projects: Vec<ProjectJson>,
}

/// A sandbox that waits for a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SlotJson {
    /// Its number on its host.
    pub number: u32,
    /// The engine's id of its container.
    pub container_id: String,
    /// A few digits of what it can be used for.
    pub key: String,
    /// The image as it was named.
    pub image: String,
    /// The policy as it was named.
    pub policy: String,
    /// Milliseconds that it has waited.
    pub waited_ms: u64,
}

/// The sandboxes that wait on the server's host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SlotsJson {
    /// In no order.
    pub slots: Vec<SlotJson>,
}
