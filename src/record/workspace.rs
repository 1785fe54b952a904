//! What of a project went into the workspace of a run, and what stayed outside because it looks like a secret.

use crate::task::GitHistory;

/// Withheld entries that are named in a record; all of them are counted.
pub const WITHHELD_NAMED_MAX: usize = 1000;

/// How a workspace was filled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkspaceRecord {
    /// What of the repository went in.
    pub git: GitHistory,
    /// Files that were brought in although they look like secrets.
    pub included: Vec<String>,
    /// What stayed outside, the first thousand.
    pub withheld: Vec<Withheld>,
    /// How many stayed outside in all.
    pub withheld_count: u64,
}

/// A file or directory that looks like a secret and stayed outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withheld {
    /// Relative to the workspace, as bytes; a directory is one entry for all that is in it.
    pub path: Vec<u8>,
    /// What it looks like.
    pub reason: String,
    /// Whether git tracks it and its history went in: its content can be read there.
    pub in_history: bool,
}
