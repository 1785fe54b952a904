//! Why the records could not be read or written. What a task did is never here.

use std::path::PathBuf;

/// The books cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// No space is left.
    #[error(
        "the records at `{}` are on a full disk: free some space, or set AEGIS_STATE_DIR to a place that has some",
        place.display()
    )]
    Full {
        /// The database.
        place: PathBuf,
    },
    /// Another process holds the write lock.
    #[error("the records at `{}` stayed locked by another process for {waited_s} s: try again", place.display())]
    Busy {
        /// The database.
        place: PathBuf,
        /// How long it was waited for.
        waited_s: u64,
    },
    /// The file may not be written.
    #[error("the records at `{}` cannot be written: check owner and mode, and that its disk is not mounted read-only", place.display())]
    ReadOnly {
        /// The database.
        place: PathBuf,
    },
    /// The content is not what was written.
    #[error("the records at `{}` are damaged: move the file away or restore a copy; Aegis does not overwrite it", place.display())]
    Damaged {
        /// The database.
        place: PathBuf,
    },
    /// A row holds what this version never writes.
    #[error("the records at `{}` hold a value that does not decode: `{field}` of run `{run}`", place.display())]
    Undecodable {
        /// The database.
        place: PathBuf,
        /// The run's id as stored.
        run: String,
        /// The column.
        field: &'static str,
    },
    /// The run cannot be kept as it is.
    #[error("an argument of the command holds a NUL byte, which no program can be given")]
    NulInArgument,
    /// The database server does not answer.
    #[error("the records at `{}` cannot be reached: check that the database server runs and takes connections", place.display())]
    Unreachable {
        /// The server.
        place: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Something else.
    #[error("the records at `{}` could not be used", place.display())]
    Unavailable {
        /// The database.
        place: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
