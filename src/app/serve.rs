//! `aegis serve`: runs that wait in a queue are claimed, run in sandboxes of this host, and settled. This joins books,
//! engine, workers, warm sandboxes and recovery; each of them goes on while another cannot.

pub mod attempt;
pub mod books;
pub mod demand;
pub mod engine_watch;
pub mod held;
pub mod interface;
pub mod leased;
pub mod nearby;
pub mod pool;
pub mod ready;
pub mod recovery;
pub mod worker;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::access::Access;
use crate::api::{self, Listener};
use crate::app::serve::books::Books;
use crate::app::serve::engine_watch::EngineWatch;
use crate::app::serve::held::Held;
use crate::app::serve::interface::ListenOrder;
use crate::app::serve::pool::{Pool, SlotsWanted};
use crate::app::{AppError, host};
use crate::config::Directories;
use crate::config::operator::Operator;
use crate::policy::HostAmounts;
use crate::queue::{Queue, Worker};
use crate::record::Record;
use crate::store::{OwnerLock, Store};

/// What an operator wants of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServeOrder {
    /// Where it listens.
    pub listen: ListenOrder,
    /// The records' server; `None` is the state directory.
    pub database: Option<String>,
    /// Runs at once.
    pub workers: usize,
    /// Sandboxes that wait, whoever asks for them.
    pub slots: Vec<SlotsWanted>,
    /// How long running tasks may go on once the server is told to stop.
    pub drain: Duration,
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
    /// Sandboxes that wait.
    pub pool: Pool,
    /// Whether the books answer.
    pub books: Books,
    /// Runs at once.
    pub workers: usize,
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
/// where it listens. Who watches a run hears of its end: the interface closes after the last one.
pub async fn serve(
    order: ServeOrder,
    directories: Directories,
    stage: watch::Receiver<Stage>,
    began: impl FnOnce(&[String]),
) -> Result<(), AppError> {
    let store = match &order.database {
        Some(url) => Store::connect(url).await?,
        None => Store::open(&directories.state).await?,
    };
    let lock = OwnerLock::acquire(&directories.state).map_err(|source| AppError::Use {
        what: "the owners' directory below",
        path: directories.state.clone(),
        source,
    })?;
    let retention = Operator::of_this_user()?.retention;
    let ServeOrder { listen, database: _, workers, slots, drain } = order;
    let amounts = host::amounts(&directories.state);
    let books = Arc::new(store.clone());
    let host = Arc::new(Host {
        record: books.clone(),
        queue: books.clone(),
        access: books,
        worker: Worker { name: lock.owner().lock.clone(), owner: lock.owner().clone(), labels: Vec::new() },
        engine: Arc::new(EngineWatch::new()),
        held: Held::default(),
        pool: Pool::new(slots, &amounts),
        books: Books::default(),
        amounts,
        directories,
        workers,
    });
    let listeners = interface::listeners(&listen, &host.directories).await?;
    let places: Vec<String> = listeners.iter().map(Listener::shown).collect();
    let services = interface::services(&host, &store, interface::metrics());
    let stop = CancellationToken::new();
    let parts = async {
        tokio::join!(
            host.engine.keep(&stop),
            worker::renew(&host, &stop),
            recovery::expire(&host, &stop),
            recovery::sweep(&host, &stop),
            recovery::retain(&store, &host, retention, &stop),
            Pool::keep(&host, &stop),
            api::serve(listeners, services, stop.clone())
        )
    };
    let work = async {
        began(&places);
        worker::work(&host, stage, drain).await;
        stop.cancel();
    };
    tokio::join!(parts, work);
    store.close().await;
    drop(lock);
    Ok(())
}
