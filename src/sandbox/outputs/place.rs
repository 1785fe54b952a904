//! The tree that grows in an output directory: what has its name in it, and the way to each place without following a
//! link. Bounded by the limit of entries.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, Timestamps, futimens, mkdirat, symlinkat, unlinkat, utimensat};
use rustix::io::Errno;

use crate::sandbox::beneath;
use crate::sandbox::outputs::destination::{Fresh, Opened};
use crate::sandbox::outputs::draft::{Draft, Published};
use crate::sandbox::outputs::path::SafePath;
use crate::sandbox::outputs::{Destination, OutputError, Why};

/// An output directory with what one collection put there. Dropped, it leaves no directory of its own that is empty.
pub(super) struct Place {
    opened: Opened,
    entries_max: u64,
    written: HashMap<Vec<u8>, Written>,
    /// The directory that was used last: files mostly come side by side.
    last: Option<(Vec<u8>, OwnedFd)>,
    /// Directories made.
    pub directories: u64,
}

enum Written {
    /// A file or link.
    Leaf,
    /// A directory, with the times that it gets at the end if it was sent itself.
    Directory(Option<Timestamps>),
}

impl Place {
    pub fn open(destination: &Destination, entries_max: u64) -> Result<Self, OutputError> {
        let opened = destination.open()?;
        Ok(Self { opened, entries_max, written: HashMap::new(), last: None, directories: 0 })
    }

    /// Where it lies; `None` as long as nothing is in it.
    pub fn path(&self) -> Option<&Path> {
        (!self.written.is_empty()).then_some(self.opened.path.as_path())
    }

    /// Makes a directory that was sent.
    pub fn directory(&mut self, path: SafePath<'_>, mode: u32, times: Timestamps) -> Result<(), Why> {
        match self.written.get(path.bytes()) {
            Some(Written::Directory(None)) => {}
            Some(Written::Directory(Some(_)) | Written::Leaf) => return Err(Why::Duplicate),
            None => {
                let (parent, name) = path.split();
                let opened = self.parent(parent)?;
                self.make_directory(&opened, name, mode)?;
                self.last = Some((parent.to_vec(), opened));
            }
        }
        self.written.insert(path.bytes().to_vec(), Written::Directory(Some(times)));
        Ok(())
    }

    /// Makes a link whose target was found harmless.
    pub fn symlink(&mut self, path: SafePath<'_>, target: &[u8], times: &Timestamps) -> Result<(), Why> {
        let (parent, name) = path.split();
        let opened = self.parent(parent)?;
        self.require_room()?;
        match symlinkat(target, &opened, name) {
            Err(Errno::EXIST) if self.opened.fresh == Fresh::Existing => {
                match unlinkat(&opened, name, AtFlags::empty()) {
                    Err(Errno::ISDIR) => return Err(Why::NameIsDirectory),
                    other => other?,
                }
                symlinkat(target, &opened, name)?;
            }
            Err(Errno::EXIST) => return Err(Why::Duplicate),
            other => other?,
        }
        // A link's own time matters to nobody enough to lose the link for it.
        let _ = utimensat(&opened, name, times, AtFlags::SYMLINK_NOFOLLOW);
        self.last = Some((parent.to_vec(), opened));
        self.written.insert(path.bytes().to_vec(), Written::Leaf);
        Ok(())
    }

    /// Begins a file that will lie at `path`.
    pub fn draft(&mut self, path: SafePath<'_>, mode: u32) -> Result<Draft, Why> {
        let (parent, _) = path.split();
        let opened = self.parent(parent)?;
        self.require_room()?;
        let draft = Draft::create(opened.as_fd(), self.opened.fd.as_fd(), mode)?;
        self.last = Some((parent.to_vec(), opened));
        Ok(draft)
    }

    /// Gives a whole file its name.
    pub fn publish(&mut self, path: SafePath<'_>, draft: Draft, times: &Timestamps) -> Result<(), Why> {
        let (parent, name) = path.split();
        let opened = self.parent(parent)?;
        match draft.publish(opened.as_fd(), name, times, self.opened.fresh)? {
            Published::Yes => {}
            Published::Taken => return Err(Why::Duplicate),
            Published::Directory => return Err(Why::NameIsDirectory),
        }
        self.last = Some((parent.to_vec(), opened));
        self.written.insert(path.bytes().to_vec(), Written::Leaf);
        Ok(())
    }

    /// Refuses a name that this collection has used.
    pub fn require_new(&self, path: SafePath<'_>) -> Result<(), Why> {
        match self.written.get(path.bytes()) {
            Some(Written::Leaf) => Err(Why::Duplicate),
            Some(Written::Directory(_)) => Err(Why::NameIsDirectory),
            None => Ok(()),
        }
    }

    /// Last, because every name that is made in a directory changes its time.
    pub fn set_directory_times(&self) {
        for (path, written) in &self.written {
            let Written::Directory(Some(times)) = written else { continue };
            // Its content is there; a directory's time is not worth a word.
            let _ = beneath::directory(self.opened.fd.as_fd(), path).and_then(|it| futimens(it, times));
        }
    }

    /// Opens the directory that something is put into, making what is missing, and following no link. The caller gives
    /// it back as `last`.
    fn parent(&mut self, path: &[u8]) -> Result<OwnedFd, Why> {
        if let Some((last, opened)) = self.last.take()
            && last == path
        {
            return Ok(opened);
        }
        let mut opened = beneath::directory(self.opened.fd.as_fd(), b"")?;
        let mut start = 0;
        while start < path.len() {
            let length = path[start..].iter().position(|it| *it == b'/').unwrap_or(path.len() - start);
            let (prefix, name) = (&path[..start + length], &path[start..start + length]);
            match self.written.get(prefix) {
                Some(Written::Directory(_)) => opened = beneath::directory(opened.as_fd(), name)?,
                Some(Written::Leaf) => return Err(Why::PathBlocked),
                None => {
                    opened = self.make_directory(&opened, name, 0o755)?;
                    self.written.insert(prefix.to_vec(), Written::Directory(None));
                }
            }
            start += length + 1;
        }
        Ok(opened)
    }

    /// Makes a directory, or takes one that an earlier run left there, and opens it.
    fn make_directory(&mut self, parent: &OwnedFd, name: &[u8], mode: u32) -> Result<OwnedFd, Why> {
        self.require_room()?;
        match mkdirat(parent, name, Mode::from_raw_mode(mode | 0o700)) {
            Ok(()) => self.directories += 1,
            Err(Errno::EXIST) => {}
            Err(cause) => return Err(cause.into()),
        }
        Ok(beneath::directory(parent.as_fd(), name)?)
    }

    fn require_room(&self) -> Result<(), Why> {
        if self.written.len() as u64 >= self.entries_max {
            return Err(Why::EntryLimit);
        }
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.opened.fresh == Fresh::New {
            // Fails for a directory that something came out to, which is what decides.
            let _ = std::fs::remove_dir(&self.opened.path);
        }
    }
}
