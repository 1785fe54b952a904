//! Where snapshots are kept: found by the workspace's path, one run at a time, few, and the longest unused goes first.

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{FlockOperation, Mode, OFlags};
use sha2::{Digest, Sha256};

use crate::sandbox::changes::layer;
use crate::sandbox::workspace::snapshot::manifest::{BYTES_MAX, Manifest};
use crate::sandbox::workspace::snapshot::{Base, PackError, io_error};
use crate::sandbox::{removal, slot};

/// Snapshots that are kept.
const KEPT_MAX: u32 = 16;
/// User and group id of the first one; slots have lower numbers.
const UID_FIRST: u32 = slot::UID_FIRST + 10_000;
/// Bytes of a key.
const KEY_BYTES: usize = 8;

/// A snapshot's directory that this process holds.
pub struct Place {
    directory: PathBuf,
    /// The user that a tree in it belongs to.
    pub uid: u32,
    lock: OwnedFd,
}

/// A snapshot that nobody uses.
#[derive(Debug)]
pub struct Kept {
    directory: PathBuf,
    /// When it was used last.
    pub used: SystemTime,
    _lock: OwnedFd,
}

/// The place for a workspace's snapshot; `None` if another run has it, or every place is in use.
pub fn take(work: &Path, root: &[u8]) -> io::Result<Option<Place>> {
    let trees = work.join("trees");
    slot::make_private(&trees)?;
    // Held for a moment only: choosing and making are one step.
    let choosing = open_lock(&trees)?;
    rustix::fs::flock(&choosing, FlockOperation::LockExclusive).map_err(io_error)?;
    let key = hex::encode(&Sha256::digest(root)[..KEY_BYTES]);
    let mut free: Vec<u32> = (0..KEPT_MAX).collect();
    for (number, directory) in listed(&trees)? {
        if directory.extension().is_some_and(|it| it == key.as_str()) {
            return Ok(hold(&directory)?.map(|lock| Place { directory, uid: UID_FIRST + number, lock }));
        }
        free.retain(|it| *it != number);
    }
    let number = match free.first() {
        Some(number) => *number,
        None => match make_room(&trees)? {
            Some(number) => number,
            None => return Ok(None),
        },
    };
    let directory = trees.join(format!("{number}.{key}"));
    slot::make_private(&directory)?;
    Ok(hold(&directory)?.map(|lock| Place { directory, uid: UID_FIRST + number, lock }))
}

impl Place {
    /// What is in the tree; `None` if there is none that counts.
    pub fn manifest(&self) -> Option<Manifest> {
        let mut bytes = Vec::new();
        let file = std::fs::File::open(self.directory.join("manifest")).ok()?;
        file.take(BYTES_MAX as u64).read_to_end(&mut bytes).ok()?;
        Manifest::decode(&bytes)
    }

    /// Lays down anew what the manifest says. Until the manifest is there, it does not count.
    pub fn lay(
        &self,
        manifest: &Manifest,
        make: impl FnOnce(&Self) -> Result<(), PackError>,
    ) -> Result<(), PackError> {
        let (name, fresh) = (self.directory.join("manifest"), self.directory.join("manifest.new"));
        match std::fs::remove_file(&name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(PackError::Write(error)),
            Ok(()) | Err(_) => {}
        }
        make(self)?;
        let encoded = manifest.encode().map_err(|it| PackError::Write(io::Error::other(it)))?;
        std::fs::write(&fresh, encoded).map_err(PackError::Write)?;
        std::fs::rename(&fresh, &name).map_err(PackError::Write)
    }

    /// Where a tree comes; the one before it is gone.
    pub fn tree(&self) -> Result<PathBuf, PackError> {
        let tree = self.directory.join("tree");
        removal::remove_tree(&tree).map_err(PackError::Write)?;
        Ok(tree)
    }

    /// Where messages lie.
    pub fn messages(&self) -> PathBuf {
        self.directory.join("messages")
    }

    /// Notes that it is used: the time of its lock's file.
    pub fn used(&self) {
        let _ = rustix::fs::futimens(&self.lock, &now());
    }

    /// Whether this process could tell what a task changes over a tree here.
    pub fn sees_marks(&self) -> bool {
        layer::sees_marks(&self.lock)
    }

    /// The snapshot, for a sandbox.
    pub fn base(self, bytes: u64) -> Base {
        self.used();
        Base { tree: self.directory.join("tree"), uid: self.uid, bytes, _lock: self.lock }
    }
}

/// Snapshots that nobody uses, the longest unused first; each is held as long as it is looked at.
pub fn kept(work: &Path) -> io::Result<Vec<Kept>> {
    let mut kept = Vec::new();
    for (_, directory) in listed(&work.join("trees"))? {
        if let Some(lock) = hold(&directory)? {
            let used = std::fs::metadata(directory.join("lock"))?.modified()?;
            kept.push(Kept { directory, used, _lock: lock });
        }
    }
    kept.sort_by_key(|it| it.used);
    Ok(kept)
}

impl Kept {
    /// Its name.
    pub fn name(&self) -> String {
        self.directory.file_name().map(|it| it.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Removes it.
    pub fn remove(self) -> io::Result<()> {
        removal::remove_tree(&self.directory)
    }
}

/// Removes the longest unused and gives its number.
fn make_room(trees: &Path) -> io::Result<Option<u32>> {
    let Some(work) = trees.parent() else { return Ok(None) };
    let Some(oldest) = kept(work)?.into_iter().next() else { return Ok(None) };
    let number = number_of(&oldest.directory);
    oldest.remove()?;
    Ok(number)
}

fn listed(trees: &Path) -> io::Result<Vec<(u32, PathBuf)>> {
    let entries = match std::fs::read_dir(trees) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut listed = Vec::new();
    for entry in entries.take(KEPT_MAX as usize * 4) {
        let path = entry?.path();
        if let Some(number) = number_of(&path) {
            listed.push((number, path));
        }
    }
    Ok(listed)
}

fn number_of(directory: &Path) -> Option<u32> {
    directory.file_stem()?.to_str()?.parse().ok().filter(|it| *it < KEPT_MAX)
}

fn open_lock(directory: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    rustix::fs::open(directory.join("lock"), flags, Mode::from_raw_mode(0o600)).map_err(io_error)
}

/// The lock of a snapshot; `None` if somebody holds it, or it was removed meanwhile.
fn hold(directory: &Path) -> io::Result<Option<OwnedFd>> {
    let lock = match open_lock(directory) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(None);
    }
    let held = rustix::fs::fstat(&lock).map_err(io_error)?;
    match rustix::fs::stat(directory.join("lock")) {
        Ok(named) if (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino) => Ok(Some(lock)),
        Ok(_) | Err(_) => Ok(None),
    }
}

fn now() -> rustix::fs::Timestamps {
    let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
    rustix::fs::Timestamps { last_access: now, last_modification: now }
}
