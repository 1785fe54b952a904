//! The workers of a database: who lives, who is drained, and who holds a run.

use crate::queue::fleet::{Fleet, Holding, Proof, SEEN, Standing, Stood};
use crate::queue::{NewSubmission, PROCESS_LABEL, Reached, Schedule, Settled, Worker, fixture};
use crate::record::{Fence, NewRun, now_ms};
use crate::store::OwnerLock;
use crate::store::place::On;
use crate::store::queue::tests::{BACKOFF_MS, Desk, LEASE_MS};
use crate::task::Outcome;

fn seen_ms() -> i64 {
    i64::try_from(SEEN.as_millis()).expect("small")
}

pub(super) async fn a_worker_is_listed_with_what_it_offers_until_it_is_gone(on: On) {
    let mut desk = Desk::new(&on).await;
    desk.worker =
        Worker { labels: vec![("arch".to_owned(), "arm64".to_owned())], capacity: 4, ..desk.worker.clone() };
    let fleet: &dyn Fleet = &desk.place.store;
    assert_eq!(fleet.beat(&desk.worker).await.expect("asked"), Standing::Taking);
    desk.one("a").await;
    desk.claim(1).await;
    let only = fleet.members().await.expect("read").remove(0);
    assert_eq!((&only.name, &only.labels), (&desk.worker.name, &desk.worker.labels));
    assert_eq!((only.capacity, only.running, only.living), (4, 1, true));
    desk.place.pass(seen_ms() + 1_000);
    let only = fleet.members().await.expect("read").remove(0);
    assert!(!only.living && only.seen_ago_ms > 30_000, "{only:?}");
    fleet.leave(&desk.worker).await.expect("asked");
    assert_eq!(fleet.members().await.expect("read"), []);
}

pub(super) async fn a_drained_worker_claims_nothing_until_it_may_again(on: On) {
    let desk = Desk::new(&on).await;
    let fleet: &dyn Fleet = &desk.place.store;
    assert_eq!(fleet.stand("nobody", Standing::Draining, None).await.expect("asked"), Stood::Unknown);
    fleet.beat(&desk.worker).await.expect("asked");
    let run = desk.one("a").await;
    assert_eq!(
        fleet.stand(&desk.worker.name, Standing::Draining, None).await.expect("asked"),
        Stood::Changed
    );
    assert_eq!(desk.claimed().await, []);
    assert_eq!(fleet.beat(&desk.worker).await.expect("asked"), Standing::Draining);
    // It outlives the process, and what is known of processes.
    fleet.leave(&desk.worker).await.expect("asked");
    desk.place.pass(2 * 3_600_000);
    desk.queue().expire(10).await.expect("swept");
    assert_eq!(desk.claimed().await, []);
    assert_eq!(fleet.stand(&desk.worker.name, Standing::Taking, None).await.expect("asked"), Stood::Changed);
    assert_eq!(desk.claimed().await, [run]);
}

pub(super) async fn what_a_worker_lost_does_not_wait_for_one_that_is_drained(on: On) {
    let desk = Desk::new(&on).await;
    let lock = OwnerLock::acquire(desk.place.directory.path()).expect("a lock");
    let other = fixture::worker("second", lock.owner());
    let fleet: &dyn Fleet = &desk.place.store;
    fleet.beat(&other).await.expect("asked");
    let fence = desk.leased(fixture::new("a"), Reached::Unreleased).await;
    desk.place.pass(LEASE_MS);
    desk.queue().expire(10).await.expect("swept");
    desk.place.pass(BACKOFF_MS);
    fleet.beat(&other).await.expect("asked");
    assert_eq!(desk.claimed().await, [], "the other one is to have it");
    assert_eq!(fleet.stand("second", Standing::Draining, None).await.expect("asked"), Stood::Changed);
    assert_eq!(desk.claimed().await, [fence.run]);
}

pub(super) async fn what_waits_for_a_process_that_left_is_anybodys_soon(on: On) {
    let desk = Desk::new(&on).await;
    let lock = OwnerLock::acquire(desk.place.directory.path()).expect("a lock");
    let other = fixture::worker("second", lock.owner());
    let fleet: &dyn Fleet = &desk.place.store;
    fleet.beat(&other).await.expect("asked");
    let plain = fixture::new("a");
    let pinned = NewSubmission {
        run: NewRun { created_ms: now_ms(), ..plain.run },
        schedule: Schedule {
            worker_labels: vec![(PROCESS_LABEL.to_owned(), other.owner.lock.clone())],
            ..plain.schedule
        },
        ..plain
    };
    let run = desk.submit(&[pinned]).await;
    assert_eq!(desk.claimed().await, [], "its process lives");
    fleet.leave(&other).await.expect("asked");
    assert_eq!(desk.claimed().await, [], "its process may be about to say that it lives");
    drop(lock);
    desk.place.pass(121_000);
    assert_eq!(desk.claimed().await, run);
}

pub(super) async fn a_run_is_held_by_its_last_lease_alone(on: On) {
    let desk = Desk::new(&on).await;
    let fence = desk.leased(fixture::new("a"), Reached::Released).await;
    let holding = |fence: Fence, lock: &str| {
        let proof = Proof { fence, owner_lock: lock.to_owned() };
        let store = desk.place.store.clone();
        async move { store.holding(&proof).await.expect("asked") }
    };
    let lock = desk.worker.owner.lock.as_str();
    let workspace = fixture::submission().workspace;
    assert_eq!(holding(fence, lock).await, Holding::Held { workspace });
    for (other, lock) in [
        (fence, "00ff"),
        (Fence { epoch: fence.epoch + 1, ..fence }, lock),
        (Fence { epoch: fence.epoch - 1, ..fence }, lock),
        (Fence { attempt: fence.attempt + 1, ..fence }, lock),
    ] {
        assert_eq!(holding(other, lock).await, Holding::Not, "{other:?}");
    }
    assert_eq!(desk.settle(fence, Outcome::Exited(0)).await, Settled::Done);
    assert_eq!(holding(fence, lock).await, Holding::Ended);
    let lost = desk.leased(fixture::new("a"), Reached::Unreleased).await;
    desk.place.pass(LEASE_MS);
    desk.queue().expire(10).await.expect("swept");
    assert_eq!(holding(lost, lock).await, Holding::Not, "it waits for its next attempt");
}
