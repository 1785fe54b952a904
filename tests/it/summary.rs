//! What a person reads on standard error: the last lines of a run for each way it can end, hints, silence, colour.

use serde_json::Value;

use crate::support::aegis::{Aegis, Ended};
use crate::support::live::Live;
use crate::support::rewriter::{Inspection, Rewriter};
use crate::support::scripts::children;
use crate::support::terminal::Terminal;

/// The talk of a run, without what differs from one run to the next: ids, times, peaks, directories.
fn talk(aegis: &Aegis, ended: &Ended) -> Vec<String> {
    let here = aegis.here().display().to_string();
    ended.stderr.lines().map(|it| redacted(&it.replace(&here, "HERE"))).collect()
}

fn redacted(line: &str) -> String {
    let mut line = line.to_owned();
    if let Some(rest) = line.strip_prefix("aegis: run ") {
        let (id, rest) = rest.split_at(12);
        assert!(id.bytes().all(|it| it.is_ascii_hexdigit()), "{line}");
        let mut parts = rest.split(", ");
        let first = parts.next().unwrap_or_default();
        let outcome = first.split(" in ").next().unwrap_or_default();
        let measured = |it: &&str| {
            it.starts_with("peak ") || it.ends_with(" pids") || (it.ends_with(" out") && !it.contains("left"))
        };
        let others: Vec<&str> = parts.filter(|it| !measured(it)).collect();
        line = [
            &[format!("aegis: run ID{outcome}")],
            &others.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>()[..],
        ]
        .concat()
        .join(", ");
    }
    for (before, after) in [(" peak of ", " ("), ("it used ", ": it"), ("refused ", " of its forks")] {
        if let (Some(begin), Some(end)) = (line.find(before), line.rfind(after)) {
            line.replace_range(begin + before.len()..end, "…");
        }
    }
    if let Some(begin) = line.find("aegis-out/") {
        line.truncate(begin + "aegis-out/".len());
    }
    line
}

/// The talk of a script, line by line.
#[track_caller]
fn check(flags: &[&str], script: &str, expected: &[&str]) {
    let aegis = Aegis::new();
    let ended = aegis.script(flags, script);
    assert_eq!(talk(&aegis, &ended), expected, "{ended:#?}");
}

#[test]
fn success_is_one_line() {
    check(&[], "true", &["aegis: run ID: exited(0)"]);
}

#[test]
fn a_plain_failure_is_one_line() {
    check(&[], "exit 4", &["aegis: run ID: exited(4)"]);
}

#[test]
fn a_shells_code_is_read() {
    check(
        &[],
        "no-such-program 2>/dev/null",
        &[
            "aegis: run ID: exited(127)",
            "aegis: the command ended by itself with 127: a shell says so of a program that the image lacks",
        ],
    );
}

#[test]
fn a_signal_is_named() {
    check(
        &[],
        "kill -SEGV $$",
        &["aegis: run ID: signaled(11)", "aegis: signal 11 (SIGSEGV) ended the command"],
    );
}

#[test]
fn a_kill_by_the_task_itself_is_no_limit() {
    check(
        &[],
        "kill -KILL $$",
        &[
            "aegis: run ID: signaled(9)",
            "aegis: signal 9 (SIGKILL) ended the command",
            "aegis: no limit of the sandbox was met: a process of the task's own sent the signal",
        ],
    );
}

#[test]
fn a_timeout_names_its_limit_and_the_flag() {
    check(
        &["--timeout", "2s"],
        "while :; do :; done",
        &[
            "aegis: run ID: timed_out(wall)",
            "aegis: the command ran longer than its limit of 2s",
            "hint: run it again with `--timeout 4s`",
        ],
    );
}

#[test]
fn a_task_that_waited_is_told_so() {
    check(
        &["--timeout", "4s"],
        "exec sleep 60",
        &[
            "aegis: run ID: timed_out(wall)",
            "aegis: the command ran longer than its limit of 4s",
            "aegis: it used …: it mostly waited",
            "hint: run it again with `--timeout 8s`",
        ],
    );
}

#[test]
fn out_of_memory_names_limit_and_peak() {
    check(
        &["--memory", "32MiB"],
        "exec python3 -c 'x = bytearray(1 << 30)'",
        &[
            "aegis: run ID: out_of_memory",
            "aegis: the kernel killed the command for memory, with a limit of 32 MiB and a peak of … (its files in memory included)",
            "hint: run it again with `--memory 64MiB`",
        ],
    );
}

#[test]
fn too_much_output_names_its_limit() {
    check(
        &["--output-limit", "4KiB"],
        "yes",
        &[
            "aegis: run ID: output_limit",
            "aegis: the command wrote more than its limit of 4 KiB of output",
            "hint: run it again with `--output-limit 8KiB`",
        ],
    );
}

#[test]
fn a_full_mount_is_named() {
    check(
        &["--tmp-size", "1MiB"],
        "head -c 2M /dev/zero >/tmp/zero 2>/dev/null || { sleep 1; exit 1; }",
        &[
            "aegis: run ID: disk_limit(/tmp)",
            "aegis: `/tmp` was full at its size of 1 MiB",
            "hint: run it again with `--tmp-size 2MiB`",
        ],
    );
}

#[test]
fn refused_forks_are_told_beside_the_tasks_own_end() {
    check(
        &["--pids-limit", "16"],
        &children(24),
        &[
            "aegis: run ID: exited(3)",
            "aegis: the limit of 16 processes and threads refused … of its forks",
            "hint: run it again with `--pids-limit 32`",
        ],
    );
}

