//! What worker hosts and their server tell each other.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// The lease under which a worker has, or had, a run.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LeaseQuery {
    /// Number of the attempt.
    pub attempt: u32,
    /// Epoch of the lease.
    pub epoch: u64,
    /// The owner's lock, as the lease has it.
    pub owner: String,
}

/// The lease, and where a file's content goes on.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PartQuery {
    /// Number of the attempt.
    pub attempt: u32,
    /// Epoch of the lease.
    pub epoch: u64,
    /// The owner's lock, as the lease has it.
    pub owner: String,
    /// Bytes that the server has: the body follows them.
    pub offset: u64,
}

/// Entries of a log.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LogPieceJson {
    /// Entries that the server has.
    pub after: u64,
    /// Those that follow, base64: 16 bytes each and its content.
    pub entries: String,
}

/// How far the server's copy of a log has come.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LogStandsJson {
    /// Whether what was sent is in it; if not, it did not follow what the server has.
    pub added: bool,
    /// Entries that it has.
    pub entries: u64,
    /// Whether the log is at its end.
    pub complete: bool,
}

/// How far the server's copy of an output has come.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OutputStandsJson {
    /// Bytes that it has.
    pub bytes: u64,
    /// Whether it is whole and has the digest that the record names.
    pub complete: bool,
}
