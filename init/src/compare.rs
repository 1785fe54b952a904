//! Comparing the workspace with what was put: a walk that looks at every entry's stamp and opens no file, and sending
//! the files that the host then asks for. Nothing of the task runs any more; what it left may still be made to harm.

mod fetch;
mod walk;

use aegis_init::path_key::PathKey;
use aegis_init::wire::{Collect, Compare, DropReason, OutDone, Reply};

use crate::clock::Moment;
use crate::collect::Progress;
use crate::collect::outbox::Outbox;
use crate::stamps::{Index, Stamps};

use self::walk::{Step, Walk};

pub use self::fetch::Fetching;

/// Names that are looked at before the loop of init gets its turn.
const NAMES_PER_TURN: usize = 1_000;
/// Hashes in one answer: even the longest fit a frame.
const MET_MAX: usize = 100_000;

/// A comparison on its way.
pub struct Comparison {
    index: Index,
    walk: Option<Walk>,
    outbox: Outbox,
    deadline: Moment,
    key: PathKey,
    /// What is there and was not told yet.
    met: Vec<u64>,
    complete: bool,
}

impl Comparison {
    /// Begins at the workspace.
    pub fn new(compare: &Compare, workspace: &[u8], stamps: Stamps, now: Moment) -> Self {
        let mut outbox = Outbox::new(&limits(compare.entries_max, compare.depth_max), false);
        let walk = Walk::new(workspace);
        if walk.is_none() {
            outbox.drop_entry(b"", DropReason::Unreadable);
        }
        Self {
            index: stamps.index(),
            complete: walk.is_some(),
            walk,
            outbox,
            deadline: now.after_ms(compare.timeout_ms),
            key: compare.key,
            met: Vec::new(),
        }
    }

    /// Works until there is an answer or the turn is over.
    pub fn turn(&mut self) -> Progress {
        for _ in 0..NAMES_PER_TURN {
            if let Some(reply) = self.outbox.reply() {
                return Progress::Reply(reply);
            }
            if self.met.len() >= MET_MAX {
                return Progress::Reply(Reply::Met(std::mem::take(&mut self.met)));
            }
            if let Some(walk) = &mut self.walk {
                if Moment::now() >= self.deadline {
                    self.complete = false;
                    self.outbox.drop_entry(walk.place(), DropReason::TimeLimit);
                    self.walk = None;
                } else {
                    match walk.step(&self.index, &mut self.outbox, &mut self.complete) {
                        Step::Met(path) => self.met.push(self.key.hash(&path)),
                        Step::Passed => {}
                        Step::Over => self.walk = None,
                    }
                }
            } else if self.outbox.flush() {
                continue;
            } else if !self.met.is_empty() {
                return Progress::Reply(Reply::Met(std::mem::take(&mut self.met)));
            } else {
                return Progress::Done(self.done());
            }
        }
        Progress::Working
    }

    fn done(&mut self) -> Reply {
        let done = match self.outbox.done(Vec::new()) {
            Reply::OutDone(done) => done,
            _ => OutDone::default(),
        };
        Reply::Compared { done, complete: self.complete }
    }
}

/// An outbox knows the limits of a collection.
fn limits(entries_max: u64, depth_max: u32) -> Collect {
    Collect { patterns: Vec::new(), entries_max, bytes_max: u64::MAX, depth_max, timeout_ms: 0 }
}
