//! Hosts that are gone, hostile or slow, and tasks that turn against init.

use std::io::Read;
use std::net::Shutdown;
use std::os::fd::AsRawFd;

use serde_bytes::ByteBuf;

use aegis_init::frame::REQUEST_BYTES_MAX;
use aegis_init::wire::{Attest, ExitStatus, Reply, Request, VERSION};

use crate::host::{LIFETIME_MS, Sandbox, machine_processes};

const HOST_GONE: i32 = 72;
const HOSTILE_FRAME: i32 = 73;
const CLOGGED: i32 = 74;
const LIFETIME_OVER: i32 = 75;
const LEASE_OVER: i32 = 76;

/// Sends these bytes to a sandbox in which a command runs: all must end.
fn check_hostile(bytes: &[u8], expected: i32) {
    let mut sandbox = Sandbox::attested();
    let _running = sandbox.shell("trap '' TERM; sleep 306.7");
    sandbox.send(bytes, &[]);
    assert_eq!(sandbox.exit_status(), expected);
}

fn header(length: u32, rest: [u8; 4]) -> Vec<u8> {
    [length.to_le_bytes(), rest].concat()
}

#[test]
fn a_closed_connection_ends_everything() {
    let mut sandbox = Sandbox::attested();
    let mut running = sandbox.shell("setsid sleep 307.7 & trap '' TERM HUP; echo on; sleep 308.7");
    running.await_output("on\n");
    sandbox.control = None;
    assert_eq!(sandbox.exit_status(), HOST_GONE);
    assert_eq!(machine_processes("sleep\x00307.7") + machine_processes("sleep\x00308.7"), 0);
}

#[test]
fn a_half_closed_connection_ends_everything() {
    let mut sandbox = Sandbox::attested();
    sandbox.control().shutdown(Shutdown::Write).expect("it is open");
    assert_eq!(sandbox.exit_status(), HOST_GONE);
}

#[test]
fn an_owner_that_goes_before_the_first_message_ends_everything() {
    let mut sandbox = Sandbox::connected();
    sandbox.control = None;
    assert_eq!(sandbox.exit_status(), HOST_GONE);
}

#[test]
fn the_lifetime_ends_everything() {
    let mut sandbox = Sandbox::connected();
    sandbox.attest(Vec::new(), 300);
    let _running = sandbox.shell("trap '' TERM; sleep 306.7");
    assert_eq!(sandbox.exit_status(), LIFETIME_OVER);
}

#[test]
fn a_lease_that_is_not_renewed_ends_everything() {
    let mut sandbox = Sandbox::attested();
    let _running = sandbox.shell("trap '' TERM; sleep 306.7");
    sandbox.request(&Request::Lease { remaining_ms: 60_000 });
    sandbox.request(&Request::Lease { remaining_ms: 100 });
    assert_eq!(sandbox.exit_status(), LEASE_OVER);
}

#[test]
fn a_lease_that_is_renewed_goes_on() {
    let mut sandbox = Sandbox::attested();
    let running = sandbox.shell("sleep 0.4");
    sandbox.request(&Request::Lease { remaining_ms: 200 });
    sandbox.request(&Request::Lease { remaining_ms: 60_000 });
    assert_eq!(sandbox.finish(running).status, ExitStatus::Code(0));
}

#[test]
fn an_oversized_frame_ends_everything() {
    check_hostile(&header(REQUEST_BYTES_MAX as u32 + 1, [0; 4]), HOSTILE_FRAME);
    check_hostile(&header(u32::MAX, [0; 4]), HOSTILE_FRAME);
}

#[test]
fn garbage_ends_everything() {
    check_hostile(&[0xa5; 64], HOSTILE_FRAME);
    check_hostile(&[header(4, [0; 4]), vec![0xff; 4]].concat(), HOSTILE_FRAME);
    check_hostile(&header(0, [0; 4]), HOSTILE_FRAME);
    check_hostile(&header(4, [0, 1, 0, 0]), HOSTILE_FRAME);
}

#[test]
fn descriptors_that_the_header_does_not_name_end_everything() {
    let mut sandbox = Sandbox::attested();
    let null = std::fs::File::open("/dev/null").expect("it is there");
    sandbox.send(&header(4, [0; 4]), &[null.as_raw_fd()]);
    assert_eq!(sandbox.exit_status(), HOSTILE_FRAME);
}

#[test]
fn a_second_first_message_ends_everything() {
    let mut sandbox = Sandbox::attested();
    sandbox.request(&Request::Attest(Attest {
        version: VERSION,
        probes: Vec::new(),
        workspace: ByteBuf::new(),
        watched: Vec::new(),
        lifetime_ms: LIFETIME_MS,
    }));
    assert_eq!(sandbox.exit_status(), HOSTILE_FRAME);
}

