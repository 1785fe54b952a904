//! Content that comes in: the workspace's files, directories and links, with their exact modes and times.
//!
//! The first failure is kept, what follows it is passed over, and the host is told at the end.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{
    FchmodatFlags, Mode, UtimensatFlags, fchmod, fchmodat, fstat, fstatat, futimens, mkdirat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, linkat, symlinkat, unlinkat};
use serde_bytes::ByteBuf;

use aegis_init::wire::{Entry, EntryKind, Gone, Reply};

use crate::beneath::{Beneath, split};
use crate::stamps::{Given, Stamps};

const MODE_MAX: u32 = 0o7777;
/// What a create call gives and a later write takes away again.
const SET_ID_BITS: u32 = 0o7000;
/// A directory must be open to init until its content is there.
const DIRECTORY_MODE_MIN: u32 = 0o700;
const NANOSECONDS_MAX: u32 = 999_999_999;
/// Bytes of paths of directories whose mode and time are still to be set.
const DIRECTORY_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Content that is being put into a directory.
pub struct Content {
    places: Option<Places>,
    stamps: Stamps,
    directories: Vec<Directory>,
    directory_bytes: usize,
    /// Directories that went or came again, and how many were to be finished by then: what was said of one of that name
    /// among them does not hold any more.
    superseded: HashMap<ByteBuf, usize>,
    open: Option<OpenFile>,
    entries: u64,
    bytes: u64,
    failed: Option<(ByteBuf, i32)>,
}

/// Hard links have two places; each keeps its own way.
struct Places {
    of_entry: Beneath,
    of_target: Beneath,
}

struct Directory {
    path: ByteBuf,
    mode: Mode,
    mtime: TimeSpec,
}

struct OpenFile {
    path: ByteBuf,
    /// Its number among the stamps.
    number: usize,
    file: File,
    left: u64,
    mode: u32,
    mtime: TimeSpec,
}

impl Content {
    /// Begins below this directory; what is put is added to these stamps.
    pub fn new(root: &[u8], stamps: Stamps) -> Self {
        let opened =
            Beneath::new(root).and_then(|of_entry| Ok(Places { of_entry, of_target: Beneath::new(root)? }));
        let mut content = Self {
            places: None,
            stamps,
            directories: Vec::new(),
            directory_bytes: 0,
            superseded: HashMap::new(),
            open: None,
            entries: 0,
            bytes: 0,
            failed: None,
        };
        match opened {
            Ok(places) => content.places = Some(places),
            Err(errno) => content.fail(root, errno),
        }
        content
    }

    /// Makes entries, parents before children.
    pub fn put(&mut self, entries: &[Entry]) {
        for entry in entries {
            if self.failed.is_some() {
                return;
            }
            match self.make(entry) {
                Ok(()) => self.entries += 1,
                Err(errno) => self.fail(&entry.path, errno),
            }
        }
    }

    /// Removes entries, children before parents.
    pub fn remove(&mut self, gone: &[Gone]) {
        for it in gone {
            if self.failed.is_some() {
                return;
            }
            if let Err(errno) = self.remove_one(it) {
                self.fail(&it.path, errno);
            }
        }
        // A directory of that name may come anew, and is another one.
        if let Some(places) = &mut self.places {
            places.of_entry.forget();
            places.of_target.forget();
        }
    }

    fn remove_one(&mut self, gone: &Gone) -> nix::Result<()> {
        let places = self.places.as_mut().ok_or(Errno::ENOENT)?;
        if self.open.is_some() {
            return Err(Errno::EPROTO);
        }
        let (parent, name) = split(&gone.path)?;
        let flags = if gone.directory { UnlinkatFlags::RemoveDir } else { UnlinkatFlags::NoRemoveDir };
        unlinkat(places.of_entry.directory(parent)?, name, flags)?;
        self.stamps.add(&gone.path, Given::Removed);
        if gone.directory && !self.directories.is_empty() {
            self.superseded.insert(gone.path.clone(), self.directories.len());
        }
        Ok(())
    }

    /// Continues the last file.
    pub fn chunk(&mut self, data: &[u8]) {
        if self.failed.is_some() {
            return;
        }
        let Some(mut open) = self.open.take() else {
            return self.fail(b"", Errno::EPROTO);
        };
        match open.write(data) {
            Ok(()) if open.left > 0 => self.open = Some(open),
            Ok(()) => match fstat(&open.file) {
                Ok(stat) => self.stamps.set(open.number, Given::leaf(&stat)),
                Err(errno) => self.fail(&open.path, errno),
            },
            Err(errno) => self.fail(&open.path, errno),
        }
        self.bytes += data.len() as u64;
    }

