//! Bringing changes into the caller's tree: everything is looked at first, a conflict applies nothing, and what fails on
//! the way is taken back. No link is followed, and nothing outside the tree is reached.

mod carry;
mod judge;
mod look;
mod staging;

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::Dir;
use rustix::io::Errno;

use crate::sandbox::changes::guard::{Guard, guard};
use crate::sandbox::changes::kept::KeptError;
use crate::sandbox::changes::{AfterKind, BeforeKind, Change, ChangeSet, Limit};
use crate::sandbox::outputs::path::SafePath;

pub use carry::{Applied, carry_out};

/// How the directory begins that holds contents on their way, at the top of the caller's tree.
pub const STAGING_PREFIX: &str = ".aegis-apply-";

/// What an apply would do.
#[derive(Debug)]
pub struct Plan<'a> {
    /// In path order.
    steps: Vec<Step<'a>>,
    /// The caller's mask: bits that a file does not have yet must pass it.
    umask: u32,
    /// What is not brought in unless it is named, with the reason.
    pub held: Vec<(&'a [u8], &'static str)>,
    /// Changes that the tree has already.
    pub already: u64,
    /// What stands against it; empty if it can be carried out.
    pub conflicts: Vec<Conflict>,
    /// Paths that were named and name no change.
    pub unmatched: Vec<Vec<u8>>,
}

impl<'a> Plan<'a> {
    /// What would be done, in path order.
    pub fn changes(&self) -> impl Iterator<Item = &'a Change> {
        self.steps.iter().map(|it| it.change)
    }
}

/// One change to be carried out.
#[derive(Debug)]
struct Step<'a> {
    change: &'a Change,
    /// What is there now.
    seen: look::Seen,
}

/// A change that cannot be brought in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Where.
    pub path: Vec<u8>,
    /// Why.
    pub why: ConflictKind,
}

/// What stands against a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConflictKind {
    /// It is not what the task was given.
    Changed,
    /// It is gone.
    Gone,
    /// Something the task was not given lies there.
    Taken,
    /// A link, or something else that is no directory, leads there.
    Blocked,
    /// The directory that it belongs to is not there.
    NoParent,
    /// It would take the place of a directory that holds more than the task was given.
    Occupied,
    /// It lies on another file system than the tree.
    OtherDevice,
    /// Its content was not kept.
    NoContent,
    /// The tree could not be looked at.
    Unreadable(Errno),
}

impl std::fmt::Display for ConflictKind {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Changed => "it changed here since the run was given it",
            Self::Gone => "it is gone here since the run was given it",
            Self::Taken => "something is here that the run was not given",
            Self::Blocked => "a link or a file leads there, and is not followed",
            Self::NoParent => "the directory that it belongs to is not here",
            Self::Occupied => "it takes the place of a directory that holds more than the run was given",
            Self::OtherDevice => "it lies on another file system than the workspace",
            Self::NoContent => "its content was not kept",
            Self::Unreadable(cause) => {
                return write!(out, "it cannot be looked at: {}", io::Error::from(*cause));
            }
        })
    }
}

/// Why nothing was applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The change set is not everything.
    #[error("these are not all changes of the run: {}", words(.limits))]
    Incomplete {
        /// What was reached.
        limits: Vec<Limit>,
    },
    /// The workspace is another directory by now.
    #[error("the workspace is not the directory any more that the run was given")]
    OtherRoot,
    /// An earlier one was interrupted.
    #[error(
        "an earlier apply was interrupted: `{name}` in the workspace holds what it moved, and its `journal` says from where; move back what is missing, and remove it"
    )]
    Interrupted {
        /// The directory.
        name: String,
    },
    /// The kept contents cannot be used.
    #[error(transparent)]
    Kept(#[from] KeptError),
    /// A step failed; all before it were taken back.
    #[error("`{path}` could not be brought in; the workspace is as it was")]
    Failed {
        /// Which, escaped.
        path: String,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A step failed, and not all could be taken back.
    #[error(
        "`{path}` could not be brought in, and not all of the rest could be taken back: `{staging}` in the workspace holds the former contents of {left} path(s), and its `journal` says from where"
    )]
    Torn {
        /// Which, escaped.
        path: String,
        /// The directory that holds them.
        staging: String,
        /// How many.
        left: usize,
        /// Why.
        #[source]
        cause: io::Error,
    },
}

fn words(limits: &[Limit]) -> String {
    limits.iter().map(|it| it.explained()).collect::<Vec<_>>().join(", and ")
}

