//! Runs as the server tells of them, beside the published object of one (`report/json.rs`).

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::report::json::BriefJson;

/// Which runs a list shows.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// `queued`, `leased`, `starting`, `running`, `finishing` or `done`.
    pub state: Option<String>,
    /// Only of this project.
    pub project: Option<String>,
    /// Only with this label, `KEY=VALUE`.
    pub label: Option<String>,
    /// Runs of one page: 1 to 200, 50 without it.
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// Which project is meant.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct ProjectQuery {
    /// Without it the caller's own, or `default`.
    pub project: Option<String>,
}

/// Which part of a log is wanted.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct LogQuery {
    /// Only this stream: `stdout` or `stderr`.
    pub stream: Option<String>,
    /// After so many entries; `Last-Event-ID` says the same.
    pub after: Option<u64>,
    /// Whether to go on until the run ends; `true` without it. Only for event streams.
    pub follow: Option<bool>,
}

/// Where the events go on.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct EventQuery {
    /// After this number; `Last-Event-ID` says the same.
    pub after: Option<u64>,
}

/// A page of runs, newest first.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RunsJson {
    /// The runs.
    #[schema(value_type = Vec<Object>)]
    pub runs: Vec<ListedJson>,
    /// For the next page; `null` on the last.
    pub next_cursor: Option<String>,
}

/// A run of a page.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListedJson {
    /// Whose it is; `null` for one that no server took.
    pub project: Option<String>,
    /// The run.
    pub run: BriefJson,
}

/// Something that happened to a run.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EventJson {
    /// Grows over all runs.
    pub seq: u64,
    /// When, RFC 3339.
    pub at: String,
    /// What.
    pub kind: String,
    /// More about it.
    #[schema(value_type = Object)]
    pub detail: serde_json::Value,
}

/// Bytes that a run wrote: one of `text` and `base64` is there.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LogChunkJson {
    /// `stdout` or `stderr`.
    pub stream: String,
    /// When the first of them came, RFC 3339.
    pub at: String,
    /// The bytes, where they are UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The bytes, where they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
}

/// The end of a log.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LogEndJson {
    /// Whether more was written than is kept.
    pub truncated: bool,
}

/// A request without content: `{}`.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EmptyJson {}

/// What became of a wish to end a run.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelledJson {
    /// `ended` (it waited), `asked` (its worker is told) or `over` (it had ended already).
    pub result: String,
}

/// The ledger of a run.
#[derive(Debug, Serialize, ToSchema)]
pub struct EgressJson {
    /// In the order in which it was kept.
    #[schema(value_type = Vec<Object>)]
    pub entries: Vec<crate::report::egress::EntryJson>,
}
