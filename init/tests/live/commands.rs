//! Commands: streams, ends, deadlines, stops, trees.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use serde_bytes::ByteBuf;

use aegis_init::wire::{EXECS_MAX, ExitStatus, Reply, Request, StartStep, Stdio, StopCause};

use crate::host::{Sandbox, machine_processes};

fn check_status(script: &str, expected: ExitStatus) {
    assert_eq!(Sandbox::attested().run(script).status, expected, "{script}");
}

fn check_start_failure(argv: &[&str], cwd: &str, expected: (StartStep, i32)) {
    let mut sandbox = Sandbox::attested();
    assert_eq!(sandbox.run("printf '#!/no/such\\n' >script; printf x >plain; chmod +x script").error, "");
    let mut exec = sandbox.order(argv);
    exec.cwd = ByteBuf::from(cwd);
    let _pipes = sandbox.launch(&exec);
    match sandbox.reply() {
        Reply::StartFailed { exec: id, step, errno } => assert_eq!((id, (step, errno)), (exec.id, expected)),
        other => panic!("not refused but {other:?}"),
    }
    assert_eq!(sandbox.run("echo on").output, "on\n");
}

#[test]
fn streams_go_their_own_ways() {
    let mut sandbox = Sandbox::attested();
    let mut running = sandbox.shell("read line; echo \"out $line\"; echo err >&2; pwd; umask; exit 7");
    running.input.as_mut().expect("an input").write_all(b"hello\n").expect("the command reads");
    let finished = sandbox.finish(running);
    assert_eq!(finished.output, "out hello\n/workspace\n0022\n");
    assert_eq!(finished.error, "err\n");
    assert_eq!(finished.status, ExitStatus::Code(7));
    assert_eq!(finished.stopped, None);
}

#[test]
fn exit_codes_are_exact() {
    for code in [0, 1, 42, 126, 127, 255] {
        check_status(&format!("exit {code}"), ExitStatus::Code(code));
    }
}

#[test]
fn signals_are_exact() {
    for (name, number) in [("SEGV", 11), ("KILL", 9), ("TERM", 15), ("INT", 2), ("PIPE", 13), ("RTMAX", 64)] {
        check_status(&format!("kill -{name} $$"), ExitStatus::Signal(number));
    }
}

#[test]
fn a_program_that_the_image_lacks_is_not_found() {
    check_start_failure(&["no-such-program"], "", (StartStep::Execute, libc::ENOENT));
    check_start_failure(&["/no/such/program"], "", (StartStep::Execute, libc::ENOENT));
    check_start_failure(&["./script"], "", (StartStep::Execute, libc::ENOENT));
    check_start_failure(&[""], "", (StartStep::Execute, libc::ENOENT));
}

#[test]
fn a_file_that_is_no_program_cannot_be_executed() {
    check_start_failure(&["./plain"], "", (StartStep::Execute, libc::EACCES));
    check_start_failure(&["/tmp"], "", (StartStep::Execute, libc::EACCES));
}

#[test]
fn a_working_directory_must_exist() {
    check_start_failure(&["true"], "absent", (StartStep::WorkDir, libc::ENOENT));
    check_start_failure(&["true"], "plain", (StartStep::WorkDir, libc::ENOTDIR));
}

#[test]
fn an_order_without_a_program_is_refused() {
    check_start_failure(&[], "", (StartStep::Request, libc::EINVAL));
    check_start_failure(&["a\0b"], "", (StartStep::Request, libc::EINVAL));
}

#[test]
fn an_order_without_its_descriptors_is_refused() {
    let mut sandbox = Sandbox::attested();
    let exec = sandbox.order(&["true"]);
    sandbox.request(&Request::Exec(exec));
    let refused = Reply::StartFailed { exec: 0, step: StartStep::Request, errno: libc::EBADF };
    assert_eq!(sandbox.reply(), refused);
}

#[test]
fn a_script_without_an_interpreter_line_runs_in_the_shell() {
    let mut sandbox = Sandbox::attested();
    sandbox.run("echo 'echo shell $1' >script; chmod +x script");
    let exec = sandbox.order(&["./script", "one"]);
    let running = sandbox.start(&exec);
    assert_eq!(sandbox.finish(running).output, "shell one\n");
}

#[test]
fn a_command_has_its_three_descriptors_and_no_more() {
    let finished = Sandbox::attested().run("ls -l /proc/self/fd | grep -o ' [0-9]* ->'");
    assert_eq!(finished.output, " 0 ->\n 1 ->\n 2 ->\n 3 ->\n", "3 is `ls` itself");
}

