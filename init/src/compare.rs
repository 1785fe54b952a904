//! Comparing the workspace with what was put: a walk that looks at every entry's stamp and opens no file, and sending
//! the files that the host then asks for. Nothing of the task runs any more; what it left may still be made to harm.

mod fetch;
mod walk;

use std::collections::VecDeque;

use aegis_init::wire::{Collect, Compare, DropReason, OutDone, Reply};

use crate::clock::Moment;
use crate::collect::Progress;
use crate::collect::outbox::Outbox;
use crate::stamps::{Index, Stamps};

use self::walk::Walk;

pub use self::fetch::Fetching;

/// Names that are looked at before the loop of init gets its turn.
const NAMES_PER_TURN: usize = 1_000;
/// Numbers in one answer.
const GONE_MAX: usize = 100_000;

/// A comparison on its way.
pub struct Comparison {
    index: Index,
    walk: Option<Walk>,
    outbox: Outbox,
    deadline: Moment,
    /// What is gone, in pieces; `None` until the walk is over.
    gone: Option<VecDeque<Vec<u32>>>,
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
            gone: None,
        }
    }

    /// Works until there is an answer or the turn is over.
    pub fn turn(&mut self) -> Progress {
        for _ in 0..NAMES_PER_TURN {
            if let Some(reply) = self.outbox.reply() {
                return Progress::Reply(reply);
            }
            if let Some(walk) = &mut self.walk {
                if Moment::now() >= self.deadline {
                    self.complete = false;
                    self.outbox.drop_entry(walk.place(), DropReason::TimeLimit);
                    self.walk = None;
                } else if !walk.step(&mut self.index, &mut self.outbox, &mut self.complete) {
                    self.walk = None;
                }
            } else if self.outbox.flush() {
                continue;
            } else if let Some(numbers) = self.gone().pop_front() {
                return Progress::Reply(Reply::Gone(numbers));
            } else {
                return Progress::Done(self.done());
            }
        }
        Progress::Working
    }

    fn gone(&mut self) -> &mut VecDeque<Vec<u32>> {
        let (index, complete) = (&self.index, self.complete);
        self.gone.get_or_insert_with(|| {
            let numbers: Vec<u32> = if complete { index.gone().collect() } else { Vec::new() };
            numbers.chunks(GONE_MAX).map(<[u32]>::to_vec).collect()
        })
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
