//! Each end, explained in a sentence.

use super::*;
use crate::record::fixture;

/// A run that ended so, its counts cleared, then changed.
fn ended(outcome: Outcome, change: impl FnOnce(&mut Run)) -> Run {
    let mut run = fixture::ended(outcome);
    if let Some(end) = &mut run.end {
        end.full_mounts.clear();
    }
    change(&mut run);
    run
}

fn explained(run: &Run) -> Explanation {
    why(&Ended::of(run).expect("it ended"))
}

fn check(outcome: Outcome, change: impl FnOnce(&mut Run), lines: &[&str], flag: Option<&str>) {
    let explanation = explained(&ended(outcome, change));
    assert_eq!(explanation.lines, lines);
    assert_eq!(explanation.recommendation.map(|it| it.to_string()).as_deref(), flag);
}

fn unchanged(_run: &mut Run) {}

fn usage(run: &mut Run) -> &mut crate::record::Usage {
    run.end.as_mut().and_then(|it| it.usage.as_mut()).expect("it told")
}

#[test]
fn success_needs_no_change() {
    check(Outcome::Exited(0), unchanged, &["the command ended by itself with success"], None);
}

#[test]
fn the_tasks_own_code_is_its_own() {
    check(Outcome::Exited(3), unchanged, &["the command ended by itself with 3"], None);
}

/// What is said one line below the outcome's own words.
fn check_remarks(outcome: Outcome, lines: &[&str]) {
    let run = ended(outcome, unchanged);
    assert_eq!(remarks(&Ended::of(&run).expect("it ended")).lines, lines);
}

#[test]
fn the_end_of_a_run_does_not_say_its_outcome_twice() {
    check_remarks(Outcome::Exited(0), &[]);
    check_remarks(Outcome::Exited(4), &[]);
}

#[test]
fn the_end_of_a_run_reads_a_shells_code() {
    let line = "the command ended by itself with 127: a shell says so of a program that the image lacks";
    check_remarks(Outcome::Exited(127), &[line]);
}

#[test]
fn a_shells_code_for_a_signal_is_read() {
    let line =
        "the command ended by itself with 139: a shell says so of a child that signal 11 (SIGSEGV) ended";
    check(Outcome::Exited(139), unchanged, &[line], None);
}

#[test]
fn a_code_that_no_signal_has_is_left_alone() {
    check(Outcome::Exited(255), unchanged, &["the command ended by itself with 255"], None);
}

#[test]
fn refused_forks_are_told_with_the_flag() {
    let lines = [
        "the command ended by itself with 2",
        "the limit of 256 processes and threads refused 7 of its forks",
    ];
    check(Outcome::Exited(2), |run| usage(run).pids_limit_hits = Some(7), &lines, Some("--pids-limit 512"));
}

#[test]
fn a_killed_child_is_told_with_limit_and_peak() {
    let lines = [
        "the command ended by itself with 1",
        "the kernel killed 2 of its processes for memory, with a limit of 1 GiB and a peak of 34 MiB (its files in memory included)",
    ];
    check(Outcome::Exited(1), |run| usage(run).oom_kills = Some(2), &lines, Some("--memory 2GiB"));
}

#[test]
fn a_full_mount_beside_a_success_is_told() {
    let lines = ["the command ended by itself with success", "`/tmp` was full at its size of 256 MiB"];
    let fill = |run: &mut Run| {
        if let Some(end) = &mut run.end {
            end.full_mounts = vec!["/tmp".to_owned()];
        }
    };
    check(Outcome::Exited(0), fill, &lines, Some("--tmp-size 512MiB"));
}

#[test]
fn a_denied_system_call_is_told() {
    let lines = [
        "signal 31 (SIGSYS) ended the command",
        "it made a system call that the sandbox's filter does not allow",
    ];
    check(Outcome::Signaled(31), unchanged, &lines, None);
}

#[test]
fn a_kill_of_its_own_is_told_from_a_limit() {
    let lines = [
        "signal 9 (SIGKILL) ended the command",
        "no limit of the sandbox was met: a process of the task's own sent the signal",
    ];
    check(Outcome::Signaled(9), unchanged, &lines, None);
}

#[test]
fn a_time_out_doubles_the_time() {
    check(
        Outcome::TimedOut(TimeLimit::Wall),
        unchanged,
        &["the command ran longer than its limit of 10m"],
        Some("--timeout 20m"),
    );
}

#[test]
fn a_time_out_of_a_task_that_waited_says_so() {
    let wait = |run: &mut Run| {
        usage(run).cpu_user_us = 1_000;
        usage(run).cpu_system_us = 500;
        usage(run).wall_us = 600_000_000;
    };
    let lines = [
        "the command ran longer than its limit of 10m",
        "it used 1.5 ms of CPU time in 10 min: it mostly waited",
    ];
    check(Outcome::TimedOut(TimeLimit::Wall), wait, &lines, Some("--timeout 20m"));
}

