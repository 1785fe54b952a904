//! Carrying a plan out. New contents are made whole in a directory of their own at the top of the tree; then each comes
//! to its place by one rename, and what it replaces goes the other way. Every step is written down before it is done, and
//! taken back in reverse if a later one fails.

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Mode, RenameFlags, fchmod, fstat, mkdirat, renameat_with, statat, unlinkat,
};
use rustix::io::Errno;

use crate::sandbox::beneath;
use crate::sandbox::changes::apply::look::{Seen, look};
use crate::sandbox::changes::apply::staging::{Staging, mode_of, stage};
use crate::sandbox::changes::apply::{ApplyError, Plan, Step, effective_mode};
use crate::sandbox::changes::kept::Kept;
use crate::sandbox::changes::{After, AfterKind, Verb};
use crate::sandbox::outputs::path::SafePath;
use crate::sandbox::workspace::base::Identity;
use crate::task::RunId;
use crate::task::escape::escape;

/// What was brought in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// New entries.
    pub added: u64,
    /// Entries that were something else.
    pub modified: u64,
    /// Entries that are gone.
    pub deleted: u64,
    /// Directories that the task removed and that stay, because they hold more than it was given.
    pub directories_left: Vec<Vec<u8>>,
}

/// Carries a plan without conflicts out.
pub fn carry_out(plan: &Plan<'_>, root: &OwnedFd, kept: &Kept, run: RunId) -> Result<Applied, ApplyError> {
    if plan.steps.is_empty() {
        return Ok(Applied::default());
    }
    let staging = Staging::make(root)?;
    let mut work = Work {
        root,
        staging: &staging,
        undo: Vec::new(),
        moved: HashSet::new(),
        applied: Applied::default(),
    };
    let staged = stage(plan, &staging, kept, run);
    let done = match staged {
        Ok(()) => work.carry(plan),
        Err(error) => {
            staging.remove();
            return Err(error);
        }
    };
    match done {
        Ok(()) => {
            let applied = work.applied;
            staging.remove();
            Ok(applied)
        }
        Err((path, cause)) => {
            let left = work.take_back();
            let path = escape(&path);
            if left == 0 {
                staging.remove();
                return Err(ApplyError::Failed { path, cause: cause.into() });
            }
            Err(ApplyError::Torn { path, staging: staging.name.clone(), left, cause: cause.into() })
        }
    }
}

/// A step that was done, so that it can be taken back.
enum Undo {
    /// The entry at the path and the staged one changed places.
    Exchanged { path: Vec<u8>, number: usize },
    /// The entry at the path was moved to this number.
    MovedOut { path: Vec<u8>, number: usize },
    /// The staged entry was moved to the path.
    MovedIn { path: Vec<u8>, number: usize },
    /// A directory was made.
    Made { path: Vec<u8> },
    /// A directory was removed.
    Removed { path: Vec<u8>, mode: u32 },
    /// A directory had another mode.
    Mode { path: Vec<u8>, mode: u32 },
}

type Failed = (Vec<u8>, Errno);

struct Work<'a> {
    root: &'a OwnedFd,
    staging: &'a Staging,
    undo: Vec<Undo>,
    /// Inodes that were moved: the change time of their other names is a later one.
    moved: HashSet<u64>,
    applied: Applied,
}

