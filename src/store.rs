//! Floor 4, the adapter of the record port: runs in SQLite, logs in files. The only module that names `sqlx`.

#[cfg(test)]
mod contract;
mod copy;
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
mod row;
mod sqlite;

use std::path::{Path, PathBuf};

use sqlx::SqlitePool;

pub use log::Logs;
pub use open::OpenError;
pub use owner::OwnerLock;

/// The records of one state directory. Any number of processes may have them open.
#[derive(Debug, Clone)]
pub struct Store {
    /// One connection: SQLite has one writer, and a run reads little.
    pool: SqlitePool,
    /// The database file, for messages.
    place: PathBuf,
    /// The directory of the owners' locks.
    owners: PathBuf,
}

impl Store {
    /// Opens the records below a state directory, made if they are not there, brought forward if they are older.
    pub async fn open(state_dir: &Path) -> Result<Self, OpenError> {
        let place = state_dir.join(open::DATABASE);
        let pool = open::open(state_dir, &place).await?;
        Ok(Self { pool, place, owners: state_dir.join(owner::DIRECTORY) })
    }

    /// Ends the connection. What was recorded is on disk without it; this only tidies the write-ahead log.
    pub async fn close(self) {
        self.pool.close().await;
    }

    /// For a process that ends now: leaves the connection to the kernel, and the write-ahead log, which holds everything
    /// and is bounded, to whoever opens next. Closing writes and syncs it all again, several milliseconds of a cold run.
    pub async fn leave(self) {
        // The one connection; dropped with the pool, it would be closed after all.
        if let Ok(connection) = self.pool.acquire().await {
            std::mem::forget(connection);
        }
    }
}
