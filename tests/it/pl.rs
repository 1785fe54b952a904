//! PL of the checks: every task is a user without capabilities, in namespaces of its own, under limits, and ends within
//! its grace period with a truthful reason.

mod heavy_limits;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::probe::{check_script, script_with_result, workspace};
use crate::support::aegis::{Aegis, eventually, finish};
use crate::support::processes::{Tag, processes_with};
use crate::watched::Watched;

/// Time that making a sandbox and taking it away may take beside what is measured, on a busy machine.
const START: Duration = Duration::from_secs(20);

/// The user and its groups, 3 attempts.
pub const PL_01: &str = r#"[ "$(id -u)" = 0 ] && echo BREACH uid; echo tried $(id -u); [ "$(id -g)" = 0 ] && echo BREACH gid; echo tried $(id -g)
           id -G | tr ' ' '\n' | grep -qx 0 && echo BREACH group0; echo tried $(id -G)"#;

#[test]
fn pl_01_user_group_and_groups_are_not_zero() {
    check_script(3, PL_01);
}

#[test]
fn pl_01_the_host_sees_the_same_user_on_init_and_command() {
    let aegis = Aegis::new();
    let mut run = Watched::script(&aegis, &[], "echo ready; read -r line");
    run.wait_for("ready");
    for process in [run.init(), run.command()] {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        for name in ["Uid:", "Gid:"] {
            let ids = status.lines().find_map(|it| it.strip_prefix(name)).unwrap();
            assert!(ids.split_whitespace().all(|it| it.parse::<u32>().unwrap() >= 65_532), "{status}");
        }
        let caps = status.lines().filter(|it| it.starts_with("Cap"));
        assert!(
            caps.clone().count() == 5 && caps.clone().all(|it| it.ends_with("\t0000000000000000")),
            "{status}"
        );
    }
    run.say("done");
    run.end().code(0);
}

