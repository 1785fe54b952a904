//! The queue against a plain model of it: whatever is asked in whatever order, both say the same.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::queue::retry::{self, Class, Next, Tries};
use crate::queue::{
    CancelAnswer, Concurrency, Dependency, NewSubmission, Queue, Reached, Settled, Submitted, fixture,
};
use crate::record::{End, Fence};
use crate::store::database::sql;
use crate::store::place::On;
use crate::store::queue::tests::{Desk, wall_ms};
use crate::task::outcome::{LostReason, StartFailure};
use crate::task::{Cancellation, Outcome, RunId};

const MINUTE_MS: i64 = 60_000;
const LEASE_MS: i64 = 15_000;
const SEEN_MS: i64 = 30_000;

#[derive(Debug, Clone)]
enum Step {
    Submit(Vec<Asked>),
    Claim { worker: usize, count: u32 },
    Release(usize),
    Renew,
    Settle { nth: usize, how: usize },
    SettleStale(usize),
    Cancel(usize),
    GiveBack(usize),
    Expire,
    Pass { minutes: i64 },
}

#[derive(Debug, Clone)]
struct Asked {
    project: usize,
    priority: i16,
    key: Option<(usize, u32)>,
    delay: Option<i64>,
    deadline: Option<i64>,
    after: Vec<(usize, bool)>,
    idempotent: bool,
    failure_retries: u32,
}

#[derive(Debug, Clone, PartialEq)]
enum Stage {
    Blocked,
    Delayed,
    Held,
    Ready,
    Leased { worker: usize, until: i64, released: bool, cancel: bool },
    Done(Outcome),
}

#[derive(Debug, Clone)]
struct Modelled {
    new: NewSubmission,
    stage: Stage,
    not_before: Option<i64>,
    after: Vec<(usize, bool)>,
    losses: u32,
    failures: u32,
    excluded: Option<usize>,
    fence: Fence,
}

#[derive(Debug, Default)]
struct Model {
    now: i64,
    runs: Vec<Modelled>,
    served: BTreeMap<String, i64>,
    seen: [Option<i64>; 2],
}