/// Refuses a tree that is another one, or that an earlier apply left unfinished.
pub fn check_root(set: &ChangeSet, root: &OwnedFd) -> Result<(), ApplyError> {
    let now = rustix::fs::fstat(root).map_err(|_| ApplyError::OtherRoot)?;
    let now = crate::sandbox::workspace::base::Identity::of(&now);
    if (now.device, now.inode) != (set.root.device, set.root.inode) {
        return Err(ApplyError::OtherRoot);
    }
    let listing = Dir::read_from(root.as_fd()).map_err(|_| ApplyError::OtherRoot)?;
    for entry in listing.flatten() {
        let name = entry.file_name().to_bytes();
        if name.starts_with(STAGING_PREFIX.as_bytes()) {
            return Err(ApplyError::Interrupted { name: crate::task::escape::escape(name) });
        }
    }
    Ok(())
}

/// Looks at everything that is selected: all that needs no naming if no path is named. `umask` is the caller's.
pub fn plan<'a>(
    set: &'a ChangeSet,
    named: &[Vec<u8>],
    root: &OwnedFd,
    umask: u32,
) -> Result<Plan<'a>, ApplyError> {
    if named.is_empty() && !set.limits.is_empty() {
        return Err(ApplyError::Incomplete { limits: set.limits.clone() });
    }
    check_root(set, root)?;
    let mut plan = Plan {
        steps: Vec::new(),
        umask,
        held: Vec::new(),
        already: 0,
        conflicts: Vec::new(),
        unmatched: unmatched(set, named),
    };
    let selected = select(set, named, &mut plan.held);
    judge::judge(&selected, root, &mut plan);
    Ok(plan)
}

fn unmatched(set: &ChangeSet, named: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let missing = |name: &&Vec<u8>| !set.changes.iter().any(|it| lies_in(&it.path, name));
    named.iter().filter(missing).cloned().collect()
}

/// The changes that are to be brought in, in path order.
fn select<'a>(
    set: &'a ChangeSet,
    named: &[Vec<u8>],
    held: &mut Vec<(&'a [u8], &'static str)>,
) -> Vec<&'a Change> {
    let mut chosen = BTreeSet::new();
    for change in &set.changes {
        let by: Vec<&Vec<u8>> = named.iter().filter(|it| lies_in(&change.path, it)).collect();
        if !named.is_empty() && by.is_empty() {
            continue;
        }
        if let Some(reason) = reason_to_hold(change) {
            // A directory that is named brings its ordinary content; what is guarded has to be named itself.
            if reason.is_none() || !by.iter().any(|it| names_guarded(it, &change.path)) {
                held.push((&change.path, reason.unwrap_or("it is git's own, and never brought in")));
                continue;
            }
        }
        chosen.insert(change.path.as_slice());
        // A new directory on the way comes along.
        let mut path = change.path.as_slice();
        while change.after.is_some()
            && let Some(slash) = path.iter().rposition(|it| *it == b'/')
        {
            path = &change.path[..slash];
            chosen.insert(path);
        }
    }
    set.changes.iter().filter(|it| chosen.contains(it.path.as_slice())).collect()
}

/// `None`: nothing holds it. `Some(None)`: it is never brought in. Otherwise the reason why it has to be named.
fn reason_to_hold(change: &Change) -> Option<Option<&'static str>> {
    match guard(&change.path) {
        Some(Guard::Git) => return Some(None),
        Some(Guard::Named(reason)) => return Some(Some(reason)),
        None => {}
    }
    if let Some(after) = &change.after
        && let AfterKind::Symlink(target) = &after.kind
    {
        let inside = SafePath::parse(&change.path).is_ok_and(|it| it.may_link_to(target));
        if !inside {
            return Some(Some("it is a link that leads out of the workspace"));
        }
        if guard(target).is_some() {
            return Some(Some("it is a link to something that is not brought in unnamed"));
        }
    }
    None
}

fn names_guarded(name: &[u8], path: &[u8]) -> bool {
    name == path || guard(name).is_some()
}

/// Whether `path` is `name` or lies below it. The empty name is the whole tree.
pub fn lies_in(path: &[u8], name: &[u8]) -> bool {
    name.is_empty() || path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// The bits that were asked for, as far as they are there already or the caller's mask lets them through.
fn effective_mode(asked: u32, has: u32, umask: u32) -> u32 {
    asked & (!umask | has) & 0o777
}

/// Whether a change leaves something other than a directory in the place of a directory.
fn replaces_directory(change: &Change) -> bool {
    let was = matches!(change.before.as_ref().map(|it| &it.kind), Some(BeforeKind::Directory));
    let is = matches!(change.after.as_ref().map(|it| &it.kind), Some(AfterKind::Directory));
    was && !is && change.after.is_some()
}