/// Capabilities and filter of a command and of PID 1, 14 attempts.
pub const PL_02: &str = "awk '/^Cap(Inh|Prm|Eff|Bnd|Amb)/&&$2!~/^0+$/{print \"BREACH\",$0} /^NoNewPrivs/&&$2!=1{print \"BREACH\",$0}
            /^Seccomp:/&&$2!=2{print \"BREACH\",$0} /^(Cap|NoNew|Seccomp:)/{print \"tried\",$0}' /proc/self/status /proc/1/status";

#[test]
fn pl_02_no_capability_is_held_and_the_filter_is_on_for_pid_1_and_children() {
    check_script(14, PL_02);
}

#[test]
fn pl_03_only_its_own_few_processes_are_visible() {
    let ended = check_script(
        2,
        "n=$(ls -d /proc/[0-9]* | wc -l); [ $n -gt 20 ] && echo BREACH $n; echo tried $n processes
         cat /proc/[0-9]*/comm | tee /tmp/names | grep -qxE 'dockerd|containerd|aegis|systemd|init' && echo BREACH hostproc
         echo tried $(tr '\\n' ' ' </tmp/names)",
    );
    ended.prints("bash");
}

#[test]
fn pl_05_a_sleeper_is_timed_out_within_its_grace_and_its_time_is_recorded() {
    let aegis = Aegis::new();
    let begun = Instant::now();
    let (ended, result) = script_with_result(&aegis, &["--timeout", "2s"], "echo tried; exec sleep 1000");
    assert!(begun.elapsed() < Duration::from_secs(5) + START);
    ended.code(124).prints("tried").says("2s");
    assert_eq!(result["outcome"]["kind"], "timed_out", "{result:#}");
    let wall_us = result["usage"]["wall_us"].as_u64().unwrap();
    assert!((1_800_000..5_000_000).contains(&wall_us), "{wall_us}");
    eventually("the container is gone", Duration::from_secs(10), || aegis.containers().is_empty());
}

#[test]
fn pl_05_a_task_that_stopped_itself_is_timed_out_all_the_same() {
    let flags = ["--timeout", "1s", "--grace", "1s"];
    let (ended, result) = script_with_result(&Aegis::new(), &flags, "echo tried; kill -STOP $$; echo BREACH");
    ended.code(124).no_breach().prints("tried");
    assert_eq!(result["outcome"]["kind"], "timed_out", "{result:#}");
}

/// A script that ignores what can be ignored, and the tag that its processes carry.
fn deaf(tag: &Tag) -> String {
    format!("trap '' TERM INT HUP QUIT; echo ready; while :; do sleep 1; sleep 0 {tag}; done 2>/dev/null")
}

#[test]
fn pl_06_a_task_that_ignores_signals_is_killed_after_its_grace_and_timed_out() {
    let tag = Tag::new();
    let begun = Instant::now();
    let (ended, result) =
        script_with_result(&Aegis::new(), &["--timeout", "2s", "--grace", "1s"], &deaf(&tag));
    assert!(begun.elapsed() < Duration::from_secs(6) + START);
    ended.code(124).prints("ready");
    assert_eq!(result["outcome"]["kind"], "timed_out", "{result:#}");
    assert!(result["usage"]["wall_us"].as_u64().unwrap() >= 2_900_000, "{result:#}");
    assert_eq!(processes_with(&tag), Vec::<String>::new());
}

#[test]
fn pl_06_a_task_that_ignores_signals_is_cancelled_and_never_failed_137() {
    let (aegis, tag) = (Aegis::new(), Tag::new());
    let mut run = Watched::script(&aegis, &["--grace", "1s"], &deaf(&tag));
    run.wait_for("ready");
    run.signal(Signal::TERM);
    run.end().code(143).says("cancelled");
    assert_eq!(processes_with(&tag), Vec::<String>::new());
}

#[test]
fn pl_07_the_code_is_reported_at_once_and_no_process_survives_the_command() {
    let tag = Tag::new();
    let script = format!(
        "setsid sh -c 'sleep {tag} & exec sleep {tag}' >/dev/null 2>&1 & sleep 0.3
         [ $(cat /proc/[0-9]*/cmdline | tr '\\0' '\\n' | grep -c '^{tag}$') = 2 ] && echo tried; exit 5"
    );
    let (ended, result) = script_with_result(&Aegis::new(), &[], &script);
    ended.code(5).prints("tried");
    assert!(result["usage"]["wall_us"].as_u64().unwrap() < 20_000_000, "{result:#}");
    assert_eq!(processes_with(&tag), Vec::<String>::new());
}

#[test]
fn pl_07_a_survivor_that_holds_the_streams_does_not_delay_the_end() {
    let tag = Tag::new();
    let script = format!("sleep {tag} & setsid sleep {tag} & echo tried; exit 5");
    let (ended, result) = script_with_result(&Aegis::new(), &[], &script);
    ended.code(5).prints("tried");
    assert!(result["usage"]["wall_us"].as_u64().unwrap() < 20_000_000, "{result:#}");
    assert_eq!(processes_with(&tag), Vec::<String>::new());
}

#[test]
fn pl_12_hard_limits_are_finite_and_there_are_no_core_dumps() {
    let script = "python3 - <<'PY'
import resource as r
for n, m in (('RLIMIT_NOFILE', 65536), ('RLIMIT_CORE', 0), ('RLIMIT_FSIZE', 1 << 40), ('RLIMIT_MEMLOCK', 1 << 26), ('RLIMIT_MSGQUEUE', 1 << 22)):
    h = r.getrlimit(getattr(r, n))[1]
    print('tried', n, h)
    if h < 0 or h > m: print('BREACH', n, h)
PY
(ulimit -c unlimited) 2>/dev/null && echo BREACH core";
    check_script(5, script);
}

#[test]
fn pl_14_every_code_is_reported_exactly() {
    let aegis = Aegis::new();
    for code in [0, 1, 42, 126, 127, 128, 137, 255] {
        let (ended, result) = script_with_result(&aegis, &[], &format!("echo tried; exit {code}"));
        ended.code(code).prints("tried");
        assert_eq!(result["outcome"], serde_json::json!({ "kind": "exited", "code": code }), "{result:#}");
    }
}

#[test]
fn pl_14_every_signal_is_reported_exactly_and_is_no_limit_or_cancel() {
    let aegis = Aegis::new();
    for (name, number) in [("SEGV", 11), ("KILL", 9), ("TERM", 15), ("ABRT", 6), ("INT", 2)] {
        let (ended, result) =
            script_with_result(&aegis, &[], &format!("echo tried; kill -{name} $$; sleep 5"));
        ended.code(128 + number).prints("tried");
        assert_eq!(
            result["outcome"],
            serde_json::json!({ "kind": "signaled", "signal": number }),
            "{result:#}"
        );
    }
}

#[test]
fn pl_14_a_missing_program_and_one_that_is_none_are_the_tasks_mistake() {
    let workspace = workspace();
    std::fs::write(workspace.path().join("plain"), "text").unwrap();
    let path = workspace.path().to_str().unwrap();
    let aegis = Aegis::new();
    for (program, code, reason) in [("no-such-program", 127, "not_found"), ("./plain", 126, "not_executable")]
    {
        let result = aegis.here().join("result.json");
        let ended = aegis.call(&["run", "-w", path, "--result", result.to_str().unwrap(), "--", program]);
        ended.code(code).says(program);
        let result: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(&result).unwrap()).unwrap();
        assert_eq!(result["outcome"]["kind"], "start_failed", "{result:#}");
        assert_eq!(result["outcome"]["reason"], reason, "{result:#}");
    }
}

