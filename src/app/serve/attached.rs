//! Clients that wait for their runs to be started by this process: their ends of the streams, until an attempt takes them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio_util::sync::DropGuard;

use crate::api::services::{Attachments, Streams};
use crate::app::serve::Host;
use crate::queue::PROCESS_LABEL;
use crate::task::RunId;

/// Every client's ends.
#[derive(Default)]
pub struct Attached {
    waiting: Mutex<BTreeMap<RunId, Ends>>,
}

struct Ends {
    /// `None` once an attempt has them.
    streams: Option<Streams>,
    _over: DropGuard,
}

impl Attached {
    /// The ends of a run's client; `None` where nobody is attached here any more.
    pub fn take(&self, run: RunId) -> Option<Streams> {
        self.lock().get_mut(&run).and_then(|it| it.streams.take())
    }

    /// Tells a run's client that its outcome is on record, and closes what no attempt took.
    pub fn finish(&self, run: RunId) {
        let ends = self.lock().remove(&run);
        drop(ends);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<RunId, Ends>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attachments for Host {
    fn pin(&self) -> (String, String) {
        (PROCESS_LABEL.to_owned(), self.worker.owner.lock.clone())
    }

    fn leave(&self, run: RunId, streams: Streams, over: DropGuard) {
        self.attached.lock().insert(run, Ends { streams: Some(streams), _over: over });
    }

    fn withdraw(&self, run: RunId) {
        self.attached.finish(run);
    }

    fn resize(&self, run: RunId, rows: u16, columns: u16) {
        self.held.resize(run, rows, columns);
    }
}
