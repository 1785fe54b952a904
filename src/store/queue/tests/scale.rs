//! What waits and what has ended costs the next run nothing: measured on a full database against an empty one.

use std::time::{Duration, Instant};

use crate::queue::{Queue, Reached, Settled, fixture};
use crate::record::End;
use crate::store::database::{Both, Durability, Statement};
use crate::store::json::Afterwards;
use crate::store::place::On;
use crate::store::queue::tests::Desk;
use crate::task::Outcome;

const CYCLES: usize = 60;
/// Rows that one statement makes, within the time that a statement has.
const SLICE: i64 = 50_000;

/// Finished and queued rows: the counts of the acceptance in the long form.
fn counts() -> (i64, i64) {
    match std::env::var("AEGIS_TEST_FORM").as_deref() {
        Ok("long") => (1_000_000, 100_000),
        Ok(_) | Err(_) => (50_000, 20_000),
    }
}

/// Runs that ended, made by the database itself.
fn finished(from: i64, to: i64) -> Statement {
    Both {
        sqlite: "WITH RECURSIVE n (i) AS (SELECT $1 UNION ALL SELECT i + 1 FROM n WHERE i < $2) \
             INSERT INTO runs (id, labels, command, image, environment_names, outputs, policy_name, policy_digest, \
             policy_asked, policy_resolved, policy_effective, limits, state, attempt, epoch, created_ms, ended_ms, \
             outcome, outcome_detail, stdout_bytes, stderr_bytes, log_truncated, remarks) \
             SELECT printf('00000000-0000-7000-8000-%012x', i), '[]', x'', 'i', '[]', '[]', 'p', 'd', '{}', '{}', '{}', \
             '{}', 'done', 1, 1, i, i, 'exited', '{\"code\":0}', 0, 0, 0, '{}' FROM n",
        postgres: "INSERT INTO runs (id, labels, command, image, environment_names, outputs, policy_name, policy_digest, \
             policy_asked, policy_resolved, policy_effective, limits, state, attempt, epoch, created_ms, ended_ms, \
             outcome, outcome_detail, stdout_bytes, stderr_bytes, log_truncated, remarks) \
             SELECT '00000000-0000-7000-8000-' || lpad(to_hex(i), 12, '0'), '[]', '', 'i', '[]', '[]', 'p', 'd', '{}', \
             '{}', '{}', '{}', 'done', 1, 1, i, i, 'exited', '{\"code\":0}', 0, 0, false, '{}' \
             FROM generate_series($1, $2) AS i",
    }
    .sql()
    .bind(from)
    .bind(to)
}

/// Runs that wait, of one project.
fn queued(count: i64) -> [Statement; 2] {
    let runs = Both {
        sqlite: "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1) \
             INSERT INTO runs (id, labels, command, image, environment_names, outputs, policy_name, policy_digest, \
             policy_asked, policy_resolved, policy_effective, limits, state, attempt, epoch, created_ms, project, \
             submitter) \
             SELECT printf('00000000-0000-7000-9000-%012x', i), '[]', x'', 'i', '[]', '[]', 'p', 'd', '{}', '{}', '{}', \
             '{}', 'queued', 0, 0, i, 'flood', 's' FROM n",
        postgres: "INSERT INTO runs (id, labels, command, image, environment_names, outputs, policy_name, policy_digest, \
             policy_asked, policy_resolved, policy_effective, limits, state, attempt, epoch, created_ms, project, \
             submitter) \
             SELECT '00000000-0000-7000-9000-' || lpad(to_hex(i), 12, '0'), '[]', '', 'i', '[]', '[]', 'p', 'd', '{}', \
             '{}', '{}', '{}', 'queued', 0, 0, i, 'flood', 's' FROM generate_series(1, $1) AS i",
    };
    let rows = Both {
        sqlite: "INSERT INTO queue (run_id, project, lane, stage, priority, idempotent, attempts_max, losses, \
             failure_retries, failures, submission, epoch) \
             SELECT id, 'flood', '[\"flood\",[]]', 'ready', 0, 0, 3, 0, 0, 0, $1, 0 FROM runs WHERE project = 'flood'",
        postgres: "INSERT INTO queue (run_id, project, lane, stage, priority, idempotent, attempts_max, losses, \
             failure_retries, failures, submission, epoch) \
             SELECT id, 'flood', '[\"flood\",[]]', 'ready', 0, false, 3, 0, 0, 0, $1, 0 FROM runs \
             WHERE project = 'flood'",
    };
    let submission =
        crate::store::json::submission_text(&fixture::submission(), Afterwards::Kept).expect("it encodes");
    [runs.sql().bind(count), rows.sql().bind(submission)]
}

