//! Floor 0: what a task is, how a run stands and how it ends. Plain words; nothing here does I/O.

pub mod causes;
pub mod escape;
pub mod exit_code;
pub mod outcome;
pub mod run_id;
pub mod spec;
pub mod state;

pub use exit_code::ExitCode;
pub use outcome::{Cancellation, DiskLimit, Outcome, TimeLimit};
pub use run_id::RunId;
pub use spec::{GitHistory, OutputRequest, Published, SecretPlace, SecretRequest, TaskSpec, WorkspaceSource};
pub use state::RunState;