#[test]
fn a_command_before_the_first_message_ends_everything() {
    let mut sandbox = Sandbox::connected();
    sandbox.request(&Request::End);
    assert_eq!(sandbox.exit_status(), HOSTILE_FRAME);
}

#[test]
fn half_a_frame_stops_no_clock_and_no_command() {
    let mut sandbox = Sandbox::attested();
    let running = sandbox.shell("sleep 0.1; exit 6");
    sandbox.send(&header(1_000, [0; 4])[..5], &[]);
    assert_eq!(sandbox.finish(running).status, ExitStatus::Code(6));
    sandbox.send(&header(1_000, [0; 4])[5..], &[]);
    sandbox.send(&[0; 500], &[]);
    sandbox.control = None;
    assert_eq!(sandbox.exit_status(), HOST_GONE);
}

#[test]
fn half_a_frame_does_not_outlive_the_lease() {
    let mut sandbox = Sandbox::attested();
    sandbox.request(&Request::Lease { remaining_ms: 200 });
    sandbox.send(&header(1_000, [0; 4]), &[]);
    assert_eq!(sandbox.exit_status(), LEASE_OVER);
}

#[test]
fn a_host_that_asks_and_never_reads_has_to_wait_and_dies_by_the_clock() {
    let mut sandbox = Sandbox::connected();
    sandbox.attest(Vec::new(), 1_500);
    let request =
        Request::Read { id: 1, path: ByteBuf::from("/usr/bin/python3"), offset: 0, length_max: 1 << 20 };
    sandbox.control().set_write_timeout(Some(std::time::Duration::from_millis(100))).expect("a deadline");
    let frame = aegis_init::frame::encode(&request, 0, REQUEST_BYTES_MAX).expect("it fits");
    for _ in 0..100_000 {
        if std::io::Write::write(&mut sandbox.control(), &frame).is_err() {
            break;
        }
    }
    assert!([LIFETIME_OVER, CLOGGED].contains(&sandbox.exit_status()));
}

#[test]
fn a_flood_of_requests_is_answered_in_order() {
    let mut sandbox = Sandbox::attested();
    for exec in 0..2_000 {
        sandbox.request(&Request::Stop { exec, grace_ms: 0 });
        sandbox.request(&Request::Signal { exec, signal: 64 });
    }
    assert_eq!(sandbox.run("echo on").output, "on\n");
}

#[test]
fn no_signal_from_inside_ends_init() {
    let mut sandbox = Sandbox::attested();
    let finished =
        sandbox.run("i=1; while [ $i -le 64 ]; do kill -$i 1 2>/dev/null; i=$((i+1)); done; exit 8");
    assert_eq!(finished.status, ExitStatus::Code(8));
    let finished = sandbox.run("sleep 99 & for s in 1 2 3 6 13 15 9; do kill -$s -1; done; exit 9");
    assert_eq!(finished.status, ExitStatus::Code(9), "`kill -1` spares its caller");
    assert_eq!(sandbox.run("echo on").output, "on\n");
}

/// Tries something on init and on itself: the first must be refused, the second must work.
fn check_confined(on_init: &str, on_itself: &str) {
    let mut sandbox = Sandbox::attested();
    let refused = sandbox.run(on_init);
    assert_ne!(refused.status, ExitStatus::Code(0), "{on_init}: {refused:?}");
    assert!(refused.error.contains("ermitted") || refused.error.contains("ermission"), "{refused:?}");
    let allowed = sandbox.run(on_itself);
    assert_eq!(allowed.status, ExitStatus::Code(0), "{on_itself}: {allowed:?}");
}

#[test]
fn limits_of_init_cannot_be_set() {
    check_confined("prlimit --pid 1 --nofile=3:3", "prlimit --pid $$ --nofile=64:64; ulimit -n 32");
    check_confined("prlimit --pid 1 --cpu=1:1", "prlimit --cpu=9:9 true");
}

#[test]
fn priorities_of_init_cannot_be_set() {
    check_confined("renice -n 5 -p 1", "renice -n 5 -p $$; nice -n 6 true");
    check_confined("renice -n 5 -g 0", "true");
    check_confined("renice -n 5 -u 2000000001", "true");
    check_confined("ionice -c 3 -p 1", "ionice -c 3 -p $$; ionice -c 3 true");
    check_confined("ionice -c 3 -P 1", "true");
    check_confined("ionice -c 3 -u 2000000001", "true");
}

#[test]
fn scheduling_of_init_cannot_be_set() {
    check_confined("chrt -b -p 0 1", "chrt -b -p 0 $$; chrt -i 0 true");
    check_confined("taskset -p 1 1", "taskset -p 1 $$; taskset 1 true");
}

#[test]
fn files_of_init_cannot_be_read() {
    for file in ["mem", "environ", "maps", "fd", "root/", "cwd/", "map_files", "fdinfo", "stack", "syscall"] {
        check_confined(&format!("ls /proc/1/{file} >/dev/null && cat /proc/1/{file}"), "true");
    }
    check_confined("echo 1000 >/proc/1/oom_score_adj", "echo 1000 >/proc/self/oom_score_adj");
}

