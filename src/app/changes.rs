//! The changes of a run: looked up, compared with what it was given, brought into the caller's tree.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, statat};

use crate::config::Directories;
use crate::record::{Run, now_ms};
use crate::report::diff::{Content, FileDiff, Side};
use crate::sandbox::beneath;
use crate::sandbox::changes::apply::{self, Applied, ApplyError, Plan, lies_in};
use crate::sandbox::changes::gather::{RootError, open_root};
use crate::sandbox::changes::kept::{Kept, KeptError};
use crate::sandbox::changes::parcel::{self, ParcelError};
use crate::sandbox::changes::{After, AfterKind, Before, BeforeKind, Change, ChangeSet, Digest, Root};
use crate::sandbox::outputs::path::SafePath;
use crate::sandbox::workspace::LeftOut;
use crate::sandbox::workspace::base::Identity;
use crate::task::RunId;
use crate::task::run_id::RunSelector;

/// Bytes of one side of a difference that are shown at the most.
const SHOWN_BYTES_MAX: u64 = 1024 * 1024;

/// Why changes cannot be shown or brought in.
#[derive(Debug, thiserror::Error)]
pub enum ChangesError {
    /// The run goes on.
    #[error("run {} is going on: its changes are known when it has ended", .0.short())]
    GoingOn(RunId),
    /// It had nothing to change.
    #[error("run {} had no workspace", .0.short())]
    NoWorkspace(RunId),
    /// They were not kept, or are past their retention.
    #[error("no changes of run {} are kept", .0.short())]
    NotKept(RunId),
    /// They cannot be read.
    #[error(transparent)]
    Kept(#[from] KeptError),
    /// The tree cannot be opened.
    #[error(transparent)]
    Root(#[from] RootError),
    /// What a server sent is none.
    #[error(transparent)]
    Parcel(#[from] ParcelError),
    /// They cannot be brought in.
    #[error(transparent)]
    Apply(#[from] ApplyError),
}

/// The changes of a run, with where their contents are.
#[derive(Debug)]
pub struct RunChanges {
    /// The run.
    pub run: RunId,
    /// What changed.
    pub set: ChangeSet,
    kept: Kept,
    /// Where changes lie that a server sent.
    _received: Option<tempfile::TempDir>,
    /// The caller's tree, where it can be opened.
    root: Option<OwnedFd>,
}

/// Loads the changes of a run.
pub fn load(run: &Run, directories: &Directories) -> Result<RunChanges, ChangesError> {
    if run.end.is_none() {
        return Err(ChangesError::GoingOn(run.id));
    }
    // What was uploaded for a run has no directory on record.
    if run.task.workspace.is_none() && run.project.is_none() {
        return Err(ChangesError::NoWorkspace(run.id));
    }
    let kept = Kept::new(&directories.state);
    let Some(set) = kept.load(run.id)? else { return Err(ChangesError::NotKept(run.id)) };
    let root = open_root(&set.root.path).ok().map(|(root, _)| root);
    Ok(RunChanges { run: run.id, set, kept, root, _received: None })
}

/// Takes over the changes of a server's run as they came, for the tree at `directory`. Nothing of them lies anywhere when
/// this is dropped.
pub fn receive(run: RunId, parcel: impl Read, directory: &Path) -> Result<RunChanges, ChangesError> {
    let received = tempfile::tempdir().map_err(|it| ChangesError::Parcel(it.into()))?;
    let kept = Kept::new(received.path());
    let (root, named) = open_root(directory)?;
    let set = parcel::unpack(parcel, &kept, run, |it| it.root = named)?;
    Ok(RunChanges { run, set, kept, root: Some(root), _received: Some(received) })
}

/// How far a server's clock may be from this host's.
const CLOCKS_APART_MS: i64 = 10 * 60 * 1000;

/// A tree that a run was given a copy of.
#[derive(Debug, Clone)]
pub struct Given {
    /// Which directory it is.
    pub root: Root,
    /// What the project leaves out.
    pub left_out: LeftOut,
    /// When the run was asked for: its id is made after that.
    pub asked_ms: i64,
}

/// Keeps the changes of a server's run here, as those of a run of this user's own: for the tree that it was given, and
/// without what the project leaves out. Those of another run than was just asked for are not taken: what is kept of one is
/// not a server's to replace.
pub fn bring(
    run: RunId,
    parcel: impl Read,
    given: &Given,
    directories: &Directories,
) -> Result<ChangeSet, ChangesError> {
    if !(given.asked_ms - CLOCKS_APART_MS..=now_ms() + CLOCKS_APART_MS).contains(&run.made_ms()) {
        return Err(ParcelError::Damaged("they are of a run of another time").into());
    }
    let kept = Kept::new(&directories.state);
    let tree = open_root(&given.root.path).ok().map(|(tree, _)| tree);
    let was_there = kept.by_run().of(run).exists();
    // Marked before it has content: without a record here a sweep would take it for nobody's.
    kept.begin(run).and_then(|_| kept.by_run().mark_foreign(run)).map_err(ParcelError::Io)?;
    let set = parcel::unpack(parcel, &kept, run, |set| {
        set.root = given.root.clone();
        leave_out(set, &given.left_out, tree.as_ref());
    });
    if set.is_err() && !was_there {
        let _ = kept.by_run().remove(run);
    }
    Ok(set?)
}

/// What a task makes in an ignored place is a cache, not a change. Only the client knows the project's rules.
fn leave_out(set: &mut ChangeSet, left_out: &LeftOut, tree: Option<&OwnedFd>) {
    let changed: HashSet<Vec<u8>> =
        set.changes.iter().filter(|it| it.after.is_some()).map(|it| it.path.clone()).collect();
    let exists = |path: &[u8]| {
        let in_tree = |it: &OwnedFd| statat(it, path, AtFlags::SYMLINK_NOFOLLOW).is_ok();
        changed.contains(path) || tree.is_some_and(in_tree)
    };
    let count = set.changes.len();
    set.changes.retain(|it| {
        let is_directory = matches!(&it.after, Some(After { kind: AfterKind::Directory, .. }));
        it.before.is_some() || !left_out.says(&it.path, is_directory, exists)
    });
    set.left_out = set.left_out.saturating_add((count - set.changes.len()) as u64);
}

/// The changes of a server's run that were brought here when it ended; `None` where none were.
pub fn brought(
    selector: &RunSelector,
    directories: &Directories,
) -> Result<Option<RunChanges>, ChangesError> {
    let kept = Kept::new(&directories.state);
    let place = kept.by_run().place().to_owned();
    let runs = kept.by_run().runs().map_err(|cause| KeptError::Io { path: place, cause })?;
    let named = |it: &RunId| match selector {
        RunSelector::Id(id) => it == id,
        RunSelector::Short(digits) => it.short() == *digits,
    };
    let mut found = runs.into_iter().filter(|it| named(it) && kept.by_run().is_foreign(*it));
    let (Some(run), None) = (found.next(), found.next()) else { return Ok(None) };
    let Some(set) = kept.load(run)? else { return Ok(None) };
    let root = open_root(&set.root.path).ok().map(|(root, _)| root);
    Ok(Some(RunChanges { run, set, kept, root, _received: None }))
}

impl RunChanges {
    /// The changes at or below these paths (all if there are none), in order, a rename as one.
    pub fn selected(&self, paths: &[Vec<u8>]) -> Vec<Selected<'_>> {
        let wanted = |it: &&Change| paths.is_empty() || paths.iter().any(|path| lies_in(&it.path, path));
        let changes: Vec<&Change> = self.set.changes.iter().filter(wanted).collect();
        let mut gone: HashMap<&Digest, Vec<&Change>> = HashMap::new();
        for change in changes.iter().rev() {
            if let (Some(sha256), None) = (content_before(change), &change.after) {
                gone.entry(sha256).or_default().push(change);
            }
        }
        let mut origins: HashMap<&[u8], &Change> = HashMap::new();
        for change in &changes {
            if let (None, Some(After { kind: AfterKind::File { sha256: Some(sha256), size }, .. })) =
                (&change.before, &change.after)
                && *size > 0
                && let Some(origin) = gone.get_mut(sha256).and_then(Vec::pop)
            {
                origins.insert(&change.path, origin);
            }
        }
        let moved: Vec<&[u8]> = origins.values().map(|it| it.path.as_slice()).collect();
        let moved: std::collections::HashSet<&[u8]> = moved.into_iter().collect();
        changes
            .into_iter()
            .filter(|it| !moved.contains(it.path.as_slice()))
            .map(|change| Selected { change, origin: origins.get(change.path.as_slice()).copied() })
            .collect()
    }

    /// A change with its contents.
    pub fn difference(&self, selected: &Selected<'_>) -> Result<FileDiff, ChangesError> {
        let before = match selected.origin {
            Some(origin) => self.before(origin)?,
            None => self.before(selected.change)?,
        };
        Ok(FileDiff {
            path: selected.change.path.clone(),
            renamed_from: selected.origin.map(|it| it.path.clone()),
            before,
            after: self.after(selected.change)?,
        })
    }

    /// Looks at the tree; nothing is changed.
    pub fn plan(&self, named: &[Vec<u8>], umask: u32) -> Result<Plan<'_>, ChangesError> {
        Ok(apply::plan(&self.set, named, self.tree()?, umask)?)
    }

    /// Brings a plan in.
    pub fn carry_out(&self, plan: &Plan<'_>) -> Result<Applied, ChangesError> {
        Ok(apply::carry_out(plan, self.tree()?, &self.kept, self.run)?)
    }

    fn tree(&self) -> Result<&OwnedFd, ChangesError> {
        match &self.root {
            Some(root) => Ok(root),
            None => match open_root(&self.set.root.path) {
                Err(error) => Err(error.into()),
                Ok(_) => Err(ApplyError::OtherRoot.into()),
            },
        }
    }

    fn before(&self, change: &Change) -> Result<Option<Side>, ChangesError> {
        let Some(Before { mode, kind }) = &change.before else { return Ok(None) };
        let content = match kind {
            BeforeKind::Directory => Content::Directory,
            BeforeKind::Symlink(target) => Content::Link(target.clone()),
            BeforeKind::File { sha256: Some(sha256), kept: true, .. } => self.content(sha256)?,
            BeforeKind::File { identity, .. } => {
                match identity.and_then(|it| self.given(&change.path, &it)) {
                    Some(bytes) => Content::File(bytes),
                    None => Content::Unshown("what the run was given is large, or is not there any more"),
                }
            }
        };
        Ok(Some(Side { mode: *mode, content }))
    }

    fn after(&self, change: &Change) -> Result<Option<Side>, ChangesError> {
        let Some(After { mode, kind }) = &change.after else { return Ok(None) };
        let content = match kind {
            AfterKind::Directory => Content::Directory,
            AfterKind::Symlink(target) => Content::Link(target.clone()),
            AfterKind::File { sha256: Some(sha256), .. } => self.content(sha256)?,
            AfterKind::File { sha256: None, .. } => Content::Unshown("its content was not kept"),
        };
        Ok(Some(Side { mode: *mode, content }))
    }

    fn content(&self, sha256: &Digest) -> Result<Content, ChangesError> {
        Ok(match self.kept.read(self.run, sha256, SHOWN_BYTES_MAX)? {
            Some(bytes) => Content::File(bytes),
            None => Content::Unshown("too large to show"),
        })
    }

    /// A file of the caller's tree that is still what the run was given.
    fn given(&self, path: &[u8], identity: &Identity) -> Option<Vec<u8>> {
        if identity.size > SHOWN_BYTES_MAX {
            return None;
        }
        let (parent, name) = SafePath::parse(path).ok()?.split();
        let directory = beneath::directory(self.root.as_ref()?.as_fd(), parent).ok()?;
        let file = File::from(beneath::file(directory.as_fd(), name).ok()?);
        if Identity::of(&rustix::fs::fstat(&file).ok()?) != *identity {
            return None;
        }
        let mut bytes = Vec::new();
        file.take(SHOWN_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }
}

/// A change that is shown, with the change that its content came from.
#[derive(Debug, Clone, Copy)]
pub struct Selected<'a> {
    /// The change.
    pub change: &'a Change,
    /// The deletion of the same content, where it was moved.
    pub origin: Option<&'a Change>,
}

fn content_before(change: &Change) -> Option<&Digest> {
    match &change.before {
        Some(Before { kind: BeforeKind::File { sha256, .. }, .. }) => sha256.as_ref(),
        _ => None,
    }
}
