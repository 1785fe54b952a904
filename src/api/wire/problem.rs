//! The one form of an error.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Why a request was refused or failed (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProblemJson {
    /// Always `about:blank`: `code` tells them apart.
    pub r#type: String,
    /// The status in words.
    pub title: String,
    /// The status.
    pub status: u16,
    /// A word for programs.
    pub code: String,
    /// One sentence for people.
    pub message: String,
    /// Under which the server's log has more.
    pub request_id: String,
    /// Fields that are wrong.
    pub errors: Vec<FieldProblemJson>,
}

/// A field that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FieldProblemJson {
    /// Its path in the request, or the policy's field.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}