#[test]
fn pl_15_no_task_raises_its_priority_limits_or_protection() {
    check_script(
        5,
        r#"(echo -500 >/proc/self/oom_score_adj) 2>/dev/null && echo BREACH oom; echo tried oom $(cat /proc/self/oom_score_adj)
           python3 -c 'import os; os.setpriority(0,0,-5)' 2>/dev/null && echo BREACH nice; echo tried nice
           chrt -f 50 true 2>/dev/null && echo BREACH rt; chrt -r 1 true 2>/dev/null && echo BREACH rr; echo tried rt
           python3 -c 'import resource as r; h=r.getrlimit(r.RLIMIT_NOFILE)[1]; r.setrlimit(r.RLIMIT_NOFILE,(h+1,h+1))' 2>/dev/null && echo BREACH rlimit
           echo tried rlimit
           python3 -c 'import os; os.setpriority(0,0,5)' && chrt -b 0 true && echo tried what is allowed"#,
    )
    .prints("tried what is allowed");
}

#[test]
fn pl_16_without_i_standard_input_is_at_its_end() {
    check_script(1, "timeout 3 cat >/dev/null; [ $? = 124 ] && echo BREACH stdin-open; echo tried");
}

#[test]
fn pl_16_the_callers_own_input_is_not_inherited() {
    let arguments =
        ["run", "--no-workspace", "--", "bash", "-c", "cat; readlink /proc/self/fd/0; echo tried"];
    let aegis = Aegis::new();
    let mut child = aegis.command(&arguments).stdin(Stdio::piped()).spawn().unwrap();
    // Held open: a task that reads it would wait for its end.
    let held = child.stdin.take();
    let ended = finish(child, b"");
    drop(held);
    ended.code(0).prints("tried");
    let given = aegis.call_with_input(&arguments, b"secret\n");
    given.code(0).prints("tried");
    assert!(!given.stdout.contains("secret"), "{given:#?}");
}

#[test]
fn pl_17_no_descriptor_beyond_the_standard_three_reaches_the_task() {
    let ended = check_script(
        2,
        r#"
python3 - <<'PY'
import os
# Standard input is the script's own here-document: 0, 1 and 2 are looked at by the shell below.
for f in os.listdir('/proc/self/fd'):
    try: t = os.readlink('/proc/self/fd/' + f)
    except OSError: continue
    if int(f) > 2 and not t.startswith('/proc/'): print('BREACH', f, t)
print('tried', sorted(os.listdir('/proc/self/fd')))
PY
[ "$(ls /proc/$$/fd | tr -d '\n')" = 0123 ] || ls -l /proc/$$/fd | sed 's/^/BREACH /'
for f in /proc/1/fd/*; do [ ${f##*/} -gt 2 ] 2>/dev/null && readlink $f | grep -vE '^(pipe|anon_inode|socket|/dev/(null|pts))' | sed 's/^/BREACH /'; done
ls /proc/1/fd >/dev/null 2>&1 && echo BREACH fds of PID 1; echo tried PID 1"#,
    );
    ended.prints("tried ['0', '1', '2', ");
}

