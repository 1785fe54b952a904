//! A run with its client attached: how it begins, and how its end is told.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::wire::object;
use crate::api::wire::submit::SubmitJson;
use crate::report::json::RunJson;

/// A run whose streams are the client's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AttachJson {
    /// What is to be run. It has one attempt: what was lost with its streams is not begun anew.
    #[serde(deserialize_with = "object::one")]
    pub run: SubmitJson,
    /// Whether the client gives standard input. A terminal has one in any case.
    pub input: bool,
    /// The size of the client's terminal, where the command is to have one.
    #[serde(default, deserialize_with = "object::maybe")]
    pub terminal: Option<TerminalJson>,
}

/// The size of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TerminalJson {
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

/// The end of an attached run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndJson {
    /// The run, as it is recorded.
    pub run: RunJson,
    /// What a person is told of it, line by line.
    pub told: Vec<SaidJson>,
}

/// A line for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SaidJson {
    /// Whether it says what to do.
    pub is_hint: bool,
    /// The line.
    pub text: String,
}
