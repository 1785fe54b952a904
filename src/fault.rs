//! Floor 3: narrow places at which a test has this process die as `kill -9` would have it. A process that was not armed
//! passes them; one that was, by its own environment and so by its owner, dies there and does nothing else.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Signal, getpid, kill_process};

/// A narrow place: what comes before it is done, what comes after it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// Runs are queued on disk; nobody was told, neither who submitted nor who waits for something to claim.
    Queued,
    /// Runs are leased; nothing was made for them.
    Claimed,
    /// A container is there; it was not started.
    Created,
    /// A run is recorded as released; its command was not sent.
    Released,
    /// A command runs; nobody has read a byte of it.
    Started,
    /// A command has ended; nothing of its end is recorded.
    Ended,
    /// A log has its last mark; it is not compressed, and the outcome is not recorded.
    Logged,
    /// An outcome is recorded; those that wait for it were not told.
    Settled,
    /// The server has a piece of a log; the worker host that handed it in has not noted that.
    HandedOver,
}

impl Point {
    /// Every point, in the order of a run.
    pub const ALL: [Self; 9] = [
        Self::Queued,
        Self::Claimed,
        Self::Created,
        Self::Released,
        Self::Started,
        Self::Ended,
        Self::Logged,
        Self::Settled,
        Self::HandedOver,
    ];

    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Claimed => "claimed",
            Self::Created => "created",
            Self::Released => "released",
            Self::Started => "started",
            Self::Ended => "ended",
            Self::Logged => "logged",
            Self::Settled => "settled",
            Self::HandedOver => "handed_over",
        }
    }
}

/// The point at which this process dies, and how often it passes it before.
static ARMED: OnceLock<(Point, AtomicU32)> = OnceLock::new();

/// Has this process die at a point, by its name. False where there is none of this name.
pub fn arm(word: &str, passes: u32) -> bool {
    let Some(point) = Point::ALL.into_iter().find(|it| it.word() == word) else { return false };
    ARMED.get_or_init(|| (point, AtomicU32::new(passes)));
    true
}

/// Dies here, if this process was armed for it.
pub fn reach(point: Point) {
    let Some((armed, passes)) = ARMED.get() else { return };
    if *armed != point {
        return;
    }
    let passed = passes.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1));
    if passed.is_err() {
        // Nothing is caught, flushed or dumped.
        let _ = kill_process(getpid(), Signal::KILL);
    }
}
