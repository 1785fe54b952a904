//! Pages of runs for many readers, and whose a run is: what a server asks of the records beside the verbs of a run.

use crate::record::{Pending, RunBrief};
use crate::task::{RunId, RunState};

/// Runs of one page at the most.
pub const PAGE_MAX: u32 = 1_000;

/// Which runs a page shows. Every field that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PageFilter {
    /// Only of this project; `None` is of every one, and of none.
    pub project: Option<String>,
    /// Only in this state.
    pub state: Option<RunState>,
    /// Only with this label.
    pub label: Option<(String, String)>,
    /// Only older than this one: ids of later runs sort after those of earlier ones.
    pub before: Option<RunId>,
}

/// A run of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The run.
    pub run: RunBrief,
    /// Whose it is; `None` for one that no server took.
    pub project: Option<String>,
}

/// Whose runs are whose.
pub trait Runs: Send + Sync {
    /// The project of a run; `None` for one that no server took, and where there is none.
    fn project_of(&self, run: RunId) -> Pending<'_, Option<String>>;

    /// Newest first, at most `count_max` and [`PAGE_MAX`].
    fn page<'a>(&'a self, filter: &'a PageFilter, count_max: u32) -> Pending<'a, Vec<Listed>>;
}