#[test]
fn out_of_memory_names_limit_peak_and_flag() {
    let line = "the kernel killed the command for memory, with a limit of 1 GiB and a peak of 1.2 GiB (its files in memory included)";
    check(
        Outcome::OutOfMemory,
        |run| usage(run).memory_peak_bytes = Some(1_300 << 20),
        &[line],
        Some("--memory 2GiB"),
    );
}

#[test]
fn out_of_memory_without_usage_still_names_the_limit() {
    let forget = |run: &mut Run| {
        if let Some(end) = &mut run.end {
            end.usage = None;
        }
    };
    check(
        Outcome::OutOfMemory,
        forget,
        &["the kernel killed the command for memory, with a limit of 1 GiB"],
        Some("--memory 2GiB"),
    );
}

#[test]
fn too_much_output_names_the_limit() {
    check(
        Outcome::OutputLimit,
        unchanged,
        &["the command wrote more than its limit of 64 MiB of output"],
        Some("--output-limit 128MiB"),
    );
}

#[test]
fn a_full_workspace_names_its_flag() {
    check(
        Outcome::DiskLimit(DiskLimit::Full { mount: "/workspace".to_owned() }),
        unchanged,
        &["`/workspace` was full at its size of 512 MiB"],
        Some("--workspace-size 1GiB"),
    );
}

#[test]
fn a_full_home_names_the_policys_key() {
    let lines =
        ["`/run/home` was full at its size of 64 MiB", "its size is `filesystem.home_size` of the policy"];
    check(Outcome::DiskLimit(DiskLimit::Full { mount: "/run/home".to_owned() }), unchanged, &lines, None);
}

#[test]
fn a_too_large_file_is_told() {
    let lines =
        ["the command made a file larger than any of its file systems", "the largest of them has 512 MiB"];
    check(Outcome::DiskLimit(DiskLimit::FileSize), unchanged, &lines, Some("--workspace-size 1GiB"));
}

#[test]
fn a_cancel_says_who() {
    check(
        Outcome::Cancelled(Cancellation::Interrupt),
        unchanged,
        &["Ctrl-C, or another SIGINT to `aegis run`, ended it"],
        None,
    );
}

#[test]
fn a_refusal_lists_what_differed() {
    let lines = [
        "the sandbox or the request was not what policy demands; nothing of the task ran",
        "the root is writable",
    ];
    check(Outcome::Refused { differences: vec!["the root is writable".to_owned()] }, unchanged, &lines, None);
}

const ANOTHER_IMAGE: &str = "name an image that has it with `--image`; `aegis image ls` lists those here";

fn not_found(program: &str) -> Outcome {
    Outcome::StartFailed { reason: StartFailure::NotFound { program: program.to_owned() } }
}

#[test]
fn a_missing_program_names_the_image_that_has_it() {
    check(
        not_found("node"),
        unchanged,
        &["the image `aegis/base` has no program `node`"],
        Some("--image aegis/node"),
    );
}

#[test]
fn a_program_that_no_image_has_is_only_named() {
    let lines = ["the image `aegis/base` has no program `\\x1b[2J`", ANOTHER_IMAGE];
    check(not_found("\x1b[2J"), unchanged, &lines, None);
}

#[test]
fn the_image_that_lacks_it_is_not_recommended() {
    check(
        not_found("/usr/bin/git"),
        unchanged,
        &["the image `aegis/base` has no program `/usr/bin/git`", ANOTHER_IMAGE],
        None,
    );
}

#[test]
fn a_lost_run_is_not_the_tasks_doing() {
    let lines = [
        "the process that ran it was gone when its record was found",
        "its sandbox ended itself when its owner did",
        "run it again: it was not the task's doing",
    ];
    check(Outcome::Lost { reason: LostReason::Owner }, unchanged, &lines, None);
}

#[test]
fn a_limit_at_the_end_of_its_range_gets_no_flag() {
    check(
        Outcome::OutOfMemory,
        |run| run.limits.memory_bytes = 16 << 40,
        &[
            "the kernel killed the command for memory, with a limit of 16 TiB and a peak of 34 MiB (its files in memory included)",
        ],
        None,
    );
}

#[test]
fn every_outcome_is_explained_in_plain_lines() {
    for outcome in fixture::every_outcome() {
        let explanation = explained(&fixture::ended(outcome));
        assert!(!explanation.lines.is_empty());
        assert!(
            explanation.lines.iter().all(|it| !it.contains('\n') && !it.ends_with('.')),
            "{explanation:?}"
        );
    }
}

#[test]
fn a_recommended_value_is_read_back_by_its_flag() {
    for outcome in fixture::every_outcome() {
        let Some(flag) = explained(&fixture::ended(outcome)).recommendation else { continue };
        let amount = match flag.name {
            "--memory" => Amount::Memory,
            "--timeout" => Amount::WallTime,
            "--output-limit" => Amount::OutputSize,
            "--pids-limit" => Amount::Pids,
            "--tmp-size" => Amount::TmpSize,
            "--workspace-size" => Amount::WorkspaceSize,
            _ => continue,
        };
        assert!(amount.parse(&flag.value).is_ok(), "{flag}");
    }
}
