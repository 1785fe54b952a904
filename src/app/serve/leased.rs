//! The books of an attempt under lease: its end goes through the queue, whose rules say whether the run is tried again.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::app::serve::engine_watch::EngineWatch;
use crate::executor::lease::Lease;
use crate::queue::{Queue, Reached, Settled};
use crate::record::egress::Entry;
use crate::record::{
    End, Event, Fence, Found, Image, NewRun, Orphan, Owner, Pending, Record, RecordError, RunBrief,
    RunFilter, Slot, Transition,
};
use crate::task::outcome::{LostReason, StartFailure};
use crate::task::run_id::RunSelector;
use crate::task::{Outcome, RunId};

/// The pause between two tries to record an end.
const PAUSE: Duration = Duration::from_millis(250);
/// How long an end is kept for books that do not answer. After that the rule for lost runs decides.
const KEPT_TIME_MAX: Duration = Duration::from_secs(15 * 60);

/// The books of one attempt.
pub struct Leased {
    record: Arc<dyn Record>,
    queue: Arc<dyn Queue>,
    engine: Arc<EngineWatch>,
    lease: Lease,
    released: AtomicBool,
}

impl Leased {
    /// Those of an attempt under this lease.
    pub fn new(
        record: Arc<dyn Record>,
        queue: Arc<dyn Queue>,
        engine: Arc<EngineWatch>,
        lease: Lease,
    ) -> Self {
        Self { record, queue, engine, lease, released: AtomicBool::new(false) }
    }

    /// Whether anything of the task may have run.
    pub fn reached(&self) -> Reached {
        if self.released.load(Ordering::Acquire) { Reached::Released } else { Reached::Unreleased }
    }

    /// Records an end, again and again while the books do not answer. A lease that runs out meanwhile does not matter: the
    /// books take the end only if nobody else has the run.
    pub async fn settle(
        &self,
        fence: Fence,
        end: &End,
        attestation: Option<&str>,
    ) -> Result<Settled, RecordError> {
        let end = self.blamed(end).await;
        let give_up_at = Instant::now() + KEPT_TIME_MAX;
        loop {
            let error = match self.queue.settle(fence, self.reached(), &end, attestation).await {
                Ok(settled) => return Ok(settled),
                Err(error) => error,
            };
            if self.lease.is_let_go() || Instant::now() >= give_up_at {
                return Err(error);
            }
            tracing::warn!(run.id = %fence.run, %error, "the end of a run could not be recorded yet: {error}");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// A start that failed while the engine is away is the engine's loss, and tried again by the rule for those.
    async fn blamed<'a>(&self, end: &'a End) -> Cow<'a, End> {
        let Outcome::StartFailed { reason: StartFailure::Infrastructure { message } } = &end.outcome else {
            return Cow::Borrowed(end);
        };
        if self.engine.check().await.is_some() {
            return Cow::Borrowed(end);
        }
        let reason = LostReason::Engine { message: message.clone() };
        Cow::Owned(End { outcome: Outcome::Lost { reason }, ..end.clone() })
    }
}

impl Record for Leased {
    fn insert<'a>(&'a self, run: &'a NewRun) -> Pending<'a, Fence> {
        self.record.insert(run)
    }

    fn start<'a>(&'a self, fence: Fence, image: &'a Image, at_ms: i64) -> Pending<'a, Transition> {
        self.record.start(fence, image, at_ms)
    }

    fn bind<'a>(&'a self, fence: Fence, slot: &'a Slot, at_ms: i64) -> Pending<'a, Transition> {
        self.record.bind(fence, slot, at_ms)
    }

    fn release<'a>(&'a self, fence: Fence, attestation: &'a str, at_ms: i64) -> Pending<'a, Transition> {
        Box::pin(async move {
            // What is not known to have failed counts as done: the command is sent only if it succeeded.
            let released = self.record.release(fence, attestation, at_ms).await?;
            if released == Transition::Applied {
                self.released.store(true, Ordering::Release);
            }
            Ok(released)
        })
    }

    fn finishing(&self, fence: Fence, at_ms: i64) -> Pending<'_, Transition> {
        Box::pin(async move {
            let Err(error) = self.record.finishing(fence, at_ms).await else {
                return Ok(Transition::Applied);
            };
            // How the command ended is known and not recorded yet: that step is tried again, this one is only told.
            tracing::warn!(run.id = %fence.run, %error, "a run could not be marked as finishing: {error}");
            Ok(Transition::Applied)
        })
    }

    fn finish<'a>(
        &'a self,
        fence: Fence,
        end: &'a End,
        attestation: Option<&'a str>,
        _at_ms: i64,
    ) -> Pending<'a, Transition> {
        Box::pin(async move {
            match self.settle(fence, end, attestation).await? {
                Settled::Done | Settled::Again { .. } => Ok(Transition::Applied),
                Settled::Superseded => Ok(Transition::Superseded),
            }
        })
    }

    fn requeue<'a>(&'a self, fence: Fence, because: &'a Outcome, at_ms: i64) -> Pending<'a, Transition> {
        self.record.requeue(fence, because, at_ms)
    }

    fn lease<'a>(&'a self, run: RunId, owner: &'a Owner, at_ms: i64) -> Pending<'a, Option<Fence>> {
        self.record.lease(run, owner, at_ms)
    }

    fn find<'a>(&'a self, selector: &'a RunSelector) -> Pending<'a, Found> {
        self.record.find(selector)
    }

    fn list(&self, filter: RunFilter, count_max: u32) -> Pending<'_, Vec<RunBrief>> {
        self.record.list(filter, count_max)
    }

    fn events(&self, run: RunId) -> Pending<'_, Vec<Event>> {
        self.record.events(run)
    }

    fn keep_egress<'a>(&'a self, run: RunId, entries: &'a [Entry]) -> Pending<'a, ()> {
        self.record.keep_egress(run, entries)
    }

    fn egress(&self, run: RunId) -> Pending<'_, Vec<Entry>> {
        self.record.egress(run)
    }

    fn orphans(&self) -> Pending<'_, Vec<Orphan>> {
        self.record.orphans()
    }

    fn ended_before(&self, time_ms: i64, count_max: u32) -> Pending<'_, Vec<RunId>> {
        self.record.ended_before(time_ms, count_max)
    }

    fn forget(&self, run: RunId) -> Pending<'_, Transition> {
        self.record.forget(run)
    }
}
