//! Opening the database: ours and whole, or refused. It is made complete beside its place and put there in one step,
//! so no process ever sees half of it, and nothing that lies there is ever overwritten.

use std::fs::{File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, SqliteConnection, SqlitePool};

use crate::record::RecordError;
use crate::store::failure;

/// The records' file name in the state directory.
pub const RECORDS: &str = "aegis.db";
/// A file in a state directory that says that its records are on a PostgreSQL server.
pub const ELSEWHERE: &str = "records-elsewhere";
/// How long a writer waits for another one, which may wait for a disk: one that takes gigabytes from a task keeps a commit
/// waiting for seconds.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(20);

/// Pages of the write-ahead log before they are moved into the database. The first to open after everybody left
/// without closing reads them all: few, so that this stays below a millisecond or two.
const WAL_PAGES_MAX: &str = "400";
/// `Aegi`, in the header of every database of ours.
const APPLICATION_ID: u32 = 0x4165_6769;
const HEADER_BYTES: usize = 100;
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

pub(crate) static MIGRATOR: Migrator = sqlx::migrate!("migrations/sqlite");

/// Notes that the records of a state directory are on a PostgreSQL server, for those who would take them for none.
pub fn note_elsewhere(state_dir: &Path) -> std::io::Result<()> {
    std::fs::write(state_dir.join(ELSEWHERE), "")
}

/// Whether the records of a state directory are on a PostgreSQL server.
pub fn are_elsewhere(state_dir: &Path) -> bool {
    state_dir.join(ELSEWHERE).exists()
}