#[test]
fn a_refusal_names_what_differed() {
    let weaker = |body: &mut Value| body["HostConfig"]["CapAdd"] = serde_json::json!(["CHOWN"]);
    let rewriter = Rewriter::weakening(Inspection::Lying, Box::new(weaker));
    let aegis = Aegis::new().with("DOCKER_HOST", &rewriter.docker_host());
    let ended = aegis.script(&[], "true");
    let talk = talk(&aegis, ended.code(125));
    assert_eq!(talk[0], "aegis: run ID: refused");
    let first =
        "aegis: the sandbox or the request was not what policy demands; nothing of the task ran".to_owned();
    assert_eq!(talk[1], first);
    assert!(talk[2..].iter().any(|it| it.starts_with("aegis: capabilities: CapBnd")), "{talk:#?}");
    assert!(talk.iter().all(|it| !it.starts_with("hint:")), "no flag weakens a wall: {talk:#?}");
}

#[test]
fn a_missing_program_names_the_image_that_has_it() {
    let aegis = Aegis::new();
    let ended =
        aegis.call(&["run", "--no-workspace", "--image", "aegis/minimal", "--", "python3", "--version"]);
    let expected = [
        "aegis: run ID: start_failed(not_found)",
        "aegis: the image `aegis/minimal` has no program `python3`",
        "hint: run it again with `--image aegis/base`",
    ];
    assert_eq!(talk(&aegis, &ended), expected, "{ended:#?}");
}

#[test]
fn a_file_that_is_no_program_is_told_what_it_lacks() {
    let aegis = Aegis::new();
    let ended = aegis.call(&["run", "--no-workspace", "--", "/etc/passwd"]);
    let expected = [
        "aegis: run ID: start_failed(not_executable)",
        "aegis: `/etc/passwd` cannot be executed: Permission denied (os error 13)",
        "aegis: it needs the executable bit, and an interpreter or a format that the image knows",
    ];
    assert_eq!(talk(&aegis, &ended), expected, "{ended:#?}");
}

#[test]
fn a_cancel_says_who_it_was() {
    let aegis = Aegis::new();
    let live = Live::start(&aegis, "cancelled", &[], "while :; do sleep 0.1; done");
    let ended = live.cancel(&aegis);
    let expected = ["aegis: run ID: cancelled(command)", "aegis: `aegis cancel` ended it"];
    assert_eq!(talk(&aegis, &ended), expected, "{ended:#?}");
}

#[test]
fn outputs_are_told_with_what_is_missing_and_where_they_are() {
    check(
        &["-o", "out/*", "-o", "absent"],
        "mkdir out; echo a >out/a; echo b >out/b; mkfifo out/c",
        &[
            "aegis: run ID: exited(0), 2 files collected, 1 left out, 1 not found",
            "aegis: the output `absent` is not there",
            "aegis: the output `out/c` was left out: it is a FIFO, socket or device",
            "aegis: outputs are in HERE/aegis-out/",
        ],
    );
}

#[test]
fn a_denial_names_field_authority_and_way_out() {
    let aegis = Aegis::new();
    let ended = aegis.script(&["--timeout", "1000h"], "true");
    ended.code(125).says("error: policy does not allow this run\n  caused by: resources.wall_time: ");
    ended.says("\nhint: pass `--timeout ");
}

#[test]
fn quiet_is_silent_where_the_status_says_it_all() {
    for (script, status) in [("true", 0), ("exit 4", 4), ("kill -TERM $$", 143)] {
        let ended = Aegis::new().script(&["--quiet"], script);
        assert_eq!(ended.code(status).stderr, "");
    }
    let ended = Aegis::new().call_with_input(&["run", "-q", "--no-workspace", "--", "true"], b"waiting");
    assert_eq!(ended.code(0).stderr, "");
}

#[test]
fn quiet_still_tells_why_aegis_ended_it() {
    Aegis::new().script(&["--quiet", "--timeout", "1s"], "sleep 60").code(124).says("timed_out(wall)");
}

#[test]
fn the_talk_is_not_the_tasks_output() {
    let ended = Aegis::new().script(&["--output-limit", "1KiB"], "yes | head -c 2000");
    assert_eq!(ended.code(123).stdout.len(), 1024);
    assert!(!ended.stdout.contains("aegis"), "{ended:?}");
}

#[test]
fn a_pipe_gets_no_colour_and_no_motion() {
    for arguments in [&["run", "--no-workspace", "--", "true"][..], &["show", "nothing"], &["run"]] {
        let ended = Aegis::new().call(arguments);
        assert!(!ended.stderr.contains(['\x1b', '\r']), "{ended:?}");
    }
}

#[test]
fn a_terminal_gets_colour() {
    let aegis = Aegis::new();
    let left = Terminal::start(&aegis, &["run", "--no-workspace", "--", "true"]).finish();
    left.code(0).shows("\x1b[1maegis:\x1b[0m run ");
}

#[test]
fn no_color_is_obeyed() {
    let aegis = Aegis::new().with("NO_COLOR", "1");
    let left = Terminal::start(&aegis, &["run", "--no-workspace", "--", "true"]).finish();
    left.code(0).shows("aegis: run ").shows_no("\x1b[1m").shows_no("\x1b[3");
    let left = Terminal::start(&aegis, &["run", "--no-such-flag"]).finish();
    left.code(2).shows_no("\x1b");
}

#[test]
fn images_are_listed_with_sizes_that_people_read() {
    let ended = Aegis::new().call(&["image", "ls"]);
    let line = ended.code(0).stdout.lines().find(|it| it.starts_with("aegis/base")).expect("the base image");
    assert!(line.contains(" MiB "), "{line}");
}
