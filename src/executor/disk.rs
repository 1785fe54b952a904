//! The watchdog of a workspace on disk, where no kernel limit bounds it: looks again and again how much lies in it, and
//! tells once when it is too much or when the host's disk runs out.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::sandbox::disk_use::{self, Amounts, RESERVE_BYTES};
use crate::sandbox::held_files;
use crate::task::DiskLimit;

/// Between two looks at the least: a task writes some hundred mebibytes in this time at the most.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// And at the most.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// A look may take this part of all time.
const SHARE: u32 = 10;

/// What is watched.
#[derive(Debug, Clone)]
pub struct Watched {
    /// The layer that is written.
    pub upper: PathBuf,
    /// PID 1 of the sandbox as the host counts, where it is known.
    pub init: Option<i32>,
    /// Bytes that lie below it, and count.
    pub below_bytes: u64,
    /// What both may hold.
    pub limit: Amounts,
}

/// What was seen so far.
#[derive(Debug, Default)]
pub struct Gauge {
    /// Told when a limit was passed.
    pub passed: Notify,
    seen: Mutex<Seen>,
}

/// What a watchdog saw.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The most that lay there.
    pub bytes_peak: u64,
    /// The limit that was passed.
    pub passed: Option<DiskLimit>,
}

/// A watchdog that runs.
#[derive(Debug)]
pub struct Watch {
    gauge: Arc<Gauge>,
    end: Sender<()>,
    looking: JoinHandle<()>,
}

impl Watch {
    /// Begins to look.
    pub fn start(watched: Watched) -> Self {
        let (end, ended) = channel();
        let gauge = Arc::new(Gauge::default());
        let told = gauge.clone();
        let looking = tokio::task::spawn_blocking(move || {
            loop {
                let begun = Instant::now();
                told.look(&watched);
                let pause = (begun.elapsed() * SHARE).clamp(PAUSE_MIN, PAUSE_MAX);
                if ended.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                    return told.look(&watched);
                }
            }
        });
        Self { gauge, end, looking }
    }

    /// What it tells.
    pub fn gauge(&self) -> Arc<Gauge> {
        self.gauge.clone()
    }

    /// Looks a last time.
    pub async fn finish(self) -> Seen {
        drop(self.end);
        // A look that failed has told nothing, and what was seen before stands.
        let _ = self.looking.await;
        self.gauge.seen()
    }
}

impl Gauge {
    fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn look(&self, watched: &Watched) {
        let rest =
            Amounts { bytes: watched.limit.bytes.saturating_sub(watched.below_bytes), ..watched.limit };
        let Ok(mut now) = disk_use::measure(&watched.upper, rest) else { return };
        let held_bytes = watched.init.map_or(0, held_files::bytes);
        now.bytes = now.bytes.saturating_add(watched.below_bytes).saturating_add(held_bytes);
        let passed = over(now, watched.limit, disk_use::left_bytes(&watched.upper).ok());
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.bytes_peak = seen.bytes_peak.max(now.bytes);
        if seen.passed.is_none() && passed.is_some() {
            seen.passed = passed;
            self.passed.notify_one();
        }
    }
}

/// Refuses a disk that has no room to begin with.
pub fn has_room(directory: &Path) -> Result<(), String> {
    match disk_use::left_bytes(directory) {
        Ok(left) if left > RESERVE_BYTES => Ok(()),
        Ok(left) => Err(format!(
            "the disk of `{}` has {left} bytes left, and {RESERVE_BYTES} of them stay free: free some space, or set \
             AEGIS_WORK_DIR to a directory on another disk",
            directory.display()
        )),
        Err(error) => Err(format!("the disk of `{}` cannot be looked at: {error}", directory.display())),
    }
}

fn over(now: Amounts, limit: Amounts, left_bytes: Option<u64>) -> Option<DiskLimit> {
    if now.exceed(limit) {
        return Some(DiskLimit::Size { bytes: now.bytes, entries: now.entries });
    }
    left_bytes.filter(|it| *it < RESERVE_BYTES).map(|left_bytes| DiskLimit::HostSpace { left_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Amounts = Amounts { bytes: 100, entries: 10 };

    fn check(bytes: u64, entries: u64, left_bytes: u64, expected: Option<DiskLimit>) {
        assert_eq!(over(Amounts { bytes, entries }, LIMIT, Some(left_bytes)), expected);
    }

    #[test]
    fn what_is_within_every_limit_goes_on() {
        check(100, 10, RESERVE_BYTES, None);
    }

    #[test]
    fn bytes_and_entries_are_limited() {
        check(101, 1, u64::MAX, Some(DiskLimit::Size { bytes: 101, entries: 1 }));
        check(1, 11, u64::MAX, Some(DiskLimit::Size { bytes: 1, entries: 11 }));
    }

    #[test]
    fn a_host_without_space_ends_a_task_of_any_size() {
        check(1, 1, RESERVE_BYTES - 1, Some(DiskLimit::HostSpace { left_bytes: RESERVE_BYTES - 1 }));
    }
}
