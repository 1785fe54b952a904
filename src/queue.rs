//! Floor 2, a port: runs that wait, who takes them, and how they come back. Plain types and one trait; the tables are an
//! adapter's business (`store`).
//!
//! A submitted run is `queued` until a worker claims it under a lease. Every write under a lease is fenced by its epoch.
//! Times are milliseconds; those that decide about a lease are the database's own, so that no worker's clock matters.

#[cfg(test)]
pub(crate) mod fixture;
pub mod fleet;
pub mod order;
pub mod retry;
pub mod share;

use std::time::Duration;

use crate::access::NewAudit;
use crate::policy::Overrides;
use crate::record::{End, Fence, NewRun, Owner, Pending};
use crate::task::{Cancellation, OutputRequest, RunId, SecretRequest};

/// How long a lease lasts.
pub const LEASE: Duration = Duration::from_secs(15);
/// How often it is renewed.
pub const RENEWAL: Duration = Duration::from_secs(5);
/// Runs of one batch at the most.
pub const BATCH_MAX: usize = 1_000;
/// Runs that one run may wait for at the most.
pub const AFTER_MAX: usize = 64;
/// The label that each worker has beside its own: the lock of its process. A run that asks for it stays with that process,
/// and is anybody's when the process is gone.
pub const PROCESS_LABEL: &str = "process";
/// Attempts of one run at the most.
pub const ATTEMPTS_MAX: u32 = 100;

/// A task as it was submitted: everything that a worker needs and the records do not show. Values of the environment may
/// be secret, so that this is forgotten when the run ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// Which policy, and what changes its amounts. It is resolved and judged anew at every start.
    pub policy: PolicySource,
    /// The flags that change a policy's amounts.
    pub overrides: Overrides,
    /// Program and arguments.
    pub command: Vec<Vec<u8>>,
    /// Image reference.
    pub image: String,
    /// Digest of the workspace's content as it was uploaded, `sha256:…`; `None` without one.
    pub workspace: Option<String>,
    /// Working directory inside.
    pub workdir: Option<String>,
    /// Variables, in order.
    pub environment: Vec<(String, String)>,
    /// Secrets of the server's store that are put inside.
    pub secrets: Vec<SecretRequest>,
    /// What comes out.
    pub outputs: Vec<OutputRequest>,
    /// Whether changes in the workspace are kept.
    pub keep_changes: bool,
    /// Milliseconds between SIGTERM and SIGKILL.
    pub grace_ms: u64,
    /// Whether a client is attached: the run waits for it, has its streams, and ends with it.
    pub attached: Option<Attached>,
}

/// The streams of an attached client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attached {
    /// Output only.
    Output,
    /// Standard input, too.
    Both,
    /// A terminal.
    Terminal {
        /// Rows.
        rows: u16,
        /// Columns.
        columns: u16,
    },
}

/// Where a submitted run's policy comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicySource {
    /// The server's default.
    Default,
    /// One that the server knows by name.
    Named(String),
    /// A document of the submitter's.
    Document {
        /// Its name, for messages.
        name: String,
        /// TOML.
        text: String,
    },
}

/// When, how often and where a run may be started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Schedule {
    /// Higher goes first within a project: -100 to 100.
    pub priority: i16,
    /// Not before this time.
    pub not_before_ms: Option<i64>,
    /// Not after this time: it ends as `cancelled(deadline)` if it has not been started by then.
    pub deadline_ms: Option<i64>,
    /// At most so many runs with the same key, in the same project, at once.
    pub concurrency: Option<Concurrency>,
    /// Starts when these have ended.
    pub after: Vec<Dependency>,
    /// May be started again although a sandbox may have begun to run it.
    pub idempotent: bool,
    /// Attempts at the most, those that were lost: 1 to [`ATTEMPTS_MAX`].
    pub attempts_max: u32,
    /// How often a failure of the task itself is tried again.
    pub failure_retries: u32,
    /// Labels that a worker must have.
    pub worker_labels: Vec<(String, String)>,
}

/// A key and how many runs may hold it at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concurrency {
    /// The key, within the project.
    pub key: String,
    /// Runs at once, from 1. The lowest limit among those that hold or want the key counts.
    pub limit: u32,
}

/// A run that another waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dependency {
    /// The run.
    pub run: RunId,
    /// Whether it must have exited with 0; otherwise any end will do.
    pub success: bool,
}

/// A run that is to be queued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSubmission {
    /// What is kept of it; without an owner.
    pub run: NewRun,
    /// Whose it is.
    pub project: String,
    /// Who submitted it: `uid:1000`, `token:NAME`.
    pub submitter: String,
    /// What a worker needs.
    pub submission: Submission,
    /// When, how often, where.
    pub schedule: Schedule,
    /// Same key and same body: the same run. The digest is the body's.
    pub idempotency: Option<Idempotency>,
}

/// What is kept of a submission once its run has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastSubmission {
    /// What was submitted, without the variables of its environment.
    pub submission: Submission,
    /// How often and where it might be started; times and other runs that it waited for are not kept.
    pub schedule: Schedule,
}

/// An idempotency key of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// The key, at most 255 bytes.
    pub key: String,
    /// Digest of the request's body.
    pub body_sha256: [u8; 32],
}

