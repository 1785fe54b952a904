//! What a collection sends: entries in batches, large files in pieces, and an account of what was left out. The
//! limits of number and bytes are kept here.

use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::io::Read;

use serde_bytes::ByteBuf;

use aegis_init::wire::{CHUNK_BYTES_MAX, Collect, DropReason, Entry, EntryKind, OutDone, Reply};

/// Dropped entries that are named, and the bytes of their names.
const DROPS_MAX: usize = 1_000;
const DROP_BYTES_MAX: usize = 1024 * 1024;
/// What an entry counts in a batch beside its path and content.
const ENTRY_BYTES: usize = 64;

/// Answers on their way and limits that are left.
pub struct Outbox {
    /// Levels below a match.
    pub depth_max: u32,
    entries_left: u64,
    bytes_left: u64,
    /// Paths that were sent, kept only where two bases could give the same.
    sent: Option<HashSet<Vec<u8>>>,
    batch: Vec<Entry>,
    batch_bytes: usize,
    ready: VecDeque<Reply>,
    open: Option<(File, u64)>,
    dropped: Vec<(ByteBuf, DropReason)>,
    dropped_bytes: usize,
    dropped_count: u64,
}

impl Outbox {
    /// Empty, with the limits of the request. Whether paths come from two bases decides if they are remembered.
    pub fn new(collect: &Collect, two_bases: bool) -> Self {
        Self {
            depth_max: collect.depth_max,
            entries_left: collect.entries_max,
            bytes_left: collect.bytes_max,
            sent: two_bases.then(HashSet::new),
            batch: Vec::new(),
            batch_bytes: 0,
            ready: VecDeque::new(),
            open: None,
            dropped: Vec::new(),
            dropped_bytes: 0,
            dropped_count: 0,
        }
    }

    /// The next answer that is ready: a batch, or a piece of the large file at the end of the last one.
    pub fn reply(&mut self) -> Option<Reply> {
        if let Some(reply) = self.ready.pop_front() {
            return Some(reply);
        }
        let (mut file, left) = self.open.take()?;
        let length = left.min(CHUNK_BYTES_MAX as u64);
        let piece = read_exactly(&mut file, length as usize);
        if left > length {
            self.open = Some((file, left - length));
        }
        Some(Reply::OutChunk(ByteBuf::from(piece)))
    }

    /// Room for so many more entries.
    pub fn has_room(&self, entries: u64) -> bool {
        self.entries_left >= entries
    }

    /// Room for a file of this size.
    pub fn has_bytes(&self, size: u64) -> bool {
        self.bytes_left >= size
    }

    /// Whether an entry of this path was sent.
    pub fn is_sent(&self, path: &[u8]) -> bool {
        self.sent.as_ref().is_some_and(|sent| sent.contains(path))
    }

    /// Sends a directory or link.
    pub fn send(&mut self, entry: Entry) {
        self.send_counted(entry);
    }

    /// Sends a file with exactly as many bytes as it had when it was looked at: cut there, padded with zeros.
    pub fn send_file(&mut self, mut entry: Entry, mut file: File, size: u64) {
        self.bytes_left = self.bytes_left.saturating_sub(size);
        let first = size.min(CHUNK_BYTES_MAX as u64);
        let data = read_exactly(&mut file, first as usize);
        entry.kind = EntryKind::File { size, data: ByteBuf::from(data) };
        self.send_counted(entry);
        if size > first {
            self.flush();
            self.open = Some((file, size - first));
        }
    }

    /// Counts an entry that is left out, and names it if there is room.
    pub fn drop_entry(&mut self, path: &[u8], reason: DropReason) {
        self.dropped_count += 1;
        if self.dropped.len() < DROPS_MAX && self.dropped_bytes + path.len() <= DROP_BYTES_MAX {
            self.dropped_bytes += path.len();
            self.dropped.push((super::named(path), reason));
        }
    }

    /// Makes the batch ready; tells whether there was one.
    pub fn flush(&mut self) -> bool {
        if self.batch.is_empty() {
            return false;
        }
        self.batch_bytes = 0;
        self.ready.push_back(Reply::Out(std::mem::take(&mut self.batch)));
        true
    }

    /// The last answer.
    pub fn done(&mut self, unmatched: Vec<u32>) -> Reply {
        let dropped = std::mem::take(&mut self.dropped);
        Reply::OutDone(OutDone { unmatched, dropped, dropped_count: self.dropped_count })
    }

    fn send_counted(&mut self, entry: Entry) {
        let carried = match &entry.kind {
            EntryKind::Dir => 0,
            EntryKind::File { data, .. } => data.len(),
            EntryKind::Symlink(target) | EntryKind::Hardlink(target) => target.len(),
        };
        let bytes = ENTRY_BYTES + entry.path.len() + carried;
        if self.batch_bytes + bytes > CHUNK_BYTES_MAX {
            self.flush();
        }
        if let Some(sent) = &mut self.sent {
            sent.insert(entry.path.to_vec());
        }
        self.entries_left = self.entries_left.saturating_sub(1);
        self.batch_bytes += bytes;
        self.batch.push(entry);
    }
}

fn read_exactly(file: &mut File, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match file.read(&mut bytes[filled..]) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(err) if err.kind() == std::io::ErrorKind::Interrupted => {}
            // The size is announced already; what cannot be read is zeros.
            Err(_) => break,
        }
    }
    bytes
}