#[test]
fn a_command_has_no_signal_blocked_or_ignored() {
    let finished = Sandbox::attested().run("exec grep -E 'Sig(Blk|Ign)' /proc/self/status");
    assert_eq!(finished.output, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}

#[test]
fn memory_is_taken_from_commands_before_init() {
    let mut sandbox = Sandbox::attested();
    assert_eq!(sandbox.run("cat /proc/self/oom_score_adj; cat /proc/1/oom_score_adj").output, "1000\n0\n");
}

#[test]
fn a_command_ends_while_its_daemon_lives() {
    let mut sandbox = Sandbox::attested();
    let begun = Instant::now();
    let finished =
        sandbox.run("setsid sh -c 'sleep 300.7 & exec sleep 301.7' >/dev/null 2>&1 </dev/null & exit 5");
    assert_eq!((finished.status, finished.stopped), (ExitStatus::Code(5), None));
    assert!(begun.elapsed() < Duration::from_secs(1));
    sandbox.end();
    assert_eq!(sandbox.exit_status(), 0);
    assert_eq!(machine_processes("sleep\x00300.7") + machine_processes("sleep\x00301.7"), 0);
}

#[test]
fn a_terminal_is_the_sandboxs_own() {
    let mut sandbox = Sandbox::attested();
    let mut exec = sandbox.order(&["sh", "-c", "tty; stty size; read line; echo got $line; exit 3"]);
    exec.stdio = Stdio::Terminal { rows: 33, columns: 77 };
    sandbox.request(&Request::Exec(exec));
    let (reply, mut descriptors) = sandbox.reply_with();
    assert!(matches!(reply, Reply::Started { exec: 0, .. }), "{reply:?}");
    let mut master = std::fs::File::from(descriptors.pop().expect("the master side"));
    master.write_all(b"typed\n").expect("it takes input");
    let mut shown = Vec::new();
    // The last close of the other side is an error here, not an end.
    let _ = master.read_to_end(&mut shown);
    let shown = String::from_utf8_lossy(&shown).into_owned();
    assert!(["/dev/pts/0\r\n", "33 77\r\n", "got typed"].iter().all(|it| shown.contains(it)), "{shown}");
    assert!(matches!(sandbox.reply(), Reply::Exited { status: ExitStatus::Code(3), .. }));
}

#[test]
fn control_c_reaches_the_terminals_foreground() {
    let mut sandbox = Sandbox::attested();
    let mut exec = sandbox.order(&["sleep", "300"]);
    exec.stdio = Stdio::Terminal { rows: 24, columns: 80 };
    sandbox.request(&Request::Exec(exec));
    let (_, mut descriptors) = sandbox.reply_with();
    let mut master = std::fs::File::from(descriptors.pop().expect("the master side"));
    master.write_all(b"\x03").expect("it takes input");
    assert!(matches!(sandbox.reply(), Reply::Exited { status: ExitStatus::Signal(2), stopped: None, .. }));
}

#[test]
fn a_deadline_stops_with_a_signal_that_can_be_caught() {
    let mut sandbox = Sandbox::attested();
    let mut exec = sandbox.order(&["sh", "-c", "trap 'exit 9' TERM; echo on; while :; do sleep 0.01; done"]);
    (exec.timeout_ms, exec.grace_ms) = (Some(200), 5_000);
    let running = sandbox.start(&exec);
    let finished = sandbox.finish(running);
    assert_eq!((finished.status, finished.stopped), (ExitStatus::Code(9), Some(StopCause::Deadline)));
}

#[test]
fn a_deaf_command_is_killed_after_the_grace() {
    let mut sandbox = Sandbox::attested();
    let script = "trap '' TERM INT HUP QUIT; sleep 302.7 & while :; do sleep 0.01; done";
    let mut exec = sandbox.order(&["sh", "-c", script]);
    (exec.timeout_ms, exec.grace_ms) = (Some(200), 300);
    let begun = Instant::now();
    let running = sandbox.start(&exec);
    let finished = sandbox.finish(running);
    assert_eq!((finished.status, finished.stopped), (ExitStatus::Signal(9), Some(StopCause::Deadline)));
    assert!((500..1_500).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    assert_eq!(sandbox.processes(), Vec::<String>::new());
}

#[test]
fn a_stop_without_grace_kills_at_once() {
    let mut sandbox = Sandbox::attested();
    let mut running = sandbox.shell("trap '' TERM; echo on; while :; do sleep 0.01; done");
    running.await_output("on\n");
    sandbox.request(&Request::Stop { exec: running.exec, grace_ms: 60_000 });
    sandbox.request(&Request::Stop { exec: running.exec, grace_ms: 0 });
    let finished = sandbox.finish(running);
    assert_eq!((finished.status, finished.stopped), (ExitStatus::Signal(9), Some(StopCause::Asked)));
}

#[test]
fn a_stop_takes_the_daemons_along() {
    let mut sandbox = Sandbox::attested();
    let mut running =
        sandbox.shell("setsid sh -c 'setsid sleep 303.7 & exit' & wait; echo on; exec sleep 304.7");
    running.await_output("on\n");
    sandbox.request(&Request::Stop { exec: running.exec, grace_ms: 0 });
    sandbox.finish(running);
    assert_eq!(sandbox.processes(), Vec::<String>::new());
}

#[test]
fn a_stop_leaves_the_other_command_and_its_daemon() {
    let mut sandbox = Sandbox::attested();
    let mut first = sandbox.shell("setsid sh -c 'setsid sleep 11 & exit' & wait; echo on; exec sleep 12");
    let mut second = sandbox.shell("setsid sh -c 'setsid sleep 21 & exit' & wait; echo on; exec sleep 22");
    first.await_output("on\n");
    second.await_output("on\n");
    sandbox.request(&Request::Stop { exec: first.exec, grace_ms: 0 });
    let finished = sandbox.finish(first);
    assert_eq!((finished.status, finished.stopped), (ExitStatus::Signal(9), Some(StopCause::Asked)));
    let mut left = sandbox.processes();
    left.sort();
    // The daemon may not have come as far as its own program.
    let daemon = left[0].trim_start_matches("setsid ");
    assert_eq!((daemon, left[1].as_str(), left.len()), ("sleep 21", "sleep 22", 2));
    sandbox.end();
}

#[test]
fn a_fork_bomb_is_stopped_beside_another_command() {
    let mut sandbox = Sandbox::attested();
    let other = sandbox.shell("exec sleep 22");
    // Sixteen lines of descent, each replacing itself all the time.
    let bomb =
        "b() { sleep 0.001; b & exit; }; for i in 1 2 3 4 5 6 7 8; do b & done; echo on; wait; sleep 99";
    let mut bomb = sandbox.shell(bomb);
    bomb.await_output("on\n");
    sandbox.request(&Request::Stop { exec: bomb.exec, grace_ms: 0 });
    let finished = sandbox.finish(bomb);
    assert_eq!(finished.stopped, Some(StopCause::Asked));
    assert_eq!(sandbox.processes(), ["sleep 22"]);
    drop(other);
}

#[test]
fn a_signal_reaches_the_whole_group() {
    let mut sandbox = Sandbox::attested();
    let child = "trap 'echo child; exit' USR1; sleep 99 >/dev/null 2>&1 & echo on; wait";
    let exec =
        sandbox.order(&["sh", "-c", "trap 'wait; echo root; exit 4' USR1; sh -c \"$0\" & wait", child]);
    let mut running = sandbox.start(&exec);
    running.await_output("on\n");
    sandbox.request(&Request::Signal { exec: running.exec, signal: libc::SIGUSR1 });
    let finished = sandbox.finish(running);
    assert!(finished.output.contains("child\n") && finished.output.contains("root\n"), "{}", finished.output);
    assert_eq!(finished.stopped, None);
}

#[test]
fn commands_are_bounded_in_number() {
    let mut sandbox = Sandbox::attested();
    let running: Vec<_> = (0..EXECS_MAX).map(|_| sandbox.shell("exec sleep 30")).collect();
    let exec = sandbox.order(&["true"]);
    let _pipes = sandbox.launch(&exec);
    let refused = Reply::StartFailed { exec: exec.id, step: StartStep::Request, errno: libc::EAGAIN };
    assert_eq!(sandbox.reply(), refused);
    drop(running);
    sandbox.end();
}

#[test]
fn a_command_of_the_same_number_is_refused_while_the_first_lives() {
    let mut sandbox = Sandbox::attested();
    let running = sandbox.shell("exec sleep 30");
    let mut exec = sandbox.order(&["true"]);
    exec.id = running.exec;
    let _pipes = sandbox.launch(&exec);
    let refused = Reply::StartFailed { exec: exec.id, step: StartStep::Request, errno: libc::EEXIST };
    assert_eq!(sandbox.reply(), refused);
}

#[test]
fn a_full_mount_is_seen_even_if_it_is_emptied_again() {
    let mut sandbox = Sandbox::attested();
    let finished = sandbox.run("cd /small; head -c 900K /dev/zero >f; cat /dev/zero >>f; sleep 0.1; rm f");
    assert_eq!(finished.usage.full_mounts, 0b100);
    assert!((1_000_000..1_100_000).contains(&finished.usage.written_bytes_peak), "{:?}", finished.usage);
    assert!(finished.usage.wall_us > 100_000);
}

#[test]
fn what_is_written_and_removed_counts() {
    let mut sandbox = Sandbox::attested();
    let finished = sandbox.run("head -c 30M /dev/zero >f; sleep 0.1; rm f");
    assert_eq!(finished.usage.full_mounts, 0);
    assert!(finished.usage.written_bytes_peak >= 30 << 20, "{:?}", finished.usage);
}

#[test]
fn the_end_kills_and_tells_what_was_running() {
    let mut sandbox = Sandbox::attested();
    let running = sandbox.shell("trap '' TERM; sleep 305.7");
    sandbox.request(&Request::End);
    let finished = sandbox.finish(running);
    assert_eq!((finished.status, finished.stopped), (ExitStatus::Signal(9), Some(StopCause::Asked)));
    assert!(matches!(sandbox.reply(), Reply::Bye { .. }));
    assert_eq!(sandbox.exit_status(), 0);
    assert_eq!(machine_processes("sleep\x00305.7"), 0);
}
