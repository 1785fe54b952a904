//! From what the sandboxes printed, how their runs ended and what the host saw meanwhile, to one answer for each probe.
//! What a sandbox says is hostile: lines are bounded, and the host's own eyes overrule it.

use std::collections::BTreeMap;

use crate::doctor::attack::wall::{self, WallDown};
use crate::doctor::attack::{Answer, PROBES, Probe, Stage, Tried};
use crate::task::escape::escape;
use crate::task::outcome::StartFailure;
use crate::task::{Outcome, TimeLimit};

/// Lines of a stage that are read, and characters of one answer.
const LINES_MAX: usize = 1_000;
const DETAIL_CHARS_MAX: usize = 300;
/// The runtime of the stages.
pub const RUNTIME: &str = "runc";
/// Time that two sandboxes must have been up together, milliseconds.
const TOGETHER_MS_MIN: i64 = 500;
/// CPU time beyond what was given that clocks and scheduling explain, in hundredths.
const CPU_PERCENT_MAX: u64 = 125;
/// Checks whose only eye may not be the sandbox's own: the canary hears them.
const HEARD: [&str; 4] = ["NW-02", "NW-03", "NW-04", "NW-06"];
/// Checks that a touched canary file refutes.
const TOUCHED: [&str; 2] = ["FS-05", "FS-09"];

/// How the run of a stage ended.
#[derive(Debug, Clone, PartialEq)]
pub struct StageEnd {
    /// Which.
    pub stage: Stage,
    /// Its outcome, or why there is none.
    pub outcome: Result<Outcome, String>,
    /// Differences of a sandbox or an engine that was refused.
    pub differences: Vec<String>,
    /// What it printed.
    pub printed: String,
    /// Wall time and CPU time, microseconds; `None` where it was not told.
    pub used_us: Option<(u64, u64)>,
    /// How often the pids limit refused a fork.
    pub pids_limit_hits: Option<u64>,
    /// When its command was released and when it ended, milliseconds since the epoch.
    pub up_ms: Option<(i64, i64)>,
}

/// What the host saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evidence {
    /// Whether the canary on the host heard the host itself: else its silence says nothing.
    pub canary_sings: bool,
    /// How often it heard a sandbox.
    pub canary_heard: u64,
    /// Whether the canary files are as they were placed.
    pub files_untouched: bool,
    /// How many canary files there were.
    pub files: usize,
    /// Processes of the host that carry the survivor's mark.
    pub survivors: usize,
    /// CPUs that the deaf task was given, thousandths, and its wall time, milliseconds.
    pub clock: (u64, u64),
}

/// One answer for each probe, and the walls of the sandboxes that were refused.
pub fn settle(stages: &[StageEnd], evidence: Evidence) -> (Vec<Tried>, Vec<WallDown>) {
    let tried = PROBES.iter().map(|probe| Tried { probe, answer: answer(probe, stages, evidence) });
    let differences: Vec<String> = stages.iter().flat_map(|it| it.differences.clone()).collect();
    (tried.collect(), wall::down(&differences, RUNTIME))
}

fn answer(probe: &Probe, stages: &[StageEnd], evidence: Evidence) -> Answer {
    let Some(end) = stages.iter().find(|it| it.stage == probe.stage) else {
        return Answer::NotTried("its sandbox was not begun".to_owned());
    };
    if !end.differences.is_empty() {
        return Answer::NotTried("its sandbox was refused before anything ran in it".to_owned());
    }
    let outcome = match &end.outcome {
        Ok(outcome) => outcome,
        Err(message) => return Answer::NotTried(safe(message)),
    };
    if !end.printed.lines().any(|it| it == "@end") {
        return Answer::NotTried(safe(&short(outcome)));
    }
    match probe.id {
        "PL-05" | "PL-06" => timed_out(outcome, evidence),
        "PL-07" => survivors(outcome, evidence),
        "PL-09" => cpu(end, evidence),
        "PL-10" => memory(end, outcome),
        "PL-04" => processes(end),
        "FS-06" | "FS-07" if !marked(stages) => {
            Answer::NotTried("the first sandbox did not leave the marks to look for".to_owned())
        }
        "FS-07" => together(end, stages),
        id => seen_from_outside(id, told(end, id), evidence),
    }
}

