//! What the record port promises, held against a real database.

use crate::record::egress::{Entry, Reason, RequestEntry, Verdict};
use crate::record::fixture::{CREATED_MS, end, image, new_run, owner, slot};
use crate::record::{Event, EventKind, Fence, Found, NewRun, Record, Run, RunFilter, Transition};
use crate::store::database::{Durability, sql};
use crate::store::place::{On, Place, on_both};
use crate::store::{OwnerLock, Store};
use crate::task::outcome::LostReason;
use crate::task::run_id::RunSelector;
use crate::task::{Outcome, RunId, RunState};

on_both! {
    only_the_steps_of_the_state_machine_are_taken,
    a_whole_run_is_read_back_exactly,
    a_run_without_an_owner_waits_to_be_leased_and_is_nobodys_orphan,
    a_run_without_a_bound_sandbox_is_not_released,
    a_container_is_bound_once,
    an_old_epoch_changes_nothing,
    a_queued_run_is_leased_once,
    sixteen_writers_record_one_outcome,
    sixteen_stores_walk_their_runs_side_by_side,
    a_list_is_newest_first_and_bounded,
    twelve_digits_find_a_run_and_two_of_the_same_are_told,
    retention_forgets_ended_runs_with_all_they_left,
    the_database_refuses_to_change_an_event,
    the_database_refuses_to_drop_an_event_of_a_kept_run,
    the_database_refuses_to_change_an_outcome,
    the_database_refuses_an_unknown_outcome,
    the_database_refuses_to_run_what_has_no_sandbox,
    the_database_refuses_an_end_without_an_outcome,
    a_ledger_is_read_back_as_it_was_kept_and_goes_with_its_run,
}

impl Place {
    async fn inserted(&self) -> (NewRun, Fence) {
        let run = new_run(&owner());
        let fence = self.store.insert(&run).await.expect("inserted");
        (run, fence)
    }

    /// A run that was walked to this state.
    async fn at(&self, state: RunState) -> Fence {
        let (_, fence) = self.inserted().await;
        for next in RunState::ALL.into_iter().filter(|it| *it > RunState::Leased && *it <= state) {
            assert_eq!(step(&self.store, fence, next).await, Transition::Applied);
        }
        fence
    }

    async fn load(&self, id: RunId) -> Run {
        match self.store.find(&RunSelector::Id(id)).await.expect("read") {
            Found::Run(run) => *run,
            Found::Nothing | Found::Ambiguous(_) => panic!("one run has this id"),
        }
    }

    async fn kinds(&self, id: RunId) -> Vec<EventKind> {
        let events: Vec<Event> = self.store.events(id).await.expect("read");
        events.into_iter().map(|it| it.kind).collect()
    }
}