/// The median of a whole way through the queue, and of its claim alone.
async fn median(desk: &Desk) -> (Duration, Duration) {
    let (mut whole, mut claims) = (Vec::new(), Vec::new());
    for _ in 0..CYCLES {
        let begun = Instant::now();
        desk.one("a").await;
        let claim = Instant::now();
        let fence = desk.claim(1).await.remove(0).fence;
        claims.push(claim.elapsed());
        let end = End::bare(Outcome::Exited(0));
        let settled = desk.place.store.settle(fence, Reached::Released, &end, None).await.expect("asked");
        assert_eq!(settled, Settled::Done);
        whole.push(begun.elapsed());
    }
    whole.sort();
    claims.sort();
    (whole[CYCLES / 2], claims[CYCLES / 2])
}

async fn check(on: On) {
    let desk = Desk::new(&on).await;
    let empty = median(&desk).await;
    let (ended, waiting) = counts();
    let mut tx = desk.place.store.books.begin(Durability::PowerCut).await.expect("begun");
    for slice in 0..ended / SLICE {
        tx.execute(finished(slice * SLICE + 1, (slice + 1) * SLICE)).await.expect("filled");
    }
    for statement in queued(waiting) {
        tx.execute(statement).await.expect("filled");
    }
    tx.commit().await.expect("filled");
    let full = median(&desk).await;
    eprintln!(
        "{ended} ended and {waiting} waiting: whole {:?} (empty {:?}), claim {:?} ({:?})",
        full.0, empty.0, full.1, empty.1
    );
    // What grew with the rows would be a hundred times as slow and more.
    assert!(full.0 < empty.0 * 5, "{full:?} against {empty:?}");
}

#[tokio::test]
async fn heavy_a_full_database_is_as_fast_as_an_empty_one_in_sqlite() {
    check(On::Sqlite).await;
}

#[tokio::test]
async fn heavy_a_full_database_is_as_fast_as_an_empty_one_in_postgres() {
    let Some(on) = On::postgres() else { return };
    check(on).await;
}

/// How many submissions a second are on disk: of one each, from many at once, and in batches.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heavy_submissions_share_their_commits() {
    let desk = Desk::new(&On::Sqlite).await;
    let begun = Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let store = desk.place.store.clone();
        clients.spawn(async move {
            for _ in 0..40 {
                store.submit(&[fixture::new("a")]).await.expect("asked");
            }
        });
    }
    clients.join_all().await;
    let each = begun.elapsed();
    let batch: Vec<_> = (0..1_000).map(|_| fixture::new("b")).collect();
    let begun = Instant::now();
    desk.submit(&batch).await;
    eprintln!(
        "{:.0} a second one by one from 64, {:.0} in a batch of 1,000",
        2_560.0 / each.as_secs_f64(),
        1_000.0 / begun.elapsed().as_secs_f64()
    );
    assert_eq!(desk.runs().await, 3_560);
    // Each for itself would wait for the disk 2,560 times; how long one wait takes is the disk's.
    assert!(each < Duration::from_secs(60), "{each:?}");
}