/// What became of a batch. Nothing of it is queued unless all of it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submitted {
    /// Queued, or known already by their keys: ids in the order of the batch, with whether each is new.
    Accepted(Vec<(RunId, bool)>),
    /// The key was used with another body.
    KeyConflict {
        /// Index in the batch.
        index: usize,
        /// The run that has the key.
        run: RunId,
    },
    /// A dependency is not there, or not of this project.
    UnknownDependency {
        /// Index in the batch.
        index: usize,
        /// The run that is not there.
        run: RunId,
    },
    /// The dependencies of the batch are a circle.
    Cycle {
        /// Index of one of them.
        index: usize,
    },
    /// The batch, or what one of its runs waits for, is more than the queue takes.
    TooMany {
        /// Index in the batch of the first that is too much.
        index: usize,
        /// What there is too much of, with its bound.
        what: String,
    },
    /// A quota of the project is used up.
    QuotaExceeded {
        /// The quota, in words, with its limit.
        what: String,
    },
}

/// A process that takes runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    /// Its name: what it lost is given to another name first.
    pub name: String,
    /// The process.
    pub owner: Owner,
    /// What it offers, beside [`PROCESS_LABEL`].
    pub labels: Vec<(String, String)>,
    /// Runs that it takes at once.
    pub capacity: u32,
}

/// A run that was claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// Under which everything is written.
    pub fence: Fence,
    /// Whose it is.
    pub project: String,
    /// What is to be run.
    pub submission: Submission,
    /// Milliseconds that the lease lasts from before it was asked for.
    pub lease_ms: u64,
    /// Whether its attempt may be repeated after release.
    pub idempotent: bool,
}

/// What a renewal found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Renewed {
    /// Leases that go on.
    pub held: Vec<Fence>,
    /// Leases that are another's by now: their sandboxes must end.
    pub lost: Vec<Fence>,
    /// Runs that somebody wants ended, and who.
    pub cancelled: Vec<(Fence, Cancellation)>,
}

/// What became of an attempt that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a lost race is told here"]
pub enum Settled {
    /// The outcome is on record.
    Done,
    /// It is queued again, not before this time.
    Again {
        /// When it may start.
        not_before_ms: i64,
    },
    /// Another has it, or it has ended. Nothing was written.
    Superseded,
}

/// What became of a wish to end a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelAnswer {
    /// It waited, and has ended.
    Ended,
    /// It runs; its worker is told.
    Asked,
    /// It had ended already.
    Over,
    /// There is no such run in the queue.
    Unknown,
}

/// A lease that ran out, and what became of its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expired {
    /// The dead fence.
    pub fence: Fence,
    /// What became of the run.
    pub settled: Settled,
}

/// How an attempt came to its end, for the rule that decides whether it is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// Nothing of the task ran.
    Unreleased,
    /// It was released.
    Released,
}

/// What was submitted once. Both databases behave alike.
pub trait History: Send + Sync {
    /// What is kept of a run's submission; `None` while it waits or runs, and where nothing of it may be kept.
    fn past(&self, run: RunId) -> Pending<'_, Option<PastSubmission>>;
}

/// Places that are told apart.
pub const PLACE_MAX: u32 = 1_000;

/// Runs that wait. Both databases behave alike; a model holds them to it.
pub trait Queue: Send + Sync {
    /// Queues a batch of at most [`BATCH_MAX`], whole or not at all. It is on disk when this returns. Where anything of it
    /// is new, `audit` is on disk with it.
    fn submit_for<'a>(
        &'a self,
        batch: &'a [NewSubmission],
        audit: Option<&'a NewAudit>,
    ) -> Pending<'a, Submitted>;

    /// The same for nobody who is to be written down.
    fn submit<'a>(&'a self, batch: &'a [NewSubmission]) -> Pending<'a, Submitted> {
        self.submit_for(batch, None)
    }

    /// Leases at most `count_max` runs to a worker, by share, priority and age.
    fn claim<'a>(&'a self, worker: &'a Worker, count_max: u32) -> Pending<'a, Vec<Claimed>>;

    /// Renews the leases of these runs, all of one worker.
    fn renew<'a>(&'a self, fences: &'a [Fence]) -> Pending<'a, Renewed>;

    /// Records the end of an attempt, or queues the run again where the rules say so.
    fn settle<'a>(
        &'a self,
        fence: Fence,
        reached: Reached,
        end: &'a End,
        attestation: Option<&'a str>,
    ) -> Pending<'a, Settled>;

    /// Gives claimed runs back unstarted: they keep their place and the attempt does not count. What was released, or is
    /// another's by now, is left alone.
    fn give_back<'a>(&'a self, fences: &'a [Fence]) -> Pending<'a, ()>;

    /// Ends a run that waits, or tells the worker that has it. Where that changes anything, `audit` is on disk with it.
    fn cancel_for<'a>(
        &'a self,
        run: RunId,
        by: Cancellation,
        audit: Option<&'a NewAudit>,
    ) -> Pending<'a, CancelAnswer>;

    /// The same for nobody who is to be written down.
    fn cancel(&self, run: RunId, by: Cancellation) -> Pending<'_, CancelAnswer> {
        self.cancel_for(run, by, None)
    }

    /// Where a run stands among those of its project that a worker could take: 1 is the next, [`PLACE_MAX`] is that or
    /// later. `None` where it does not wait for a worker alone.
    fn place(&self, run: RunId) -> Pending<'_, Option<u32>>;

    /// Settles runs whose lease ran out or whose owner is dead, ends what passed its deadline, and finishes what a crash
    /// left half done; at most `count_max` of each.
    fn expire(&self, count_max: u32) -> Pending<'_, Vec<Expired>>;

    /// Resolves when there may be something to claim, or after a bounded time in any case. Made before a `claim` and
    /// awaited after it, it misses nothing that was queued in between.
    fn wait(&self) -> Pending<'_, ()>;
}
