//! The walk through a tree for a collection: one name at a time, through descriptors.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use serde_bytes::ByteBuf;

use aegis_init::wire::{DropReason, Entry, EntryKind, PATH_BYTES_MAX};

use crate::beneath::LEVELS_MAX;
use crate::collect::outbox::Outbox;
use crate::collect::pattern::{Base, Interest, Pattern};
use crate::foreign::foreign;

/// Names of one directory; of a larger one the rest is dropped, and the directory is named for it.
const NAMES_MAX: usize = 1_000_000;
const DIRECTORY: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_NONBLOCK)
    .union(OFlag::O_CLOEXEC);
const FILE: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_NONBLOCK)
    .union(OFlag::O_NOCTTY)
    .union(OFlag::O_CLOEXEC);

/// A walk below one base.
pub struct Walk {
    base: Base,
    levels: Vec<Level>,
}

/// An open directory with the names that are still to be looked at.
struct Level {
    path: Vec<u8>,
    directory: OwnedFd,
    device: u64,
    names: std::vec::IntoIter<Vec<u8>>,
    /// Levels below the directory that matched, if this one is inside of one.
    below_match: Option<u32>,
    /// The directory as it travels, until it was sent.
    unsent: Option<Entry>,
}

/// An entry under consideration.
struct Found {
    path: Vec<u8>,
    name: Vec<u8>,
    stat: FileStat,
    below_match: Option<u32>,
}

impl Walk {
    /// Opens the base; `None` if there is none.
    pub fn new(base: Base, root: &[u8], patterns: &mut [Pattern], outbox: &mut Outbox) -> Option<Self> {
        let directory = open(OsStr::from_bytes(root), DIRECTORY, Mode::empty()).ok()?;
        let device = fstat(&directory).ok()?.st_dev;
        let mut below_match = None;
        for pattern in patterns.iter_mut().filter(|it| it.base == base && it.matches(b"")) {
            pattern.matched = true;
            below_match = Some(0);
        }
        let mut walk = Self { base, levels: Vec::new() };
        let level = Level {
            path: Vec::new(),
            directory,
            device,
            names: Vec::new().into_iter(),
            below_match,
            unsent: None,
        };
        walk.levels.push(level);
        walk.list(patterns, outbox);
        Some(walk)
    }

    /// Looks at the next name. False when there is none left.
    pub fn step(&mut self, patterns: &mut [Pattern], outbox: &mut Outbox) -> bool {
        let Some(level) = self.levels.last_mut() else { return false };
        let Some(name) = level.names.next() else {
            self.levels.pop();
            return !self.levels.is_empty();
        };
        let path = if level.path.is_empty() {
            name.clone()
        } else {
            [level.path.as_slice(), b"/", name.as_slice()].concat()
        };
        let mut below_match = level.below_match.map(|it| it + 1);
        if path.len() > PATH_BYTES_MAX {
            outbox.drop_entry(&path[..PATH_BYTES_MAX], DropReason::DepthLimit);
            return true;
        }
        let stat = fstatat(&level.directory, OsStr::from_bytes(&name), AtFlags::AT_SYMLINK_NOFOLLOW);
        if stat == Err(Errno::ENOENT) {
            return true;
        }
        for pattern in patterns.iter_mut().filter(|it| it.base == self.base) {
            if pattern.matches(&path) {
                pattern.matched = true;
                below_match = below_match.or(Some(0));
            }
        }
        let Ok(stat) = stat else {
            if below_match.is_some() {
                outbox.drop_entry(&path, DropReason::Unreadable);
            }
            return true;
        };
        let found = Found { path, name, stat, below_match };
        if let Err(reason) = self.consider(&found, patterns, outbox)
            && found.below_match.is_some()
        {
            outbox.drop_entry(&found.path, reason);
        }
        true
    }

    /// Directories with names that were not looked at.
    pub fn unfinished(self) -> impl Iterator<Item = Vec<u8>> {
        self.levels.into_iter().filter(|level| level.names.len() > 0).map(|level| level.path)
    }

