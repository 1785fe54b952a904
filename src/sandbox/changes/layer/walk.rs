//! The walk through a layer, with what of the snapshot is to be seen at another place than its own. Names and marks are the
//! task's doing: nothing is opened but directories, no link is followed, and every number is bounded.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use aegis_init::wire::{DropReason, PATH_BYTES_MAX};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fgetxattr, fstat, openat, readlinkat, statat};
use rustix::io::Errno;

use crate::sandbox::beneath;
use crate::sandbox::changes::layer::{Laid, Met, Stamp, What};

/// Names that are read in all.
const NAMES_MAX: usize = 2_000_000;
/// Levels at the most; each holds a descriptor or two.
const LEVELS_MAX: u64 = 256;
/// On a directory that hides what lies below it.
const OPAQUE: &str = "trusted.overlay.opaque";
const YES: &[u8] = b"y";
/// On a directory that was renamed: where the snapshot has what is to be seen in it, from the root or beside its old name.
const REDIRECT: &str = "trusted.overlay.redirect";
const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A walk through a layer: a directory comes before what lies in it.
pub struct Walk {
    levels: Vec<Level>,
    lower: OwnedFd,
    device: u64,
    depth_max: u64,
    room: usize,
    deadline: Instant,
    /// What is met next in any case.
    next: Option<Met>,
}

/// A directory that is being looked at.
struct Level {
    path: Vec<u8>,
    /// Itself in the layer, if it is there.
    upper: Option<OwnedFd>,
    below: Below,
    names: std::vec::IntoIter<Vec<u8>>,
}

/// What of the snapshot is to be seen in a directory.
enum Below {
    /// What it has at the same path: nobody needs to be told of it.
    Same,
    /// What it has at this path, since the directory was renamed.
    Moved { from: Vec<u8>, directory: OwnedFd },
    /// Nothing.
    Nothing,
}

impl Walk {
    /// Begins at the root of a layer over a snapshot. Directories below `depth_max` levels are not entered.
    pub fn new(upper: &Path, lower: &Path, depth_max: u64, deadline: Instant) -> io::Result<Self> {
        let root = rustix::fs::open(upper, DIRECTORY, Mode::empty())?;
        let lower = rustix::fs::open(lower, DIRECTORY, Mode::empty())?;
        let device = device(&fstat(&root)?);
        let depth_max = depth_max.min(LEVELS_MAX);
        let mut walk =
            Self { levels: Vec::new(), lower, device, depth_max, room: NAMES_MAX, deadline, next: None };
        if let Err(reason) = walk.enter(Vec::new(), Some(root), Below::Same) {
            walk.next = Some(Met::Dropped(Vec::new(), reason));
        }
        Ok(walk)
    }

