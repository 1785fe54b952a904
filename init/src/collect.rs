//! Collecting what a task left: the files that match, bounded in number, bytes, depth and time, no link followed,
//! nothing opened but regular files and directories. Nothing of the task runs any more; what it left may still be
//! made to harm, so every bound holds against the tree itself.

pub mod outbox;
mod pattern;
mod walk;

use serde_bytes::ByteBuf;

use aegis_init::wire::{Collect, DropReason, Reply};

use crate::clock::Moment;

use self::outbox::Outbox;
use self::pattern::{Base, Pattern};
use self::walk::Walk;

/// Patterns of one request.
pub const PATTERNS_MAX: usize = 1_000;
/// Names that are looked at before the loop of init gets its turn.
const NAMES_PER_TURN: usize = 500;

/// What a turn brought.
pub enum Progress {
    /// An answer to send.
    Reply(Reply),
    /// Nothing yet.
    Working,
    /// The last answer.
    Done(Reply),
}

/// A collection on its way.
pub struct Collection {
    patterns: Vec<Pattern>,
    waiting: Vec<(Base, Vec<u8>)>,
    walk: Option<Walk>,
    outbox: Outbox,
    deadline: Moment,
    unmatched: Vec<u32>,
}

impl Collection {
    /// Begins a collection.
    pub fn new(collect: &Collect, workspace: &[u8], now: Moment) -> Self {
        let mut patterns = Vec::new();
        let mut unmatched = Vec::new();
        for (index, text) in collect.patterns.iter().enumerate() {
            let index = index as u32;
            match Pattern::parse(index, text, workspace) {
                Some(pattern) if pattern.base == Base::Root || !workspace.is_empty() => {
                    patterns.push(pattern)
                }
                Some(_) | None => unmatched.push(index),
            }
        }
        let asked = |base| patterns.iter().any(|pattern: &Pattern| pattern.base == base);
        let (of_root, of_workspace) = (asked(Base::Root), asked(Base::Workspace));
        let mut waiting = Vec::new();
        if of_root {
            waiting.push((Base::Root, b"/".to_vec()));
        }
        if of_workspace {
            waiting.push((Base::Workspace, workspace.to_vec()));
        }
        Self {
            patterns,
            waiting,
            walk: None,
            outbox: Outbox::new(collect, of_root && of_workspace),
            deadline: now.after_ms(collect.timeout_ms),
            unmatched,
        }
    }

    /// Works until there is an answer or the turn is over.
    pub fn turn(&mut self) -> Progress {
        for _ in 0..NAMES_PER_TURN {
            if let Some(reply) = self.outbox.reply() {
                return Progress::Reply(reply);
            }
            if Moment::now() >= self.deadline {
                self.give_up();
            }
            if let Some(walk) = &mut self.walk {
                if !walk.step(&mut self.patterns, &mut self.outbox) {
                    self.walk = None;
                }
            } else if let Some((base, root)) = self.waiting.pop() {
                self.walk = Walk::new(base, &root, &mut self.patterns, &mut self.outbox);
            } else if !self.outbox.flush() {
                return Progress::Done(self.done());
            }
        }
        Progress::Working
    }

    /// The time is over: what was not looked at is dropped, each directory named once.
    fn give_up(&mut self) {
        if let Some(walk) = self.walk.take() {
            for directory in walk.unfinished() {
                self.outbox.drop_entry(&directory, DropReason::TimeLimit);
            }
        }
        for (_, root) in self.waiting.drain(..) {
            self.outbox.drop_entry(&root, DropReason::TimeLimit);
        }
    }

    fn done(&mut self) -> Reply {
        let mut unmatched = std::mem::take(&mut self.unmatched);
        unmatched.extend(self.patterns.iter().filter(|it| !it.matched).map(|it| it.index));
        unmatched.sort_unstable();
        self.outbox.done(unmatched)
    }
}

/// A path as it is named in an answer.
fn named(path: &[u8]) -> ByteBuf {
    ByteBuf::from(if path.is_empty() { b"." } else { path })
}
