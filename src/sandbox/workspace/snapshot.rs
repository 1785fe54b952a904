//! Snapshots of workspaces: a tree that lies below the workspaces of repeated runs, read-only, so that only what changed
//! since is read and sent. A task never writes an inode of it, and it is never an inode of the caller's.
//!
//! ```text
//! <work>/trees/lock               held while a snapshot is chosen or made
//! <work>/trees/<n>.<key>/         the key is of the workspace's path, n gives the user that it belongs to
//! <work>/trees/<n>.<key>/lock     held by the one run that uses it
//! <work>/trees/<n>.<key>/tree/    the lower layer
//! <work>/trees/<n>.<key>/manifest what is in it
//! ```
//!
//! The user of a snapshot's tree is the user of the sandbox over it, so one sandbox at a time uses it; another one of the
//! same project gets a whole copy.

mod compare;
mod manifest;
mod pack;
mod shelf;

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::sandbox::disk_use::{self, RESERVE_BYTES};
use crate::sandbox::workspace::{Plan, WorkspaceError};

use manifest::Manifest;

pub use compare::Changes;
pub use pack::PackError;
pub use shelf::{Kept, kept};

/// Files of a workspace below which a copy is as quick.
const FILES_MIN: u64 = 200;
/// A snapshot is packed anew where more than one part in this many of it changed.
const CHANGED_PART: u64 = 4;

/// A snapshot in use. Dropped, another run may use it.
#[derive(Debug)]
pub struct Base {
    /// The lower layer.
    pub tree: PathBuf,
    /// User and group id that it belongs to.
    pub uid: u32,
    /// Bytes that it takes.
    pub bytes: u64,
    _lock: OwnedFd,
}

/// What a workspace on disk begins with.
#[derive(Debug)]
pub enum Ground {
    /// Nothing: everything is sent.
    Empty,
    /// A snapshot, and what changed since.
    Snapshot(Base, Changes),
}

/// Chooses the ground for a plan of `root` that was made at `seen_s`, seconds since the epoch. Makes a snapshot where
/// there is none or too much of it changed.
pub fn ground(work: &Path, root: &Path, plan: &Plan, seen_s: i64) -> Result<Ground, WorkspaceError> {
    let entries = plan.summary.files + plan.summary.directories + plan.summary.symlinks;
    if plan.summary.files < FILES_MIN || !has_room(work, plan.bytes()) {
        return Ok(Ground::Empty);
    }
    let root = root.as_os_str().as_bytes();
    // A snapshot saves time and nothing else: without one everything is sent.
    let Ok(Some(place)) = shelf::take(work, root) else { return Ok(Ground::Empty) };
    let boot = boot_id();
    if let Some(manifest) = place.manifest().filter(|it| it.root == root && it.boot == boot) {
        let changes = compare::compare(&manifest, plan);
        if changes.count <= entries / CHANGED_PART && changes.bytes <= manifest.bytes / CHANGED_PART {
            return Ok(Ground::Snapshot(place.base(manifest.bytes), changes));
        }
    }
    let manifest = Manifest::of(plan, root, &boot, seen_s);
    match place.pack(plan, &manifest) {
        Ok(()) => {
            let changes = compare::compare(&manifest, plan);
            Ok(Ground::Snapshot(place.base(manifest.bytes), changes))
        }
        Err(PackError::Workspace(error)) => Err(error),
        Err(PackError::Write(error)) => {
            tracing::warn!(%error, "no snapshot of the workspace could be made; all of it is copied");
            Ok(Ground::Empty)
        }
    }
}

/// Whether the disk takes a second tree, and a task after it.
fn has_room(work: &Path, bytes: u64) -> bool {
    disk_use::left_bytes(work).is_ok_and(|left| left > bytes.saturating_mul(2).saturating_add(RESERVE_BYTES))
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

fn io_error(error: rustix::io::Errno) -> io::Error {
    error.into()
}
