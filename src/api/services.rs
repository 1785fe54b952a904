//! What the server needs of the rest of Aegis: ports that `app` joins with their adapters, and its limits. Nothing here
//! can reach the engine.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::{CancellationToken, DropGuard};

use crate::access::{Access, NewAudit};
use crate::api::wire::project::SlotJson;
use crate::policy::Denial;
use crate::queue::fleet::Fleet;
use crate::queue::{
    CancelAnswer, History, Idempotency, NewSubmission, Queue, Schedule, Submission, Submitted,
};
use crate::record::page::Runs;
use crate::record::{Fence, Pending, Record, RecordError, Stream};
use crate::sandbox::artifacts::Artifacts;
use crate::sandbox::changes::kept::Kept;
use crate::task::{Cancellation, RunId};

/// Everything that the routes speak to.
#[derive(Clone)]
pub struct Services {
    /// The records of runs.
    pub record: Arc<dyn Record>,
    /// The queue.
    pub queue: Arc<dyn Front>,
    /// The workers.
    pub fleet: Arc<dyn Fleet>,
    /// What was submitted once.
    pub history: Arc<dyn History>,
    /// Tokens and the audit.
    pub access: Arc<dyn Access>,
    /// Runs, page by page.
    pub pages: Arc<dyn Runs>,
    /// Policy, at submit.
    pub admission: Arc<dyn Admission>,
    /// What runs wrote.
    pub logs: Arc<dyn Logs>,
    /// Runs with a client attached; `None` where this server runs nothing itself.
    pub attachments: Option<Arc<dyn Attachments>>,
    /// What workers hand in of logs.
    pub copies: Arc<dyn LogCopies>,
    /// What came out of runs.
    pub artifacts: Artifacts,
    /// What runs changed.
    pub changes: Kept,
    /// Where uploaded workspaces lie.
    pub uploads: PathBuf,
    /// Why the server cannot do its work; empty when it can.
    pub unready: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
    /// The sandboxes that wait.
    pub slots: Arc<dyn Fn() -> Vec<SlotJson> + Send + Sync>,
    /// The metrics, as Prometheus reads them.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Bounds.
    pub limits: Limits,
}

/// Bounds of the server. Each holds for hostile callers, so none can be switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// Streams (events, logs) at once, of all callers.
    pub streams: usize,
    /// The same of one caller.
    pub streams_per_caller: usize,
    /// Requests of one caller a second, on average.
    pub requests_per_second: u32,
    /// Requests of one caller at once after a pause.
    pub requests_burst: u32,
    /// Time for a request's head.
    pub head_time: Duration,
    /// Time for a request's body and its answer's head; uploads and streams have their own.
    pub request_time: Duration,
    /// Time in which a client must take some of what is written to it, and send some of an upload.
    pub stall_time: Duration,
    /// Bytes of an uploaded workspace, compressed.
    pub upload_bytes: u64,
}

impl Limits {
    /// What `aegis serve` begins with.
    pub const USUAL: Self = Self {
        connections: 4096,
        streams: 2048,
        streams_per_caller: 1100,
        requests_per_second: 200,
        requests_burst: 400,
        head_time: Duration::from_secs(10),
        request_time: Duration::from_secs(30),
        stall_time: Duration::from_secs(30),
        upload_bytes: 4 * 1024 * 1024 * 1024,
    };
}

/// The queue, as who submits and ends runs reaches it. What it changes is on disk together with `audit`, where there is one.
pub trait Front: Send + Sync {
    /// Queues a batch, whole or not at all. It is on disk when this returns.
    fn submit<'a>(
        &'a self,
        batch: &'a [NewSubmission],
        audit: Option<&'a NewAudit>,
    ) -> Pending<'a, Submitted>;

    /// Ends a run that waits, or tells the worker that has it.
    fn cancel<'a>(
        &'a self,
        run: RunId,
        by: Cancellation,
        audit: Option<&'a NewAudit>,
    ) -> Pending<'a, CancelAnswer>;

    /// Where a run stands among those of its project; `None` where it does not wait for a worker alone.
    fn standing(&self, run: RunId) -> Pending<'_, Option<u32>>;
}

impl<T: Queue> Front for T {
    fn submit<'a>(
        &'a self,
        batch: &'a [NewSubmission],
        audit: Option<&'a NewAudit>,
    ) -> Pending<'a, Submitted> {
        self.submit_for(batch, audit)
    }

    fn cancel<'a>(
        &'a self,
        run: RunId,
        by: Cancellation,
        audit: Option<&'a NewAudit>,
    ) -> Pending<'a, CancelAnswer> {
        self.cancel_for(run, by, audit)
    }

    fn standing(&self, run: RunId) -> Pending<'_, Option<u32>> {
        self.place(run)
    }
}

