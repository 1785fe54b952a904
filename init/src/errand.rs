//! What takes many turns of the loop: collecting outputs, comparing the workspace, sending files of it. One at a time.

use crate::collect::{Collection, Progress};
use crate::compare::{Comparison, Fetching};

/// Something that is on its way.
pub enum Errand {
    /// Declared outputs.
    Collect(Box<Collection>),
    /// How the workspace differs from what was put.
    Compare(Box<Comparison>),
    /// Files of the workspace.
    Fetch(Box<Fetching>),
}

impl Errand {
    /// Works until there is an answer or the turn is over.
    pub fn turn(&mut self) -> Progress {
        match self {
            Self::Collect(collection) => collection.turn(),
            Self::Compare(comparison) => comparison.turn(),
            Self::Fetch(fetching) => fetching.turn(),
        }
    }
}
