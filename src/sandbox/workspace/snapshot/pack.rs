//! Lays a plan out as a tree that belongs to a sandbox's user: the lower layer of workspaces. Only root can give files
//! away, and nobody else can reach the tree while it is made.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use aegis_init::wire::{Entry, EntryKind, Request};
use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid, chmodat, chownat, fchmod, fchown, futimens,
    linkat, mkdirat, openat, symlinkat, utimensat,
};

use crate::sandbox::workspace::{Plan, Stopped, WorkspaceError, send};

/// Why there is no tree.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The workspace could not be read.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    /// The tree could not be written.
    #[error("the snapshot of the workspace cannot be written")]
    Write(#[source] io::Error),
}

/// Makes the tree at `directory`, which is not there yet.
pub fn pack(plan: &Plan, directory: &Path, uid: u32) -> Result<(), PackError> {
    let mut tree = Tree::make(directory, uid).map_err(PackError::Write)?;
    let mut failed = None;
    let sent = send(plan, &mut |request| {
        tree.take(request).map_err(|error| {
            failed = Some(error);
            Stopped
        })
    });
    match (sent, failed) {
        (_, Some(error)) => Err(PackError::Write(error)),
        (Err(error), None) => Err(error.into()),
        (Ok(_), None) => Ok(()),
    }
}

struct Tree {
    root: OwnedFd,
    owner: (Uid, Gid),
    /// Directories whose mode and time are still to be set.
    directories: Vec<Entry>,
    open: Option<(File, Entry, u64)>,
}

impl Tree {
    fn make(directory: &Path, uid: u32) -> io::Result<Self> {
        std::fs::DirBuilder::new().mode(0o700).create(directory)?;
        let owner = (Uid::from_raw(uid), Gid::from_raw(uid));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::open(directory, flags, Mode::empty())?;
        fchown(&root, Some(owner.0), Some(owner.1))?;
        Ok(Self { root, owner, directories: Vec::new(), open: None })
    }

    fn take(&mut self, request: Request) -> io::Result<()> {
        match request {
            Request::Put(entries) => entries.into_iter().try_for_each(|it| self.put(it)),
            Request::PutChunk(data) => {
                let (mut file, entry, left) =
                    self.open.take().ok_or_else(|| io::Error::other("content without a file"))?;
                file.write_all(&data)?;
                self.written(file, entry, left.saturating_sub(data.len() as u64))
            }
            Request::PutEnd => self.end(),
            _ => Err(io::Error::other("no content of a workspace")),
        }
    }

    fn put(&mut self, mut entry: Entry) -> io::Result<()> {
        let path = entry.path.clone();
        let path = path.as_slice();
        match &mut entry.kind {
            EntryKind::Dir => {
                mkdirat(&self.root, path, Mode::from_raw_mode(0o700))?;
                self.directories.push(entry);
            }
            EntryKind::File { size, data } => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let mut file = File::from(openat(&self.root, path, flags, Mode::from_raw_mode(0o600))?);
                let left = size.saturating_sub(data.len() as u64);
                file.write_all(data)?;
                // Its content is written: only the looks are still needed.
                data.clear();
                self.written(file, entry, left)?;
            }
            EntryKind::Symlink(target) => {
                symlinkat(target.as_slice(), &self.root, path)?;
                self.give_away(path)?;
                utimensat(&self.root, path, &times(&entry), AtFlags::SYMLINK_NOFOLLOW)?;
            }
            EntryKind::Hardlink(first) => {
                linkat(&self.root, first.as_slice(), &self.root, path, AtFlags::empty())?;
            }
        }
        Ok(())
    }

    fn written(&mut self, file: File, entry: Entry, left: u64) -> io::Result<()> {
        if left > 0 {
            self.open = Some((file, entry, left));
            return Ok(());
        }
        fchown(file.as_fd(), Some(self.owner.0), Some(self.owner.1))?;
        fchmod(file.as_fd(), Mode::from_raw_mode(entry.mode))?;
        Ok(futimens(file.as_fd(), &times(&entry))?)
    }

    fn end(&mut self) -> io::Result<()> {
        for entry in std::mem::take(&mut self.directories).iter().rev() {
            let path = entry.path.as_slice();
            self.give_away(path)?;
            chmodat(&self.root, path, Mode::from_raw_mode(entry.mode), AtFlags::empty())?;
            utimensat(&self.root, path, &times(entry), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(())
    }

    fn give_away(&self, path: &[u8]) -> io::Result<()> {
        let (uid, gid) = (Some(self.owner.0), Some(self.owner.1));
        Ok(chownat(&self.root, path, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?)
    }
}

fn times(entry: &Entry) -> Timestamps {
    let time = Timespec { tv_sec: entry.mtime_s, tv_nsec: i64::from(entry.mtime_ns) };
    Timestamps { last_access: time, last_modification: time }
}
