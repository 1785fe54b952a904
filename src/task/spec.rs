//! What was asked for: one command and everything it needs, before policy has looked at it.

use std::path::PathBuf;

/// A task as its caller wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskSpec {
    /// A name that people gave it, shown in lists.
    pub name: Option<String>,
    /// Labels that people gave it.
    pub labels: Vec<(String, String)>,
    /// Program and arguments, as bytes; at least the program.
    pub command: Vec<Vec<u8>>,
    /// The image reference as typed.
    pub image: String,
    /// Where the workspace's content comes from.
    pub workspace: WorkspaceSource,
    /// Working directory inside the sandbox; `None` is the workspace, or the home directory without one.
    pub workdir: Option<String>,
    /// Variables of `-e` and `--env-file`, in order; later ones win.
    pub environment: Vec<(String, String)>,
    /// What comes out after the end.
    pub outputs: Vec<OutputRequest>,
}

/// Where a workspace comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkspaceSource {
    /// No workspace.
    None,
    /// A copy of this directory, absolute.
    Directory(PathBuf),
}

/// One `--output`: a glob, relative to the workspace or absolute inside the sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputRequest {
    /// The pattern as typed.
    pub pattern: String,
}
