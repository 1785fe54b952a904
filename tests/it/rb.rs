//! Resource bombs that a task can set off in the kernel's tables (group RB; the floods of output are in `flood`).

use std::process::Command;

use crate::support::aegis::Aegis;

/// System V objects of this host that are as the task makes them: segments of 1 MiB, sets of ten semaphores, and any queue.
/// Other programs of this host, a database of another test among them, make and remove some at any time.
fn host_ipc() -> Vec<String> {
    let lines = |kind: &str| -> Vec<Vec<String>> {
        let text =
            std::fs::read_to_string(format!("/proc/sysvipc/{kind}")).expect("the kernel lists its objects");
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
        text.lines().skip(1).map(words).collect()
    };
    // key, id, mode, and then the size of a segment or the count of a set.
    let sized =
        |kind, size: &str| lines(kind).into_iter().filter(move |it| it[3] == size).collect::<Vec<_>>();
    let objects = [sized("shm", "1048576"), sized("sem", "10"), lines("msg")];
    objects.iter().flatten().map(|it| it[..2].join(" ")).collect()
}

/// A segment of this host, as the task makes them, is in the list: a leak would be, too.
fn check_one_of_the_host_is_seen() {
    let count = host_ipc().len();
    let made = Command::new("ipcmk").args(["-M", "1048576"]).output().expect("ipcmk runs");
    let id = String::from_utf8_lossy(&made.stdout).split_whitespace().last().expect("an id").to_owned();
    assert_eq!(host_ipc().len(), count + 1);
    let removed = Command::new("ipcrm").args(["-m", &id]).status().expect("ipcrm runs");
    assert!(removed.success());
}

#[test]
fn rb_12_ipc_objects_are_the_sandboxs_own_and_end_with_it() {
    let before = host_ipc();
    check_one_of_the_host_is_seen();
    let ended = Aegis::new().script(
        &[],
        "made=0; for i in $(seq 200); do ipcmk -M 1048576 >/dev/null && ipcmk -Q >/dev/null && \
         ipcmk -S 10 >/dev/null && made=$((made+1)); done; echo made $made; ipcs -m | grep -c 0x",
    );
    ended.code(0).prints("made 200");
    assert_eq!(host_ipc(), before, "the host's own objects");
}

#[test]
fn rb_12_terminals_and_watches_are_bounded() {
    let ended = Aegis::new().script(
        &[],
        "python3 - <<'END'
import ctypes, os
masters = []
try:
    while len(masters) < 2000:
        masters.append(os.open('/dev/ptmx', os.O_RDWR | os.O_NOCTTY))
    print('BREACH', len(masters), 'terminals')
except OSError as error:
    print('terminals end:', error.strerror)
for fd in masters:
    os.close(fd)
libc = ctypes.CDLL(None, use_errno=True)
watcher = libc.inotify_init()
os.makedirs('/tmp/w', exist_ok=True)
made = 0
for i in range(1000):
    os.mkdir('/tmp/w/%d' % i)
    made += libc.inotify_add_watch(watcher, b'/tmp/w/%d' % i, 0x100) >= 0
print('watches:', made)
END",
    );
    ended.code(0).no_breach().prints("terminals end:").prints("watches: 1000");
}

#[test]
fn rb_12_memory_of_shared_segments_counts_against_the_task() {
    // More than the task's memory and all that its places in memory could hold.
    let ended = Aegis::new().script(
        &["--memory", "256MiB"],
        "exec python3 - <<'END'
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
for i in range(2048):
    segment = libc.shmget(0, 1 << 20, 0o1600)
    place = libc.shmat(segment, None, 0)
    ctypes.memset(place, 1, 1 << 20)
print('BREACH: all of it')
END",
    );
    ended.no_breach().code(137);
}

/// A machine of its own: ten bombs at once.
mod heavy_bombs {
    use std::time::{Duration, Instant};

    use crate::support::aegis::{Aegis, eventually, finish};

    /// Each with the exit statuses that tell its limit.
    const BOMBS: [(&str, &[i32]); 5] = [
        ("bomb() { bomb | bomb & }; bomb; sleep 60", &[124]),
        ("exec python3 -c 'b = bytearray(8 << 30)'", &[137, 1]),
        ("for d in /tmp /dev/shm . $HOME /run; do dd if=/dev/zero of=$d/f bs=1M; done; sleep 60", &[124]),
        ("yes", &[123]),
        ("while :; do :; done", &[124]),
    ];

    #[test]
    fn rb_06_ten_bombs_end_by_their_limits_and_others_work_on() {
        let aegis = Aegis::new();
        aegis.script(&[], "true").code(0);
        let quiet = took(&aegis);
        let bombs: Vec<_> =
            BOMBS.iter().chain(&BOMBS).map(|(script, codes)| (start(&aegis, script), *codes)).collect();
        eventually("the bombs are up", Duration::from_secs(60), || aegis.containers().len() >= 6);
        let loud = [took(&aegis), took(&aegis), took(&aegis)].into_iter().min().expect("three");
        for (bomb, codes) in bombs {
            let ended = finish(bomb, b"");
            assert!(
                ended.code.is_some_and(|it| codes.contains(&it)),
                "{codes:?}: {:?} {}",
                ended.code,
                ended.stderr
            );
        }
        println!("quiet {quiet:?}, beside the bombs {loud:?}");
        eventually("the containers are gone", Duration::from_secs(20), || aegis.containers().is_empty());
        assert!(loud < quiet * 3 + Duration::from_secs(1), "{quiet:?} quiet, {loud:?} beside the bombs");
    }

    /// How long a plain task takes from end to end.
    fn took(aegis: &Aegis) -> Duration {
        let begun = Instant::now();
        aegis.script(&[], "true").code(0);
        begun.elapsed()
    }

    fn start(aegis: &Aegis, script: &str) -> std::process::Child {
        let limits = [
            "--timeout",
            "15s",
            "--grace",
            "1s",
            "--memory",
            "128MiB",
            "--pids-limit",
            "64",
            "--output-limit",
            "4MiB",
        ];
        let mut arguments = vec!["run", "--no-workspace", "--quiet"];
        arguments.extend(limits);
        arguments.extend(["--", "bash", "-c", script]);
        // Nobody reads a bomb's output until its turn comes: into a pipe, a flood would wait there and time out.
        aegis.command(&arguments).stdout(std::process::Stdio::null()).spawn().expect("aegis starts")
    }
}
