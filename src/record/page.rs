//! Pages of runs, as a server shows them: filtered, newest first, each from where the one before ended.

use crate::record::{Pending, RunBrief};
use crate::task::{RunId, RunState};

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
    /// Whose it is; `None` for one that did not come through the queue.
    pub project: Option<String>,
}

/// Runs, page by page.
pub trait Pages: Send + Sync {
    /// Newest first, at most `count_max`.
    fn page<'a>(&'a self, filter: &'a PageFilter, count_max: u32) -> Pending<'a, Vec<Listed>>;
}
