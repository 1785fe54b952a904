//! PID 1 of a sandbox has the task's own uid. Whatever a task tries against it, it lives, ends the task with the task's
//! own code, and tells the truth about it.

use serde_json::{Value, json};

use crate::probe::{program, workspace};
use crate::support::aegis::{Aegis, Ended};

/// Runs a script in a workspace that has the program `wall`, and gives the result object beside what was seen.
#[track_caller]
fn at_the_wall(script: &str) -> (Ended, Value) {
    let workspace = workspace();
    std::fs::copy(program("wall"), workspace.path().join("wall")).unwrap();
    let aegis = Aegis::new();
    let result = aegis.here().join("result.json");
    let (workspace, path) = (workspace.path().to_str().unwrap(), result.to_str().unwrap());
    let ended = aegis.call(&["run", "-w", workspace, "--result", path, "--", "bash", "-c", script]);
    let text = std::fs::read_to_string(&result).unwrap_or_else(|it| panic!("no result: {it}: {ended:#?}"));
    (ended, serde_json::from_str(&text).unwrap())
}

/// Runs `wall` once and gives its lines that begin so.
#[track_caller]
fn attempts(prefix: &str, count: usize) -> Vec<String> {
    let (ended, result) = at_the_wall("./wall; exit 7");
    ended.code(7).prints("everything is tried");
    assert_eq!(result["outcome"], json!({ "kind": "exited", "code": 7 }), "{result:#}");
    let lines: Vec<_> = ended.stdout.lines().filter(|it| it.starts_with(prefix)).map(str::to_owned).collect();
    assert!(lines.len() >= count, "{} attempts: {ended:#?}", lines.len());
    lines
}

#[test]
fn every_signal_by_every_call_is_dropped() {
    // Six calls for each of 64 signals, and those that the kernel sends in a descriptor's name.
    let signals = attempts("signal ", 6 * 64 + 2);
    assert!(signals.iter().all(|it| it.ends_with(": ok")), "they were not even sent: {signals:#?}");
}

#[test]
fn no_limit_priority_file_or_memory_of_init_is_reached() {
    let others: Vec<_> = attempts("", 480).into_iter().filter(|it| !it.starts_with("signal ")).collect();
    let reached: Vec<_> = others.iter().filter(|it| it.ends_with(": ok")).collect();
    assert_eq!(reached, Vec::<&String>::new());
    for name in
        ["prlimit set 9", "sched_setaffinity", "setpriority user", "ioprio_set process", "ptrace attach"]
    {
        assert!(others.contains(&format!("{name}: EPERM")), "{name} in {others:#?}");
    }
}

#[test]
fn a_flood_of_signals_neither_delays_nor_changes_the_end() {
    let (ended, result) = at_the_wall("./wall flood & ./wall flood & ./wall flood; wait; exit 9");
    ended.code(9).prints("flooded\nflooded\nflooded");
    assert_eq!(result["outcome"], json!({ "kind": "exited", "code": 9 }), "{result:#}");
}

#[test]
fn a_deadline_holds_while_init_is_under_attack() {
    let aegis = Aegis::new();
    let workspace = workspace();
    std::fs::copy(program("wall"), workspace.path().join("wall")).unwrap();
    let script = "echo tried; while :; do ./wall flood; ./wall; done >/dev/null";
    let path = workspace.path().to_str().unwrap();
    let ended =
        aegis.call(&["run", "-w", path, "--timeout", "2s", "--grace", "0s", "--", "bash", "-c", script]);
    ended.code(124).prints("tried");
}

#[test]
fn a_task_that_adopts_orphans_and_leaves_its_session_ends_all_the_same() {
    let script = "python3 - <<'PY'
import ctypes, os
libc = ctypes.CDLL(None)
assert libc.prctl(36, 1, 0, 0, 0) == 0, 'PR_SET_CHILD_SUBREAPER'
for _ in range(8):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.setsid()
            os.execvp('sleep', ['sleep', '300'])
        os._exit(0)
print('tried', flush=True)
os._exit(4)
PY
exit $?";
    let (ended, result) = at_the_wall(script);
    ended.code(4).prints("tried");
    assert_eq!(result["outcome"], json!({ "kind": "exited", "code": 4 }), "{result:#}");
}

#[test]
fn inits_program_run_by_the_task_is_a_stranger_to_the_host() {
    let script = "[ -x /.aegis/aegis-init ] && timeout 5 /.aegis/aegis-init </dev/null; code=$?
        [ $code != 0 ] && [ $code != 124 ] && echo tried; exit 3";
    let (ended, result) = at_the_wall(script);
    ended.code(3).prints("tried");
    assert_eq!(result["outcome"], json!({ "kind": "exited", "code": 3 }), "{result:#}");
}

/// What takes a whole machine: run alone.
mod heavy_memory {
    use super::*;

    #[test]
    fn a_task_that_takes_off_its_mark_and_fills_the_memory_is_out_of_memory_or_killed_but_never_lost() {
        // Every process makes itself as likely a victim as init, and stays small: what fills the memory is a tmpfs
        // and many of them.
        let script = "python3 - <<'PY'
import os, mmap
def lower():
    for value in range(0, 1000, 100):
        try:
            open('/proc/self/oom_score_adj', 'w').write(str(value)); return
        except OSError: pass
lower()
print('tried', open('/proc/self/oom_score_adj').read().strip(), flush=True)
for _ in range(200):
    if os.fork() == 0:
        lower()
        held = mmap.mmap(-1, 12 << 20)
        for at in range(0, 12 << 20, 4096): held[at] = 1
        import time; time.sleep(20); os._exit(0)
for _ in range(200): os.wait()
PY
exit 0";
        let (ended, result) = at_the_wall(script);
        ended.prints("tried");
        let kind = result["outcome"]["kind"].as_str().unwrap();
        let code = ended.code.unwrap();
        assert!(matches!((kind, code), ("out_of_memory", 137) | ("exited", 0)), "{result:#} {ended:#?}");
        assert!(
            result["usage"].is_null() || result["usage"]["oom_kills"].as_u64().unwrap() >= 1,
            "{result:#}"
        );
    }
}
