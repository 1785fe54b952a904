//! Floor 4, the adapter of the record, queue and access ports: rows in SQLite or PostgreSQL, logs in files. The only module
//! that names `sqlx`.

mod access;
mod books;
#[cfg(test)]
mod cluster;
mod connect;
#[cfg(test)]
mod contract;
mod copy;
mod database;
mod failure;
#[cfg(test)]
mod full_disk;
mod json;
#[cfg(test)]
mod killed;
pub mod log;
mod open;
#[cfg(test)]
mod opening;
pub mod owner;
#[cfg(test)]
mod place;
mod queue;
mod record;
mod row;
mod wake;

use std::path::Path;
use std::sync::Arc;

use crate::store::books::Books;
use crate::store::database::{Database, Pool};
use crate::store::queue::Writer;
use crate::store::wake::Listener;

pub use connect::Protection;
pub use log::Logs;
pub use open::{ELSEWHERE, OpenError, RECORDS, are_elsewhere, note_elsewhere};
pub use owner::OwnerLock;

/// The records of one state directory, or of one server's database. Any number of processes may have them open.
#[derive(Debug, Clone)]
pub struct Store {
    books: Books,
    /// Writes what is submitted.
    writer: Arc<Writer>,
    /// Hears what other processes queued.
    listener: Arc<Listener>,
}

impl Store {
    /// Opens the records below a state directory, made if they are not there, brought forward if they are older.
    pub async fn open(state_dir: &Path) -> Result<Self, OpenError> {
        let place = state_dir.join(open::RECORDS);
        let pool = Pool::Sqlite(open::open(state_dir, &place).await?);
        let owners = Some(state_dir.join(owner::DIRECTORY));
        Ok(Self::over(Books {
            database: Database { pool, place: place.into() },
            owners,
            wake: Arc::default(),
            offset_ms: Arc::default(),
        }))
    }

    /// Connects to the records on a PostgreSQL server, brought forward if they are older.
    pub async fn connect(url: &str, protection: Protection) -> Result<Self, OpenError> {
        let database = connect::connect(url, protection).await?;
        let (wake, offset_ms) = Default::default();
        Ok(Self::over(Books { database, owners: None, wake, offset_ms }))
    }

    fn over(books: Books) -> Self {
        Self { books, writer: Arc::default(), listener: Arc::default() }
    }

    /// Looks at every page of a state directory's records, for a process that goes on with them for long. A server of
    /// PostgreSQL looks after its own.
    pub async fn check(&self) -> Result<(), OpenError> {
        match &self.books.database.pool {
            Pool::Sqlite(pool) => open::check_pages(&self.books.database.place, pool).await,
            Pool::Postgres(_) => Ok(()),
        }
    }

    /// Ends what runs for it, and its connections. What was recorded is on disk without it; in SQLite this also tidies the
    /// write-ahead log.
    pub async fn close(self) {
        self.writer.close().await;
        self.listener.close().await;
        self.books.database.close().await;
    }

    /// For a process that ends now: leaves the connection to the kernel, and the write-ahead log, which holds everything
    /// and is bounded, to whoever opens next. Closing writes and syncs it all again, several milliseconds of a cold run.
    pub async fn leave(self) {
        // The one connection; dropped with the pool, it would be closed after all.
        if let Pool::Sqlite(pool) = &self.books.database.pool
            && let Ok(connection) = pool.acquire().await
        {
            std::mem::forget(connection);
        }
    }
}