/// Why a program did not come to its end.
fn short(outcome: &Outcome) -> String {
    match outcome {
        Outcome::StartFailed { reason: StartFailure::Infrastructure { message } } => {
            format!("its sandbox did not start: {message}")
        }
        other => format!("its program did not come to its end: {other}"),
    }
}

/// What the sandbox says of a check; a breach outweighs anything else.
fn told(end: &StageEnd, id: &str) -> Answer {
    let mut answers: BTreeMap<&str, String> = BTreeMap::new();
    for line in end.printed.lines().take(LINES_MAX) {
        let mut fields = line.splitn(4, '\t');
        if fields.next() != Some("@probe") || fields.next() != Some(id) {
            continue;
        }
        let (word, detail) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        answers.insert(word, safe(detail));
    }
    if let Some(detail) = answers.remove("breach") {
        return Answer::Breach(detail);
    }
    if let Some(detail) = answers.remove("not_tried") {
        return Answer::NotTried(detail);
    }
    match answers.remove("stopped") {
        Some(detail) => Answer::Stopped(detail),
        None => Answer::NotTried("its program did not report it".to_owned()),
    }
}

fn seen_from_outside(id: &str, told: Answer, evidence: Evidence) -> Answer {
    if HEARD.contains(&id) {
        if evidence.canary_heard > 0 {
            return Answer::Breach(format!("the host's canary heard it {} times", evidence.canary_heard));
        }
        if !evidence.canary_sings {
            return Answer::NotTried("the host's canary did not hear the host itself".to_owned());
        }
    }
    if TOUCHED.contains(&id) {
        if !evidence.files_untouched {
            return Answer::Breach("a canary file of the host is not as it was".to_owned());
        }
        if evidence.files == 0 {
            return Answer::NotTried("no canary file could be placed on the host".to_owned());
        }
    }
    told
}

fn timed_out(outcome: &Outcome, evidence: Evidence) -> Answer {
    match outcome {
        Outcome::TimedOut(TimeLimit::Wall) => Answer::Stopped(format!(
            "wall time: killed after {} ms and its grace, recorded as timed out",
            evidence.clock.1
        )),
        other => Answer::Breach(safe(&format!("it was to run out of time, and {other}"))),
    }
}

fn survivors(outcome: &Outcome, evidence: Evidence) -> Answer {
    match (outcome, evidence.survivors) {
        (Outcome::Exited(0), 0) => {
            Answer::Stopped("killed with its sandbox; the host has no such process".to_owned())
        }
        (Outcome::Exited(0), count) => Answer::Breach(format!("{count} of its processes are on the host")),
        (other, _) => Answer::NotTried(safe(&format!("its program ended otherwise: {other}"))),
    }
}

fn cpu(end: &StageEnd, evidence: Evidence) -> Answer {
    let Some((wall_us, cpu_us)) = end.used_us.filter(|(wall, _)| *wall > 0) else {
        return Answer::NotTried("the sandbox did not tell its CPU time".to_owned());
    };
    let given_us = wall_us.saturating_mul(evidence.clock.0) / 1000;
    let told = format!("{} ms of CPU in {} ms", cpu_us / 1000, wall_us / 1000);
    if cpu_us.saturating_mul(100) > given_us.saturating_mul(CPU_PERCENT_MAX) {
        return Answer::Breach(told);
    }
    Answer::Stopped(format!("CPU limit ({told})"))
}

fn memory(end: &StageEnd, outcome: &Outcome) -> Answer {
    match (told(end, "PL-10"), outcome) {
        (Answer::Breach(detail), _) => Answer::Breach(detail),
        (_, Outcome::OutOfMemory) => {
            Answer::Stopped("memory limit: killed, and recorded as out of memory".to_owned())
        }
        (_, other) => Answer::Breach(safe(&format!("it was to run out of memory, and {other}"))),
    }
}

fn processes(end: &StageEnd) -> Answer {
    match (told(end, "PL-04"), end.pids_limit_hits) {
        (Answer::Stopped(detail), Some(0)) => {
            Answer::NotTried(format!("{detail}, but the kernel counted no fork that the limit refused"))
        }
        (Answer::Stopped(detail), Some(hits)) => {
            Answer::Stopped(format!("{detail}; the kernel counted {hits}"))
        }
        (answer, _) => answer,
    }
}

