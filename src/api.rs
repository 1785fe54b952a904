//! Floor 4: the server's HTTP interface, over a Unix socket or TCP. It reads and writes records, queue and uploads; it
//! cannot reach the engine, and nothing here runs a task.
//!
//! Every request passes one gate (`gate.rs`): where it came from, who asks, what the route needs (`rights.rs`), how
//! much they asked for already. Errors have one form (`problem.rs`). Lengths, times, counts and rates are bounded.

mod archive;
mod artifacts;
pub mod attach;
mod body;
mod caller;
mod changes;
mod document;
mod gate;
mod health;
pub mod listener;
mod meter;
mod peer;
mod problem;
mod projects;
mod rights;
mod router;
mod runs;
mod scope;
mod serve;
pub mod services;
mod sse;
mod stalling;
mod submit;
mod tls;
mod tokens;
pub mod wire;
mod work;
mod workers;
mod workspaces;

pub use document::openapi;
pub use listener::{ListenError, Listener};
pub use rights::{RIGHTS, documented};
pub use serve::serve;
pub use services::Services;
pub use workspaces::upload_path;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::api::caller::Believed;
use crate::api::meter::Meter;

/// What every route holds.
struct Api {
    services: Services,
    meter: Meter,
    believed: Believed,
    closing: CancellationToken,
    /// Archives that are made at the same time, each on a thread for as long as its reader takes.
    packings: Arc<tokio::sync::Semaphore>,
    /// The OpenAPI document.
    document: String,
}

type Shared = Arc<Api>;
