//! A running run, reached from another process: further commands, the end, the log as it grows.

use std::io::{Read, Write};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::aegis::{Aegis, Ended, eventually, finish};
use crate::support::live::{Live, newest, record};
use crate::support::processes::{Tag, processes_with};

/// A task that does not end when it is asked to.
const DEAF: &str = "trap '' TERM; echo up; while :; do sleep 0.1; done";

/// A run that does nothing, for as long as it is needed.
fn idle(aegis: &Aegis) -> Live {
    Live::start(aegis, "idle", &[], "while :; do sleep 1; done")
}

/// One further command in a run of its own, ended with it.
fn exec(flags: &[&str], command: &[&str], input: &[u8]) -> Ended {
    let aegis = Aegis::new();
    let live = idle(&aegis);
    let mut arguments = vec!["exec"];
    arguments.extend(flags);
    arguments.extend([live.id.as_str(), "--"]);
    arguments.extend(command);
    let ended = aegis.call_with_input(&arguments, input);
    live.cancel(&aegis).code(143);
    ended
}

/// One further shell script.
fn exec_script(flags: &[&str], script: &str) -> Ended {
    exec(flags, &["bash", "-c", script], b"")
}

#[test]
fn streams_and_status_are_the_commands_own() {
    let ended = exec_script(&[], "echo out; echo err >&2; exit 42");
    ended.code(42);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("out\n", "err\n"));
}

#[test]
fn a_signal_is_told_as_a_shell_tells_it() {
    exec_script(&[], "kill -SEGV $$").code(139);
}

#[test]
fn input_goes_in_only_when_asked() {
    assert_eq!(exec(&[], &["cat"], b"secret").code(0).stdout, "");
    assert_eq!(exec(&["-i"], &["cat"], b"to the end").code(0).stdout, "to the end");
}

#[test]
fn much_input_and_output_pass_whole() {
    let input: Vec<u8> = (0..3_000_000u32).map(|it| b'a' + u8::try_from(it % 23).expect("small")).collect();
    let ended = exec(&["-i"], &["cat"], &input);
    assert!(ended.code(0).stdout.as_bytes() == input, "{} bytes came back", ended.stdout.len());
}

#[test]
fn variables_and_the_directory_are_the_callers_choice() {
    let ended = exec_script(&["-e", "GREETING=hello world", "--workdir", "/tmp"], "echo $GREETING; pwd");
    assert_eq!(ended.code(0).stdout, "hello world\n/tmp\n");
}

#[test]
fn a_further_command_has_the_tasks_walls() {
    // Capabilities, no-new-privileges, seccomp, user: as the task's own; and it cannot reach init.
    let script = "grep -E '^(Uid|Cap|NoNewPrivs|Seccomp):' /proc/self/status >/tmp/a; \
                  head -c1 /proc/1/environ && echo BREACH; kill -9 1 2>/dev/null; \
                  python3 -c 'import resource; resource.prlimit(1, 0, (0, 0))' 2>/dev/null && echo BREACH; \
                  awk '/^Cap/ && $2 !~ /^0+$/ {print \"BREACH\", $0} /^NoNewPrivs/ && $2 != 1 {print \"BREACH\"} \
                  /^Seccomp:/ && $2 != 2 {print \"BREACH\"} /^Uid/ && $2 < 65532 {print \"BREACH\"}' \
                  /proc/self/status; echo done";
    exec_script(&[], script).no_breach().prints("done");
}

#[test]
fn a_program_that_the_image_lacks_is_127_and_named() {
    exec(&[], &["no-such-program"], b"").code(127).says("the image has no program `no-such-program`");
}

#[test]
fn a_file_that_is_no_program_is_126_and_named() {
    exec(&[], &["/etc/passwd"], b"").code(126).says("`/etc/passwd` cannot be executed");
}

#[test]
fn a_directory_that_is_not_there_is_told() {
    exec(&["--workdir", "/nowhere"], &["true"], b"")
        .code(125)
        .says("the working directory `/nowhere` cannot be entered");
}

#[test]
fn a_timeout_ends_the_whole_tree_and_nothing_else() {
    let aegis = Aegis::new();
    let (task, further) = (Tag::new(), Tag::new());
    let live = Live::start(&aegis, "tree", &["--grace", "1s"], &format!("while :; do sleep {task}; done"));
    let script = format!(
        "trap '' TERM INT HUP; setsid -f sleep {further}; (setsid sh -c 'sleep {further} & sleep {further}' &); \
         echo up; while :; do sleep {further}; done"
    );
    let ended = aegis.call(&["exec", "--timeout", "2s", &live.id, "--", "bash", "-c", &script]);
    ended.code(124).prints("up").says("longer than its `--timeout`");
    eventually("the tree is gone", Duration::from_secs(5), || processes_with(&further).is_empty());
    assert_eq!(processes_with(&task).len(), 2, "the task goes on");
    live.cancel(&aegis).code(143);
}

