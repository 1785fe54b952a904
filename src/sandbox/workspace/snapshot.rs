//! Snapshots of workspaces: a tree that lies below the workspaces of repeated runs, read-only, so that only what changed
//! since is read and sent. A task never writes an inode of it, and it is never an inode of the caller's.
//!
//! ```text
//! <work>/trees/lock               held while a snapshot is chosen or made
//! <work>/trees/<n>.<key>/         the key is of the workspace's path, n gives the user that it belongs to
//! <work>/trees/<n>.<key>/lock     held by the one run that uses it
//! <work>/trees/<n>.<key>/tree/    the lower layer
//! <work>/trees/<n>.<key>/manifest what is in it
//! <state>/trees/<n>.<key>/…       the same for workspaces in memory, with the file `messages` in the place of a tree
//! ```
//!
//! The user of a snapshot's tree is the user of the sandbox over it, so one sandbox at a time uses it; another one of the
//! same project gets a whole copy.

mod compare;
mod frames;
mod manifest;
mod pack;
mod shelf;

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, statat};

use crate::sandbox::beneath;
use crate::sandbox::disk_use::{self, RESERVE_BYTES};
use crate::sandbox::outputs::path::SafePath;
use crate::sandbox::workspace::{Plan, What, WorkspaceError};

use compare::Medium;
use manifest::Manifest;
use shelf::Place;

pub use compare::Changes;
pub use pack::PackError;
pub use shelf::{Kept, kept};

/// Files of a workspace below which a copy is as quick.
const FILES_MIN: u64 = 200;
/// The same for messages that are kept; a file that is large is read as quickly as they are.
const REPLAYED_FILES_MIN: u64 = 1_000;
/// Bytes of a file at the mean, at the most.
const REPLAYED_BYTES_MEAN_MAX: u64 = 64 * 1024;
/// Bytes of messages at the most.
const REPLAYED_BYTES_MAX: u64 = 512 * 1024 * 1024;
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

/// Messages of an earlier run, as they are sent.
#[derive(Debug)]
pub struct Messages {
    /// The file; whatever its name becomes, it stays what it is.
    pub file: File,
    /// Its size.
    pub bytes: u64,
}

/// Chooses the ground for a plan of `root` that was made at `seen_s`, seconds since the epoch, for a workspace on disk.
/// Makes a snapshot where there is none or too much of it changed.
pub fn ground(work: &Path, root: &Path, plan: &Plan, seen_s: i64) -> Result<Ground, WorkspaceError> {
    if plan.summary.files < FILES_MIN || !has_room(work, plan.bytes()) {
        return Ok(Ground::Empty);
    }
    // A snapshot saves time and nothing else: without one everything is sent.
    let Ok(Some(place)) = shelf::take(work, root.as_os_str().as_bytes()) else { return Ok(Ground::Empty) };
    if !place.sees_marks() {
        return Ok(Ground::Empty);
    }
    let make = |place: &Place| pack::pack(plan, &place.tree()?, place.uid);
    Ok(match settle(&place, (root, plan, seen_s), Medium::Tree, make)? {
        Some((bytes, changes)) => Ground::Snapshot(place.base(bytes), changes),
        None => Ground::Empty,
    })
}

/// Where the messages of an earlier run may lie, for a workspace in memory.
#[derive(Debug)]
pub struct Replay {
    /// The state directory.
    pub state: PathBuf,
    /// The workspace.
    pub root: PathBuf,
    /// When its plan was made, seconds since the epoch.
    pub seen_s: i64,
}

impl Replay {
    /// The messages with what changed since; `None` where everything is sent. Makes them where there are none or too much
    /// changed.
    pub fn messages(&self, plan: &Plan) -> Result<Option<(Messages, Changes)>, WorkspaceError> {
        let Self { state, root, seen_s } = self;
        let files = plan.summary.files;
        let small = plan.bytes() <= (files * REPLAYED_BYTES_MEAN_MAX).min(REPLAYED_BYTES_MAX);
        if files < REPLAYED_FILES_MIN || !small || !has_room(state, plan.bytes()) {
            return Ok(None);
        }
        let Ok(Some(place)) = shelf::take(state, root.as_os_str().as_bytes()) else { return Ok(None) };
        let write = |place: &Place| frames::write(plan, &place.messages());
        let Some((_, changes)) = settle(&place, (root, plan, *seen_s), Medium::Messages, write)? else {
            return Ok(None);
        };
        let Ok(file) = File::open(place.messages()) else { return Ok(None) };
        let Ok(bytes) = file.metadata().map(|it| it.len()) else { return Ok(None) };
        place.used();
        Ok(Some((Messages { file, bytes }, changes)))
    }
}

/// Bytes of what a place holds and what changed since, once it holds what it should; `None` if it cannot be made to.
fn settle(
    place: &Place,
    (root, plan, seen_s): (&Path, &Plan, i64),
    medium: Medium,
    make: impl FnOnce(&Place) -> Result<(), PackError>,
) -> Result<Option<(u64, Changes)>, WorkspaceError> {
    let boot = boot_id();
    let path = root.as_os_str().as_bytes();
    if let Some(manifest) = place.manifest().filter(|it| it.root == path && it.boot == boot) {
        let changes = compare::compare(&manifest, plan, medium);
        let entries = plan.summary.files + plan.summary.directories + plan.summary.symlinks;
        let few = changes.count <= entries / CHANGED_PART && changes.bytes <= manifest.bytes / CHANGED_PART;
        if few && !leaves_out(root, plan, &changes) {
            return Ok(Some((manifest.bytes, changes)));
        }
    }
    let manifest = Manifest::of(plan, path, &boot, seen_s);
    match place.lay(&manifest, make) {
        Ok(()) => Ok(Some((manifest.bytes, compare::compare(&manifest, plan, medium)))),
        Err(PackError::Workspace(error)) => Err(error),
        Err(PackError::Write(error)) => {
            tracing::warn!(%error, "no snapshot of the workspace could be made; all of it is copied");
            Ok(None)
        }
    }
}

/// Whether something that was packed is still there and is not taken any more, or not as it is: a rule or a flag leaves it
/// out now, and then it is not to lie below either.
fn leaves_out(root: &Path, plan: &Plan, changes: &Changes) -> bool {
    let mut come = HashSet::new();
    for it in &changes.directories {
        let directory = &plan.directories[it.directory];
        if it.new {
            come.insert(directory.to.clone());
        }
        for item in it.items.iter().map(|number| &directory.items[*number]) {
            if !matches!(item.what, What::Text(_)) {
                come.insert(beneath::join(&directory.to, &item.name));
            }
        }
    }
    let mut gone =
        changes.gone.iter().filter(|it| !it.directory && !it.text && !come.contains(&it.path)).peekable();
    if gone.peek().is_none() {
        return false;
    }
    let Ok(root) = File::open(root) else { return true };
    gone.any(|it| is_there(root.as_fd(), &it.path))
}

/// Whether the workspace itself has this path: what a link on the way leads to is something else.
fn is_there(root: BorrowedFd<'_>, path: &[u8]) -> bool {
    let Ok((parent, name)) = SafePath::parse(path).map(SafePath::split) else { return true };
    let found = beneath::directory(root, parent).and_then(|it| statat(it, name, AtFlags::SYMLINK_NOFOLLOW));
    found.is_ok()
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
