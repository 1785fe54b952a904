//! The order that the dependencies of a batch allow.

use std::collections::{BTreeMap, BTreeSet};

use crate::queue::NewSubmission;

/// The index of a run that waits for itself, by way of others of the batch or not; `None` where there is none.
pub fn cycle(batch: &[NewSubmission]) -> Option<usize> {
    let places: BTreeMap<_, _> = batch.iter().enumerate().map(|(at, it)| (it.run.id, at)).collect();
    let mut waits: Vec<BTreeSet<usize>> = Vec::with_capacity(batch.len());
    let mut waited_for: Vec<Vec<usize>> = vec![Vec::new(); batch.len()];
    for (at, entry) in batch.iter().enumerate() {
        let inner: BTreeSet<usize> =
            entry.schedule.after.iter().filter_map(|it| places.get(&it.run).copied()).collect();
        for other in &inner {
            waited_for[*other].push(at);
        }
        waits.push(inner);
    }
    let mut free: Vec<usize> = (0..batch.len()).filter(|it| waits[*it].is_empty()).collect();
    let mut left = batch.len();
    while let Some(done) = free.pop() {
        left -= 1;
        for at in std::mem::take(&mut waited_for[done]) {
            waits[at].remove(&done);
            if waits[at].is_empty() {
                free.push(at);
            }
        }
    }
    if left == 0 {
        return None;
    }
    waits.iter().position(|it| !it.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::{Dependency, fixture};

    /// Who waits for whom, by index.
    fn check(edges: &[(usize, usize)], circular: bool) {
        let mut batch: Vec<NewSubmission> = (0..4).map(|_| fixture::new("a")).collect();
        for (from, to) in edges {
            let run = batch[*to].run.id;
            batch[*from].schedule.after.push(Dependency { run, success: true });
        }
        assert_eq!(cycle(&batch).is_some(), circular, "{edges:?}");
    }

    #[test]
    fn a_run_may_wait_for_earlier_and_later_ones() {
        check(&[(0, 3), (1, 3), (2, 0), (2, 1)], false);
    }

    #[test]
    fn a_run_that_waits_for_itself_is_a_circle() {
        check(&[(1, 1)], true);
    }

    #[test]
    fn a_circle_is_found_behind_others() {
        check(&[(0, 1), (1, 2), (2, 3), (3, 1)], true);
    }
}