fn marked(stages: &[StageEnd]) -> bool {
    let first = stages.iter().find(|it| it.stage == Stage::Look);
    first.is_some_and(|it| it.printed.lines().any(|line| line == "@marked"))
}

/// Two sandboxes prove something about each other only if both were up.
fn together(end: &StageEnd, stages: &[StageEnd]) -> Answer {
    let first = stages.iter().find(|it| it.stage == Stage::Look).and_then(|it| it.up_ms);
    let overlap_ms = match (first, end.up_ms) {
        (Some(one), Some(other)) => one.1.min(other.1) - one.0.max(other.0),
        _ => 0,
    };
    match told(end, "FS-07") {
        Answer::Stopped(_) if overlap_ms < TOGETHER_MS_MIN => {
            Answer::NotTried("the two sandboxes were not up at the same time".to_owned())
        }
        answer => answer,
    }
}

/// A text from inside: bounded and safe to show.
fn safe(text: &str) -> String {
    let mut shown: String = escape(text.as_bytes()).replace("\\\\", "\\");
    if let Some((at, _)) = shown.char_indices().nth(DETAIL_CHARS_MAX) {
        shown.truncate(at);
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Evidence = Evidence {
        canary_sings: true,
        canary_heard: 0,
        files_untouched: true,
        files: 2,
        survivors: 0,
        clock: (1000, 1000),
    };

    fn end(stage: Stage, outcome: Outcome, printed: &str) -> StageEnd {
        StageEnd {
            stage,
            outcome: Ok(outcome),
            differences: Vec::new(),
            printed: printed.to_owned(),
            used_us: Some((2_000_000, 2_000_000)),
            pids_limit_hits: Some(3),
            up_ms: Some((1_000, 5_000)),
        }
    }

    fn look(printed: &str) -> StageEnd {
        end(Stage::Look, Outcome::Exited(0), printed)
    }

    #[track_caller]
    fn check(end: StageEnd, evidence: Evidence, id: &str, word: &str, part: &str) {
        let (tried, _) = settle(&[end], evidence);
        let found = tried.iter().find(|it| it.probe.id == id).expect("it is in the table");
        assert_eq!(found.answer.name(), word, "{:?}", found.answer);
        assert!(found.answer.detail().contains(part), "{:?}", found.answer);
    }

    #[test]
    fn a_probe_that_ran_and_was_refused_is_stopped() {
        check(look("@probe\tFS-01\tstopped\tEROFS 12\n@end\n"), QUIET, "FS-01", "stopped", "EROFS 12");
    }

    #[test]
    fn a_probe_that_did_not_report_is_no_pass() {
        check(look("@end\n"), QUIET, "FS-01", "not_tried", "did not report");
    }

    #[test]
    fn a_program_that_died_halfway_proves_nothing() {
        check(look("@probe\tFS-01\tstopped\tx\n"), QUIET, "FS-01", "not_tried", "did not come to its end");
    }

    #[test]
    fn a_sandbox_that_did_not_start_says_why() {
        let message = "the engine refused to start it".to_owned();
        let outcome = Outcome::StartFailed { reason: StartFailure::Infrastructure { message } };
        check(end(Stage::Look, outcome, ""), QUIET, "FS-01", "not_tried", "refused to start");
    }

    #[test]
    fn a_breach_cannot_be_talked_away() {
        let printed = "@probe\tFS-01\tbreach\t/etc\n@probe\tFS-01\tstopped\tx\n@end\n";
        check(look(printed), QUIET, "FS-01", "breach", "/etc");
    }

    #[test]
    fn what_the_host_heard_outweighs_what_the_sandbox_says() {
        let printed = "@probe\tNW-02\tstopped\tno route\n@end\n";
        check(look(printed), Evidence { canary_heard: 1, ..QUIET }, "NW-02", "breach", "heard");
        check(look(printed), Evidence { canary_sings: false, ..QUIET }, "NW-02", "not_tried", "canary");
        check(look(printed), QUIET, "NW-02", "stopped", "no route");
    }

    #[test]
    fn a_canary_that_was_touched_is_a_breach_and_none_at_all_no_pass() {
        let printed = "@probe\tFS-05\tstopped\tENOENT 9\n@end\n";
        check(
            look(printed),
            Evidence { files_untouched: false, ..QUIET },
            "FS-05",
            "breach",
            "not as it was",
        );
        check(look(printed), Evidence { files: 0, ..QUIET }, "FS-05", "not_tried", "no canary file");
    }

    #[test]
    fn a_refused_sandbox_tells_its_walls_and_tries_nothing() {
        let refused = StageEnd {
            differences: vec!["Seccomp is 0 (off), expected 2 (a filter)".to_owned()],
            ..end(Stage::Look, Outcome::Refused { differences: Vec::new() }, "")
        };
        let (tried, walls) = settle(std::slice::from_ref(&refused), QUIET);
        assert!(tried.iter().all(|it| it.answer.name() == "not_tried"));
        assert_eq!(walls.len(), 1);
        assert_eq!(walls[0].wall.name(), "seccomp");
    }

    #[test]
    fn limits_are_judged_by_the_outcome() {
        let clock = |outcome| end(Stage::Clock, outcome, "@end\n");
        check(clock(Outcome::TimedOut(TimeLimit::Wall)), QUIET, "PL-06", "stopped", "wall time");
        check(clock(Outcome::Signaled(9)), QUIET, "PL-06", "breach", "");
        check(clock(Outcome::TimedOut(TimeLimit::Wall)), QUIET, "PL-09", "stopped", "CPU limit");
        let greedy =
            StageEnd { used_us: Some((2_000_000, 3_900_000)), ..clock(Outcome::TimedOut(TimeLimit::Wall)) };
        check(greedy, QUIET, "PL-09", "breach", "3900 ms");
        let memory = |outcome| end(Stage::Memory, outcome, "@end\n");
        check(memory(Outcome::OutOfMemory), QUIET, "PL-10", "stopped", "memory limit");
        check(memory(Outcome::Exited(0)), QUIET, "PL-10", "breach", "");
        let limits = end(Stage::Limits, Outcome::Exited(0), "@end\n");
        check(limits.clone(), Evidence { survivors: 1, ..QUIET }, "PL-07", "breach", "1 of its");
        check(limits, QUIET, "PL-07", "stopped", "");
    }

    #[test]
    fn a_fork_bomb_counts_only_if_the_kernel_counted_it() {
        let limits = end(Stage::Limits, Outcome::Exited(0), "@probe\tPL-04\tstopped\tEAGAIN\n@end\n");
        check(limits.clone(), QUIET, "PL-04", "stopped", "counted 3");
        check(StageEnd { pids_limit_hits: Some(0), ..limits }, QUIET, "PL-04", "not_tried", "no fork");
    }

    #[test]
    fn two_sandboxes_that_were_not_up_together_prove_nothing() {
        let beside = |up_ms| StageEnd {
            up_ms: Some(up_ms),
            ..end(Stage::Beside, Outcome::Exited(0), "@probe\tFS-07\tstopped\tno mark\n@end\n")
        };
        let answer = |marks, it| {
            let (tried, _) = settle(&[look(marks), it], QUIET);
            tried.into_iter().find(|it| it.probe.id == "FS-07").expect("it is in the table").answer.name()
        };
        assert_eq!(answer("@marked\n@end\n", beside((2_000, 6_000))), "stopped");
        assert_eq!(answer("@marked\n@end\n", beside((5_000, 9_000))), "not_tried");
        assert_eq!(answer("@end\n", beside((2_000, 6_000))), "not_tried");
    }

    #[test]
    fn what_a_sandbox_prints_is_bounded_and_escaped() {
        let printed = format!("@probe\tFS-01\tstopped\t\u{1b}[2J{}\n@end\n", "x".repeat(1000));
        let (tried, _) = settle(&[look(&printed)], QUIET);
        let detail = tried[0].answer.detail();
        assert!(detail.starts_with("\\x1b[2J") && detail.chars().count() <= 301, "{detail}");
    }
}
