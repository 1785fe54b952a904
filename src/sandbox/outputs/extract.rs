//! Writes what init sends below one directory, in whatever order it comes. At most one file is open and one chunk is
//! held; what a collection remembers is bounded by its limit of entries.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};

use aegis_init::wire::{Entry, EntryKind, OutDone, PATH_BYTES_MAX};
use rustix::fs::{
    AtFlags, Mode, Timespec, Timestamps, UTIME_OMIT, futimens, mkdirat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use crate::sandbox::beneath;
use crate::sandbox::outputs::destination::{Fresh, Opened};
use crate::sandbox::outputs::draft::{Draft, Published, RESERVED_PREFIX};
use crate::sandbox::outputs::path::SafePath;
use crate::sandbox::outputs::{
    Artifact, Collected, DROPS_NAMED_MAX, Destination, Dropped, OutputError, OutputLimits, Wanted, Why,
};

/// The latest time that is kept, 2106-02-07: every file system and archive holds it. Others are moved to the bounds.
const MTIME_S_MAX: i64 = u32::MAX as i64;
/// Entries beyond the limit after which the sender is given up; a sound init sends none.
const ENTRIES_SLACK: u64 = 10_000;
/// Content bytes beyond the limit after which the sender is given up.
const BYTES_SLACK: u64 = 16 * 1024 * 1024;

/// One collection in progress. Dropped without [`Extractor::finish`] it leaves what was whole, and no directory of its
/// own that is empty.
pub struct Extractor {
    opened: Opened,
    wanted: Wanted,
    limits: OutputLimits,
    current: Current,
    /// Names written in this collection, bounded by the limit of entries.
    written: HashMap<Vec<u8>, Written>,
    /// The directory that was used last: files mostly come side by side.
    last: Option<(Vec<u8>, OwnedFd)>,
    received_entries: u64,
    received_bytes: u64,
    /// Sizes of the files that were begun.
    announced_bytes: u64,
    collected: Collected,
}

/// What the next chunk belongs to.
enum Current {
    /// Nothing: there was no file, or its end was seen.
    None,
    /// A file in the making.
    Writing(Box<Writing>),
    /// A file that was dropped.
    Dropped,
}

struct Writing {
    path: Vec<u8>,
    mode: u32,
    times: Timestamps,
    size: u64,
    left: u64,
    draft: Draft,
}

enum Written {
    /// A file or link.
    Leaf,
    /// A directory, with the times that it gets at the end if it was sent itself.
    Directory(Option<Timestamps>),
}

impl From<Errno> for Why {
    fn from(cause: Errno) -> Self {
        match cause {
            Errno::NOTDIR | Errno::LOOP => Self::PathBlocked,
            _ => Self::Host(cause),
        }
    }
}

impl Extractor {
    /// Opens the directory that everything goes to. Called before anything is started: what cannot be written is
    /// known then.
    pub fn new(destination: &Destination, wanted: Wanted, limits: OutputLimits) -> Result<Self, OutputError> {
        Ok(Self {
            opened: destination.open()?,
            wanted,
            limits,
            current: Current::None,
            written: HashMap::new(),
            last: None,
            received_entries: 0,
            received_bytes: 0,
            announced_bytes: 0,
            collected: Collected::default(),
        })
    }

    /// Takes the entries of one `Reply::Out`.
    pub fn entries(&mut self, entries: Vec<Entry>) -> Result<(), OutputError> {
        for entry in entries {
            self.end_file();
            self.received_entries += 1;
            if self.received_entries > self.limits.entries.saturating_add(ENTRIES_SLACK) {
                return Err(OutputError::Flood);
            }
            if let EntryKind::File { data, .. } = &entry.kind {
                self.count(data)?;
                // If it is dropped, so are its chunks.
                self.current = Current::Dropped;
            }
            if let Err(why) = self.entry(&entry) {
                self.drop_entry(&entry.path, why);
            }
        }
        Ok(())
    }

    /// Takes the content of one `Reply::OutChunk`.
    pub fn chunk(&mut self, bytes: &[u8]) -> Result<(), OutputError> {
        self.count(bytes)?;
        match std::mem::replace(&mut self.current, Current::Dropped) {
            Current::Writing(writing) => self.append(writing, bytes),
            Current::Dropped => {}
            Current::None => self.drop_entry(b"", Why::SizeDiffers),
        }
        Ok(())
    }

    /// Ends the collection. `done` is init's last word, `None` if it never came.
    pub fn finish(mut self, done: Option<OutDone>) -> Collected {
        self.end_file();
        self.set_directory_times();
        self.collected.complete = done.is_some();
        let done = done.unwrap_or_default();
        let unnamed = done.dropped_count.saturating_sub(done.dropped.len() as u64);
        for (path, reason) in &done.dropped {
            self.drop_entry(path, Why::Inside(*reason));
        }
        self.collected.dropped_count = self.collected.dropped_count.saturating_add(unnamed);
        let mut unmatched: Vec<usize> = done.unmatched.into_iter().map(|it| it as usize).collect();
        unmatched.retain(|it| *it < self.wanted.count());
        unmatched.sort_unstable();
        unmatched.dedup();
        self.collected.unmatched = unmatched;
        if !self.written.is_empty() {
            self.collected.directory = Some(self.opened.path.clone());
        }
        std::mem::take(&mut self.collected)
    }

    fn count(&mut self, bytes: &[u8]) -> Result<(), OutputError> {
        self.received_bytes = self.received_bytes.saturating_add(bytes.len() as u64);
        if self.received_bytes > self.limits.bytes.saturating_add(BYTES_SLACK) {
            return Err(OutputError::Flood);
        }
        Ok(())
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), Why> {
        let path = SafePath::parse(&entry.path).map_err(Why::Path)?;
        if path.depth() as u64 > self.limits.depth {
            return Err(Why::DepthLimit);
        }
        if path.bytes().starts_with(RESERVED_PREFIX) {
            return Err(Why::ReservedName);
        }
        if self.wanted.hides_git(path.bytes()) {
            return Err(Why::Git);
        }
        // Directories come along as the way to what is wanted.
        if entry.kind != EntryKind::Dir && !self.wanted.names(path.bytes()) {
            return Err(Why::NotWanted);
        }
        match &entry.kind {
            EntryKind::Dir => self.directory(path, entry),
            EntryKind::File { size, data } => self.begin_file(path, entry, *size, data),
            EntryKind::Symlink(target) => self.symlink(path, entry, target),
            EntryKind::Hardlink(_) => Err(Why::HardLink),
        }
    }

    fn directory(&mut self, path: SafePath<'_>, entry: &Entry) -> Result<(), Why> {
        match self.written.get(path.bytes()) {
            Some(Written::Directory(None)) => {}
            Some(Written::Directory(Some(_)) | Written::Leaf) => return Err(Why::Duplicate),
            None => {
                let (parent, name) = path.split();
                let parent = self.open_directory(parent)?;
                self.make_directory(&parent, name, entry.mode & 0o777)?;
                self.last = Some((path.split().0.to_vec(), parent));
            }
        }
        self.written.insert(path.bytes().to_vec(), Written::Directory(Some(times(entry))));
        Ok(())
    }

    fn symlink(&mut self, path: SafePath<'_>, entry: &Entry, target: &[u8]) -> Result<(), Why> {
        self.require_new(path)?;
        if !path.may_link_to(target) {
            return Err(Why::LinkLeadsOut);
        }
        let (parent, name) = path.split();
        let directory = self.open_directory(parent)?;
        self.require_room()?;
        match symlinkat(target, &directory, name) {
            Err(Errno::EXIST) if self.opened.fresh == Fresh::Existing => {
                match unlinkat(&directory, name, AtFlags::empty()) {
                    Err(Errno::ISDIR) => return Err(Why::NameIsDirectory),
                    other => other?,
                }
                symlinkat(target, &directory, name)?;
            }
            Err(Errno::EXIST) => return Err(Why::Duplicate),
            other => other?,
        }
        // A link's own time matters to nobody enough to lose the link for it.
        let _ = utimensat(&directory, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW);
        self.last = Some((parent.to_vec(), directory));
        self.written.insert(path.bytes().to_vec(), Written::Leaf);
        self.collected.symlinks += 1;
        Ok(())
    }

    fn begin_file(&mut self, path: SafePath<'_>, entry: &Entry, size: u64, data: &[u8]) -> Result<(), Why> {
        self.require_new(path)?;
        if size > self.limits.bytes.saturating_sub(self.announced_bytes) {
            return Err(Why::ByteLimit);
        }
        let (parent, _) = path.split();
        let directory = self.open_directory(parent)?;
        self.require_room()?;
        // Its owner can always read and replace what came out.
        let mode = entry.mode & 0o777 | 0o600;
        let draft = Draft::create(directory.as_fd(), self.opened.fd.as_fd(), mode)?;
        self.last = Some((parent.to_vec(), directory));
        self.announced_bytes += size;
        let path = path.bytes().to_vec();
        self.append(Box::new(Writing { path, mode, times: times(entry), size, left: size, draft }), data);
        Ok(())
    }

    /// Writes content of a file and keeps it as the current one; a file that cannot be right any more is dropped.
    fn append(&mut self, mut writing: Box<Writing>, bytes: &[u8]) {
        if bytes.len() as u64 > writing.left {
            return self.drop_entry(&writing.path, Why::SizeDiffers);
        }
        if let Err(cause) = writing.draft.write(bytes) {
            let cause = Errno::from_io_error(&cause).unwrap_or(Errno::IO);
            return self.drop_entry(&writing.path, Why::Host(cause));
        }
        writing.left -= bytes.len() as u64;
        self.current = Current::Writing(writing);
    }

    /// The current file gets no more content: it is published if it is whole. Not earlier, so that content beyond the
    /// announced size is seen.
    fn end_file(&mut self) {
        let Current::Writing(writing) = std::mem::replace(&mut self.current, Current::None) else { return };
        let path = writing.path.clone();
        if let Err(why) = self.publish(*writing) {
            self.drop_entry(&path, why);
        }
    }

    fn publish(&mut self, writing: Writing) -> Result<(), Why> {
        let Writing { path, mode, times, size, left, draft } = writing;
        if left > 0 {
            return Err(Why::SizeDiffers);
        }
        let (parent, name) = SafePath::parse(&path).map_err(Why::Path)?.split();
        let directory = self.open_directory(parent)?;
        let sha256 = draft.sha256();
        match draft.publish(directory.as_fd(), name, &times, self.opened.fresh)? {
            Published::Yes => {}
            Published::Taken => return Err(Why::Duplicate),
            Published::Directory => return Err(Why::NameIsDirectory),
        }
        self.last = Some((parent.to_vec(), directory));
        self.written.insert(path.clone(), Written::Leaf);
        self.collected.bytes += size;
        self.collected.artifacts.push(Artifact { path, bytes: size, sha256, mode });
        Ok(())
    }

    /// Opens a directory below the top, making what is missing, and following no link. The caller gives it back as
    /// `last`.
    fn open_directory(&mut self, path: &[u8]) -> Result<OwnedFd, Why> {
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
            Ok(()) => self.collected.directories += 1,
            Err(Errno::EXIST) => {}
            Err(cause) => return Err(cause.into()),
        }
        Ok(beneath::directory(parent.as_fd(), name)?)
    }

    fn require_new(&self, path: SafePath<'_>) -> Result<(), Why> {
        match self.written.get(path.bytes()) {
            Some(Written::Leaf) => Err(Why::Duplicate),
            Some(Written::Directory(_)) => Err(Why::NameIsDirectory),
            None => Ok(()),
        }
    }

    fn require_room(&self) -> Result<(), Why> {
        if self.written.len() as u64 >= self.limits.entries {
            return Err(Why::EntryLimit);
        }
        Ok(())
    }

    fn drop_entry(&mut self, path: &[u8], why: Why) {
        self.collected.dropped_count = self.collected.dropped_count.saturating_add(1);
        if self.collected.dropped.len() < DROPS_NAMED_MAX {
            let path = path[..path.len().min(PATH_BYTES_MAX)].to_vec();
            self.collected.dropped.push(Dropped { path, why });
        }
    }

    /// Last, because every name that is made in a directory changes its time.
    fn set_directory_times(&mut self) {
        for (path, written) in &self.written {
            let Written::Directory(Some(times)) = written else { continue };
            // Its content is there; a directory's time is not worth a word.
            let _ = beneath::directory(self.opened.fd.as_fd(), path).and_then(|it| futimens(it, times));
        }
    }
}

impl Drop for Extractor {
    fn drop(&mut self) {
        self.current = Current::None;
        if self.opened.fresh == Fresh::New {
            // Fails for a directory that something came out to, which is what decides.
            let _ = std::fs::remove_dir(&self.opened.path);
        }
    }
}

/// The time of an entry, moved into bounds; the time of access stays this moment's.
fn times(entry: &Entry) -> Timestamps {
    let last_modification = match entry.mtime_s {
        0..=MTIME_S_MAX if entry.mtime_ns < 1_000_000_000 => {
            Timespec { tv_sec: entry.mtime_s, tv_nsec: entry.mtime_ns.into() }
        }
        other => Timespec { tv_sec: other.clamp(0, MTIME_S_MAX), tv_nsec: 0 },
    };
    Timestamps { last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT }, last_modification }
}
