//! What the queue port promises, held against real databases. Time passes by the stores' own offset.

mod claimers;
mod fleet;
mod model;
mod scale;
mod sqlite_only;

use std::time::Duration;

use crate::access::{Access, Project, Quotas};
use crate::queue::{
    AFTER_MAX, BATCH_MAX, CancelAnswer, Claimed, Concurrency, Dependency, History, Idempotency,
    NewSubmission, Queue, Reached, Settled, Submission, Submitted, Worker, fixture,
};
use crate::record::fixture::{CREATED_MS, image, slot};
use crate::record::page::{PageFilter, Runs};
use crate::record::{End, EventKind, Fence, Found, Record, Run, Transition};
use crate::store::OwnerLock;
use crate::store::database::sql;
use crate::store::place::{On, Place, on_both};
use crate::store::queue::submit::Batch;
use crate::store::queue::tests::fleet::{
    a_drained_worker_claims_nothing_until_it_may_again, a_run_is_held_by_its_last_lease_alone,
    a_worker_is_listed_with_what_it_offers_until_it_is_gone,
    what_a_worker_lost_does_not_wait_for_one_that_is_drained,
    what_waits_for_a_process_that_left_is_anybodys_soon,
};
use crate::task::outcome::LostReason;
use crate::task::run_id::RunSelector;
use crate::task::{Cancellation, Outcome, RunId, RunState};

on_both! {
    a_claim_gives_what_was_submitted,
    what_was_submitted_is_forgotten_with_the_end,
    of_16_fifty_submissions_with_one_key_are_one_run,
    a_key_with_another_body_is_refused_and_is_free_again_a_day_after_the_end,
    a_batch_with_an_unknown_dependency_leaves_nothing,
    a_batch_with_a_circle_leaves_nothing,
    within_a_project_priority_goes_before_age,
    a_run_that_waits_has_its_place_among_those_of_its_project,
    a_flood_of_one_project_does_not_starve_another,
    a_concurrency_key_holds_back_what_its_lowest_limit_does_not_allow,
    an_urgent_run_takes_the_turn_of_one_that_is_not_claimed_yet,
    a_run_waits_for_its_time,
    a_run_that_is_past_its_deadline_ends_unstarted,
    a_run_waits_for_others_and_goes_on_when_they_ended_well,
    a_failed_parent_ends_everything_that_needed_it,
    a_run_may_wait_for_one_that_has_ended,
    a_lease_that_ran_out_before_release_is_tried_again,
    a_lease_that_ran_out_after_release_is_lost,
    a_lease_that_ran_out_after_release_is_tried_again_where_the_task_says_so,
    a_run_whose_tries_are_used_up_says_so,
    a_renewed_lease_goes_on,
    of_21_what_comes_late_changes_nothing,
    what_is_given_back_keeps_its_place_and_its_attempt,
    a_wish_to_end_is_heard_wherever_the_run_is,
    a_cancelled_run_is_not_tried_again,
    the_worker_that_lost_a_run_does_not_get_it_while_another_lives,
    a_worker_gets_only_what_it_has_the_labels_for,
    quotas_of_a_project_are_kept,
    batches_that_share_a_commit_see_each_other,
    what_may_be_kept_of_a_submission_is_kept_with_its_end,
    what_a_record_was_kept_free_of_is_not_kept_beside_it,
    a_workspace_is_needed_until_its_last_run_has_ended,
    more_than_the_queue_takes_is_refused_whole,
    who_waits_is_woken_by_what_is_queued,
    a_sweep_of_local_runs_leaves_the_queue_alone,
    pages_show_what_is_asked_for_newest_first,
    a_worker_is_listed_with_what_it_offers_until_it_is_gone,
    a_drained_worker_claims_nothing_until_it_may_again,
    what_a_worker_lost_does_not_wait_for_one_that_is_drained,
    a_run_is_held_by_its_last_lease_alone,
    what_waits_for_a_process_that_left_is_anybodys_soon,
}

const HOUR_MS: i64 = 3_600_000;
const LEASE_MS: i64 = 16_000;
const BACKOFF_MS: i64 = 301_000;
const LOST: Outcome = Outcome::Lost { reason: LostReason::Owner };

/// A queue with a worker that lives.
struct Desk {
    place: Place,
    worker: Worker,
    _lock: OwnerLock,
}

impl Desk {
    async fn new(on: &On) -> Self {
        let place = Place::new(on).await;
        let lock = OwnerLock::acquire(place.directory.path()).expect("a lock");
        let worker = fixture::worker("first", lock.owner());
        Self { place, worker, _lock: lock }
    }

    fn queue(&self) -> &dyn Queue {
        &self.place.store
    }

    async fn submit(&self, batch: &[NewSubmission]) -> Vec<RunId> {
        match self.queue().submit(batch).await.expect("asked") {
            Submitted::Accepted(ids) => ids.into_iter().map(|it| it.0).collect(),
            other => panic!("{other:?}"),
        }
    }

    async fn one(&self, project: &str) -> RunId {
        self.submit(&[fixture::new(project)]).await[0]
    }

