//! Floor 2, a port: what is kept of a run, and the verbs that keep it. Plain types and one trait; the bytes on disk are
//! an adapter's business (`store`).
//!
//! Every verb that changes a run is one transaction that checks the fence, appends its event and says whether it won.

pub mod end;
pub mod error;
pub mod event;
pub mod run;

use std::future::Future;

pub use end::{Artifact, Dropped, End, OutputCounts, Phase, Usage};
pub use error::RecordError;
pub use event::{Event, EventKind};
pub use run::{
    Fence, Image, Limits, NewRun, Orphan, Owner, PolicyRecord, Run, RunBrief, RunFilter, Slot, TaskRecord,
};

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

/// Where runs are kept. Times are milliseconds since the epoch, given by the caller.
pub trait Record: Send + Sync {
    /// Accepts a run and leases it to its owner at once: attempt 1, epoch 1, state `leased`.
    fn insert(&self, run: &NewRun) -> impl Future<Output = Result<Fence, RecordError>> + Send;

    /// `leased` to `starting`, with the image that will be run.
    fn start(
        &self,
        fence: Fence,
        image: &Image,
        at_ms: i64,
    ) -> impl Future<Output = Result<Transition, RecordError>> + Send;

    /// Binds the sandbox to a starting run. Comes before release: a sweep finds the run by its container.
    fn bind(
        &self,
        fence: Fence,
        slot: &Slot,
        at_ms: i64,
    ) -> impl Future<Output = Result<Transition, RecordError>> + Send;

    /// `starting` to `running`, with the attestation report (JSON). Refused without a bound slot.
    fn release(
        &self,
        fence: Fence,
        attestation: &str,
        at_ms: i64,
    ) -> impl Future<Output = Result<Transition, RecordError>> + Send;

    /// `running` to `finishing`: the command ended, outputs are collected.
    fn finishing(
        &self,
        fence: Fence,
        at_ms: i64,
    ) -> impl Future<Output = Result<Transition, RecordError>> + Send;

    /// Any state but `done` to `done`, with everything that is kept of the end. An attestation report given here
    /// replaces the one of release: a refusal has only this one.
    fn finish(
        &self,
        fence: Fence,
        end: &End,
        attestation: Option<&str>,
        at_ms: i64,
    ) -> impl Future<Output = Result<Transition, RecordError>> + Send;

    /// Back to `queued` to be tried again, without a slot. The old fence is dead from here on.
    fn requeue(
        &self,
        fence: Fence,
        because: &Outcome,
        at_ms: i64,
    ) -> impl Future<Output = Result<Transition, RecordError>> + Send;

    /// `queued` to `leased`: the next attempt under the next epoch. `None` when somebody else has it.
    fn lease(
        &self,
        run: RunId,
        owner: &Owner,
        at_ms: i64,
    ) -> impl Future<Output = Result<Option<Fence>, RecordError>> + Send;

    /// The run that a person named.
    fn find(&self, selector: &RunSelector) -> impl Future<Output = Result<Found, RecordError>> + Send;

    /// Newest first, at most `count_max`.
    fn list(
        &self,
        filter: RunFilter,
        count_max: u32,
    ) -> impl Future<Output = Result<Vec<RunBrief>, RecordError>> + Send;

    /// What happened to a run, oldest first.
    fn events(&self, run: RunId) -> impl Future<Output = Result<Vec<Event>, RecordError>> + Send;

    /// Runs without an outcome whose owner is gone.
    fn orphans(&self) -> impl Future<Output = Result<Vec<Orphan>, RecordError>> + Send;

    /// Runs that ended before this time, oldest first, at most `count_max`: what retention lets go.
    fn ended_before(
        &self,
        time_ms: i64,
        count_max: u32,
    ) -> impl Future<Output = Result<Vec<RunId>, RecordError>> + Send;

    /// Forgets an ended run with its events and artifacts. An active run stays: `Superseded`.
    fn forget(&self, run: RunId) -> impl Future<Output = Result<Transition, RecordError>> + Send;
}
