//! Floor 3: one attempt at a run, from its container to its outcome.
//!
//! An attempt does not fail: what happened is its outcome, and `Err` means that the books could not be kept.

pub mod attempt;
mod changes_out;
pub mod control;
pub mod disk;
pub mod egress;
mod exposure;
pub mod lease;
pub mod ledger;
pub mod meter;
mod outputs_out;
pub mod publish;
pub mod request;
mod secrets_in;
pub mod session;
pub mod starting;
pub mod streams;
mod unreleased;
pub mod verdict;
pub mod waiting;
mod workspace_in;

pub use attempt::{Attempt, run_attempt};
pub use changes_out::ChangesOut;
pub use control::Control;
pub use secrets_in::{Given, Secrets};
pub use streams::{Kept, OutputTap, Sinks};