    async fn claim(&self, count_max: u32) -> Vec<Claimed> {
        self.queue().claim(&self.worker, count_max).await.expect("asked")
    }

    async fn claimed(&self) -> Vec<RunId> {
        self.claim(100).await.into_iter().map(|it| it.fence.run).collect()
    }

    /// A run that was claimed, and released where it is said so.
    async fn leased(&self, new: NewSubmission, reached: Reached) -> Fence {
        self.submit(&[new]).await;
        let fence = self.claim(1).await[0].fence;
        if reached == Reached::Released {
            self.release(fence).await;
        }
        fence
    }

    async fn release(&self, fence: Fence) {
        let number = u32::from_str_radix(&fence.run.short()[4..], 16).expect("hexadecimal");
        let store = &self.place.store;
        for step in [
            store.start(fence, &image(), CREATED_MS).await,
            store.bind(fence, &slot(number), CREATED_MS).await,
            store.release(fence, "{}", CREATED_MS).await,
        ] {
            assert_eq!(step.expect("asked"), Transition::Applied);
        }
    }

    async fn settle(&self, fence: Fence, outcome: Outcome) -> Settled {
        let end = End::bare(outcome);
        self.queue().settle(fence, Reached::Released, &end, None).await.expect("asked")
    }

    async fn run(&self, id: RunId) -> Run {
        match self.place.store.find(&RunSelector::Id(id)).await.expect("read") {
            Found::Run(run) => *run,
            Found::Nothing | Found::Ambiguous(_) => panic!("one run has this id"),
        }
    }

    async fn outcome(&self, id: RunId) -> Option<Outcome> {
        self.run(id).await.end.map(|it| it.outcome)
    }

    async fn kinds(&self, id: RunId) -> Vec<EventKind> {
        self.place.store.events(id).await.expect("read").into_iter().map(|it| it.kind).collect()
    }

    async fn rows(&self) -> i64 {
        self.place.number(sql("SELECT count(*) FROM queue")).await
    }

    async fn runs(&self) -> i64 {
        self.place.number(sql("SELECT count(*) FROM runs")).await
    }
}

fn keyed(project: &str, key: &str, limit: u32) -> NewSubmission {
    let mut new = fixture::new(project);
    new.schedule.concurrency = Some(Concurrency { key: key.to_owned(), limit });
    new
}

fn after(others: &[RunId], success: bool) -> NewSubmission {
    let mut new = fixture::new("a");
    new.schedule.after = others.iter().map(|it| Dependency { run: *it, success }).collect();
    new
}

fn with_key(key: &str, body: u8) -> NewSubmission {
    let mut new = fixture::new("a");
    new.idempotency = Some(Idempotency { key: key.to_owned(), body_sha256: [body; 32] });
    new
}

async fn a_claim_gives_what_was_submitted(on: On) {
    let desk = Desk::new(&on).await;
    let new = fixture::new("a");
    desk.submit(std::slice::from_ref(&new)).await;
    let claimed = desk.claim(10).await;
    assert_eq!(claimed.len(), 1);
    assert_eq!(claimed[0].fence, Fence { run: new.run.id, epoch: 1, attempt: 1 });
    assert_eq!((&claimed[0].project, &claimed[0].submission), (&new.project, &new.submission));
    let run = desk.run(new.run.id).await;
    assert_eq!((run.state, run.owner.as_ref()), (RunState::Leased, Some(&desk.worker.owner)));
    assert_eq!((run.project.as_deref(), run.submitter.as_deref()), (Some("a"), Some("uid:1000")));
    assert_eq!(desk.claimed().await, []);
}

async fn what_was_submitted_is_forgotten_with_the_end(on: On) {
    let desk = Desk::new(&on).await;
    let fence = desk.leased(fixture::new("a"), Reached::Released).await;
    assert_eq!(desk.settle(fence, Outcome::Exited(3)).await, Settled::Done);
    assert_eq!(desk.outcome(fence.run).await, Some(Outcome::Exited(3)));
    assert_eq!(desk.rows().await, 0);
}

async fn of_16_fifty_submissions_with_one_key_are_one_run(on: On) {
    let desk = Desk::new(&on).await;
    let mut submissions = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let store = desk.place.store.clone();
        submissions.spawn(async move { store.submit(&[with_key("deploy-7", 1)]).await.expect("asked") });
    }
    let mut ids = std::collections::BTreeSet::new();
    let mut new = 0;
    for submitted in submissions.join_all().await {
        let Submitted::Accepted(accepted) = submitted else { panic!("{submitted:?}") };
        ids.insert(accepted[0].0);
        new += u32::from(accepted[0].1);
    }
    assert_eq!((ids.len(), new, desk.runs().await), (1, 1, 1));
    let restarted = desk.place.another().await;
    let again = restarted.submit(&[with_key("deploy-7", 1)]).await.expect("asked");
    assert_eq!(again, Submitted::Accepted(vec![(*ids.first().expect("one"), false)]));
}

