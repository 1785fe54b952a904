//! Carrying a plan out. New contents are made whole in a directory of their own at the top of the tree; then each comes
//! to its place by one rename, and what it replaces goes the other way. Every step is written down before it is done, and
//! taken back in reverse if a later one fails.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, fchmod, fchown, fstat, mkdirat, openat, renameat_with,
    statat, symlinkat, unlinkat,
};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use sha2::{Digest as _, Sha256};

use crate::sandbox::beneath;
use crate::sandbox::changes::apply::look::{Seen, look};
use crate::sandbox::changes::apply::{ApplyError, Plan, STAGING_PREFIX, Step, effective_mode};
use crate::sandbox::changes::kept::Kept;
use crate::sandbox::changes::{After, AfterKind, Digest, Verb};
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

/// The directory that contents are on their way in.
struct Staging {
    root: OwnedFd,
    directory: OwnedFd,
    name: String,
}

impl Staging {
    fn make(root: &OwnedFd) -> Result<Self, ApplyError> {
        let name = format!("{STAGING_PREFIX}{}", uuid::Uuid::now_v7().simple());
        let failed = |cause: io::Error| ApplyError::Failed { path: name.clone(), cause };
        let root = root.try_clone().map_err(failed)?;
        mkdirat(&root, &name, Mode::from_raw_mode(0o700)).map_err(|it| failed(it.into()))?;
        let directory = beneath::directory(root.as_fd(), name.as_bytes()).map_err(|it| failed(it.into()))?;
        Ok(Self { root, directory, name })
    }

    /// Removes it with all that is in it: files and links only.
    fn remove(&self) {
        let Ok(listing) = rustix::fs::Dir::read_from(&self.directory) else { return };
        for entry in listing.flatten() {
            let name = entry.file_name();
            if !matches!(name.to_bytes(), b"." | b"..") {
                // What cannot be removed stays in a directory that says what it is.
                let _ = unlinkat(&self.directory, name, AtFlags::empty());
            }
        }
        let _ = unlinkat(&self.root, &self.name, AtFlags::REMOVEDIR);
    }
}

/// Makes every new content, and the journal.
fn stage(plan: &Plan<'_>, staging: &Staging, kept: &Kept, run: RunId) -> Result<(), ApplyError> {
    let mut journal = Vec::new();
    for (number, step) in plan.steps.iter().enumerate() {
        let path = escape(&step.change.path);
        writeln!(journal, "{number} {path}").unwrap_or(());
        let failed = |cause: io::Error| ApplyError::Failed { path: path.clone(), cause };
        match &step.change.after {
            Some(After { mode, kind: AfterKind::File { sha256: Some(sha256), .. } }) => {
                let content = kept.open(run, sha256)?;
                let mode = effective_mode(*mode, mode_of(&step.seen), plan.umask);
                copy(content, staging, number, sha256, mode, &step.seen).map_err(failed)?;
            }
            Some(After { kind: AfterKind::Symlink(target), .. }) => {
                symlinkat(target.as_slice(), &staging.directory, number.to_string())
                    .map_err(|it| failed(it.into()))?;
            }
            Some(After { kind: AfterKind::Directory | AfterKind::File { sha256: None, .. }, .. }) | None => {}
        }
    }
    let failed = |cause: io::Error| ApplyError::Failed { path: staging.name.clone(), cause };
    let mut file = create(staging, "journal").map_err(failed)?;
    file.write_all(&journal).map_err(failed)
}

fn copy(
    mut content: File,
    staging: &Staging,
    number: usize,
    sha256: &Digest,
    mode: u32,
    seen: &Seen,
) -> io::Result<()> {
    let mut file = create(staging, &number.to_string())?;
    let mut digest = Sha256::new();
    let mut piece = vec![0; 256 * 1024];
    loop {
        let read = content.read(&mut piece)?;
        if read == 0 {
            break;
        }
        digest.update(&piece[..read]);
        file.write_all(&piece[..read])?;
    }
    if Digest::from(digest.finalize()) != *sha256 {
        return Err(io::Error::other("its kept content is damaged"));
    }
    if let Seen::File { owner: (user, group), .. } = seen {
        // Whose file it was stays so where the caller may do that; otherwise the file is the caller's.
        let (user, group) = (Uid::from_raw(*user), Gid::from_raw(*group));
        let _ = fchown(&file, Some(user), Some(group));
    }
    fchmod(&file, Mode::from_raw_mode(mode))?;
    Ok(())
}

fn create(staging: &Staging, name: &str) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(&staging.directory, name, flags, Mode::from_raw_mode(0o600))?.into())
}

/// The bits that what is there has.
fn mode_of(seen: &Seen) -> u32 {
    match seen {
        Seen::File { mode, .. } | Seen::Directory { mode } => *mode,
        _ => 0,
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
