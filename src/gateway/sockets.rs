//! Listening sockets of the sandbox: asked of the owner, who has init make them. Each is known by the number it was asked
//! for with.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{mpsc, oneshot};

use crate::gateway::wire::Tell;

/// Time that a socket may take to come.
const ARRIVAL_TIME_MAX: Duration = Duration::from_secs(10);

/// Asks for sockets, and hands out those that arrive.
#[derive(Debug)]
pub struct Sockets {
    tells: mpsc::Sender<Tell>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u32,
    awaited: BTreeMap<u32, oneshot::Sender<Result<OwnedFd, i32>>>,
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The sandbox has none to give, most often because the task took the port.
    #[error("the sandbox gave no socket")]
    Refused(#[source] io::Error),
    /// Nothing came.
    #[error("the sandbox gave no socket in time")]
    Late,
    /// It came and cannot be used.
    #[error("the sandbox's socket cannot be used")]
    Unusable(#[source] io::Error),
}

impl Sockets {
    /// Asks over this queue.
    pub fn new(tells: mpsc::Sender<Tell>) -> Self {
        Self { tells, state: Mutex::default() }
    }

    /// A socket for datagrams.
    pub async fn datagrams(&self, address: Ipv4Addr, port: u16) -> Result<UdpSocket, SocketError> {
        let socket = self.ask(true, address, port).await?;
        UdpSocket::from_std(socket.into()).map_err(SocketError::Unusable)
    }

    /// A socket for connections.
    pub async fn connections(&self, address: Ipv4Addr, port: u16) -> Result<TcpListener, SocketError> {
        let socket = self.ask(false, address, port).await?;
        TcpListener::from_std(socket.into()).map_err(SocketError::Unusable)
    }

    /// Takes the answer to what was asked. One that nobody waits for is closed.
    pub fn arrived(&self, id: u32, result: Result<OwnedFd, i32>) {
        let waiting = self.state.lock().unwrap_or_else(PoisonError::into_inner).awaited.remove(&id);
        if let Some(waiting) = waiting {
            let _ = waiting.send(result);
        }
    }

    async fn ask(&self, datagrams: bool, address: Ipv4Addr, port: u16) -> Result<OwnedFd, SocketError> {
        let (arrived, arrival) = oneshot::channel();
        let id = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.next = state.next.wrapping_add(1);
            let id = state.next;
            state.awaited.insert(id, arrived);
            id
        };
        let asked = Tell::Listen { id, datagrams, address: address.octets(), port };
        let arrival = async {
            self.tells.send(asked).await.ok()?;
            arrival.await.ok()
        };
        let result = tokio::time::timeout(ARRIVAL_TIME_MAX, arrival).await;
        self.state.lock().unwrap_or_else(PoisonError::into_inner).awaited.remove(&id);
        match result {
            Ok(Some(Ok(socket))) => Ok(socket),
            Ok(Some(Err(errno))) => Err(SocketError::Refused(io::Error::from_raw_os_error(errno))),
            Ok(None) | Err(_) => Err(SocketError::Late),
        }
    }
}