    fn meet(&mut self, name: &[u8], path: Vec<u8>) -> Result<Laid, DropReason> {
        if path.len() > PATH_BYTES_MAX {
            return Err(DropReason::DepthLimit);
        }
        let level = self.levels.last().ok_or(DropReason::Unreadable)?;
        let (directory, stat, in_upper) = level.find(name)?;
        if device(&stat) != self.device {
            return Err(DropReason::Foreign);
        }
        let stamp = Stamp::of(&stat);
        let what = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let opened = openat(directory, name, DIRECTORY, Mode::empty()).map_err(unreadable)?;
                self.directory(name, &path, opened, in_upper)?
            }
            FileType::RegularFile => What::File { size: u64::try_from(stat.st_size).unwrap_or(0), stamp },
            FileType::Symlink => {
                let target = readlinkat(directory, name, Vec::new()).map_err(unreadable)?.into_bytes();
                What::Symlink { target, stamp }
            }
            FileType::CharacterDevice if stat.st_rdev == 0 => What::Nothing,
            FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Fifo
            | FileType::Socket
            | FileType::Unknown => return Err(DropReason::NotAFile),
        };
        Ok(Laid { path, mode: stat.st_mode & 0o7777, what })
    }

    /// Enters a directory, or says next why not.
    fn directory(
        &mut self,
        name: &[u8],
        path: &[u8],
        opened: OwnedFd,
        in_upper: bool,
    ) -> Result<What, DropReason> {
        let level = self.levels.last().ok_or(DropReason::Unreadable)?;
        let (upper, below) = match &level.below {
            Below::Moved { from, .. } if !in_upper => {
                (None, Below::Moved { from: beneath::join(from, name), directory: opened })
            }
            Below::Same | Below::Moved { .. } | Below::Nothing => {
                let below = self.below(level, name, path, &opened)?;
                (Some(opened), below)
            }
        };
        let hides = !matches!(below, Below::Same);
        if self.levels.len() as u64 > self.depth_max {
            self.next = Some(Met::Dropped(path.to_vec(), DropReason::DepthLimit));
        } else if let Err(reason) = self.enter(path.to_vec(), upper, below) {
            self.next = Some(Met::Dropped(path.to_vec(), reason));
        }
        Ok(What::Directory { hides })
    }

    /// What is to be seen in a directory of the layer.
    fn below(&self, parent: &Level, name: &[u8], path: &[u8], opened: &OwnedFd) -> Result<Below, DropReason> {
        match mark(opened, OPAQUE)?.as_deref() {
            None => {}
            Some(YES) => return Ok(Below::Nothing),
            Some(_) => return Err(DropReason::Unreadable),
        }
        let redirect = mark(opened, REDIRECT)?;
        let from = match (&parent.below, redirect.as_deref()) {
            (Below::Same, None) => return Ok(Below::Same),
            (_, Some([b'/', from @ ..])) => from.to_vec(),
            (Below::Same, Some(beside)) => beneath::join(&parent.path, beside),
            (Below::Moved { from, .. }, beside) => beneath::join(from, beside.unwrap_or(name)),
            (Below::Nothing, _) => return Ok(Below::Nothing),
        };
        if matches!(parent.below, Below::Same) && from == path {
            return Ok(Below::Same);
        }
        match beneath::directory(self.lower.as_fd(), &from) {
            Ok(directory) => Ok(Below::Moved { from, directory }),
            // The snapshot has nothing there that could be seen.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(Below::Nothing),
            Err(error) => Err(unreadable(error)),
        }
    }

    fn enter(&mut self, path: Vec<u8>, upper: Option<OwnedFd>, below: Below) -> Result<(), DropReason> {
        let mut found = Vec::new();
        if let Some(upper) = &upper {
            names(upper, &mut self.room, &mut found)?;
        }
        if let Below::Moved { directory, .. } = &below {
            names(directory, &mut self.room, &mut found)?;
        }
        found.sort_unstable();
        found.dedup();
        self.levels.push(Level { path, upper, below, names: found.into_iter() });
        Ok(())
    }
}

impl Iterator for Walk {
    type Item = Met;

    fn next(&mut self) -> Option<Met> {
        if let Some(met) = self.next.take() {
            return Some(met);
        }
        loop {
            let level = self.levels.last_mut()?;
            let Some(name) = level.names.next() else {
                self.levels.pop();
                continue;
            };
            let path = beneath::join(&level.path, &name);
            if Instant::now() >= self.deadline {
                self.levels.clear();
                return Some(Met::Dropped(path, DropReason::TimeLimit));
            }
            let met = self.meet(&name, path.clone());
            return Some(met.map_or_else(|reason| Met::Dropped(path, reason), Met::Laid));
        }
    }
}

impl Level {
    /// What a name is, in which directory, and whether that one is in the layer.
    fn find(&self, name: &[u8]) -> Result<(&OwnedFd, Stat, bool), DropReason> {
        if let Some(upper) = &self.upper {
            match statat(upper, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => return Ok((upper, stat, true)),
                Err(Errno::NOENT) => {}
                Err(error) => return Err(unreadable(error)),
            }
        }
        match &self.below {
            Below::Moved { directory, .. } => {
                let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(unreadable)?;
                Ok((directory, stat, false))
            }
            Below::Same | Below::Nothing => Err(DropReason::Unreadable),
        }
    }
}

/// A mark of the kernel's on a directory, if it is there.
fn mark(directory: &OwnedFd, name: &str) -> Result<Option<Vec<u8>>, DropReason> {
    let mut value = vec![0; PATH_BYTES_MAX];
    match fgetxattr(directory, name, value.as_mut_slice()) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        Err(error) => Err(unreadable(error)),
    }
}

/// Adds the names in a directory, and takes them from the room that is left.
fn names(directory: &OwnedFd, room: &mut usize, found: &mut Vec<Vec<u8>>) -> Result<(), DropReason> {
    for entry in Dir::read_from(directory).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        *room = room.checked_sub(1).ok_or(DropReason::EntryLimit)?;
        found.push(name.to_vec());
    }
    Ok(())
}

// The width of this field differs between architectures.
#[allow(clippy::unnecessary_cast)]
fn device(stat: &Stat) -> u64 {
    stat.st_dev as u64
}

fn unreadable(_: Errno) -> DropReason {
    DropReason::Unreadable
}
