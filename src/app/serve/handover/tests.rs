//! What waits is known, and what a server refuses of a run holds up nothing else of it.

use std::io::Read;
use std::sync::Mutex;

use super::*;
use crate::api::services::Answer;
use crate::record::{End, Transition, fixture};
use crate::store::{OwnerLock, Store};
use crate::task::Outcome;

/// A server that takes no log at all, and every output whole.
#[derive(Default)]
struct Picky {
    asked: Mutex<u32>,
    outputs: Mutex<Vec<(u32, String)>>,
}

impl Upstream for Picky {
    fn log<'a>(&'a self, _: &'a Proof, _: u64, _: &'a [u8]) -> Answer<'a, Result<Stands, Unsent>> {
        *self.asked.lock().expect("nobody panics with it") += 1;
        Box::pin(async { Err(Unsent::Refused { reason: "a piece is no piece".to_owned() }) })
    }

    fn output_stands<'a>(&'a self, _: &'a Proof, _: u32) -> Answer<'a, Result<Stands, Unsent>> {
        Box::pin(async { Ok(Stands { at: 0, complete: false }) })
    }

    fn output<'a>(
        &'a self,
        _: &'a Proof,
        index: u32,
        mut file: File,
        _: u64,
        bytes: u64,
    ) -> Answer<'a, Result<Stands, Unsent>> {
        let mut text = String::new();
        file.read_to_string(&mut text).expect("read");
        self.outputs.lock().expect("nobody panics with it").push((index, text));
        Box::pin(async move { Ok(Stands { at: bytes, complete: true }) })
    }

    fn workspace<'a>(&'a self, _: &'a Proof, _: File, _: u64) -> Answer<'a, Result<(), Unsent>> {
        Box::pin(async { Err(Unsent::NotOurs) })
    }
}

/// Puts a run on record that has ended with a log and one output, and notes it. Its proof.
async fn ended(state: &Path, store: &Store) -> Proof {
    let lock = OwnerLock::acquire(state).expect("a lock");
    let run = fixture::new_run(lock.owner());
    let fence = store.insert(&run).await.expect("recorded");
    let logs = Logs::new(state);
    let log = logs.writer(run.id, 1024).expect("begun");
    log.write(crate::record::Stream::Stdout, b"told", fixture::CREATED_MS);
    log.finish(fixture::CREATED_MS);
    let place = Artifacts::new(state).begin(run.id, fence.attempt).expect("begun");
    std::fs::create_dir(&place).expect("made");
    std::fs::write(place.join("made"), "content").expect("written");
    let made = Artifact { path: b"made".to_vec(), bytes: 7, sha256: [0; 32], mode: 0o644 };
    let end = End { artifacts: vec![made], output_dir: Some(place), ..End::bare(Outcome::Exited(0)) };
    let finished = store.finish(fence, &end, None, fixture::CREATED_MS).await.expect("recorded");
    assert_eq!(finished, Transition::Applied);
    let proof = Proof { fence, owner_lock: lock.owner().lock.clone() };
    Handover::of(state).note(&proof).expect("noted");
    proof
}

#[tokio::test]
async fn a_log_that_the_server_refuses_does_not_keep_the_outputs_back() {
    let state = tempfile::tempdir().expect("a directory");
    let store = Store::open(state.path()).await.expect("opened");
    let proof = ended(state.path(), &store).await;
    let (server, held) = (Picky::default(), Held::default());
    let source = Source { state: state.path(), record: &store, held: &held };
    let mut known = Known::new();
    round(&source, &server, &mut known).await.expect("asked");
    assert_eq!(*server.outputs.lock().expect("whole"), [(0, "content".to_owned())]);
    assert_eq!(*server.asked.lock().expect("whole"), 1);
    assert_eq!(Handover::of(state.path()).waiting().expect("read"), [], "it waits for nothing any more");
    let log = Logs::new(state.path()).by_run().of(proof.fence.run);
    assert!(log.exists(), "what was refused stays here");
}

#[test]
fn what_waits_is_known_by_its_name_alone() {
    let state = tempfile::tempdir().expect("a directory");
    let handover = Handover::of(state.path());
    assert_eq!(handover.waiting().expect("nothing"), []);
    let fence = Fence { run: RunId::generate(), attempt: 2, epoch: 7 };
    let proof = Proof { fence, owner_lock: "00ff".to_owned() };
    handover.note(&proof).expect("noted");
    handover.note(&proof).expect("noted once");
    std::fs::write(handover.place.join("stranger"), "").expect("written");
    assert_eq!(handover.waiting().expect("read"), std::slice::from_ref(&proof));
    handover.forget(&proof);
    assert_eq!(handover.waiting().expect("read"), []);
}
