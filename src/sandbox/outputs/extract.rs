//! Takes what init sends, in whatever order it comes, and decides entry by entry what of it is put into the output
//! directory. At most one file is open and one chunk is held.

use aegis_init::wire::{Entry, EntryKind, OutDone, PATH_BYTES_MAX};
use rustix::fs::{Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;

use crate::sandbox::outputs::draft::{Draft, RESERVED_PREFIX};
use crate::sandbox::outputs::path::SafePath;
use crate::sandbox::outputs::place::Place;
use crate::sandbox::outputs::{
    Artifact, Collected, DROPS_NAMED_MAX, Destination, Dropped, OutputError, OutputLimits, Wanted, Why,
};

/// The latest time that is kept, 2106-02-07: every file system and archive holds it. Others are moved to the bounds.
const MTIME_S_MAX: i64 = u32::MAX as i64;
/// Entries beyond the limit after which the sender is given up; a sound init sends none.
const ENTRIES_SLACK: u64 = 10_000;
/// Content bytes beyond the limit after which the sender is given up.
const BYTES_SLACK: u64 = 16 * 1024 * 1024;

/// One collection in progress. Dropped without [`Extractor::finish`] it leaves what was whole.
pub struct Extractor {
    // Before `place`: an unfinished file is gone when the directory is looked at for the last time.
    current: Current,
    place: Place,
    wanted: Wanted,
    limits: OutputLimits,
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

impl Extractor {
    /// Opens the directory that everything goes to. Called before anything is started: what cannot be written is
    /// known then.
    pub fn new(destination: &Destination, wanted: Wanted, limits: OutputLimits) -> Result<Self, OutputError> {
        Ok(Self {
            current: Current::None,
            place: Place::open(destination, limits.entries)?,
            wanted,
            limits,
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

    /// The file that is being taken is not wanted after all, because of a secret in it.
    pub fn withhold(&mut self) {
        if let Current::Writing(writing) = std::mem::replace(&mut self.current, Current::Dropped) {
            self.drop_entry(&writing.path, Why::Secret);
        }
    }

    /// Ends the collection. `done` is init's last word, `None` if it never came.
    pub fn finish(mut self, done: Option<OutDone>) -> Collected {
        self.end_file();
        self.place.set_directory_times();
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
        self.collected.directories = self.place.directories;
        self.collected.directory = self.place.path().map(Into::into);
        self.collected
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
        if path.bytes().starts_with(RESERVED_PREFIX) {
            return Err(Why::ReservedName);
        }
        if self.wanted.hides_git(path.bytes()) {
            return Err(Why::Git);
        }
        let directories = match (self.wanted.level(path.bytes()), &entry.kind) {
            (Some(level), EntryKind::Dir) => level,
            (Some(level), _) => level.saturating_sub(1),
            // Directories come along as the way to what is wanted.
            (None, EntryKind::Dir) => 0,
            (None, _) => return Err(Why::NotWanted),
        };
        if directories > self.limits.depth {
            return Err(Why::DepthLimit);
        }
        match &entry.kind {
            EntryKind::Dir => self.place.directory(path, entry.mode & 0o777, times(entry)),
            EntryKind::File { size, data } => self.begin_file(path, entry, *size, data),
            EntryKind::Symlink(target) => self.symlink(path, entry, target),
            EntryKind::Hardlink(_) => Err(Why::HardLink),
        }
    }

    fn symlink(&mut self, path: SafePath<'_>, entry: &Entry, target: &[u8]) -> Result<(), Why> {
        self.place.require_new(path)?;
        if !path.may_link_to(target) {
            return Err(Why::LinkLeadsOut);
        }
        self.place.symlink(path, target, &times(entry))?;
        self.collected.symlinks += 1;
        Ok(())
    }

    fn begin_file(&mut self, path: SafePath<'_>, entry: &Entry, size: u64, data: &[u8]) -> Result<(), Why> {
        self.place.require_new(path)?;
        if size > self.limits.bytes.saturating_sub(self.announced_bytes) {
            return Err(Why::ByteLimit);
        }
        // Its owner can always read and replace what came out.
        let mode = entry.mode & 0o777 | 0o600;
        let draft = self.place.draft(path, mode)?;
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
        let sha256 = draft.sha256();
        self.place.publish(SafePath::parse(&path).map_err(Why::Path)?, draft, &times)?;
        self.collected.bytes += size;
        self.collected.artifacts.push(Artifact { path, bytes: size, sha256, mode });
        Ok(())
    }

    fn drop_entry(&mut self, path: &[u8], why: Why) {
        self.collected.dropped_count = self.collected.dropped_count.saturating_add(1);
        if self.collected.dropped.len() < DROPS_NAMED_MAX {
            let path = path[..path.len().min(PATH_BYTES_MAX)].to_vec();
            self.collected.dropped.push(Dropped { path, why });
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
