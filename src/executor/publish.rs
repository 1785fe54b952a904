//! Ports of the task on the host's loopback. The owner accepts there, has init connect inside, and relays. The sandbox has
//! no interface for it, and nothing but the ports that policy lists is ever connected to.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use aegis_init::wire::{Reply, Request};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::gateway::link::is_stream;
use crate::gateway::relay::{self, Traffic};
use crate::sandbox::channel::Received;
use crate::task::Published;

/// Visitors at once, over all ports; further ones wait to be accepted.
const VISITORS_MAX: usize = 64;
/// A connection on which nothing moves is ended after this.
const IDLE_TIME_MAX: Duration = Duration::from_secs(15 * 60);
/// Time that the task may take to accept.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(30);
/// What a failed accept waits for.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A port that cannot be published.
#[derive(Debug, thiserror::Error)]
#[error(
    "port {port} of 127.0.0.1 cannot be listened on: choose another one in `--publish 127.0.0.1:PORT:PORT`"
)]
pub struct PublishError {
    /// The port of the host.
    port: u16,
    /// Why.
    #[source]
    source: std::io::Error,
}

/// Ports that are taken and not served yet.
#[derive(Debug, Default)]
pub struct Listening {
    listeners: Vec<(u16, TcpListener)>,
}

impl Listening {
    /// Takes the host's ports, so that one that is taken is told before anything is started.
    pub async fn open(published: &[Published]) -> Result<Self, PublishError> {
        let mut listeners = Vec::with_capacity(published.len());
        for one in published {
            let failed = |source| PublishError { port: one.host_port, source };
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, one.host_port)).await.map_err(failed)?;
            listeners.push((one.port, listener));
        }
        Ok(Self { listeners })
    }
}

/// Somebody who came to a published port.
#[derive(Debug)]
pub struct Visitor {
    port: u16,
    stream: TcpStream,
    place: OwnedSemaphorePermit,
}

/// Ports that are served. Dropped, every connection ends.
#[derive(Debug)]
pub struct Publishing {
    visitors: mpsc::Receiver<Visitor>,
    /// Ends with this.
    _accepting: JoinSet<()>,
    relays: JoinSet<()>,
    /// Those for whom init was asked to connect.
    awaited: BTreeMap<u32, Visitor>,
    last: u32,
}

impl Publishing {
    /// Begins to accept.
    pub fn start(listening: Listening) -> Self {
        let (arrived, visitors) = mpsc::channel(VISITORS_MAX);
        let places = Arc::new(Semaphore::new(VISITORS_MAX));
        let mut accepting = JoinSet::new();
        for (port, listener) in listening.listeners {
            accepting.spawn(accept(port, listener, places.clone(), arrived.clone()));
        }
        let relays = JoinSet::new();
        Self { visitors, _accepting: accepting, relays, awaited: BTreeMap::new(), last: 0 }
    }

    /// The next visitor; never anybody where nothing is published. May be cancelled at any time.
    pub async fn visitor(&mut self) -> Visitor {
        loop {
            tokio::select! {
                visitor = self.visitors.recv() => match visitor {
                    Some(visitor) => return visitor,
                    None => std::future::pending().await,
                },
                Some(_) = self.relays.join_next() => {}
            }
        }
    }

    /// What init is asked for a visitor.
    pub fn ask(&mut self, visitor: Visitor) -> Request {
        self.last = self.last.wrapping_add(1);
        let request = Request::Dial { id: self.last, port: visitor.port };
        self.awaited.insert(self.last, visitor);
        request
    }

    /// Whether init has still to answer.
    pub fn is_awaiting(&self) -> bool {
        !self.awaited.is_empty()
    }

    /// Takes what init answered. False if nobody asked for it.
    pub fn dialled(&mut self, received: Received) -> bool {
        let Reply::Dialled { id, .. } = received.message else {
            return false;
        };
        let Some(visitor) = self.awaited.remove(&id) else {
            return false;
        };
        // A visitor whom nobody receives is reset.
        let socket = received.descriptors.into_iter().next().filter(is_stream);
        match socket {
            Some(socket) => drop(self.relays.spawn(serve(visitor, socket))),
            None => drop(visitor.stream.set_zero_linger()),
        }
        true
    }
}

async fn accept(port: u16, listener: TcpListener, places: Arc<Semaphore>, arrived: mpsc::Sender<Visitor>) {
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                if arrived.send(Visitor { port, stream, place }).await.is_err() {
                    return;
                }
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn serve(visitor: Visitor, socket: OwnedFd) {
    let Visitor { stream, place, .. } = visitor;
    if relayed(&stream, socket).await.is_err() {
        // A socket that takes no option is gone already.
        let _ = stream.set_zero_linger();
    }
    drop(place);
}

async fn relayed(visitor: &TcpStream, socket: OwnedFd) -> std::io::Result<()> {
    let inside = TcpStream::from_std(socket.into())?;
    match tokio::time::timeout(CONNECT_TIME_MAX, inside.writable()).await {
        Ok(writable) => writable?,
        Err(_) => return Err(std::io::ErrorKind::TimedOut.into()),
    }
    if let Some(error) = inside.take_error()? {
        return Err(error);
    }
    visitor.set_nodelay(true)?;
    inside.set_nodelay(true)?;
    relay::relay(&inside, visitor, &Traffic::begin(), IDLE_TIME_MAX).await
}