    /// Sends an entry, or goes into a directory, or tells why not.
    fn consider(
        &mut self,
        found: &Found,
        patterns: &[Pattern],
        outbox: &mut Outbox,
    ) -> Result<(), DropReason> {
        let kind = SFlag::from_bits_truncate(found.stat.st_mode & SFlag::S_IFMT.bits());
        if kind == SFlag::S_IFDIR {
            return self.enter(found, patterns, outbox);
        }
        if found.below_match.is_none() {
            return Ok(());
        }
        if !matches!(kind, SFlag::S_IFREG | SFlag::S_IFLNK) {
            return Err(DropReason::NotAFile);
        }
        if !outbox.has_room(1 + self.unsent()) {
            return Err(DropReason::EntryLimit);
        }
        let level = self.levels.last().ok_or(DropReason::Unreadable)?;
        let name = OsStr::from_bytes(&found.name);
        if outbox.is_sent(&found.path) {
            // The same name below both bases: the host could keep one only.
            return Err(DropReason::Unreadable);
        }
        if kind == SFlag::S_IFLNK {
            let target = readlinkat(&level.directory, name).map_err(|_| DropReason::Unreadable)?;
            self.send_parents(outbox);
            outbox.send(entry(found, EntryKind::Symlink(ByteBuf::from(target.into_vec()))));
            return Ok(());
        }
        let size = found.stat.st_size.unsigned_abs();
        if !outbox.has_bytes(size) {
            return Err(DropReason::ByteLimit);
        }
        let file = openat(&level.directory, name, FILE, Mode::empty()).map_err(|_| DropReason::Unreadable)?;
        if found.stat.st_dev != level.device && foreign(&file) {
            return Err(DropReason::Foreign);
        }
        self.send_parents(outbox);
        outbox.send_file(entry(found, EntryKind::Dir), File::from(file), size);
        Ok(())
    }

    fn enter(&mut self, found: &Found, patterns: &[Pattern], outbox: &mut Outbox) -> Result<(), DropReason> {
        if found.below_match.is_none() && !interesting(patterns, self.base, &found.path) {
            return Ok(());
        }
        if self.base == Base::Root && engines(&found.path) {
            return Err(DropReason::Foreign);
        }
        if found.below_match.is_some_and(|it| it > outbox.depth_max) || self.levels.len() > LEVELS_MAX {
            return Err(DropReason::DepthLimit);
        }
        if found.below_match.is_some() && !outbox.has_room(1 + self.unsent()) {
            return Err(DropReason::EntryLimit);
        }
        let level = self.levels.last().ok_or(DropReason::Unreadable)?;
        let directory = openat(&level.directory, OsStr::from_bytes(&found.name), DIRECTORY, Mode::empty())
            .map_err(|_| DropReason::Unreadable)?;
        if found.stat.st_dev != level.device && foreign(&directory) {
            return Err(DropReason::Foreign);
        }
        self.levels.push(Level {
            path: found.path.clone(),
            directory,
            device: found.stat.st_dev,
            names: Vec::new().into_iter(),
            below_match: found.below_match,
            unsent: Some(entry(found, EntryKind::Dir)),
        });
        if found.below_match.is_some() {
            self.send_parents(outbox);
        }
        self.list(patterns, outbox);
        Ok(())
    }

    /// Directories on the way to here that were not sent yet.
    fn unsent(&self) -> u64 {
        self.levels.iter().filter(|level| level.unsent.is_some()).count() as u64
    }

    fn send_parents(&mut self, outbox: &mut Outbox) {
        for level in &mut self.levels {
            if let Some(entry) = level.unsent.take()
                && !outbox.is_sent(&entry.path)
            {
                outbox.send(entry);
            }
        }
    }

    /// Finds the names of the last directory that are to be looked at: those that patterns name, or all, in order.
    fn list(&mut self, patterns: &[Pattern], outbox: &mut Outbox) {
        let Some(level) = self.levels.last_mut() else { return };
        let mut names = Vec::new();
        let mut all = level.below_match.is_some();
        for pattern in patterns.iter().filter(|it| it.base == self.base) {
            match pattern.interest(&level.path) {
                Interest::Nothing => {}
                Interest::Name(name) => names.push(name.to_vec()),
                Interest::Everything => all = true,
            }
        }
        if all {
            names = read_names(&level.directory);
        }
        if names.len() == NAMES_MAX {
            outbox.drop_entry(&level.path, DropReason::EntryLimit);
        }
        names.sort_unstable();
        names.dedup();
        level.names = names.into_iter();
    }
}

fn interesting(patterns: &[Pattern], base: Base, directory: &[u8]) -> bool {
    patterns.iter().any(|it| it.base == base && it.interest(directory) != Interest::Nothing)
}

/// Directories of the root that are the kernel's and the engine's by their place.
fn engines(path: &[u8]) -> bool {
    matches!(path, b"proc" | b"sys" | b"dev" | b".aegis")
}

fn read_names(directory: &OwnedFd) -> Vec<Vec<u8>> {
    let mut names = Vec::new();
    let Ok(mut listing) = Dir::openat(directory.as_fd(), ".", DIRECTORY, Mode::empty()) else {
        return names;
    };
    for found in listing.iter().flatten() {
        let name = found.file_name().to_bytes();
        if !matches!(name, b"." | b"..") && names.len() < NAMES_MAX {
            names.push(name.to_vec());
        }
    }
    names
}

fn entry(found: &Found, kind: EntryKind) -> Entry {
    Entry {
        path: ByteBuf::from(found.path.as_slice()),
        mode: found.stat.st_mode & 0o7777,
        mtime_s: found.stat.st_mtime,
        mtime_ns: found.stat.st_mtime_nsec.clamp(0, 999_999_999) as u32,
        kind,
    }
}