/// The step that leads into a state; into `running` with the binding before it.
async fn step(store: &Store, fence: Fence, into: RunState) -> Transition {
    let at_ms = CREATED_MS + 5;
    match into {
        RunState::Queued => store.requeue(fence, &Outcome::OutOfMemory, at_ms).await,
        RunState::Leased => panic!("a lease has another answer"),
        RunState::Starting => store.start(fence, &image(), at_ms).await,
        RunState::Running => {
            // The number of the container is unique to the run, as the engine's id is.
            let number = u32::from_str_radix(&fence.run.short()[4..], 16).expect("hexadecimal");
            let _ = store.bind(fence, &slot(number), at_ms).await.expect("asked");
            store.release(fence, r#"{"checks":1}"#, at_ms).await
        }
        RunState::Finishing => store.finishing(fence, at_ms).await,
        RunState::Done => store.finish(fence, &end(Outcome::Exited(0)), None, at_ms).await,
    }
    .expect("asked")
}

async fn check_step(on: &On, from: RunState, into: RunState, expected: Transition) {
    let place = Place::new(on).await;
    let fence = place.at(from).await;
    let before = place.kinds(fence.run).await;
    assert_eq!(step(&place.store, fence, into).await, expected, "{from:?} to {into:?}");
    let after = place.kinds(fence.run).await;
    match expected {
        Transition::Applied => assert_eq!(place.load(fence.run).await.state, into),
        Transition::Superseded => assert_eq!(place.load(fence.run).await.state, from),
    }
    assert_eq!(
        after.len() > before.len(),
        expected == Transition::Applied,
        "{from:?} to {into:?} left {after:?}"
    );
}

async fn only_the_steps_of_the_state_machine_are_taken(on: On) {
    for from in RunState::ALL.into_iter().filter(|it| *it != RunState::Queued) {
        for into in RunState::ALL.into_iter().filter(|it| *it != RunState::Leased) {
            // The walk to `running` binds too; from `starting` alone it is one step of the machine.
            let expected = if from.can_become(into) { Transition::Applied } else { Transition::Superseded };
            check_step(&on, from, into, expected).await;
        }
    }
}

async fn a_whole_run_is_read_back_exactly(on: On) {
    let place = Place::new(&on).await;
    let (new, fence) = place.inserted().await;
    for state in [RunState::Starting, RunState::Running, RunState::Finishing, RunState::Done] {
        assert_eq!(step(&place.store, fence, state).await, Transition::Applied);
    }
    let run = place.load(new.id).await;
    assert_eq!((run.name, run.labels, run.task, run.policy), (new.name, new.labels, new.task, new.policy));
    assert_eq!((run.limits, run.owner, run.image), (new.limits, new.owner, Some(image())));
    assert_eq!(run.attestation.as_deref(), Some(r#"{"checks":1}"#));
    assert_eq!(run.end, Some(end(Outcome::Exited(0))));
    assert_eq!(
        place.kinds(new.id).await,
        [
            EventKind::Queued,
            EventKind::Leased,
            EventKind::Starting,
            EventKind::Bound,
            EventKind::Running,
            EventKind::Finishing,
            EventKind::Done
        ]
    );
}

async fn a_run_without_an_owner_waits_to_be_leased_and_is_nobodys_orphan(on: On) {
    let place = Place::new(&on).await;
    let run = NewRun { owner: None, ..new_run(&owner()) };
    let fence = place.store.insert(&run).await.expect("inserted");
    assert_eq!((fence.attempt, fence.epoch), (0, 0));
    assert_eq!(place.load(run.id).await.state, RunState::Queued);
    assert_eq!(place.store.orphans().await.expect("read"), []);
    let fence = place.store.lease(run.id, &owner(), CREATED_MS).await.expect("asked").expect("leased");
    assert_eq!((fence.attempt, fence.epoch), (1, 1));
}

async fn a_run_without_a_bound_sandbox_is_not_released(on: On) {
    let place = Place::new(&on).await;
    let fence = place.at(RunState::Starting).await;
    assert_eq!(place.store.release(fence, "{}", CREATED_MS).await.expect("asked"), Transition::Superseded);
}

async fn a_container_is_bound_once(on: On) {
    let place = Place::new(&on).await;
    let (first, second) = (place.at(RunState::Starting).await, place.at(RunState::Starting).await);
    assert_eq!(place.store.bind(first, &slot(1), CREATED_MS).await.expect("asked"), Transition::Applied);
    assert_eq!(place.store.bind(first, &slot(2), CREATED_MS).await.expect("asked"), Transition::Superseded);
    assert!(place.store.bind(second, &slot(1), CREATED_MS).await.is_err());
}

async fn an_old_epoch_changes_nothing(on: On) {
    let place = Place::new(&on).await;
    let old = place.at(RunState::Running).await;
    assert_eq!(step(&place.store, old, RunState::Queued).await, Transition::Applied);
    let new = place.store.lease(old.run, &owner(), CREATED_MS).await.expect("asked").expect("leased");
    assert_eq!((new.attempt, new.epoch), (2, 3));
    for into in [RunState::Starting, RunState::Finishing, RunState::Done] {
        assert_eq!(step(&place.store, old, into).await, Transition::Superseded);
    }
    assert_eq!(step(&place.store, new, RunState::Starting).await, Transition::Applied);
}

async fn a_queued_run_is_leased_once(on: On) {
    let place = Place::new(&on).await;
    let fence = place.at(RunState::Leased).await;
    assert_eq!(place.store.lease(fence.run, &owner(), CREATED_MS).await.expect("asked"), None);
    assert_eq!(step(&place.store, fence, RunState::Queued).await, Transition::Applied);
    let owner = owner();
    let (first, second) = tokio::join!(
        place.store.lease(fence.run, &owner, CREATED_MS),
        place.store.lease(fence.run, &owner, CREATED_MS)
    );
    let won = [first.expect("asked"), second.expect("asked")].iter().flatten().count();
    assert_eq!(won, 1);
}

async fn sixteen_writers_record_one_outcome(on: On) {
    let place = Place::new(&on).await;
    let fence = place.at(RunState::Running).await;
    let mut writers = tokio::task::JoinSet::new();
    for code in 0..16 {
        let opener = place.opener();
        writers.spawn(async move {
            let store = opener.await;
            store.finish(fence, &end(Outcome::Exited(code)), None, CREATED_MS).await.expect("asked")
        });
    }
    let won = writers.join_all().await.into_iter().filter(|it| *it == Transition::Applied).count();
    assert_eq!(won, 1);
    assert_eq!(place.kinds(fence.run).await.into_iter().filter(|it| *it == EventKind::Done).count(), 1);
}

async fn sixteen_stores_walk_their_runs_side_by_side(on: On) {
    let place = Place::new(&on).await;
    let mut owners = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let opener = place.opener();
        owners.spawn(async move {
            let store = opener.await;
            for _ in 0..5 {
                let fence = store.insert(&new_run(&owner())).await.expect("inserted");
                for into in [RunState::Starting, RunState::Running, RunState::Finishing, RunState::Done] {
                    assert_eq!(step(&store, fence, into).await, Transition::Applied);
                }
            }
        });
    }
    owners.join_all().await;
    let runs = place.store.list(RunFilter::All, 1000).await.expect("read");
    assert_eq!(runs.iter().filter(|it| it.state == RunState::Done).count(), 80);
}

async fn a_list_is_newest_first_and_bounded(on: On) {
    let place = Place::new(&on).await;
    let ids = [
        place.at(RunState::Done).await.run,
        place.at(RunState::Leased).await.run,
        place.at(RunState::Done).await.run,
    ];
    let all = place.store.list(RunFilter::All, 2).await.expect("read");
    assert_eq!(all.iter().map(|it| it.id).collect::<Vec<_>>(), [ids[2], ids[1]]);
    let active = place.store.list(RunFilter::Active, 10).await.expect("read");
    assert_eq!(active.iter().map(|it| it.id).collect::<Vec<_>>(), [ids[1]]);
}

async fn twelve_digits_find_a_run_and_two_of_the_same_are_told(on: On) {
    let place = Place::new(&on).await;
    let mut run = new_run(&owner());
    run.id = "01912345-6789-7abc-8def-0123456789ab".parse().expect("an id");
    place.store.insert(&run).await.expect("inserted");
    let selector = "0123456789AB".parse().expect("a selector");
    assert!(
        matches!(place.store.find(&selector).await.expect("read"), Found::Run(found) if found.id == run.id)
    );
    let first = run.id;
    run.id = "01912345-6789-7abc-8fff-0123456789ab".parse().expect("an id");
    place.store.insert(&run).await.expect("inserted");
    assert_eq!(place.store.find(&selector).await.expect("read"), Found::Ambiguous(vec![run.id, first]));
    let other = "ffffffffffff".parse().expect("a selector");
    assert_eq!(place.store.find(&other).await.expect("read"), Found::Nothing);
}

#[tokio::test]
async fn a_run_whose_owner_is_gone_is_an_orphan_and_ends_lost() {
    let place = Place::new(&On::Sqlite).await;
    let alive = OwnerLock::acquire(place.directory.path()).expect("a lock");
    place.store.insert(&new_run(alive.owner())).await.expect("inserted");
    let left = place.at(RunState::Running).await;
    place.at(RunState::Done).await;
    let orphans = place.store.orphans().await.expect("read");
    assert_eq!(orphans.iter().map(|it| it.fence).collect::<Vec<_>>(), [left]);
    let lost = end(Outcome::Lost { reason: LostReason::Owner });
    assert_eq!(place.store.finish(left, &lost, None, CREATED_MS).await.expect("asked"), Transition::Applied);
    assert_eq!(step(&place.store, left, RunState::Done).await, Transition::Superseded);
}

async fn retention_forgets_ended_runs_with_all_they_left(on: On) {
    let place = Place::new(&on).await;
    let (ended, active) = (place.at(RunState::Done).await.run, place.at(RunState::Running).await.run);
    assert_eq!(place.store.ended_before(CREATED_MS + 5, 10).await.expect("read"), []);
    assert_eq!(place.store.ended_before(CREATED_MS + 6, 10).await.expect("read"), [ended]);
    assert_eq!(place.store.forget(ended).await.expect("asked"), Transition::Applied);
    assert_eq!(place.store.forget(active).await.expect("asked"), Transition::Superseded);
    assert_eq!(place.kinds(ended).await, []);
}

#[tokio::test]
async fn a_database_that_stays_locked_is_told_after_the_wait() {
    let place = Place::new(&On::Sqlite).await;
    let holder = place.another().await;
    let held = holder.books.begin(Durability::Crash).await.expect("held");
    let refusal = place.store.insert(&new_run(&owner())).await.expect_err("refused").to_string();
    assert!(refusal.ends_with("stayed locked by another process for 20 s: try again"), "{refusal}");
    held.rollback().await.expect("let go");
    place.store.insert(&new_run(&owner())).await.expect("inserted");
}

/// A statement that the database itself must refuse.
async fn check_forbidden(on: &On, statement: &'static str, reason: &str) {
    let place = Place::new(on).await;
    place.at(RunState::Done).await;
    place.at(RunState::Starting).await;
    let mut tx = place.store.books.begin(Durability::Crash).await.expect("begun");
    let refusal = tx.execute(sql(statement)).await.expect_err("refused");
    let refusal = std::error::Error::source(&refusal).expect("a cause").to_string();
    assert!(refusal.to_lowercase().contains(reason), "{refusal}");
}

async fn the_database_refuses_to_change_an_event(on: On) {
    check_forbidden(&on, "UPDATE events SET kind = 'done'", "events are never changed").await;
}

async fn the_database_refuses_to_drop_an_event_of_a_kept_run(on: On) {
    check_forbidden(&on, "DELETE FROM events", "events go only with their run").await;
}

async fn the_database_refuses_to_change_an_outcome(on: On) {
    check_forbidden(
        &on,
        "UPDATE runs SET outcome = 'lost' WHERE state = 'done'",
        "an outcome is never changed",
    )
    .await;
}

async fn the_database_refuses_an_unknown_outcome(on: On) {
    check_forbidden(&on, "UPDATE runs SET outcome = 'vanished' WHERE state <> 'done'", "check").await;
}

async fn the_database_refuses_to_run_what_has_no_sandbox(on: On) {
    check_forbidden(&on, "UPDATE runs SET state = 'running' WHERE state = 'starting'", "check").await;
}

async fn the_database_refuses_an_end_without_an_outcome(on: On) {
    check_forbidden(&on, "UPDATE runs SET state = 'done' WHERE state = 'starting'", "check").await;
}

/// Entries of every kind.
fn entries() -> Vec<Entry> {
    let entry = |verdict| Entry {
        at_ms: CREATED_MS,
        name: "api.example.org".to_owned(),
        port: Some(443),
        address: Some([203, 0, 113, 10].into()),
        rule: Some("api.example.org:443".to_owned()),
        verdict,
        bytes_up: 517,
        bytes_down: 1 << 40,
        duration_ms: 12,
        request: None,
    };
    let mut entries: Vec<Entry> = Verdict::ALL.into_iter().map(entry).collect();
    entries.push(Entry { port: None, address: None, rule: None, ..entry(Verdict::Denied(Reason::Name)) });
    let request = RequestEntry {
        method: "POST".to_owned(),
        path: "/v1/messages".to_owned(),
        status: Some(200),
        credential: Some("model".to_owned()),
    };
    entries.push(Entry { request: Some(request), ..entry(Verdict::Allowed) });
    entries
}

async fn a_ledger_is_read_back_as_it_was_kept_and_goes_with_its_run(on: On) {
    let place = Place::new(&on).await;
    let fence = place.at(RunState::Done).await;
    let (first, second) = (entries(), entries());
    place.store.keep_egress(fence.run, &first).await.expect("kept");
    place.store.keep_egress(fence.run, &second).await.expect("kept");
    let kept = place.store.egress(fence.run).await.expect("read");
    assert_eq!(kept, [first, second].concat());
    assert_eq!(place.store.forget(fence.run).await.expect("asked"), Transition::Applied);
    assert_eq!(place.store.egress(fence.run).await.expect("read"), []);
}