#[test]
fn pl_17_a_further_command_gets_three_descriptors_and_no_input() {
    let aegis = Aegis::new();
    let mut run = Watched::script(&aegis, &[], "echo ready; read -r line");
    run.wait_for("ready");
    // The shell looks at itself through a child, which must not be the shell: something comes after it.
    let ended = run.exec("ls /proc/$$/fd; timeout 3 cat; echo code $?");
    ended.code(0);
    assert_eq!(ended.stdout, "0\n1\n2\ncode 0\n");
    run.say("done");
    run.end().code(0);
}

#[test]
fn pl_17_descriptors_that_the_caller_left_open_stay_outside() {
    let aegis = Aegis::new();
    let binary = aegis.command(&[]).get_program().to_str().unwrap().to_owned();
    let list = r#"for f in /proc/$$/fd/*; do echo ${f##*/} $(readlink $f); done; echo tried"#;
    let script =
        format!("exec 7</etc/passwd 9>/dev/null; exec {binary} run --no-workspace -- bash -c '{list}'");
    let mut command = Command::new("bash");
    command.args(["-c", &script]).current_dir(aegis.here()).env("AEGIS_STATE_DIR", aegis.state());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let ended = finish(command.spawn().unwrap(), b"");
    ended.code(0).prints("tried");
    assert!(
        !ended.stdout.contains("passwd") && !ended.stdout.lines().any(|it| it.starts_with("7 ")),
        "{ended:#?}"
    );
}

#[test]
fn pl_19_signals_to_everybody_hit_nobody_else() {
    let (other, tag) = (Aegis::new(), Tag::new());
    let mut bystander = Command::new("sleep").arg(tag.to_string()).spawn().unwrap();
    let mut beside = Watched::script(&other, &[], "echo ready; read -r line; echo $line");
    beside.wait_for("ready");
    check_script(
        7,
        "sleep 100 & for s in 1 2 3 6 13 15 9; do kill -$s -1 2>/dev/null; echo tried $s; done; kill -9 1; sleep 0.2; kill -0 1 || true",
    );
    assert!(bystander.try_wait().unwrap().is_none(), "a process of the host was hit");
    bystander.kill().unwrap();
    bystander.wait().unwrap();
    beside.say("alive");
    beside.end().code(0).prints("alive");
}

#[test]
fn pl_19_a_command_that_kills_all_it_can_has_an_end_of_its_own() {
    let (ended, result) = script_with_result(&Aegis::new(), &[], "echo tried; kill -9 -1; kill -9 $$");
    ended.code(137).prints("tried");
    assert_eq!(result["outcome"], serde_json::json!({ "kind": "signaled", "signal": 9 }), "{result:#}");
}

#[test]
fn pl_20_nothing_is_typed_into_the_operators_terminal() {
    let aegis = Aegis::new();
    let workspace = workspace();
    let binary = aegis.command(&[]).get_program().to_str().unwrap().to_owned();
    let typed = aegis.here().join("typed");
    // `script` gives a terminal. What a task typed into it would be read by the shell that comes after.
    let inside = format!(
        "{binary} run -t -w {} -- ./probe control tiocsti tiocsti_garbage tioclinux tioccons; echo code $?
         read -rt 1 line; echo \"read [$line]\" >{}",
        workspace.path().display(),
        typed.display(),
    );
    let mut command = Command::new("script");
    command
        .args(["-qec", &inside, "/dev/null"])
        .current_dir(aegis.here())
        .env("AEGIS_STATE_DIR", aegis.state());
    command.env("SHELL", "/bin/bash").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let ended = finish(command.spawn().unwrap(), b"");
    ended.prints("control: ok").prints("code 0");
    for name in ["tiocsti", "tiocsti_garbage", "tioclinux", "tioccons"] {
        let refused =
            ["EPERM", "ENOTTY", "EIO"].iter().any(|it| ended.stdout.contains(&format!("{name}: {it}")));
        assert!(refused, "{ended:#?}");
    }
    assert_eq!(std::fs::read_to_string(&typed).unwrap(), "read []\n");
}
