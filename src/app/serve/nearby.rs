//! The queue of a server whose own process runs what it tells to end.

use std::sync::Arc;

use crate::api::services::Front;
use crate::app::serve::Host;
use crate::queue::{CancelAnswer, NewSubmission, Submitted};
use crate::record::Pending;
use crate::task::{Cancellation, RunId};

/// The queue, as who submits and cancels reaches it, with runs of this process ended at once where somebody wants that: the next renewal would tell it seconds
/// later.
pub struct Nearby {
    /// This host.
    pub host: Arc<Host>,
}

impl Front for Nearby {
    fn submit<'a>(&'a self, batch: &'a [NewSubmission]) -> Pending<'a, Submitted> {
        self.host.queue.submit(batch)
    }

    fn cancel(&self, run: RunId, by: Cancellation) -> Pending<'_, CancelAnswer> {
        Box::pin(async move {
            let answer = self.host.queue.cancel(run, by).await;
            // What runs here is ended also while the books do not answer.
            if matches!(answer, Ok(CancelAnswer::Asked) | Err(_)) {
                self.host.held.cancel(run, by);
            }
            answer
        })
    }
}
