//! Content that comes in: the workspace's files, directories and links, with their exact modes and times.
//!
//! A failure is kept, what follows it is passed over, and the host is told at the end.

mod aside;
mod file;

use std::collections::HashMap;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{
    FchmodatFlags, Mode, UtimensatFlags, fchmod, fchmodat, fstatat, futimens, mkdirat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, linkat, symlinkat, unlinkat};
use serde_bytes::ByteBuf;

use aegis_init::wire::{Entry, EntryKind, Gone, Reply};

use crate::beneath::{Beneath, split};
use crate::stamps::{Given, Stamps};

use self::aside::{Aside, Failure, Whole, Written};
use self::file::OpenFile;

const MODE_MAX: u32 = 0o7777;
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
    /// The file whose content goes on, with its number among the stamps.
    open: Option<(usize, OpenFile)>,
    aside: Aside,
    entries: u64,
    bytes: u64,
    failed: Option<Failure>,
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
            aside: Aside::new(),
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
    pub fn put(&mut self, entries: Vec<Entry>) {
        while let Some(written) = self.aside.written() {
            self.take(written);
        }
        let mut files = Vec::new();
        for entry in entries {
            if self.failed.is_some() {
                return;
            }
            if is_whole(&entry) {
                let number = self.stamps.add(&entry.path, Given::Unfinished);
                files.push(Whole { number, entry });
                continue;
            }
            if matches!(entry.kind, EntryKind::Hardlink(_)) {
                self.write(std::mem::take(&mut files));
                self.settle();
            }
            match self.make(&entry) {
                Ok(()) => self.entries += 1,
                Err(errno) => self.fail(&entry.path, errno),
            }
        }
        self.write(files);
    }

    /// Waits until all that was put is there, and has no second thread any more.
    pub fn rest(&mut self) {
        self.settle();
        self.aside.leave();
    }

    fn settle(&mut self) {
        while let Some(written) = self.aside.awaited() {
            self.take(written);
        }
    }

    /// Writes whole files, or has them written.
    fn write(&mut self, files: Vec<Whole>) {
        let Some(places) = &mut self.places else { return };
        if let (Some(_), Some(first)) = (&self.open, files.first()) {
            let path = first.entry.path.clone();
            return self.fail(&path, Errno::EPROTO);
        }
        if let Err(files) = self.aside.give(&places.of_entry, files) {
            let written = aside::write(&mut places.of_entry, &files);
            self.take(written);
        }
    }

    fn take(&mut self, written: Written) {
        self.entries += written.files.len() as u64;
        self.bytes += written.bytes;
        for (number, given) in written.files {
            self.stamps.set(number, given);
        }
        if let Some((path, errno)) = written.failed {
            self.open = None;
            self.failed.get_or_insert((path, errno));
        }
    }

    /// Removes entries, children before parents.
    pub fn remove(&mut self, gone: &[Gone]) {
        self.rest();
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
        let Some((number, mut open)) = self.open.take() else {
            return self.fail(b"", Errno::EPROTO);
        };
        match open.write(data) {
            Ok(Some(given)) => self.stamps.set(number, given),
            Ok(None) => self.open = Some((number, open)),
            Err(errno) => self.fail(&open.path, errno),
        }
        self.bytes += data.len() as u64;
    }

    /// Gives directories their modes and times, children first, now that nothing is made in them any more. Gives the
    /// answer, and what there is now.
    pub fn end(mut self) -> (Reply, Stamps) {
        self.rest();
        if self.failed.is_none()
            && let Some((_, open)) = self.open.take()
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
        let mtime = check_looks(entry)?;
        let (parent, name) = split(&entry.path)?;
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
            EntryKind::File { data, .. } => {
                let mut open = OpenFile::create(directory, name, entry)?;
                let number = self.stamps.add(&entry.path, Given::Unfinished);
                let written = open.write(data)?;
                self.bytes += data.len() as u64;
                match written {
                    Some(given) => self.stamps.set(number, given),
                    None => self.open = Some((number, open)),
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

/// Whether all of a file is here.
fn is_whole(entry: &Entry) -> bool {
    matches!(&entry.kind, EntryKind::File { size, data } if *size == data.len() as u64)
}

fn check_looks(entry: &Entry) -> nix::Result<TimeSpec> {
    if entry.mode > MODE_MAX || entry.mtime_ns > NANOSECONDS_MAX {
        return Err(Errno::EINVAL);
    }
    Ok(TimeSpec::new(entry.mtime_s, i64::from(entry.mtime_ns)))
}
