//! `aegis gateway`, a process of its own for each run that has a way out: it raises its walls, is told everything over the
//! one socket it inherited, and ends with its owner.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::net::NetError;
use tokio::net::UnixStream;
use tokio::sync::{Notify, mpsc};

use crate::confine::ConfineError;
use crate::gateway::confine::{self, WALLS};
use crate::gateway::dial::Dial;
use crate::gateway::lookup::Lookup;
use crate::gateway::reading::ReadingError;
use crate::gateway::resolver;
use crate::gateway::run::Run;
use crate::gateway::sockets::SocketError;
use crate::gateway::wire::{Begin, Order, Tell};
use crate::sandbox::channel::{self, ChannelError, Receiver, Sender};

/// Messages that wait for the owner.
const TELLS_MAX: usize = 1024;
/// Time that connections may take to end and to be put on record.
const END_TIME_MAX: Duration = Duration::from_secs(3);

/// Why a gateway ended.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// No walls, no gateway.
    #[error(transparent)]
    Confine(#[from] ConfineError),
    /// The runtime, or the inherited socket.
    #[error("the gateway cannot be started: it is a part of `aegis run` and is given its connection by it")]
    Start(#[source] std::io::Error),
    /// The owner is gone, or says what it cannot say.
    #[error("the gateway's connection to its owner broke")]
    Owner(#[from] ChannelError),
    /// The first message is none.
    #[error("the gateway was not told what it may do")]
    Untold,
    /// Requests cannot be read.
    #[error(transparent)]
    Reading(#[from] ReadingError),
    /// The resolver's client cannot be made.
    #[error("the gateway cannot ask for names")]
    Lookup(#[source] NetError),
    /// The sandbox gave no socket to resolve on.
    #[error("the resolver of the sandbox cannot listen")]
    Resolver(#[from] SocketError),
}

/// Serves one run over this socket, until its owner is done or gone.
pub fn serve(socket: OwnedFd) -> Result<(), GatewayError> {
    confine::set_apart()?;
    // Its own pipes are made before the filter, which lets none be made.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(GatewayError::Start)?;
    WALLS.raise_filter()?;
    runtime.block_on(converse(socket))
}

async fn converse(socket: OwnedFd) -> Result<(), GatewayError> {
    let socket = std::os::unix::net::UnixStream::from(socket);
    socket.set_nonblocking(true).map_err(GatewayError::Start)?;
    let socket = UnixStream::from_std(socket).map_err(GatewayError::Start)?;
    let (sender, mut orders) = channel::halves::<Tell, Order>(socket);
    let Order::Begin(begin) = orders.receive().await?.message else {
        return Err(GatewayError::Untold);
    };
    let (tells, queue) = mpsc::channel(TELLS_MAX);
    let run = Arc::new(prepare(&begin, tells.clone())?);
    let speaking = tokio::spawn(speak(sender, queue));
    // The sandbox may take long to be made and filled.
    let standing = Notify::new();
    let opened = async {
        standing.notified().await;
        match open(&run, &tells).await {
            Ok(()) => std::future::pending().await,
            Err(error) => error,
        }
    };
    let ended = tokio::select! {
        ended = obey(&run, &mut orders, &standing) => ended,
        error = opened => Err(error),
    };
    run.closing.cancel();
    run.tasks.close();
    let _ = tokio::time::timeout(END_TIME_MAX, run.tasks.wait()).await;
    let _ = tells.send(Tell::Over { refused_again: run.refused_again() }).await;
    let _ = tokio::time::timeout(END_TIME_MAX, speaking).await;
    ended
}

fn prepare(begin: &Begin, tells: mpsc::Sender<Tell>) -> Result<Run, GatewayError> {
    let network = begin.rules.network().ok_or(GatewayError::Untold)?;
    let lookup = Lookup::new(&begin.resolvers).map_err(GatewayError::Lookup)?;
    Ok(Run::new(begin, network, Dial::new(lookup, begin.proxy.clone()), tells)?)
}

/// Opens the resolver, and says so.
async fn open(run: &Arc<Run>, tells: &mpsc::Sender<Tell>) -> Result<(), GatewayError> {
    let datagrams = run.sockets.datagrams(resolver::ADDRESS, resolver::PORT).await?;
    let connections = run.sockets.connections(resolver::ADDRESS, resolver::PORT).await?;
    run.tasks.spawn(resolver::datagrams(run.clone(), datagrams));
    run.tasks.spawn(resolver::connections(run.clone(), connections));
    // An owner that is gone takes this process along.
    let _ = tells.send(Tell::Ready).await;
    Ok(())
}

/// Does what the owner says until it is done or gone.
async fn obey(run: &Run, orders: &mut Receiver<Order>, standing: &Notify) -> Result<(), GatewayError> {
    loop {
        let received = orders.receive().await?;
        match received.message {
            Order::Listening { id, errno } => {
                let socket = received.descriptors.into_iter().next();
                run.sockets.arrived(id, socket.ok_or(errno));
            }
            Order::Open => standing.notify_one(),
            Order::End => return Ok(()),
            Order::Begin(_) => return Err(GatewayError::Untold),
        }
    }
}

async fn speak(sender: Sender<Tell>, mut queue: mpsc::Receiver<Tell>) {
    while let Some(tell) = queue.recv().await {
        let last = matches!(tell, Tell::Over { .. });
        if sender.send(&tell, &[]).await.is_err() || last {
            return;
        }
    }
}
