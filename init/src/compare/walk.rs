//! The walk of a comparison: one name at a time, through descriptors, following no link.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, open, openat, readlinkat};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, fchmodat, fstat, fstatat};
use serde_bytes::ByteBuf;

use aegis_init::wire::{DropReason, Entry, EntryKind, PATH_BYTES_MAX};

use crate::beneath::LEVELS_MAX;
use crate::collect::outbox::Outbox;
use crate::stamps::{Given, Index};

/// Names of one directory; a larger one ends the comparison incomplete.
const NAMES_MAX: usize = 1_000_000;
/// What its owner needs of a directory to look into it.
pub const SEARCHABLE: u32 = 0o500;
const DIRECTORY: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_NONBLOCK)
    .union(OFlag::O_CLOEXEC);

/// What a step came to.
pub enum Step {
    /// A directory, file or link at this path.
    Met(Vec<u8>),
    /// Nothing of that kind.
    Passed,
    /// There is nothing left.
    Over,
}

/// A walk through the workspace.
pub struct Walk {
    levels: Vec<Level>,
    device: u64,
}

struct Level {
    path: Vec<u8>,
    directory: OwnedFd,
    names: std::vec::IntoIter<Vec<u8>>,
}

impl Walk {
    /// Opens the workspace; `None` if that fails.
    pub fn new(root: &[u8]) -> Option<Self> {
        let root = OsStr::from_bytes(root);
        // The task may have closed its workspace to itself. Fails where that is not needed, too.
        let directory = open(root, DIRECTORY, Mode::empty()).or_else(|errno| {
            let mode = Mode::from_bits_truncate(0o700);
            fchmodat(nix::fcntl::AT_FDCWD, root, mode, FchmodatFlags::FollowSymlink).map_err(|_| errno)?;
            open(root, DIRECTORY, Mode::empty())
        });
        let directory = directory.ok()?;
        let stat = fstat(&directory).ok()?;
        if stat.st_mode & SEARCHABLE != SEARCHABLE {
            nix::sys::stat::fchmod(&directory, Mode::from_bits_truncate(0o700)).ok()?;
        }
        let names = names(&directory)?;
        Some(Self { levels: vec![Level { path: Vec::new(), directory, names }], device: stat.st_dev })
    }

    /// The directory that is being looked at.
    pub fn place(&self) -> &[u8] {
        self.levels.last().map_or(b"", |level| &level.path)
    }

    /// Looks at the next name.
    pub fn step(&mut self, index: &Index, outbox: &mut Outbox, complete: &mut bool) -> Step {
        let Some(level) = self.levels.last_mut() else { return Step::Over };
        let Some(name) = level.names.next() else {
            self.levels.pop();
            return Step::Passed;
        };
        let path = if level.path.is_empty() {
            name.clone()
        } else {
            [level.path.as_slice(), b"/", name.as_slice()].concat()
        };
        if let Err(reason) = self.consider(&name, &path, index, outbox) {
            *complete &= reason == DropReason::NotAFile;
            outbox.drop_entry(&path[..path.len().min(PATH_BYTES_MAX)], reason);
            if reason == DropReason::NotAFile {
                return Step::Passed;
            }
        }
        Step::Met(path)
    }

    fn consider(
        &mut self,
        name: &[u8],
        path: &[u8],
        index: &Index,
        outbox: &mut Outbox,
    ) -> Result<(), DropReason> {
        if path.len() > PATH_BYTES_MAX {
            return Err(DropReason::DepthLimit);
        }
        let level = self.levels.last().ok_or(DropReason::Unreadable)?;
        let name = OsStr::from_bytes(name);
        let stat = fstatat(&level.directory, name, AtFlags::AT_SYMLINK_NOFOLLOW)
            .map_err(|_| DropReason::Unreadable)?;
        match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
            SFlag::S_IFDIR => self.enter(name, path, &stat, index, outbox),
            SFlag::S_IFREG => {
                if index.unchanged(path, Given::leaf(&stat)) {
                    return Ok(());
                }
                let size = stat.st_size.unsigned_abs();
                tell(outbox, path, &stat, EntryKind::File { size, data: ByteBuf::new() })
            }
            SFlag::S_IFLNK => {
                if index.unchanged(path, Given::leaf(&stat)) {
                    return Ok(());
                }
                let target = readlinkat(&level.directory, name).map_err(|_| DropReason::Unreadable)?;
                tell(outbox, path, &stat, EntryKind::Symlink(ByteBuf::from(target.into_vec())))
            }
            // What was put there before is gone, and is told to be.
            _ => Err(DropReason::NotAFile),
        }
    }

    fn enter(
        &mut self,
        name: &OsStr,
        path: &[u8],
        stat: &FileStat,
        index: &Index,
        outbox: &mut Outbox,
    ) -> Result<(), DropReason> {
        if !index.unchanged(path, Given::directory(stat.st_mode)) {
            tell(outbox, path, stat, EntryKind::Dir)?;
        }
        if stat.st_dev != self.device {
            return Err(DropReason::Foreign);
        }
        if self.levels.len() > LEVELS_MAX.min(outbox.depth_max as usize) {
            return Err(DropReason::DepthLimit);
        }
        let level = self.levels.last().ok_or(DropReason::Unreadable)?;
        if stat.st_mode & SEARCHABLE != SEARCHABLE {
            let mode = Mode::from_bits_truncate(stat.st_mode | SEARCHABLE);
            fchmodat(&level.directory, name, mode, FchmodatFlags::FollowSymlink)
                .map_err(|_| DropReason::Unreadable)?;
        }
        let directory =
            openat(&level.directory, name, DIRECTORY, Mode::empty()).map_err(|_| DropReason::Unreadable)?;
        let names = names(&directory).ok_or(DropReason::EntryLimit)?;
        self.levels.push(Level { path: path.to_vec(), directory, names });
        Ok(())
    }
}

fn tell(outbox: &mut Outbox, path: &[u8], stat: &FileStat, kind: EntryKind) -> Result<(), DropReason> {
    if !outbox.has_room(1) {
        return Err(DropReason::EntryLimit);
    }
    outbox.send(Entry {
        path: ByteBuf::from(path),
        mode: stat.st_mode & 0o7777,
        mtime_s: stat.st_mtime,
        mtime_ns: stat.st_mtime_nsec.clamp(0, 999_999_999) as u32,
        kind,
    });
    Ok(())
}

/// The names in a directory, in order; `None` if it cannot be read or has too many.
fn names(directory: &OwnedFd) -> Option<std::vec::IntoIter<Vec<u8>>> {
    let mut names = Vec::new();
    for found in Dir::openat(directory.as_fd(), ".", DIRECTORY, Mode::empty()).ok()?.iter() {
        let found = found.ok()?;
        let name = found.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        if names.len() == NAMES_MAX {
            return None;
        }
        names.push(name.to_vec());
    }
    names.sort_unstable();
    Some(names.into_iter())
}
