//! Processes that keep books and are killed at any moment: what they were told as applied is there, the rest is found.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::record::fixture::{CREATED_MS, end, image, new_run, slot};
use crate::record::{Found, Record, RunFilter, Stream, Transition};
use crate::store::log::Look;
use crate::store::{Logs, OwnerLock, Store};
use crate::task::run_id::RunSelector;
use crate::task::{Outcome, RunId, RunState};

/// Names the state directory to a process that is this test's child.
const CHILD: &str = "AEGIS_TEST_STORE_CHILD";
const PROCESSES: usize = 4;
const ROUNDS: u64 = 6;

/// Keeps books until it is killed, and tells each run whose outcome is recorded.
#[tokio::test]
async fn keeps_books_until_it_is_killed() {
    let Some(state) = std::env::var_os(CHILD) else { return };
    let state = Path::new(&state);
    let lock = OwnerLock::acquire(state).expect("a lock");
    let store = Store::open(state).await.expect("it opens");
    loop {
        let fence = store.insert(&new_run(lock.owner())).await.expect("inserted");
        let log = Logs::new(state).writer(fence.run, 1 << 20).expect("a log");
        let number = u32::from_str_radix(&fence.run.short()[4..], 16).expect("hexadecimal");
        assert_eq!(store.start(fence, &image(), CREATED_MS).await.expect("asked"), Transition::Applied);
        assert_eq!(store.bind(fence, &slot(number), CREATED_MS).await.expect("asked"), Transition::Applied);
        assert_eq!(store.release(fence, "{}", CREATED_MS).await.expect("asked"), Transition::Applied);
        log.write(Stream::Stdout, fence.run.to_string().as_bytes(), CREATED_MS);
        let finished = store.finish(fence, &end(Outcome::Exited(0)), None, CREATED_MS).await.expect("asked");
        assert_eq!(finished, Transition::Applied);
        // Straight to the descriptor: the harness may keep what is printed.
        let line = format!("\nrecorded {}\n", fence.run);
        std::fs::File::from(rustix::io::dup(std::io::stdout()).expect("a descriptor"))
            .write_all(line.as_bytes())
            .expect("told");
    }
}

fn child(state: &Path) -> Child {
    Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "store::killed::keeps_books_until_it_is_killed", "--nocapture"])
        .env(CHILD, state)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("started")
}

/// Kills children after this time and gives the runs that they told.
fn killed_after(state: &Path, time: Duration) -> Vec<RunId> {
    let mut children: Vec<Child> = (0..PROCESSES).map(|_| child(state)).collect();
    std::thread::sleep(time);
    let mut told = Vec::new();
    for child in &mut children {
        child.kill().expect("killed");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        for line in output.lines().map_while(Result::ok) {
            told.extend(line.strip_prefix("recorded ").and_then(|it| it.parse::<RunId>().ok()));
        }
        child.wait().expect("gone");
    }
    told
}

#[tokio::test]
async fn a_killed_process_takes_nothing_with_it() {
    let state = tempfile::tempdir().expect("a directory");
    let mut told = Vec::new();
    for round in 0..ROUNDS {
        // Different moments of a step each round; no test depends on which.
        told.extend(killed_after(state.path(), Duration::from_millis(120 + 37 * round)));
    }
    assert!(!told.is_empty(), "no process recorded anything");
    let store = Store::open(state.path()).await.expect("it opens");
    let verdict: String =
        sqlx::query_scalar("PRAGMA integrity_check").fetch_one(store.sqlite()).await.expect("read");
    assert_eq!(verdict, "ok");
    for run in &told {
        check_told(&store, state.path(), *run).await;
    }
    let unfinished = store.list(RunFilter::Active, 1000).await.expect("read");
    let orphans = store.orphans().await.expect("read");
    assert_eq!(orphans.len(), unfinished.len(), "every run without an outcome is a dead owner's");
}

async fn check_told(store: &Store, state: &Path, run: RunId) {
    match store.find(&RunSelector::Id(run)).await.expect("read") {
        Found::Run(found) => assert_eq!(found.state, RunState::Done),
        Found::Nothing | Found::Ambiguous(_) => panic!("run {run} was told and is gone"),
    }
    let mut reader = Logs::new(state).reader(run).expect("read").expect("it has a log");
    let mut bytes = Vec::new();
    while let Look::Chunk(chunk) = reader.look().expect("read") {
        bytes.extend(chunk.bytes);
    }
    while let Some(chunk) = reader.rest().expect("read") {
        bytes.extend(chunk.bytes);
    }
    assert_eq!(bytes, run.to_string().into_bytes());
}