async fn a_key_with_another_body_is_refused_and_is_free_again_a_day_after_the_end(on: On) {
    let desk = Desk::new(&on).await;
    let run = desk.submit(&[with_key("k", 1)]).await[0];
    let other = [fixture::new("a"), with_key("k", 2)];
    let refused = desk.queue().submit(&other).await.expect("asked");
    assert_eq!(refused, Submitted::KeyConflict { index: 1, run });
    assert_eq!(desk.runs().await, 1);
    let fence = desk.claim(1).await[0].fence;
    assert_eq!(desk.settle(fence, Outcome::Exited(0)).await, Settled::Done);
    desk.place.pass(23 * HOUR_MS);
    assert_eq!(desk.submit(&[with_key("k", 1)]).await, [run]);
    desk.place.pass(2 * HOUR_MS);
    assert_ne!(desk.submit(&[with_key("k", 2)]).await, [run]);
}

async fn a_batch_with_an_unknown_dependency_leaves_nothing(on: On) {
    let desk = Desk::new(&on).await;
    let stranger = desk.one("b").await;
    let (nobody, runs) = (RunId::generate(), desk.runs().await);
    for run in [nobody, stranger] {
        let batch = [fixture::new("a"), after(&[run], true)];
        let refused = desk.queue().submit(&batch).await.expect("asked");
        assert_eq!(refused, Submitted::UnknownDependency { index: 1, run });
    }
    assert_eq!(desk.runs().await, runs);
}

async fn a_batch_with_a_circle_leaves_nothing(on: On) {
    let desk = Desk::new(&on).await;
    let mut first = fixture::new("a");
    let second = after(&[first.run.id], true);
    first.schedule.after.push(Dependency { run: second.run.id, success: false });
    let refused = desk.queue().submit(&[first, second]).await.expect("asked");
    assert!(matches!(refused, Submitted::Cycle { .. }), "{refused:?}");
    assert_eq!(desk.runs().await, 0);
}

async fn a_run_that_waits_has_its_place_among_those_of_its_project(on: On) {
    let desk = Desk::new(&on).await;
    let mut batch: Vec<NewSubmission> = (0..4).map(|_| fixture::new("a")).collect();
    for (new, priority) in batch.iter_mut().zip([0, 5, -5, 5]) {
        new.schedule.priority = priority;
    }
    // Another lane of the project counts, another project does not.
    batch[0].schedule.worker_labels.push(("disk".to_owned(), "fast".to_owned()));
    let runs = desk.submit(&batch).await;
    desk.one("b").await;
    for (run, place) in runs.iter().zip([3, 1, 4, 2]) {
        assert_eq!(desk.queue().place(*run).await.expect("asked"), Some(place));
    }
    let claimed = desk.queue().claim(&desk.worker, 5).await.expect("asked");
    assert!(claimed.iter().any(|it| it.fence.run == runs[1]), "{claimed:?}");
    assert_eq!(desk.queue().place(runs[1]).await.expect("asked"), None);
    // Nobody offers what the first asks for.
    assert_eq!(desk.queue().place(runs[0]).await.expect("asked"), Some(1));
    assert_eq!(desk.queue().place(RunId::generate()).await.expect("asked"), None);
}

async fn within_a_project_priority_goes_before_age(on: On) {
    let desk = Desk::new(&on).await;
    let mut batch: Vec<_> = (0..4).map(|_| fixture::new("a")).collect();
    for (new, priority) in batch.iter_mut().zip([0, 5, -5, 5]) {
        new.schedule.priority = priority;
    }
    let ids = desk.submit(&batch).await;
    assert_eq!(desk.claimed().await, [ids[1], ids[3], ids[0], ids[2]]);
}

async fn a_flood_of_one_project_does_not_starve_another(on: On) {
    let desk = Desk::new(&on).await;
    let mut flood: Vec<_> = (0..200).map(|_| fixture::new("a")).collect();
    flood.iter_mut().for_each(|it| it.schedule.priority = 100);
    desk.submit(&flood).await;
    let few = desk.submit(&[fixture::new("b"), fixture::new("b"), fixture::new("b")]).await;
    // One slot: each run ends before the next is claimed.
    let mut order = Vec::new();
    for _ in 0..6 {
        let claimed = desk.claim(1).await.remove(0);
        order.push(few.contains(&claimed.fence.run));
        assert_eq!(desk.settle(claimed.fence, Outcome::Exited(0)).await, Settled::Done);
    }
    assert_eq!(order.iter().filter(|it| **it).count(), 3, "{order:?}");
    // Many slots: what one project holds counts.
    let late = desk.submit(&[fixture::new("b"), fixture::new("b")]).await;
    let claimed = desk.claim(4).await;
    assert_eq!(claimed.iter().filter(|it| late.contains(&it.fence.run)).count(), 2);
}

