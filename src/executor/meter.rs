//! What went through the streams, held to the output limit.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::Notify;

use crate::record::Stream;

/// Counts what went through, and holds it to a limit.
#[derive(Debug)]
pub struct Meter {
    limit_bytes: u64,
    total: AtomicU64,
    stdout: AtomicU64,
    stderr: AtomicU64,
    exceeded: AtomicBool,
    first: OnceLock<Instant>,
    /// Told once, when the limit is passed.
    pub passed: Notify,
    /// Told when the caller typed Ctrl-C three times within a second.
    pub interrupted: Notify,
}

impl Meter {
    /// A meter with a limit over both streams together.
    pub fn new(limit_bytes: u64) -> Self {
        Self {
            limit_bytes,
            total: AtomicU64::new(0),
            stdout: AtomicU64::new(0),
            stderr: AtomicU64::new(0),
            exceeded: AtomicBool::new(false),
            first: OnceLock::new(),
            passed: Notify::new(),
            interrupted: Notify::new(),
        }
    }

    /// How many of `count` more bytes are within the limit.
    pub(super) fn admit(&self, stream: Stream, count: usize) -> usize {
        self.first.get_or_init(Instant::now);
        let count_before = self.total.fetch_add(count as u64, Ordering::Relaxed);
        let admitted = self.limit_bytes.saturating_sub(count_before).min(count as u64);
        let counter = match stream {
            Stream::Stdout => &self.stdout,
            Stream::Stderr => &self.stderr,
        };
        counter.fetch_add(admitted, Ordering::Relaxed);
        if admitted < count as u64 {
            self.exceeded.store(true, Ordering::Release);
            self.passed.notify_one();
        }
        admitted as usize
    }

    /// When the first bytes were seen; `None` where there were none.
    pub fn first(&self) -> Option<Instant> {
        self.first.get().copied()
    }

    /// Whether the limit was passed.
    pub fn exceeded(&self) -> bool {
        self.exceeded.load(Ordering::Acquire)
    }

    /// Bytes shown: standard output, standard error.
    pub fn shown(&self) -> (u64, u64) {
        (self.stdout.load(Ordering::Relaxed), self.stderr.load(Ordering::Relaxed))
    }
}
