//! The queue of a server whose own process runs what it tells to end.

use std::sync::Arc;

use crate::access::NewAudit;
use crate::app::serve::Host;
use crate::queue::{
    CancelAnswer, Claimed, Expired, NewSubmission, Queue, Reached, Renewed, Settled, Submitted, Worker,
};
use crate::record::{End, Fence, Pending};
use crate::task::{Cancellation, RunId};

/// The queue, as who submits and cancels reaches it, with runs of this process ended at once where somebody wants that: the next renewal would tell it seconds
/// later.
pub struct Nearby {
    /// This host.
    pub host: Arc<Host>,
}

impl Queue for Nearby {
    fn submit_for<'a>(
        &'a self,
        batch: &'a [NewSubmission],
        audit: Option<&'a NewAudit>,
    ) -> Pending<'a, Submitted> {
        self.host.queue.submit_for(batch, audit)
    }

    fn claim<'a>(&'a self, worker: &'a Worker, count_max: u32) -> Pending<'a, Vec<Claimed>> {
        self.host.queue.claim(worker, count_max)
    }

    fn renew<'a>(&'a self, fences: &'a [Fence]) -> Pending<'a, Renewed> {
        self.host.queue.renew(fences)
    }

    fn settle<'a>(
        &'a self,
        fence: Fence,
        reached: Reached,
        end: &'a End,
        attestation: Option<&'a str>,
    ) -> Pending<'a, Settled> {
        self.host.queue.settle(fence, reached, end, attestation)
    }

    fn give_back<'a>(&'a self, fences: &'a [Fence]) -> Pending<'a, ()> {
        self.host.queue.give_back(fences)
    }

    fn cancel_for<'a>(
        &'a self,
        run: RunId,
        by: Cancellation,
        audit: Option<&'a NewAudit>,
    ) -> Pending<'a, CancelAnswer> {
        Box::pin(async move {
            let answer = self.host.queue.cancel_for(run, by, audit).await?;
            if answer == CancelAnswer::Asked {
                self.host.held.cancel(run, by);
            }
            Ok(answer)
        })
    }

    fn expire(&self, count_max: u32) -> Pending<'_, Vec<Expired>> {
        self.host.queue.expire(count_max)
    }

    fn wait(&self) -> Pending<'_, ()> {
        self.host.queue.wait()
    }
}
