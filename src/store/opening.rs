//! What opening promises: ours and whole, or refused with the file untouched.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Instant;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};

use crate::record::fixture::{end, limits, new_run, owner};
use crate::record::{Fence, Found, Record, RunFilter, Transition};
use crate::store::Store;
use crate::store::database::{Durability, sql};
use crate::store::open::MIGRATOR;
use crate::task::run_id::RunSelector;
use crate::task::{Outcome, RunId, RunState};

async fn with_one_run(directory: &Path) {
    let store = Store::open(directory).await.expect("it opens");
    store.insert(&new_run(&owner())).await.expect("inserted");
    store.close().await;
}

/// Damages the database and holds the refusal's message and the untouched file.
async fn check_refused(damage: impl FnOnce(&Path), message: &str) {
    let directory = tempfile::tempdir().expect("a directory");
    with_one_run(directory.path()).await;
    let place = directory.path().join("aegis.db");
    damage(&place);
    let before = fs::read(&place).ok();
    let refusal = Store::open(directory.path()).await.expect_err("refused").to_string();
    assert!(refusal.contains(message), "{refusal}");
    assert_eq!(fs::read(&place).ok(), before, "the file was touched");
}

fn poke(place: &Path, at: usize, bytes: &[u8]) {
    let mut content = fs::read(place).expect("read");
    content[at..at + bytes.len()].copy_from_slice(bytes);
    fs::write(place, content).expect("written");
}

#[tokio::test]
async fn what_was_recorded_is_there_when_it_is_opened_again() {
    let directory = tempfile::tempdir().expect("a directory");
    with_one_run(directory.path()).await;
    let store = Store::open(directory.path()).await.expect("it opens");
    assert_eq!(store.list(RunFilter::All, 10).await.expect("read").len(), 1);
}

#[tokio::test]
async fn what_was_recorded_is_there_after_it_was_left_open() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Store::open(directory.path()).await.expect("it opens");
    store.insert(&new_run(&owner())).await.expect("inserted");
    store.leave().await;
    let store = Store::open(directory.path()).await.expect("it opens");
    assert_eq!(store.list(RunFilter::All, 10).await.expect("read").len(), 1);
}

#[tokio::test]
async fn sixteen_first_openings_make_one_database() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut openings = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let place = directory.path().to_owned();
        openings.spawn(async move { with_one_run(&place).await });
    }
    openings.join_all().await;
    let store = Store::open(directory.path()).await.expect("it opens");
    assert_eq!(store.list(RunFilter::All, 100).await.expect("read").len(), 16);
    let left: Vec<_> =
        fs::read_dir(directory.path()).expect("read").map(|it| it.expect("read").file_name()).collect();
    assert!(left.iter().all(|it| it.to_string_lossy().starts_with("aegis.db")), "{left:?}");
}

#[tokio::test]
async fn every_file_of_it_is_private() {
    let directory = tempfile::tempdir().expect("a directory");
    let _store = Store::open(directory.path()).await.expect("it opens");
    for entry in fs::read_dir(directory.path()).expect("read") {
        let entry = entry.expect("read");
        assert_eq!(entry.metadata().expect("read").permissions().mode() & 0o777, 0o600, "{entry:?}");
    }
}

#[tokio::test]
async fn a_newer_schema_is_refused_by_number() {
    check_refused(
        |place| poke(place, 60, &99u32.to_be_bytes()),
        "written by a newer Aegis (schema 99, this one knows 9)",
    )
    .await;
}

#[tokio::test]
async fn a_database_of_another_program_is_refused() {
    check_refused(|place| poke(place, 68, b"Fire"), "is not a database of Aegis").await;
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    check_refused(|place| poke(place, 0, b"PNG"), "is not a database of Aegis").await;
}

#[tokio::test]
async fn an_emptied_file_is_refused() {
    check_refused(|place| fs::write(place, b"").expect("written"), "is damaged (it is cut off)").await;
}

