//! Floor 2, a port: what is kept of a run, and the verbs that keep it. Plain types and one trait; the bytes on disk are
//! an adapter's business (`store`).
//!
//! Every verb that changes a run is one transaction that checks the fence, appends its event and says whether it won.

pub mod egress;
pub mod end;
pub mod error;
pub mod event;
#[cfg(test)]
pub(crate) mod fixture;
pub mod page;
pub mod run;
pub mod workspace;

use std::future::Future;
use std::pin::Pin;

pub use end::{Artifact, ChangeCounts, Dropped, End, Exposure, Kept, OutputCounts, Phase, Stream, Usage};
pub use error::RecordError;
pub use event::{Event, EventKind};
pub use run::{
    Fence, Image, Limits, NewRun, Orphan, Owner, PolicyRecord, Run, RunBrief, RunFilter, Slot, TaskRecord,
};
pub use workspace::{Withheld, WorkspaceRecord};

use crate::record::egress::Entry;
use crate::task::run_id::RunSelector;
use crate::task::{Outcome, RunId};

/// Whether a transition happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a lost race is told here"]
pub enum Transition {
    /// It did, and it is on disk.
    Applied,
    /// The run has moved on: another epoch, another state, or its outcome is recorded. Nothing was written.
    Superseded,
}

/// What a selector named.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// No run.
    Nothing,
    /// This one.
    Run(Box<Run>),
    /// Several runs end in these digits; newest first.
    Ambiguous(Vec<RunId>),
}

/// The time of this host, milliseconds since the epoch: for the eyes of people and for retention, never for a lease.
pub fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// What a verb of the port gives: boxed, so that a port can be held without naming its adapter.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, RecordError>> + Send + 'a>>;

/// Where runs are kept. Times are milliseconds since the epoch, given by the caller.
pub trait Record: Send + Sync {
    /// Accepts a run and leases it to its owner at once: attempt 1, epoch 1, state `leased`. Without an owner it is
    /// `queued`: attempt 0, epoch 0.
    fn insert<'a>(&'a self, run: &'a NewRun) -> Pending<'a, Fence>;

    /// `leased` to `starting`, with the image that will be run.
    fn start<'a>(&'a self, fence: Fence, image: &'a Image, at_ms: i64) -> Pending<'a, Transition>;

    /// Binds the sandbox to a starting run. Comes before release: a sweep finds the run by its container.
    fn bind<'a>(&'a self, fence: Fence, slot: &'a Slot, at_ms: i64) -> Pending<'a, Transition>;

    /// `starting` to `running`, with the attestation report (JSON). Refused without a bound slot.
    fn release<'a>(&'a self, fence: Fence, attestation: &'a str, at_ms: i64) -> Pending<'a, Transition>;

    /// `running` to `finishing`: the command ended, outputs are collected.
    fn finishing(&self, fence: Fence, at_ms: i64) -> Pending<'_, Transition>;

    /// Any state but `done` to `done`, with everything that is kept of the end. An attestation report given here
    /// replaces the one of release: a refusal has only this one.
    fn finish<'a>(
        &'a self,
        fence: Fence,
        end: &'a End,
        attestation: Option<&'a str>,
        at_ms: i64,
    ) -> Pending<'a, Transition>;

    /// Back to `queued` to be tried again, without a slot. The old fence is dead from here on.
    fn requeue<'a>(&'a self, fence: Fence, because: &'a Outcome, at_ms: i64) -> Pending<'a, Transition>;

    /// `queued` to `leased`: the next attempt under the next epoch. `None` when somebody else has it.
    fn lease<'a>(&'a self, run: RunId, owner: &'a Owner, at_ms: i64) -> Pending<'a, Option<Fence>>;

    /// The run that a person named.
    fn find<'a>(&'a self, selector: &'a RunSelector) -> Pending<'a, Found>;

    /// Newest first, at most `count_max`.
    fn list(&self, filter: RunFilter, count_max: u32) -> Pending<'_, Vec<RunBrief>>;

    /// What happened to a run, oldest first.
    fn events(&self, run: RunId) -> Pending<'_, Vec<Event>>;

    /// Appends to the ledger of a run. Entries are never changed.
    fn keep_egress<'a>(&'a self, run: RunId, entries: &'a [Entry]) -> Pending<'a, ()>;

    /// The ledger of a run, in the order in which it was kept.
    fn egress(&self, run: RunId) -> Pending<'_, Vec<Entry>>;

    /// Runs without an outcome whose owner is gone.
    fn orphans(&self) -> Pending<'_, Vec<Orphan>>;

    /// Runs that ended before this time, oldest first, at most `count_max`: what retention lets go.
    fn ended_before(&self, time_ms: i64, count_max: u32) -> Pending<'_, Vec<RunId>>;

    /// Forgets an ended run with its events and artifacts. An active run stays: `Superseded`.
    fn forget(&self, run: RunId) -> Pending<'_, Transition>;
}