async fn a_concurrency_key_holds_back_what_its_lowest_limit_does_not_allow(on: On) {
    let desk = Desk::new(&on).await;
    let ids = desk.submit(&[keyed("a", "k", 2), keyed("a", "k", 2), keyed("a", "k", 2)]).await;
    let other = desk.submit(&[keyed("b", "k", 2), keyed("a", "l", 2)]).await;
    let claimed = desk.claim(10).await;
    let mut runs: Vec<RunId> = claimed.iter().map(|it| it.fence.run).collect();
    runs.sort();
    let mut expected = vec![ids[0], ids[1], other[0], other[1]];
    expected.sort();
    assert_eq!(runs, expected);
    let single = desk.submit(&[keyed("a", "k", 1)]).await[0];
    let fences: Vec<Fence> = claimed.iter().map(|it| it.fence).filter(|it| ids.contains(&it.run)).collect();
    assert_eq!(desk.settle(fences[0], Outcome::Exited(0)).await, Settled::Done);
    // With one more run that allows only one, the other leaves no room.
    assert_eq!(desk.claimed().await, []);
    assert_eq!(desk.settle(fences[1], Outcome::Exited(0)).await, Settled::Done);
    assert_eq!(desk.claimed().await, [ids[2]]);
    assert_eq!(desk.queue().cancel(single, Cancellation::Command).await.expect("asked"), CancelAnswer::Ended);
}

async fn an_urgent_run_takes_the_turn_of_one_that_is_not_claimed_yet(on: On) {
    let desk = Desk::new(&on).await;
    let first = desk.submit(&[keyed("a", "k", 1)]).await[0];
    let mut urgent = keyed("a", "k", 1);
    urgent.schedule.priority = 10;
    let urgent = desk.submit(&[urgent]).await[0];
    let claimed = desk.claim(10).await;
    assert_eq!(claimed.iter().map(|it| it.fence.run).collect::<Vec<_>>(), [urgent]);
    assert_eq!(desk.settle(claimed[0].fence, Outcome::Exited(0)).await, Settled::Done);
    assert_eq!(desk.claimed().await, [first]);
}

async fn a_run_waits_for_its_time(on: On) {
    let desk = Desk::new(&on).await;
    let mut new = keyed("a", "k", 1);
    new.schedule.not_before_ms = Some(wall_ms() + HOUR_MS);
    let run = desk.submit(&[new]).await[0];
    assert_eq!(desk.claimed().await, []);
    desk.place.pass(HOUR_MS + 60_000);
    assert_eq!(desk.claimed().await, [run]);
}

async fn a_run_that_is_past_its_deadline_ends_unstarted(on: On) {
    let desk = Desk::new(&on).await;
    let mut new = fixture::new("a");
    new.schedule.deadline_ms = Some(wall_ms() + HOUR_MS);
    let mut started = new.clone();
    started.run.id = RunId::generate();
    let fence = desk.leased(started, Reached::Released).await;
    let run = desk.submit(&[new]).await[0];
    let child = desk.submit(&[after(&[run], false)]).await[0];
    desk.place.pass(HOUR_MS + 60_000);
    assert_eq!(desk.queue().renew(&[fence]).await.expect("asked").held, [fence]);
    assert_eq!(desk.claimed().await, [], "what is past its deadline is not claimed");
    assert_eq!(desk.queue().expire(100).await.expect("asked"), []);
    assert_eq!(desk.outcome(run).await, Some(Outcome::Cancelled(Cancellation::Deadline)));
    assert_eq!(desk.outcome(fence.run).await, None, "what has started goes on");
    assert_eq!(desk.claimed().await, [child]);
}

async fn a_run_waits_for_others_and_goes_on_when_they_ended_well(on: On) {
    let desk = Desk::new(&on).await;
    let parents = desk.submit(&[fixture::new("a"), fixture::new("a")]).await;
    let child = desk.submit(&[after(&parents, true)]).await[0];
    let claimed = desk.claim(10).await;
    assert_eq!(claimed.len(), 2);
    for parent in claimed {
        assert_eq!(desk.run(child).await.state, RunState::Queued);
        assert_eq!(desk.claimed().await, []);
        assert_eq!(desk.settle(parent.fence, Outcome::Exited(0)).await, Settled::Done);
    }
    assert_eq!(desk.claimed().await, [child]);
}

async fn a_failed_parent_ends_everything_that_needed_it(on: On) {
    let desk = Desk::new(&on).await;
    let fence = desk.leased(fixture::new("a"), Reached::Released).await;
    let child = after(&[fence.run], true);
    let grandchild = after(&[child.run.id], true);
    let indifferent = after(&[child.run.id], false);
    let ids = desk.submit(&[indifferent, grandchild, child]).await;
    assert_eq!(desk.settle(fence, Outcome::Exited(1)).await, Settled::Done);
    let ended = Some(Outcome::Cancelled(Cancellation::Dependency));
    assert_eq!((desk.outcome(ids[1]).await, desk.outcome(ids[2]).await), (ended.clone(), ended));
    assert_eq!(desk.claimed().await, [ids[0]]);
}

