//! Whole files that a second thread writes while the first one receives and writes others: a large workspace costs the
//! kernel's work for each file, and that is done on two CPUs at once. The thread is there only while content comes in: init
//! forks nothing meanwhile.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{Builder, JoinHandle, available_parallelism};

use nix::errno::Errno;
use serde_bytes::ByteBuf;

use aegis_init::wire::{Entry, EntryKind};

use crate::beneath::{Beneath, split};
use crate::content::file::OpenFile;
use crate::stamps::Given;

/// Files below which handing over costs more than writing.
const FILES_MIN: usize = 8;
/// Hand-overs that wait beside the one that is written: memory is bounded by as many messages.
const WAITING_MAX: usize = 1;
const STACK_BYTES: usize = 256 * 1024;

/// What could not be made, and why.
pub type Failure = (ByteBuf, i32);

/// A file with all of its content.
pub struct Whole {
    /// Its number among the stamps.
    pub number: usize,
    /// The file.
    pub entry: Entry,
}

/// What has become of files.
pub struct Written {
    /// What those that are there were, by number.
    pub files: Vec<(usize, Given)>,
    /// Content bytes.
    pub bytes: u64,
    /// What ended it early.
    pub failed: Option<Failure>,
}

/// The second thread, once there is something for it.
pub struct Aside {
    second: Second,
    /// Hand-overs without an answer.
    pending: usize,
}

enum Second {
    Unneeded,
    Refused,
    There { files: SyncSender<Vec<Whole>>, written: Receiver<Written>, thread: JoinHandle<()> },
}

impl Aside {
    /// Nothing yet.
    pub fn new() -> Self {
        Self { second: Second::Unneeded, pending: 0 }
    }

    /// Takes files below this root; gives them back if they are few, or there is enough to do already.
    pub fn give(&mut self, root: &Beneath, files: Vec<Whole>) -> Result<(), Vec<Whole>> {
        if files.len() < FILES_MIN {
            return Err(files);
        }
        if matches!(self.second, Second::Unneeded) {
            self.second = Second::start(root);
        }
        let Second::There { files: sender, .. } = &self.second else { return Err(files) };
        match sender.try_send(files) {
            Ok(()) => {
                self.pending += 1;
                Ok(())
            }
            Err(TrySendError::Full(files) | TrySendError::Disconnected(files)) => Err(files),
        }
    }

    /// What was written meanwhile, without waiting for it.
    pub fn written(&mut self) -> Option<Written> {
        let Second::There { written, .. } = &self.second else { return None };
        let written = written.try_recv().ok()?;
        self.pending -= 1;
        Some(written)
    }

    /// The next that was handed over, once it is written; `None` if nothing is left.
    pub fn awaited(&mut self) -> Option<Written> {
        self.pending = self.pending.checked_sub(1)?;
        let lost = || Written { files: Vec::new(), bytes: 0, failed: Some((ByteBuf::new(), libc::EIO)) };
        match &self.second {
            Second::There { written, .. } => Some(written.recv().unwrap_or_else(|_| lost())),
            Second::Unneeded | Second::Refused => Some(lost()),
        }
    }

    /// Ends the thread; it comes again when it is needed, and walks from the root again.
    pub fn leave(&mut self) {
        let second = std::mem::replace(&mut self.second, Second::Unneeded);
        if let Second::There { files, written, thread } = second {
            // Without either it waits for nothing.
            drop((files, written));
            let _ = thread.join();
        }
        self.pending = 0;
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Second {
    /// Where there is one CPU, or no thread, everything is written by the first.
    fn start(root: &Beneath) -> Self {
        if !available_parallelism().is_ok_and(|it| it.get() > 1) {
            return Self::Refused;
        }
        let Ok(mut root) = root.again() else { return Self::Refused };
        let (sender, files) = sync_channel::<Vec<Whole>>(WAITING_MAX);
        // Room for the answer to everything that can be handed over: the thread never waits to answer.
        let (answers, written) = sync_channel(WAITING_MAX + 2);
        let work = move || {
            while let Ok(files) = files.recv() {
                if answers.send(write(&mut root, &files)).is_err() {
                    return;
                }
            }
        };
        match Builder::new().stack_size(STACK_BYTES).spawn(work) {
            Ok(thread) => Self::There { files: sender, written, thread },
            Err(_) => Self::Refused,
        }
    }
}

/// Writes files until one fails.
pub fn write(root: &mut Beneath, files: &[Whole]) -> Written {
    let mut written = Written { files: Vec::with_capacity(files.len()), bytes: 0, failed: None };
    for Whole { number, entry } in files {
        match write_one(root, entry) {
            Ok((given, bytes)) => {
                written.files.push((*number, given));
                written.bytes += bytes;
            }
            Err(errno) => {
                written.failed = Some((entry.path.clone(), errno as i32));
                break;
            }
        }
    }
    written
}

fn write_one(root: &mut Beneath, entry: &Entry) -> nix::Result<(Given, u64)> {
    let EntryKind::File { data, .. } = &entry.kind else { return Err(Errno::EPROTO) };
    let (parent, name) = split(&entry.path)?;
    let mut open = OpenFile::create(root.directory(parent)?, name, entry)?;
    let given = open.write(data)?.ok_or(Errno::EPROTO)?;
    Ok((given, data.len() as u64))
}