fn asked() -> impl Strategy<Value = Asked> {
    let place = (0usize..2, -1i16..=1, proptest::option::of((0usize..2, 1u32..3)));
    let times = (proptest::option::weighted(0.2, 1i64..120), proptest::option::weighted(0.2, 1i64..240));
    let after = proptest::collection::vec((any::<usize>(), any::<bool>()), 0..2);
    (place, times, after, any::<bool>(), 0u32..2).prop_map(
        |(place, times, after, idempotent, failure_retries)| {
            let ((project, priority, key), (delay, deadline)) = (place, times);
            Asked { project, priority, key, delay, deadline, after, idempotent, failure_retries }
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => proptest::collection::vec(asked(), 1..4).prop_map(Step::Submit),
        5 => (0usize..2, 1u32..4).prop_map(|(worker, count)| Step::Claim { worker, count }),
        3 => any::<usize>().prop_map(Step::Release),
        1 => Just(Step::Renew),
        4 => (any::<usize>(), 0usize..4).prop_map(|(nth, how)| Step::Settle { nth, how }),
        1 => any::<usize>().prop_map(Step::SettleStale),
        1 => any::<usize>().prop_map(Step::Cancel),
        1 => any::<usize>().prop_map(Step::GiveBack),
        2 => Just(Step::Expire),
        2 => (0i64..60).prop_map(|minutes| Step::Pass { minutes }),
    ]
}

fn outcome(how: usize) -> Outcome {
    match how {
        0 => Outcome::Exited(0),
        1 => Outcome::Exited(1),
        2 => Outcome::Lost { reason: LostReason::InitDied },
        _ => Outcome::StartFailed { reason: StartFailure::Infrastructure { message: "no space".to_owned() } },
    }
}

impl Model {
    fn leased(&self) -> Vec<usize> {
        (0..self.runs.len()).filter(|it| matches!(self.runs[*it].stage, Stage::Leased { .. })).collect()
    }

    fn nth_leased(&self, nth: usize) -> Option<usize> {
        let leased = self.leased();
        (!leased.is_empty()).then(|| leased[nth % leased.len()])
    }

    fn submit(&mut self, asked: &[Asked]) -> Vec<NewSubmission> {
        let known = self.runs.len();
        let mut batch = Vec::new();
        for one in asked {
            let mut new = fixture::new(["a", "b"][one.project]);
            new.schedule.priority = one.priority;
            new.schedule.concurrency =
                one.key.map(|(key, limit)| Concurrency { key: ["k", "l"][key].to_owned(), limit });
            new.schedule.not_before_ms = one.delay.map(|it| self.now + it * MINUTE_MS);
            new.schedule.deadline_ms = one.deadline.map(|it| self.now + it * MINUTE_MS);
            new.schedule.idempotent = one.idempotent;
            new.schedule.failure_retries = one.failure_retries;
            new.schedule.attempts_max = 2;
            let mut after: Vec<(usize, bool)> = Vec::new();
            for (nth, success) in &one.after {
                let same: Vec<usize> =
                    (0..known).filter(|it| self.runs[*it].new.project == new.project).collect();
                if !same.is_empty() {
                    after.push((same[nth % same.len()], *success));
                }
            }
            new.schedule.after = after
                .iter()
                .map(|(at, success)| Dependency { run: self.runs[*at].new.run.id, success: *success })
                .collect();
            self.served.entry(new.project.clone()).or_insert(0);
            self.runs.push(Modelled {
                stage: Stage::Blocked,
                not_before: new.schedule.not_before_ms,
                after,
                losses: 0,
                failures: 0,
                excluded: None,
                fence: Fence { run: new.run.id, epoch: 0, attempt: 0 },
                new: new.clone(),
            });
            batch.push(new);
        }
        for at in known..self.runs.len() {
            self.unblock(at);
        }
        self.turns();
        batch
    }

    /// Where a run stands that waits for others, by what became of them.
    fn unblock(&mut self, at: usize) {
        if self.runs[at].stage != Stage::Blocked {
            return;
        }
        let mut open = false;
        for (parent, success) in self.runs[at].after.clone() {
            match &self.runs[parent].stage {
                Stage::Done(outcome) if success && *outcome != Outcome::Exited(0) => {
                    return self.end(at, Outcome::Cancelled(Cancellation::Dependency));
                }
                Stage::Done(_) => {}
                _ => open = true,
            }
        }
        if !open {
            self.wait(at);
        }
    }

    fn wait(&mut self, at: usize) {
        let run = &mut self.runs[at];
        run.stage = match run.not_before {
            Some(it) if it > self.now => Stage::Delayed,
            _ if run.new.schedule.concurrency.is_some() => Stage::Held,
            _ => Stage::Ready,
        };
    }

    fn end(&mut self, at: usize, outcome: Outcome) {
        self.runs[at].stage = Stage::Done(outcome);
        for child in 0..self.runs.len() {
            if self.runs[child].after.iter().any(|it| it.0 == at) {
                self.unblock(child);
            }
        }
    }

    /// Of each key as many are ready as its lowest limit leaves room for.
    fn turns(&mut self) {
        let mut keys: BTreeMap<(String, String), Vec<usize>> = BTreeMap::new();
        for (at, run) in self.runs.iter().enumerate() {
            let takes_part = matches!(run.stage, Stage::Held | Stage::Ready | Stage::Leased { .. });
            if let Some(it) = run.new.schedule.concurrency.as_ref().filter(|_| takes_part) {
                keys.entry((run.new.project.clone(), it.key.clone())).or_default().push(at);
            }
        }
        for members in keys.into_values() {
            let limit =
                |at: &usize| self.runs[*at].new.schedule.concurrency.as_ref().map_or(1, |it| it.limit);
            let limit = members.iter().map(limit).min().unwrap_or(1) as usize;
            let (leased, mut waiting): (Vec<usize>, Vec<usize>) =
                members.into_iter().partition(|it| matches!(self.runs[*it].stage, Stage::Leased { .. }));
            waiting.sort_by_key(|it| (-self.runs[*it].new.schedule.priority, *it));
            for (place, at) in waiting.into_iter().enumerate() {
                let has_room = place < limit.saturating_sub(leased.len());
                self.runs[at].stage = if has_room { Stage::Ready } else { Stage::Held };
            }
        }
    }

    fn promote(&mut self) {
        for at in 0..self.runs.len() {
            if self.runs[at].stage == Stage::Delayed
                && self.runs[at].not_before.is_some_and(|it| it <= self.now)
            {
                self.runs[at].not_before = None;
                self.wait(at);
            }
        }
        self.turns();
    }

    fn claim(&mut self, worker: usize, count: u32) -> Vec<Fence> {
        self.promote();
        if !self.runs.iter().any(|it| it.stage == Stage::Ready) {
            return Vec::new();
        }
        let alone = self.seen[1 - worker].is_none_or(|it| it + SEEN_MS < self.now);
        let mut claimed = Vec::new();
        while claimed.len() < count as usize {
            let mine = |it: &Modelled| {
                it.stage == Stage::Ready
                    && (alone || it.excluded != Some(worker))
                    && it.new.schedule.deadline_ms.is_none_or(|it| it > self.now)
            };
            let running = |project: &str| {
                let of =
                    |it: &&Modelled| it.new.project == project && matches!(it.stage, Stage::Leased { .. });
                self.runs.iter().filter(of).count()
            };
            let projects = self.runs.iter().filter(|it| mine(it)).map(|it| it.new.project.clone());
            let Some(project) = projects.min_by_key(|it| (running(it), self.served[it], it.clone())) else {
                break;
            };
            let first = (0..self.runs.len())
                .filter(|it| mine(&self.runs[*it]) && self.runs[*it].new.project == project)
                .min_by_key(|it| (-self.runs[*it].new.schedule.priority, *it))
                .expect("one is there");
            let served = self.served.values().max().copied().unwrap_or(0) + 1;
            self.served.insert(project, served);
            let until = self.now + LEASE_MS;
            let run = &mut self.runs[first];
            run.stage = Stage::Leased { worker, until, released: false, cancel: false };
            run.excluded = None;
            run.fence.epoch += 1;
            run.fence.attempt += 1;
            claimed.push(run.fence);
        }
        if !claimed.is_empty() {
            self.seen[worker] = Some(self.now);
        }
        claimed
    }

    /// What becomes of a leased run whose attempt ended so; the time of a next attempt is the queue's to choose.
    fn settle(
        &mut self,
        at: usize,
        reached: Reached,
        outcome: Outcome,
        told: Settled,
    ) -> Result<(), TestCaseError> {
        let run = &self.runs[at];
        let Stage::Leased { worker, cancel, .. } = run.stage else {
            prop_assert_eq!(told, Settled::Superseded);
            return Ok(());
        };
        let schedule = &run.new.schedule;
        let tries = Tries {
            idempotent: schedule.idempotent,
            attempts_max: schedule.attempts_max,
            losses: run.losses,
            failure_retries: schedule.failure_retries,
            failures: run.failures,
        };
        match retry::next(&outcome, reached, tries) {
            Next::Again(_) if cancel => {
                prop_assert_eq!(told, Settled::Done);
                self.end(at, Outcome::Cancelled(Cancellation::Command));
            }
            Next::Again(class) => {
                let Settled::Again { not_before_ms } = told else {
                    return Err(TestCaseError::fail(format!("{told:?} and not again")));
                };
                let wait = not_before_ms - self.now;
                prop_assert!((900..310_000).contains(&wait), "a wait of {} ms", wait);
                let run = &mut self.runs[at];
                match class {
                    Class::Lost => run.losses += 1,
                    Class::Failed => run.failures += 1,
                }
                run.excluded = (class == Class::Lost).then_some(worker);
                run.not_before = Some(not_before_ms);
                run.fence.epoch += 1;
                run.stage = Stage::Delayed;
            }
            Next::Done | Next::GivenUp => {
                prop_assert_eq!(told, Settled::Done);
                self.end(at, outcome);
            }
        }
        self.turns();
        Ok(())
    }
}

/// Model and queue, side by side.
struct Both {
    desk: Desk,
    model: Model,
}

impl Both {
    async fn new(on: &On) -> Self {
        let model = Model { now: wall_ms(), ..Model::default() };
        Self { desk: Desk::new(on).await, model }
    }

    async fn take(&mut self, step: &Step) -> Result<(), TestCaseError> {
        self.desk.place.stand_at(self.model.now);
        let queue = &self.desk.place.store;
        match step {
            Step::Submit(asked) => {
                let batch = self.model.submit(asked);
                let told = queue.submit(&batch).await.expect("asked");
                let expected = batch.iter().map(|it| (it.run.id, true)).collect();
                prop_assert_eq!(told, Submitted::Accepted(expected));
            }
            Step::Claim { worker, count } => {
                let mut who = self.desk.worker.clone();
                who.name = format!("w{worker}");
                let told = queue.claim(&who, *count).await.expect("asked");
                let told: Vec<Fence> = told.into_iter().map(|it| it.fence).collect();
                prop_assert_eq!(told, self.model.claim(*worker, *count));
            }
            Step::Release(nth) => {
                let Some(at) = self.model.nth_leased(*nth) else { return Ok(()) };
                let Stage::Leased { released, .. } = &mut self.model.runs[at].stage else { return Ok(()) };
                if !*released {
                    *released = true;
                    self.desk.release(self.model.runs[at].fence).await;
                }
            }
            Step::Renew => {
                let leased = self.model.leased();
                let fences: Vec<Fence> = leased.iter().map(|it| self.model.runs[*it].fence).collect();
                let told = queue.renew(&fences).await.expect("asked");
                prop_assert_eq!((told.held.len(), told.lost.len()), (fences.len(), 0));
                let mut first: Option<(RunId, usize)> = None;
                for at in leased {
                    let now = self.model.now;
                    let run = &mut self.model.runs[at];
                    let Stage::Leased { worker, until, .. } = &mut run.stage else { continue };
                    *until = now + LEASE_MS;
                    first =
                        Some(first.map_or((run.fence.run, *worker), |it| it.min((run.fence.run, *worker))));
                }
                if let Some((_, worker)) = first {
                    self.model.seen[worker] = Some(self.model.now);
                }
            }
            Step::Settle { nth, how } => {
                let Some(at) = self.model.nth_leased(*nth) else { return Ok(()) };
                let Stage::Leased { released, .. } = self.model.runs[at].stage else { return Ok(()) };
                let reached = if released { Reached::Released } else { Reached::Unreleased };
                let end = End::bare(outcome(*how));
                let told = queue.settle(self.model.runs[at].fence, reached, &end, None).await.expect("asked");
                self.model.settle(at, reached, end.outcome, told)?;
            }
            Step::SettleStale(nth) => {
                let Some(at) = self.model.nth_leased(*nth) else { return Ok(()) };
                let fence = self.model.runs[at].fence;
                let stale = Fence { epoch: fence.epoch - 1, ..fence };
                let end = End::bare(Outcome::Exited(0));
                let told = queue.settle(stale, Reached::Released, &end, None).await.expect("asked");
                prop_assert_eq!(told, Settled::Superseded);
            }
            Step::Cancel(nth) => {
                if self.model.runs.is_empty() {
                    return Ok(());
                }
                let at = nth % self.model.runs.len();
                let told =
                    queue.cancel(self.model.runs[at].fence.run, Cancellation::Command).await.expect("asked");
                let expected = match &mut self.model.runs[at].stage {
                    Stage::Done(_) => CancelAnswer::Over,
                    Stage::Leased { cancel, .. } => {
                        *cancel = true;
                        CancelAnswer::Asked
                    }
                    Stage::Blocked | Stage::Delayed | Stage::Held | Stage::Ready => CancelAnswer::Ended,
                };
                prop_assert_eq!(told, expected);
                if expected == CancelAnswer::Ended {
                    self.model.end(at, Outcome::Cancelled(Cancellation::Command));
                    self.model.turns();
                }
            }
            Step::GiveBack(nth) => {
                let Some(at) = self.model.nth_leased(*nth) else { return Ok(()) };
                queue.give_back(&[self.model.runs[at].fence]).await.expect("asked");
                match self.model.runs[at].stage {
                    Stage::Leased { cancel: true, .. } => {
                        self.model.end(at, Outcome::Cancelled(Cancellation::Command));
                    }
                    Stage::Leased { released: false, .. } => {
                        let run = &mut self.model.runs[at];
                        run.fence.epoch += 1;
                        run.fence.attempt -= 1;
                        run.not_before = None;
                        self.model.wait(at);
                    }
                    _ => {}
                }
                self.model.turns();
            }
            Step::Expire => self.expire().await?,
            Step::Pass { minutes } => self.model.now += minutes * MINUTE_MS,
        }
        self.compare().await
    }

    async fn expire(&mut self) -> Result<(), TestCaseError> {
        self.model.promote();
        let mut dead: Vec<(i64, usize)> = Vec::new();
        for (at, run) in self.model.runs.iter().enumerate() {
            if let Stage::Leased { until, .. } = run.stage
                && until < self.model.now
            {
                dead.push((until, at));
            }
        }
        let told = self.desk.place.store.expire(1_000).await.expect("asked");
        prop_assert_eq!(told.len(), dead.len());
        for one in told {
            let at = dead.iter().map(|it| it.1).find(|it| self.model.runs[*it].fence == one.fence);
            let at = at.ok_or_else(|| TestCaseError::fail("an expiry that the model has not"))?;
            let Stage::Leased { released, .. } = self.model.runs[at].stage else { continue };
            let reached = if released { Reached::Released } else { Reached::Unreleased };
            self.model.settle(at, reached, Outcome::Lost { reason: LostReason::Owner }, one.settled)?;
        }
        for at in 0..self.model.runs.len() {
            let run = &self.model.runs[at];
            let waits = !matches!(run.stage, Stage::Leased { .. } | Stage::Done(_));
            if waits && run.new.schedule.deadline_ms.is_some_and(|it| it <= self.model.now) {
                self.model.end(at, Outcome::Cancelled(Cancellation::Deadline));
            }
        }
        self.model.turns();
        Ok(())
    }

    /// Every run stands where the model has it.
    async fn compare(&self) -> Result<(), TestCaseError> {
        let select =
            sql("SELECT runs.id, coalesce(queue.stage, 'done'), coalesce(runs.outcome, ''), runs.epoch \
             FROM runs LEFT JOIN queue ON queue.run_id = runs.id");
        let rows: Vec<(String, String, String, i64)> =
            self.desk.place.store.books.database.all(select).await.expect("read");
        let found: BTreeMap<String, (String, String, u64)> =
            rows.into_iter().map(|it| (it.0, (it.1, it.2, it.3.unsigned_abs()))).collect();
        prop_assert_eq!(found.len(), self.model.runs.len());
        for run in &self.model.runs {
            let (stage, outcome) = match &run.stage {
                Stage::Blocked => ("blocked", ""),
                Stage::Delayed => ("delayed", ""),
                Stage::Held => ("held", ""),
                Stage::Ready => ("ready", ""),
                Stage::Leased { .. } => ("leased", ""),
                Stage::Done(outcome) => ("done", outcome.name()),
            };
            let expected = (stage.to_owned(), outcome.to_owned(), run.fence.epoch);
            prop_assert_eq!(&found[&run.fence.run.to_string()], &expected, "{}", run.fence.run);
        }
        Ok(())
    }
}

fn check(on: &On, cases: u32) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    let steps = proptest::collection::vec(step(), 1..40);
    let result = TestRunner::new(config).run(&steps, |steps| {
        runtime.block_on(async {
            let mut both = Both::new(on).await;
            for step in &steps {
                both.take(step).await?;
            }
            both.desk.place.store.close().await;
            Ok(())
        })
    });
    if let Err(err) = result {
        panic!("{err}");
    }
}

#[test]
fn the_queue_in_sqlite_does_what_the_model_says() {
    check(&On::Sqlite, 64);
}

#[test]
fn the_queue_in_postgres_does_what_the_model_says() {
    let Some(on) = On::postgres() else { return };
    check(&on, 12);
}