/// Everything that a process may try on another of its uid, by number, without any library in between. Prints what
/// was not refused.
const ATTACK: &str = r#"
import ctypes, os, threading
libc = ctypes.CDLL(None, use_errno=True)
buffer = ctypes.create_string_buffer(4096)
local = (ctypes.c_ulong * 2)(ctypes.addressof(buffer), 8)
remote = (ctypes.c_ulong * 2)(0x400000, 8)
limits = (ctypes.c_ulong * 2)(1, 1)
param = (ctypes.c_int * 1)(0)
attr = (ctypes.c_uint * 12)(48, 3)
pages = (ctypes.c_ulong * 1)(0x400000)
HIGH = 0x7 << 32 | 1
pidfd = libc.syscall(434, 1, 0)
calls = {
    'ptrace attach': (101, 16, 1, 0, 0),
    'ptrace seize': (101, 0x4206, 1, 0, 0),
    'process_vm_readv': (310, 1, local, 1, remote, 1, 0),
    'process_vm_writev': (311, 1, local, 1, remote, 1, 0),
    'kcmp': (312, os.getpid(), 1, 0, 0, 0),
    'pidfd_getfd': (438, pidfd, 3, 0),
    'process_madvise': (440, pidfd, remote, 1, 4, 0),
    'process_mrelease': (448, pidfd, 0),
    'setns': (308, pidfd, 0x10000000),
    'move_pages': (279, 1, 1, pages, 0, buffer, 0),
    'migrate_pages': (256, 1, 1, pages, pages),
    'setpgid': (109, 1, 0),
    'prlimit64': (302, 1, 7, limits, 0),
    'prlimit64 high': (302, HIGH, 7, limits, 0),
    'prlimit64 read': (302, 1, 7, 0, limits),
    'sched_setaffinity': (203, HIGH, 8, limits),
    'sched_setscheduler': (144, HIGH, 3, param),
    'sched_setparam': (142, HIGH, param),
    'sched_setattr': (314, HIGH, attr, 0),
    'setpriority process': (141, 7 << 32, HIGH, 10),
    'setpriority group': (141, 1, 0, 10),
    'setpriority user': (141, 2, 0, 10),
    'ioprio_set process': (251, 1, HIGH, 3 << 13),
    'ioprio_set group': (251, 2, 0, 3 << 13),
    'ioprio_set user': (251, 3, 0, 3 << 13),
    'x32 prlimit64': (0x40000000 + 302, 1, 7, limits, 0),
}
def attack():
    for name, call in calls.items():
        arguments = [ctypes.c_long(it) if isinstance(it, int) else it for it in call]
        if libc.syscall(*arguments) >= 0:
            print('not refused:', name)
attack()
thread = threading.Thread(target=attack)
thread.start()
thread.join()
for signal in range(1, 65):
    libc.syscall(424, pidfd, signal, 0, 0)
    libc.syscall(234, 1, 1, signal)
    libc.syscall(200, 1, signal)
"#;

#[test]
fn no_call_of_the_same_uid_reaches_init() {
    let mut sandbox = Sandbox::attested();
    let exec = sandbox.order(&["python3", "-c", ATTACK]);
    let running = sandbox.start(&exec);
    let finished = sandbox.finish(running);
    assert_eq!(
        (finished.status, finished.output, finished.error),
        (ExitStatus::Code(0), String::new(), String::new())
    );
    let init = sandbox
        .run("grep -E '^(Max open|Max nice)' /proc/1/limits | grep -c ' 1 '; cut -d' ' -f18,19 /proc/1/stat");
    assert_eq!(init.output, "0\n20 0\n");
}

#[test]
fn a_task_that_lowers_its_tag_dies_with_its_command() {
    let mut sandbox = Sandbox::attested();
    let mut running = sandbox.shell("setsid prlimit --msgqueue=77:77 sleep 309.7 & echo on; sleep 310.7");
    let other = sandbox.shell("sleep 311.7");
    running.await_output("on\n");
    sandbox.request(&Request::Stop { exec: running.exec, grace_ms: 0 });
    sandbox.finish(running);
    assert_eq!(machine_processes("sleep\x00309.7"), 0);
    drop(other);
}

#[test]
fn the_control_connection_is_silent_until_spoken_to() {
    let mut sandbox = Sandbox::connected();
    sandbox.control().set_nonblocking(true).expect("it is open");
    assert!(sandbox.control().read(&mut [0; 1]).is_err());
    sandbox.control().set_nonblocking(false).expect("it is open");
    sandbox.attest(Vec::new(), LIFETIME_MS);
    sandbox.request(&Request::End);
    assert!(matches!(sandbox.reply(), Reply::Bye { .. }));
}
