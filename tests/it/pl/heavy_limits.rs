//! PL of the checks, the rows that take a whole machine: each runs alone.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::pl::START;
use crate::probe::script_with_result;
use crate::support::aegis::{Aegis, eventually};
use crate::support::processes::{Tag, processes_with};
use crate::watched::Watched;

#[test]
fn pl_04_a_fork_bomb_ends_at_the_pids_limit_and_leaves_nothing() {
    let (aegis, tag) = (Aegis::new(), Tag::new());
    let script = format!(
        "python3 - {tag} <<'PY'
import os, time
n = 0
try:
    while n < 5000:
        if os.fork() == 0: time.sleep(8); os._exit(0)
        n += 1
    print('BREACH', n)
except OSError as e: print('stopped at', n, e.strerror)
PY"
    );
    let (ended, result) = script_with_result(&aegis, &[], &script);
    ended.code(0).no_breach().prints("stopped at 25").prints("Resource temporarily unavailable");
    assert!(result["usage"]["pids_limit_hits"].as_u64().unwrap() >= 1, "{result:#}");
    assert_eq!(result["usage"]["pids_peak"], 256, "{result:#}");
    assert_eq!(processes_with(&tag), Vec::<String>::new());
}

#[test]
fn pl_04_another_task_runs_beside_a_fork_bomb() {
    let (bomb, other) = (Aegis::new(), Aegis::new());
    let script = "echo ready; b() { b | b & b; }; b 2>/dev/null; read -r line";
    let mut run = Watched::script(&bomb, &["--timeout", "60s"], script);
    run.wait_for("ready");
    let begun = Instant::now();
    other.script(&[], "echo beside").code(0).prints("beside");
    assert!(begun.elapsed() < START);
    run.signal(Signal::INT);
    run.signal(Signal::INT);
    run.end();
    eventually("the bomb's container is gone", Duration::from_secs(10), || bomb.containers().is_empty());
}

/// CPU time of a cgroup, in seconds, in either layout.
fn cpu_seconds(run: &Watched<'_>) -> f64 {
    let group = run.cgroup("cpuacct");
    let number = |text: &str| text.trim().parse::<f64>().unwrap();
    match std::fs::read_to_string(group.join("cpuacct.usage")) {
        Ok(text) => number(&text) / 1e9,
        Err(_) => {
            let text = std::fs::read_to_string(group.join("cpu.stat")).unwrap();
            number(text.lines().find_map(|it| it.strip_prefix("usage_usec ")).unwrap()) / 1e6
        }
    }
}

#[test]
fn pl_09_busy_loops_get_their_share_of_the_cpus_and_no_more() {
    let (busy, other) = (Aegis::new(), Aegis::new());
    let loops = "for i in 1 2 3 4 5 6 7 8; do while :; do :; done & done; echo ready; read -r line";
    let mut run = Watched::script(&busy, &["--cpus", "1"], loops);
    run.wait_for("ready");
    let (begun, before) = (Instant::now(), cpu_seconds(&run));
    let (_, result) =
        script_with_result(&other, &["--cpus", "1"], "timeout 3 bash -c 'while :; do :; done'; true");
    std::thread::sleep(Duration::from_secs(5).saturating_sub(begun.elapsed()));
    let (used, wall) = (cpu_seconds(&run) - before, begun.elapsed().as_secs_f64());
    run.signal(Signal::INT);
    run.signal(Signal::INT);
    run.end();
    assert!(used <= 1.15 * wall && used > 0.0, "{used} s of CPU in {wall} s");
    // One loop beside eight: whatever else this machine does, a fair share is about as much as theirs.
    let usage = &result["usage"];
    let beside = usage["cpu_user_us"].as_f64().unwrap() / usage["wall_us"].as_f64().unwrap();
    assert!(beside > 0.4 * used / wall, "{beside} CPUs beside {}", used / wall);
}

/// Memory that the host could still give, in KiB, and swap that it has in use.
fn host_memory() -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap();
    let field = |name: &str| {
        let line = text.lines().find_map(|it| it.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap()
    };
    (field("MemAvailable:"), field("SwapTotal:") - field("SwapFree:"))
}

#[test]
fn pl_10_too_much_memory_is_out_of_memory_and_the_host_keeps_its_own() {
    let (available, swapped) = host_memory();
    let aegis = Aegis::new();
    let path = aegis.here().join("result.json");
    let bomb = ["--", "python3", "-c", "print('tried', flush=True); b=bytearray(8<<30); print('BREACH')"];
    let arguments = [&["run", "--no-workspace", "--result", path.to_str().unwrap()][..], &bomb].concat();
    let ended = aegis.call(&arguments);
    ended.code(137).no_breach().prints("tried").says("--memory");
    let result: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(result["outcome"]["kind"], "out_of_memory", "{result:#}");
    assert!(result["usage"]["oom_kills"].as_u64().unwrap() >= 1, "{result:#}");
    let peak = result["usage"]["memory_peak_bytes"].as_u64();
    assert!(peak.is_none_or(|it| it < 3 << 30), "{result:#}");
    // Half of what was tried: others may work here too.
    let (available_after, swapped_after) = host_memory();
    assert!(
        available.saturating_sub(available_after) < 4 << 20,
        "{available} KiB, then {available_after} KiB"
    );
    assert!(swapped_after.saturating_sub(swapped) < 64 << 10);
}

#[test]
fn pl_10_memory_that_outlives_its_process_is_out_of_memory_too() {
    let script = "exec python3 - <<'PY'
import ctypes
libc = ctypes.CDLL(None, use_errno=True); libc.shmat.restype = ctypes.c_void_p
print('tried', flush=True)
for n in range(64):
    segment = libc.shmget(0, 64 << 20, 0o1600)
    ctypes.memset(libc.shmat(segment, None, 0), 1, 64 << 20)
print('BREACH', n)
PY";
    let (ended, result) = script_with_result(&Aegis::new(), &[], script);
    ended.code(137).no_breach().prints("tried");
    assert_eq!(result["outcome"]["kind"], "out_of_memory", "{result:#}");
}

#[test]
fn pl_10_memory_and_swap_have_one_limit() {
    let aegis = Aegis::new();
    let mut run = Watched::script(&aegis, &[], "echo ready; read -r line");
    run.wait_for("ready");
    let limits = run.inspect("{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}}");
    let (memory, swap) = limits.split_once(' ').unwrap();
    assert_eq!(memory, swap);
    let group = run.cgroup("memory");
    let read = |name: &str| std::fs::read_to_string(group.join(name)).map(|it| it.trim().to_owned());
    match read("memory.limit_in_bytes") {
        Ok(limit) => {
            assert_eq!(limit, memory);
            // Without swap accounting there is no such file, and no swap here to account for.
            assert!(
                read("memory.memsw.limit_in_bytes").is_ok_and(|it| it == memory)
                    || !Path::new("/proc/swaps").exists()
            );
        }
        Err(_) => assert_eq!(
            (read("memory.max").unwrap(), read("memory.swap.max").unwrap()),
            (memory.to_owned(), "0".to_owned())
        ),
    }
    run.say("done");
    run.end().code(0);
}
