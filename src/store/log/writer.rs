//! Writing a log from two threads. A log that cannot be written never ends a task: it is marked truncated.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::fault::{self, Point};
use crate::record::Stream;
use crate::store::log::format::{CONTENT_BYTES_MAX, Entry, HEADER, Mark};
use crate::store::log::{INDEX, compress, create_private, file_name};

/// A reader sees a write after this long at the latest.
const FLUSH_INTERVAL: Duration = Duration::from_millis(40);
/// Entries that tell the streams' order write by write (4 MiB of index). Beyond them, it is told by interval.
const FINE_ENTRIES_MAX: u64 = 256 * 1024;

/// The log of a run that goes on.
#[derive(Debug)]
pub struct LogWriter {
    shared: Arc<Shared>,
    flusher: Mutex<Option<JoinHandle<()>>>,
    directory: PathBuf,
}

/// What a log held at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogEnd {
    /// Bytes kept of standard output.
    pub stdout_bytes: u64,
    /// Bytes kept of standard error.
    pub stderr_bytes: u64,
    /// Whether more was written than is kept.
    pub truncated: bool,
}

#[derive(Debug)]
struct Shared {
    stdout: Mutex<Content>,
    stderr: Mutex<Content>,
    index: Mutex<Index>,
    wake: Condvar,
    bytes_max: u64,
    /// Bytes that came, kept or not.
    arrived: AtomicU64,
    truncated: AtomicBool,
    ended: AtomicBool,
}

/// The file of one stream.
#[derive(Debug)]
struct Content {
    file: File,
    bytes: u64,
    /// A write failed: the file may end with a part of it, and nothing may follow.
    broken: bool,
}

#[derive(Debug)]
struct Index {
    file: File,
    /// Entries that no reader has seen yet: they may still grow.
    pending: Vec<Entry>,
    flushed: u64,
    /// A write failed: the file may end in the middle of an entry, and nothing may follow.
    broken: bool,
}

impl LogWriter {
    /// Begins a log in a directory that holds none.
    pub(crate) fn create(directory: PathBuf, bytes_max: u64) -> io::Result<Self> {
        let content = |stream| {
            create_private(&directory.join(file_name(stream))).map(|file| Content {
                file,
                bytes: 0,
                broken: false,
            })
        };
        let mut index = create_private(&directory.join(INDEX))?;
        index.write_all(HEADER)?;
        let shared = Arc::new(Shared {
            stdout: Mutex::new(content(Stream::Stdout)?),
            stderr: Mutex::new(content(Stream::Stderr)?),
            index: Mutex::new(Index { file: index, pending: Vec::new(), flushed: 0, broken: false }),
            wake: Condvar::new(),
            bytes_max,
            arrived: AtomicU64::new(0),
            truncated: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        });
        let flushed = Arc::clone(&shared);
        let flusher = std::thread::Builder::new()
            .name("aegis-log".to_owned())
            .spawn(move || flushed.flush_until_end())?;
        Ok(Self { shared, flusher: Mutex::new(Some(flusher)), directory })
    }

    /// Keeps bytes of a stream that came at this time. Calls for one stream come from one thread, in order.
    pub fn write(&self, stream: Stream, bytes: &[u8], at_ms: i64) {
        let count = bytes.len() as u64;
        let before = self.shared.arrived.fetch_add(count, Ordering::Relaxed);
        let kept = self.shared.bytes_max.saturating_sub(before).min(count);
        // Bounded by the slice's own length.
        for piece in bytes[..kept as usize].chunks(CONTENT_BYTES_MAX as usize) {
            self.shared.keep(stream, piece, at_ms);
        }
        if kept < count {
            self.shared.truncated.store(true, Ordering::Relaxed);
        }
    }

