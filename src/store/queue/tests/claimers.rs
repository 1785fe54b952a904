//! OF-03: many who claim at once, each with connections of its own, and never two with the same run.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use crate::queue::{Queue, Reached, Settled, fixture};
use crate::record::{End, Fence};
use crate::store::OwnerLock;
use crate::store::database::sql;
use crate::store::place::{On, Place};
use crate::task::{Outcome, RunId};

const CLAIMERS: usize = 16;
const RUNS: usize = 2_000;
const AT_ONCE: u32 = 8;
/// Of each claim this one is given back unstarted.
const GIVEN_BACK: usize = 7;

/// Who runs what at this moment, as the claimers see it.
#[derive(Default)]
struct Ledger {
    live: BTreeSet<RunId>,
    ended: BTreeSet<RunId>,
    claims: usize,
}

impl Ledger {
    fn begin(&mut self, fences: &[Fence]) {
        for fence in fences {
            self.claims += 1;
            assert!(self.live.insert(fence.run), "two have {}", fence.run);
            assert!(!self.ended.contains(&fence.run), "{} ran after its end", fence.run);
        }
    }

    fn end(&mut self, run: RunId) {
        assert!(self.live.remove(&run) && self.ended.insert(run), "{run} ended twice");
    }
}

async fn check(on: On) {
    let place = Place::new(&on).await;
    let lock = OwnerLock::acquire(place.directory.path()).expect("a lock");
    for _ in 0..RUNS / 500 {
        let batch: Vec<_> = (0..500).map(|it| fixture::new(if it % 2 == 0 { "a" } else { "b" })).collect();
        place.store.submit(&batch).await.expect("asked");
    }
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let mut claimers = tokio::task::JoinSet::new();
    for number in 0..CLAIMERS {
        let (opener, ledger, owner) = (place.opener(), Arc::clone(&ledger), lock.owner().clone());
        claimers.spawn(async move {
            let store = opener.await;
            let worker = fixture::worker(&format!("w{number}"), &owner);
            loop {
                let claimed = store.claim(&worker, AT_ONCE).await.expect("asked");
                if claimed.is_empty() {
                    break;
                }
                let fences: Vec<Fence> = claimed.iter().map(|it| it.fence).collect();
                ledger.lock().expect("a lock").begin(&fences);
                for (index, fence) in fences.into_iter().enumerate() {
                    if index == GIVEN_BACK {
                        // From the call on it may be another's.
                        ledger.lock().expect("a lock").live.remove(&fence.run);
                        store.give_back(&[fence]).await.expect("asked");
                        continue;
                    }
                    let end = End::bare(Outcome::Exited(0));
                    let settled = store.settle(fence, Reached::Released, &end, None).await.expect("asked");
                    assert_eq!(settled, Settled::Done);
                    ledger.lock().expect("a lock").end(fence.run);
                }
            }
        });
    }
    claimers.join_all().await;
    // What was given back last may be left; nobody else is there to take it.
    let left = place.number(sql("SELECT count(*) FROM queue WHERE stage <> 'ready'")).await;
    let done = place.number(sql("SELECT count(*) FROM runs WHERE state = 'done'")).await;
    let waiting = place.number(sql("SELECT count(*) FROM queue")).await;
    assert_eq!((left, done + waiting), (0, i64::try_from(RUNS).expect("small")));
    let twice = sql("SELECT count(*) FROM (SELECT run_id FROM events WHERE kind = 'done' GROUP BY run_id \
         HAVING count(*) > 1) AS twice");
    assert_eq!(place.number(twice).await, 0);
    let ledger = ledger.lock().expect("a lock");
    assert_eq!(i64::try_from(ledger.ended.len()).expect("small"), done);
    eprintln!("{} claims of {RUNS} runs", ledger.claims);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn heavy_of_03_sixteen_claimers_never_share_a_run_in_sqlite() {
    check(On::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn heavy_of_03_sixteen_claimers_never_share_a_run_in_postgres() {
    let Some(on) = On::postgres() else { return };
    check(on).await;
}
