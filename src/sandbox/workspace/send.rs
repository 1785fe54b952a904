//! Turns a plan into messages: parents before children, small files many to a message, large ones in chunks. Contents
//! are read here, through open directories and never through a link.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd};

use aegis_init::wire::{CHUNK_BYTES_MAX, Entry, EntryKind, Gone, Request};
use rustix::fs::{AtFlags, FileType, Stat, fstat, readlinkat, statat};

use crate::sandbox::beneath;
use crate::sandbox::workspace::base::Identity;
use crate::sandbox::workspace::snapshot::Changes;
use crate::sandbox::workspace::{
    Base, Directory, Item, Meta, Plan, What, WorkspaceError, changed, unreadable,
};

/// Bytes that an entry takes in a message besides its path and content, at the most.
const ENTRY_BYTES: usize = 64;
/// Paths that go in one message: even the longest fit a frame.
const GONE_PER_MESSAGE: usize = 512;

/// The receiver of messages takes no more; why is known to the one who made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped;

/// What was sent; init's answer must say the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sent {
    /// Entries.
    pub entries: u64,
    /// Content bytes.
    pub bytes: u64,
    /// What the task was given, once all is there.
    pub base: Base,
}

/// Sends a whole plan, [`Request::PutEnd`] last. One chunk of content is held at a time.
pub fn send(
    plan: &Plan,
    sink: &mut dyn FnMut(Request) -> Result<(), Stopped>,
) -> Result<Sent, WorkspaceError> {
    let mut batch = Batch::new(sink, plan.limits.bytes);
    for directory in &plan.directories {
        if let Some(meta) = directory.made {
            batch.push(entry(directory.to.clone(), meta, EntryKind::Dir), None)?;
        }
        let source = plan.sources[directory.source].as_fd();
        let opened = beneath::directory(source, &directory.from).map_err(|_| changed(&directory.to))?;
        for item in &directory.items {
            send_item(&mut batch, opened.as_fd(), directory, item)?;
        }
    }
    batch.flush()?;
    batch.put(Request::PutEnd)?;
    Ok(batch.sent)
}

/// Sends what a snapshot of an earlier state lacks: directories that are touched, so that they can be; what goes; then
/// what is new or different.
pub fn send_changes(
    plan: &Plan,
    changes: &Changes,
    sink: &mut dyn FnMut(Request) -> Result<(), Stopped>,
) -> Result<Sent, WorkspaceError> {
    let mut batch = Batch::new(sink, plan.limits.bytes);
    for (path, meta) in &changes.touched {
        batch.push(entry(path.clone(), *meta, EntryKind::Dir), None)?;
    }
    batch.flush()?;
    for paths in changes.gone.chunks(GONE_PER_MESSAGE) {
        let gone = paths.iter().map(|it| Gone { path: it.path.clone().into(), directory: it.directory });
        batch.put(Request::Remove(gone.collect()))?;
    }
    for change in &changes.directories {
        let directory = &plan.directories[change.directory];
        if let Some(meta) = directory.made.filter(|_| change.new) {
            batch.push(entry(directory.to.clone(), meta, EntryKind::Dir), None)?;
        }
        let source = plan.sources[directory.source].as_fd();
        let opened = beneath::directory(source, &directory.from).map_err(|_| changed(&directory.to))?;
        for item in &change.items {
            send_item(&mut batch, opened.as_fd(), directory, &directory.items[*item])?;
        }
    }
    batch.flush()?;
    batch.put(Request::PutEnd)?;
    let mut base = Base::of_plan(plan)?;
    base.set(batch.sent.base);
    Ok(Sent { base, ..batch.sent })
}

fn send_item(
    batch: &mut Batch<'_>,
    opened: BorrowedFd<'_>,
    directory: &Directory,
    item: &Item,
) -> Result<(), WorkspaceError> {
    let to = beneath::join(&directory.to, &item.name);
    match &item.what {
        What::File(_) => send_file(batch, opened, &item.name, to),
        What::Text(text) => {
            let (meta, content) = text.as_ref();
            send_content(batch, content.as_slice(), *meta, content.len() as u64, to, None)
        }
        What::Symlink(_) => {
            let target = readlinkat(opened, &item.name, Vec::new()).map_err(|_| changed(&to))?;
            let stat = lstat(opened, &item.name).ok_or_else(|| changed(&to))?;
            batch.push(entry(to, Meta::of(&stat), EntryKind::Symlink(target.into_bytes().into())), None)
        }
        What::Hardlink(first, _) => {
            let stat = lstat(opened, &item.name).ok_or_else(|| changed(&to))?;
            let hard_link = EntryKind::Hardlink(first.clone().into());
            batch.push(entry(to, Meta::of(&stat), hard_link), Some(Identity::of(&stat)))
        }
    }
}

