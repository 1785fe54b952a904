//! Floor 2, a port: the hosts that take runs. Who lives, what each offers, whom an operator lets take nothing more, and
//! who holds a run. A worker is known by its name; two processes of one name count as one.

use std::time::Duration;

use crate::access::NewAudit;
use crate::queue::Worker;
use crate::record::{Fence, Pending};

/// How often a worker says that it lives.
pub const BEAT: Duration = Duration::from_secs(10);
/// A worker that was not heard of for so long counts as gone.
pub const SEEN: Duration = Duration::from_secs(30);

/// What an operator wants of a worker. It lasts until it is changed, whether the worker is there or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It takes runs.
    Taking,
    /// It takes nothing more; what it runs goes on.
    Draining,
}

/// A worker as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// What it offers.
    pub labels: Vec<(String, String)>,
    /// Runs that it takes at once.
    pub capacity: u32,
    /// Runs that it has under lease.
    pub running: u64,
    /// What an operator wants of it.
    pub standing: Standing,
    /// Whether it was heard of within [`SEEN`].
    pub living: bool,
    /// Milliseconds since it was heard of, by the records' own clock.
    pub seen_ago_ms: u64,
}

/// Whether a worker's standing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a name that nobody has is told here"]
pub enum Stood {
    /// It is as was wanted, now or since earlier.
    Changed,
    /// There is no worker of this name.
    Unknown,
}

/// A proof that a run is, or was last, somebody's: the fence of its lease and the owner's lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// Run, attempt and epoch of the lease.
    pub fence: Fence,
    /// The owner's lock, as the lease has it.
    pub owner_lock: String,
}

/// What a proof is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holding {
    /// The run is under this lease.
    Held {
        /// The digest of its uploaded workspace.
        workspace: Option<String>,
    },
    /// It ended under this lease, and nobody has had it since.
    Ended,
    /// The run is not, or no longer, theirs.
    Not,
}

/// The workers of one database. Both databases behave alike.
pub trait Fleet: Send + Sync {
    /// Says that this worker lives and what it offers; gives what an operator wants of it.
    fn beat<'a>(&'a self, worker: &'a Worker) -> Pending<'a, Standing>;

    /// This worker is about to end. An operator's wish stays.
    fn leave<'a>(&'a self, worker: &'a Worker) -> Pending<'a, ()>;

    /// Every worker that is known, by name; at most 10,000.
    fn members(&self) -> Pending<'_, Vec<Member>>;

    /// Lets a worker take runs, or no more. Where there is such a one, `audit` is on disk with it.
    fn stand<'a>(
        &'a self,
        name: &'a str,
        standing: Standing,
        audit: Option<&'a NewAudit>,
    ) -> Pending<'a, Stood>;

    /// What a proof is worth now.
    fn holding<'a>(&'a self, proof: &'a Proof) -> Pending<'a, Holding>;
}

/// The label that says what a host's processor is, in the words of images.
pub fn architecture(machine: &str) -> (String, String) {
    let word = match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    ("arch".to_owned(), word.to_owned())
}
