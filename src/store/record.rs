//! The record port: which verb is which step or look.

mod egress;
mod looks;
mod page;
mod retention;
pub(crate) mod steps;

use crate::record::egress::Entry;
use crate::record::{
    End, Event, Fence, Found, Image, NewRun, Orphan, Owner, Pending, Record, RunBrief, RunFilter, Slot,
    Transition,
};
use crate::store::Store;
use crate::task::run_id::RunSelector;
use crate::task::{Outcome, RunId};

impl Record for Store {
    fn insert<'a>(&'a self, run: &'a NewRun) -> Pending<'a, Fence> {
        Box::pin(self.books.step_insert(run))
    }

    fn start<'a>(&'a self, fence: Fence, image: &'a Image, at_ms: i64) -> Pending<'a, Transition> {
        Box::pin(self.books.step_start(fence, image, at_ms))
    }

    fn bind<'a>(&'a self, fence: Fence, slot: &'a Slot, at_ms: i64) -> Pending<'a, Transition> {
        Box::pin(self.books.step_bind(fence, slot, at_ms))
    }

    fn release<'a>(&'a self, fence: Fence, attestation: &'a str, at_ms: i64) -> Pending<'a, Transition> {
        Box::pin(self.books.step_release(fence, attestation, at_ms))
    }

    fn finishing(&self, fence: Fence, at_ms: i64) -> Pending<'_, Transition> {
        Box::pin(self.books.step_finishing(fence, at_ms))
    }

    fn finish<'a>(
        &'a self,
        fence: Fence,
        end: &'a End,
        attestation: Option<&'a str>,
        at_ms: i64,
    ) -> Pending<'a, Transition> {
        Box::pin(self.books.step_finish(fence, end, attestation, at_ms))
    }

    fn requeue<'a>(&'a self, fence: Fence, because: &'a Outcome, at_ms: i64) -> Pending<'a, Transition> {
        Box::pin(self.books.step_requeue(fence, because, at_ms))
    }

    fn lease<'a>(&'a self, run: RunId, owner: &'a Owner, at_ms: i64) -> Pending<'a, Option<Fence>> {
        Box::pin(self.books.step_lease(run, owner, at_ms))
    }

    fn find<'a>(&'a self, selector: &'a RunSelector) -> Pending<'a, Found> {
        Box::pin(self.books.look_find(selector))
    }

    fn list(&self, filter: RunFilter, count_max: u32) -> Pending<'_, Vec<RunBrief>> {
        Box::pin(self.books.look_list(filter, count_max))
    }

    fn events(&self, run: RunId) -> Pending<'_, Vec<Event>> {
        Box::pin(self.books.look_events(run))
    }

    fn keep_egress<'a>(&'a self, run: RunId, entries: &'a [Entry]) -> Pending<'a, ()> {
        Box::pin(self.books.step_keep_egress(run, entries))
    }

    fn egress(&self, run: RunId) -> Pending<'_, Vec<Entry>> {
        Box::pin(self.books.look_egress(run))
    }

    fn orphans(&self) -> Pending<'_, Vec<Orphan>> {
        Box::pin(self.books.look_orphans())
    }

    fn ended_before(&self, time_ms: i64, count_max: u32) -> Pending<'_, Vec<RunId>> {
        Box::pin(self.books.look_ended_before(time_ms, count_max))
    }

    fn forget(&self, run: RunId) -> Pending<'_, Transition> {
        Box::pin(self.books.step_forget(run))
    }
}
