//! The queue of a server whose own process runs what it tells to end.

use std::sync::Arc;

use crate::access::NewAudit;
use crate::api::services::Front;
use crate::app::serve::Host;
use crate::queue::{CancelAnswer, NewSubmission, Submitted};
use crate::record::Pending;
use crate::task::{Cancellation, RunId};

/// The queue, as who submits and cancels reaches it, with runs of this process ended at once where somebody wants that: the
/// next renewal would tell it seconds later.
pub struct Nearby {
    /// This host.
    pub host: Arc<Host>,
}

impl Front for Nearby {
    fn submit<'a>(
        &'a self,
        batch: &'a [NewSubmission],
        audit: Option<&'a NewAudit>,
    ) -> Pending<'a, Submitted> {
        self.host.queue.submit_for(batch, audit)
    }

    fn cancel<'a>(
        &'a self,
        run: RunId,
        by: Cancellation,
        audit: Option<&'a NewAudit>,
    ) -> Pending<'a, CancelAnswer> {
        Box::pin(async move {
            let answer = self.host.queue.cancel_for(run, by, audit).await;
            // What runs here is ended also while the books do not answer.
            if matches!(answer, Ok(CancelAnswer::Asked) | Err(_)) {
                self.host.held.cancel(run, by);
            }
            answer
        })
    }

    fn standing(&self, run: RunId) -> Pending<'_, Option<u32>> {
        self.host.queue.place(run)
    }
}