fn send_file(
    batch: &mut Batch<'_>,
    directory: BorrowedFd<'_>,
    name: &[u8],
    to: Vec<u8>,
) -> Result<(), WorkspaceError> {
    let opened = beneath::file(directory, name).map_err(|cause| match cause {
        rustix::io::Errno::NOENT | rustix::io::Errno::LOOP | rustix::io::Errno::NXIO => changed(&to),
        _ => unreadable(&to, cause),
    })?;
    let stat = fstat(&opened).map_err(|cause| unreadable(&to, cause))?;
    let Ok(size) = u64::try_from(stat.st_size) else { return Err(changed(&to)) };
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(changed(&to));
    }
    send_content(batch, File::from(opened), Meta::of(&stat), size, to, Some(Identity::of(&stat)))
}

/// Announces `size` bytes and sends exactly so many.
fn send_content(
    batch: &mut Batch<'_>,
    mut content: impl Read,
    meta: Meta,
    size: u64,
    to: Vec<u8>,
    identity: Option<Identity>,
) -> Result<(), WorkspaceError> {
    batch.sent.bytes += size;
    if batch.sent.bytes > batch.bytes_max {
        return Err(changed(&to));
    }
    let first = read_chunk(&mut content, size, &to)?;
    let mut left = size - first.len() as u64;
    let whole = left == 0;
    let path = if whole { Vec::new() } else { to.clone() };
    batch.push(entry(to, meta, EntryKind::File { size, data: first.into() }), identity)?;
    if whole {
        return Ok(());
    }
    // The chunks belong to the last file of the last message, so it must be out.
    batch.flush()?;
    while left > 0 {
        let chunk = read_chunk(&mut content, left, &path)?;
        left -= chunk.len() as u64;
        batch.put(Request::PutChunk(chunk.into()))?;
    }
    Ok(())
}

/// The next bytes: a whole chunk, or what is left. Fewer mean that the file shrank.
fn read_chunk(content: &mut impl Read, left: u64, to: &[u8]) -> Result<Vec<u8>, WorkspaceError> {
    let length = usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK_BYTES_MAX);
    let mut chunk = vec![0; length];
    match content.read_exact(&mut chunk) {
        Ok(()) => Ok(chunk),
        Err(cause) if cause.kind() == ErrorKind::UnexpectedEof => Err(changed(to)),
        Err(cause) => {
            Err(unreadable(to, rustix::io::Errno::from_io_error(&cause).unwrap_or(rustix::io::Errno::IO)))
        }
    }
}

fn entry(path: Vec<u8>, meta: Meta, kind: EntryKind) -> Entry {
    let Meta { mode, mtime_s, mtime_ns } = meta;
    Entry { path: path.into(), mode, mtime_s, mtime_ns, kind }
}

fn lstat(directory: BorrowedFd<'_>, name: &[u8]) -> Option<Stat> {
    statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).ok()
}

/// Entries that wait to go out together.
struct Batch<'a> {
    sink: &'a mut dyn FnMut(Request) -> Result<(), Stopped>,
    entries: Vec<Entry>,
    weight: usize,
    sent: Sent,
    bytes_max: u64,
}

impl<'a> Batch<'a> {
    fn new(sink: &'a mut dyn FnMut(Request) -> Result<(), Stopped>, bytes_max: u64) -> Self {
        Self { sink, entries: Vec::new(), weight: 0, sent: Sent::default(), bytes_max }
    }

    /// Adds an entry; a file of the caller's comes with its identity.
    fn push(&mut self, entry: Entry, identity: Option<Identity>) -> Result<(), WorkspaceError> {
        self.sent.base.add(&entry, identity);
        let weight = ENTRY_BYTES
            + entry.path.len()
            + match &entry.kind {
                EntryKind::Dir => 0,
                EntryKind::File { data, .. } => data.len(),
                EntryKind::Symlink(target) | EntryKind::Hardlink(target) => target.len(),
            };
        if !self.entries.is_empty() && self.weight + weight > CHUNK_BYTES_MAX {
            self.flush()?;
        }
        self.weight += weight;
        self.entries.push(entry);
        self.sent.entries += 1;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), WorkspaceError> {
        if self.entries.is_empty() {
            return Ok(());
        }
        self.weight = 0;
        let entries = std::mem::take(&mut self.entries);
        self.put(Request::Put(entries))
    }

    fn put(&mut self, request: Request) -> Result<(), WorkspaceError> {
        (self.sink)(request).map_err(|Stopped| WorkspaceError::Stopped)
    }
}