/// The records cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A later version was here.
    #[error(
        "`{}` was written by a newer Aegis (schema {schema}, this one knows {known}): install that version, or set \
         AEGIS_STATE_DIR to another directory",
        place.display()
    )]
    Newer {
        /// The database.
        place: PathBuf,
        /// Its schema.
        schema: i64,
        /// The newest schema of this program.
        known: i64,
    },
    /// Another program's file.
    #[error(
        "`{}` is not a database of Aegis: move it away, or set AEGIS_STATE_DIR to another directory; Aegis does not \
         overwrite it",
        place.display()
    )]
    Foreign {
        /// The file.
        place: PathBuf,
    },
    /// It was ours and is no longer whole.
    #[error(
        "`{}` is damaged ({what}): restore a copy, or move it and its `-wal` file away to start anew; Aegis does not \
         overwrite it",
        place.display()
    )]
    Damaged {
        /// The database.
        place: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// Others can read or write it.
    #[error("`{}` is open to other users (mode {mode:03o}): run `chmod 600 {}`", place.display(), place.display())]
    Exposed {
        /// The database.
        place: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Somebody else owns it.
    #[error("`{}` belongs to user {owner}, not to you: run as that user, or set AEGIS_STATE_DIR", place.display())]
    NotOurs {
        /// The database.
        place: PathBuf,
        /// The owner's uid.
        owner: u32,
    },
    /// It could not be read or made.
    #[error("`{}` could not be opened", place.display())]
    Io {
        /// The file.
        place: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Bringing it forward failed; it is as it was.
    #[error("`{}` could not be brought to the schema of this version; it is unchanged", place.display())]
    Migration {
        /// The database.
        place: PathBuf,
        /// Why.
        #[source]
        source: Box<MigrateError>,
    },
    /// Records would cross a network unprotected.
    #[error(
        "the database server at `{host}` is not this machine: add `?sslmode=verify-full` to its URL (and \
         `&sslrootcert=FILE` where its certificate is not signed by a public authority), or say with \
         --database-without-proof that something else protects the way to it"
    )]
    Unprotected {
        /// The server.
        host: String,
    },
    /// No address of a database server.
    #[error("the database is named by a URL like `postgresql://USER@HOST/DATABASE?sslmode=verify-full`")]
    Url,
    /// The server is too old.
    #[error("the database server at `{}` is version {version}: Aegis needs PostgreSQL 13 or newer", place.display())]
    OldServer {
        /// The server.
        place: PathBuf,
        /// Its version.
        version: i64,
    },
    /// The database said no.
    #[error(transparent)]
    Records(#[from] RecordError),
}

/// Opens the database at `place`, which lies in `state_dir`.
pub(crate) async fn open(state_dir: &Path, place: &Path) -> Result<SqlitePool, OpenError> {
    match std::fs::symlink_metadata(place) {
        Ok(metadata) => check_file(place, &metadata)?,
        Err(err) if err.kind() == io::ErrorKind::NotFound => create(state_dir, place).await?,
        Err(source) => return Err(io_error(place, source)),
    }
    let pool = connect(place).await.map_err(|err| failure::opening(place, err))?;
    bring_forward(place, &pool).await?;
    Ok(pool)
}

/// SQLite's own look at every page of it: what was damaged while nobody looked is told now, not when it is read one day.
pub(crate) async fn check_pages(place: &Path, pool: &SqlitePool) -> Result<(), OpenError> {
    let verdict: String = sqlx::query_scalar("PRAGMA quick_check(1)")
        .fetch_one(pool)
        .await
        .map_err(|err| failure::opening(place, err))?;
    if verdict == "ok" {
        return Ok(());
    }
    Err(OpenError::Damaged { place: place.to_owned(), what: "its pages do not fit" })
}

/// Holds the file against what we write, before SQLite touches it.
fn check_file(place: &Path, metadata: &std::fs::Metadata) -> Result<(), OpenError> {
    if !metadata.is_file() {
        return Err(OpenError::Foreign { place: place.to_owned() });
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(OpenError::NotOurs { place: place.to_owned(), owner: metadata.uid() });
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(OpenError::Exposed { place: place.to_owned(), mode: metadata.mode() & 0o777 });
    }
    if metadata.len() < HEADER_BYTES as u64 {
        return Err(OpenError::Damaged { place: place.to_owned(), what: "it is cut off" });
    }
    let mut header = [0u8; HEADER_BYTES];
    File::open(place)
        .and_then(|mut file| file.read_exact(&mut header))
        .map_err(|err| io_error(place, err))?;
    check_header(place, &header)
}

fn check_header(place: &Path, header: &[u8; HEADER_BYTES]) -> Result<(), OpenError> {
    if &header[..16] != MAGIC || big_endian(header, 68) != APPLICATION_ID {
        return Err(OpenError::Foreign { place: place.to_owned() });
    }
    refuse_newer(place, i64::from(big_endian(header, 60)))
}

fn big_endian(header: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}

fn refuse_newer(place: &Path, schema: i64) -> Result<(), OpenError> {
    let known = newest_schema();
    if schema > known {
        return Err(OpenError::Newer { place: place.to_owned(), schema, known });
    }
    Ok(())
}

fn newest_schema() -> i64 {
    MIGRATOR.iter().map(|it| it.version).max().unwrap_or(0)
}

async fn connect(place: &Path) -> Result<SqlitePool, sqlx::Error> {
    let options = options(place)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("wal_autocheckpoint", WAL_PAGES_MAX);
    SqlitePoolOptions::new()
        .max_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .connect_with(options)
        .await
}

fn options(place: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(place)
        .create_if_missing(false)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .disable_statement_logging()
}

/// Compares the schema and applies what is missing, all in one transaction.
async fn bring_forward(place: &Path, pool: &SqlitePool) -> Result<(), OpenError> {
    let failed = |err| failure::opening(place, err);
    let mut connection = pool.acquire().await.map_err(failed)?;
    let schema = schema_of(&mut connection).await.map_err(failed)?;
    if schema == newest_schema() {
        return Ok(());
    }
    refuse_newer(place, schema)?;
    let mut tx = connection.begin_with("BEGIN EXCLUSIVE").await.map_err(failed)?;
    // Another process may have been first.
    refuse_newer(place, schema_of(&mut tx).await.map_err(failed)?)?;
    migrate(place, &mut tx).await?;
    tx.commit().await.map_err(failed)
}

async fn schema_of(connection: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("PRAGMA user_version").fetch_one(connection).await
}

async fn migrate(place: &Path, connection: &mut SqliteConnection) -> Result<(), OpenError> {
    // Not `run`: with it no future that opens a store can be shown to be `Send`.
    match MIGRATOR.run_direct(None, connection, false).await {
        Ok(()) => Ok(()),
        Err(MigrateError::Execute(err)) => Err(failure::opening(place, err)),
        Err(err) => Err(OpenError::Migration { place: place.to_owned(), source: Box::new(err) }),
    }
}

/// Makes a new database under a name of its own and links it to its place; whoever comes second uses the first.
async fn create(state_dir: &Path, place: &Path) -> Result<(), OpenError> {
    refuse_orphaned_log(place)?;
    // Mode 0600; SQLite gives its side files the mode of the database.
    let file = tempfile::Builder::new()
        .prefix(".aegis.db.")
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(state_dir)
        .map_err(|err| io_error(place, err))?;
    let failed = |err| failure::opening(place, err);
    let options = options(file.path()).journal_mode(SqliteJournalMode::Memory);
    let mut connection = options.connect().await.map_err(failed)?;
    let mut tx = connection.begin_with("BEGIN EXCLUSIVE").await.map_err(failed)?;
    migrate(place, &mut tx).await?;
    tx.commit().await.map_err(failed)?;
    // Switched here, where nobody else is: SQLite waits for no other process with that.
    sqlx::query("PRAGMA journal_mode = WAL").execute(&mut connection).await.map_err(failed)?;
    connection.close().await.map_err(failed)?;
    file.as_file().sync_all().map_err(|err| io_error(place, err))?;
    match file.persist_noclobber(place) {
        Ok(_) => {}
        Err(refused) if refused.error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(refused) => return Err(io_error(place, refused.error)),
    }
    File::open(state_dir).and_then(|it| it.sync_all()).map_err(|err| io_error(place, err))
}

/// A write-ahead log without its database holds records; a new database in its place would swallow them.
fn refuse_orphaned_log(place: &Path) -> Result<(), OpenError> {
    let mut log = place.as_os_str().to_owned();
    log.push("-wal");
    match std::fs::symlink_metadata(&log) {
        Ok(metadata) if metadata.len() > 0 && !place.exists() => {
            Err(OpenError::Damaged { place: place.to_owned(), what: "only its `-wal` file is left" })
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

fn io_error(place: &Path, source: io::Error) -> OpenError {
    if source.kind() == io::ErrorKind::StorageFull {
        return OpenError::Records(RecordError::Full { place: place.to_owned() });
    }
    OpenError::Io { place: place.to_owned(), source }
}
