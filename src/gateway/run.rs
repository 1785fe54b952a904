//! One run's gateway at work: what its tasks share, and who takes the connections of a name.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::gateway::connection;
use crate::gateway::dial::Dial;
use crate::gateway::inspect::Inspection;
use crate::gateway::names::Names;
use crate::gateway::reading::{self, ReadingError, Way};
use crate::gateway::sockets::Sockets;
use crate::gateway::wire::{self, Begin, Tell};
use crate::policy::network::{Name, Network};
use crate::record::egress::{Entry, Reason, Verdict};
use crate::record::now_ms;

/// Connections of a run at once.
const CONNECTIONS_MAX: usize = 512;
/// Of them those that have not yet said what they want, or whose host is still being connected to.
const HANDSHAKES_MAX: usize = 64;
/// What a failed accept waits for: descriptors that others give back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What every task of a gateway shares.
pub struct Run {
    /// What the task may reach.
    pub network: Arc<Network>,
    /// The names that it asked for.
    pub names: Names,
    /// Where its sockets come from.
    pub sockets: Sockets,
    /// The way to hosts.
    pub dial: Arc<Dial>,
    /// What connections whose requests are read need.
    pub inspection: Arc<Inspection<Way>>,
    /// Room for handshakes.
    pub handshakes: Arc<Semaphore>,
    /// The end of the run.
    pub closing: CancellationToken,
    /// Everything that was spawned.
    pub tasks: TaskTracker,
    connections: Arc<Semaphore>,
    tells: mpsc::Sender<Tell>,
    refused_again: AtomicU64,
}

impl Run {
    /// A run's gateway that was told everything.
    pub fn new(
        begin: &Begin,
        network: Network,
        dial: Dial,
        tells: mpsc::Sender<Tell>,
    ) -> Result<Self, ReadingError> {
        let (network, dial) = (Arc::new(network), Arc::new(dial));
        let (handshakes, tasks) = (Arc::new(Semaphore::new(HANDSHAKES_MAX)), TaskTracker::new());
        let ledger = reading::ledger(tells.clone(), tasks.clone());
        let inspection =
            reading::inspection(begin, network.clone(), dial.clone(), handshakes.clone(), ledger)?;
        Ok(Self {
            network,
            names: Names::default(),
            sockets: Sockets::new(tells.clone()),
            dial,
            inspection: Arc::new(inspection),
            handshakes,
            closing: CancellationToken::new(),
            tasks,
            connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            tells,
            refused_again: AtomicU64::new(0),
        })
    }

    /// Takes the connections of a name and port until the run is over.
    pub fn take_connections(self: &Arc<Self>, listener: TcpListener, name: Name, port: u16) {
        let run = self.clone();
        self.tasks.spawn(async move {
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    () = run.closing.cancelled() => return,
                };
                match accepted {
                    Ok((task, _)) => run.take(task, &name, port).await,
                    Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                }
            }
        });
    }

    async fn take(self: &Arc<Self>, task: tokio::net::TcpStream, name: &Name, port: u16) {
        let Ok(place) = self.connections.clone().try_acquire_owned() else {
            connection::reset(&task);
            let verdict = Verdict::Denied(Reason::Bound);
            return self.record(entry(name, Some(port), verdict)).await;
        };
        let (run, name) = (self.clone(), name.clone());
        self.tasks.spawn(async move {
            connection::serve(&run, task, &name, port).await;
            drop(place);
        });
    }

    /// Puts a refused name on record, once.
    pub async fn refuse_name(&self, name: &Name, reason: Reason) {
        if self.names.note_denied(name.as_str()) {
            self.record(entry(name, None, Verdict::Denied(reason))).await;
        } else {
            self.refused_again.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Puts an entry on record. An owner that does not read stops whoever has something to say.
    pub async fn record(&self, entry: Entry) {
        // An owner that is gone takes this process along.
        let _ = self.tells.send(Tell::Entry(Box::new(wire::Entry::of(&entry)))).await;
    }

    /// Queries for names that do not exist, beside those that have an entry.
    pub fn refused_again(&self) -> u64 {
        self.refused_again.load(Ordering::Relaxed)
    }
}

/// An entry of which nothing is known yet but what it is about.
pub fn entry(name: &Name, port: Option<u16>, verdict: Verdict) -> Entry {
    Entry {
        at_ms: now_ms(),
        name: name.as_str().to_owned(),
        port,
        address: None,
        rule: None,
        verdict,
        bytes_up: 0,
        bytes_down: 0,
        duration_ms: 0,
        request: None,
    }
}