async fn a_run_may_wait_for_one_that_has_ended(on: On) {
    let desk = Desk::new(&on).await;
    let well = desk.leased(fixture::new("a"), Reached::Released).await;
    assert_eq!(desk.settle(well, Outcome::Exited(0)).await, Settled::Done);
    let badly = desk.leased(fixture::new("a"), Reached::Released).await;
    assert_eq!(desk.settle(badly, Outcome::Exited(1)).await, Settled::Done);
    let goes_on = desk.submit(&[after(&[well.run], true), after(&[badly.run], false)]).await;
    let ends = desk.submit(&[after(&[well.run, badly.run], true)]).await[0];
    assert_eq!(desk.outcome(ends).await, Some(Outcome::Cancelled(Cancellation::Dependency)));
    assert_eq!(desk.claimed().await, goes_on);
}

async fn check_expired(on: &On, new: NewSubmission, reached: Reached, again: bool) {
    let desk = Desk::new(on).await;
    let fence = desk.leased(new, reached).await;
    assert_eq!(desk.queue().expire(100).await.expect("asked"), [], "a lease holds");
    desk.place.pass(LEASE_MS);
    let expired = desk.queue().expire(100).await.expect("asked");
    assert_eq!(expired.len(), 1);
    assert_eq!(expired[0].fence, fence);
    assert_eq!(matches!(expired[0].settled, Settled::Again { .. }), again);
    assert_eq!(desk.queue().renew(&[fence]).await.expect("asked").lost, [fence]);
    if !again {
        assert_eq!(desk.outcome(fence.run).await, Some(LOST));
        return;
    }
    assert_eq!(desk.claimed().await, [], "it waits before it is tried again");
    desk.place.pass(BACKOFF_MS);
    let next = desk.claim(10).await;
    assert_eq!(next[0].fence, Fence { run: fence.run, epoch: 3, attempt: 2 });
    assert_eq!(desk.settle(fence, Outcome::Exited(0)).await, Settled::Superseded);
    assert_eq!(desk.settle(next[0].fence, Outcome::Exited(0)).await, Settled::Done);
}

async fn a_lease_that_ran_out_before_release_is_tried_again(on: On) {
    check_expired(&on, fixture::new("a"), Reached::Unreleased, true).await;
}

async fn a_lease_that_ran_out_after_release_is_lost(on: On) {
    check_expired(&on, fixture::new("a"), Reached::Released, false).await;
}

async fn a_lease_that_ran_out_after_release_is_tried_again_where_the_task_says_so(on: On) {
    let mut new = fixture::new("a");
    new.schedule.idempotent = true;
    check_expired(&on, new, Reached::Released, true).await;
}

async fn a_run_whose_tries_are_used_up_says_so(on: On) {
    let desk = Desk::new(&on).await;
    let mut new = fixture::new("a");
    new.schedule.failure_retries = 1;
    let fence = desk.leased(new, Reached::Released).await;
    let Settled::Again { not_before_ms } = desk.settle(fence, Outcome::Exited(1)).await else {
        panic!("it is tried again");
    };
    assert!(not_before_ms > wall_ms());
    desk.place.pass(BACKOFF_MS);
    let fence = desk.claim(1).await[0].fence;
    desk.release(fence).await;
    assert_eq!(desk.settle(fence, Outcome::Exited(2)).await, Settled::Done);
    assert_eq!(desk.outcome(fence.run).await, Some(Outcome::Exited(2)));
    assert_eq!(desk.kinds(fence.run).await.last(), Some(&EventKind::GivenUp));
}

async fn a_renewed_lease_goes_on(on: On) {
    let desk = Desk::new(&on).await;
    let fence = desk.leased(fixture::new("a"), Reached::Unreleased).await;
    for _ in 0..3 {
        desk.place.pass(10_000);
        assert_eq!(desk.queue().renew(&[fence]).await.expect("asked").held, [fence]);
        assert_eq!(desk.queue().expire(100).await.expect("asked"), []);
    }
}

async fn of_21_what_comes_late_changes_nothing(on: On) {
    let desk = Desk::new(&on).await;
    let fence = desk.leased(fixture::new("a"), Reached::Released).await;
    assert_eq!(desk.settle(fence, Outcome::Exited(7)).await, Settled::Done);
    let before = desk.kinds(fence.run).await;
    let store = &desk.place.store;
    let late = End::bare(LOST);
    assert_eq!(desk.settle(fence, LOST).await, Settled::Superseded);
    assert_eq!(store.finish(fence, &late, None, CREATED_MS).await.expect("asked"), Transition::Superseded);
    assert_eq!(store.finishing(fence, CREATED_MS).await.expect("asked"), Transition::Superseded);
    assert_eq!(store.start(fence, &image(), CREATED_MS).await.expect("asked"), Transition::Superseded);
    assert_eq!(store.lease(fence.run, &desk.worker.owner, CREATED_MS).await.expect("asked"), None);
    desk.queue().give_back(&[fence]).await.expect("asked");
    assert_eq!(desk.queue().renew(&[fence]).await.expect("asked").lost, [fence]);
    assert_eq!(
        desk.queue().cancel(fence.run, Cancellation::Command).await.expect("asked"),
        CancelAnswer::Over
    );
    desk.place.pass(HOUR_MS);
    assert_eq!(desk.queue().expire(100).await.expect("asked"), []);
    assert_eq!(desk.outcome(fence.run).await, Some(Outcome::Exited(7)));
    assert_eq!(desk.kinds(fence.run).await, before);
}

