//! `aegis serve`: runs that wait in a queue are claimed, run in sandboxes of this host, and settled. This joins books,
//! engine, workers, warm sandboxes and recovery; each of them goes on while another cannot.

pub mod attached;
pub mod attempt;
pub mod beat;
pub mod books;
pub mod demand;
pub mod engine_watch;
pub mod fetch;
pub mod handover;
pub mod held;
pub mod interface;
pub mod leased;
pub mod nearby;
pub mod pool;
pub mod ready;
pub mod recovery;
pub mod upstream;
pub mod worker;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::access::Access;
use crate::api::{self, Listener};
use crate::app::broker::Brokers;
use crate::app::serve::attached::Attached;
use crate::app::serve::books::Books;
use crate::app::serve::engine_watch::EngineWatch;
use crate::app::serve::held::Held;
use crate::app::serve::interface::ListenOrder;
use crate::app::serve::pool::{Pool, SlotsWanted};
use crate::app::serve::upstream::Upstream;
use crate::app::{AppError, host};
use crate::config::Directories;
use crate::config::operator::Operator;
use crate::intake::secret_name;
use crate::policy::HostAmounts;
use crate::queue::fleet::{self, Fleet};
use crate::queue::{Queue, Worker};
use crate::record::Record;
use crate::store::{OwnerLock, Protection, Store, note_elsewhere};

/// What an operator wants of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServeOrder {
    /// What it is.
    pub role: Role,
    /// The records' server; `None` is the state directory.
    pub database: Option<String>,
    /// What a records' server beyond this machine must prove.
    pub protection: Protection,
    /// Its name among the workers; `None` is the host's.
    pub name: Option<String>,
    /// What it offers, beside its architecture.
    pub labels: Vec<(String, String)>,
    /// Runs at once.
    pub workers: usize,
    /// Sandboxes that wait, whoever asks for them.
    pub slots: Vec<SlotsWanted>,
    /// How long running tasks may go on once the server is told to stop.
    pub drain: Duration,
    /// The socket of the service's broker; `None` starts one.
    pub broker: Option<PathBuf>,
}

/// Which parts of a server a process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// All of it; listens here.
    Server(ListenOrder),
    /// A host that only runs what waits in the records of a server. Nobody connects to it.
    Worker,
}

/// How far a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It claims and runs.
    Serving,
    /// It claims nothing more; what runs may end.
    Draining,
    /// What runs is ended at once.
    Stopping,
}

/// What every part of a server shares.
pub struct Host {
    /// Where it keeps things.
    pub directories: Directories,
    /// The records.
    pub record: Arc<dyn Record>,
    /// The queue.
    pub queue: Arc<dyn Queue>,
    /// The workers, this one among them.
    pub fleet: Arc<dyn Fleet>,
    /// What projects may use.
    pub access: Arc<dyn Access>,
    /// This process as the queue knows it.
    pub worker: Worker,
    /// What this host has.
    pub amounts: HostAmounts,
    /// The engine, when it answers.
    pub engine: Arc<EngineWatch>,
    /// What is under lease here.
    pub held: Held,
    /// Clients that wait for their runs.
    pub attached: Attached,
    /// Sandboxes that wait.
    pub pool: Pool,
    /// Whether the books answer.
    pub books: Books,
    /// Runs at once.
    pub workers: usize,
    /// The server that takes what runs leave behind; `None` where that is this process.
    pub upstream: Option<Arc<dyn Upstream>>,
}

impl Host {
    /// Why it cannot do its work now; empty when it can.
    pub fn unready(&self) -> Vec<String> {
        let engine = self.engine.away().map(|it| format!("the engine cannot be had: {it}"));
        let books = self.books.away().map(|it| format!("the records cannot be kept: {it}"));
        engine.into_iter().chain(books).collect()
    }
}

/// Serves until it is told to stop and nothing runs any more. `began` is told once, when runs are taken and claimed, with
/// where it listens and as whom. Who watches a run hears of its end: the interface closes after the last one.
pub async fn serve(
    order: ServeOrder,
    directories: Directories,
    upstream: Option<Arc<dyn Upstream>>,
    stage: watch::Receiver<Stage>,
    began: impl FnOnce(&[String], &str),
) -> Result<(), AppError> {
    let store = match &order.database {
        Some(url) => {
            let store = Store::connect(url, order.protection).await?;
            let place = &directories.state;
            let failed = |source| AppError::Use { what: "the state directory", path: place.clone(), source };
            note_elsewhere(place).map_err(failed)?;
            store
        }
        None => Store::open(&directories.state).await?,
    };
    store.check().await?;
    let lock = OwnerLock::acquire(&directories.state).map_err(|source| AppError::Use {
        what: "the owners' directory below",
        path: directories.state.clone(),
        source,
    })?;
    let worker = worker_of(&order, &lock);
    let retention = Operator::of_this_user()?.retention;
    let ServeOrder { role, workers, slots, drain, broker, .. } = order;
    let amounts = host::amounts(&directories.state);
    let books = Arc::new(store.clone());
    let host = Arc::new(Host {
        record: books.clone(),
        queue: books.clone(),
        fleet: books.clone(),
        access: books,
        worker,
        engine: Arc::new(EngineWatch::new(Brokers::new(broker, &directories, &amounts))),
        held: Held::default(),
        attached: Attached::default(),
        pool: Pool::new(slots, &amounts),
        books: Books::default(),
        amounts,
        directories,
        workers,
        upstream,
    });
    let listeners = match &role {
        Role::Server(listen) => interface::listeners(listen, &host.directories).await?,
        Role::Worker => Vec::new(),
    };
    // Known before anybody is answered: an operator may drain it at once.
    let _ = host.fleet.beat(&host.worker).await?;
    let places: Vec<String> = listeners.iter().map(Listener::shown).collect();
    let services = interface::services(&host, &store, interface::metrics());
    let stop = CancellationToken::new();
    let hand_over = async {
        if let Some(upstream) = &host.upstream {
            handover::keep(&host, upstream, &stop).await;
        }
    };
    let parts = async {
        tokio::join!(
            hand_over,
            host.engine.keep(&stop),
            worker::renew(&host, &stop),
            beat::keep(&host, &stop),
            recovery::expire(&host, &stop),
            recovery::sweep(&host, &stop),
            recovery::retain(&store, &host, retention, &stop),
            Pool::keep(&host, &stop),
            api::serve(listeners, services, stop.clone())
        )
    };
    let work = async {
        began(&places, &host.worker.name);
        worker::work(&host, stage, drain).await;
        stop.cancel();
    };
    tokio::join!(parts, work);
    store.close().await;
    drop(lock);
    Ok(())
}

/// This process as the queue is to know it.
fn worker_of(order: &ServeOrder, lock: &OwnerLock) -> Worker {
    // A host whose name cannot stand in a path is known by the lock that it holds.
    let host = || {
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        secret_name::parse(&name).unwrap_or_else(|_| lock.owner().lock.clone())
    };
    let mut labels = order.labels.clone();
    let own = fleet::architecture(std::env::consts::ARCH);
    if !labels.iter().any(|(key, _)| *key == own.0) {
        labels.push(own);
    }
    Worker {
        name: order.name.clone().unwrap_or_else(host),
        owner: lock.owner().clone(),
        labels,
        capacity: u32::try_from(order.workers).unwrap_or(u32::MAX),
    }
}
