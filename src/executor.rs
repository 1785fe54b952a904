//! Floor 3: one attempt at a run, from its container to its outcome.
//!
//! An attempt does not fail: what happened is its outcome, and `Err` means that the books could not be kept.

pub mod attempt;
pub mod control;
pub mod request;
pub mod session;
pub mod starting;
pub mod streams;
pub mod verdict;

pub use attempt::{Attempt, run_attempt};
pub use control::Control;
pub use streams::{Kept, OutputTap, Sinks};
