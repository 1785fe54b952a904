//! Worker hosts, as administrators see them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A host that takes runs.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkerJson {
    /// Its name.
    pub name: String,
    /// What it offers.
    pub labels: BTreeMap<String, String>,
    /// Runs that it takes at once.
    pub capacity: u32,
    /// Runs that it has now.
    pub running: u64,
    /// `taking`, or `draining`: an operator wants it to take nothing more.
    pub standing: String,
    /// Whether it was heard of in the last 30 s.
    pub living: bool,
    /// Milliseconds since it was heard of.
    pub seen_ago_ms: u64,
}

/// Every worker that is known.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkersJson {
    /// The workers, by name.
    pub workers: Vec<WorkerJson>,
}