async fn what_is_given_back_keeps_its_place_and_its_attempt(on: On) {
    let desk = Desk::new(&on).await;
    let ids = desk.submit(&[keyed("a", "k", 1), fixture::new("a")]).await;
    let claimed = desk.claim(1).await;
    assert_eq!(claimed[0].fence.run, ids[0]);
    desk.queue().give_back(&[claimed[0].fence]).await.expect("asked");
    let again = desk.claim(1).await;
    assert_eq!(again[0].fence, Fence { run: ids[0], epoch: 3, attempt: 1 });
    assert_eq!(desk.settle(claimed[0].fence, Outcome::Exited(0)).await, Settled::Superseded);
    desk.release(again[0].fence).await;
    desk.queue().give_back(&[again[0].fence]).await.expect("asked");
    assert_eq!(desk.run(ids[0]).await.state, RunState::Running, "what was released is not given back");
}

async fn a_wish_to_end_is_heard_wherever_the_run_is(on: On) {
    let desk = Desk::new(&on).await;
    let cancel = async |run| desk.queue().cancel(run, Cancellation::Command).await.expect("asked");
    assert_eq!(cancel(RunId::generate()).await, CancelAnswer::Unknown);
    let waiting = desk.one("a").await;
    assert_eq!((cancel(waiting).await, cancel(waiting).await), (CancelAnswer::Ended, CancelAnswer::Over));
    assert_eq!(desk.outcome(waiting).await, Some(Outcome::Cancelled(Cancellation::Command)));
    let fence = desk.leased(fixture::new("a"), Reached::Released).await;
    assert_eq!(
        (cancel(fence.run).await, cancel(fence.run).await),
        (CancelAnswer::Asked, CancelAnswer::Asked)
    );
    let renewed = desk.queue().renew(&[fence]).await.expect("asked");
    assert_eq!(renewed.cancelled, [(fence, Cancellation::Command)]);
    let asked = desk.kinds(fence.run).await.into_iter().filter(|it| *it == EventKind::CancelAsked).count();
    assert_eq!(asked, 1);
    let given_back = desk.leased(fixture::new("a"), Reached::Unreleased).await;
    assert_eq!(cancel(given_back.run).await, CancelAnswer::Asked);
    desk.queue().give_back(&[given_back]).await.expect("asked");
    assert_eq!(desk.outcome(given_back.run).await, Some(Outcome::Cancelled(Cancellation::Command)));
}

async fn a_cancelled_run_is_not_tried_again(on: On) {
    let desk = Desk::new(&on).await;
    let fence = desk.leased(fixture::new("a"), Reached::Unreleased).await;
    let asked = desk.queue().cancel(fence.run, Cancellation::Client).await.expect("asked");
    assert_eq!(asked, CancelAnswer::Asked);
    desk.place.pass(LEASE_MS);
    let expired = desk.queue().expire(100).await.expect("asked");
    assert_eq!(expired[0].settled, Settled::Done);
    assert_eq!(desk.outcome(fence.run).await, Some(Outcome::Cancelled(Cancellation::Client)));
}

async fn the_worker_that_lost_a_run_does_not_get_it_while_another_lives(on: On) {
    let desk = Desk::new(&on).await;
    let lock = OwnerLock::acquire(desk.place.directory.path()).expect("a lock");
    let other = fixture::worker("second", lock.owner());
    let lose = async || {
        let fence = desk.claim(1).await[0].fence;
        let end = End::bare(LOST);
        let settled = desk.queue().settle(fence, Reached::Unreleased, &end, None).await.expect("asked");
        assert!(matches!(settled, Settled::Again { .. }));
        desk.place.pass(BACKOFF_MS);
    };
    let run = desk.one("a").await;
    lose().await;
    lose().await;
    let none_is_there = desk.one("b").await;
    assert_eq!(desk.queue().claim(&other, 1).await.expect("asked").len(), 1, "now there is another");
    assert_eq!(desk.claimed().await.len(), usize::from(desk.run(run).await.state == RunState::Leased));
    let _ = none_is_there;
}

async fn a_worker_gets_only_what_it_has_the_labels_for(on: On) {
    let mut desk = Desk::new(&on).await;
    let mut new = fixture::new("a");
    new.schedule.worker_labels = vec![("gpu".to_owned(), "yes".to_owned())];
    new.schedule.priority = 50;
    let ids = desk.submit(&[new, fixture::new("a")]).await;
    assert_eq!(desk.claimed().await, [ids[1]]);
    desk.worker.labels = vec![("arch".to_owned(), "arm64".to_owned()), ("gpu".to_owned(), "yes".to_owned())];
    assert_eq!(desk.claimed().await, [ids[0]]);
}