#[tokio::test]
async fn a_truncated_file_is_refused() {
    let cut = |place: &Path| {
        let content = fs::read(place).expect("read");
        fs::write(place, &content[..content.len() / 2]).expect("written");
    };
    check_refused(cut, "is damaged (its pages do not fit)").await;
}

#[tokio::test]
async fn a_directory_in_its_place_is_refused() {
    let replace = |place: &Path| {
        fs::remove_file(place).expect("removed");
        fs::create_dir(place).expect("made");
    };
    check_refused(replace, "is not a database of Aegis").await;
}

#[tokio::test]
async fn a_link_in_its_place_is_refused() {
    let replace = |place: &Path| {
        fs::rename(place, place.with_extension("real")).expect("renamed");
        std::os::unix::fs::symlink("aegis.real", place).expect("linked");
    };
    check_refused(replace, "is not a database of Aegis").await;
}

#[tokio::test]
async fn a_file_that_others_can_read_is_refused_with_the_fix() {
    let open_up =
        |place: &Path| fs::set_permissions(place, fs::Permissions::from_mode(0o644)).expect("changed");
    check_refused(open_up, "is open to other users (mode 644): run `chmod 600 ").await;
}

#[tokio::test]
async fn a_log_without_its_database_is_not_swallowed() {
    let lose = |place: &Path| {
        fs::remove_file(place).expect("removed");
        fs::write(place.with_extension("db-wal"), b"frames").expect("written");
    };
    check_refused(lose, "only its `-wal` file is left").await;
}

#[tokio::test]
async fn garbled_pages_are_told_as_damage() {
    let directory = tempfile::tempdir().expect("a directory");
    with_one_run(directory.path()).await;
    let place = directory.path().join("aegis.db");
    let length = fs::read(&place).expect("read").len();
    poke(&place, 4096, &vec![0xa5; length - 4096]);
    let failure = match Store::open(directory.path()).await {
        Ok(store) => store.list(RunFilter::All, 10).await.expect_err("refused").to_string(),
        Err(refusal) => refusal.to_string(),
    };
    assert!(failure.contains("damaged"), "{failure}");
}

#[tokio::test]
async fn opening_again_is_quick() {
    let directory = tempfile::tempdir().expect("a directory");
    with_one_run(directory.path()).await;
    let mut fastest = u128::MAX;
    for _ in 0..10 {
        let begun = Instant::now();
        let store = Store::open(directory.path()).await.expect("it opens");
        fastest = fastest.min(begun.elapsed().as_micros());
        store.close().await;
    }
    assert!(fastest < 10_000, "the fastest of ten openings took {fastest} us");
}

/// Each on a thread and with a connection of its own, on a fresh state directory.
#[test]
fn programs_that_begin_at_once_wait_for_each_other() {
    for _ in 0..100 {
        let directory = tempfile::tempdir().expect("a directory");
        let gate = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                    gate.wait();
                    let opened = Store::open(directory.path());
                    runtime.expect("a runtime").block_on(opened).map(drop).expect("it opens");
                });
            }
        });
    }
}

