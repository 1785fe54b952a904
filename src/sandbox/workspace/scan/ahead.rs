//! Looks at directories before their turn, on a second thread: most of a scan is the kernel's time, and a repeated run waits
//! for all of it. Nothing is decided here.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, Dir, Stat, statat};
use rustix::io::Errno;

use crate::sandbox::beneath;

/// Directories that are looked at before their turn and kept; a helper that is further ahead waits.
const AHEAD_MAX: usize = 32;
/// Names in a directory that are looked at before their turn.
const STATS_MAX: usize = 4_096;

/// A directory with what lies in it.
pub struct Looked {
    /// Itself.
    pub directory: OwnedFd,
    /// The names in it, in order; `None` if there are more than may be counted.
    pub names: Option<Vec<Vec<u8>>>,
    /// What the first of them are.
    pub stats: Vec<Result<Stat, Errno>>,
}

/// The directories of one tree that are still to be visited, for whoever has time.
pub struct Ahead<'a> {
    source: &'a OwnedFd,
    room: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Those that nobody looks at yet; the next one last.
    waiting: Vec<Vec<u8>>,
    /// The one that the helper looks at.
    being_looked_at: Option<Vec<u8>>,
    looked: HashMap<Vec<u8>, Result<Looked, Errno>>,
    over: bool,
}

impl<'a> Ahead<'a> {
    /// For the tree of a directory; none in it may hold more than `room` names.
    pub fn new(source: &'a OwnedFd, room: u64) -> Self {
        Self { source, room, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Adds directories; the last one is the next.
    pub fn add(&self, paths: impl Iterator<Item = Vec<u8>>) {
        self.state().waiting.extend(paths);
        self.changed.notify_all();
    }

    /// The directory whose turn it is: as the helper saw it, or is about to, or as it is now.
    pub fn take(&self, path: &[u8]) -> Result<Looked, Errno> {
        let mut state = self.state();
        while state.being_looked_at.as_deref() == Some(path) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(looked) = state.looked.remove(path) {
            self.changed.notify_all();
            return looked;
        }
        if state.waiting.last().is_some_and(|it| it == path) {
            state.waiting.pop();
        }
        drop(state);
        look(self.source.as_fd(), path, self.room)
    }

    /// What the helper does until it is over.
    pub fn help(&self) {
        let mut state = self.state();
        while !state.over {
            let path = if state.looked.len() < AHEAD_MAX { state.waiting.pop() } else { None };
            let Some(path) = path else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.being_looked_at = Some(path.clone());
            drop(state);
            let looked = look(self.source.as_fd(), &path, self.room);
            state = self.state();
            state.being_looked_at = None;
            state.looked.insert(path, looked);
            self.changed.notify_all();
        }
    }

    /// Lets the helper end when this is dropped, however that comes.
    pub fn over_at_the_end(&self) -> Over<'_, 'a> {
        Over(self)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`Ahead::over_at_the_end`].
pub struct Over<'b, 'a>(&'b Ahead<'a>);

impl Drop for Over<'_, '_> {
    fn drop(&mut self) {
        self.0.state().over = true;
        self.0.changed.notify_all();
    }
}

fn look(source: BorrowedFd<'_>, path: &[u8], room: u64) -> Result<Looked, Errno> {
    let directory = beneath::directory(source, path)?;
    let mut names = Vec::new();
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        if names.len() as u64 >= room {
            return Ok(Looked { directory, names: None, stats: Vec::new() });
        }
        names.push(name.to_vec());
    }
    names.sort_unstable();
    let first = names.iter().take(STATS_MAX);
    let stats = first.map(|it| statat(&directory, it.as_slice(), AtFlags::SYMLINK_NOFOLLOW)).collect();
    Ok(Looked { directory, names: Some(names), stats })
}