impl Work<'_> {
    fn carry(&mut self, plan: &Plan<'_>) -> Result<(), Failed> {
        let told = |step: &Step<'_>, cause| (step.change.path.clone(), cause);
        for (number, step) in plan.steps.iter().enumerate().rev() {
            self.clear(number, step).map_err(|it| told(step, it))?;
        }
        for (number, step) in plan.steps.iter().enumerate() {
            self.put(number, step).map_err(|it| told(step, it))?;
            match step.change.verb() {
                Verb::Added => self.applied.added += 1,
                Verb::Modified => self.applied.modified += 1,
                Verb::Deleted => self.applied.deleted += 1,
            }
        }
        for step in plan.steps.iter().rev() {
            if let Some(After { mode, kind: AfterKind::Directory }) = &step.change.after {
                self.set_mode(&step.change.path, effective_mode(*mode, mode_of(&step.seen), plan.umask))
                    .map_err(|it| told(step, it))?;
            }
        }
        self.applied.deleted -= self.applied.directories_left.len() as u64;
        Ok(())
    }

    /// Makes room where something goes, or something of another kind comes. What lies in a directory goes before it.
    fn clear(&mut self, number: usize, step: &Step<'_>) -> Result<(), Errno> {
        let path = &step.change.path;
        let after = step.change.after.as_ref().map(|it| &it.kind);
        match (&step.seen, after) {
            (Seen::File { .. } | Seen::Symlink { .. }, None | Some(AfterKind::Directory)) => {
                let (parent, name) = self.parent(path)?;
                self.require_seen(path, &step.seen)?;
                let staged = number.to_string();
                renameat_with(&parent, &name, &self.staging.directory, &staged, RenameFlags::NOREPLACE)?;
                self.undo.push(Undo::MovedOut { path: path.clone(), number });
                self.require_moved(&staged, &step.seen)
            }
            (Seen::Directory { mode }, None | Some(AfterKind::File { .. } | AfterKind::Symlink(_))) => {
                let (parent, name) = self.parent(path)?;
                match unlinkat(&parent, &name, AtFlags::REMOVEDIR) {
                    Ok(()) => self.undo.push(Undo::Removed { path: path.clone(), mode: *mode }),
                    Err(Errno::NOTEMPTY | Errno::EXIST) if after.is_none() => {
                        self.applied.directories_left.push(path.clone());
                    }
                    Err(cause) => return Err(cause),
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Puts what is new in its place.
    fn put(&mut self, number: usize, step: &Step<'_>) -> Result<(), Errno> {
        let path = &step.change.path;
        let staged = number.to_string();
        match (step.change.after.as_ref().map(|it| &it.kind), &step.seen) {
            (None, _) | (Some(AfterKind::Directory), Seen::Directory { .. }) => Ok(()),
            (Some(AfterKind::Directory), _) => {
                let (parent, name) = self.parent(path)?;
                mkdirat(&parent, &name, Mode::from_raw_mode(0o700))?;
                self.undo.push(Undo::Made { path: path.clone() });
                Ok(())
            }
            (
                Some(AfterKind::File { .. } | AfterKind::Symlink(_)),
                Seen::File { .. } | Seen::Symlink { .. },
            ) => {
                let (parent, name) = self.parent(path)?;
                self.require_seen(path, &step.seen)?;
                renameat_with(&self.staging.directory, &staged, &parent, &name, RenameFlags::EXCHANGE)?;
                self.undo.push(Undo::Exchanged { path: path.clone(), number });
                self.require_moved(&staged, &step.seen)
            }
            (Some(AfterKind::File { .. } | AfterKind::Symlink(_)), _) => {
                let (parent, name) = self.parent(path)?;
                renameat_with(&self.staging.directory, &staged, &parent, &name, RenameFlags::NOREPLACE)?;
                self.undo.push(Undo::MovedIn { path: path.clone(), number });
                Ok(())
            }
        }
    }

    fn set_mode(&mut self, path: &[u8], mode: u32) -> Result<(), Errno> {
        let directory = beneath::directory(self.root.as_fd(), path)?;
        let now = fstat(&directory)?.st_mode & 0o777;
        if now != mode {
            self.undo.push(Undo::Mode { path: path.to_vec(), mode: now });
            fchmod(&directory, Mode::from_raw_mode(mode))?;
        }
        Ok(())
    }

    fn parent(&self, path: &[u8]) -> Result<(OwnedFd, Vec<u8>), Errno> {
        let (parent, name) = SafePath::parse(path).map_err(|_| Errno::INVAL)?.split();
        Ok((beneath::directory(self.root.as_fd(), parent)?, name.to_vec()))
    }

    /// Whether the tree is still as it was when it was judged.
    fn require_seen(&mut self, path: &[u8], seen: &Seen) -> Result<(), Errno> {
        let now = look(self.root, path)?;
        let same = match (seen, &now) {
            (Seen::File { identity, mode, .. }, Seen::File { identity: found, mode: mode_found, .. })
                if self.moved.contains(&identity.inode) =>
            {
                mode == mode_found && is_same(identity, found)
            }
            (Seen::Symlink { identity, .. }, Seen::Symlink { identity: found, .. })
                if self.moved.contains(&identity.inode) =>
            {
                is_same(identity, found)
            }
            (seen, now) => seen == now,
        };
        if let Seen::File { identity, .. } | Seen::Symlink { identity, .. } = seen {
            self.moved.insert(identity.inode);
        }
        if same { Ok(()) } else { Err(Errno::BUSY) }
    }

    /// Whether what came out of the tree is what was meant. A rename itself changes the change time.
    fn require_moved(&self, staged: &str, seen: &Seen) -> Result<(), Errno> {
        let stat = statat(&self.staging.directory, staged, AtFlags::SYMLINK_NOFOLLOW)?;
        let now = Identity::of(&stat);
        let same = match seen {
            Seen::File { identity, .. } => {
                FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && is_same(identity, &now)
            }
            Seen::Symlink { identity, .. } => is_same(identity, &now),
            _ => false,
        };
        if same { Ok(()) } else { Err(Errno::BUSY) }
    }

    /// Takes every step back, the last one first. Gives how many could not be.
    fn take_back(&mut self) -> usize {
        let mut left = 0;
        while let Some(undo) = self.undo.pop() {
            left += usize::from(self.take_back_one(&undo).is_err());
        }
        left
    }

    fn take_back_one(&self, undo: &Undo) -> Result<(), Errno> {
        let staging = &self.staging.directory;
        match undo {
            Undo::Exchanged { path, number } => {
                let (parent, name) = self.parent(path)?;
                renameat_with(staging, number.to_string(), &parent, &name, RenameFlags::EXCHANGE)
            }
            Undo::MovedOut { path, number } => {
                let (parent, name) = self.parent(path)?;
                renameat_with(staging, number.to_string(), &parent, &name, RenameFlags::NOREPLACE)
            }
            Undo::MovedIn { path, number } => {
                let (parent, name) = self.parent(path)?;
                renameat_with(&parent, &name, staging, number.to_string(), RenameFlags::NOREPLACE)
            }
            Undo::Made { path } => {
                let (parent, name) = self.parent(path)?;
                unlinkat(&parent, &name, AtFlags::REMOVEDIR)
            }
            Undo::Removed { path, mode } => {
                let (parent, name) = self.parent(path)?;
                mkdirat(&parent, &name, Mode::from_raw_mode(0o700))?;
                fchmod(beneath::directory(parent.as_fd(), &name)?, Mode::from_raw_mode(*mode))
            }
            Undo::Mode { path, mode } => {
                fchmod(beneath::directory(self.root.as_fd(), path)?, Mode::from_raw_mode(*mode))
            }
        }
    }
}

fn is_same(before: &Identity, now: &Identity) -> bool {
    Identity { changed: (0, 0), ..*before } == Identity { changed: (0, 0), ..*now }
}
