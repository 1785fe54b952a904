//! `aegis broker`, a process beside a server: it raises its walls, serves the one socket that it was started with, and ends
//! with the other end of it.

use std::os::fd::OwnedFd;

use tokio::net::UnixStream;

use crate::broker::confine::WALLS;
use crate::broker::server::{self, BrokerError, Settings};
use crate::confine::ConfineError;

/// Why there is no broker any more.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// No walls, no broker.
    #[error(transparent)]
    Confine(#[from] ConfineError),
    /// The runtime, or the inherited socket.
    #[error("the broker cannot be started: it is a part of `aegis serve`, and is given its connection")]
    Start(#[source] std::io::Error),
    /// What it was asked.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

/// Serves one server over this socket.
pub fn serve(socket: OwnedFd, settings: Settings) -> Result<(), ProcessError> {
    WALLS.set_apart()?;
    // Its own pipes are made before the filter, which lets none be made.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ProcessError::Start)?;
    WALLS.raise_filter()?;
    runtime.block_on(async {
        let socket = std::os::unix::net::UnixStream::from(socket);
        socket.set_nonblocking(true).map_err(ProcessError::Start)?;
        let socket = UnixStream::from_std(socket).map_err(ProcessError::Start)?;
        Ok(server::serve(socket, settings).await?)
    })
}