    /// Gives directories their modes and times, children first, now that nothing is made in them any more. Gives the
    /// answer, and what there is now.
    pub fn end(mut self) -> (Reply, Stamps) {
        if self.failed.is_none()
            && let Some(open) = self.open.take()
        {
            self.fail(&open.path, Errno::EPROTO);
        }
        for (index, directory) in std::mem::take(&mut self.directories).iter().enumerate().rev() {
            if self.failed.is_some() {
                break;
            }
            if self.superseded.get(&directory.path).is_some_and(|at| index < *at) {
                continue;
            }
            if let Err(errno) = self.finish(directory) {
                self.fail(&directory.path, errno);
            }
        }
        (Reply::PutDone { entries: self.entries, bytes: self.bytes, failed: self.failed }, self.stamps)
    }

    fn fail(&mut self, path: &[u8], errno: Errno) {
        self.open = None;
        self.failed.get_or_insert((ByteBuf::from(path), errno as i32));
    }

    fn make(&mut self, entry: &Entry) -> nix::Result<()> {
        let places = self.places.as_mut().ok_or(Errno::ENOENT)?;
        if self.open.is_some() {
            return Err(Errno::EPROTO);
        }
        if entry.mode > MODE_MAX || entry.mtime_ns > NANOSECONDS_MAX {
            return Err(Errno::EINVAL);
        }
        let (parent, name) = split(&entry.path)?;
        let mtime = TimeSpec::new(entry.mtime_s, i64::from(entry.mtime_ns));
        let directory = places.of_entry.directory(parent)?;
        match &entry.kind {
            EntryKind::Dir => {
                self.directory_bytes += entry.path.len() + size_of::<Directory>();
                if self.directory_bytes > DIRECTORY_BYTES_MAX {
                    return Err(Errno::ENOMEM);
                }
                let mode = Mode::from_bits_truncate(entry.mode | DIRECTORY_MODE_MIN);
                match mkdirat(directory, name, mode) {
                    Ok(()) => {}
                    // A directory that is there already gets its mode and time at the end, and is open until then;
                    // anything else fails there.
                    Err(Errno::EEXIST) => {
                        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                        openat(directory, name, flags, Mode::empty())?;
                        fchmodat(directory, name, mode, FchmodatFlags::FollowSymlink)?;
                        self.superseded.insert(entry.path.clone(), self.directories.len());
                    }
                    Err(errno) => return Err(errno),
                }
                self.stamps.add(&entry.path, Given::directory(entry.mode));
                let mode = Mode::from_bits_truncate(entry.mode);
                self.directories.push(Directory { path: entry.path.clone(), mode, mtime });
            }
            EntryKind::File { size, data } => {
                let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
                let mode = Mode::from_bits_truncate(entry.mode);
                let file = openat(directory, name, flags | OFlag::O_CLOEXEC, mode)?;
                let (file, left) = (File::from(file), *size);
                let number = self.stamps.add(&entry.path, Given::Unfinished);
                let mut open =
                    OpenFile { path: entry.path.clone(), number, file, left, mode: entry.mode, mtime };
                open.write(data)?;
                self.bytes += data.len() as u64;
                if open.left == 0 {
                    self.stamps.set(number, Given::leaf(&fstat(&open.file)?));
                } else {
                    self.open = Some(open);
                }
            }
            EntryKind::Symlink(target) => {
                symlinkat(target.as_slice(), directory, name)?;
                let flags = UtimensatFlags::NoFollowSymlink;
                utimensat(directory, name, &TimeSpec::UTIME_OMIT, &mtime, flags)?;
                let stat = fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
                self.stamps.add(&entry.path, Given::leaf(&stat));
            }
            EntryKind::Hardlink(target) => {
                let (target_parent, target_name) = split(target)?;
                let from = places.of_target.directory(target_parent)?;
                linkat(from, target_name, directory, name, AtFlags::empty())?;
                let stat = fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
                self.stamps.add_link(&entry.path, &stat);
            }
        }
        Ok(())
    }

    fn finish(&mut self, directory: &Directory) -> nix::Result<()> {
        let places = self.places.as_mut().ok_or(Errno::ENOENT)?;
        let (parent, name) = split(&directory.path)?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let opened = openat(places.of_entry.directory(parent)?, name, flags, Mode::empty())?;
        fchmod(&opened, directory.mode)?;
        futimens(&opened, &TimeSpec::UTIME_OMIT, &directory.mtime)
    }
}

impl OpenFile {
    /// Writes the next bytes; after the last the file gets what writing would change.
    fn write(&mut self, data: &[u8]) -> nix::Result<()> {
        self.left = self.left.checked_sub(data.len() as u64).ok_or(Errno::EPROTO)?;
        self.file.write_all(data).map_err(|err| Errno::from_raw(err.raw_os_error().unwrap_or(libc::EIO)))?;
        if self.left > 0 {
            return Ok(());
        }
        if self.mode & SET_ID_BITS != 0 {
            fchmod(&self.file, Mode::from_bits_truncate(self.mode))?;
        }
        futimens(self.file.as_fd(), &TimeSpec::UTIME_OMIT, &self.mtime)
    }
}