#[test]
fn several_commands_run_at_once() {
    let aegis = Aegis::new();
    let live = idle(&aegis);
    // Each waits for all the others: one after the other they would never end.
    let script =
        "touch /tmp/$0; until [ $(ls /tmp | grep -c '^m') = 6 ]; do sleep 0.05; done; echo $0; exit $1";
    let outcomes: Vec<Ended> = std::thread::scope(|threads| {
        let started: Vec<_> = (1..=6)
            .map(|it| {
                let (aegis, live) = (&aegis, &live);
                threads.spawn(move || {
                    let (mark, code) = (format!("m{it}"), it.to_string());
                    aegis.call(&[
                        "exec",
                        &live.id,
                        "--timeout",
                        "60s",
                        "--",
                        "bash",
                        "-c",
                        script,
                        &mark,
                        &code,
                    ])
                })
            })
            .collect();
        started.into_iter().map(|it| it.join().expect("joined")).collect()
    });
    for (index, ended) in outcomes.iter().enumerate() {
        let number = i32::try_from(index).expect("small") + 1;
        assert_eq!(ended.code(number).stdout, format!("m{number}\n"));
    }
    live.cancel(&aegis).code(143);
}

#[test]
fn a_client_that_is_killed_takes_its_command_along_and_the_run_goes_on() {
    let aegis = Aegis::new();
    let live = Live::start(&aegis, "goes-on", &["--grace", "1s"], "while :; do sleep 1; done");
    let tag = Tag::new();
    let script = format!("trap '' TERM; setsid -f sleep {tag}; while :; do sleep {tag}; done");
    let mut client =
        aegis.command(&["exec", &live.id, "--", "bash", "-c", &script]).spawn().expect("started");
    // The shell carries the tag as well.
    eventually("the command is up", Duration::from_secs(30), || processes_with(&tag).len() >= 3);
    let pid = Pid::from_raw(i32::try_from(client.id()).expect("a pid")).expect("a pid");
    kill_process(pid, Signal::KILL).expect("it is there");
    client.wait().expect("waited for");
    eventually("its tree is gone", Duration::from_secs(10), || processes_with(&tag).is_empty());
    aegis.call(&["exec", &live.id, "--", "true"]).code(0);
    live.cancel(&aegis).code(143);
}

#[test]
fn a_run_that_ends_ends_its_further_commands() {
    let aegis = Aegis::new();
    let live = Live::start(&aegis, "short", &[], "until [ -e /tmp/end ]; do sleep 0.1; done; exit 7");
    let tag = Tag::new();
    let client =
        aegis.command(&["exec", &live.id, "--", "sleep", &tag.to_string()]).spawn().expect("started");
    eventually("the command is up", Duration::from_secs(30), || !processes_with(&tag).is_empty());
    aegis.call(&["exec", &live.id, "--", "touch", "/tmp/end"]);
    live.finish().code(7);
    finish(client, b"").code(125).says("the run ended, and this command with it");
    assert_eq!(processes_with(&tag), Vec::<String>::new());
}

#[test]
fn an_ended_run_takes_no_command_and_no_cancel() {
    let aegis = Aegis::new();
    aegis.script(&[], "exit 3").code(3);
    let id = newest(&aegis);
    aegis.call(&["exec", &id, "--", "true"]).code(125).says(&format!("run {id} has ended: exited(3)"));
    aegis.call(&["cancel", &id]).code(1).says(&format!("run {id} has ended: exited(3)"));
}

#[test]
fn a_cancel_gives_the_task_its_word_first() {
    let aegis = Aegis::new();
    let script = "trap 'echo asked; exit 0' TERM; echo up; while :; do sleep 0.1; done";
    let live = Live::start(&aegis, "listens", &[], script).until("up");
    let id = live.id.clone();
    live.cancel(&aegis).code(143).prints("asked").says("`aegis cancel` ended it");
    assert_eq!(record(&aegis, &id)["outcome"], serde_json::json!({"kind": "cancelled", "by": "command"}));
}

#[test]
fn a_cancel_waits_for_the_end_unless_told_not_to() {
    let aegis = Aegis::new();
    let live = Live::start(&aegis, "deaf", &["--grace", "4s"], DEAF).until("up");
    aegis.call(&["cancel", "--no-wait", &live.id]).code(0);
    assert_eq!(record(&aegis, &live.id)["state"], "running");
    live.finish().code(143);
}

#[test]
fn a_second_cancel_does_not_wait_for_the_grace() {
    let aegis = Aegis::new();
    let live = Live::start(&aegis, "deaf", &["--grace", "5m"], DEAF).until("up");
    aegis.call(&["cancel", "--no-wait", &live.id]).code(0);
    live.cancel(&aegis).code(143);
}

