//! Whose turn it is: of the projects with something ready, the one with the fewest running runs, then the one that was not
//! served for the longest. Pure, and independent of how much waits.

use std::collections::BTreeMap;

/// What one worker may take as well as another: runs of a project that ask for the same labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    /// As it is stored.
    pub text: String,
    /// Whose runs.
    pub project: String,
    /// Labels that a worker must have.
    pub labels: Vec<(String, String)>,
}

/// What a project has had.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Share {
    /// Runs of it that are leased.
    pub running: u64,
    /// A number that grows with each claim, as of its last one.
    pub served: i64,
    /// Runs at once at the most; `None` without a quota.
    pub running_max: Option<u64>,
}

/// Whether a worker with these labels may take runs of this lane.
pub fn fits(lane: &Lane, offered: &[(String, String)]) -> bool {
    lane.labels.iter().all(|it| offered.contains(it))
}

/// The project that is served next; `None` where each has what it may have.
pub fn next_project<'a>(lanes: &'a [Lane], shares: &BTreeMap<String, Share>) -> Option<&'a str> {
    let mut best: Option<(u64, i64, &str)> = None;
    for lane in lanes {
        let share = shares.get(&lane.project).copied().unwrap_or_default();
        if share.running_max.is_some_and(|max| share.running >= max) {
            continue;
        }
        let this = (share.running, share.served, lane.project.as_str());
        if best.is_none_or(|it| this < it) {
            best = Some(this);
        }
    }
    best.map(|(_, _, project)| project)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(project: &str) -> Lane {
        Lane { text: project.to_owned(), project: project.to_owned(), labels: Vec::new() }
    }

    fn check(shares: &[(&str, u64, i64)], expected: Option<&str>) {
        let lanes: Vec<Lane> = shares.iter().map(|it| lane(it.0)).collect();
        let share = |it: &(&str, u64, i64)| Share { running: it.1, served: it.2, running_max: Some(4) };
        let shares = shares.iter().map(|it| (it.0.to_owned(), share(it))).collect();
        assert_eq!(next_project(&lanes, &shares), expected);
    }

    #[test]
    fn the_project_with_the_fewest_running_is_served() {
        check(&[("a", 2, 0), ("b", 1, 9)], Some("b"));
    }

    #[test]
    fn among_equals_the_one_that_waited_longest_is_served() {
        check(&[("a", 1, 7), ("b", 1, 3)], Some("b"));
    }

    #[test]
    fn a_project_at_its_quota_is_passed_over() {
        check(&[("a", 4, 0)], None);
        check(&[("a", 4, 0), ("b", 3, 5)], Some("b"));
    }

    #[test]
    fn a_worker_takes_only_what_it_has_the_labels_for() {
        let mut gpu = lane("a");
        gpu.labels.push(("gpu".to_owned(), "yes".to_owned()));
        assert!(!fits(&gpu, &[]));
        assert!(fits(&gpu, &[("arch".to_owned(), "arm64".to_owned()), ("gpu".to_owned(), "yes".to_owned())]));
        assert!(fits(&lane("a"), &[]));
    }
}
