//! A queue in a database with a million runs that ended and a hundred thousand that wait, against an empty one: the same way
//! through both, in turns. In SQLite.

use std::path::Path;
use std::time::Instant;

use aegis::queue::{Queue, Reached, Settled, Worker};
use aegis::record::End;
use aegis::store::{OwnerLock, RECORDS, Store};
use aegis::task::Outcome;
use anyhow::{Context, bail};
use sqlx::{ConnectOptions, Connection, SqliteConnection};

use crate::queue::{new_run, submit, worker};
use crate::support::pairs::Pairs;
use crate::support::table::{Bar, Comparisons, Verdict};

/// Runs that ended, and runs that wait.
const ENDED: i64 = 1_000_000;
const WAITING: i64 = 100_000;
/// Pairs of ways through both.
const PAIRS: usize = 100;

/// Runs that ended, numbered from 1 to `$1`. As small as the schema lets them be: what counts is how many they are.
const ENDED_RUNS: &str = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1) \
     INSERT INTO runs (id, labels, command, image, environment_names, outputs, policy_name, policy_digest, policy_asked, \
     policy_resolved, policy_effective, limits, state, attempt, epoch, created_ms, ended_ms, outcome, outcome_detail, \
     stdout_bytes, stderr_bytes, log_truncated, remarks) \
     SELECT printf('00000000-0000-7000-8000-%012x', i), '[]', x'', 'i', '[]', '[]', 'p', 'd', '{}', '{}', '{}', '{}', \
     'done', 1, 1, i, i, 'exited', '{\"code\":0}', 0, 0, 0, '{}' FROM n";
/// Runs that wait, of one project.
const WAITING_RUNS: &str = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1) \
     INSERT INTO runs (id, labels, command, image, environment_names, outputs, policy_name, policy_digest, policy_asked, \
     policy_resolved, policy_effective, limits, state, attempt, epoch, created_ms, project, submitter) \
     SELECT printf('00000000-0000-7000-9000-%012x', i), '[]', x'', 'i', '[]', '[]', 'p', 'd', '{}', '{}', '{}', '{}', \
     'queued', 0, 0, i, 'flood', 's' FROM n";
/// Their places; what is to be run is that of a run which waits already.
const WAITING_PLACES: &str = "INSERT INTO queue (run_id, project, lane, stage, priority, idempotent, attempts_max, losses, \
     failure_retries, failures, submission, epoch) \
     SELECT id, 'flood', '[\"flood\",[]]', 'ready', 0, 0, 3, 0, 0, 0, (SELECT submission FROM queue LIMIT 1), 0 \
     FROM runs WHERE project = 'flood'";

/// Measures, prints and judges.
pub async fn against_empty(directory: &Path) -> anyhow::Result<Verdict> {
    let [empty, full] = ["empty", "full"].map(|it| directory.join(it));
    for directory in [&empty, &full] {
        std::fs::create_dir(directory)?;
        let store = Store::open(directory).await?;
        // One that nobody takes yet: both queues have something in them.
        submit(&store, &[new_run()]).await?;
        store.close().await;
    }
    fill(&full).await?;
    let (empty, full) = (Way::open(&empty).await?, Way::open(&full).await?);
    let mut pairs = Pairs::default();
    for _ in 0..PAIRS {
        pairs.add(full.once().await?, empty.once().await?);
    }
    println!("\n{ENDED} runs that ended and {WAITING} that wait, against none: submitted, claimed, settled");
    let mut compared = Comparisons::heading("ms");
    compared.compare("one run's way through the queue", &pairs, Bar::AtMost(1.5));
    full.store.close().await;
    empty.store.close().await;
    Ok(compared.verdict())
}

async fn fill(directory: &Path) -> anyhow::Result<()> {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(directory.join(RECORDS));
    let mut connection: SqliteConnection = options.disable_statement_logging().connect().await?;
    sqlx::query(ENDED_RUNS).bind(ENDED).execute(&mut connection).await?;
    sqlx::query(WAITING_RUNS).bind(WAITING).execute(&mut connection).await?;
    sqlx::query(WAITING_PLACES).execute(&mut connection).await?;
    connection.close().await?;
    Ok(())
}

/// A queue with a worker.
struct Way {
    store: Store,
    worker: Worker,
    // Its owner lives as long as it is held.
    _lock: OwnerLock,
}

impl Way {
    async fn open(directory: &Path) -> anyhow::Result<Self> {
        let lock = OwnerLock::acquire(directory).context("a lock")?;
        Ok(Self { store: Store::open(directory).await?, worker: worker(&lock), _lock: lock })
    }

    /// Milliseconds that a run is submitted, another is claimed, and that one is settled in.
    async fn once(&self) -> anyhow::Result<f64> {
        let begun = Instant::now();
        submit(&self.store, &[new_run()]).await?;
        let claimed = self.store.claim(&self.worker, 1).await?;
        let fence = claimed.first().context("nothing was claimed")?.fence;
        let end = End::bare(Outcome::Exited(0));
        match self.store.settle(fence, Reached::Released, &end, None).await? {
            Settled::Done => Ok(begun.elapsed().as_secs_f64() * 1e3),
            other => bail!("a run was not settled: {other:?}"),
        }
    }
}