/// The database of a release before the queue, with a run in every state and the events of each.
async fn before_the_queue(directory: &Path) -> Vec<RunId> {
    let place = directory.join("aegis.db");
    let options = SqliteConnectOptions::new().filename(&place).create_if_missing(true).foreign_keys(true);
    let mut connection = options.connect().await.expect("made");
    MIGRATOR.run_direct(Some(4), &mut connection, false).await.expect("brought to 4");
    let mut ids = Vec::new();
    for state in RunState::ALL {
        let id = RunId::generate();
        let (owned, done) = (state != RunState::Queued, state == RunState::Done);
        let placed = state > RunState::Starting;
        sqlx::query(
            "INSERT INTO runs (id, labels, command, image, environment_names, outputs, policy_name, policy_digest, \
             policy_asked, policy_resolved, policy_effective, limits, state, attempt, epoch, created_ms, owner_pid, \
             owner_lock, slot_number, container_id, released_ms, ended_ms, outcome, outcome_detail, stdout_bytes, \
             stderr_bytes, log_truncated, remarks) VALUES ($1, '[]', x'6100', 'i', '[]', '[]', 'p', 'd', '{}', '{}', \
             '{}', $2, $3, 1, 1, 5, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12, $12, $13)",
        )
        .bind(id.to_string())
        .bind(crate::store::json::limits_text(&limits()).expect("it encodes"))
        .bind(state.name())
        .bind(owned.then_some(7))
        .bind(owned.then_some("00aa"))
        .bind(placed.then_some(1))
        .bind(placed.then(|| id.short()))
        .bind(placed.then_some(6))
        .bind(done.then_some(7))
        .bind(done.then_some("exited"))
        .bind(done.then_some(r#"{"code":3}"#))
        .bind(done.then_some(0))
        .bind(done.then_some(
            r#"{"unmatched":[],"dropped":[],"dropped_count":0,"full_mounts":[],"timings_us":[]}"#,
        ))
        .execute(&mut connection)
        .await
        .expect("inserted");
        sqlx::query("INSERT INTO events (run_id, at_ms, kind, detail) VALUES ($1, 5, $2, '{}')")
            .bind(id.to_string())
            .bind(state.name())
            .execute(&mut connection)
            .await
            .expect("inserted");
        ids.push(id);
    }
    connection.close().await.expect("closed");
    fs::set_permissions(&place, fs::Permissions::from_mode(0o600)).expect("changed");
    ids
}

#[tokio::test]
async fn of_19_records_of_the_release_before_are_brought_forward_whole() {
    let directory = tempfile::tempdir().expect("a directory");
    let ids = before_the_queue(directory.path()).await;
    let store = Store::open(directory.path()).await.expect("it opens");
    for (id, state) in ids.iter().zip(RunState::ALL) {
        let Found::Run(run) = store.find(&RunSelector::Id(*id)).await.expect("read") else {
            panic!("the run that was {} is gone", state.name());
        };
        assert_eq!((run.state, run.project), (state, None));
        let kinds: Vec<&str> =
            store.events(*id).await.expect("read").iter().map(|it| it.kind.name()).collect();
        assert_eq!(kinds, [state.name()]);
    }
    assert_eq!(store.orphans().await.expect("read").len(), 4);
    let mut tx = store.books.begin(Durability::Crash).await.expect("begun");
    for statement in ["UPDATE events SET at_ms = 1", "DELETE FROM events"] {
        assert!(tx.execute(sql(statement)).await.is_err(), "`{statement}` was taken");
    }
    tx.rollback().await.expect("rolled back");
    let broken = sqlx::query("PRAGMA foreign_key_check").fetch_all(store.sqlite()).await.expect("read");
    assert!(broken.is_empty());
    let fence = Fence { run: ids[3], epoch: 1, attempt: 1 };
    let ended = store.finish(fence, &end(Outcome::Exited(0)), None, 9).await.expect("asked");
    assert_eq!(ended, Transition::Applied);
}

#[tokio::test]
async fn of_19_a_step_forward_that_was_cut_off_is_taken_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let ids = before_the_queue(directory.path()).await;
    // What a killed process leaves: a transaction that was never committed.
    let options = SqliteConnectOptions::new().filename(directory.path().join("aegis.db"));
    let mut connection = options.connect().await.expect("opened");
    let mut tx = connection.begin_with("BEGIN EXCLUSIVE").await.expect("begun");
    MIGRATOR.run_direct(Some(5), &mut *tx, false).await.expect("half way");
    drop(tx);
    drop(connection);
    let store = Store::open(directory.path()).await.expect("it opens");
    assert_eq!(store.list(RunFilter::All, 100).await.expect("read").len(), ids.len());
}