/// A run that somebody asked for, read and checked for form. Policy has not looked at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Its id, made here so that members of a batch can name each other.
    pub id: RunId,
    /// A name that people gave it.
    pub name: Option<String>,
    /// Labels that people gave it.
    pub labels: Vec<(String, String)>,
    /// Whose it is to be.
    pub project: String,
    /// Who asks: `uid:1000`, `token:NAME`.
    pub submitter: String,
    /// What is to be run.
    pub submission: Submission,
    /// When, how often, where.
    pub schedule: Schedule,
    /// The key of the request.
    pub idempotency: Option<Idempotency>,
}

/// Why a run is not taken.
#[derive(Debug)]
pub enum Refusal {
    /// Policy says no.
    Denied(Vec<Denial>),
    /// Something that it names is not there, or is wrong: the field as the request spells it, and what to change.
    Wrong {
        /// The field.
        field: String,
        /// What is wrong, and what to do.
        message: String,
    },
    /// The books cannot be read.
    Unavailable(RecordError),
}

/// Policy at submit. The run is judged again when it is started.
pub trait Admission: Send + Sync {
    /// Resolves the policy and holds the run against it.
    fn admit(&self, asked: Asked) -> Answer<'_, Result<NewSubmission, Refusal>>;
}

/// An answer that may take a while and does not fail by itself.
pub type Answer<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Which bytes of a log are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRange {
    /// Only this stream.
    pub only: Option<Stream>,
    /// After so many entries.
    pub after: u64,
}

/// Bytes of a log that came together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogChunk {
    /// Whose.
    pub stream: Stream,
    /// When the first of them came.
    pub at_ms: i64,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Entries up to here: where to go on.
    pub entries: u64,
}

/// What a look at a log gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogLook {
    /// The next bytes.
    Chunk(LogChunk),
    /// Nothing more yet.
    Pending,
    /// The log is complete.
    End {
        /// Whether more was written than is kept.
        truncated: bool,
    },
}

/// What runs wrote.
pub trait Logs: Send + Sync {
    /// The log of a run; `None` while none was begun. Blocks on files.
    fn open(&self, run: RunId, range: LogRange) -> std::io::Result<Option<Box<dyn LogSource>>>;
}

/// A log that is read. Blocks on files.
pub trait LogSource: Send {
    /// The next bytes, in the order in which they came.
    fn look(&mut self) -> std::io::Result<LogLook>;

    /// Bytes that a killed writer kept and did not list any more: call it until it gives nothing.
    fn rest(&mut self) -> std::io::Result<Option<LogChunk>>;
}

/// A client's ends of a run's streams.
pub struct Streams {
    /// Takes standard output. May block while the client does not take it; never called on a runtime's thread.
    pub stdout: Box<dyn Write + Send>,
    /// Takes standard error, likewise.
    pub stderr: Box<dyn Write + Send>,
    /// Gives standard input; `None` is empty.
    pub stdin: Option<OwnedFd>,
    /// To be cancelled once the sandbox is over: from then on the client has a bounded time to take what is left.
    pub over: CancellationToken,
}

/// Runs with a client attached: who runs them in this process is given the client's ends.
pub trait Attachments: Send + Sync {
    /// The label that keeps a run with the workers of this process.
    fn pin(&self) -> (String, String);

    /// Leaves a client's ends for the worker that claims the run. That worker drops `over` when the outcome is on record.
    fn leave(&self, run: RunId, streams: Streams, over: DropGuard);

    /// Takes them back, where no worker has them.
    fn withdraw(&self, run: RunId);

    /// Gives the run's terminal another size.
    fn resize(&self, run: RunId, rows: u16, columns: u16);
}

/// How far the copy of a log has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogStands {
    /// Entries that it has.
    pub entries: u64,
    /// Whether the log is at its end.
    pub complete: bool,
}

/// What became of entries of a log that a worker handed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandedIn {
    /// They are in the copy.
    Added(LogStands),
    /// They do not follow what it has.
    Elsewhere(LogStands),
    /// They are no entries, or more than a log holds.
    Malformed,
    /// The copy is of a later attempt.
    Superseded,
}

/// Logs of runs that other hosts run.
pub trait LogCopies: Send + Sync {
    /// Adds entries to the copy of an attempt's log; `after` is how many it must have. Blocks on files.
    fn append(&self, fence: Fence, after: u64, entries: &[u8]) -> std::io::Result<HandedIn>;
}