async fn quotas_of_a_project_are_kept(on: On) {
    let desk = Desk::new(&on).await;
    let mut project = Project {
        name: "a".to_owned(),
        quotas: Quotas { runs_max: Some(1), queued_max: Some(2), ..Quotas::NONE },
        ceiling: None,
        images: None,
        secrets: None,
    };
    desk.place.store.put_project(&project, None).await.expect("kept");
    desk.submit(&[fixture::new("a"), fixture::new("a")]).await;
    let refused = desk.queue().submit(&[fixture::new("a")]).await.expect("asked");
    assert!(matches!(&refused, Submitted::QuotaExceeded { what } if what.contains("`2` runs may wait")));
    let claimed = desk.claim(10).await;
    assert_eq!(claimed.len(), 1);
    assert_eq!(desk.settle(claimed[0].fence, Outcome::Exited(0)).await, Settled::Done);
    assert_eq!(desk.claim(10).await.len(), 1);
    project.quotas = Quotas { cpu_seconds_day_max: Some(0), ..Quotas::NONE };
    desk.place.store.put_project(&project, None).await.expect("kept");
    let fence = desk.leased(fixture::new("a"), Reached::Released).await;
    let end = crate::record::fixture::end(Outcome::Exited(0));
    let settled = desk.queue().settle(fence, Reached::Released, &end, None).await.expect("asked");
    assert_eq!(settled, Settled::Done);
    let refused = desk.queue().submit(&[fixture::new("a")]).await.expect("asked");
    assert!(matches!(&refused, Submitted::QuotaExceeded { what } if what.contains("CPU seconds")));
    desk.place.pass(24 * HOUR_MS);
    desk.submit(&[fixture::new("a")]).await;
}

async fn batches_that_share_a_commit_see_each_other(on: On) {
    let desk = Desk::new(&on).await;
    let project = Project {
        name: "b".to_owned(),
        quotas: Quotas { queued_max: Some(2), ..Quotas::NONE },
        ceiling: None,
        images: None,
        secrets: None,
    };
    desk.place.store.put_project(&project, None).await.expect("kept");
    let parent = fixture::new("a");
    let mut child = fixture::new("a");
    child.schedule.after = vec![Dependency { run: parent.run.id, success: true }];
    let (keyed, other) = (with_key("k", 1), with_key("k", 2));
    let first = keyed.run.id;
    let (parent_id, child_id) = (parent.run.id, child.run.id);
    let limited = || vec![fixture::new("b")];
    let batches = [
        vec![parent],
        vec![child],
        vec![keyed],
        vec![with_key("k", 1)],
        vec![other],
        limited(),
        limited(),
        limited(),
    ];
    let books = &desk.place.store.books;
    let entries: Vec<_> = batches.iter().map(|it| books.encode(it).expect("encoded")).collect();
    let group: Vec<_> = entries.iter().map(|it| Batch { entries: it, audit: None }).collect();
    let answers = books.submit_all(&group).await.expect("asked");
    assert_eq!(answers[0], Submitted::Accepted(vec![(parent_id, true)]));
    assert_eq!(answers[1], Submitted::Accepted(vec![(child_id, true)]));
    assert_eq!(answers[2], Submitted::Accepted(vec![(first, true)]));
    assert_eq!(answers[3], Submitted::Accepted(vec![(first, false)]));
    assert_eq!(answers[4], Submitted::KeyConflict { index: 0, run: first });
    assert!(matches!(
        answers[5..],
        [Submitted::Accepted(_), Submitted::Accepted(_), Submitted::QuotaExceeded { .. }]
    ));
    assert_eq!(desk.runs().await, 5);
    // The child waits for its parent.
    let claimed = desk.claimed().await;
    assert_eq!(claimed.len(), 4);
    assert!(!claimed.contains(&child_id));
}

/// A submission whose record says what was submitted.
fn plain(project: &str) -> NewSubmission {
    let mut new = fixture::new(project);
    let outputs = new.submission.outputs.iter().map(|it| it.pattern.clone()).collect();
    (new.run.task.command, new.run.task.outputs) = (new.submission.command.clone(), outputs);
    new.run.task.workdir.clone_from(&new.submission.workdir);
    new
}

async fn what_may_be_kept_of_a_submission_is_kept_with_its_end(on: On) {
    let desk = Desk::new(&on).await;
    let mut new = plain("a");
    new.schedule.concurrency = Some(Concurrency { key: "deploy".to_owned(), limit: 2 });
    new.schedule.priority = 7;
    let (submission, schedule) = (new.submission.clone(), new.schedule.clone());
    let fence = desk.leased(new, Reached::Released).await;
    assert_eq!(desk.place.store.past(fence.run).await.expect("read"), None, "it has not ended");
    assert_eq!(desk.settle(fence, Outcome::Exited(1)).await, Settled::Done);
    let past = desk.place.store.past(fence.run).await.expect("read").expect("it is kept");
    // No value of the environment is.
    assert_eq!(past.submission, Submission { environment: Vec::new(), ..submission });
    assert_eq!(past.schedule, schedule);
    let _ = desk.place.store.forget(fence.run).await.expect("forgotten");
    assert_eq!(desk.place.store.past(fence.run).await.expect("read"), None, "it goes with its run");
}

