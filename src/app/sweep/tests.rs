//! What is past its retention, where the records are this instance's and where they are a server's.

use super::*;
use crate::app::owner::service::Door;
use crate::record::{Found, fixture};
use crate::store::OwnerLock;
use crate::task::run_id::RunSelector;

/// An instance with two runs that ended long ago, each with a log and outputs that nobody has room for.
struct Instance {
    store: Store,
    directories: Directories,
    retention: Retention,
    runs: [RunId; 2],
    _state: tempfile::TempDir,
}

impl Instance {
    async fn new() -> Self {
        let state = tempfile::tempdir().expect("a directory");
        let store = Store::open(state.path()).await.expect("opened");
        let lock = OwnerLock::acquire(state.path()).expect("a lock");
        let mut runs = Vec::new();
        for _ in 0..2 {
            let run = fixture::new_run(lock.owner());
            let fence = store.insert(&run).await.expect("recorded");
            let end = End::bare(Outcome::Lost { reason: LostReason::Owner });
            let ended = store.finish(fence, &end, None, fixture::CREATED_MS).await.expect("recorded");
            assert_eq!(ended, Transition::Applied);
            let outputs = Artifacts::new(state.path()).begin(run.id, fence.attempt).expect("begun");
            for directory in [outputs, Logs::new(state.path()).by_run().of(run.id)] {
                std::fs::create_dir_all(&directory).expect("made");
                std::fs::write(directory.join("stdout"), "text").expect("written");
            }
            runs.push(run.id);
        }
        let directories = Directories {
            state: state.path().to_owned(),
            runtime: state.path().join("runtime"),
            instance: "00ff".to_owned(),
        };
        let retention =
            Retention { days: 1, log_bytes_max: 0, artifact_bytes_max: 0, ..Retention::standard() };
        let runs = runs.try_into().expect("two");
        Self { store, directories, retention, runs, _state: state }
    }

    /// Whether record, log and outputs of a run are there.
    async fn has(&self, run: RunId) -> [bool; 3] {
        let state = &self.directories.state;
        let found = self.store.find(&RunSelector::Id(run)).await.expect("read");
        [
            matches!(found, Found::Run(_)),
            Logs::new(state).by_run().of(run).join("stdout").exists(),
            !Artifacts::new(state).attempts(run).expect("read").is_empty(),
        ]
    }
}

#[tokio::test]
async fn a_run_past_its_retention_goes_with_everything() {
    let instance = Instance::new().await;
    let Instance { store, directories, retention, .. } = &instance;
    let mut swept = Swept::default();
    retained(store, directories, retention, Mode::Remove, &mut swept).await.expect("swept");
    for run in instance.runs {
        assert_eq!(instance.has(run).await, [false; 3]);
    }
}

#[tokio::test]
async fn where_the_records_are_a_servers_only_files_go_and_none_that_wait_for_it() {
    let instance = Instance::new().await;
    let Instance { store, directories, retention, .. } = &instance;
    let [waiting, other] = instance.runs;
    let mut swept = Swept::default();
    let spared = BTreeSet::from([waiting]);
    files(store, directories, retention, &spared, Mode::Remove, &mut swept).await.expect("swept");
    assert_eq!(instance.has(waiting).await, [true; 3]);
    assert_eq!(instance.has(other).await, [true, false, false]);
}

#[tokio::test]
async fn the_doors_of_runs_that_begin_are_no_dead_owners() {
    let runtime = tempfile::tempdir().expect("a directory");
    let (control, _wishes) = tokio::sync::mpsc::channel(1);
    let runs = runtime.path().join("runs");
    let ended = std::sync::atomic::AtomicBool::new(false);
    let ended = &ended;
    let dead = std::thread::scope(|threads| {
        let sweeping = threads.spawn(|| {
            let mut swept = Swept::default();
            while !ended.load(std::sync::atomic::Ordering::Relaxed) {
                sockets(&runs, Mode::Remove, &mut swept);
            }
            swept.sockets
        });
        let doors: Vec<_> =
            (0..500).map(|_| Door::open(runtime.path(), RunId::generate(), control.clone())).collect();
        ended.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(doors.iter().all(Result::is_ok));
        sweeping.join().expect("joined")
    });
    assert_eq!(dead, Vec::<String>::new());
}
