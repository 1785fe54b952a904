//! A verdict against a task: which field, why, and what would pass. A value, not an error: to deny is to work.

use std::fmt;

use crate::policy::field::{Field, Setting};

/// One reason why a task may not run as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// The field of the policy that decides.
    pub field: Field,
    /// What was asked, what is allowed, and who could allow it.
    pub message: String,
    /// What to do: the smallest change that passes.
    pub hint: String,
    /// The value of the field that would pass, where a value of it would.
    pub allowed: Option<Setting>,
}

/// The message; the hint is a line of its own wherever it is shown.
impl fmt::Display for Denial {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
    }
}