async fn what_a_record_was_kept_free_of_is_not_kept_beside_it(on: On) {
    let desk = Desk::new(&on).await;
    let mut new = plain("a");
    new.run.task.command[2] = b"exit [secret]".to_vec();
    let fence = desk.leased(new, Reached::Released).await;
    assert_eq!(desk.settle(fence, Outcome::Exited(0)).await, Settled::Done);
    assert_eq!(desk.place.store.past(fence.run).await.expect("read"), None);
}

async fn a_workspace_is_needed_until_its_last_run_has_ended(on: On) {
    let desk = Desk::new(&on).await;
    let needed =
        async || desk.place.store.workspaces_needed().await.expect("read").into_iter().collect::<Vec<_>>();
    let mut without = plain("a");
    without.submission.workspace = None;
    desk.submit(&[without]).await;
    assert_eq!(needed().await, Vec::<String>::new());
    let mut new = plain("b");
    let digest = format!("sha256:{}", "cd".repeat(32));
    new.submission.workspace = Some(digest.clone());
    new.schedule.priority = 9;
    let run = desk.submit(&[new]).await[0];
    assert_eq!(needed().await, [digest]);
    desk.queue().cancel(run, Cancellation::Command).await.expect("asked");
    assert_eq!(needed().await, Vec::<String>::new());
}

async fn more_than_the_queue_takes_is_refused_whole(on: On) {
    let desk = Desk::new(&on).await;
    let mut new = fixture::new("a");
    let run = new.run.id;
    new.schedule.after = vec![Dependency { run, success: true }; AFTER_MAX + 1];
    let refused = desk.queue().submit(&[fixture::new("a"), new]).await.expect("asked");
    assert!(matches!(refused, Submitted::TooMany { index: 1, .. }), "{refused:?}");
    let batch: Vec<NewSubmission> = (0..=BATCH_MAX).map(|_| fixture::new("a")).collect();
    let refused = desk.queue().submit(&batch).await.expect("asked");
    assert!(matches!(refused, Submitted::TooMany { index: BATCH_MAX, .. }), "{refused:?}");
    assert_eq!(desk.rows().await, 0);
}

async fn who_waits_is_woken_by_what_is_queued(on: On) {
    let desk = Desk::new(&on).await;
    // Made before the submission: it misses nothing. The slow look alone would take a second each.
    let begun = std::time::Instant::now();
    for _ in 0..20 {
        let wait = desk.queue().wait();
        desk.one("a").await;
        wait.await.expect("waited");
    }
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert_eq!(desk.claim(20).await.len(), 20);
    // With nothing queued it ends all the same.
    desk.queue().wait().await.expect("waited");
}

async fn a_sweep_of_local_runs_leaves_the_queue_alone(on: On) {
    let desk = Desk::new(&on).await;
    desk.one("a").await;
    let nobody = crate::record::fixture::owner();
    let worker = fixture::worker("gone", &nobody);
    assert_eq!(desk.queue().claim(&worker, 1).await.expect("asked").len(), 1);
    assert_eq!(desk.place.store.orphans().await.expect("read"), []);
}

async fn pages_show_what_is_asked_for_newest_first(on: On) {
    let desk = Desk::new(&on).await;
    let mut labelled = fixture::new("a");
    labelled.run.labels = vec![("x".to_owned(), r#"["team","core"]"#.to_owned())];
    let mut ids = desk.submit(&[fixture::new("a"), fixture::new("b"), labelled]).await;
    // The order of ids that were made in one millisecond is theirs.
    ids.sort();
    let local = crate::record::fixture::new_run(&desk.worker.owner);
    desk.place.store.insert(&local).await.expect("inserted");
    let of = |filter: PageFilter| {
        let store = desk.place.store.clone();
        async move {
            let page = store.page(&filter, 2).await.expect("read");
            page.into_iter().map(|it| (it.run.id, it.project)).collect::<Vec<_>>()
        }
    };
    let all = of(PageFilter::default()).await;
    assert_eq!(all[0], (local.id, None));
    let rest = of(PageFilter { before: Some(all[1].0), ..PageFilter::default() }).await;
    assert_eq!(rest.iter().map(|it| it.0).collect::<Vec<_>>(), [ids[1], ids[0]]);
    let project = PageFilter { project: Some("b".to_owned()), ..PageFilter::default() };
    let found = of(project.clone()).await;
    assert_eq!(found.len(), 1);
    assert_eq!(desk.place.store.project_of(found[0].0).await.expect("read").as_deref(), Some("b"));
    assert_eq!(of(PageFilter { state: Some(RunState::Queued), ..project.clone() }).await, found);
    assert_eq!(of(PageFilter { state: Some(RunState::Done), ..project.clone() }).await, []);
    let leased = PageFilter { state: Some(RunState::Leased), ..PageFilter::default() };
    assert_eq!(of(leased).await, [(local.id, None)]);
    let team = Some(("team".to_owned(), "core".to_owned()));
    let labelled = PageFilter { label: team, project: Some("a".to_owned()), ..PageFilter::default() };
    assert_eq!(of(labelled).await.len(), 1, "a text that looks like a label is none");
}

fn wall_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_millis()).expect("small")
}