/// What names no single run, and what is said of it, by every command that takes a run.
fn check_unknown(run: &str, status: i32, said: &str) {
    let aegis = Aegis::new();
    aegis.script(&[], "true").code(0);
    for command in ["show", "logs", "why", "cancel"] {
        aegis.call(&[command, run]).code(status).says(said);
    }
    let of_exec = if status == 1 { 125 } else { status };
    aegis.call(&["exec", run, "--", "true"]).code(of_exec).says(said);
}

#[test]
fn a_run_that_is_not_recorded_is_said_so() {
    check_unknown("0123456789ab", 1, "no run `0123456789ab` is recorded here");
}

#[test]
fn a_text_that_is_no_id_is_wrong_usage() {
    check_unknown("latest", 2, "`latest` is not a run id: give its last 12 digits");
    check_unknown("\u{1b}[2J", 2, "`\\u{1b}[2J` is not a run id");
}

#[test]
fn another_state_directory_does_not_see_the_run() {
    let (aegis, other) = (Aegis::new(), Aegis::new());
    let live = idle(&aegis);
    for command in [&["exec", &live.id, "--", "true"][..], &["cancel", &live.id], &["logs", &live.id]] {
        other.call(command).says(&format!("no run `{}` is recorded here", live.id));
    }
    assert_eq!(other.call(&["ps"]).code(0).stdout, "no runs\n");
    live.cancel(&aegis).code(143);
}

#[test]
fn a_log_is_followed_to_its_end_with_every_byte() {
    let aegis = Aegis::new();
    let script =
        "for i in $(seq 40); do seq $((i * 1000)) $((i * 1000 + 999)); echo $i >&2; sleep 0.05; done";
    let live = Live::start(&aegis, "talks", &[], script);
    let followed = aegis.call(&["logs", "-f", &live.id]);
    let ended = live.finish();
    ended.code(0);
    assert_eq!(followed.code(0).stdout, ended.stdout);
    let numbers: Vec<String> = (1..=40).map(|it| it.to_string()).collect();
    assert_eq!(followed.stderr.lines().collect::<Vec<_>>(), numbers);
}

#[test]
fn a_follower_sees_what_is_written_while_it_is_written() {
    let aegis = Aegis::new();
    let live =
        Live::start(&aegis, "slow", &[], "echo first; until [ -e /tmp/on ]; do sleep 0.1; done; echo last");
    let mut follower =
        aegis.command(&["logs", "-f", &live.id]).stdout(Stdio::piped()).spawn().expect("started");
    let mut first = [0; 6];
    let mut stdout = follower.stdout.take().expect("a pipe");
    stdout.read_exact(&mut first).expect("the first line comes before the end");
    assert_eq!(&first, b"first\n");
    aegis.call(&["exec", &live.id, "--", "touch", "/tmp/on"]).code(0);
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).expect("read");
    assert_eq!(rest, "last\n");
    finish(follower, b"").code(0);
    live.finish().code(0);
}

#[test]
fn a_follower_of_a_killed_owner_ends() {
    let aegis = Aegis::new();
    let live = Live::start(&aegis, "dies", &[], "echo there; while :; do sleep 0.1; done");
    let follower = aegis.command(&["logs", "-f", &live.id]).spawn().expect("started");
    eventually("the line is logged", Duration::from_secs(10), || {
        aegis.call(&["logs", &live.id]).stdout == "there\n"
    });
    live.signal(Signal::KILL);
    finish(follower, b"").code(0).prints("there");
    live.finish();
}

#[test]
fn a_cancel_of_a_dead_owners_run_names_gc() {
    let aegis = Aegis::new();
    let live = idle(&aegis);
    let id = live.id.clone();
    live.signal(Signal::KILL);
    live.finish();
    aegis.call(&["cancel", &id]).code(1).says(&format!("nobody owns run {id} here")).says("`aegis gc`");
    aegis.call(&["gc"]).code(0).prints(&format!("ended run {id} as lost"));
    assert_eq!(record(&aegis, &id)["outcome"]["kind"], "lost");
}

#[test]
fn a_stranger_at_the_door_does_no_harm() {
    let aegis = Aegis::new();
    let live = idle(&aegis);
    let door = aegis.runtime().join("runs").join(&live.id);
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 70_000], b""] {
        let mut stream = std::os::unix::net::UnixStream::connect(&door).expect("the door is open");
        // The owner may hang up at the first wrong byte.
        let _ = stream.write_all(bytes);
    }
    aegis.call(&["exec", &live.id, "--", "true"]).code(0);
    live.cancel(&aegis).code(143);
}
