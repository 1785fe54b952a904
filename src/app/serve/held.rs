//! The runs that this process has under lease: what a renewal, a cancellation and the end of the process reach.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::executor::control::{Control, QUEUE_MAX};
use crate::executor::lease::{self, Keeper, Lease, Moment};
use crate::queue::{Claimed, LEASE, Renewed};
use crate::record::Fence;
use crate::task::{Cancellation, RunId};

/// Every run that is held.
#[derive(Debug, Default)]
pub struct Held {
    runs: Mutex<BTreeMap<RunId, Entry>>,
}

#[derive(Debug)]
struct Entry {
    fence: Fence,
    keeper: Keeper,
    wishes: mpsc::Sender<Control>,
    /// The queue repeats a wish with every renewal; a second one would kill without grace.
    cancelled: bool,
}

/// A run's own side.
#[derive(Debug)]
pub struct Taken {
    /// How long it is held.
    pub lease: Lease,
    /// What is wished of it.
    pub control: mpsc::Receiver<Control>,
    /// The other end, for the owner's door.
    pub wishes: mpsc::Sender<Control>,
}

impl Held {
    /// Holds a run that was claimed; `asked` is from before it was asked for.
    pub fn take(&self, claimed: &Claimed, asked: Moment) -> Taken {
        let until = asked.after(Duration::from_millis(claimed.lease_ms));
        let (keeper, lease) = lease::lease(until);
        let (wishes, control) = mpsc::channel(QUEUE_MAX);
        let entry = Entry { fence: claimed.fence, keeper, wishes: wishes.clone(), cancelled: false };
        self.lock().insert(claimed.fence.run, entry);
        Taken { lease, control, wishes }
    }

    /// Lets go of a run that has ended here.
    pub fn drop_run(&self, fence: Fence) {
        let mut runs = self.lock();
        if runs.get(&fence.run).is_some_and(|it| it.fence == fence) {
            runs.remove(&fence.run);
        }
    }

    /// What is to be renewed.
    pub fn fences(&self) -> Vec<Fence> {
        self.lock().values().map(|it| it.fence).collect()
    }

    /// Takes what a renewal found; `asked` is from before it was asked for.
    pub fn renewed(&self, renewed: &Renewed, asked: Moment) {
        let mut runs = self.lock();
        for fence in &renewed.held {
            if let Some(entry) = runs.get(&fence.run).filter(|it| it.fence == *fence) {
                entry.keeper.renew(asked.after(LEASE));
            }
        }
        for fence in &renewed.lost {
            if let Some(entry) = runs.get(&fence.run).filter(|it| it.fence == *fence) {
                entry.keeper.end();
            }
        }
        for (fence, by) in &renewed.cancelled {
            if let Some(entry) = runs.get_mut(&fence.run).filter(|it| it.fence == *fence && !it.cancelled) {
                entry.cancel(*by);
            }
        }
    }

    /// Ends a run at somebody's wish, at once. False if it is not held here.
    pub fn cancel(&self, run: RunId, by: Cancellation) -> bool {
        match self.lock().get_mut(&run) {
            Some(entry) => {
                entry.cancel(by);
                true
            }
            None => false,
        }
    }

    /// Tells a run that is held here the size of its client's terminal. The half of the queue is for wishes of more weight.
    pub fn resize(&self, run: RunId, rows: u16, columns: u16) {
        if let Some(entry) = self.lock().get(&run)
            && entry.wishes.capacity() > QUEUE_MAX / 2
        {
            // A closed queue means that the run is over.
            let _ = entry.wishes.try_send(Control::Resize { rows, columns });
        }
    }

    /// Lets go of everything: sandboxes end at once.
    pub fn end_all(&self) {
        for entry in self.lock().values() {
            entry.keeper.end();
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<RunId, Entry>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn cancel(&mut self, by: Cancellation) {
        // One that a full queue did not take comes again with the next renewal.
        self.cancelled |= self.wishes.try_send(Control::Cancel(by)).is_ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> (Entry, mpsc::Receiver<Control>) {
        let fence = crate::record::fixture::ended(crate::task::Outcome::Exited(0)).fence;
        let (keeper, _) = lease::lease(Moment::now().after(LEASE));
        let (wishes, control) = mpsc::channel(QUEUE_MAX);
        (Entry { fence, keeper, wishes, cancelled: false }, control)
    }

    #[test]
    fn sizes_leave_room_for_a_cancel() {
        let (entry, mut control) = entry();
        let (run, held) = (entry.fence.run, Held::default());
        held.lock().insert(run, entry);
        for _ in 0..10 * QUEUE_MAX {
            held.resize(run, 24, 80);
        }
        assert!(held.cancel(run, Cancellation::Command));
        assert_eq!(crate::executor::control::cancelled_already(&mut control), Some(Cancellation::Command));
    }

    #[test]
    fn a_cancel_that_was_not_taken_comes_again() {
        let (mut entry, mut control) = entry();
        while entry.wishes.try_send(Control::EndExec { exec: 1 }).is_ok() {}
        entry.cancel(Cancellation::Command);
        assert!(!entry.cancelled);
        assert!(control.try_recv().is_ok());
        entry.cancel(Cancellation::Command);
        assert!(entry.cancelled);
    }
}
