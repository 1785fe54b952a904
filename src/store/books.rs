//! What every step and look shares: the database, whose owners live here, and the clocks.

use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::record::{EventKind, RecordError};
use crate::store::database::{Database, Durability, Insert, Statement, Tx, sql};
use crate::store::wake::Wake;
use crate::task::RunId;

/// Events of runs.
pub(crate) static EVENTS: Insert = Insert::new("INSERT INTO events (run_id, at_ms, kind, detail)", 4);

/// The books of one database.
#[derive(Debug, Clone)]
pub(crate) struct Books {
    pub(crate) database: Database,
    /// The directory of the owners' locks; `None` where owners live on other hosts and only their leases count.
    pub(crate) owners: Option<PathBuf>,
    /// Who waits for something to claim.
    pub(crate) wake: Arc<Wake>,
    /// Moves both clocks: tests let time pass by it.
    pub(crate) offset_ms: Arc<AtomicI64>,
}

/// A moment on both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// Milliseconds since the epoch: what people asked for is compared with it.
    pub(crate) wall_ms: i64,
    /// What leases are measured with. In SQLite this machine's time since it was started, which no step of the wall
    /// clock moves, and after a restart every owner is dead anyway; in PostgreSQL the server's own time.
    pub(crate) lease_ms: i64,
}

impl Books {
    pub(crate) async fn begin(&self, durability: Durability) -> Result<Tx, RecordError> {
        self.database.begin(durability).await
    }

    pub(crate) async fn now(&self, tx: &mut Tx) -> Result<Moment, RecordError> {
        let offset_ms = self.offset_ms.load(Ordering::Relaxed);
        if !tx.is_postgres() {
            return Ok(Moment { wall_ms: wall_ms() + offset_ms, lease_ms: since_boot_ms() + offset_ms });
        }
        let now = sql("SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)");
        let now_ms = tx.first::<(i64,)>(now).await?.map_or_else(wall_ms, |it| it.0) + offset_ms;
        Ok(Moment { wall_ms: now_ms, lease_ms: now_ms })
    }

    pub(crate) fn offset_ms(&self) -> i64 {
        self.offset_ms.load(Ordering::Relaxed)
    }

    /// Which start of this machine this is, where leases are measured by its time.
    pub(crate) fn boot(&self) -> Option<String> {
        static BOOT: OnceLock<Option<String>> = OnceLock::new();
        self.owners.as_ref()?;
        let read = || std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
        BOOT.get_or_init(|| read().map(|it| it.trim().to_owned())).clone()
    }

    pub(crate) fn unencodable(&self, err: serde_json::Error) -> RecordError {
        RecordError::Unavailable { place: self.database.place.to_path_buf(), source: Box::new(err) }
    }

    pub(crate) fn undecodable(&self, run: &str, field: &'static str) -> RecordError {
        RecordError::Undecodable {
            place: self.database.place.to_path_buf(),
            run: run.escape_default().take(80).collect(),
            field,
        }
    }

    pub(crate) async fn append(
        &self,
        tx: &mut Tx,
        run: RunId,
        at_ms: i64,
        kind: EventKind,
        detail: &str,
    ) -> Result<(), RecordError> {
        tx.execute(event(run, at_ms, kind, detail)).await?;
        Ok(())
    }
}

/// A row of [`EVENTS`].
pub(crate) fn event(run: RunId, at_ms: i64, kind: EventKind, detail: &str) -> Statement {
    EVENTS.row().bind(run).bind(at_ms).bind(kind.name()).bind(detail)
}

fn wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn since_boot_ms() -> i64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec * 1000 + now.tv_nsec / 1_000_000
}
