//! What came out of a run, as the server tells of it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::report::json::{ArtifactJson, DroppedJson};

/// The files that came out of a run. There are none before it has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FilesJson {
    /// The files: path (escaped), size, digest and mode.
    #[schema(value_type = Vec<Object>)]
    pub files: Vec<ArtifactJson>,
    /// Patterns that matched nothing.
    pub unmatched: Vec<String>,
    /// What was left out, the first thousand.
    #[schema(value_type = Vec<Object>)]
    pub dropped: Vec<DroppedJson>,
    /// How many were left out in all.
    pub dropped_count: u64,
}
