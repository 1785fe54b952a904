//! The door of a run that has no server: a socket in the runtime directory at which the owning process takes further
//! commands, cancels, and lets others wait for the end. Only the same user can reach it: the directory is 0700.

pub mod client;
pub mod service;
pub mod wire;

use std::path::{Path, PathBuf};

use crate::task::RunId;

/// The sockets' directory below the runtime directory.
const DIRECTORY: &str = "runs";

/// Where the owner of a run listens.
pub fn socket_path(runtime_directory: &Path, run: RunId) -> PathBuf {
    runtime_directory.join(DIRECTORY).join(run.short())
}