    /// Ends the log: marks it, compresses what is worth it. Later writes are not kept. Called twice, it only tells.
    pub fn finish(&self, at_ms: i64) -> LogEnd {
        let ended = self.shared.end(Some(at_ms));
        let flusher = lock(&self.flusher).take();
        if let Some(flusher) = flusher {
            // It only waits and flushes: it does not panic.
            let _ = flusher.join();
        }
        if ended {
            fault::reach(Point::Logged);
            // An uncompressed log is as good to read.
            let _ = compress::directory(&self.directory);
        }
        LogEnd {
            stdout_bytes: lock(&self.shared.stdout).bytes,
            stderr_bytes: lock(&self.shared.stderr).bytes,
            truncated: self.shared.truncated.load(Ordering::Relaxed),
        }
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        // Without a mark: a log that nobody finished says so.
        self.shared.end(None);
    }
}

impl Shared {
    fn keep(&self, stream: Stream, piece: &[u8], at_ms: i64) {
        let content = match stream {
            Stream::Stdout => &self.stdout,
            Stream::Stderr => &self.stderr,
        };
        if !lock(content).append(piece) || self.ended.load(Ordering::Acquire) {
            self.truncated.store(true, Ordering::Relaxed);
            return;
        }
        let mut index = lock(&self.index);
        let was_empty = index.pending.is_empty();
        // A piece is no longer than an entry may say.
        index.note(stream, piece.len() as u32, at_ms);
        drop(index);
        if was_empty {
            self.wake.notify_one();
        }
    }

    /// Flushes until the end. An idle log sleeps; a busy one is flushed once an interval.
    fn flush_until_end(&self) {
        let mut index = lock(&self.index);
        while !self.ended.load(Ordering::Acquire) {
            if index.pending.is_empty() {
                index = self.wake.wait(index).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            index = self.wake.wait_timeout(index, FLUSH_INTERVAL).unwrap_or_else(PoisonError::into_inner).0;
            self.flush(&mut index);
        }
    }

    fn flush(&self, index: &mut Index) {
        if !index.flush() {
            self.truncated.store(true, Ordering::Relaxed);
        }
    }

    /// Whether this call was the one that ended it.
    fn end(&self, marked_ms: Option<i64>) -> bool {
        let mut index = lock(&self.index);
        if self.ended.swap(true, Ordering::AcqRel) {
            return false;
        }
        self.flush(&mut index);
        if let Some(at_ms) = marked_ms {
            let truncated = self.truncated.load(Ordering::Relaxed);
            let mark = if truncated { Mark::Truncated } else { Mark::End };
            index.pending.push(Entry { at_ms, length: 0, mark });
            self.flush(&mut index);
        }
        self.wake.notify_all();
        true
    }
}

impl Content {
    /// Whether all of it is kept.
    fn append(&mut self, piece: &[u8]) -> bool {
        if self.broken || self.file.write_all(piece).is_err() {
            self.broken = true;
            return false;
        }
        self.bytes += piece.len() as u64;
        true
    }
}

impl Index {
    fn note(&mut self, stream: Stream, length: u32, at_ms: i64) {
        let fine = self.flushed + (self.pending.len() as u64) < FINE_ENTRIES_MAX;
        // Only an entry that may be lengthened without changing the order told so far.
        let open = if fine { 1 } else { 2 };
        let mark = Mark::Content(stream);
        for entry in self.pending.iter_mut().rev().take(open) {
            if entry.mark == mark && entry.length + length <= CONTENT_BYTES_MAX {
                entry.length += length;
                return;
            }
        }
        self.pending.push(Entry { at_ms, length, mark });
    }

    /// Whether all of it is written.
    fn flush(&mut self) -> bool {
        let bytes: Vec<u8> = self.pending.iter().flat_map(Entry::encode).collect();
        self.flushed += self.pending.len() as u64;
        self.pending.clear();
        if self.broken || self.file.write_all(&bytes).is_err() {
            self.broken = true;
        }
        !self.broken
    }
}

/// Nothing here panics while it holds a lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
