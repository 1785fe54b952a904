//! Floor 1: what a task may do. Policies are data; two of them meet in the stricter one; nothing is made without
//! [`Admitted`], which only [`admit()`] gives.
//!
//! The way through: `shipped::select` names a policy, `Chosen` is one, `resolve` applies the flags and meets the
//! ceiling, `admit` holds a task against the result. Files come in as bytes; nothing here does I/O.

pub mod admit;
pub mod amount;
pub mod canonical;
pub mod ceiling;
pub mod denial;
pub mod document;
pub mod field;
pub mod lattice;
pub mod network;
pub mod origin;
pub mod overrides;
pub mod reference;
pub mod request;
pub mod resolve;
pub mod rules;
pub mod shipped;

pub use admit::{Admitted, admit, judge};
pub use ceiling::{Ceiling, HostAmounts};
pub use denial::Denial;
pub use network::{Egress, Network};
pub use origin::{Clipped, FieldOrigin, Origin};
pub use overrides::Overrides;
pub use resolve::{Resolved, resolve};
pub use rules::{
    Filesystem, Images, Outputs, Policy, Process, Pull, Resources, SecretOutputs, Secrets, WorkspaceMedium,
};
pub use shipped::{ChoiceError, Chosen, Selection, default_policy, select, shipped};
